"""A conversation with the system account of NATS: what the driver asks there, over a connection that lasts no longer.

Rules: plain client protocol, six verbs, read by whoever waits and by nothing behind our backs; whoever leaves has closed the connection.
With ``tls:`` the server proves itself before it is told anything. Every wait ends, every length is bounded; what NATS says stands in no
error.

Our own, because ``nats-py`` leaves sockets and tasks behind where a server goes away or a login is refused, and reconnects by itself. Left
out: headers, queues, everything that a holder of a lease would want. NATS, "Client Protocol".
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from remit.drivers.targets.nats_tokens import KeyPair

T = TypeVar("T")
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 5.0
_LINE_BYTES_MAX, _PAYLOAD_BYTES_MAX = 1_048_576, 8_388_608
_ANSWERS_MAX = 10_000
_PORT = 4_222
_OK = 200


class _Greeting(msgspec.Struct):
    nonce: str = ""
    max_payload: int = 0


class _Info(msgspec.Struct):
    ver: str
    time: datetime


class _Found(msgspec.Struct):
    num_connections: int


class _Connections(msgspec.Struct):
    server: _Info
    data: _Found


class _Said(msgspec.Struct):
    code: int = 0


class _Answer(msgspec.Struct):
    data: _Said | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What one server says: its release, its clock, and how many connections it has of those that were asked for."""

    version: str
    time: datetime
    connections: int


class NatsConversation:
    """Logged in. Every method raises Outage."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name, self._reader, self._writer = name, reader, writer
        self._inbox = f"_INBOX.{secrets.token_hex(12)}"
        self._asked, self._payload_bytes_max = 0, 0

    async def account(self, account: str) -> str:
        """The account's token as a server has it; "" where it has none."""
        return (await self._ask(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"")).decode(errors="replace")

    async def update(self, token: str) -> None:
        """Give every server the account's new token. Raises Mistake where it is refused."""
        if len(token) > self._payload_bytes_max:
            text = f"the account's token of target {self._name} has no room for another denial until an older one may go"
            raise Outage(text, code="target_unavailable")
        said = _decoded(self._name, await self._ask("$SYS.REQ.CLAIMS.UPDATE", token.encode()), _Answer)
        if said.data is None or said.data.code != _OK:
            hint = "the operator's signing key must be one that the server knows"
            raise Mistake(f"target {self._name} does not take the account's token", code="target_refused", hint=hint)

    async def connections(self, account: str, users: Sequence[str], seconds: float) -> list[Server]:
        """How many connections each of these has, by every server that answers within so many seconds."""
        self._asked += 1
        asked = [msgspec.json.encode({"auth": True, "acc": account, "user": user, "limit": 1}) for user in users]
        self._send(*(self._question("$SYS.REQ.SERVER.PING.CONNZ", body) for body in asked))
        found: list[Server] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(found) < _ANSWERS_MAX:
                    said = _decoded(self._name, await self._answer(), _Connections)
                    found.append(Server(version=said.server.ver[:20], time=said.server.time, connections=said.data.num_connections))
        if len(found) < len(users):
            raise Outage(f"target {self._name} does not tell its connections", code="target_unavailable")
        return found

    async def greet(self, user: KeyPair, token: str, tls: ssl.SSLContext | None, host: str) -> None:
        """Log in. What goes wrong is told by ``conversation``."""
        line = await self._reader.readline()
        if not line.startswith(b"INFO "):
            raise ConnectionError
        if tls is not None:
            await self._writer.start_tls(tls, server_hostname=host)
        told = msgspec.json.decode(line[5:], type=_Greeting)
        self._payload_bytes_max = told.max_payload
        signature = base64.urlsafe_b64encode(user.private.sign(told.nonce.encode())).decode().rstrip("=")
        asked = {"verbose": False, "pedantic": False, "lang": "python", "version": "1", "name": "remit", "protocol": 1, "headers": False}
        self._send(b"CONNECT " + msgspec.json.encode({**asked, "jwt": token, "sig": signature}) + b"\r\n")
        self._send(f"SUB {self._inbox}.* 1\r\nPING\r\n".encode())
        while (await self._line()) != b"PONG":
            pass

    async def _ask(self, subject: str, body: bytes) -> bytes:
        """The first answer to a question."""
        self._asked += 1
        self._send(self._question(subject, body))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._answer()
        except TimeoutError:
            raise Outage(f"target {self._name} did not answer in time", code="target_unavailable") from None

    async def _answer(self) -> bytes:
        """The next answer to the latest question; those to earlier ones are late."""
        while True:
            words = (await self._line()).split()
            if words[:1] != [b"MSG"]:
                continue
            size = int(words[-1])
            if not 0 <= size <= _PAYLOAD_BYTES_MAX:
                raise ConnectionError
            body = (await self._reader.readexactly(size + 2))[:-2]
            if words[1] == f"{self._inbox}.{self._asked}".encode():
                return body

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError
        line = line.rstrip()
        if line == b"PING":
            self._send(b"PONG\r\n")
        if line.startswith(b"-ERR"):
            if b"authorization" in line.lower() or b"authentication" in line.lower():
                raise PermissionError
            raise ConnectionError
        return line

    def _question(self, subject: str, body: bytes) -> bytes:
        return f"PUB {subject} {self._inbox}.{self._asked} {len(body)}\r\n".encode() + body + b"\r\n"

    def _send(self, *data: bytes) -> None:
        self._writer.writelines(data)


@contextlib.asynccontextmanager
async def conversation(name: str, url: str, tls: ssl.SSLContext | None, user: KeyPair, token: str) -> AsyncIterator[NatsConversation]:
    """Logged in for as long as the block lasts. Raises Outage; ``unsent`` where nothing can have been asked."""
    known = urlsplit(url)
    writer, inside = None, False
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(known.hostname, known.port or _PORT, limit=_LINE_BYTES_MAX)
            talk = NatsConversation(name, reader, writer)
            await talk.greet(user, token, tls, known.hostname or "")
        inside = True
        yield talk
    except PermissionError:
        raise Outage(f"target {name} does not let remit in", code="target_refused", unsent=not inside) from None
    except ssl.SSLError:
        text = f"target {name} does not prove itself by the authorities of ca_file or the system"
        raise Outage(text, code="target_unavailable", unsent=not inside) from None
    except (OSError, EOFError, TimeoutError, ValueError, msgspec.DecodeError):
        text = f"target {name} {'went away' if inside else 'cannot be reached'}"
        raise Outage(text, code="target_unavailable", unsent=not inside) from None
    finally:
        if writer is not None:
            writer.transport.abort()


def _decoded(name: str, data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        raise Outage(f"target {name} does not answer as NATS does", code="target_unavailable") from None

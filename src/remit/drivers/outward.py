"""Requests to addresses that somebody else may have chosen a part of: metadata, key sets, endpoints of streams.

Rules: https only, to addresses of the public internet only, unless that entry of the configuration says otherwise. What counts is the
address that is connected to, checked at the socket: no name, rebinding or number in disguise leads around it. No redirects, no cookies, no
proxies from the environment, nothing unpacked; time and size are bounded, and what a peer answered stands in no error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import aiohttp

from remit.drivers.fetching import reachable
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohappyeyeballs import AddrInfoType

_SECONDS_MAX, _CONNECT_SECONDS = 10.0, 5.0
_RETRY_AFTER_MAX, _WRAPPED_MAX = 3_600, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, media type in lower case, body, and how long to wait before trying again (0: not said)."""

    status: int
    media_type: str
    body: bytes
    retry_after_seconds: int = 0


class Reaches(Protocol):
    """Asks one address once."""

    async def get(self, url: str, *, private: bool, bytes_max: int) -> Answer:
        """Raises Mistake for an address that may not be asked, Outage for one that does not answer as it should."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, private: bool, bytes_max: int) -> Answer:
        """The same, with a body."""


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also where it stands inside of an IPv6 one."""
    try:
        return reachable(ipaddress.ip_address(text.partition("%")[0]), ())
    except ValueError:
        return False


def check_address(url: str, *, private: bool) -> None:
    """Raise Mistake for an address that may not be asked, as far as it can be seen from its text."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Mistake("this is no address", code="address") from None
    if parts.scheme not in ({"https", "http"} if private else {"https"}) or not host or port == 0:
        raise Mistake("not an https address", code="address", hint="https://…; http only where private = true")
    if "@" in parts.netloc or "#" in url or any(ord(sign) <= 32 or ord(sign) == 127 for sign in url):
        raise Mistake("an address with what does not belong there", code="address", hint="https://host/path")


class Outward:
    """Two clients: one for public addresses, one for entries that may lie in private networks."""

    def __init__(self, seconds_max: float = _SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._clients: dict[bool, aiohttp.ClientSession] = {}

    async def get(self, url: str, *, private: bool, bytes_max: int) -> Answer:
        """See Reaches."""
        return await self._ask("GET", url, None, {"accept": "application/json"}, private=private, bytes_max=bytes_max)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, private: bool, bytes_max: int) -> Answer:
        """See Reaches."""
        return await self._ask("POST", url, body, headers, private=private, bytes_max=bytes_max)

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    async def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, private: bool, bytes_max: int) -> Answer:
        check_address(url, private=private)
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                self._client(private=private).request(method, url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                data = await _bounded(answer, bytes_max)
        except TimeoutError:
            raise Outage("no answer in time", code="peer_unavailable") from None
        except AddressRefusedError:
            raise Mistake("the name leads into a private network", code="address", hint="private = true, if it is meant to") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if address_refused(error):
                raise Mistake("the name leads into a private network", code="address", hint="private = true, if it is meant to") from None
            raise Outage(f"it cannot be reached: {type(error).__name__}", code="peer_unavailable") from None
        return Answer(
            status=answer.status,
            media_type=answer.headers.get("content-type", "").partition(";")[0].strip().lower(),
            body=data,
            retry_after_seconds=_seconds(answer.headers.get("retry-after", "")),
        )

    def _client(self, *, private: bool) -> aiohttp.ClientSession:
        if private not in self._clients:
            connector = aiohttp.TCPConnector(limit=64, limit_per_host=8, socket_factory=open_socket if private else _public_socket)
            self._clients[private] = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            )
        return self._clients[private]


class AddressRefusedError(OSError):
    """The address behind a name may not be asked."""


def open_socket(address: AddrInfoType) -> socket.socket:
    """A socket for an address, whichever it is."""
    family, kind, protocol, _, _ = address
    return socket.socket(family=family, type=kind, proto=protocol)


def _public_socket(address: AddrInfoType) -> socket.socket:
    if not is_public(str(address[4][0])):
        raise AddressRefusedError("not a public address")
    return open_socket(address)


def address_refused(error: BaseException) -> bool:
    """Whether it was our own refusal, however deep aiohttp wraps it."""
    waiting: list[BaseException | None] = [error]
    for _ in range(_WRAPPED_MAX):
        one = waiting.pop() if waiting else None
        if isinstance(one, AddressRefusedError) or isinstance(getattr(one, "os_error", None), AddressRefusedError):
            return True
        if one is not None:
            waiting += [one.__cause__, one.__context__ if one.__context__ is not one.__cause__ else None]
            waiting += list(getattr(one, "exceptions", ()))
    return False


async def _bounded(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise Outage("an answer that is packed", code="peer_unavailable")
    pieces, size = [], 0
    async for piece in answer.content.iter_chunked(65_536):
        size += len(piece)
        if size > bytes_max:
            raise Outage(f"an answer of more than {bytes_max:,} bytes", code="peer_unavailable")
        pieces.append(piece)
    return b"".join(pieces)


def _seconds(text: str) -> int:
    return min(int(text), _RETRY_AFTER_MAX) if text.isascii() and text.isdigit() and len(text) < 8 else 0

"""HTTP at the gateway's edge: bounded bodies, Host and Origin, and answers that begin as JSON or become a stream.

Rules: a body is counted while it is read. Host and Origin are compared with what is configured, whatever address the
socket is bound to (DNS rebinding). An answer is one JSON object unless something came before it; then it is SSE.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from remit.doors.bodies import whole_body
from remit.doors.peer import peer_certificate
from remit.doors.problems import http_status, problem, problem_headers, rpc_problem
from remit.drivers.sse import event
from remit.errors import Mistake, Refusal, RemitError, Unauthenticated
from remit.model.token import Credential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping

KEEP_ALIVE = b": \r\n\r\n"
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

_SINGLE = frozenset({b"host", b"origin", b"authorization", b"content-type", b"last-event-id", b"dpop"})
NO_TOKEN = "no_token"  # noqa: S105 - a code: nothing was presented at all


class HttpExchange:
    """One HTTP request and its answer, on ASGI."""

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        self.method: str = scope["method"]
        self._scope = scope
        names = [name for name, _ in scope["headers"]]
        self._doubled = next((name.decode("latin-1") for name in names if _is_single(name) and names.count(name) > 1), "")
        self.headers: dict[str, str] = {name.decode("latin-1"): value.decode("latin-1").strip(" \t") for name, value in scope["headers"]}
        self.extra: list[tuple[bytes, bytes]] = []
        self.asked: str | int | None = None  # the id of the JSON-RPC request that is answered, if it is one
        self._receive, self._send = receive, send
        self._streaming = self._ended = False
        self._sending = asyncio.Lock()

    def check_origin(self, hosts: Collection[str], origins: Collection[str]) -> None:
        """Raises Refusal for a Host or an Origin that is not configured, Mistake for a header that stands twice."""
        if self._doubled:  # two readers could believe different ones
            raise Mistake(f"the header {self._doubled[:80]} stands twice", code="header")
        host = self.headers.get("host", "")
        if _hostname(host) not in hosts and host not in hosts:
            raise Refusal("this host name is not served here", code="host", hint="add it to server.allowed_hosts")
        origin = self.headers.get("origin")
        if origin is not None and origin not in origins and _hostname(urlsplit(origin).netloc) not in hosts:
            raise Refusal("this origin is not admitted", code="origin", hint="add it to server.allowed_origins")

    def credential(self, issuer: str) -> Credential:
        """What the request shows of whoever sends it; ``issuer``: our own URL. Raises Unauthenticated where it shows no token."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in {"bearer", "dpop"} or not token.strip():
            raise Unauthenticated("a task token is needed", code=NO_TOKEN, hint="Authorization: Bearer <task token>")
        return Credential(
            token=token.strip(),
            scheme=scheme.lower(),
            proof=self.headers.get("dpop", ""),
            method=self.method,
            url=issuer + raw_path(self._scope),
            certificate=peer_certificate(self._scope),
        )

    async def body(self, bytes_max: int, seconds_max: float) -> bytes:
        """The whole body, which is JSON. Raises Mistake (content_type, too_large, too_slow)."""
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Mistake("the body must be application/json", code="content_type")
        return await whole_body(self._receive, bytes_max, seconds_max)

    async def disconnected(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def interim(self, message: dict[str, Any]) -> None:
        """Send a message that comes before the answer: from here on the answer is a stream."""
        await self.begin_stream()
        await self._write(event(msgspec.json.encode(message)), more=True)

    async def write_event(self, event_bytes: bytes) -> None:
        """Send an event that is already encoded, as part of a stream."""
        await self.begin_stream()
        await self._write(event_bytes, more=True)

    async def begin_stream(self) -> None:
        """Begin an SSE answer, once."""
        async with self._sending:
            if not self._streaming:
                self._streaming = True
                await self._send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *self.extra]})

    async def keep_alive(self) -> None:
        """A comment that keeps idle streams open: an answer that takes long becomes a stream."""
        await self.begin_stream()
        await self._write(KEEP_ALIVE, more=True)

    async def end_stream(self) -> None:
        """End an SSE answer."""
        if self._streaming and not self._ended:
            self._ended = True
            await self._write(b"", more=False)

    async def answer(self, message: dict[str, Any], status: int = 200) -> None:
        """Send the last message, as JSON or as the last event of a stream."""
        if self._streaming:
            self._ended = True
            await self._write(event(msgspec.json.encode(message)), more=False)
            return
        await self.respond(status, msgspec.json.encode(message), [(b"content-type", b"application/json")])

    async def respond(
        self, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None, *, counted: bool = True
    ) -> None:
        """A plain answer. ``counted``: it says how long its body is."""
        self._ended = True
        all_headers = [*(headers or []), *self.extra, *([(b"content-length", str(len(body)).encode())] if counted else [])]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, error: RemitError, challenge: list[tuple[bytes, bytes]] | None = None) -> None:
        """Answer with an error, in whatever form is still possible. ``challenge``: headers in place of the plain one."""
        if self._ended:
            return
        if self._streaming and self.asked is not None:
            await self.answer(rpc_problem(self.asked, error))
        elif self._streaming:
            await self.end_stream()
        else:
            headers = problem_headers(error)
            if challenge is not None:
                headers = [header for header in headers if header[0] != b"www-authenticate"] + challenge
            await self.respond(http_status(error), msgspec.json.encode(problem(error)), headers)

    async def _write(self, data: bytes, *, more: bool) -> None:
        async with self._sending:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})


def raw_path(scope: MutableMapping[str, Any]) -> str:
    """The path as it came, escapes and all, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def _is_single(name: bytes) -> bool:
    """Whether a header may stand only once, because something is decided by it."""
    return name in _SINGLE or name.startswith(b"mcp-")


def _hostname(host: str) -> str:
    """A Host header without its port; IPv6 in brackets stays whole."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()

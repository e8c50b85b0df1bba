"""The egress on ASGI: an agent's plain HTTP requests to APIs, by ``/egress/{name}/path…``. Translates; decides nothing.

Paths: as at the MCP gateway, with a task token (Bearer, or DPoP where it is bound to a key) or below ``/run/{endpoint}``, where the path
itself is the secret of one task's own endpoint. ``GET /egress/{name}`` lists what the task may ask. Every other path is the API's own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from remit.doors.bodies import whole_body
from remit.doors.gateway.egress_calls import Asked
from remit.doors.gateway.exchange import HttpExchange, raw_path
from remit.doors.gateway.mcp import challenge
from remit.doors.problems import problem
from remit.errors import Broken, NotFound, RemitError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, MutableMapping

    from remit.doors.gateway.egress_calls import EgressCalls, Given
    from remit.doors.gateway.mcp import Gatekeeper
    from remit.model.identity import Bearer

_BODILESS = frozenset({204, 304})
_OURS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),  # a page of the API, opened in a browser, is none of our origin's
]


def is_egress(path: str) -> bool:
    """Whether a path is the egress's."""
    parts = path.split("/", 4)
    return parts[1:2] == ["egress"] or (parts[1:2] == ["run"] and parts[3:4] == ["egress"])


class EgressDoor:
    """An ASGI application."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        calls: EgressCalls,
        *,
        issuer: str,
        hosts: Collection[str],
        origins: Collection[str],
        body_bytes_max: int,
        report: Callable[[BaseException], None],
    ) -> None:
        """``issuer``: our URL. ``report`` takes faults of remit itself, for its log."""
        self._gatekeeper, self._calls, self._issuer, self._report = gatekeeper, calls, issuer, report
        self._hosts, self._origins, self._body_bytes_max = hosts, origins, body_bytes_max

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        http, stream = HttpExchange(scope, receive, send), _Stream(send)
        try:
            await self._serve(http, stream, scope, receive)
        except RemitError as error:
            await self._fail(http, stream, error)
        except OSError:
            return  # the agent has gone
        except Exception as error:
            self._report(error)
            await self._fail(http, stream, Broken("fault"))

    async def _fail(self, http: HttpExchange, stream: _Stream, error: RemitError) -> None:
        if stream.begun:
            await stream.end(b"event: remit-error\ndata: " + msgspec.json.encode(problem(error)) + b"\n\n")
        else:
            await http.fail(error, challenge(error, self._gatekeeper.nonce) if isinstance(error, Unauthenticated) else None)

    async def _serve(
        self,
        http: HttpExchange,
        stream: _Stream,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    ) -> None:
        http.check_origin(self._hosts, self._origins)
        bearer, name, prefix, path = await self._who(http, raw_path(scope))
        if not path:
            if http.method != "GET":
                await http.respond(405, b"", [(b"allow", b"GET")])
                return
            await http.answer({"egress": name, "operations": await self._calls.operations(bearer, name)})
            return
        asked = Asked(
            method=http.method,
            path=path,
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=tuple((key.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")) for key, value in scope["headers"]),
            body=await whole_body(receive, self._body_bytes_max),
        )
        stream.also = http.extra
        given = await _unless_gone(http, self._calls.ask(bearer, name, asked, stream.events))
        if given is not None and stream.begun:
            await stream.end(given.body)
        elif given is not None:
            await _answer(http, given, prefix)

    async def _who(self, http: HttpExchange, path: str) -> tuple[Bearer, str, str, str]:
        """Who asks which API, the path before the API's own, and the API's own ("" : none)."""
        parts = path.split("/")
        if parts[1] == "egress" and len(parts) > 2 and parts[2]:
            bearer, nonce = await self._gatekeeper.bearer(http.credential(self._issuer), parts[2])
            if nonce:
                http.extra.append((b"dpop-nonce", nonce.encode()))
            length = 3
        elif parts[1] == "run" and len(parts) > 4 and parts[3] == "egress" and parts[4]:
            bearer, length = await self._gatekeeper.endpoint(parts[2]), 5
        else:
            raise NotFound("there is nothing here", hint="the egress serves /egress/<name>/<path>")
        prefix = "/".join(parts[:length])
        return bearer, parts[length - 1], prefix, path[len(prefix) :]


class _Stream:
    """An answer that goes out event by event."""

    def __init__(self, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        self._send, self.begun = send, False
        self.also: list[tuple[bytes, bytes]] = []

    async def events(self, given: Given, events: bytes) -> None:
        """Send some; the first of them begin the answer."""
        if not self.begun:
            self.begun = True
            headers = [*_headers(given), *self.also, (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": given.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end(self, rest: bytes) -> None:
        """Send what is left."""
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})


async def _unless_gone(http: HttpExchange, work: Coroutine[Any, Any, Given]) -> Given | None:
    """What the work gives; ``None`` where the agent hangs up before: then it is cancelled."""
    working, gone = asyncio.create_task(work), asyncio.create_task(http.disconnected())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        gone.cancel()
        if working.cancel():
            await asyncio.gather(working, return_exceptions=True)


async def _answer(http: HttpExchange, given: Given, prefix: str) -> None:
    headers = _headers(given)
    if given.location:
        headers.append((b"location", f"{prefix}{given.location}".encode()))
    has_body = given.status not in _BODILESS and http.method != "HEAD"
    await http.respond(given.status, given.body if has_body else b"", headers, counted=has_body)


def _headers(given: Given) -> list[tuple[bytes, bytes]]:
    own = [(name.encode(), value.encode("latin-1")) for name, value in given.headers.items()]
    return [*own, *_OURS, (b"remit-decision", given.decision.encode())]

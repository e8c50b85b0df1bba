"""Tells an open page that there is something new to fetch (Server-Sent Events, HTML §9.2). It carries no facts, only how far the ledger is.

Rules: a browser that does not read is let go, as is one whose session has ended; streams are bounded for a session and for the node. An
event's id is the ledger's size, so that a browser that comes back (``Last-Event-ID``) is told at once what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import Response

from remit.doors.console.frame import Page
from remit.doors.console.rendering import HEADERS
from remit.drivers.patience import within
from remit.errors import Outage, RemitError
from remit.model.console import Action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from remit.doors.console.frame import Visit
    from remit.services.console_sessions import Session, Sessions
    from remit.services.growth import Growth

LIVE = "/console/live"
_STREAMS_MAX, _OF_SESSION_MAX = 256, 8
_SEND_SECONDS = 20.0
_DIGITS_MAX = 18
_AGAIN_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDoor:
    """The one stream of every page."""

    growth: Growth
    sessions: Sessions
    _open: Counter[str] = field(default_factory=Counter)

    def pages(self) -> list[Page]:
        """What is served here."""
        return [Page(method="GET", path=LIVE, action=Action.LOOK, show=self._follow)]

    async def _follow(self, visit: Visit) -> Response:
        session = visit.session
        if self._open.total() >= _STREAMS_MAX or self._open[session.id] >= _OF_SESSION_MAX:
            raise Outage("too many pages are open", code="overload", hint="pages do not follow by themselves now; reload them")
        query = visit.request.query_params
        last = visit.request.headers.get("last-event-id", "") or query.get("after", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) <= _DIGITS_MAX else -1
        return _Stream(self._events(session, after, query.get("task", "")[:200]), session.id, self._open)

    async def _events(self, session: Session, after: int, task: str) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % _AGAIN_MS
        with contextlib.suppress(RemitError):  # the browser comes back by itself
            async for size in self.growth.follow(after, task):
                if not await self.sessions.holds(session):
                    yield b"event: over\ndata: over\n\n"
                    return
                yield b": still here\n\n" if size is None else b"id: %d\nevent: grown\ndata: %d\n\n" % (size, size)


class _Stream(Response):
    """An answer that goes on until the browser leaves or does not read."""

    def __init__(self, events: AsyncIterator[bytes], session: str, counted: Counter[str]) -> None:
        super().__init__(b"", 200, {**HEADERS, "x-accel-buffering": "no"}, "text/event-stream")
        del self.headers["content-length"]
        self._events, self._session, self._counted = events, session, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's three
        self._counted[self._session] += 1
        telling = asyncio.create_task(self._tell(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
            self._counted[self._session] -= 1
            if not self._counted[self._session]:
                del self._counted[self._session]

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for event in self._events:
            with within(_SEND_SECONDS):
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""Agents of MCP 2025-03-26 to 2025-11-25: ``initialize`` opens a session, streams carry what the server asks.

Rules: a session belongs to one bearer's task and one server; to anybody else it does not exist. An answer to a request of
the server is passed on only where that request was shown to this session. Sessions, queues and idle time are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.doors.problems import INVALID_REQUEST, rpc_error, rpc_status
from remit.drivers.conversation import is_response
from remit.drivers.upstream_http import HttpUpstream
from remit.errors import Mistake, NotFound, Outage

if TYPE_CHECKING:
    from remit.doors.gateway.exchange import HttpExchange
    from remit.doors.gateway.links import Link, Links
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
_QUEUE_MAX = 1_000
_ASKED_MAX = 100
_KEEP_ALIVE_SECONDS = 15.0
_ACCEPTED = 202


@dataclass(slots=True, eq=False)
class Session:
    """One agent's legacy session."""

    id: str
    bearer: Bearer
    link: Link
    used: float
    waiting: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(_QUEUE_MAX))
    under_way: dict[object, asyncio.Task[Message]] = field(default_factory=dict)
    asked: set[object] = field(default_factory=set)
    listening: bool = False

    async def push(self, message: Message | None) -> None:
        """Queue what the server says by itself (``None``: the end); where nobody reads it, the oldest is lost as on a closed stream."""
        if self.waiting.full():
            self.waiting.get_nowait()
        self.waiting.put_nowait(message)


class LegacyDoor:
    """Sessions of this node."""

    def __init__(self, relay: Relay, links: Links, sessions_max: int, idle_seconds: float) -> None:
        self._relay, self._links, self._sessions_max, self._idle_seconds = relay, links, sessions_max, idle_seconds
        self._sessions: dict[str, Session] = {}

    async def post(self, http: HttpExchange, bearer: Bearer, server: str, message: Message) -> None:
        """Answer one POST."""
        if message.get("method") == "initialize" and "id" in message:
            await self._initialize(http, bearer, server, message)
            return
        session = self._session(http, bearer, server)
        if is_response(message):
            await self._answered(session, message)
            await http.respond(_ACCEPTED)
        elif "id" not in message:
            await self._notified(session, message)
            await http.respond(_ACCEPTED)
        else:
            await self._request(http, session, message)

    async def get(self, http: HttpExchange, bearer: Bearer, server: str) -> None:
        """The stream of what the server says by itself."""
        session = self._session(http, bearer, server)
        if session.listening:
            await http.respond(409, b"this session is already listened to")
            return
        session.listening = True
        if isinstance(session.link.upstream, HttpUpstream):
            session.link.upstream.listen()
        await http.begin_stream()
        gone = asyncio.create_task(http.disconnected())
        try:
            while not gone.done():
                reading = asyncio.create_task(session.waiting.get())
                await asyncio.wait({reading, gone}, timeout=_KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    if not gone.done():
                        await http.keep_alive()
                    continue
                said = reading.result()
                if said is None:
                    break
                self._asks(session, said)
                await http.interim(said)
        finally:
            session.listening = False
            gone.cancel()
            with contextlib.suppress(OSError):
                await http.end_stream()

    async def delete(self, http: HttpExchange, bearer: Bearer, server: str) -> None:
        """End a session."""
        await self._end(self._session(http, bearer, server))
        await http.respond(204)

    async def end_task(self, task: str) -> None:
        """End every session of a task."""
        for session in [session for session in self._sessions.values() if session.bearer.task == task]:
            await self._end(session)

    async def end_idle(self) -> None:
        """End sessions that nobody used for long."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if not session.under_way and not session.listening and now - session.used > self._idle_seconds:
                await self._end(session)

    async def _initialize(self, http: HttpExchange, bearer: Bearer, server: str, message: Message) -> None:
        if len(self._sessions) >= self._sessions_max:
            raise Outage("too many sessions are open", code="overload")
        session_id = secrets.token_urlsafe(24)
        link = await self._links.get(bearer.task, server, session_id, message.get("params") or {})
        session = Session(id=session_id, bearer=bearer, link=link, used=time.monotonic())
        link.listeners.append(session.push)
        self._sessions[session_id] = session
        http.extra.append((b"mcp-session-id", session_id.encode()))
        await http.answer({"jsonrpc": "2.0", "id": message["id"], "result": link.upstream.opening})

    async def _request(self, http: HttpExchange, session: Session, message: Message) -> None:
        request_id = message["id"]
        if request_id in session.under_way:
            await http.answer(rpc_error(request_id, INVALID_REQUEST, "a request of this id is under way"), 400)
            return

        async def sink(said: Message) -> None:
            self._asks(session, said)
            with contextlib.suppress(OSError):
                await http.interim(said)

        work = asyncio.create_task(self._relay.request(session.bearer, session.link, message, sink, modern=False))
        session.under_way[request_id] = work
        try:
            answer = await work
        except asyncio.CancelledError:
            if not work.cancelled():
                work.cancel()
                raise
            await http.begin_stream()  # the agent cancelled: no answer follows
            await http.end_stream()
            return
        finally:
            session.under_way.pop(request_id, None)
            session.used = time.monotonic()
        await http.answer(answer, rpc_status(answer) if rpc_status(answer) != 404 else 200)

    async def _notified(self, session: Session, message: Message) -> None:
        method = message.get("method")
        if method == "notifications/cancelled":
            params = message.get("params")
            work = session.under_way.get(params.get("requestId")) if isinstance(params, dict) else None
            if work is not None:
                work.cancel()
        elif method in {"notifications/roots/list_changed", "notifications/progress"}:
            await session.link.upstream.send(message)

    async def _answered(self, session: Session, message: Message) -> None:
        if message.get("id") not in session.asked:
            raise Mistake("this answers nothing that was asked here", code="json")
        session.asked.discard(message.get("id"))
        await session.link.upstream.send(message)

    def _session(self, http: HttpExchange, bearer: Bearer, server: str) -> Session:
        session_id = http.headers.get("mcp-session-id", "")
        if not session_id:
            raise Mistake("the header Mcp-Session-Id is missing", code="session", hint="send initialize first")
        session = self._sessions.get(session_id)
        if session is None or session.bearer.task != bearer.task or session.link.server != server:
            raise NotFound("there is no such session", code="session")
        version = http.headers.get("mcp-protocol-version")
        if version is not None and version not in VERSIONS:
            raise Mistake(f"protocol version {version[:40]!r} is not spoken here", code="protocol_version")
        session.used = time.monotonic()
        return session

    @staticmethod
    def _asks(session: Session, said: dict[str, Any]) -> None:
        if "method" in said and "id" in said:
            if len(session.asked) >= _ASKED_MAX:
                session.asked.clear()
            session.asked.add(said["id"])

    async def _end(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        for work in list(session.under_way.values()):
            work.cancel()
        await session.push(None)
        if session.push in session.link.listeners:
            session.link.listeners.remove(session.push)
        await self._links.leave(session.link)

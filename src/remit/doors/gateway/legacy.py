"""Agents of MCP 2025-03-26 to 2025-11-25: ``initialize`` opens a session, streams carry what the server asks.

Rules: a session belongs to one bearer's task and one server; to anybody else it does not exist. An answer to a request of
the server is passed on only where that request was shown to this session. Sessions, queues and idle time are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from remit.doors.gateway.exchange import KEEP_ALIVE
from remit.doors.gateway.relay import unopened
from remit.doors.gateway.requests import SET_LEVEL, plain_client
from remit.doors.gateway.sessions import AgentSession, Session
from remit.doors.gateway.streams import Stream, Streams
from remit.doors.gateway.translate import LEGACY_VERSIONS, LOG_LEVELS, known_capabilities, legacy_opening
from remit.doors.problems import INVALID_PARAMS, INVALID_REQUEST, rpc_error, rpc_problem, rpc_status
from remit.drivers.conversation import is_response
from remit.errors import Broken, Mistake, NotFound, Outage, RemitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.doors.gateway.exchange import HttpExchange
    from remit.doors.gateway.links import Links
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

_SESSIONS_OF_A_TASK_MAX = 64
_KEEP_ALIVE_SECONDS = 15.0
_PROMPT_SECONDS = 0.05  # an answer that takes longer becomes a stream, which can be resumed
_ACCEPTED = 202


class LegacyDoor:
    """Sessions of this node."""

    def __init__(self, relay: Relay, links: Links, sessions_max: int, idle_seconds: float) -> None:
        self._relay, self._links, self._sessions_max, self._idle_seconds = relay, links, sessions_max, idle_seconds
        self._sessions: dict[str, AgentSession] = {}

    async def post(self, http: HttpExchange, bearer: Bearer, server: str, message: Message) -> None:
        """Answer one POST."""
        if message.get("method") == "initialize" and "id" in message:
            await self._initialize(http, bearer, server, message)
            return
        session = self._session(http, bearer, server)
        if is_response(message):
            await session.answered(message)
            await http.respond(_ACCEPTED)
        elif "id" not in message:
            await self.notified(session, message)
            await http.respond(_ACCEPTED)
        else:
            await self._request(http, session, message)

    async def get(self, http: HttpExchange, bearer: Bearer, server: str) -> None:
        """The stream of what the server says by itself."""
        session = self._session(http, bearer, server)
        if "last-event-id" in http.headers:
            await self._resume(http, session)
            return
        if session.listening:
            await http.respond(409, b"this session is already listened to")
            return
        session.listening = True
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
                session.shown(said)
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
        params = message.get("params") or {}
        asked, capabilities, client = (params.get(name) for name in ("protocolVersion", "capabilities", "clientInfo"))
        if not isinstance(asked, str) or not isinstance(capabilities, dict) or not isinstance(client, dict):
            text = "initialize names protocolVersion, capabilities and clientInfo"
            await http.answer(rpc_error(message["id"], INVALID_PARAMS, text))
            return
        await self._make_room(bearer.task)
        session_id = secrets.token_urlsafe(24)
        capabilities = known_capabilities(capabilities)
        version = asked if asked in LEGACY_VERSIONS else LEGACY_VERSIONS[-1]
        opening = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": plain_client(client)}
        try:
            session, spoken = await self.opened(bearer, server, session_id, opening)
        except Outage as outage:
            await http.answer(unopened(message, outage))
            return
        self._sessions[session_id] = session
        http.extra.append((b"mcp-session-id", session_id.encode()))
        await http.answer({"jsonrpc": "2.0", "id": message["id"], "result": spoken})

    async def opened(self, bearer: Bearer, server: str, session_id: str, opening: Message) -> tuple[AgentSession, Message]:
        """A session, and the result of ``initialize``; ``opening``: its params. Raises NotFound, Outage."""
        link = await self._links.get(bearer.task, server, session_id, opening)
        spoken = await link.opening(legacy_opening(link.upstream, opening["protocolVersion"]))
        session = Session(
            id=session_id,
            bearer=bearer,
            server=server,
            link=link,
            used=time.monotonic(),
            streams=Streams(spoken["protocolVersion"]),
            capabilities=opening["capabilities"],
            client=opening["clientInfo"],
        )
        link.listeners.append(session.push)
        link.askers.append(session.push)
        link.subscriptions[session_id] = session.subscribed
        return session, spoken

    async def _make_room(self, task: str) -> None:
        """End the task's longest unused session where it has too many. Raises Outage where the node has."""
        own = [session for session in self._sessions.values() if session.bearer.task == task]
        unused = [session for session in own if not session.under_way and not session.listening]
        if len(own) >= _SESSIONS_OF_A_TASK_MAX and unused:
            await self._end(min(unused, key=lambda session: session.used))
        elif len(own) >= _SESSIONS_OF_A_TASK_MAX or len(self._sessions) >= self._sessions_max:
            raise Outage("too many sessions are open", code="overload")

    async def _request(self, http: HttpExchange, session: AgentSession, message: Message) -> None:
        request_id = message["id"]
        if request_id in session.under_way:
            await http.answer(rpc_error(request_id, INVALID_REQUEST, "a request of this id is under way"), 400)
            return
        stream: Stream | None = None

        async def write(said: Message | None) -> None:
            """What comes before the answer makes it a stream (``None``: only time has passed)."""
            nonlocal stream
            first = b""
            if stream is None:
                stream = session.streams.begin()
                first = stream.first
            with contextlib.suppress(OSError):  # the agent has gone; it may come back for the rest
                await http.write_event(first + (stream.add(said) if said is not None else KEEP_ALIVE))

        work = asyncio.create_task(self.answer(session, message, write))
        session.under_way[request_id] = work
        try:
            patience = _PROMPT_SECONDS
            while not work.done():
                await asyncio.wait({work}, timeout=patience)
                if not work.done():
                    await write(None)
                patience = _KEEP_ALIVE_SECONDS
            if not work.cancelled() and stream is not None:
                failed = work.exception()
                await write(work.result() if failed is None else _told(request_id, failed))
        finally:
            work.cancel()
            session.under_way.pop(request_id, None)
            session.used = time.monotonic()
            if stream is not None:
                stream.finish()
        if stream is not None or work.cancelled():
            await http.begin_stream()  # cancelled by the agent or with the session: no answer follows
            await http.end_stream()
            if not work.cancelled():
                work.result()  # a fault is reported all the same
            return
        answer = work.result()
        await http.answer(answer, rpc_status(answer) if rpc_status(answer) != 404 else 200)

    async def _resume(self, http: HttpExchange, session: AgentSession) -> None:
        """Give an agent the rest of an answer whose connection broke."""
        found = session.streams.resume(http.headers["last-event-id"])
        if found is None:
            raise Mistake("of this stream nothing is kept", code="resume", hint="send the request again")
        stream, position = found
        await http.begin_stream()
        gone = asyncio.create_task(http.disconnected())
        try:
            while not gone.done():
                stream.grown.clear()
                for event in stream.events[position:]:
                    await http.write_event(event)
                    position += 1
                if stream.done or not stream.resumable:
                    break
                growing = asyncio.create_task(stream.grown.wait())
                await asyncio.wait({growing, gone}, timeout=_KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not growing.done():
                    growing.cancel()
                    await http.keep_alive()
        finally:
            gone.cancel()
            session.used = time.monotonic()
            with contextlib.suppress(OSError):
                await http.end_stream()

    async def answer(self, session: AgentSession, message: Message, write: Callable[[Message], Awaitable[None]]) -> Message:
        """Answer one request: what a stateless server does not keep is kept here."""
        assert isinstance(session, Session)

        async def sink(said: Message) -> None:
            if session.refuses(said):
                await session.link.refuse(said)
                return
            session.shown(said)
            await write(said)

        modern = session.link.upstream.era == "modern"
        method, params = message["method"], message.get("params") or {}
        if modern and method == SET_LEVEL and params.get("level") in LOG_LEVELS:
            session.level = params["level"]
            return {"jsonrpc": "2.0", "id": message["id"], "result": {}}
        exchange = session.exchange if modern else None
        client = _AtClient(session, write)
        answer = await self._relay.request(session.bearer, session.link, message, sink, modern=False, exchange=exchange, client=client)
        if method in {"resources/subscribe", "resources/unsubscribe"} and "result" in answer:
            await session.watch(str(params.get("uri")), on=method == "resources/subscribe")
        return answer

    async def notified(self, session: AgentSession, message: Message) -> None:
        """Take a notification of the agent. Raises Outage."""
        method = message.get("method")
        if method == "notifications/cancelled":
            params = message.get("params")
            work = session.under_way.get(params.get("requestId")) if isinstance(params, dict) else None
            if work is not None:
                work.cancel()
        elif method in {"notifications/roots/list_changed", "notifications/progress"}:
            assert isinstance(session, Session)
            if session.link.upstream.era != "legacy":
                return
            if method == "notifications/roots/list_changed":
                await session.link.send({"jsonrpc": "2.0", "method": method})
            elif (told := await session.progress(message)) is not None:
                await session.link.send(told)

    def _session(self, http: HttpExchange, bearer: Bearer, server: str) -> AgentSession:
        session_id = http.headers.get("mcp-session-id", "")
        if not session_id:
            raise Mistake("the header Mcp-Session-Id is missing", code="session", hint="send initialize first")
        session = self._sessions.get(session_id)
        whose = (session.bearer.task, session.bearer.agent, session.server) if session is not None else None
        if session is None or whose != (bearer.task, bearer.agent, server) or session.gone:
            raise NotFound("there is no such session", code="session", hint="send initialize first")
        version = http.headers.get("mcp-protocol-version")
        if version is not None and version not in LEGACY_VERSIONS:
            raise Mistake(f"protocol version {version[:40]!r} is not spoken here", code="protocol_version")
        session.used = time.monotonic()
        return session

    async def _end(self, session: AgentSession) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        for work in list(session.under_way.values()):
            work.cancel()
        session.waiting.put(None)
        await self.left(session)

    async def left(self, session: AgentSession) -> None:
        """Let go of what a session held."""
        assert isinstance(session, Session)
        for hearers in (session.link.listeners, session.link.askers):
            if session.push in hearers:
                hearers.remove(session.push)
        session.link.subscriptions.pop(session.id, None)
        await self._links.leave(session.link)


def _told(request_id: object, failed: BaseException) -> Message:
    """What an agent reads of a failure in the stream that its answer has become."""
    return rpc_problem(request_id, failed if isinstance(failed, RemitError) else Broken("fault"))


class _AtClient:
    """The person at a session's client, asked on the stream of the request (``asking.Client``)."""

    rounds = False

    def __init__(self, session: Session, write: Callable[[Message], Awaitable[None]]) -> None:
        self._session, self._write = session, write
        self.capabilities = session.capabilities

    async def ask(self, question: Message, seconds: float) -> Message | None:
        """See ``asking.Client``."""
        return await self._session.ask(question, self._write, seconds)

"""Sessions with all servers of a task's grant as one: a part for each server, which is a session with that server alone.

Rules: a part takes the road of any session with its server. Ids that servers choose for their questions are exchanged for our own, so
that no server's question can pass for another's and every answer goes to who asked. A part begins with the session, or at the first
request that needs it; one whose server has died or forgotten it begins anew. What a server says of a call's progress counts for that call.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.doors.gateway.beside import LIST_CHANGED
from remit.doors.gateway.joint import (
    ROUTED,
    asked_by,
    asked_by_error,
    instructions,
    joint_elicitation,
    joint_log,
    progress_token,
    union,
    without_progress,
)
from remit.doors.gateway.legacy import LegacyDoor
from remit.doors.gateway.relay import unopened
from remit.doors.gateway.requests import LISTS, SET_LEVEL
from remit.doors.gateway.sessions import AgentSession, Session
from remit.doors.gateway.streams import Streams, Waiting
from remit.doors.gateway.translate import LOG_LEVELS
from remit.doors.problems import INVALID_PARAMS, METHOD_NOT_FOUND, rpc_error
from remit.errors import Mistake, NotFound, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.doors.gateway.joint import Joint
    from remit.doors.gateway.links import Links
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

    Write = Callable[[Message], Awaitable[None]]

SERVER_INFO = {"name": "remit", "title": "remit: the servers of this task", "version": "1"}
_QUESTIONS_MAX = 1_000
_CHANGES = (LIST_CHANGED, "notifications/prompts/list_changed", "notifications/resources/list_changed")
_UPDATED = "notifications/resources/updated"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question of a server: its own id of it, and its own token for progress with the answer."""

    server: str
    id: object
    token: object


@dataclass(slots=True, eq=False, kw_only=True)
class JointSession(AgentSession):
    """One with several servers. ``spoken``: how each answered ``initialize``; ``opening``: what it was asked."""

    opening: Message
    parts: dict[str, Session] = field(default_factory=dict)
    begins: dict[str, asyncio.Task[Session]] = field(default_factory=dict)
    spoken: dict[str, Message] = field(default_factory=dict)
    questions: OrderedDict[str, _Asked] = field(default_factory=OrderedDict)
    numbered: int = 0
    told: bool = False
    ended: bool = False

    @property
    def gone(self) -> bool:
        """See AgentSession: its servers may come and go."""
        return False

    def shown(self, message: Message) -> None:
        """See AgentSession."""
        asked = self.questions.get(str(message.get("id"))) if "method" in message and "id" in message else None
        part = self.parts.get(asked.server) if asked is not None else None
        if asked is None or part is None:
            return
        if asked.token is not None:
            params = message.get("params") or {}
            message = {**message, "params": {**params, "_meta": {**(params.get("_meta") or {}), "progressToken": asked.token}}}
        part.shown({**message, "id": asked.id})

    async def answered(self, message: Message) -> None:
        """See AgentSession."""
        asked = self.questions.pop(str(message.get("id")), None)
        part = self.parts.get(asked.server) if asked is not None else None
        if asked is None or part is None:
            raise Mistake("this answers nothing that was asked here", code="json")
        await part.answered({**message, "id": asked.id})

    def outward(self, part: Session, said: Message, token: object = None) -> Message | None:
        """What a server says as the agent hears it here (``None``: not at all). ``token``: by which its call wants to hear of progress."""
        method, params = said.get("method"), said.get("params") or {}
        if "id" in said and method is not None:
            return self._question(part, said, params)
        if method == "notifications/progress":
            return said if token is not None and params.get("progressToken") == token else None
        if method == "notifications/cancelled":
            found = self._number(part.server, params.get("requestId"))
            return {**said, "params": {**params, "requestId": found}} if found else None
        if method == "notifications/elicitation/complete":
            return {**said, "params": {"elicitationId": joint_elicitation(part.server, str(params.get("elicitationId")))}}
        return joint_log(part.server, said) if method == "notifications/message" else said

    def _question(self, part: Session, said: Message, params: Message) -> Message:
        """A question under a number of ours."""
        self.numbered += 1
        number = f"joint-{self.numbered}"
        token = progress_token(said)
        self.questions[number] = _Asked(part.server, said["id"], token)
        if len(self.questions) > _QUESTIONS_MAX:
            self.questions.popitem(last=False)
        if token is not None:
            said = {**said, "params": {**params, "_meta": {**params["_meta"], "progressToken": number}}}
        return {**(said if part.is_own(said["id"]) else asked_by(part.server, said)), "id": number}

    def _number(self, server: str, question: object) -> str:
        """What a server's question is called here ("" : it has none that stands open)."""
        return next((number for number, asked in self.questions.items() if (asked.server, asked.id) == (server, question)), "")


class _Heard(Waiting):
    """What a part's server says by itself goes to the whole session."""

    def __init__(self, whole: JointSession, part: Session) -> None:
        super().__init__()
        self._whole, self._part = whole, part

    def put(self, message: Message | None) -> None:
        """See Waiting. The end of one server is not the end of the session."""
        if message is not None and (said := self._whole.outward(self._part, message)) is not None:
            self._whole.waiting.put(said)


class JointLegacyDoor(LegacyDoor):
    """Sessions with one server, and with all of them."""

    def __init__(self, relay: Relay, links: Links, sessions_max: int, idle_seconds: float, joint: Joint) -> None:
        super().__init__(relay, links, sessions_max, idle_seconds)
        self._joint = joint

    async def opened(self, bearer: Bearer, server: str, session_id: str, opening: Message) -> tuple[AgentSession, Message]:
        """See LegacyDoor."""
        if server:
            return await super().opened(bearer, server, session_id, opening)
        version = opening["protocolVersion"]
        session = JointSession(
            id=session_id,
            bearer=bearer,
            used=time.monotonic(),
            streams=Streams(version),
            capabilities=opening["capabilities"],
            client=opening["clientInfo"],
            opening=opening,
        )
        servers = await self._joint.servers(bearer.task)
        try:
            _, left_out = await self._joint.gathered(servers, functools.partial(self._part, session))
        except BaseException:
            await self.left(session)
            raise
        session.told = True
        spoken = {name: session.spoken[name] for name in servers if name in session.spoken}
        capabilities = union(one.get("capabilities") or {} for one in spoken.values())
        if left_out or not servers:  # what comes later would be looked for in vain
            capabilities = union([capabilities, {"tools": {}, "prompts": {}, "resources": {}}])
        for name in {"tools", "prompts", "resources"} & capabilities.keys():
            capabilities[name]["listChanged"] = True  # servers come and go
        result = {
            "protocolVersion": version,
            "capabilities": capabilities,
            "serverInfo": SERVER_INFO,
            "instructions": instructions({name: spoken.get(name, {}).get("instructions") for name in servers}),
        }
        return session, result

    async def answer(self, session: AgentSession, message: Message, write: Write) -> Message:
        """See LegacyDoor."""
        if not isinstance(session, JointSession):
            return await super().answer(session, message, write)
        method = message["method"]
        if not isinstance(message.get("params", {}), dict):
            return rpc_error(message["id"], INVALID_PARAMS, "params must be an object")
        if method == "ping":
            return {"jsonrpc": "2.0", "id": message["id"], "result": {}}
        if method == SET_LEVEL:
            return await self._set_level(session, message)
        ask = functools.partial(self._asked, session, write)
        if method in LISTS:
            return await self._joint.listed(session.bearer.task, message, ask, modern=False)
        if method not in ROUTED:
            return rpc_error(message["id"], METHOD_NOT_FOUND, f"remit does not pass on {str(method)[:80]!r}")
        try:
            server, routed = await self._joint.routed(session.bearer.task, message, ask)
            answer = await ask(server, routed)
        except Mistake as mistake:
            return rpc_error(message["id"], INVALID_PARAMS, mistake.message)
        except Outage as outage:
            return unopened(message, outage)
        return asked_by_error(server, await self._joint.told(session.bearer.task, server, routed, answer))

    async def notified(self, session: AgentSession, message: Message) -> None:
        """See LegacyDoor."""
        if not isinstance(session, JointSession) or message.get("method") == "notifications/cancelled":
            await super().notified(session, message)
        elif message.get("method") == "notifications/progress":
            params = message.get("params") or {}
            asked = session.questions.get(str(params.get("progressToken")))
            part = session.parts.get(asked.server) if asked is not None and asked.token is not None else None
            if asked is not None and part is not None:
                await super().notified(part, {**message, "params": {**params, "progressToken": asked.token}})
        else:
            for part in list(session.parts.values()):
                with contextlib.suppress(Outage):  # of one server: the others hear it all the same
                    await super().notified(part, message)

    async def left(self, session: AgentSession) -> None:
        """See LegacyDoor."""
        if not isinstance(session, JointSession):
            await super().left(session)
            return
        session.ended = True  # a part that is about to begin ends by itself
        for part in session.parts.values():
            await super().left(part)
        session.parts.clear()

    async def _asked(self, session: JointSession, write: Write, server: str, message: Message) -> Message:
        """Ask one server, on the road of a session with it alone. Raises Outage."""
        part = await self._part(session, server)
        token = progress_token(message)

        async def said(heard: Message) -> None:
            if heard.get("method") == _UPDATED:
                await part.push(heard)  # only of what this session watches there
            elif (passed := session.outward(part, heard, token)) is not None:
                await write(passed)

        return await super().answer(part, message, said)

    async def _part(self, session: JointSession, server: str) -> Session:
        """The session with one server, begun where there is none that lives. Raises NotFound, Outage."""
        part = session.parts.get(server)
        if part is not None and not part.gone:
            return part
        begin = session.begins.get(server)
        if begin is None:
            begin = session.begins[server] = asyncio.create_task(self._begun(session, server, part))
            begin.add_done_callback(functools.partial(_over, session, server))
        return await asyncio.shield(begin)

    async def _begun(self, session: JointSession, server: str, old: Session | None) -> Session:
        if old is not None:
            await super().left(old)
        try:
            part, spoken = await super().opened(session.bearer, server, session.id, session.opening)
        except NotFound:  # taken out of the configuration meanwhile
            raise Outage(f"there is no server {server} any more", code="upstream_gone", unsent=True) from None
        assert isinstance(part, Session)
        if session.ended:
            await super().left(part)
            raise Outage("the session is over", code="upstream_gone", unsent=True)
        part.waiting = _Heard(session, part)
        session.parts[server], session.spoken[server] = part, spoken
        try:
            await self._brought_up(session, part, old)
        except Outage:  # it can be asked all the same
            pass
        if session.told:
            for change in _CHANGES:
                session.waiting.put({"jsonrpc": "2.0", "method": change})
        return part

    async def _brought_up(self, session: JointSession, part: Session, old: Session | None) -> None:
        """Tell a server that comes later what the session agreed on before. What was watched there was decided on then. Raises Outage."""
        if session.level:
            await self._level_of(part, session.level)
        for uri in sorted(old.subscribed) if old is not None else ():
            if part.link.upstream.era == "legacy":
                again = {"jsonrpc": "2.0", "id": 0, "method": "resources/subscribe", "params": {"uri": uri}}
                await part.link.exchange(again, _unheard)
            await part.watch(uri, on=True)

    async def _set_level(self, session: JointSession, message: Message) -> Message:
        level = (message.get("params") or {}).get("level")
        if level not in LOG_LEVELS:
            return rpc_error(message["id"], INVALID_PARAMS, f"level must be one of: {', '.join(LOG_LEVELS)}")
        session.level = level
        await self._joint.gathered(list(session.parts), lambda server: self._level_of(session.parts[server], level))
        return {"jsonrpc": "2.0", "id": message["id"], "result": {}}

    async def _level_of(self, part: Session, level: str) -> None:
        """Tell one server, if it logs at all; the level of a stateless one travels with each request. Raises Outage."""
        if part.link.upstream.era == "modern" or "logging" in (part.link.upstream.opening.get("capabilities") or {}):
            request = {"jsonrpc": "2.0", "id": 0, "method": SET_LEVEL, "params": {"level": level}}
            await super().answer(part, without_progress(request), _unheard)


def _over(session: JointSession, server: str, begin: asyncio.Task[Session]) -> None:
    session.begins.pop(server, None)
    if not begin.cancelled():
        begin.exception()  # seen: whoever waited was told


async def _unheard(_message: Message) -> None:
    """Nobody waits for what comes before the answer."""

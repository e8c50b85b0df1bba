"""One session of an agent of MCP 2025-03-26 to 2025-11-25: what was agreed on, what is under way, what was asked.

Rules: an answer of the agent is taken only where this session was shown the question. Everything that can pile up is bounded.
Before a stateless server the session keeps what that server does not: level, subscriptions, and rounds of questions.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.beside import UNANSWERED
from remit.doors.gateway.streams import Streams, Waiting
from remit.doors.gateway.translate import can_answer, legacy_question, legacy_result, modern_request
from remit.doors.problems import INTERNAL, rpc_error
from remit.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.doors.gateway.links import Link
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

_ASKED_MAX = 100
_ROUNDS_MAX = 10
_QUESTIONS_MAX = 16  # of one round
_SUBSCRIBED_MAX = 1_000
_PAUSE_SECONDS = 0.05  # before a round in which a stateless server asks nothing
_UPDATED = "notifications/resources/updated"
OWN = "approval-"  # so begin the numbers of questions of remit itself


@dataclass(slots=True, eq=False, kw_only=True)
class AgentSession(ABC):
    """What every session of an agent has, whatever it is a session with. ``server`` is "" where that is more than one."""

    id: str
    bearer: Bearer
    used: float
    streams: Streams
    capabilities: Message = field(default_factory=dict)
    client: Message = field(default_factory=dict)
    level: str = ""
    waiting: Waiting = field(default_factory=Waiting)
    under_way: dict[object, asyncio.Task[Message]] = field(default_factory=dict)
    listening: bool = False
    server: str = ""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether nothing can be asked any more."""

    @abstractmethod
    def shown(self, message: Message) -> None:
        """Note a question that goes to the agent."""

    @abstractmethod
    async def answered(self, message: Message) -> None:
        """Take an answer of the agent to where it was asked from. Raises Mistake, Outage."""


@dataclass(slots=True, eq=False, kw_only=True)
class Session(AgentSession):
    """One with one server. ``asked``: questions shown to the agent; a future where the gateway itself waits for it."""

    link: Link
    subscribed: set[str] = field(default_factory=set)
    asked: OrderedDict[object, asyncio.Future[Message] | None] = field(default_factory=OrderedDict)
    tokens: OrderedDict[object, object] = field(default_factory=OrderedDict)  # of progress, and the questions that they are for

    @property
    def gone(self) -> bool:
        """See AgentSession."""
        return self.link.gone

    async def push(self, message: Message | None) -> None:
        """Queue what the server says by itself (``None``: the end). A question that the agent did not offer to answer is refused."""
        if message is not None and message.get("method") == _UPDATED and not self._watches(message.get("params")):
            return
        if message is not None and self.refuses(message):
            await self.link.refuse(message)
        else:
            self.waiting.put(message)

    def refuses(self, message: Message) -> bool:
        """Whether this is a question of the server that the agent did not offer to answer."""
        return "method" in message and "id" in message and not can_answer(self.capabilities, message)

    def shown(self, message: Message) -> None:
        """See AgentSession."""
        if "method" in message and "id" in message and message["id"] not in self.asked:
            self._note(message["id"], None)
            params = message.get("params")
            meta = params.get("_meta") if isinstance(params, dict) else None
            token = meta.get("progressToken") if isinstance(meta, dict) else None
            if isinstance(token, str | int):
                self.tokens[token] = message["id"]
                if len(self.tokens) > _ASKED_MAX:
                    self.tokens.popitem(last=False)

    async def progress(self, message: Message) -> Message | None:
        """What the agent says of its way to an answer, in numbers: a text would be an answer that nobody decided on. Raises Outage."""
        params = message.get("params")
        token = params.get("progressToken") if isinstance(params, dict) else None
        question = self.tokens.get(token) if isinstance(token, str | int) else None
        if not isinstance(params, dict) or question not in self.asked or not await self.link.aside.may_tell(question):
            return None
        numbers = {name: params[name] for name in ("progress", "total") if _is_number(params.get(name))}
        return {"jsonrpc": "2.0", "method": message["method"], "params": {"progressToken": token, **numbers}}

    async def answered(self, message: Message) -> None:
        """See AgentSession."""
        answers = message.get("id")
        if answers not in self.asked:
            raise Mistake("this answers nothing that was asked here", code="json")
        waiting = self.asked.pop(answers)
        if waiting is None:
            await self.link.send(message)
        elif not waiting.done():
            waiting.set_result(message)

    async def watch(self, uri: str, *, on: bool) -> None:
        """Remember what was subscribed to, or no longer is."""
        if not on:
            self.subscribed.discard(uri)
        elif len(self.subscribed) < _SUBSCRIBED_MAX:
            self.subscribed.add(uri)
        await self.link.rewatch()

    async def exchange(
        self, message: Message, sink: Callable[[Message], Awaitable[None]], headers: Mapping[str, str] | None = None
    ) -> Message:
        """Carry one request to a stateless server: its questions become questions on the agent's stream. Raises Outage."""
        if message["method"] in {"resources/subscribe", "resources/unsubscribe"}:
            return {"jsonrpc": "2.0", "id": message["id"], "result": {}}  # the link watches on behalf of its sessions
        translated = modern_request(message, capabilities=self.capabilities, client=self.client, level=self.level)
        for _ in range(_ROUNDS_MAX):
            answer = await self.link.exchange(translated, sink, headers)
            result = answer.get("result")
            if not isinstance(result, dict) or result.get("resultType") != "input_required":
                return legacy_result(answer)
            requests = result.get("inputRequests")
            responses: dict[str, Any] = {}
            if isinstance(requests, dict) and requests:
                if len(requests) > _QUESTIONS_MAX:
                    return rpc_error(message["id"], INTERNAL, f"the server asked more than {_QUESTIONS_MAX} questions at once")
                if not all(isinstance(request, dict) and can_answer(self.capabilities, request) for request in requests.values()):
                    return rpc_error(message["id"], INTERNAL, "the server asked what this agent does not answer")
                try:
                    replies = await self._ask_all(requests, sink)
                except TimeoutError:
                    return rpc_error(message["id"], INTERNAL, "the agent did not answer the server's question in time")
                for key, (number, reply) in zip(requests, replies.items(), strict=True):
                    if not await self.link.aside.may_answer(number):
                        return rpc_error(message["id"], INTERNAL, UNANSWERED)
                    if "result" not in reply:
                        return {"jsonrpc": "2.0", "id": message["id"], "error": reply.get("error", {})}
                    responses[key] = reply["result"]
            else:
                await asyncio.sleep(_PAUSE_SECONDS)
            params = {**translated["params"], "inputResponses": responses}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
            translated = {**translated, "params": params}
        return rpc_error(message["id"], INTERNAL, f"the server asked more than {_ROUNDS_MAX} times")

    async def ask(self, request: Message, sink: Callable[[Message], Awaitable[None]], seconds: float) -> Message | None:
        """Show the person at the agent's client a question of remit itself; its result, or ``None`` where there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                (reply,) = (await self._ask_all({"remit": request}, sink, OWN)).values()
        except TimeoutError:
            return None
        result = reply.get("result")
        return result if isinstance(result, dict) else None

    async def _ask_all(
        self, requests: Mapping[str, Any], sink: Callable[[Message], Awaitable[None]], kind: str = "remit-"
    ) -> dict[str, Message]:
        """Show a round of questions to the agent and wait for all answers, by the numbers that they were asked under."""
        waiting: list[asyncio.Future[Message]] = []
        numbers = []
        try:
            for request in requests.values():
                number = f"{kind}{secrets.token_hex(8)}"
                answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
                waiting.append(answer)
                numbers.append(number)
                self._note(number, answer)
                await sink(legacy_question(request, number))
            async with asyncio.timeout(self.link.answer_seconds):
                return dict(zip(numbers, await asyncio.gather(*waiting), strict=True))
        finally:
            for number in numbers:
                self.asked.pop(number, None)

    def is_own(self, question: object) -> bool:
        """Whether it is remit that asks, and no server: of a question that was just asked."""
        return isinstance(question, str) and question.startswith(OWN) and self.asked.get(question) is not None

    def _note(self, number: object, answer: asyncio.Future[Message] | None) -> None:
        self.asked[number] = answer
        if len(self.asked) > _ASKED_MAX:
            _, oldest = self.asked.popitem(last=False)
            if oldest is not None:
                oldest.cancel()

    def _watches(self, params: object) -> bool:
        uri = params.get("uri") if isinstance(params, dict) else None
        return isinstance(uri, str) and (uri in self.subscribed or any(uri.startswith(watched) for watched in self.subscribed))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

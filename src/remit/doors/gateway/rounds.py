"""A legacy server's questions to a stateless agent: the call waits here while the agent answers and asks again (MRTR).

Rules: a waiting call belongs to one task and to exactly one request; its handle is unguessable and opens it once. The call was
decided and recorded when it began and ends as one call. Waiting calls are bounded in number, and in time by the call's own
limit: when it runs out, the server is told, and the handle opens nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from remit.doors.gateway.translate import can_answer, input_required, passes_log
from remit.doors.problems import INTERNAL, rpc_error
from remit.errors import Mistake, Outage
from remit.logic.arguments import digest_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.doors.gateway.links import Link
    from remit.drivers.base import Message

HANDLE = "remit-"
_WAITING_MAX = 1_000
_WAITING_OF_A_TASK_MAX = 32
_QUESTIONS_MAX, _QUESTION_BYTES_MAX = 16, 65_536  # that wait in one call; the server is refused more, or larger ones


class Round:
    """One call to a legacy server on behalf of a stateless agent, and the questions that stand open in it."""

    def __init__(self, link: Link, message: Message, capabilities: Message) -> None:
        self.link, self.message, self.capabilities = link, message, capabilities
        self.work: asyncio.Task[Message]
        self.questions: dict[str, Message] = {}
        self.asked = asyncio.Event()
        self.sink: Callable[[Message], Awaitable[None]] | None = None

    async def said(self, message: Message) -> None:
        """Take what the server says during the call. Questions wait; notices pass while somebody listens."""
        if "id" in message and "method" in message:
            small = len(msgspec.json.encode(message)) <= _QUESTION_BYTES_MAX
            if small and len(self.questions) < _QUESTIONS_MAX and can_answer(self.capabilities, message):
                self.questions[f"q{len(self.questions) + 1}-{secrets.token_hex(4)}"] = message
                self.asked.set()
            else:
                await self.link.refuse(message)
        elif self.sink is not None and (
            message.get("method") == "notifications/progress"
            or (message.get("method") == "notifications/message" and passes_log(self.message, message))
        ):
            await self.sink(message)
        elif message.get("method") not in {"notifications/progress", "notifications/message"}:
            await self.link.unsolicited(message)  # of a change: for subscriptions

    async def step(self, sink: Callable[[Message], Awaitable[None]]) -> Message | None:
        """Go on until the answer, or ``None`` where the server has asked. Cancelling a step cancels the call."""
        self.sink = sink
        asked = asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({self.work, asked}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)
            raise
        finally:
            asked.cancel()
            self.sink = None
        return self.work.result() if self.work.done() else None

    async def answer(self, responses: Message) -> None:
        """Pass the agent's answers on to the server; a question without one stays open. Raises Outage."""
        for key in [key for key in self.questions if isinstance(responses.get(key), dict)]:
            question = self.questions.pop(key)
            await self.link.send({"jsonrpc": "2.0", "id": question["id"], "result": responses[key]})
        if not self.questions:
            self.asked.clear()


class Rounds:
    """Calls that wait for their agent's answers, by handle."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[str, str, Round]] = OrderedDict()

    async def begin(
        self, task: str, this: Round, work: Callable[[], Awaitable[Message]], sink: Callable[[Message], Awaitable[None]]
    ) -> Message:
        """Run a call until its answer or its first questions."""
        this.work = asyncio.ensure_future(work())
        this.link.askers.append(this.said)
        this.work.add_done_callback(lambda _: self._over(this))
        return await self._step(task, this, sink)

    async def resume(self, task: str, message: Message, sink: Callable[[Message], Awaitable[None]]) -> Message:
        """Go on with a call that waits. Raises Mistake where the handle does not belong to this task and this request."""
        params = message["params"]
        waiting = self._waiting.get(str(params.get("requestState")))
        if waiting is None or waiting[:2] != (task, request_digest(message)):
            raise Mistake("this requestState opens nothing: it was used, has expired, or belongs to another request", code="request_state")
        this = waiting[2]
        del self._waiting[params["requestState"]]
        responses = params.get("inputResponses")
        try:
            await this.answer(responses if isinstance(responses, dict) else {})
        except Outage:
            this.work.cancel()
            raise
        answer = await self._step(task, this, sink)
        return {**answer, "id": message["id"]}

    async def _step(self, task: str, this: Round, sink: Callable[[Message], Awaitable[None]]) -> Message:
        answer = await this.step(sink)
        if answer is not None:
            return answer
        of_task = sum(1 for owner, _, _ in self._waiting.values() if owner == task)
        if of_task >= _WAITING_OF_A_TASK_MAX or len(self._waiting) >= _WAITING_MAX:
            this.work.cancel()
            return rpc_error(this.message["id"], INTERNAL, "too many calls wait for answers; this one was cancelled")
        handle = HANDLE + secrets.token_urlsafe(32)
        self._waiting[handle] = (task, request_digest(this.message), this)
        result = input_required(this.questions, handle)
        return {"jsonrpc": "2.0", "id": this.message["id"], "result": result}

    def _over(self, this: Round) -> None:
        with contextlib.suppress(ValueError):
            this.link.askers.remove(this.said)
        for handle in [handle for handle, (_, _, waiting) in self._waiting.items() if waiting is this]:
            del self._waiting[handle]
        if not this.work.cancelled():
            this.work.exception()  # seen: nobody may be left to be told


def request_digest(message: Message) -> str:
    """What a request asks for, without what changes from one round to the next. Raises Mistake."""
    params: dict[str, Any] = message.get("params", {})
    kept = {key: params[key] for key in params if key not in {"_meta", "inputResponses", "requestState"}}
    return digest_json({"method": message["method"], "params": kept})

"""What passes on a conversation beside the exchange of a call: what the server says by itself, and what it is answered.

Rules: what the server says while calls are under way counts as said in each of them. Outside of any it is heard only where it cannot
raise the task's labels, and asks nothing. An answer to a question goes out on the word of the calls that it was asked in, once, while each
of them may be given more; of a question that is not known nobody has decided an answer. The roots are asked for outside of calls too: then
they are told while the task has read nothing.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from remit.drivers.base import Message

    Speak = Callable[[], Awaitable[None]]
    Still = Callable[[], Awaitable[bool]]

LIST_CHANGED = "notifications/tools/list_changed"
UNANSWERED = "the task has read something since the call was decided in which this was asked, so no answer is passed on"
_ASKED_MAX = 1_000
_TEXT_CHARACTERS_MAX = 4_096
_TOLD = {  # what a server may say at any time, with the members of its params that are passed on: nothing is to be read in it
    "roots/list": "",
    LIST_CHANGED: "",
    "notifications/prompts/list_changed": "",
    "notifications/resources/list_changed": "",
    "notifications/resources/updated": "uri",
    "notifications/elicitation/complete": "elicitationId",
}


class Beside:
    """Of one conversation."""

    def __init__(self, adds_nothing: Still | None, unread: Still | None = None) -> None:
        """``adds_nothing``: whether what the server says by itself cannot raise the task's labels (``None``: it can). ``unread``: whether
        the task has read nothing (``None``: it has).
        """
        self._adds_nothing, self._unread = adds_nothing, unread or _never
        self._calls: list[tuple[Speak, Still]] = []
        self._asked: OrderedDict[object, tuple[Still, ...]] = OrderedDict()

    @contextlib.contextmanager
    def call(self, speak: Speak, still: Still) -> Iterator[None]:
        """A call is under way while the block runs. ``speak``: what the server says counts as said in it; ``still``: whether it may be
        given more.
        """
        this = (speak, still)
        self._calls.append(this)
        try:
            yield
        finally:
            self._calls.remove(this)

    def asked(self, question: object, *still: Still) -> None:
        """A question of the server goes to the agent, on the word of these calls."""
        self._asked[question] = still
        if len(self._asked) > _ASKED_MAX:
            self._asked.popitem(last=False)

    async def may_answer(self, question: object) -> bool:
        """Whether the answer to a question may go out, once. Raises Outage."""
        known = self._asked.pop(question, None)
        if known is None:
            return False
        for still in known:
            if not await still():
                return False
        return True

    async def may_tell(self, question: object) -> bool:
        """Whether something may go out on the way to the answer to a question that is still open. Raises Outage."""
        known = self._asked.get(question)
        return known is not None and all([await still() for still in known])

    async def adds_nothing(self) -> bool:
        """Whether what the server says by itself cannot raise the task's labels. Raises Outage."""
        return self._adds_nothing is not None and await self._adds_nothing()

    async def heard(self, message: Message) -> Message | None:
        """What the server says, as far as the agent may hear it (``None``: it may not). Raises Outage."""
        if message.get("method") in _TOLD:
            if "id" in message:
                self.asked(message["id"], *([still for _, still in self._calls] or [self._unread]))
            return _bare(message)
        if self._calls:
            for speak, _ in list(self._calls):
                await speak()
            if "id" in message:
                self.asked(message["id"], *(still for _, still in self._calls))
            return message
        if "id" in message:
            return None
        return message if await self.adds_nothing() else None


async def _never() -> bool:
    return False


def _bare(message: Message) -> Message:
    """A message without what nobody needs of it."""
    bare: Message = {name: message[name] for name in ("jsonrpc", "id", "method") if name in message}
    member, params = _TOLD[message["method"]], message.get("params") or {}
    value = params.get(member)
    return {**bare, "params": {member: value}} if isinstance(value, str) and len(value) <= _TEXT_CHARACTERS_MAX else bare

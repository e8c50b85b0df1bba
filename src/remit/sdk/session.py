"""One task in the hands of a program: has its calls decided, tells how they ended, ends it. The same before a node and a server.

Rules: a ``Door`` is all that is needed of remit, in the words of the wire; ``remit.open`` and ``remit.connect`` differ in nothing
else. The current task is a context variable that the task's block sets; without one there is a refusal, never an open way.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from remit.errors import Mistake, Refusal, Unauthenticated
from remit.sdk.values import RESULT_BYTES_MAX, plain, plain_object
from remit.wire import OWN_TASK, AuthorizeCall, DecisionView, DelegateTask, ObserveCall, OpenTask, ReportManifest, TaskView, TokenView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.sdk.portal import Portal

T = TypeVar("T")
_OPEN_CALLS_MAX = 1_000


class Door(Protocol):
    """remit as a program sees it. Every verb raises Refusal, Mistake or Outage, and nothing else."""

    async def prove(self, agent: str) -> str:
        """A fresh proof of identity (JWT-SVID) of the agent; ``agent`` "" where only one can be meant."""

    async def open(self, proof: str, wanted: OpenTask) -> TaskView:
        """Open a task; the view holds its token."""

    async def delegate(self, proof: str, task: str, wanted: DelegateTask) -> TaskView:
        """Open a child of a task, by the task's token."""

    async def show(self, proof: str, task: str) -> TaskView:
        """Look at a task, by proof or by its token."""

    async def renew(self, proof: str, task: str) -> TokenView:
        """A new token of a living task."""

    async def complete(self, proof: str, task: str) -> TaskView:
        """End a task, by proof or by its token."""

    async def manifest(self, token: str, task: str, told: ReportManifest) -> TaskView:
        """Tell what the agent is made of now."""

    async def authorize(self, token: str, task: str, wanted: AuthorizeCall) -> DecisionView:
        """Have a call decided."""

    async def observe(self, token: str, task: str, told: ObserveCall) -> None:
        """Tell how an allowed call ended."""


@dataclass(frozen=True, slots=True)
class _OpenCall:
    name: str
    arguments: dict[str, Any]


class Session:
    """A task by its token. ``agent``: whose proof renews the token ("" : nobody's, it is used until it ends)."""

    def __init__(self, door: Door, token: str, *, view: TaskView | None = None, agent: str | None = None) -> None:
        self._door, self._token, self._agent = door, token, agent
        self.view = view
        self._open: OrderedDict[str, _OpenCall] = OrderedDict()

    @property
    def _task(self) -> str:
        return self.view.task if self.view else OWN_TASK

    async def decide(self, wanted: AuthorizeCall) -> DecisionView:
        """Raises Refusal, Mistake, Outage; a denial is a value."""
        wanted.arguments = plain_object(wanted.arguments)
        decision = await self._renewing(lambda token: self._door.authorize(token, self._task, wanted))
        if decision.allowed:
            self._open[decision.id] = _OpenCall(wanted.tool or wanted.resource or wanted.prompt, wanted.arguments)
            if len(self._open) > _OPEN_CALLS_MAX:
                self._open.popitem(last=False)
        return decision

    async def tell(self, decision: str, result: Any, ending: str) -> None:
        """Tell how an allowed call ended. A result that cannot be told raises Mistake, and the end is told without it."""
        call = self._open.get(decision)
        told = ObserveCall(decision=decision, ending=ending, arguments=call.arguments if call else None)
        try:
            told.result = plain(result, what="result", bytes_max=RESULT_BYTES_MAX)
            await self._renewing(lambda token: self._door.observe(token, self._task, told))
        except Mistake as mistake:
            if mistake.code in {"result", "too_large", "json"}:
                told.result = None
                await self._renewing(lambda token: self._door.observe(token, self._task, told))
                self._open.pop(decision, None)
            raise
        self._open.pop(decision, None)

    async def report(self, parts: dict[str, str]) -> TaskView:
        """Tell what the agent is made of now. Raises Conflict (the task has ended), Mistake, Refusal, Outage."""
        told = ReportManifest(parts=parts)
        return await self._renewing(lambda token: self._door.manifest(token, self._task, told))

    def open_call(self, name: str, arguments: Any) -> str:
        """The decision under which exactly this call is open: the oldest of several. Raises Mistake."""
        meant = _OpenCall(name, plain_object(arguments))
        for decision, call in self._open.items():
            if call == meant:
                return decision
        raise Mistake(f"no allowed call of {name[:80]} with these arguments is open", code="not_under_way", hint="authorize it first")

    async def delegate(self, wanted: DelegateTask) -> TaskView:
        """Hand part of the task's authority to another agent. Raises Refusal, Mistake, Outage."""
        wanted.inputs = plain_object(wanted.inputs)
        return await self._renewing(lambda token: self._door.delegate(token, self._task, wanted))

    async def complete(self) -> TaskView:
        """End the task. Ending an ended one is a success where the agent's own proof is at hand."""
        try:
            return await self._door.complete(self._token, self._task)
        except Unauthenticated:
            if self._agent is None or self.view is None:
                raise
            return await self._door.complete(await self._door.prove(self._agent), self._task)

    async def _renewing(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask; where the token has expired get another one and ask once more. What was refused so has had no effect."""
        try:
            return await ask(self._token)
        except Unauthenticated as refused:
            if self._agent is None or self.view is None:
                raise
            try:
                self._token = (await self._door.renew(await self._door.prove(self._agent), self.view.task)).access_token
            except Refusal:
                raise refused from None
            return await ask(self._token)


async def open_session(door: Door, wanted: OpenTask) -> Session:
    """Open a task for the agent that can be proved."""
    wanted.inputs = plain_object(wanted.inputs)
    view = await door.open(await door.prove(wanted.agent), wanted)
    assert view.token is not None  # an opened task comes with one
    return Session(door, view.token.access_token, view=view, agent=wanted.agent)


async def take_up(door: Door, task: str, agent: str) -> Session:
    """Work on a task that was delegated to the agent that can be proved."""
    proof = await door.prove(agent)
    view = await door.show(proof, task)
    return Session(door, (await door.renew(proof, task)).access_token, view=view, agent=agent)


@dataclass(frozen=True, slots=True)
class Acting:
    """Whose authority guarded functions use: a session, and where it runs."""

    portal: Portal[Door]
    session: Session


_CURRENT: ContextVar[Acting | None] = ContextVar("remit_task", default=None)


def current() -> Acting:
    """The task of the block around us. Raises Refusal: without a task nothing may be done."""
    acting = _CURRENT.get()
    if acting is None:
        raise Refusal("no task is under way here, so nothing may be done", code="no_task", hint="async with r.task(…): around the call")
    return acting


def act(acting: Acting) -> Callable[[], None]:
    """Make a task the current one; call what comes back to make the one before it current again."""
    before = _CURRENT.get()
    _CURRENT.set(acting)

    def back() -> None:
        _CURRENT.set(before)

    return back

"""``remit.open`` and ``remit.connect`` as their users hold them: for asynchronous code and, word for word the same, for plain code.

    async with remit.open("remit.toml") as r:               with remit.open("remit.toml") as r:
        async with r.task("pay-bill", agent="payer") as t:      with r.task("pay-bill", agent="payer") as t:
            decision = await t.authorize("bank/pay", {…})           decision = t.authorize("bank/pay", {…})

Rules: thin shells; all that matters is in ``session.py``. Leaving a task's block completes the task, however it is left.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Self

import msgspec

from remit.errors import Mistake, Outage
from remit.sdk.manifest import manifest
from remit.sdk.portal import Portal
from remit.sdk.session import Acting, Door, Session, act, open_session, take_up
from remit.wire import AuthorizeCall, DecisionView, DelegateTask, OpenTask, TaskView

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from remit.sdk.declaration import Declaration

_ENDINGS_TAKEN = 2  # observe(tool, arguments, result) has two more than observe(decision)


class Remit:
    """One remit, open while its block runs. ``async with`` gives itself, ``with`` gives the same for plain code."""

    def __init__(self, doorway: Callable[[], AbstractAsyncContextManager[Door]]) -> None:
        """``doorway``: enters a node or a connection."""
        self._portal: Portal[Door] = Portal(doorway)
        self._door: Door | None = None

    async def __aenter__(self) -> Self:
        self._door = await asyncio.wrap_future(self._portal.begin())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._door = None
        await asyncio.shield(asyncio.to_thread(self._portal.end))

    def __enter__(self) -> BlockingRemit:
        self._door = self._portal.begin().result()
        return BlockingRemit(self)

    def __exit__(self, *_: object) -> None:
        self._door = None
        self._portal.end()

    def task(
        self,
        task_type: str,
        *,
        agent: str = "",
        on_behalf_of: str = "",
        inputs: Mapping[str, Any] | None = None,
        manifest: Mapping[str, str] | None = None,
    ) -> Task:
        """A new task, opened as its block is entered. ``agent`` may be left out where the proof of identity names it.

        ``manifest``: what the agent is made of, from ``remit.manifest``.
        """
        return Task(self._portal, lambda: self._opened(task_type, agent, on_behalf_of, inputs, manifest), owned=True)

    def task_of(self, token: str) -> Task:
        """The task that a task token stands for. Its block does not end it."""
        return Task(self._portal, lambda: self._presented(token), owned=False)

    def take_up(self, task_id: str, *, agent: str = "") -> Task:
        """A task that was delegated to an agent of ours (``Task.delegate``). Its block ends it."""
        return Task(self._portal, lambda: self._taken_up(task_id, agent), owned=True)

    @property
    def is_open(self) -> bool:
        """Whether its block is entered."""
        return self._door is not None

    async def _opened(
        self, task_type: str, agent: str, on_behalf_of: str, inputs: Mapping[str, Any] | None, manifest: Mapping[str, str] | None
    ) -> Session:
        parts = dict(manifest or {})
        wanted = OpenTask(type=task_type, inputs=dict(inputs or {}), on_behalf_of=on_behalf_of, agent=agent, manifest=parts)
        return await open_session(self._entered(), wanted)

    async def _taken_up(self, task_id: str, agent: str) -> Session:
        return await take_up(self._entered(), task_id, agent)

    async def _presented(self, token: str) -> Session:
        return Session(self._entered(), token)

    def _entered(self) -> Door:
        if self._door is None:
            raise Outage("remit was closed", code="closed")
        return self._door


class Task:
    """A task for asynchronous code: ``async with`` it, or only ask."""

    def __init__(self, portal: Portal[Door], begin: Callable[[], Coroutine[Any, Any, Session]], *, owned: bool) -> None:
        """``owned``: opened by its block and ended with it."""
        self._portal, self._begin, self._owned = portal, begin, owned
        self._session: Session | None = None
        self._release: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        session = await self._portal.reach(self._started())
        self._release = act(Acting(self._portal, session))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        if self._owned:
            await asyncio.shield(asyncio.ensure_future(self._portal.reach(self._session_or_raise().complete())))

    @property
    def view(self) -> TaskView:
        """The task as it was when it was opened. Raises Mistake before."""
        view = self._session_or_raise().view
        if view is None:
            raise Mistake("of a presented token only the server knows the task", code="not_open", hint="await task.show()")
        return view

    @property
    def id(self) -> str:
        """The task's id."""
        return self.view.task

    async def authorize(
        self, tool: str = "", arguments: Mapping[str, Any] | None = None, *, resource: str = "", prompt: str = ""
    ) -> DecisionView:
        """Have one call decided. Raises Refusal (the task has ended), Mistake (no such call can be), Outage (then it is a no)."""
        return await self._portal.reach(self._decided(_wanted(tool, arguments, resource, prompt)))

    async def authorize_declared(self, declared: Declaration, arguments: Mapping[str, Any]) -> DecisionView:
        """The same for a tool that this program declares itself: another one than was pinned is refused (``tool_changed``)."""
        given: Any = arguments
        return await self._portal.reach(self._decided(AuthorizeCall(tool=declared.tool, arguments=given, tool_digest=declared.digest)))

    async def observe(self, what: DecisionView | str, *told: Any, ending: str = "ok") -> None:
        """Tell how an allowed call ended, before its result is used: ``observe(decision, result)``, or by the call itself,
        ``observe("server/tool", arguments, result)``. ``ending``: ok, tool_error, failed, cancelled.

        Raises Conflict (told before, or the task has ended), Mistake, Refusal, Outage.
        """
        await self._portal.reach(self._told(what, told, ending))

    async def manifest(self, gone: Iterable[str] = (), **parts: Any) -> TaskView:
        """Tell what the agent is made of now, in the words of ``remit.manifest``; ``gone`` names parts that are no more.

        What differs from before is recorded when this returns, and by default the task is suspended until a person has looked.
        Raises Conflict (the task has ended), Mistake, Refusal, Outage.
        """
        return await self._portal.reach(self._reported({**manifest(**parts), **dict.fromkeys(gone, "")}))

    async def delegate(self, agent: str, objective: str, grant: Sequence[Mapping[str, Any]], *, calls: int, **further: Any) -> TaskView:
        """Hand part of this task's authority to another declared agent; it takes the child up by its id (``Remit.take_up``).

        ``grant``: lines as ``{"tool": "server/name", "arguments": {…}, "uses": 1}``, each within what this task was given. ``calls`` and
        ``further`` (``inputs``, ``lifetime`` in seconds, ``ceiling``, ``sums``, ``bytes_read``, ``resources``, ``rate_calls``) are taken
        out of this task's budgets. Raises Refusal, Mistake, Outage.
        """
        return await self._portal.reach(self._delegated(_delegation(agent, objective, grant, calls, further)))

    async def complete(self) -> TaskView:
        """End the task now."""
        return await self._portal.reach(self._completed())

    async def _started(self) -> Session:
        if self._session is None:
            self._session = await self._begin()
        return self._session

    async def _decided(self, wanted: AuthorizeCall) -> DecisionView:
        if self._owned:
            return await self._session_or_raise().decide(wanted)
        return await (await self._started()).decide(wanted)

    async def _delegated(self, wanted: DelegateTask) -> TaskView:
        return await (await self._started()).delegate(wanted)

    async def _told(self, what: DecisionView | str, told: tuple[Any, ...], ending: str) -> None:
        session = self._session_or_raise()
        if len(told) > _ENDINGS_TAKEN:
            raise Mistake("observe takes a decision and a result, or a tool, its arguments and a result", code="call")
        if len(told) == _ENDINGS_TAKEN:
            decision, result = session.open_call(str(what), told[0]), told[1]
        else:
            decision, result = what if isinstance(what, str) else what.id, told[0] if told else None
        await session.tell(decision, result, ending)

    async def _reported(self, parts: dict[str, str]) -> TaskView:
        session = self._session_or_raise() if self._owned else await self._started()
        return await session.report(parts)

    async def _completed(self) -> TaskView:
        return await self._session_or_raise().complete()

    def _leave(self) -> None:
        if self._release is not None:
            self._release()
            self._release = None

    def _session_or_raise(self) -> Session:
        if self._session is None:
            raise Mistake("the task is not open", code="not_open", hint="async with r.task(…) as task:")
        return self._session


class BlockingRemit:
    """The same for plain code."""

    def __init__(self, remit: Remit) -> None:
        self._remit = remit

    def task(
        self,
        task_type: str,
        *,
        agent: str = "",
        on_behalf_of: str = "",
        inputs: Mapping[str, Any] | None = None,
        manifest: Mapping[str, str] | None = None,
    ) -> BlockingTask:
        """As ``Remit.task``."""
        return BlockingTask(self._remit.task(task_type, agent=agent, on_behalf_of=on_behalf_of, inputs=inputs, manifest=manifest))

    def task_of(self, token: str) -> BlockingTask:
        """As ``Remit.task_of``."""
        return BlockingTask(self._remit.task_of(token))

    def take_up(self, task_id: str, *, agent: str = "") -> BlockingTask:
        """As ``Remit.take_up``."""
        return BlockingTask(self._remit.take_up(task_id, agent=agent))


class BlockingTask:
    """A task for plain code; the verbs are those of ``Task``."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __enter__(self) -> Self:
        session = self._task._portal.wait(self._task._started())
        self._task._release = act(Acting(self._task._portal, session))
        return self

    def __exit__(self, *_: object) -> None:
        self._task._leave()
        if self._task._owned:
            self.complete()

    @property
    def view(self) -> TaskView:
        """As ``Task.view``."""
        return self._task.view

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    def authorize(
        self, tool: str = "", arguments: Mapping[str, Any] | None = None, *, resource: str = "", prompt: str = ""
    ) -> DecisionView:
        """As ``Task.authorize``."""
        return self._task._portal.wait(self._task._decided(_wanted(tool, arguments, resource, prompt)))

    def observe(self, what: DecisionView | str, *told: Any, ending: str = "ok") -> None:
        """As ``Task.observe``."""
        self._task._portal.wait(self._task._told(what, told, ending))

    def manifest(self, gone: Iterable[str] = (), **parts: Any) -> TaskView:
        """As ``Task.manifest``."""
        return self._task._portal.wait(self._task._reported({**manifest(**parts), **dict.fromkeys(gone, "")}))

    def delegate(self, agent: str, objective: str, grant: Sequence[Mapping[str, Any]], *, calls: int, **further: Any) -> TaskView:
        """As ``Task.delegate``."""
        return self._task._portal.wait(self._task._delegated(_delegation(agent, objective, grant, calls, further)))

    def complete(self) -> TaskView:
        """As ``Task.complete``."""
        return self._task._portal.wait(self._task._completed())


def _delegation(agent: str, objective: str, grant: Sequence[Mapping[str, Any]], calls: int, further: Mapping[str, Any]) -> DelegateTask:
    """Raises Mistake for what no delegation has."""
    lines = [dict(line) for line in grant]
    words = {**further, "agent": agent, "objective": objective, "calls": calls, "request": uuid.uuid4().hex}
    try:
        return msgspec.convert({**words, "grant": lines}, DelegateTask)
    except msgspec.ValidationError as error:
        raise Mistake(str(error)[:300], code="delegation") from None


def _wanted(tool: str, arguments: Mapping[str, Any] | None, resource: str, prompt: str) -> AuthorizeCall:
    """Arguments are looked at, and copied, by the session."""
    given: Any = {} if arguments is None else arguments
    return AuthorizeCall(tool=tool, resource=resource, prompt=prompt, arguments=given)

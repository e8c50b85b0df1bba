"""A task among those above and below it, for people: who delegated what to whom, and what became of it; and taking from a grant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Conflict
from remit.logic.tree import narrows
from remit.model.delegation_record import TaskNarrowed
from remit.model.record import Body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.store.database import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One task of a tree. ``calls_lent``: to its children, as far as they are not settled, and what settled ones spent."""

    task: str
    parent: str
    depth: int
    agent: str
    state: str
    objective: str
    calls: int
    calls_lent: int
    budget_calls: int


async def family(store: Store, tasks: Tasks, task_id: str, limit: int) -> tuple[Member, ...]:
    """The whole tree of a task from its root, each task before its children; at most ``limit``. Raises NotFound, Outage."""
    task = await tasks.view(task_id)
    waiting = [task.ancestors[-1] if task.ancestors else task_id]
    found: list[Member] = []
    while waiting and len(found) < limit:
        one = await tasks.view(waiting.pop())
        found.append(
            Member(
                task=one.id,
                parent=one.parent,
                depth=len(one.ancestors),
                agent=one.agent.text,
                state=one.state.value,
                objective=one.objective,
                calls=one.calls,
                calls_lent=one.lent.calls,
                budget_calls=one.budget.calls,
            )
        )
        waiting += reversed(await store.children(one.id, limit))
    return tuple(found)


async def narrow(tasks: Tasks, task_id: str, uses: Mapping[int, int], *, by: str, reason: str) -> Task:
    """Grant lines of a task less often from now on, 0: no more; it holds for all below it as well. Raises Conflict, NotFound, Outage."""

    def build(task: Task, _now: datetime) -> tuple[Body, None]:
        if task.over:
            raise Conflict(f"task {task.id} is {task.state}", code="task_state")
        for line, most in uses.items():
            if not narrows(task, line, most):
                there = 0 <= line < len(task.grants)
                what = f"line {line} is granted {task.grants[line].uses} times" if there else f"the grant has no line {line}"
                raise Conflict(what, code="not_narrower", hint="a grant only ever narrows")
        return TaskNarrowed(by=by, uses={str(line): most for line, most in uses.items()}, reason=reason), None

    return (await tasks.change(task_id, build))[0]

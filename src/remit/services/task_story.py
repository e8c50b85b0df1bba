"""Everything about one task, for people: its story from opening to receipt, its tree, budgets and credentials, and what a static role held.

Rules: told is what the ledger says. A long story comes in parts. A task with very many records is folded beside the loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import NotFound
from remit.logic.explain import describe_grant
from remit.logic.records import decode
from remit.logic.static_role import static_role
from remit.logic.timeline import story
from remit.model.catalog import Kind
from remit.services.family import family
from remit.services.receipt import receipt_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.logic.static_role import StaticRole
    from remit.logic.timeline import Step, Story
    from remit.model.lease import Lease
    from remit.model.task import Task
    from remit.services.family import Member
    from remit.services.ledger import Ledger
    from remit.services.receipt import Receipt
    from remit.services.tasks import Tasks
    from remit.store.database import Entry, Store

_STEPS_MAX, _GRANTS_MAX, _LEASES_MAX, _FAMILY_MAX = 50, 40, 40, 60
_MANY_RECORDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A budget: what was spent of how much."""

    name: str
    spent: int | float
    most: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStory:
    """``first``: number of the first step shown, of ``steps_all``. ``grants``: lines in words. ``more_…``: how many are not shown.

    ``approvals``: ids of questions that wait. ``receipt``: ``None`` while the task lives.
    """

    task: Task
    data_class: str
    classes: tuple[str, ...]
    seconds_left: int
    steps: tuple[Step, ...]
    first: int
    steps_all: int
    earlier: int | None
    later: int | None
    budgets: tuple[Spending, ...]
    grants: tuple[str, ...]
    more_grants: int
    leases: tuple[Lease, ...]
    more_leases: int
    members: tuple[Member, ...]
    approvals: tuple[str, ...]
    static: StaticRole
    receipt: Receipt | None


class TaskStories:
    """Tells of tasks of one store."""

    def __init__(self, store: Store, tasks: Tasks, ledger: Ledger, rulebook: Callable[[], Rulebook], clock: Callable[[], datetime]) -> None:
        self._store, self._tasks, self._ledger, self._rulebook, self._clock = store, tasks, ledger, rulebook, clock

    async def of(self, task_id: str, first: int | None = None) -> TaskStory:
        """``first``: number of the first step to show, from 0 (``None``: the latest ones). Raises NotFound, Outage, Broken."""
        entries = await self._store.task_entries(task_id)
        if not entries:
            raise NotFound(f"there is no task {task_id[:80]}", hint="the page Now shows those that run")
        now, (head, note) = self._clock(), await self._ledger.checkpoint()
        parts = (entries, self._rulebook().classes.names, now, note, head.size)
        told, receipt = await asyncio.to_thread(_read, *parts) if len(entries) > _MANY_RECORDS else _read(*parts)
        task, steps = told.task, told.steps
        begin = max(len(steps) - _STEPS_MAX, 0) if first is None else min(max(first, 0), max(len(steps) - 1, 0))
        end = begin + _STEPS_MAX
        rules = self._rulebook()
        leases = sorted(task.leases.values(), key=lambda lease: (not lease.live, lease.intended_at))
        return TaskStory(
            task=task,
            data_class=rules.classes.name(task.labels.rank),
            classes=rules.classes.names,
            seconds_left=max(int((task.deadline - now).total_seconds()), 0),
            steps=steps[begin:end],
            first=begin,
            steps_all=len(steps),
            earlier=max(begin - _STEPS_MAX, 0) if begin else None,
            later=end if end < len(steps) else None,
            budgets=_budgets(task),
            grants=tuple(
                describe_grant(line, task.uses[number] + task.lent.uses.get(number, 0))
                for number, line in enumerate(task.grants[:_GRANTS_MAX])
            ),
            more_grants=max(len(task.grants) - _GRANTS_MAX, 0),
            leases=tuple(leases[:_LEASES_MAX]),
            more_leases=max(len(leases) - _LEASES_MAX, 0),
            members=await family(self._store, self._tasks, task_id, _FAMILY_MAX),
            approvals=tuple(one.id for one in task.approvals.values() if one.state.value == "pending" and now < one.expires_at),
            static=static_role(task, told.used, (tool for name in rules.pinned if (tool := rules.tool(*_place(name)))), now),
            receipt=receipt,
        )


def _read(entries: tuple[Entry, ...], classes: tuple[str, ...], now: datetime, note: str, size: int) -> tuple[Story, Receipt | None]:
    """The story of a task, and its receipt once it is over."""
    records = [(entry.index, decode(entry.body), entry.leaf) for entry in entries]
    told = story(records)
    if not told.task.over:
        return told, None
    return told, receipt_of(((record, leaf) for _, record, leaf in records), classes, now, note=note, size=size)


def _place(name: str) -> tuple[Kind, str, str]:
    server, _, tool = name.partition("/")
    return Kind.TOOL, server, tool


def _budgets(task: Task) -> tuple[Spending, ...]:
    budget, lent = task.budget, task.lent
    found = [Spending(name="calls", spent=task.calls + lent.calls, most=budget.calls)]
    found += [
        Spending(name=one.name, spent=float(task.sums.get(one.name, 0) + lent.sums.get(one.name, 0)), most=float(one.maximum))
        for one in budget.sums
    ]
    if budget.bytes_read:
        found.append(Spending(name="bytes read", spent=task.bytes_read + lent.bytes_read, most=budget.bytes_read))
    if budget.resources:
        found.append(Spending(name="different resources", spent=len(task.resources) + lent.resources, most=budget.resources))
    return tuple(found)

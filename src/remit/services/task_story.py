"""Everything about one task, for people: its story from opening to receipt, its tree, budgets and credentials, and what a static role held.

Rules: told is what the ledger says. A long story comes in parts, and a part costs what it holds: of the tasks looked at last an outline is
kept (``logic/outline.py``), which takes in what is new. The first look at a task folds all its records, many of them beside the loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.errors import NotFound
from remit.logic.explain import describe_grant
from remit.logic.lease_words import came_from, may_do
from remit.logic.outline import STEPS_A_PART, Outline
from remit.logic.records import decode
from remit.logic.static_role import static_role
from remit.logic.timeline import steps_of
from remit.model.catalog import Kind
from remit.services.family import family
from remit.services.receipt import receipt_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.logic.static_role import StaticRole
    from remit.logic.timeline import Step
    from remit.model.lease import Lease
    from remit.model.task import Task
    from remit.services.family import Member
    from remit.services.ledger import Ledger
    from remit.services.receipt import Receipt
    from remit.services.tasks import Tasks
    from remit.store.database import Entry, Store

_STEPS_MAX, _GRANTS_MAX, _LEASES_MAX, _FAMILY_MAX = 50, 40, 40, 60
_MANY_RECORDS, _RECORDS_AT_ONCE = 100, 1_000
_OUTLINES_MAX = 64
_MAY_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A budget: what was spent of how much."""

    name: str
    spent: int | float
    most: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStory:
    """``first``: number of the first step shown, of ``steps_all``. ``grants``: lines in words. ``more_…``: how many are not shown.

    ``may``: what each of the leases may do, in words. ``approvals``: ids of questions that wait.
    ``receipt``: ``None`` while the task lives.
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
    may: Mapping[str, str]
    members: tuple[Member, ...]
    approvals: tuple[str, ...]
    static: StaticRole
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a task; grown and told by one at a time."""

    outline: Outline = field(default_factory=Outline)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TaskStories:
    """Tells of tasks of one store."""

    def __init__(self, store: Store, tasks: Tasks, ledger: Ledger, rulebook: Callable[[], Rulebook], clock: Callable[[], datetime]) -> None:
        self._store, self._tasks, self._ledger, self._rulebook, self._clock = store, tasks, ledger, rulebook, clock
        self._outlines: OrderedDict[str, _Kept] = OrderedDict()

    async def of(self, task_id: str, first: int | None = None) -> TaskStory:
        """``first``: number of the first step to show, from 0 (``None``: the latest ones). Raises NotFound, Outage, Broken."""
        kept = self._outlines.setdefault(task_id, _Kept())
        self._outlines.move_to_end(task_id)
        if len(self._outlines) > _OUTLINES_MAX:
            self._outlines.popitem(last=False)
        async with kept.lock:
            await self._grow(task_id, kept.outline)
            return await self._told(task_id, kept.outline, first)

    async def _grow(self, task_id: str, outline: Outline) -> None:
        """Take what was recorded since."""
        while True:
            entries = await self._store.task_entries(task_id, outline.seq, _RECORDS_AT_ONCE)
            if len(entries) > _MANY_RECORDS:
                await asyncio.to_thread(_take, outline, entries)
            else:
                _take(outline, entries)
            if len(entries) < _RECORDS_AT_ONCE:
                return

    async def _steps(self, task_id: str, outline: Outline, begin: int, end: int) -> tuple[Step, ...]:
        """Some steps, from the records of their parts alone."""
        first, last = begin // STEPS_A_PART, max(end - 1, begin) // STEPS_A_PART
        steps: list[Step] = []
        for part in range(first, last + 1):
            start, stop, beyond = outline.records_of(part)
            records = await self._store.task_entries(task_id, start - 1, stop - start + 1)
            ends = [entry for seq in beyond for entry in await self._store.task_entries(task_id, seq - 1, 1)]
            steps += steps_of(((one.index, decode(one.body)) for one in records), (decode(one.body) for one in ends), outline)
        return tuple(steps[begin - first * STEPS_A_PART : end - first * STEPS_A_PART])

    async def _told(self, task_id: str, outline: Outline, first: int | None) -> TaskStory:
        task, steps_all = outline.task, outline.steps
        if task is None:
            self._outlines.pop(task_id, None)
            raise NotFound(f"there is no task {task_id[:80]}", hint="the page Now shows those that run")
        now, (head, note) = self._clock(), await self._ledger.checkpoint()
        begin = max(steps_all - _STEPS_MAX, 0) if first is None else min(max(first, 0), steps_all - 1)
        end = min(begin + _STEPS_MAX, steps_all)
        rules = self._rulebook()
        leases = sorted(task.leases.values(), key=lambda lease: (not lease.live, lease.intended_at))
        return TaskStory(
            task=task,
            data_class=rules.classes.name(task.labels.rank),
            classes=rules.classes.names,
            seconds_left=max(int((task.deadline - now).total_seconds()), 0),
            steps=await self._steps(task_id, outline, begin, end),
            first=begin,
            steps_all=steps_all,
            earlier=max(begin - _STEPS_MAX, 0) if begin else None,
            later=end if end < steps_all else None,
            budgets=_budgets(task),
            grants=tuple(
                describe_grant(line, task.uses[number] + task.lent.uses.get(number, 0))
                for number, line in enumerate(task.grants[:_GRANTS_MAX])
            ),
            more_grants=max(len(task.grants) - _GRANTS_MAX, 0),
            leases=tuple(leases[:_LEASES_MAX]),
            may={lease.id: _may(task, lease) for lease in leases[:_LEASES_MAX]},
            more_leases=max(len(leases) - _LEASES_MAX, 0),
            members=await family(self._store, self._tasks, task_id, _FAMILY_MAX),
            approvals=tuple(one.id for one in task.approvals.values() if one.state.value == "pending" and now < one.expires_at),
            static=static_role(task, outline.used, (tool for name in rules.pinned if (tool := rules.tool(*_place(name)))), now),
            receipt=receipt_of(outline, rules.classes.names, now, note=note, size=head.size) if task.over else None,
        )


def _take(outline: Outline, entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        outline.take(decode(entry.body), entry.leaf)


def _may(task: Task, lease: Lease) -> str:
    """In one line, which is cut where it is long: `remit lease show` has the whole."""
    told = may_do(task, lease)
    why = came_from(told)
    line = "; ".join(told.words) + (f" · {why}" if why else "")
    return line if len(line) <= _MAY_CHARACTERS_MAX else f"{line[:_MAY_CHARACTERS_MAX]} …"


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

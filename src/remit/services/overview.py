"""What goes on now, for people: running tasks, what waits for a person, the latest decisions, leases counting down.

Rules: everything is bounded, with a word about the rest. What is in trouble stands first. No values of calls: who may see those is the
approvals' to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.logic.records import decode
from remit.model.call_record import CallDecided
from remit.model.lease import LeaseState
from remit.model.task import TaskState
from remit.services.tasks import LIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.model.task import Task
    from remit.services.approvals import Approvals
    from remit.services.tasks import Tasks
    from remit.store.database import LeaseRow, Store

_TASKS_MAX, _WAITING_MAX, _DECISIONS_MAX, _LEASES_MAX = 50, 50, 30, 50
_ROWS_MAX = 1_000
_ENTRIES_MAX = 1_000  # looked through for the latest decisions
_DECIDED = b'"kind":"call.decided"'
_FIRST_LEASES = {LeaseState.STUCK: 0, LeaseState.REVOKING: 1}
_FIRST_TASKS = {TaskState.SUSPENDED: 0, TaskState.ACTIVE: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A task that has not ended. ``asking``: its questions that wait for a person."""

    task: Task
    data_class: str
    seconds_left: int
    asking: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A question that waits, without its values."""

    approval: str
    task: str
    type: str
    call: str
    asked_at: datetime
    expires_at: datetime
    seconds_left: int
    needed: int
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """A decision as it fell. ``index``: its entry of the ledger."""

    index: int
    at: datetime
    task: str
    agent: str
    call: str
    effect: str
    outcome: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """A credential that may stand on its target."""

    lease: str
    task: str
    target: str
    state: str
    expires_at: datetime
    seconds_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of it. ``more_…``: how many are not shown; -1: nobody knows how many, there are very many. ``size``: of the ledger."""

    running: tuple[Running, ...]
    more_running: int
    waiting: tuple[Waiting, ...]
    more_waiting: int
    decisions: tuple[Fallen, ...]
    leases: tuple[Counting, ...]
    more_leases: int
    stuck: int
    stopped: tuple[str, ...]
    size: int


class Overviews:
    """Looks at one store."""

    def __init__(
        self, store: Store, tasks: Tasks, approvals: Approvals, rulebook: Callable[[], Rulebook], clock: Callable[[], datetime]
    ) -> None:
        self._store, self._tasks, self._approvals, self._rulebook, self._clock = store, tasks, approvals, rulebook, clock

    async def now(self) -> Overview:
        """What goes on. Raises Outage."""
        now = self._clock()
        rows = await self._tasks.rows(states=LIVE_STATES, limit=_ROWS_MAX)
        first = sorted(rows, key=lambda row: (_FIRST_TASKS.get(TaskState(row.state), 2), row.deadline))
        leases = await self._store.live_leases("", "", _ROWS_MAX)
        waiting, more_waiting = await self._waiting(now)
        await self._tasks.standing.load()
        return Overview(
            running=tuple([self._running(await self._tasks.view(row.task), now) for row in first[:_TASKS_MAX]]),
            more_running=_more(len(rows), _TASKS_MAX),
            waiting=waiting,
            more_waiting=more_waiting,
            decisions=await self.decisions(),
            leases=tuple(_counting(row, now) for row in sorted(leases, key=_lease_order)[:_LEASES_MAX]),
            more_leases=_more(len(leases), _LEASES_MAX),
            stuck=sum(row.state == LeaseState.STUCK for row in leases),
            stopped=tuple(sorted(self._tasks.standing.agents)),
            size=await self._store.change_mark(),
        )

    async def decisions(self) -> tuple[Fallen, ...]:
        """The latest decisions about calls, the newest first, as far as they are among the latest entries. Raises Outage."""
        size = await self._store.change_mark()
        start = max(size - _ENTRIES_MAX, 0)
        found: list[Fallen] = []
        for entry in reversed(await self._store.entries(start, size - start)):
            if len(found) == _DECISIONS_MAX:
                break
            if _DECIDED not in entry.body:
                continue
            record = decode(entry.body)
            if isinstance(record.body, CallDecided):
                found.append(_fallen(entry.index, record.at, record.task or "", record.body))
        return tuple(found)

    async def _waiting(self, now: datetime) -> tuple[tuple[Waiting, ...], int]:
        rows = await self._approvals.pending(_ROWS_MAX)
        found: list[Waiting] = []
        for row in rows[:_WAITING_MAX]:
            task = await self._tasks.view(row.task)
            question = task.approvals.get(row.approval)
            if question is None or task.over:
                continue
            found.append(
                Waiting(
                    approval=row.approval,
                    task=task.id,
                    type=task.type,
                    call=question.call,
                    asked_at=row.asked_at,
                    expires_at=question.expires_at,
                    seconds_left=_seconds(now, question.expires_at),
                    needed=question.needed,
                    answered=len(question.answers),
                )
            )
        return tuple(found), _more(len(rows), _WAITING_MAX)

    def _running(self, task: Task, now: datetime) -> Running:
        asking = sum(one.state.value == "pending" and now < one.expires_at for one in task.approvals.values())
        data_class = self._rulebook().classes.name(task.labels.rank)
        return Running(task=task, data_class=data_class, seconds_left=_seconds(now, task.deadline), asking=asking)


def _fallen(index: int, at: datetime, task: str, body: CallDecided) -> Fallen:
    return Fallen(
        index=index,
        at=at,
        task=task,
        agent=body.agent,
        call=f"{body.server}/{body.name}",
        effect=body.effect,
        outcome=body.outcome,
        reasons=tuple(reason.code.replace("_", " ") for reason in body.reasons),
    )


def _counting(row: LeaseRow, now: datetime) -> Counting:
    return Counting(
        lease=row.lease,
        task=row.task,
        target=row.target,
        state=row.state,
        expires_at=row.expires_at,
        seconds_left=_seconds(now, row.expires_at),
    )


def _lease_order(row: LeaseRow) -> tuple[int, datetime]:
    return _FIRST_LEASES.get(LeaseState(row.state), 2), row.expires_at


def _more(there: int, shown: int) -> int:
    return -1 if there >= _ROWS_MAX else max(there - shown, 0)


def _seconds(now: datetime, until: datetime) -> int:
    return max(int((until - now).total_seconds()), 0)

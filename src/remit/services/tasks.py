"""A task's life as an effect: load by folding, change by compare and swap, end once and for all.

Rules
* The truth is the store's. What is kept in memory is a guess that every append checks (``Append.after``); where the guess
  was wrong the task is loaded again and the change is built again, from the new facts.
* ``build`` is called without an await between the look at the task and the append, so concurrent changes of one task in
  one process line up behind each other and share group commits.
* Nothing is returned before it is durable.
* What gives authority is appended only while no agent was stopped and no task above moved or narrowed since the look (``Append.given``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from remit.drivers.spans import SPANS_OFF
from remit.errors import Broken, Conflict, NotFound, Outage, RemitError
from remit.logic.approvals import check_answer
from remit.logic.life import after_a_yes, check_move, fold
from remit.logic.records import decode, encode, leaf_hash
from remit.logic.telemetry import RECORD
from remit.logic.tree import cut_off
from remit.model.approval import ApprovalState
from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished, LabelsLowered
from remit.model.delegation_record import TaskDelegated
from remit.model.lease_record import LeaseIntended, LeaseIssued
from remit.model.record import Body, Record, TaskMoved, TaskOpened
from remit.model.task import TASK_MOVES, Task, TaskState
from remit.model.token_record import TokenIssued
from remit.services.task_rows import authority_of, rows_of, task_row
from remit.store.database import Append, Entry, StaleTask, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from remit.drivers.spans import Spans
    from remit.model.approval import Approval, Widening
    from remit.model.labels import Labels
    from remit.services.standing import Standing
    from remit.store.database import Given, Row, Store

T = TypeVar("T")
_LOG = logging.getLogger("remit")
_ENDINGS_SECONDS = 0.02
_UNDETERMINED_MAX = 1_000  # named in the record of an end, which must fit into one entry; the fold closes all
_ENDS_AT_ONCE = 50
_ATTEMPTS = 16  # of one change against other processes before it counts as too busy
_PATIENT_FROM, _PAUSE_SECONDS = 4, 0.002  # from which attempt on it waits before the next, times the number of the attempt
_ON_AUTHORITY = CallDecided, TokenIssued, TaskDelegated, LeaseIntended, LeaseIssued
LIVE_STATES = tuple(state.value for state in TaskState if TASK_MOVES[state])


@dataclass(slots=True)
class _Kept:
    """A task in memory. ``epoch`` tells one guess from the next, so that a failed append drops only its own."""

    task: Task
    epoch: int


class Tasks:
    """Tasks of one store."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        kept_max: int,
        standing: Standing,
        spans: Spans = SPANS_OFF,
    ) -> None:
        """``new_id``: prefix → unguessable id. ``kept_max``: tasks kept in memory. ``standing``: which agents are stopped.
        ``spans``: traces what is recorded.
        """
        self._store, self._clock, self._new_id, self._kept_max = store, clock, new_id, kept_max
        self.standing, self._spans = standing, spans
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._epoch = 0
        self._loading: dict[str, list[list[int]]] = {}  # for each reading of a task: records that we were told of meanwhile
        self._endings: list[tuple[str, CallFinished]] = []
        self._later: asyncio.TimerHandle | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def open(self, opened: TaskOpened) -> Task:
        """Make a new task, pending. Raises Mistake where its record would be too large, Refusal (the agent is stopped), Outage."""
        for _ in range(_ATTEMPTS):
            await self.standing.check(opened.agent)
            record = Record(at=self._clock(), body=opened, task=self._new_id("task"), seq=1)
            data = encode(record)
            task = fold(None, record, leaf_hash(data))
            try:
                await self._store.append(Append(body=data, task=task.id, seq=1, rows=(task_row(task),), given=(self.standing.given,)))
            except StaleTask:
                await self.standing.read()
                continue
            self._keep(task, self._next_epoch())
            return task
        raise Outage("agents are stopped and restored by too many at once", code="agents_busy")

    async def view(self, task_id: str) -> Task:
        """The task as this process knows it. Raises NotFound, Outage."""
        return (await self._known(task_id)).task

    def in_memory(self, task_id: str) -> Task | None:
        """The same without waiting, where it is known; ``None`` elsewhere."""
        kept = self._kept.get(task_id)
        if kept is None:
            return None
        self._kept.move_to_end(task_id)
        return kept.task

    async def ancestors(self, task: Task) -> tuple[Task, ...]:
        """The tasks above one, the parent first, as this process knows them. Raises NotFound, Outage."""
        return tuple([await self.view(task_id) for task_id in task.ancestors])

    def opens(self, task: Task, above: tuple[Task, ...], now: datetime) -> bool:
        """Whether a task still opens anything: neither it nor one above has ended, and no agent of the chain is stopped."""
        stopped = self.standing.stopped([task.agent.text, *task.chain])
        return not (task.over or now >= task.deadline or cut_off(above, now) or stopped)

    def holds(self, task: Task, now: datetime) -> bool:
        """Whether a task may hold credentials, as far as is known here: it and all above it are active and in time, and no agent of the
        chain is stopped. What is recorded on that answer is true at the append (``_given``).
        """
        stopped = self.standing.stopped([task.agent.text, *task.chain])
        return not stopped and all(one.state is TaskState.ACTIVE and now < one.deadline for one in (task, *(self.lineage(task) or ())))

    def lineage(self, task: Task) -> tuple[Task, ...] | None:
        """The same without waiting, for what is decided on them; ``None`` where one is not known here."""
        found = tuple(kept.task for task_id in task.ancestors if (kept := self._kept.get(task_id)) is not None)
        return found if len(found) == len(task.ancestors) else None

    async def view_with(self, task_id: str, has: Callable[[Task], bool]) -> Task:
        """The task as it is known here where that shows what is looked for, and else as it is in the store: another process may
        have been ahead of us. Raises NotFound, Outage.
        """
        kept = await self._known(task_id)
        if not has(kept.task):
            self._drop(task_id, kept.epoch)
            kept = await self._known(task_id)
        return kept.task

    async def rows(self, *, states: tuple[str, ...] = (), after: str = "", limit: int = 100) -> tuple[TaskRow, ...]:
        """Rows for lists, newest first; ``states`` empty means all."""
        return await self._store.tasks(states=states, after=after, limit=limit)

    async def change(
        self,
        task_id: str,
        build: Callable[[Task, datetime], tuple[Body, T]],
        also: Callable[[Task], tuple[Row, ...]] | None = None,
        beside: Callable[[T, datetime], tuple[Append, ...]] | None = None,
    ) -> tuple[Task, T]:
        """Append what ``build`` makes of the task as it is; return the task after it, durable.

        ``build`` may be called several times and must be pure. ``also``: rows to put with it, made of the task after it; called
        each time as well. ``beside``: appends of other tasks that are written with it or not at all, made of what ``build`` gave.
        Raises what they raise, NotFound, Outage.
        """
        for attempt in range(_ATTEMPTS):
            if attempt >= _PATIENT_FROM:  # another node is at the same task: let it get on, each time a little longer
                await asyncio.sleep(_PAUSE_SECONDS * attempt)
            kept = await self._ready(task_id)
            task, epoch = kept.task, kept.epoch
            now = self._clock()
            body, result = build(task, now)
            given = self._given(task, body)
            if given is None:
                continue  # a task above was dropped from memory meanwhile
            record = Record(at=now, body=body, task=task.id, seq=task.seq + 1)
            data = encode(record)
            changed = fold(task, record, leaf_hash(data))
            self._keep(changed, epoch)
            rows = (*rows_of(task, changed, body, now), *(also(changed) if also is not None else ()))
            others = beside(result, now) if beside is not None else ()
            append = Append(body=data, task=task.id, seq=record.seq, after=task.leaf, rows=rows, given=given, also=others)
            try:
                with self._spans.span(RECORD):
                    await self._store.append(append)
            except StaleTask as stale:
                self._drop(task_id, epoch)
                if stale.code == "stale_mark":
                    await self._look_again(task)
                continue
            except BaseException:  # an outage; or nobody waits any more, and what becomes of the append will not be known here
                self._drop(task_id, epoch)
                raise
            return changed, result
        raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

    async def move(self, task_id: str, to: TaskState, by: str, reason: str = "") -> Task:
        """Change the state. A state already reached is a success. Raises Conflict, NotFound, Outage."""

        def build(task: Task, _: datetime) -> tuple[Body, None]:
            if task.state is to:
                raise _AlreadyThereError
            check_move(task, to)
            return TaskMoved(to=to.value, by=by, reason=reason), None

        return await self._reach(task_id, build, lambda task: task.state is to)

    def finish_soon(self, task_id: str, ending: CallFinished) -> None:
        """Record how a call ended, some milliseconds later and together with others: nobody waits for it. ``settle`` does."""
        self._endings.append((task_id, ending))
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(_ENDINGS_SECONDS, self._finish_gathered)

    async def settle(self) -> None:
        """Wait until every ending that was told is durable, or has failed and stays open."""
        self._finish_gathered()
        while self._finishing:
            await asyncio.wait(set(self._finishing))

    async def finish(
        self,
        task_id: str,
        ending: CallFinished,
        check: Callable[[Task], None] | None = None,
        also: Callable[[Task], tuple[Row, ...]] | None = None,
    ) -> None:
        """Record how a call ended, once: of two endings the first one stands. ``check`` may leave by an exception of its own.

        Raises NotFound, Outage.
        """

        def build(task: Task, _: datetime) -> tuple[Body, None]:
            if ending.decision not in task.in_flight:
                raise _AlreadyThereError
            if check is not None:
                check(task)
            return ending, None

        with contextlib.suppress(_AlreadyThereError):
            await self.change(task_id, build, also)

    async def end(self, task_id: str, to: TaskState, by: str, reason: str = "") -> Task:
        """End a task; calls still under way are undetermined from then on. Ending an ended task is a success."""
        await self.settle()

        def build(task: Task, _: datetime) -> tuple[Body, None]:
            if task.over:
                raise _AlreadyThereError
            check_move(task, to)
            return TaskMoved(to=to.value, by=by, reason=reason, undetermined=sorted(task.in_flight)[:_UNDETERMINED_MAX]), None

        ended = await self._reach(task_id, build, lambda task: task.over)
        with contextlib.suppress(Outage):  # keyed digests that open nothing; what is in the ledger is enough to explain
            await self._store.drop_sightings(task_id)
        return ended

    async def answer(
        self,
        approval: str,
        *,
        granted: bool,
        by: str,
        reason: str = "",
        via: str = "",
        names: Iterable[str] = (),
        shown: bool = False,
        passkey: str = "",
        judge: Callable[[Task, Approval, datetime], Widening | None] | None = None,
    ) -> Task:
        """Answer a question as ``by``, also known by ``names``. ``shown``: the call's values stood before them. ``passkey``: digest of the
        one they proved to have. ``judge`` says how far it goes, or raises, on the task as it is then.

        Raises NotFound, Conflict (answered, expired, ended, or asked by ``by``), Outage.
        """
        row = await self._store.approval(approval)
        if row is None:
            raise NotFound(f"there is no approval {approval[:80]}", hint="`remit approvals` lists what waits")
        await self.view_with(row.task, lambda task: approval in task.approvals)

        def build(task: Task, now: datetime) -> tuple[Body, None]:
            question = check_answer(task, approval, {by, *names}, now)
            widened = judge(task, question, now) if judge else None
            state = after_a_yes(question) if granted else ApprovalState.DENIED
            answered = ApprovalAnswered(approval=approval, state=state.value, by=by, reason=reason, via=via, shown=shown, passkey=passkey)
            if widened is not None:
                answered = replace(answered, calls=widened.calls, until=widened.until, free=list(widened.free), fixed=widened.fixed)
            return answered, None

        return (await self.change(row.task, build))[0]

    async def lower(self, task_id: str, labels: Labels, *, by: str, reason: str) -> Task:
        """Declassify: a person answers for it that what the task has read is no more than this. Raises Conflict, NotFound, Outage."""

        def build(task: Task, now: datetime) -> tuple[Body, None]:
            if task.over or now >= task.deadline:
                raise Conflict(f"task {task.id} is {task.state if task.over else 'past its deadline'}", code="task_state")
            if by in {task.agent.text, task.id}:
                raise Conflict("an agent cannot lower the labels of its own task", code="self_approval")
            if not task.labels.covers(labels):
                raise Conflict("this would raise the labels", code="labels", hint="labels rise by themselves; declassification lowers them")
            return LabelsLowered(rank=labels.rank, untrusted=labels.untrusted, by=by, reason=reason), None

        return (await self.change(task_id, build))[0]

    async def expire_due(self, limit: int = 1_000) -> int:
        """End what is past its deadline; returns how many. Safe to run anywhere, any number of times."""
        due = await self._store.due_tasks(self._clock(), limit)
        for start in range(0, len(due), _ENDS_AT_ONCE):  # several share a transaction: after a night there are many
            await asyncio.gather(*(self._expire(task_id) for task_id in due[start : start + _ENDS_AT_ONCE]))
        return len(due)

    async def _expire(self, task_id: str) -> None:
        try:
            await self.end(task_id, TaskState.EXPIRED, by="remit", reason="deadline")
        except Broken as error:  # one damaged task does not keep the others alive
            _LOG.error("task %s cannot be ended: %s", task_id, error.message)

    def seen(self, entries: Iterable[Entry]) -> None:
        """Learn from entries that others appended: forget what they made stale."""
        for entry in entries:
            for told in self._loading.get(entry.task or "", ()):
                told.append(entry.seq)
            kept = self._kept.get(entry.task) if entry.task else None
            if kept is not None and entry.task and entry.seq > kept.task.seq:
                self._drop(entry.task, kept.epoch)

    async def _reach(self, task_id: str, build: Callable[[Task, datetime], tuple[Body, None]], reached: Callable[[Task], bool]) -> Task:
        """Change, or find it done already: durably, not as far as is known here, where it may still fail to be written."""
        for _ in range(_ATTEMPTS):
            try:
                return (await self.change(task_id, build))[0]
            except _AlreadyThereError:
                durable = _folded(await self._store.task_entries(task_id))
                if durable is not None and reached(durable):
                    return durable
                self._kept.pop(task_id, None)
        raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

    def _finish_gathered(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        endings, self._endings = self._endings, []
        for task_id, ending in endings:
            finishing = asyncio.create_task(self._finish_or_tell(task_id, ending))
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)

    async def _finish_or_tell(self, task_id: str, ending: CallFinished) -> None:
        try:
            await self.finish(task_id, ending)
        except RemitError as error:
            _LOG.warning("the end of call %s is not recorded and stays undetermined: %s", ending.decision, error.message)

    async def _ready(self, task_id: str) -> _Kept:
        """A task with all that decisions about it hang on in memory."""
        kept = await self._known(task_id)
        await self.standing.load()
        if kept.task.ancestors:
            await self.ancestors(kept.task)
            kept = await self._known(task_id)
        return kept

    def _given(self, task: Task, body: Body) -> tuple[Given, ...] | None:
        """The conditions under which a record is true; ``None`` where a task above is not known here."""
        if not isinstance(body, _ON_AUTHORITY):
            return ()
        above = self.lineage(task) if task.ancestors else ()
        return None if above is None else (self.standing.given, *map(authority_of, above))

    async def _look_again(self, task: Task) -> None:
        """Something beside the task has moved on: read it anew at the next use."""
        for ancestor in task.ancestors:
            self._kept.pop(ancestor, None)
        await self.standing.read()

    async def _known(self, task_id: str) -> _Kept:
        kept = self._kept.get(task_id)
        if kept is not None:
            self._kept.move_to_end(task_id)
            return kept
        entries = await self._loaded(task_id)
        kept = self._kept.get(task_id)  # another change may have loaded it while we waited
        if kept is not None:
            return kept
        task = _folded(entries)
        if task is None:
            raise NotFound(f"there is no task {task_id[:80]}", hint="`remit task list` lists them")
        return self._keep(task, self._next_epoch())

    async def _loaded(self, task_id: str) -> tuple[Entry, ...]:
        """Read, and again where we were told meanwhile of more than was read."""
        for _ in range(_ATTEMPTS):
            told: list[int] = []
            self._loading.setdefault(task_id, []).append(told)
            try:
                entries = await self._store.task_entries(task_id)
            finally:
                readings = [other for other in self._loading.pop(task_id) if other is not told]
                if readings:
                    self._loading[task_id] = readings
            if max(told, default=0) <= len(entries):
                return entries
        raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

    def _keep(self, task: Task, epoch: int) -> _Kept:
        kept = self._kept[task.id] = _Kept(task, epoch)
        self._kept.move_to_end(task.id)
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return kept

    def _drop(self, task_id: str, epoch: int) -> None:
        kept = self._kept.get(task_id)
        if kept is not None and kept.epoch == epoch:
            del self._kept[task_id]

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch


class _AlreadyThereError(Exception):
    """Leaves a build that has nothing to do."""


def _folded(entries: Iterable[Entry]) -> Task | None:
    task: Task | None = None
    for entry in entries:
        task = fold(task, decode(entry.body), entry.leaf)
    return task

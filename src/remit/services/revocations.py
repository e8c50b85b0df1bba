"""Makes leases go away, for as long as it takes: at a task's end, when their time is over, when a crash left them behind.

Rules
* What has to go is durable before anything here begins (``logic/leases.py``): this may die at any point, and any node goes on.
* A lease is worked on by who has claimed it (a row's due time, moved on by compare and swap); to work on it twice is harmless.
* A target that is away is left alone for some sweeps, twice as long each time up to a minute; then one lease is tried for all. What
  one lease alone fails on, it waits for alone. There is no last attempt.
* Each target has a worker of its own and so many conversations: none holds up another, and a restart storms none.
* A lease that is not gone after ``_STUCK_SECONDS`` is recorded as *stuck*, once, and told to the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.drivers.targets.base import REVOKE_SECONDS
from remit.errors import Conflict, NotFound, Outage, RemitError
from remit.logic.leases import due_at
from remit.model.lease import LEASE_ORDER, LeaseState
from remit.model.lease_record import LeaseRevoked, LeaseRevoking, LeaseStuck
from remit.services.lease_records import record_lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.targets.base import Minted, Target
    from remit.model.lease import Lease
    from remit.services.targets import Targets
    from remit.services.tasks import Tasks
    from remit.store.database import LeaseRow, Store

_LOG = logging.getLogger("remit")
_SWEEP_SECONDS = 1.0
_PAGE = 100
_WAIT_SWEEPS_MAX = 60
_BACKOFF_SECONDS_MAX = 60
_CLAIM = timedelta(seconds=REVOKE_SECONDS * 2)
_STUCK_SECONDS = 60.0
_LEFT_ALONE = "left_alone"


class Revocations:
    """Revocations of one node."""

    def __init__(
        self, tasks: Tasks, store: Store, targets: Targets, opened: Callable[[LeaseRow], Minted], clock: Callable[[], datetime]
    ) -> None:
        """``opened``: the credential of a row that has one. Raises Outage."""
        self._tasks, self._store, self._targets, self._opened, self._clock = tasks, store, targets, opened, clock
        self._working: dict[str, asyncio.Task[bool]] = {}  # by lease
        self._workers: dict[str, asyncio.Task[None]] = {}  # by target
        self._open: dict[str, asyncio.Semaphore] = {}
        self._failures: Counter[str] = Counter()  # in a row, by target and by lease
        self._skip: Counter[str] = Counter()  # sweeps, by target
        self._away: set[str] = set()  # targets that did not answer last
        self._beginnings: set[asyncio.Task[None]] = set()

    def begin(self, task_id: str, *, made_here: frozenset[str] = frozenset(), claim: bool = False) -> None:
        """Begin to revoke what has to go of a task. ``made_here``: leases whose mint is known to be over.

        ``claim``: somebody else may be at it, who comes first shall do it. Where much is under way here, that is the sweeper.
        """
        if claim and len(self._working) + len(self._beginnings) >= _PAGE:
            return
        beginning = asyncio.create_task(self._begin(task_id, made_here, claim=claim))
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._beginnings.discard)
        beginning.add_done_callback(_heard)

    async def settled(self, task_id: str, seconds: float) -> bool:
        """Begin, and wait so long at most; whether nothing of the task is left. Raises NotFound, Outage."""
        try:
            async with asyncio.timeout(seconds):
                await self._begin(task_id, frozenset(), claim=False)
                while working := [self._working[lease.id] for lease in await self._live(task_id) if lease.id in self._working]:
                    await asyncio.wait(working)
        except TimeoutError:
            pass
        return not await self._live(task_id)

    async def revoke(self, lease_id: str, by: str, reason: str) -> Lease:
        """Make one lease go, though its task goes on; the lease after a first attempt. Raises NotFound, Outage."""
        row = await self._store.lease(lease_id)
        if row is None:
            raise NotFound(f"there is no lease {lease_id[:80]}", hint="`remit lease list` shows them")
        await self._move_to_revoking(row.task, lease_id, by, reason)
        lease = await self._lease(row)
        if lease.ending and due_at(lease) <= self._clock():
            await asyncio.wait([self._start(row, claim=False)])
        return await self._lease(row)

    async def once_more(self, lease: Lease) -> None:
        """Revoke what is recorded as gone and came into being after all. Where this fails, reconciliation finds it."""
        target = self._targets.get(lease.target)
        try:
            if target is not None:
                async with asyncio.timeout(REVOKE_SECONDS):
                    await target.revoke(self._targets.mark(lease.id))
        except (RemitError, TimeoutError):
            _LOG.error("lease %s came into being on target %s after it was recorded as gone", lease.id, lease.target)

    async def sweep(self) -> None:
        """Run until cancelled: look after what is due."""
        sweeps = 0
        while True:
            try:
                await self.sweep_once(every_target=sweeps % _WAIT_SWEEPS_MAX == 0)
            except Outage:
                pass  # of the store: tried again a moment later
            sweeps += 1
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep_once(self, *, every_target: bool = True) -> None:
        """Give each target that is not left alone a worker. ``every_target``: also such as are no longer configured. Raises Outage."""
        names = {*self._targets.names(), *(await self._store.lease_targets() if every_target else ())}
        for name in sorted(names):
            if name in self._workers:
                continue
            if self._skip[name] > 0:
                self._skip[name] -= 1
                continue
            self._workers[name] = worker = asyncio.create_task(self._drain(name))
            worker.add_done_callback(functools.partial(self._forget, name))

    async def catch_up(self, seconds: float) -> None:
        """Work off what is due, so long at most. Raises Outage."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.sweep_once()
                while self._workers:
                    await asyncio.wait(set(self._workers.values()))

    async def close(self) -> None:
        """Stop; what is not done is done by others, or after the next start."""
        doing = [*self._beginnings, *self._workers.values(), *self._working.values()]
        for one in doing:
            one.cancel()
        await asyncio.gather(*doing, return_exceptions=True)

    async def _drain(self, name: str) -> None:
        """All that is due on a target: one lease first where it was away, and when that goes the others, several at a time."""
        self._away.discard(name)
        page = 1 if self._failures[name] else _PAGE
        while due := await self._store.due_leases(name, self._clock(), page):
            await asyncio.gather(*(self._claimed(row) for row in due))
            if name in self._away:
                self._skip[name] = min(2 ** min(self._failures[name], 10), _WAIT_SWEEPS_MAX) - 1
                await self._tell_stuck(name)
                return
            page = _PAGE

    async def _tell_stuck(self, name: str) -> None:
        """While a target is away: those that wait for it longer than is good."""
        for row in await self._store.due_leases(name, self._clock() - timedelta(seconds=_STUCK_SECONDS), _PAGE):
            lease = await self._lease(row)
            if lease.state is not LeaseState.STUCK:
                await self._move_to_revoking(row.task, row.lease, "remit", _over(lease))
                await self._stuck(row, "target_unavailable")

    async def _begin(self, task_id: str, made_here: frozenset[str], *, claim: bool) -> None:
        now = self._clock()
        for lease in await self._live(task_id):
            if lease.ending and (due_at(lease) <= now or lease.id in made_here) and lease.id not in self._working:
                row = await self._store.lease(lease.id)
                if row is not None:
                    self._start(row, claim=claim)

    def _start(self, row: LeaseRow, *, claim: bool) -> asyncio.Task[bool]:
        working = self._working.get(row.lease)
        if working is None:
            doing = self._claim_and_try(row) if claim else self._try(row)
            working = self._working[row.lease] = asyncio.create_task(doing)
            working.add_done_callback(lambda _: self._working.pop(row.lease, None))
        return working

    async def _claimed(self, row: LeaseRow) -> None:
        await asyncio.wait([self._start(row, claim=True)])

    async def _claim_and_try(self, row: LeaseRow) -> bool:
        until = self._clock() + _CLAIM
        try:
            if not await self._store.claim_lease(row.lease, row.due_at, until):
                return False
            if await self._try(row):
                return True
            pause = timedelta(seconds=min(2 ** min(self._failures[row.lease], 10), _BACKOFF_SECONDS_MAX))
            await self._store.claim_lease(row.lease, until, self._clock() + pause)
        except Outage:
            pass  # of the store: the claim ends by itself
        return False

    async def _try(self, row: LeaseRow) -> bool:
        """One attempt; whether the lease is known to be gone. Never raises."""
        try:
            lease = await self._lease(row)
            if not lease.ending:
                if not lease.live or due_at(lease) > self._clock():
                    return not lease.live
                await self._move_to_revoking(row.task, row.lease, "remit", _over(lease))
            target = self._targets.get(row.target)
            if target is None:
                raise Outage(f"target {row.target} is not configured any more", code="target_unknown")
            there = await self._revoked(target, row, lease.expires_at)
            await self._record(row, LeaseRevoked(lease=row.lease, absent=not there))
        except Exception as error:
            await self._failed(row, error)
            return False
        self._failures.pop(row.target, None)
        self._failures.pop(row.lease, None)
        self._away.discard(row.target)
        return True

    async def _revoked(self, target: Target, row: LeaseRow, expires_at: datetime) -> bool:
        minted = None
        if row.sealed:
            try:
                minted = self._opened(row)
            except Outage:
                until = self._targets.lost_until(row.target, expires_at)
                if until is not None and self._clock() < until:
                    raise  # somebody has it, and nothing of ours can take it away
                _LOG.error("lease %s was sealed with other keys: it is revoked by its mark alone", row.lease)
        gate = self._open.setdefault(row.target, asyncio.Semaphore(self._targets.connections(row.target)))
        try:
            async with gate:
                if row.target in self._away:
                    raise Outage(f"target {row.target} is away", code=_LEFT_ALONE)
                async with asyncio.timeout(REVOKE_SECONDS):
                    return await target.revoke(self._targets.mark(row.lease), minted)
        except TimeoutError:
            raise Outage(f"target {row.target} did not answer in time", code="target_unavailable") from None

    async def _failed(self, row: LeaseRow, error: Exception) -> None:
        if isinstance(error, Outage) and error.code == _LEFT_ALONE:
            return
        self._failures[row.lease] += 1
        if isinstance(error, Outage) and error.code.startswith("target"):
            self._failures[row.target] += 1
            self._away.add(row.target)
        code = error.code if isinstance(error, RemitError) else "fault"
        if not isinstance(error, RemitError):
            _LOG.error("the driver of target %s has a fault: %s", row.target, type(error).__name__)
        try:
            lease = await self._lease(row)
            since = lease.ending_at
            if lease.state is LeaseState.REVOKING and since and (self._clock() - since).total_seconds() >= _STUCK_SECONDS:
                await self._stuck(row, code)
        except RemitError:
            return  # of the store: told at the next attempt

    async def _stuck(self, row: LeaseRow, code: str) -> None:
        await self._record(row, LeaseStuck(lease=row.lease, code=code))
        words = "lease %s of task %s still stands on target %s (%s); it is tried on. `remit doctor` checks the target"
        _LOG.error(words, row.lease, row.task, row.target, code)

    async def _move_to_revoking(self, task_id: str, lease_id: str, by: str, reason: str) -> None:
        with contextlib.suppress(Conflict):  # it has to go already, or is gone
            await record_lease(self._tasks, task_id, LeaseRevoking(lease=lease_id, by=by, reason=reason))

    async def _record(self, row: LeaseRow, body: LeaseRevoked | LeaseStuck) -> None:
        with contextlib.suppress(Conflict):  # another node was first
            await record_lease(self._tasks, row.task, body)

    async def _lease(self, row: LeaseRow) -> Lease:
        """As the ledger has it, at least as new as the row."""
        seen = LEASE_ORDER.index(LeaseState(row.state))
        task = await self._tasks.view_with(
            row.task, lambda task: row.lease in task.leases and LEASE_ORDER.index(task.leases[row.lease].state) >= seen
        )
        return task.leases[row.lease]

    async def _live(self, task_id: str) -> list[Lease]:
        return [lease for lease in (await self._tasks.view(task_id)).leases.values() if lease.live]

    def _forget(self, name: str, worker: asyncio.Task[None]) -> None:
        self._workers.pop(name, None)
        _heard(worker)


def _heard(done: asyncio.Task[None]) -> None:
    """An outage of the store is waited out; all else is a fault."""
    if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, Outage):
        _LOG.error("revoking has a fault of remit", exc_info=error)


def _over(lease: Lease) -> str:
    if lease.replaced_at is not None:
        return "another one came in its place"
    return "its time is over" if lease.issued_at else "its mint was never seen to end"

"""What follows behind an end or a suspension: the tasks below an ended one are ended too, credentials below a suspended one go, and
what a child did not spend goes back to its parent.

Rules: nothing here is what stops a call. From the moment an end, a suspension or a stop is durable, decisions below refuse by
themselves (``logic/authorize.py``, ``Append.given``); this only brings the records and the processes after it, in bounded batches,
any number of times, on any node, and after a restart where it was left. A child is settled once it and all below it have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import islice
from typing import TYPE_CHECKING

from remit.errors import Broken, Conflict, Outage, RemitError
from remit.logic.leases import exceeding
from remit.logic.tree import capped, purse_line, spent_in_all
from remit.model.delegation_record import TaskReturned
from remit.model.lease_record import LeaseRevoking
from remit.model.record import Body
from remit.model.task import Task, TaskState
from remit.services.lease_records import record_lease

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterator
    from datetime import datetime

    from remit.services.tasks import Tasks
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_BATCH = 500
_AT_ONCE = 50
_ROUNDS_MAX = 1_000
_SWEEP_SECONDS = 1.0


class Subtrees:
    """Follows ends downwards and lendings upwards."""

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self._store, self._tasks = store, tasks

    async def sweep(self) -> None:
        """Run until cancelled."""
        while True:
            with contextlib.suppress(Outage):  # tried again a moment later
                await self.follow()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def restore(self, agents: Collection[str], *, by: str, reason: str = "", declared: Collection[str] = ()) -> None:
        """Let stopped agents work again, after all that they were stopped in has ended. Raises Conflict, Outage."""
        await self.follow()
        await self._tasks.standing.restore(agents, by=by, reason=reason, declared=declared)

    async def follow(self) -> None:
        """Do all that there is to do now. Raises Outage."""
        for _ in range(_ROUNDS_MAX):
            done = await self._end_stopped() + await self._settle() + await self._take_leases()
            if not done:
                return

    async def narrowed(self, task_id: str) -> None:
        """Make leases below a task go that may do more than the grants above now say. Raises NotFound, Outage."""
        waiting = [task_id] if (await self._tasks.view(task_id)).requests else []
        while waiting:
            for child in await self._store.children(waiting.pop(), _BATCH):
                task = await self._tasks.view(child)
                if task.over:
                    continue
                for lease in exceeding(task, await self._tasks.ancestors(task)):
                    await self._taken(child, lease.id, "a task above was narrowed")
                waiting.append(child)

    async def _end_stopped(self) -> int:
        """End tasks of stopped agents."""
        await self._tasks.standing.read()
        stopped = self._tasks.standing.agents
        living = await self._store.living_tasks(sorted(stopped), _BATCH) if stopped else ()
        return await _together(self._ended(task, "its agent was stopped") for task in living)

    async def _settle(self) -> int:
        """End children of ended parents; give back what ended children did not spend."""
        found = await self._store.unsettled(_BATCH)
        return await _together(
            self._returned(one.task, one.parent) if one.ended else self._ended(one.task, f"task {one.parent}, which delegated, has ended")
            for one in found
        )

    async def _take_leases(self) -> int:
        """Make leases go below suspended tasks: nothing is called there. After a resume they are minted again, at first need."""
        found = await self._store.leases_below_suspended(_BATCH)
        return await _together(self._taken(row.task, row.lease, "a task above is suspended") for row in found)

    async def _taken(self, task: str, lease: str, reason: str) -> bool:
        try:
            await record_lease(self._tasks, task, LeaseRevoking(lease=lease, by="remit", reason=reason))
        except Conflict:  # it has to go already, or is gone
            return False
        except Broken as error:
            _LOG.error("lease %s of task %s cannot be revoked: %s", lease, task, error.message)
            return False
        return True

    async def _ended(self, task: str, reason: str) -> bool:
        try:
            await self._tasks.end(task, TaskState.REVOKED, by="remit", reason=reason)
        except Broken as error:  # one damaged task does not keep the others alive
            _LOG.error("task %s cannot be ended: %s", task, error.message)
            return False
        return True

    async def _returned(self, child_id: str, parent_id: str) -> bool:
        """Settle one child; not yet where children of its own are not."""
        try:
            child = await self._tasks.view_with(child_id, lambda task: task.over and not task.children)
            if not child.over or child.children:
                return False
            await self._tasks.view_with(parent_id, lambda task: child_id in task.children)

            def build(parent: Task, _now: datetime) -> tuple[Body, None]:
                if child_id not in parent.children:
                    raise _SettledError
                return TaskReturned(child=child_id, spent=purse_line(capped(spent_in_all(child), parent.children[child_id]))), None

            await self._tasks.change(parent_id, build)
        except _SettledError:
            return False
        except Outage:
            raise
        except RemitError as error:
            _LOG.error("what task %s was lent does not go back: %s", child_id, error.message)
            return False
        return True


async def _together(work: Iterator[Coroutine[None, None, bool]]) -> int:
    """Do so much at once that it shares transactions; how much was done. Raises Outage."""
    done = 0
    while some := list(islice(work, _AT_ONCE)):
        done += sum(await asyncio.gather(*some))
    return done


class _SettledError(Exception):
    """Leaves a build that has nothing to do."""

"""Replaces credentials by age (``rotate_after`` of a target), as they are used: a request that finds one too old goes on with it, and the
next ones have its successor.

Rules: nobody waits. What cannot be replaced is used on, and tried again a minute later; the quotas of a task count every credential it
ever had. A credential that nobody uses is not replaced: it goes with its task.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import RemitError
from remit.logic.leases import exceeding, in_use

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.model.lease import Lease
    from remit.services.leases import Leases
    from remit.services.targets import Targets
    from remit.services.tasks import Tasks

_AGAIN = timedelta(seconds=60)
_TIRED_MAX = 1_000
_LOG = logging.getLogger("remit")


class LeaseRotation:
    """Of one node."""

    def __init__(self, tasks: Tasks, leases: Leases, targets: Targets, clock: Callable[[], datetime]) -> None:
        self._tasks, self._leases, self._targets, self._clock = tasks, leases, targets, clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._tired: dict[str, datetime] = {}  # not before then once more

    async def in_use(self, task_id: str) -> frozenset[str]:
        """Ids of the leases whose credentials a task is to use now: none that may do more than is granted now. Raises NotFound, Outage."""
        task = await self._tasks.view(task_id)
        wide = exceeding(task, await self._tasks.ancestors(task))
        leases = tuple(lease for lease in in_use(task) if lease not in wide)
        for lease in leases:
            if self._is_old(lease) and lease.id not in self._under_way:
                rotating = self._under_way[lease.id] = asyncio.create_task(self._rotate(lease))
                rotating.add_done_callback(functools.partial(self._done, lease.id))
        return frozenset(lease.id for lease in leases)

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(set(self._under_way.values()))

    def _done(self, lease_id: str, _: asyncio.Task[None]) -> None:
        self._under_way.pop(lease_id, None)

    def _is_old(self, lease: Lease) -> bool:
        after = self._targets.rotate_after(lease.target)
        if not after or lease.issued_at is None:
            return False
        now = self._clock()
        return now >= lease.issued_at + after and now >= self._tired.get(lease.id, now)

    async def _rotate(self, lease: Lease) -> None:
        try:
            await self._leases.rotate(lease.id, "remit")
        except RemitError as error:
            _LOG.warning("lease %s on target %s is old and was not replaced: %s", lease.id, lease.target, error.message)
            self._tired[lease.id] = self._clock() + _AGAIN
            if len(self._tired) > _TIRED_MAX:
                self._tired.pop(next(iter(self._tired)))
        else:
            self._tired.pop(lease.id, None)

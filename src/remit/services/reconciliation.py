"""Compares what stands on the targets with what we know of, both ways, and settles the difference.

Rules
* On a target, with a mark of ours, and no lease accounts for it: an old backup, say. It is removed, under a record. An intent is
  durable before its mark can appear, so a mark that was seen before our memory was asked has no excuse.
* In our memory issued and not on the target: somebody else removed it. The lease is revoked, so that nobody leans on it.
* A target that keeps no list (``TargetKind.lists``) has nothing to compare.
* What has to go and is due much later than any pause of ours: the clock was set back. It is due now.
* At the start of a node, every ten minutes, and when the clock goes back; a target alone when it may have crashed (``ForgetsInCrashes``).
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.drivers.targets.base import ForgetsInCrashes
from remit.errors import NotFound, Outage, RemitError
from remit.logic.records import encode
from remit.model.lease import MINT_WINDOW, LeaseState
from remit.model.lease_record import LeaseSwept
from remit.model.record import Record
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from remit.drivers.targets.base import Target
    from remit.services.revocations import Revocations
    from remit.services.targets import Targets
    from remit.store.database import LeaseRow, Store

_LOG = logging.getLogger("remit")
_LOOK_SECONDS = 5.0
_EVERY_LOOKS = 120
_PAGE = 500
_LATEST = 3 * MINT_WINDOW  # no pause of a revocation is longer
_BACK = timedelta(seconds=1)
_LIST_SECONDS = 60.0
_GOES = frozenset({LeaseState.REVOKING, LeaseState.STUCK})


class Reconciliation:
    """Of one node."""

    def __init__(self, store: Store, targets: Targets, revocations: Revocations, clock: Callable[[], datetime]) -> None:
        self._store, self._targets, self._revocations, self._clock = store, targets, revocations, clock
        self._interrupted: set[str] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        looks, before = 0, self._clock()
        while True:
            now = self._clock()
            if looks % _EVERY_LOOKS == 0 or now < before - _BACK:
                await self.all_targets()
            await self.interrupted()
            looks, before = looks + 1, now
            await asyncio.sleep(_LOOK_SECONDS)

    async def interrupted(self) -> None:
        """Targets that may have crashed, as soon as they are back."""
        for name in self._targets.names():
            target: object = self._targets.get(name)
            if isinstance(target, ForgetsInCrashes) and await target.interrupted():
                self._interrupted.add(name)
        again = sorted(self._interrupted)
        results = await asyncio.gather(*(self.target(name) for name in again), return_exceptions=True)
        for name, result in zip(again, results, strict=True):
            if not isinstance(result, Outage):  # it is not back yet
                self._interrupted.discard(name)
                _tell(result)

    async def all_targets(self) -> None:
        """Each target once, side by side. What is away is looked at another time."""
        for result in await asyncio.gather(*(self.target(name) for name in self._targets.names()), return_exceptions=True):
            _tell(result)

    async def target(self, name: str) -> int:
        """One target; how many marks were removed that no lease accounts for. Raises Outage, Mistake (of the target)."""
        target = self._targets.get(name)
        if target is None:
            return 0
        if self._targets.stands(name) or not self._targets.lists(name):  # what is not listed is not thereby gone
            await self._bring_forward(name)
            if not self._targets.stands(name):
                await _listed(target, self._targets.prefix)  # it looks after what it keeps, a list of what was revoked, say
            return 0
        issued = [row async for row in self._live(name) if row.state == LeaseState.ISSUED]
        there = await _listed(target, self._targets.prefix)
        for row in issued:
            if self._targets.mark(row.lease) not in there:
                try:
                    await self._revocations.revoke(row.lease, "remit", "it is gone from its target")
                except NotFound:
                    continue
        suspects = [mark for mark in sorted(there) if not await self._accounted(mark)]
        removed = 0
        if suspects:
            still = await _listed(target, self._targets.prefix)  # one that was revoked while we looked is none
            for mark in suspects:
                if mark in still:
                    await self._remove(name, target, mark)
                    removed += 1
        await self._bring_forward(name)
        return removed

    async def _remove(self, name: str, target: Target, mark: str) -> None:
        record = Record(at=self._clock(), body=LeaseSwept(target=name, mark=mark))
        await self._store.append(Append(body=encode(record)))
        _LOG.warning("target %s has credential %s, which no lease accounts for: it is removed", name, mark)
        async with asyncio.timeout(_LIST_SECONDS):
            await target.revoke(mark)

    async def _accounted(self, mark: str) -> bool:
        row = await self._store.lease(self._targets.lease(mark))
        return row is not None and row.state != LeaseState.REVOKED

    async def _bring_forward(self, name: str) -> None:
        now = self._clock()
        async for row in self._live(name):
            if row.state in _GOES and row.due_at > now + _LATEST:
                await self._store.claim_lease(row.lease, row.due_at, now)

    async def _live(self, name: str) -> AsyncIterator[LeaseRow]:
        after = ""
        while page := await self._store.live_leases(name, after, _PAGE):
            for row in page:
                yield row
            after = page[-1].lease


def _tell(result: int | BaseException) -> None:
    if isinstance(result, RemitError):
        _LOG.warning("targets and leases could not be compared: %s", result.message)
    elif isinstance(result, BaseException):
        _LOG.error("comparing targets and leases has a fault", exc_info=result)


async def _listed(target: Target, prefix: str) -> frozenset[str]:
    try:
        async with asyncio.timeout(_LIST_SECONDS):
            return await target.list_ours(prefix)
    except TimeoutError:
        raise Outage("a target does not list its credentials in time", code="target_unavailable") from None

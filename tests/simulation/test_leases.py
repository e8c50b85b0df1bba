"""Every credential that was ever on a target is gone in the end, whatever happened meanwhile (invariant 2).

Every run is a number; ``REMIT_LEASE_SEED=123`` runs that one. ``REMIT_LEASE_SEEDS``: how many, from 0 (30 where it is not set).
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from datetime import timedelta
from functools import lru_cache

import pytest

from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked
from remit.services.leases import Leases
from remit.services.revocations import Revocations
from remit.services.subtrees import Subtrees
from remit.services.tasks import Tasks
from tests.simulation.leases import Count, LeaseParts, simulate_late_mint, simulate_leases

ONE = os.environ.get("REMIT_LEASE_SEED", "")
SEEDS = [int(ONE)] if ONE else list(range(int(os.environ.get("REMIT_LEASE_SEEDS", "30"))))
MUTANT_SEEDS = 100


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # alarms by the hundred are what is wanted here


@lru_cache(maxsize=64)
def simulated(seed: int) -> Count:
    return simulate_leases(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_credential_is_left(seed):
    count = simulated(seed)
    assert not count.wrong, str(count)


@pytest.mark.skipif(bool(ONE), reason="one seed does not see everything")
def test_the_storm_is_one():
    """What is to be survived does happen; and the count of orphans, printed with ``-s``."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        seen += simulated(seed).counts
    for what in (
        "given",
        "LeaseIssued",
        "LeaseRevoked",
        "LeaseStuck",
        "LeaseSwept",
        "crash",
        "down",
        "clock",
        "delegates",
        "rotated",
        "refused: target_unavailable",
    ):
        assert seen[what] > 0, (what, seen)
    print(f"{seen['LeaseIntended']} leases, {seen['crash']} crashes, {seen['orphans after reconciliation']} orphaned credentials")
    assert seen["orphans after reconciliation"] == 0


class MintsFirst(Leases):
    """Touches the target before the intent is durable."""

    async def _intended(self, task, terms, replaces, by):
        lease_id = self._new_lease()
        target = self._targets.get(terms.target)
        await target.mint(self._targets.mark(lease_id), {}, task.deadline)
        kept, self._new_lease = self._new_lease, lambda: lease_id
        try:
            return await super()._intended(task, terms, replaces, by)
        finally:
            self._new_lease = kept


class BelievesItself(Revocations):
    """Records that a lease is gone before the target has said so."""

    async def _revoked(self, target, row):
        await self._record(row, LeaseRevoked(lease=row.lease))
        return await super()._revoked(target, row)


class ForgetsThoseBelow(Subtrees):
    """Leaves credentials standing below suspended tasks."""

    async def _take_leases(self):
        return 0


class LooksAtItselfAlone(Tasks):
    """Mints on what is remembered of the tasks above."""

    def _given(self, task, body):
        return () if isinstance(body, LeaseIntended | LeaseIssued) else super()._given(task, body)


MUTANTS = [
    (LeaseParts(leases=MintsFirst), "before its intent was durable"),
    (LeaseParts(revocations=BelievesItself), "orphan"),
    (LeaseParts(sweeps=False), "orphan"),
    (LeaseParts(subtrees=ForgetsThoseBelow), "stands below"),
    (LeaseParts(tasks=LooksAtItselfAlone), "came below"),
]


NAMES = ["mints first", "believes itself", "does not sweep", "forgets those below", "looks at itself alone"]


@pytest.mark.skipif(bool(ONE), reason="of all seeds")
@pytest.mark.parametrize(("parts", "words"), MUTANTS, ids=NAMES)
def test_what_is_wrong_is_found(parts, words):
    assert shows(words, parts)


@pytest.mark.skipif(bool(ONE), reason="of all seeds")
@pytest.mark.parametrize(
    ("name", "worse", "words", "known"),
    [
        ("remit.logic.leases.ROTATION_GRACE", timedelta(days=1), "another one came in its place", 83),
        ("remit.services.leases.in_use", lambda task: tuple(task.leases.values()), "which is not in use", 13),
    ],
    ids=["keeps what was replaced", "replaces what has gone"],
)
def test_a_wrong_rotation_is_found(monkeypatch, name, worse, words, known):
    monkeypatch.setattr(name, worse)
    assert shows(words, LeaseParts(), known)


def shows(words: str, parts: LeaseParts, known: int = 0) -> bool:
    """Whether some seed finds it, for the right reason. ``known``: one that did, and is tried before the others."""
    return any(words in line for seed in (known, *range(MUTANT_SEEDS)) for line in simulate_leases(seed, parts).wrong)


def test_a_mint_that_is_under_way_is_waited_for(monkeypatch):
    """Its sender is gone, its task has ended, and then it arrives. Without the window it would have been settled before."""
    assert simulate_late_mint() == (1, 0)
    monkeypatch.setattr("remit.logic.leases.MINT_WINDOW", timedelta(0))
    assert simulate_late_mint() == (1, 1)

"""Nothing that happens, in whatever order and with whatever fault, breaks an invariant of the design (§5).

Every run is a number. A failing one prints it with its last steps; to see it again, and nothing else:

    REMIT_SIMULATION_SEED=123 python -m pytest tests/simulation/test_simulation.py

``REMIT_SIMULATION_SEEDS`` is how many seeds are run, from 0: 40 where it is not set (some 15 seconds), 5,000 before a release.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from functools import lru_cache

import pytest

from remit.errors import RemitError
from remit.model.task import TaskState
from remit.services.mediation import Ticket
from tests.simulation.simulation import Outcome, simulate
from tests.support import World, call, grant

ONE = os.environ.get("REMIT_SIMULATION_SEED", "")
SEEDS = [int(ONE)] if ONE else list(range(int(os.environ.get("REMIT_SIMULATION_SEEDS", "40"))))


@lru_cache(maxsize=64)
def simulated(seed: int) -> Outcome:
    return simulate(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold(seed):
    outcome = simulated(seed)
    assert not outcome.wrong, str(outcome)


@pytest.mark.skipif(bool(ONE), reason="one seed does not see everything")
def test_the_storm_is_one():
    """What is to be survived does happen: else the test above says nothing."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        outcome = simulated(seed)
        seen += outcome.history.counts
        seen["effects"] += len(outcome.history.effects)
        seen["by approval"] += sum(told.outcome == "allow" and bool(told.approval) for told in outcome.history.told)
        seen["tokens accepted"] += len(outcome.history.verified)
        seen.update(
            word for step in outcome.trace for word in ("before the commit", "after the commit", "is told of its commit") if word in step
        )
    for what in (
        "effects",
        "by approval",
        "tokens accepted",
        "told ask",
        "told deny",
        "crashed",
        "cancelled",
        "ends",
        "changes",
        "refused: unavailable",
        "refused: self_approval",
        "before the commit",
        "after the commit",
        "is told of its commit",
    ):
        assert seen[what] >= 5, what


def test_a_seed_is_the_same_run_again():
    first, again = simulate(7), simulate(7)
    assert first.trace == again.trace
    assert first.ledger.count(b"\n") == again.ledger.count(b"\n") > 20


def test_real_threads_do_not_overspend(tmp_path):
    """Without gates: three processes' worth of threads on one file race for the last calls and the last uses."""

    async def race() -> tuple[int, int]:
        worlds = [World(tmp_path / "remit.db")]
        worlds += [worlds[0].beside(), worlds[0].beside()]
        task = await worlds[0].open(grant(uses=3), grant("mail/read"), budget_calls=8)
        wanted = [call(to="bob", amount=5), call("mail/read"), call(to="bob", amount=6)] * 4
        answers = await asyncio.gather(
            *(world.mediation.authorize(world.bearer(task), one) for world in worlds for one in wanted), return_exceptions=True
        )
        assert all(not isinstance(answer, BaseException) or isinstance(answer, RemitError) for answer in answers)
        tickets = [answer for answer in answers if isinstance(answer, Ticket)]
        ended = await worlds[1].tasks.end(task.id, TaskState.COMPLETED, by="operator")
        for world in worlds:
            await world.close()
        assert ended.calls >= len(tickets)
        return ended.calls, ended.uses[0]

    calls, pays = asyncio.run(race())
    assert 0 < calls <= 8
    assert pays <= 3

"""A watched task type remembers what its tasks did: from the ledger, in every process, and only from what was completed."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.logic.behaviour import TASKS_MIN
from remit.logic.records import decode
from remit.model.call import Ending
from remit.model.call_record import CallDecided
from remit.model.record import SumLine
from remit.model.task import TaskState
from remit.services.mediation import Ticket
from tests.support import World, call, rulebook

pytestmark = pytest.mark.anyio
POLICY = 'permit (principal, action, resource);\nforbid (principal, action, resource) when { context.signals.contains("new_order") };'
SUMS = [SumLine(name="money", tool="bank/pay", argument="/amount", maximum="10000")]
READ, PAY = call("mail/read", folder="in"), call(to="bob", amount=10)


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def run(world: World, *calls, ended=TaskState.COMPLETED, watched=True):
    """One task that makes these calls: what was found unusual of each, and how each was decided."""
    task = await world.open(watched=watched, sums=SUMS)
    found = []
    for one in calls:
        answer = await world.mediation.authorize(world.bearer(task), one)
        if isinstance(answer, Ticket):
            await world.mediation.observe(answer, Ending.OK, {})
        decided = [body for entry in await world.store.task_entries(task.id) if isinstance(body := decode(entry.body).body, CallDecided)]
        found.append((decided[-1].outcome, *decided[-1].signals))
    await world.tasks.end(task.id, ended, by="operator")
    await world.behaviour.ended(task.id)
    return found


async def test_what_is_unlike_the_past_is_told(tmp_path: Path):
    world = World(tmp_path / "remit.db", rules=rulebook(POLICY))
    for _ in range(TASKS_MIN):
        assert await run(world, READ, PAY) == [("allow",), ("allow",)]
    other = world.beside()
    for each in (world, other):
        assert await run(each, READ, PAY, ended=TaskState.REVOKED) == [("allow",), ("allow",)]
        assert await run(each, PAY, ended=TaskState.REVOKED) == [("deny", "new_order")]
        assert await run(each, READ, call(to="eve", amount=14), ended=TaskState.REVOKED) == [("allow",), ("allow", "new_resource")]
        assert await run(each, READ, call(to="bob", amount=16), ended=TaskState.REVOKED) == [
            ("allow",),
            ("allow", "new_resource", "unusual_amount"),
        ]
    assert await run(world, PAY, watched=False) == [("allow",)]
    await other.close()
    await world.close()


async def test_what_was_ended_by_a_person_does_not_become_usual_and_what_was_completed_does(tmp_path: Path):
    world = World(tmp_path / "remit.db", rules=rulebook("permit (principal, action, resource);"))
    for _ in range(TASKS_MIN):
        await run(world, READ)
    for _ in range(3):
        assert await run(world, PAY, ended=TaskState.REVOKED) == [("allow", "new_tool", "new_resource", "unusual_amount")]
    await run(world, PAY)
    assert await run(world, PAY) == [("allow",)]
    await world.close()


async def test_a_young_type_has_no_past_to_be_unlike(tmp_path: Path):
    world = World(tmp_path / "remit.db", rules=rulebook(POLICY))
    await run(world, READ)
    assert await run(world, PAY, READ) == [("allow",), ("allow",)]
    await world.close()

"""Permits that programs are given run out: an end that is told later says so in the ledger, whichever process it is told to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.logic.records import decode
from remit.model.call import Ending
from remit.model.call_record import CallFinished
from remit.services.mediation import Ticket
from remit.services.tickets import Tickets
from tests.support import World, call

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def tickets(world: World) -> Tickets:
    return Tickets(
        world.mediation,
        world.tasks,
        world.store,
        world.clock,
        lambda: world.rules,
        lambda: (),
        permit_ttl=timedelta(seconds=60),
        kept_max=10,
    )


@pytest.mark.parametrize(("seconds", "late"), [(59, False), (60, True), (300, True)])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_end_told_after_the_permit_ran_out_is_recorded_as_late(tmp_path, seconds, late, elsewhere):
    world = World(tmp_path / "remit.db")
    other = world.beside()
    task, here = await world.open(), tickets(world)
    answer = await here.decide(world.bearer(task), call("mail/read"))
    assert isinstance(answer.verdict, Ticket)
    assert answer.expires_at == world.clock() + timedelta(seconds=60)
    world.clock.now += timedelta(seconds=seconds)
    told = tickets(other) if elsewhere else here
    await told.observe(world.bearer(task), answer.verdict.decision_id, Ending.OK, {"text": "account-1234567"}, arguments={})
    for each in (world, other):
        await each.tasks.settle()
    (ending,) = [body for entry in await world.store.task_entries(task.id) if isinstance(body := decode(entry.body).body, CallFinished)]
    assert (ending.late, ending.ending) == (late, "ok")
    assert ending.size > 0
    assert ending.learnt, "what a late call read is read"
    await other.close()
    await world.close()

"""What a person approved counts afterwards, by choice of the grant: only what stood before them, only of that very call, on any node."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from remit.logic.approvals import Wish
from remit.logic.records import decode
from remit.model.call import Ending
from remit.model.call_record import CallDecided
from remit.services.mediation import Refused, Ticket
from tests.integration.test_context import ENTRIES, LINES, TOOLS, made
from tests.support import World, call, grant, rulebook

pytestmark = pytest.mark.anyio
POLICY = """permit (principal, action, resource);
@id("asks") forbid (principal, action == Action::"notes/pay", resource)
unless { context.selectors.trusted || context has approval };"""
TELLING = tuple(replace(line, approved_values=True) for line in LINES)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def world(tmp_path):
    running = World(tmp_path / "remit.db", rules=rulebook(POLICY, tools=TOOLS, entries=ENTRIES))
    yield running
    await running.close()


async def opened(world, *lines, **changes):
    return await world.open(*(lines or TELLING), tools={tool.id: tool.digest for tool in TOOLS}, budget_calls=50, **changes)


async def pays(world, task, to, amount=1) -> bool:
    answer = await world.mediation.authorize(world.bearer(task), call("notes/pay", to=to, amount=amount))
    assert isinstance(answer, Ticket | Refused)
    return isinstance(answer, Ticket)


async def approved(world, task, to, amount=1, wish=None) -> Ticket:
    """Ask, have it approved by a person who was shown it, and call."""
    wanted = call("notes/pay", to=to, amount=amount)
    asked = await world.mediation.authorize(world.bearer(task), wanted)
    assert isinstance(asked, Refused), asked
    assert asked.approval_id is not None
    await world.approvals.answer(world.approvals.at_terminal("local:carol"), asked.approval_id, granted=True, wish=wish)
    answer = await world.mediation.authorize(world.bearer(task), wanted)
    assert isinstance(answer, Ticket), answer
    await world.mediation.observe(answer, Ending.OK, {})
    return answer


async def test_what_was_approved_is_trusted_in_later_calls_also_after_a_stranger_named_it(world):
    task = await opened(world)
    await made(world, task, "find", {"body": "pay account-666"}, words="bills")
    assert not await pays(world, task, "account-666")
    await approved(world, task, "account-666")
    assert await pays(world, task, "account-666", amount=7)
    assert not await pays(world, task, "account-667")
    beside = world.beside()
    assert await pays(beside, task, "account-666", amount=8), "another node knows it too"
    await beside.close()
    records = [record.body async for record in decided_of(world, task)]
    assert [body.learnt for body in records if body.name == "pay" and body.outcome == "allow"] == [True, False, False]
    told = {line.kind: line for line in records[-1].sources}
    assert (told["approval"].name, told["approval"].field, told["approval"].trusted) == ("notes/pay", "/to", True)
    assert "account-666" not in json.dumps([str(body) for body in records])


async def decided_of(world, task):
    for entry in await world.store.task_entries(task.id):
        record = decode(entry.body)
        if isinstance(record.body, CallDecided):
            yield record


async def test_without_the_choice_an_approval_opens_one_call_and_no_more(world):
    task = await opened(world, *LINES)
    await approved(world, task, "account-666")
    assert not await pays(world, task, "account-666", amount=7)


async def test_of_a_class_of_calls_nobody_saw_the_values(world):
    task = await opened(world)
    await approved(world, task, "account-666", wish=Wish(calls=2, lasts=timedelta(minutes=1), free=("amount",)))
    assert await pays(world, task, "account-666", amount=2), "the second use of the class"
    assert not await pays(world, task, "account-666", amount=3)


async def test_an_answer_that_was_given_blindly_vouches_for_nothing(world):
    """The details of the question were lost: whoever said yes had a digest before them."""
    task = await opened(world)
    asked = await world.mediation.authorize(world.bearer(task), call("notes/pay", to="account-666", amount=1))
    assert isinstance(asked, Refused)
    await world.store.drop_document(f"question/{asked.approval_id}")
    await world.approvals.answer(world.approvals.at_terminal("local:carol"), asked.approval_id, granted=True)
    assert await pays(world, task, "account-666")
    assert not await pays(world, task, "account-666", amount=2)


@pytest.mark.parametrize("to", ["a" * 601, "account\u200b-666", "x" * 700 + "account-666"])
async def test_a_value_that_was_cut_or_rewritten_for_the_approver_is_not_vouched_for(world, to):
    task = await opened(world)
    await approved(world, task, to)
    assert not await pays(world, task, to, amount=2)


async def test_short_numbers_are_not_vouched_for_wherever_they_stand(world):
    task = await opened(world)
    await approved(world, task, "account-666", amount=12)
    assert not await pays(world, task, "12")


async def test_only_the_whole_value_is_vouched_for(world):
    task = await opened(world)
    await approved(world, task, "account-666 and account-777")
    assert not await pays(world, task, "account-777")


async def test_two_calls_at_once_after_one_approval(world):
    """The approval opens one of them; what it vouches for is learnt once, and the other call is decided with or without it."""
    task = await opened(world)
    wanted = call("notes/pay", to="account-666", amount=1)
    asked = await world.mediation.authorize(world.bearer(task), wanted)
    assert isinstance(asked, Refused)
    await world.approvals.answer(world.approvals.at_terminal("local:carol"), asked.approval_id, granted=True)
    beside = world.beside()
    await asyncio.gather(*(each.mediation.authorize(each.bearer(task), wanted) for each in (world, beside) for _ in range(3)))
    view = await world.tasks.view_with(task.id, lambda known: known.calls > 0)
    assert view.results == 1
    assert view.approvals[asked.approval_id].uses == 1
    assert await pays(world, task, "account-666", amount=9)
    await beside.close()


async def test_a_grant_may_demand_it(world):
    line = grant("notes/pay", '{"properties":{"to":{"origin":["task","approval"]}}}')
    task = await opened(world, replace(line, approved_values=True), *(one for one in TELLING if one.name != "pay"))
    await approved(world, task, "account-666")
    assert await pays(world, task, "account-666", amount=4)
    assert not await pays(world, task, "account-7777", amount=4)

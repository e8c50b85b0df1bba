"""Preauthorized reads: one decision permits others of its class for some seconds, until anything else happens in the task."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.logic.records import decode
from remit.model.call import Ending
from remit.model.call_record import CallDecided, LabelsRaised
from remit.model.decision import Code
from remit.model.labels import Labels
from remit.model.task import TaskState
from remit.services.mediation import Refused, Ticket
from tests.integration.test_context import ENTRIES, LINES, TOOLS
from tests.support import World, call, rulebook

pytestmark = pytest.mark.anyio
BY_TIME = 'permit (principal, action, resource) when { context.now < datetime("2100-01-01") };'


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def world(tmp_path):
    running = World(tmp_path / "remit.db", rules=rulebook(BY_TIME, tools=TOOLS, entries=ENTRIES))
    yield running
    await running.close()


async def opened(world, seconds=5, **changes):
    tools = {tool.id: tool.digest for tool in TOOLS}
    return await world.open(*LINES, tools=tools, budget_calls=50, preauthorized_seconds=seconds, **changes)


async def reads(world, task, path, tool="notes/read", result=None) -> str:
    """Read, and say by which reason it was allowed."""
    ticket = await world.mediation.authorize(world.bearer(task), call(tool, path=path) if tool == "notes/read" else call(tool))
    assert isinstance(ticket, Ticket), ticket
    await world.mediation.observe(ticket, Ending.OK, result if result is not None else {})
    await world.tasks.settle()
    return ticket.decision.reasons[0].code


async def test_others_of_its_class_lean_on_it_and_each_is_recorded_before_it_is_made(world):
    task = await opened(world)
    assert await reads(world, task, "/a") == Code.PERMITTED
    assert [await reads(world, task, path) for path in ("/b", "/c")] == [Code.PREAUTHORIZED] * 2
    bodies = [decode(entry.body).body for entry in await world.store.task_entries(task.id)]
    decided = [body for body in bodies if isinstance(body, CallDecided)]
    assert [body.leans_on for body in decided] == ["", decided[0].decision, decided[0].decision]
    assert (decided[0].preauthorizes, len({body.arguments_digest for body in decided})) == (5, 3)


async def test_the_while_is_short_and_is_not_renewed_by_its_use(world):
    task = await opened(world)
    await reads(world, task, "/a")
    world.clock.now += timedelta(seconds=4)
    assert await reads(world, task, "/b") == Code.PREAUTHORIZED
    world.clock.now += timedelta(seconds=1)
    assert await reads(world, task, "/c") == Code.PERMITTED


async def test_only_where_the_task_type_says_so(world):
    task = await opened(world, seconds=0)
    assert [await reads(world, task, path) for path in ("/a", "/b")] == [Code.PERMITTED] * 2


async def another_call(world, task):
    await reads(world, task, "", tool="notes/list")


async def suspended_and_back(world, task):
    await world.tasks.move(task.id, TaskState.SUSPENDED, by="carol")
    await world.tasks.move(task.id, TaskState.ACTIVE, by="carol")


async def labels_raised(world, task):
    """By a read that is under way: what comes back of it is a stranger's."""
    ticket = await world.mediation.authorize(world.bearer(task), call("notes/read", path="/x"))
    assert isinstance(ticket, Ticket)
    await world.tasks.change(task.id, lambda _task, _now: (_raised(ticket.decision_id), None))


def _raised(decision):
    return LabelsRaised(decision=decision, untrusted=True)


async def not_made(world, task):
    ticket = await world.mediation.authorize(world.bearer(task), call("notes/read", path="/x"))
    await world.mediation.observe(ticket, Ending.NOT_MADE)
    await world.tasks.settle()


async def declassified(world, task):
    await world.tasks.lower(task.id, Labels(0, untrusted=False), by="carol", reason="looked at it")


async def policy_changed(world, task):
    world.rules = rulebook(BY_TIME + "\n// another set\n", tools=TOOLS, entries=ENTRIES)


@pytest.mark.parametrize("happens", [another_call, suspended_and_back, labels_raised, not_made, declassified, policy_changed])
async def test_whatever_else_happens_voids_it(world, happens):
    task = await opened(world)
    await reads(world, task, "/a")
    assert await reads(world, task, "/b") == Code.PREAUTHORIZED
    await happens(world, task)
    assert await reads(world, task, "/c") == Code.PERMITTED


@pytest.mark.parametrize(
    "policy",
    [
        BY_TIME
        + 'forbid (principal, action == Action::"notes/read", resource) when { context.arguments has path && context has approval };',
        BY_TIME + 'forbid (principal, action in Action::"read", resource) when { !context.selectors.known && context.untrusted };',
        BY_TIME + "forbid (principal, action, resource) when { context has preauthorized };",
        BY_TIME + "forbid (principal, action, resource) when { context has preauthorized && context.preauthorized.seconds > 4 };",
    ],
)
async def test_policies_that_look_at_the_call_or_refuse_the_class_decide_every_call(world, policy):
    world.rules = rulebook(policy, tools=TOOLS, entries=ENTRIES)
    task = await opened(world)
    assert [await reads(world, task, path) for path in ("/a", "/b")] == [Code.PERMITTED] * 2


async def test_budgets_and_deadline_are_those_of_each_call(world):
    task = await world.open(*LINES, tools={tool.id: tool.digest for tool in TOOLS}, budget_calls=2, preauthorized_seconds=60)
    await reads(world, task, "/a")
    assert await reads(world, task, "/b") == Code.PREAUTHORIZED
    refused = await world.mediation.authorize(world.bearer(task), call("notes/read", path="/c"))
    assert isinstance(refused, Refused)
    assert [reason.code for reason in refused.decision.reasons] == [Code.BUDGET_EXHAUSTED]


async def test_what_changes_something_is_never_preauthorized(world):
    task = await opened(world)
    for number in range(2):
        ticket = await world.mediation.authorize(world.bearer(task), call("notes/write", path=f"/{number}", text="x"))
        assert isinstance(ticket, Ticket)
        assert ticket.decision.reasons[0].code == Code.PERMITTED

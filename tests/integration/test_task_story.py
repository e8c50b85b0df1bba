"""The page of a task costs what it shows, however long the task is, and tells what was recorded since by whomever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from remit.errors import NotFound
from remit.model.call import Ending
from remit.model.task import TaskState
from remit.services.mediation import Ticket
from remit.services.task_story import TaskStories
from tests.support import World, call

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
CALLS = 220  # two records each


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path / "remit.db")
    yield made
    await made.close()


async def test_a_part_is_read_from_its_own_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await world.open(budget_calls=1_000)
    late = await world.mediation.authorize(world.bearer(task), call("bank/pay", to="bob", amount=5))
    for _ in range(CALLS):
        ticket = await world.mediation.authorize(world.bearer(task), call("mail/read"))
        assert isinstance(ticket, Ticket)
        await world.mediation.observe(ticket, Ending.OK, {"letter": "hello"})
    await world.mediation.observe(late, Ending.OK, {})
    await world.tasks.settle()
    stories = TaskStories(world.store, world.tasks, world.ledger, lambda: world.rules, world.clock)
    latest = await stories.of(task.id)
    assert (latest.steps_all, latest.first, latest.earlier, latest.later) == (CALLS + 3, CALLS + 3 - 50, CALLS + 3 - 100, None)
    assert (latest.task.calls, len(latest.steps)) == (CALLS + 1, 50)

    read = []

    async def task_entries(*args: Any) -> Any:
        found = await real(*args)
        read.extend(found)
        return found

    real = world.store.task_entries
    monkeypatch.setattr(world.store, "task_entries", task_entries)
    first = await stories.of(task.id, 0)
    assert len(read) <= 210, "a page of fifty steps is told from the records of their parts"
    assert [step.title for step in first.steps[:4]] == ["opened", "active", "bank/pay", "mail/read"]
    assert first.steps[2].end.startswith("ok"), "its end was recorded two hundred steps later"
    assert [step.raised for step in first.steps[:6]] == [False, False, True, True, False, False]
    assert all(step.labels.untrusted for step in first.steps[3:])
    middle = await stories.of(task.id, 75)
    assert [step.seq for step in middle.steps[:3]] == [step.seq for step in (await stories.of(task.id, 50)).steps[25:28]]
    assert await stories.of(task.id, 10_000) == await stories.of(task.id, CALLS + 2)

    other = world.beside()
    await other.tasks.move(task.id, TaskState.COMPLETED, by="carol")
    read.clear()
    over = await stories.of(task.id)
    assert len(read) <= 210
    assert over.steps[-1].title == "completed"
    assert over.receipt is not None
    assert (over.receipt.allowed, over.receipt.undetermined) == (CALLS + 1, 0)
    await other.close()


async def test_what_is_not_there_is_not_kept(world: World) -> None:
    stories = TaskStories(world.store, world.tasks, world.ledger, lambda: world.rules, world.clock)
    with pytest.raises(NotFound):
        await stories.of("task_none")
    task = await world.open()
    await world.mediation.authorize(world.bearer(task), call("bank/pay", to="mallory", amount=5))
    told = await stories.of(task.id)
    assert [step.kind for step in told.steps] == ["state", "state", "deny"]
    assert told.static.used.tools == 0

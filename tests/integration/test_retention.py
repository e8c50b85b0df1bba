"""Values kept of old calls are forgotten on request: recorded first, no more than was asked, and replay says so."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from remit.cli.main import main
from remit.drivers.value_sealing import ValueSealer
from remit.errors import Mistake, Outage
from remit.logic.records import decode
from remit.model.call_record import ValuesForgotten
from remit.services.retention import Retention
from tests.support import World, call

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path / "remit.db", sealer=ValueSealer(bytes(32)))
    yield made
    await made.close()


async def decided(world, task) -> str:
    return (await world.mediation.authorize(world.bearer(task), call("mail/read"))).decision_id


async def told(world) -> list[ValuesForgotten]:
    entries = await world.store.entries(0, 1_000)
    return [body for entry in entries if isinstance(body := decode(entry.body).body, ValuesForgotten)]


async def test_only_what_is_older_is_forgotten_and_the_ledger_says_so(world):
    task = await world.open()
    old = [await decided(world, task) for _ in range(3)]
    world.clock.now += timedelta(minutes=5)
    new = await decided(world, task)
    retention = Retention(world.store, world.clock)
    assert await retention.forget_values(timedelta(minutes=5), "local:carol") == 0, "not older than that, and nothing is recorded"
    world.clock.now += timedelta(seconds=1)
    assert await retention.forget_values(timedelta(minutes=5), "local:carol") == 3
    assert set(await world.store.values([*old, new])) == {new}
    (forgotten,) = await told(world)
    assert (forgotten.calls, forgotten.by, forgotten.before) == (3, "local:carol", world.clock() - timedelta(minutes=5))
    with pytest.raises(Mistake):
        await retention.forget_values(timedelta(minutes=-1), "local:carol")


async def test_nothing_is_deleted_before_it_is_recorded(world, monkeypatch):
    task = await world.open()
    old = await decided(world, task)
    world.clock.now += timedelta(hours=1)

    async def down(_append):
        raise Outage("the disk is full", code="storage")

    with monkeypatch.context() as broken:
        broken.setattr(world.store, "append", down)
        with pytest.raises(Outage):
            await Retention(world.store, world.clock).forget_values(timedelta(minutes=1), "local:carol")
    assert set(await world.store.values([old])) == {old}


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1y", "1.5h", "999999d"])
def test_an_age_that_is_none_is_wrong_usage(age, tmp_path):
    outcome = CliRunner().invoke(main, ["ledger", "forget-values", "--older-than", age, "--folder", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "30d" in outcome.output


def test_at_the_command_line(tmp_path):
    """On a folder of its own, where nothing was decided yet."""
    (tmp_path / "remit.toml").write_text("[ledger]\nkeep_values = true\n")
    outcome = CliRunner().invoke(main, ["ledger", "forget-values", "--older-than", "30d", "--folder", str(tmp_path), "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.output) == {"calls": 0}

"""Calls of watched tasks are held against the objective, and what was found is in the record.

The model is a stand-in here: a direction for each word, the same for the same word. The real one is in ``tests/objective``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from remit.errors import Mistake, Outage
from remit.logic.authorize import authorize
from remit.logic.life import fold
from remit.logic.records import decode
from remit.logic.replay import facts_at
from remit.model.call_record import CallDecided
from remit.model.decision import Allow
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.mediation import Ticket
from remit.services.objective import Objectives
from remit.services.scaffold import write_folder
from tests.support import World, call, rulebook

pytestmark = pytest.mark.anyio
POLICY = """permit (principal, action, resource);
@id("far") forbid (principal, action, resource) when { context.signals.contains("far_from_objective") };"""
READ, PAY = call("mail/read", folder="in"), call("bank/pay", to="bob", amount=10, note="read my mail")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Words:
    """The stand-in. ``fails``: it has no answer."""

    def __init__(self) -> None:
        self.fails, self.heard = False, list[str]()

    async def vector(self, text: str, wait_seconds: float) -> tuple[float, ...]:
        assert wait_seconds == 1
        self.heard.append(text)
        await asyncio.sleep(0)
        if self.fails:
            raise Outage("busy", code="model_busy")
        words = {word.strip(".,").lower() for word in text.split()}
        return (0.001, *(float(word in words) for word in ("read", "pay", "mail", "bank")))


class Measured(World):
    """A world with the stand-in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.words = Words()
        self.mediation._objectives = Objectives(self.words, similar_min=0.05, wait_seconds=1)


async def decided(world: World, task_id: str) -> CallDecided:
    return [body for entry in await world.store.task_entries(task_id) if isinstance(body := decode(entry.body).body, CallDecided)][-1]


async def test_a_tool_far_from_the_objective_is_told_to_policy_and_replayed_without_a_model(tmp_path: Path):
    world = Measured(tmp_path / "remit.db", rules=rulebook(POLICY))
    task = await world.open(watched=True, objective="Read the mail")
    assert isinstance(await world.mediation.authorize(world.bearer(task), READ), Ticket)
    refused = await world.mediation.authorize(world.bearer(task), PAY)
    assert [reason.code.value for reason in refused.decision.reasons] == ["policy_forbids"]
    body = await decided(world, task.id)
    assert body.signals == ["far_from_objective"]
    now, again = None, None
    for entry in await world.store.task_entries(task.id):
        record = decode(entry.body)
        if record.body == body:
            known = facts_at(now, record, body, world.rules, 100, PAY.arguments)
            again = authorize(known, world.rules.policies)
            free = authorize(replace(known, signals=()), world.rules.policies)
        now = fold(now, record, entry.leaf)
    assert [reason.code.value for reason in again.reasons] == ["policy_forbids"]
    assert isinstance(free, Allow)
    heard = len(world.words.heard)
    await world.mediation.authorize(world.bearer(task), PAY)
    assert len(world.words.heard) == heard  # measured once
    await world.close()


async def test_a_model_that_gives_no_answer_counts_as_far_and_is_asked_again(tmp_path: Path):
    world = Measured(tmp_path / "remit.db", rules=rulebook(POLICY))
    task = await world.open(watched=True, objective="Read the mail")
    world.words.fails = True
    assert not isinstance(await world.mediation.authorize(world.bearer(task), READ), Ticket)
    assert (await decided(world, task.id)).signals == ["far_from_objective", "objective_unmeasured"]
    world.words.fails = False
    assert isinstance(await world.mediation.authorize(world.bearer(task), READ), Ticket)
    await world.close()


async def test_what_is_not_watched_is_not_measured(tmp_path: Path):
    world = Measured(tmp_path / "remit.db", rules=rulebook(POLICY))
    task = await world.open(objective="Read the mail")
    assert isinstance(await world.mediation.authorize(world.bearer(task), PAY), Ticket)
    assert world.words.heard == []
    await world.close()


async def test_a_node_does_not_start_without_the_model_that_is_configured(tmp_path: Path):
    write_folder(tmp_path, None)
    toml = (tmp_path / "remit.toml").read_text()
    (tmp_path / "remit.toml").write_text(toml + '\n[behaviour]\nobjective_model = "model"\nobjective_similar_percent = 20\n')
    rules = load_configuration(tmp_path).settings.behaviour
    assert (rules.model, rules.similar_percent) == (str(tmp_path / "model"), 20)
    with pytest.raises(Mistake) as caught:
        async with open_node(tmp_path):
            pass
    assert "model" in caught.value.message
    (tmp_path / "remit.toml").write_text(toml + "\n[behaviour]\nobjective_similar_percent = 0\n")
    with pytest.raises(Mistake, match="objective_similar_percent"):
        load_configuration(tmp_path)

"""The small model itself, offline: the figures that its card gives, its bounds, and a node that uses it."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from remit.drivers.sentence_model import SentenceModel, find_model
from remit.errors import Outage
from remit.model.catalog import PinnedTool
from remit.node import open_node
from remit.services.objective import Objectives
from remit.services.scaffold import write_folder
from tests.support import call, task

pytestmark = pytest.mark.anyio
WAIT = 60
SEND = PinnedTool(server="bank", name="send_money", digest="", input_schema={}, description="Sends a transaction to the recipient.")
CALENDAR = "Which meetings are in my calendar on Friday?"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def model():
    return SentenceModel(find_model("package"))


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_the_figures_of_the_model_s_card(model):
    """As the hub shows them for this model: 0.943 and 0.257."""
    happy = await model.vector("That is a happy person", WAIT)
    assert len(happy) == 384
    assert math.isclose(math.hypot(*happy), 1, abs_tol=1e-5)
    assert math.isclose(cosine(happy, await model.vector("That is a very happy person", WAIT)), 0.943, abs_tol=1e-3)
    assert math.isclose(cosine(happy, await model.vector("Today is a sunny day", WAIT)), 0.257, abs_tol=1e-3)
    assert happy == await model.vector("That is a happy person", WAIT)


@pytest.mark.parametrize("text", ["", " ", "\0", "\u202e\U0001f600", "a" * 100_000, "word " * 100_000])
async def test_any_text_has_a_direction(model, text):
    assert all(math.isfinite(part) for part in await model.vector(text, WAIT))


async def test_half_a_character_is_refused_clearly(model):
    with pytest.raises(Outage, match="the model cannot be used"):
        await model.vector("\ud800", WAIT)


async def test_nobody_waits_longer_than_told_nor_do_more_wait_than_may(model):
    long = "much work " * 200
    asked = await asyncio.gather(*(model.vector(f"{long}{number}", 0.001) for number in range(200)), return_exceptions=True)
    assert {type(answer) for answer in asked} == {Outage}
    assert {answer.message for answer in asked} == {"the model takes too long", "too many wait for the model"}
    ends = time.monotonic() + WAIT
    while True:
        try:
            await model.vector("again", WAIT)
            break
        except Outage:
            assert time.monotonic() < ends
            await asyncio.sleep(0.05)


async def test_a_transfer_is_far_from_reading_a_calendar_and_near_to_paying_a_bill(model):
    objectives = Objectives(model, similar_min=0.05, wait_seconds=WAIT)
    wanted = call("bank/send_money", recipient="x")
    paying = task(watched=True, objective="Pay the bill of the car rental")
    reading = task(watched=True, objective=CALENDAR)
    assert await objectives.signals(paying, wanted, SEND) == ()
    assert await objectives.signals(reading, wanted, SEND) == ("far_from_objective",)


async def test_a_node_that_is_configured_for_it_measures(tmp_path):
    write_folder(tmp_path, None)
    with (tmp_path / "remit.toml").open("a") as file:
        file.write('\n[behaviour]\nobjective_model = "package"\n[limits]\nobjective_seconds = 60\n')
    async with open_node(tmp_path) as node:
        measured = node.mediation._objectives
        far = await measured.signals(task(watched=True, objective=CALENDAR), call("bank/send_money"), SEND)
        assert far == ("far_from_objective",)

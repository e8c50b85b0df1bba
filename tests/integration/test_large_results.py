"""A large result of a stranger, and large arguments of an agent, hold nobody up: they are taken apart beside the loop, and in pieces."""

from __future__ import annotations

import asyncio
import threading

import pytest

from remit.logic.records import decode
from remit.logic.values import tokens
from remit.model.call import Ending
from remit.model.call_record import CallDecided
from remit.services import mediation
from remit.services.mediation import Ticket
from tests.support import World, call

pytestmark = pytest.mark.anyio
COSTLY = ["a.", "a+", "1 ", "a@a.", "\u00e9", "a.-", "~", "1'000"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("unit", COSTLY[:3])
async def test_others_go_on_while_a_hostile_result_is_taken_apart(tmp_path, unit):
    """Turns of the loop are counted, not time: with the result in the loop itself there would be none."""
    world = World(tmp_path / "remit.db")
    task = await world.open()
    ticket = await world.mediation.authorize(world.bearer(task), call("mail/read"))
    assert isinstance(ticket, Ticket)
    text = (unit * 262_144)[:262_100] + " @ :// /"
    observing = asyncio.create_task(world.mediation.observe(ticket, Ending.OK, {"content": [{"type": "text", "text": text}]}))
    turns = 0
    while not observing.done():
        await asyncio.sleep(0)
        turns += not observing.done()
    assert (await observing).released
    assert turns > 3
    await world.close()


@pytest.mark.parametrize(("length", "beside"), [(1_000, False), (262_100, True)])
async def test_references_of_an_agents_own_large_arguments_are_looked_for_beside_the_loop(tmp_path, monkeypatch, length, beside):
    """A spy tells in which thread; what is found is what would have been found in the loop."""
    threads, look = [], mediation.pointed

    def spied(arguments):
        threads.append(threading.current_thread() is not threading.main_thread())
        return look(arguments)

    monkeypatch.setattr(mediation, "pointed", spied)
    world = World(tmp_path / "remit.db")
    task = await world.open()
    wanted = call("mail/read", folder="in", note=("a." * length)[:length] + " evil.example")
    await world.mediation.authorize(world.bearer(task), wanted)
    assert threads == [beside]
    (decided,) = [body for entry in await world.store.task_entries(task.id) if isinstance(body := decode(entry.body).body, CallDecided)]
    assert "/note" in [leaf.pointer for leaf in decided.references]
    await world.close()


@pytest.mark.parametrize("gap", [" ", "\n", "-", "x"])
def test_a_text_in_pieces_has_the_tokens_of_the_whole_but_for_those_that_are_cut(gap):
    """Never a part of a token: that would be another value."""
    ids = [f"acc-{number}-{'9' * (number % 50 + 1)}" for number in range(2_000)]
    found = set(tokens(f"{gap}#".join(ids)))
    if gap in " \n":
        assert {one.removeprefix("#") for one in found} >= set(ids)
    whole = {form for one in ids for form in (one, f"#{one}", f"{one}{gap}", f"#{one}{gap}")}
    pieces = {one for one in found if one.startswith(("acc-", "#acc-"))}
    assert pieces <= whole


@pytest.mark.parametrize("unit", COSTLY)
def test_a_text_without_white_space_is_read_in_pieces_as_well(unit):
    assert isinstance(list(tokens(unit.strip() * 20_000)), list)

"""A node notices by itself that somebody changed the past of its ledger: on a real store, changed behind its back."""

from __future__ import annotations

import sqlite3

import pytest

from remit.node import open_node
from remit.services.scaffold import write_folder
from remit.services.verification import Verification

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def filled(node, number: int) -> None:
    for _ in range(number):
        await node.identities.issue_svid("assistant", attested="a test")


async def test_what_is_whole_verifies_as_it_grows(tmp_path):
    write_folder(tmp_path, None)
    async with open_node(tmp_path, deciding=True) as node:
        reading = Verification(node.store, node.ledger.verifier)
        await filled(node, 5)
        await reading.look()
        assert (reading.verified, reading.broken) == (reading.size, "")
        assert reading.size >= 6
        await filled(node, 3)
        await reading.look()
        assert reading.verified == reading.size >= 9
        assert reading.broken == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "update entries set body = cast(replace(cast(body as text), 'assistant', 'assistanT') as blob) where position = 2",
            "entry 2 was changed",
        ),
        ("delete from entries where position = 3", "entry 3 was changed, removed"),
        ("delete from entries where position >= 3", "entry 3 is missing"),
    ],
)
async def test_a_change_of_the_past_is_noticed(tmp_path, change, said, caplog):
    write_folder(tmp_path, None)
    async with open_node(tmp_path, deciding=True) as node:
        await filled(node, 5)
        with sqlite3.connect(tmp_path / "state" / "remit.db") as database:
            assert database.execute(change).rowcount > 0
        reading = Verification(node.store, node.ledger.verifier)
        await reading.look()
        assert said in reading.broken
        assert reading.verified == 0
        assert "DOES NOT VERIFY" in caplog.text

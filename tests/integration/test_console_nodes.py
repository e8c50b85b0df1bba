"""The console on two nodes of one PostgreSQL: whoever is signed in is so on both, and an end on one holds on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from bench.common import free_port
from remit.drivers.keys import load_or_make_keys
from remit.logic.records import decode
from remit.model.call_record import ApprovalAnswered
from tests.console_node import console_node
from tests.servers.postgres import postgres

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


async def test_two_nodes_are_one_console(database, tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER_URL", database)
    load_or_make_keys(tmp_path / "keys")
    port = free_port()
    keys = json.dumps(str(tmp_path / "keys"))
    shared = f'[server]\nissuer = "http://127.0.0.1:{port}"\n[storage]\nurl = "${{LEDGER_URL}}"\n[trust]\nkeys = {keys}\n'
    async with console_node(tmp_path / "one", shared) as one, console_node(tmp_path / "two", shared) as two:
        link = one.link().removeprefix(one.base)
        used = await asyncio.gather(*(here.browser().post(link) for here in (one, two) for _ in range(3)))
        assert sorted(status for status, _ in used) == [303] + [403] * 5, "a link opens once, on whichever node"
        here = await one.signed_in("local:ann")
        there = two.browser(here.cookies["remit_console"])
        assert (await there.get("/"))[0] == 200
        task = await one.open("4711")
        page = f"/console/tasks/{task.id}/approvals/{await one.asked(task)}"
        assert "4711" in (await there.get(page))[1], "the other node shows what was asked on this one"
        both = await asyncio.gather(
            here.post(page, here.csrf, answer="approve"),
            there.post(page, here.csrf, answer="deny"),
            (await two.signed_in("local:ben")).get("/"),
        )
        assert sorted(status for status, _ in both[:2]) == [200, 409]
        entries = await two.node.store.task_entries(task.id)
        assert len([entry for entry in entries if isinstance(decode(entry.body).body, ApprovalAnswered)]) == 1
        assert (await there.post("/console/sign-out", here.csrf))[0] == 303
        assert (await here.get("/"))[0] == 303

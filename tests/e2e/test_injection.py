"""A credential goes into the headers of an HTTP server for one task, and is replaced under a running one without an error."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from remit.errors import Conflict, Refusal
from remit.model.lease import ROTATION_GRACE, LeaseState
from remit.model.task import TaskState
from remit.node import utc_now
from remit.services.configuration import load_configuration
from remit.services.lease_rotation import LeaseRotation
from remit.services.lease_views import live_leases
from remit.services.reading import Mistakes
from remit.services.receipt import make_receipt
from tests.e2e.gateway import Running, gateway, http, http_server, stdio, until
from tests.e2e.inside import command
from tests.e2e.test_tripwire import LEASE, TARGET, standing
from tests.servers.postgres import PostgresTarget, postgres_target

pytestmark = pytest.mark.anyio
HEADERS = 'headers = { X-User = "{lease:orders.user}", Authorization = "Bearer {lease:orders.password}" }\n'
GRANT = '[[grant]]\ntool = "keyed/*"\n' + LEASE


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.fixture(scope="module")
def address(server: PostgresTarget) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYED_PORT", str(server.port))
        with http_server("keyed.py") as url:
            yield url


@pytest.fixture
async def running(tmp_path: Path, server: PostgresTarget, address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("ORDERS_ROOT", server.password)
    (tmp_path / "folder").mkdir()
    more = TARGET.format(url=server.url) + 'rotate_after = "10m"\n'
    async with gateway(tmp_path / "folder", http("keyed", address) + HEADERS, task=GRANT, more=more) as node:
        yield node


def said(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_header_for_one_task(running: Running, server: PostgresTarget, mode: str) -> None:
    other, _ = await running.another_task()
    others = f"http://127.0.0.1:{running.port}/run/{running.node.gateway.gate.open_endpoint(other.id)}/mcp/keyed"
    async with Client(running.url("keyed"), mode=mode) as client, Client(others, mode=mode) as second:
        names = {said(await client.call_tool("whoami", {})), said(await second.call_tool("whoami", {}))}
        assert said(await client.call_tool("count", {})) == "3"
        assert names == set(standing(server)), "each task is somebody of its own"
        assert len(names) == 2
        (name,) = {lease.id for lease in (await running.node.tasks.view(other.id)).leases.values()}
        await running.node.leases.revocations.revoke(name, "tester", "leaked")
        assert said(await client.call_tool("whoami", {})) in names
        await until(lambda: len(standing(server)) == 1)
        fresh = said(await second.call_tool("whoami", {}))
        assert fresh not in names, "what was taken away is replaced at the next request"
        told = await client.call_tool("echo_headers", {})
        assert "leased credential" in str(told.content)
    await until(lambda: standing(server) == [fresh], 20)
    await running.node.tasks.end(other.id, TaskState.COMPLETED, by="tester")
    await running.node.end_task(other.id)
    assert standing(server) == []


async def test_rotation_under_calls(running: Running, server: PostgresTarget) -> None:
    """Calls go on all the time, and none of them fails."""
    node, task = running.node, running.task.id
    names: list[str] = []
    over = asyncio.Event()

    async def work() -> None:
        async with Client(running.url("keyed")) as client:
            while not over.is_set():
                names.append(said(await client.call_tool("whoami", {})))

    working = asyncio.create_task(work())
    await until(lambda: len(names) > 2)
    (old,) = (await node.tasks.view(task)).leases
    made = await node.leases.leases.rotate(old, "tester")
    await until(lambda: len(set(names)) == 2)
    kept = (await node.tasks.view(task)).leases
    assert (kept[old].state, kept[old].replaced_at is None, made.replaces) == (LeaseState.ISSUED, False, old)
    assert len(standing(server)) == 2, "who is in the middle of a call may end it"
    with pytest.raises(Conflict):
        await node.leases.leases.rotate(old, "tester")
    await node.leases.revocations.revoke(old, "tester", "sooner than a minute later")
    seen = len(names)
    await until(lambda: len(names) > seen + 3)
    later = LeaseRotation(node.tasks, node.leases.leases, node.leases.targets, lambda: utc_now() + timedelta(minutes=20))
    assert await node.leases.rotation.in_use(task) == await later.in_use(task) == {made.id}, (
        "the old one is used until the new one is there"
    )
    await later.settle()
    await until(lambda: len(set(names)) == 3)
    assert made.id not in await node.leases.rotation.in_use(task)
    over.set()
    await working
    assert sorted(standing(server)) == sorted(set(names[-1:]) | {node.leases.targets.mark(made.id)})
    assert ROTATION_GRACE.total_seconds() == 60


async def test_what_the_configuration_refuses(running: Running) -> None:
    toml = running.node.folder / "remit.toml"
    good = toml.read_text()
    for old, new, wrong in (
        ("{lease:orders.password}", "{lease-file:orders.password}", "a file is no header"),
        ("{lease:orders.password}", "{lease:orders.passwort}", "did you mean 'password'"),
        ('rotate_after = "10m"', 'rotate_after = "1m"', "at least 120s"),
        ("{lease:orders.user}", "{lease:payroll.user}", "has no lease 'payroll'"),
    ):
        toml.write_text(good.replace(old, new))
        with pytest.raises(Mistakes, match=re.escape(wrong)):
            load_configuration(running.node.folder)
    toml.write_text(good)


STATIC = '[targets.key]\nkind = "static"\nuser = "svc"\nsecret = "${API_KEY}"\n'
STATIC_GRANT = '[[grant]]\ntool = "give/*"\n[[lease]]\ntarget = "key"\n'


async def test_a_static_secret_is_injected_and_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "k-" + secrets.token_hex(16)
    monkeypatch.setenv("API_KEY", secret)
    (tmp_path / "folder").mkdir()
    give = stdio("give", "giveaway.py") + 'env = { GIVEAWAY = "{lease:key.password}", NAME = "{lease:key.user}" }\n'
    async with gateway(tmp_path / "folder", give, task=STATIC_GRANT, more=STATIC) as running:
        node, task = running.node, running.task.id
        async with Client(running.url("give")) as client:
            assert said(await client.call_tool("take", {"text": "x"})) == "took 1"
            await node.leases.reconciliation.all_targets()
            (view,) = await live_leases(node.store, node.tasks, node.leases.targets, "", utc_now())
            assert (view.state, view.stands) == ("issued", True), "what no target lists is not taken for gone"
            listed = await asyncio.to_thread(command, "lease", "list", "-C", str(node.folder))
            assert "standing secret" in listed.stdout
            told = await asyncio.to_thread(command, "doctor", "-C", str(node.folder))
            assert "a standing secret, the same for every task" in told.stdout
            result = await client.call_tool("give", {"dress": "base64"})
            assert "leased credential" in str(result.content)
        assert (await node.tasks.view(task)).state is TaskState.SUSPENDED
        receipt = await make_receipt(node.store, node.ledger, node.rules.rulebook.classes.names, task, utc_now())
        assert receipt.standing_secrets == ("key",)
        everything = b"".join([entry.body for entry in await node.store.task_entries(task)]) + str(result).encode()
        assert secret not in everything.decode() + listed.stdout + listed.stderr + told.stdout + told.stderr


async def test_a_static_secret_that_is_too_short_is_given_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    (tmp_path / "folder").mkdir()
    give = stdio("give", "giveaway.py") + 'env = { GIVEAWAY = "{lease:key.password}" }\n'
    async with gateway(tmp_path / "folder", give, task=STATIC_GRANT, more=STATIC) as running:
        with pytest.raises(Refusal, match="fewer than 8 bytes"):
            await running.node.leases.leases.have(running.task.id, "key")

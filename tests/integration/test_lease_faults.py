"""Leases on real targets: what is seen while something is wrong. What is left afterwards is counted by the fault run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from remit.drivers.targets.base import TargetSettings
from remit.errors import Outage, Refusal
from remit.model.lease import LeaseState
from remit.model.task import TaskState
from remit.settings import Limits
from tests.faults.parts import killed_often
from tests.lease_nodes import fill, roles, target, working
from tests.servers.mariadb import mariadb_server
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.anyio
KILLS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


async def test_a_node_killed_amid_a_mint_of_many_statements_orphans_nothing(tmp_path):
    """MariaDB has no transaction for users: what is half made is locked, and found by its mark."""
    scope = '{"tables":[{"allow":["select"],"database":"orders","table":"orders"}]}'
    with mariadb_server() as mariadb:
        values = {"url": mariadb.url, "sessions": 10, "tls": False, "ca_file": ""}
        settings = TargetSettings(name="orders", kind="mariadb", values=values, secret=mariadb.password)
        question = "SELECT User FROM mysql.user WHERE User LIKE 'remit\\_%' UNION SELECT EVENT_NAME FROM information_schema.EVENTS"
        line = await killed_often(tmp_path, settings, scope, KILLS, lambda: {row[0] for row in mariadb.run(question)}, 1)
        print(line)
        assert (line.stood > 0, line.left) == (True, 0)


async def test_a_target_that_is_away_is_waited_for_and_holds_up_no_other(server, tmp_path):
    nowhere = target(server, "nowhere", url="postgresql://postgres@127.0.0.1:1/orders")
    async with working(tmp_path, target(server), nowhere) as node:
        task = await node.open("orders", "nowhere")
        minted = await node.parts.leases.have(task.id, "orders")
        with pytest.raises(Outage):
            await node.parts.leases.have(task.id, "nowhere")
        other = await node.open()
        await node.parts.leases.have(other.id, "orders")
        with server.root() as root:
            root.execute("CHECKPOINT")  # its disk has both: what it may forget otherwise is the test below
        server.stop()
        await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.end_task(task.id)
        (lease, _) = sorted((await node.tasks.view(task.id)).leases.values(), key=lambda lease: lease.target, reverse=True)
        assert (lease.target, lease.state) == ("orders", LeaseState.REVOKING)
        node.ahead = timedelta(minutes=2)
        await node.parts.revocations.sweep_once()
        while node.parts.revocations._workers:
            await asyncio.wait(list(node.parts.revocations._workers.values()))
        assert (await node.tasks.view(task.id)).leases[lease.id].state is LeaseState.STUCK
        server.start()
    async with working(tmp_path, target(server), nowhere, ahead=timedelta(minutes=4)) as again:  # a restart forgets no revocation
        await again.settle()
        assert (await again.tasks.view(task.id)).leases[lease.id].state is LeaseState.REVOKED
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(minted.parts["url"])
        assert len(roles(server)) == 1, "the other task's credential stands"
        await again.tasks.end(other.id, TaskState.COMPLETED, by="alice")
        await again.parts.end_task(other.id)
    assert roles(server) == set()


async def test_a_start_with_many_due_leases_keeps_to_its_connections(server, tmp_path):
    settings = target(server, connections=2)
    async with working(tmp_path, settings) as before:
        leases = await fill(before.store, 6, 10, before.clock() - timedelta(minutes=1))
        with server.root() as root:
            for lease in leases:
                root.execute(f"CREATE ROLE {before.parts.targets.mark(lease)} LOGIN".encode())
    async with working(tmp_path, settings) as node:
        await node.tasks.expire_due()
        sweeping = asyncio.create_task(node.parts.revocations.catch_up(60))
        seen = set()
        with server.root() as root:
            while not sweeping.done():
                seen.add(root.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remit'").fetchone()[0])
                await asyncio.sleep(0.002)
        assert max(seen) == 2, "as many as are configured, and no more"
        assert await node.store.live_leases("", "", 1) == ()
    assert roles(server) == set()


async def test_a_credential_that_a_crash_of_the_target_forgot_is_replaced(server, tmp_path):
    async with working(tmp_path, target(server)) as node:
        task, other = await node.open(), await node.open()
        lost, kept = [await node.parts.leases.have(one.id, "orders") for one in (task, other)]
        with server.root() as root:
            root.execute("CHECKPOINT")
        await node.parts.reconciliation.interrupted()
        assert await node.parts.leases.have(task.id, "orders") == lost, "nothing has happened"
        server.stop()
        await node.parts.reconciliation.interrupted()  # it is away
        server.start()
        with server.root() as root:  # what it may have forgotten
            root.execute(f"DROP OWNED BY {lost.parts['user']}".encode())
            root.execute(f"DROP ROLE {lost.parts['user']}".encode())
        await node.parts.reconciliation.interrupted()
        (gone,) = (await node.tasks.view(task.id)).leases.values()
        assert (gone.state, gone.why) == (LeaseState.REVOKED, "it is gone from its target")
        anew = await node.parts.leases.have(task.id, "orders")
        for minted in (anew, kept):
            psycopg.connect(minted.parts["url"]).close()
        for one in (task, other):
            await node.tasks.end(one.id, TaskState.COMPLETED, by="alice")
            await node.parts.end_task(one.id)
    assert roles(server) == set()


async def test_an_old_backup_and_a_stranger_are_noticed(server, tmp_path):
    async with working(tmp_path, target(server)) as node:
        task, other = await node.open(), await node.open()
        await node.parts.leases.have(task.id, "orders")
        await node.parts.leases.have(other.id, "orders")
        back = {lease.id for lease in (await node.tasks.view(task.id)).leases.values()}.pop()
        mark = node.parts.targets.mark(back)
        await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.end_task(task.id)
        (kept,) = roles(server)
        with server.root() as root:
            root.execute(f"CREATE ROLE {mark} LOGIN".encode())
            root.execute(f"DROP OWNED BY {kept}".encode())
            root.execute(f"DROP ROLE {kept}".encode())
            root.execute("CREATE ROLE remit_zzzzzyyyyyyyyyyyyyyyyyyyy LOGIN")  # of another installation
        assert await node.parts.reconciliation.target("orders") == 1
        assert roles(server) == {"remit_zzzzzyyyyyyyyyyyyyyyyyyyy"}
        (gone,) = (await node.tasks.view(other.id)).leases.values()
        assert (gone.state, gone.why) == (LeaseState.REVOKED, "it is gone from its target")
        with server.root() as root:
            root.execute("DROP ROLE remit_zzzzzyyyyyyyyyyyyyyyyyyyy")


async def test_quotas_refuse_a_loop(server, tmp_path):
    async with working(tmp_path, target(server), limits=Limits(leases_per_task=2, leases_per_agent=3, leases_per_target=3)) as node:
        looping = await node.open()
        for _ in range(2):
            await node.parts.leases.have(looping.id, "orders")
            (lease, *_) = [lease for lease in (await node.tasks.view(looping.id)).leases.values() if lease.live]
            await node.parts.revocations.revoke(lease.id, "alice", "")
        with pytest.raises(Refusal) as refused:
            await node.parts.leases.have(looping.id, "orders")
        assert refused.value.code == "lease_quota"
        assert "leases_per_task" in refused.value.hint
        tasks = [await node.open() for _ in range(5)]
        results = await asyncio.gather(*(node.parts.leases.have(task.id, "orders") for task in tasks), return_exceptions=True)
        assert sum(isinstance(result, Refusal) for result in results) == 2, "also when all come at once"
        assert len(roles(server)) == 3
        for task in tasks:
            await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
            await node.parts.end_task(task.id)
    assert roles(server) == set()


async def test_one_task_has_one_credential_however_many_ask(server, tmp_path):
    async with working(tmp_path, target(server)) as node:
        task = await node.open()
        minted = await asyncio.gather(*(node.parts.leases.have(task.id, "orders") for _ in range(8)))
        assert len({one.parts["user"] for one in minted}) == len(roles(server)) == 1
        await node.tasks.move(task.id, TaskState.SUSPENDED, by="alice")
        await node.parts.end_task(task.id)
        assert roles(server) == set(), "a suspended task holds nothing"
        with pytest.raises(Refusal):
            await node.parts.leases.have(task.id, "orders")
        await node.tasks.move(task.id, TaskState.ACTIVE, by="alice")
        again = await node.parts.leases.have(task.id, "orders")
        assert again.parts["user"] != minted[0].parts["user"]
        await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.end_task(task.id)
    assert roles(server) == set()

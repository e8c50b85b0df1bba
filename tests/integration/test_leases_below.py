"""Credentials below a task that is suspended or ends go as well, on both stores, through restarts; after a resume there are others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from remit.drivers.base import StdioServer
from remit.errors import Refusal
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.delegation_record import DelegableLine
from remit.model.lease import LeaseState
from remit.model.lease_record import LeaseLine
from remit.model.task import TaskState
from tests.lease_nodes import roles, target, working
from tests.servers.postgres import PostgresTarget, postgres, postgres_target
from tests.support import World, rulebook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lease_nodes import Working

pytestmark = pytest.mark.anyio
HANDS_ON = '@id("hands on") permit (principal, action == Action::"task/delegate", resource);'


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Of the store, where it is no file."""
    if request.param == "sqlite":
        return ""
    found: str = request.getfixturevalue("database")
    with psycopg.connect(found, autocommit=True) as admin:
        admin.execute("DROP SCHEMA IF EXISTS remit CASCADE")
    return found


async def test_a_child_gets_credentials_of_its_own_for_the_servers_of_its_grant_and_for_no_other(tmp_path):
    world = World(tmp_path / "remit.db", rules=rulebook(HANDS_ON))
    asks = StdioServer(name="mail", command=("mail",), environment={"URL": "{lease:orders.url}"})
    others = StdioServer(name="bank", command=("bank",), environment={"URL": "{lease:accounts.url}"})
    world.delegations._rules.configuration = replace(
        world.delegations._rules.configuration, servers={"mail": asks, "bank": others, "none": replace(asks, name="none")}
    )
    lines = [LeaseLine(name=name, target="db", scope=f'{{"{name}":1}}') for name in ("orders", "accounts", "unused")]
    terms = DelegableLine(to=["reader"], depth=1, fan_out=1, lifetime_seconds=60)
    root = await world.open(delegable=terms, leases=lines)
    line = WantedLine(kind=Kind.TOOL, server="mail", name="read")
    wanted = Wanted(request="r1", agent="reader", objective="Read", lines=(line,), calls=1)
    child = await world.delegations.delegate(world.bearer(root), wanted, by=root.agent)
    assert child.terms == root.terms[:1], "by the name that the server asks for, in the scope that the parent's inputs made"
    await world.close()


async def looked_after(node: Working) -> None:
    """One round of what a node does each second."""
    await node.subtrees.follow()
    await node.parts.revocations.catch_up(20)


async def test_what_is_suspended_takes_the_credentials_below_it_and_they_come_back_with_a_resume(server, tmp_path, url):
    async with working(tmp_path, target(server), url=url) as node:
        root, other = await node.open(), await node.open()
        child = await node.delegate(root)
        grandchild = await node.delegate(child)
        minted = [await node.parts.leases.have(one.id, "orders") for one in (root, child, grandchild, other)]
        await looked_after(node)
        assert len(roles(server)) == 4, "nothing goes before anything is suspended"
        await node.tasks.move(root.id, TaskState.SUSPENDED, by="alice")
        for below in (child, grandchild):
            with pytest.raises(Refusal, match="not active"):
                await node.parts.leases.have(below.id, "orders")
    async with working(tmp_path, target(server), url=url) as again:  # whoever suspended it is gone
        await looked_after(again)
        assert roles(server) == {minted[3].parts["user"]}
        for below in (child, grandchild):
            task = await again.tasks.view(below.id)
            assert task.state is TaskState.ACTIVE
            assert {lease.why for lease in task.leases.values()} == {"a task above is suspended"}
        await again.tasks.move(root.id, TaskState.ACTIVE, by="alice")
        anew = await again.parts.leases.have(grandchild.id, "orders")
        assert anew.parts["user"] != minted[2].parts["user"]
        await again.tasks.end(child.id, TaskState.COMPLETED, by="alice")
        await looked_after(again)
        assert roles(server) == {minted[3].parts["user"]}
        assert (await again.tasks.view(grandchild.id)).over
        await again.tasks.end(other.id, TaskState.COMPLETED, by="alice")
        await looked_after(again)
    assert roles(server) == set()


async def test_a_credential_that_is_being_made_while_a_task_above_is_suspended_is_given_to_nobody(server, tmp_path, url):
    async with working(tmp_path, target(server), url=url) as node, working(tmp_path, target(server), url=url) as other:
        root = await node.open()
        child = await node.delegate(root)
        await node.tasks.view(root.id)
        driver = node.parts.targets.get("orders")
        mint = driver.mint

        async def slow(*arguments):
            made = await mint(*arguments)
            await other.tasks.move(root.id, TaskState.SUSPENDED, by="alice")  # and this process is not told of it
            return made

        driver.mint = slow
        with pytest.raises(Refusal, match="not active"):
            await node.parts.leases.have(child.id, "orders")
        async with asyncio.timeout(20):
            while not all(lease.revoked_at for lease in (await node.tasks.view(child.id)).leases.values()):
                await asyncio.sleep(0.01)
        (lease,) = (await node.tasks.view(child.id)).leases.values()
        assert (lease.state, lease.issued_at) == (LeaseState.REVOKED, None)
        assert roles(server) == set()


async def test_many_below_one_are_worked_off_in_pieces_and_by_two_nodes_at_once(server, tmp_path, url):
    async with working(tmp_path, target(server), url=url) as node, working(tmp_path, target(server), url=url) as other:
        root = await node.open()
        children = [await node.delegate(root) for _ in range(30)]
        await asyncio.gather(*(node.parts.leases.have(child.id, "orders") for child in children))
        assert len(roles(server)) == 30
        await other.tasks.move(root.id, TaskState.SUSPENDED, by="alice")
        await asyncio.gather(looked_after(node), looked_after(other))
        for one in (node, other):
            one.ahead = timedelta(minutes=2)  # a lease that one node had claimed when the other was done
            await one.parts.revocations.catch_up(20)
        assert roles(server) == set()
        assert await node.store.leases_below_suspended(1) == ()

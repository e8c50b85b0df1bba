"""What a child's credential may do on a real PostgreSQL is what the child's own grant says: the database itself refuses the rest."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from remit.drivers.base import StdioServer
from remit.drivers.keys import load_or_make_keys
from remit.errors import Refusal
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.delegation_record import DelegableLine
from remit.model.egress import Egress
from remit.model.lease import LeaseState
from remit.model.lease_record import LeaseLine, LeasePartLine
from remit.model.task import TaskState
from remit.node import utc_now
from remit.node_leases import LeaseParts, lease_parts
from remit.services.family import narrow
from remit.settings import Limits
from tests.lease_nodes import roles, target
from tests.servers.postgres import PostgresTarget, postgres_target
from tests.support import World, grant, rulebook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from remit.drivers.targets.base import Minted
    from remit.model.task import Task

pytestmark = pytest.mark.anyio
HANDS_ON = '@id("hands on") permit (principal, action == Action::"task/delegate", resource);'


def part(table: str, *tools: str, arguments: str = "") -> LeasePartLine:
    return LeasePartLine(
        tools=list(tools), scope=f'{{"tables":[{{"allow":["select"],"schema":"public","table":"{table}"}}]}}', arguments=arguments
    )


IN_PARTS = LeaseLine(
    name="orders",
    target="orders",
    scope="{}",
    parts=[
        part("orders", "db/orders"),
        part("salaries", "db/salaries"),
        part("orders", "db/query", arguments='{"table":"orders"}'),
        part("salaries", "db/query", arguments='{"table":"salaries"}'),
    ],
)
UNDIVIDED = replace(IN_PARTS, scope=part("orders").scope, parts=[])


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@dataclass
class Handing:
    """Tasks with leases, and agents that hand them on."""

    world: World
    parts: LeaseParts

    async def open(self, *lines: Any, lease: LeaseLine = IN_PARTS, depth: int = 2) -> Task:
        terms = DelegableLine(to=["reader"], depth=depth, fan_out=9, lifetime_seconds=60, cycles=True)
        return await self.world.open(*lines, delegable=terms, leases=[lease])

    async def delegate(self, parent: Task, *lines: WantedLine) -> Task:
        wanted = Wanted(request=self.world.new_id("request"), agent="reader", objective="Read", lines=lines, calls=1)
        return await self.world.delegations.delegate(self.world.bearer(parent), wanted, by=parent.agent)

    async def have(self, task: Task) -> Minted:
        return await self.parts.leases.have(task.id, "orders")

    async def settled(self) -> None:
        """What was to be revoked is; an attempt that a slow machine let fail is made again when it is due."""
        async with asyncio.timeout(120):
            while any(row.state == "revoking" for row in await self.world.store.live_leases("", "", 100)):
                await self.parts.revocations.catch_up(20)
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def handing(folder: Path, server: PostgresTarget) -> AsyncIterator[Handing]:
    world = World(folder / "remit.db", clock=utc_now, rules=rulebook(HANDS_ON))
    asks = StdioServer(name="db", command=("db",), environment={"URL": "{lease:orders.url}"})
    rules = world.delegations._rules
    rules.configuration = replace(rules.configuration, servers={"db": asks})
    configured = {"orders": target(server)}
    keys = load_or_make_keys(folder / "keys")
    parts = lease_parts(store=world.store, tasks=world.tasks, keys=keys, clock=utc_now, configured=lambda: configured, limits=Limits())
    try:
        yield Handing(world, parts)
        for row in await world.tasks.rows(states=("active",)):
            await world.tasks.end(row.task, TaskState.COMPLETED, by="alice")
            await parts.end_task(row.task)
        for _ in range(200):  # what took longer than a task's end waits for
            if not await world.store.live_leases("", "", 1):
                break
            await parts.revocations.catch_up(20)
            await asyncio.sleep(0.1)
    finally:
        await parts.close()
        await world.close()
    assert roles(server) == set()


def line(name: str, **schema: Any) -> WantedLine:
    arguments = {"properties": {key: {"const": value} for key, value in schema.items()}} if schema else {}
    return WantedLine(kind=Kind.TOOL, server="db", name=name, arguments=arguments)


def reads(minted: Minted) -> set[str]:
    """Tables that the database itself lets the holder read."""
    found = set()
    with psycopg.connect(minted.parts["url"], autocommit=True) as db:
        for table in ("orders", "salaries"):
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                db.execute(f"SELECT * FROM {table}".encode())
                found.add(table)
    return found


async def test_a_child_reads_what_its_own_grant_is_for_and_the_database_refuses_the_rest(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/*"))
        assert reads(await agents.have(root)) == {"orders", "salaries"}
        child = await agents.delegate(root, line("orders"))
        assert reads(await agents.have(child)) == {"orders"}
        other = await agents.delegate(root, line("salaries"), line("orders"))
        assert reads(await agents.have(other)) == {"orders", "salaries"}
        grandchild = await agents.delegate(other, line("salaries"))
        assert reads(await agents.have(grandchild)) == {"salaries"}
        asking = await agents.delegate(root, line("query", table="salaries"))
        assert reads(await agents.have(asking)) == {"salaries"}, "its arguments count as well"


async def test_a_child_has_nothing_that_one_above_has_not(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/query", arguments='{"properties":{"table":{"enum":["orders"]}}}'))
        child = await agents.delegate(root, line("query"))  # whatever it may say for itself
        assert reads(await agents.have(child)) == {"orders"}
        wider = await agents.delegate(root, line("query", table="salaries"))
        with pytest.raises(Refusal) as refused:
            await agents.have(wider)
        assert refused.value.code == "lease_not_granted"


async def test_a_scope_that_is_not_in_parts_goes_to_a_child_whole_or_not_at_all(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/orders"), grant("db/salaries"), grant("mail/read"), lease=UNDIVIDED)
        child = await agents.delegate(root, line("orders"), line("salaries"))
        assert reads(await agents.have(child)) == {"orders"}
        for lines in ((line("orders"),), (line("orders"), line("salaries", who="bob"))):
            with pytest.raises(Refusal) as refused:
                await agents.delegate(root, *lines)
            assert (refused.value.code, "[[lease.part]]" in refused.value.hint) == ("lease_not_divisible", True)
        mail = await agents.delegate(root, WantedLine(kind=Kind.TOOL, server="mail", name="read"))
        assert mail.terms == (), "who needs no credential is refused none"


async def test_a_child_that_was_granted_an_api_gets_the_api_s_credential(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        rules = agents.world.delegations._rules
        api = Egress(name="api", url="https://api.internal", headers={"Authorization": "Bearer {lease:orders.password}"})
        rules.configuration = replace(rules.configuration, egresses={"api": api})
        root = await agents.open(grant("api/find"), grant("mail/read"), lease=UNDIVIDED)
        child = await agents.delegate(root, WantedLine(kind=Kind.TOOL, server="api", name="find"))
        assert reads(await agents.have(child)) == {"orders"}


async def test_who_is_narrowed_has_a_narrower_credential_at_once_and_so_have_those_below(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/orders"), grant("db/salaries"))
        child = await agents.delegate(root, line("orders"), line("salaries"))
        spared = await agents.delegate(root, line("orders"))
        before = [await agents.have(one) for one in (root, child, spared)]
        await narrow(agents.world.tasks, root.id, {1: 0}, by="alice", reason="")
        assert {lease.state for lease in (await agents.world.tasks.view(root.id)).leases.values()} == {LeaseState.REVOKING}
        await agents.world.subtrees.narrowed(root.id)
        await agents.settled()
        assert roles(server) == {before[2].parts["user"]}, "what is no wider than it may be stays"
        for one in (root, child):
            assert reads(await agents.have(one)) == {"orders"}


async def test_what_is_wider_than_it_may_be_is_given_to_nobody_again(server, tmp_path):
    """The node that narrows may die before it looks below."""
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/orders"), grant("db/salaries"))
        child = await agents.delegate(root, line("orders"), line("salaries"))
        wide = await agents.have(child)
        assert len(await agents.parts.rotation.in_use(child.id)) == 1
        await narrow(agents.world.tasks, root.id, {1: 0}, by="alice", reason="")
        assert await agents.parts.rotation.in_use(child.id) == frozenset(), "what runs with it is equipped anew before its next call"
        assert reads(await agents.have(child)) == {"orders"}
        await agents.settled()
        assert wide.parts["user"] not in roles(server)


async def test_who_is_narrowed_while_a_credential_is_made_does_not_get_it(server, tmp_path):
    async with handing(tmp_path, server) as agents:
        root = await agents.open(grant("db/orders"), grant("db/salaries"))
        child = await agents.delegate(root, line("orders"), line("salaries"))
        driver, under_way, narrowed = agents.parts.targets.get("orders"), asyncio.Event(), asyncio.Event()
        mint = driver.mint

        async def slow(*arguments):
            made = await mint(*arguments)
            under_way.set()
            await narrowed.wait()
            return made

        driver.mint = slow
        having = asyncio.create_task(agents.have(child))
        await under_way.wait()
        await narrow(agents.world.tasks, root.id, {1: 0}, by="alice", reason="")
        narrowed.set()
        with pytest.raises(Refusal, match="narrowed"):
            await having
        driver.mint = mint
        assert reads(await agents.have(child)) == {"orders"}

"""Two nodes on one PostgreSQL: what moves or stops an ancestor on one holds for what is decided below it on the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from remit.errors import RemitError
from remit.logic.checkpoint import Checkpoint, sign_checkpoint
from remit.logic.records import decode
from remit.model.call_record import CallDecided
from remit.model.delegation_record import AgentsStopped
from remit.model.record import TaskMoved
from remit.model.task import TaskState
from remit.services.mediation import Ticket
from remit.services.replay import verify
from remit.store.postgres import PostgresStore
from tests.families import POLICY, TERMS, chain, wanted
from tests.servers.postgres import postgres
from tests.support import ORIGIN, World, agent_id, call, rulebook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio


@dataclass
class PostgresWorld(World):
    """Services of one node on PostgreSQL."""

    url: str = ""

    def make_store(self) -> Any:
        return PostgresStore(self.url, lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), self.key))

    def beside(self) -> PostgresWorld:
        return replace(self)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
async def nodes(server: str, tmp_path: Any) -> AsyncIterator[tuple[World, World]]:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("DROP SCHEMA IF EXISTS remit CASCADE")
    one = PostgresWorld(tmp_path / "none", rules=rulebook(POLICY), url=server)
    await one.activate(POLICY)
    two = one.beside()
    yield one, two
    await one.close()
    await two.close()


async def call_on(world: World, task: Any, stop: asyncio.Event, begun: asyncio.Event | None = None) -> int:
    """Call and call until told to stop, or forty times; how often it was allowed. ``begun``: set by the first decision."""
    allowed = 0
    for _ in range(40):
        allowed += isinstance(await world.mediation.authorize(world.bearer(task), call("mail/read")), Ticket)
        if begun is not None:
            begun.set()
        if stop.is_set():
            break
    return allowed


async def after(world: World, kind: type, tasks: set[str]) -> list[str]:
    """Outcomes of what was decided for some tasks after the first record of a kind that ends or stops."""
    records = [decode(entry.body) for entry in await world.store.entries(0, 10_000)]
    ends = [index for index, one in enumerate(records) if isinstance(one.body, kind) and getattr(one.body, "to", "revoked") != "active"]
    return [one.body.outcome for one in records[ends[0] :] if isinstance(one.body, CallDecided) and one.task in tasks]


@pytest.mark.parametrize("to", [TaskState.REVOKED, TaskState.SUSPENDED])
async def test_no_decision_slips_past_an_ancestor_that_another_node_moves(nodes, to):
    here, there = nodes
    root, child, grandchild = await chain(here)
    stop, begun = asyncio.Event(), asyncio.Event()

    async def move() -> None:
        await begun.wait()
        await here.tasks.move(root.id, to, by="operator")

    allowed, below, _ = await asyncio.gather(call_on(there, grandchild, stop, begun), call_on(there, child, stop, begun), move())
    assert allowed + below > 0
    assert "allow" not in await after(here, TaskMoved, {child.id, grandchild.id})
    assert not isinstance(await there.mediation.authorize(there.bearer(grandchild), call("mail/read")), Ticket)
    assert (await verify(here.history())).good


async def test_a_kill_on_one_node_holds_on_the_other_from_its_return(nodes):
    here, there = nodes
    root, child, grandchild = await chain(here)
    stop = asyncio.Event()

    async def kill() -> None:
        await asyncio.sleep(0.05)
        await here.tasks.standing.stop([agent_id("reader").text], by="operator")

    results = await asyncio.gather(*(call_on(there, one, stop) for one in (root, child, grandchild)), kill())
    assert sum(results[:3]) > 0
    assert "allow" not in await after(here, AgentsStopped, {child.id, grandchild.id})
    assert isinstance(await there.mediation.authorize(there.bearer(root), call("mail/read")), Ticket), "the agent above goes on"
    with pytest.raises(RemitError, match="stopped"):
        await there.delegations.delegate(there.bearer(root), wanted(), by=root.agent)
    await there.subtrees.follow()
    for task in (child, grandchild):
        assert (await here.tasks.view_with(task.id, lambda one: one.over)).over
    lent = (await here.tasks.view_with(root.id, lambda one: not one.children)).lent
    assert lent.calls == results[1] + results[2], "what was not spent came back"
    assert (await verify(here.history())).good


async def test_a_budget_that_two_nodes_delegate_from_is_never_overspent(nodes):
    here, there = nodes
    root = await here.open(budget_calls=10, delegable=TERMS)

    refused: list[str] = []

    async def hand_on(world: World) -> list[str]:
        children = []
        for _ in range(6):
            try:
                children.append((await world.delegations.delegate(world.bearer(root), wanted(calls=2), by=root.agent)).id)
            except RemitError as refusal:
                refused.append(refusal.code)
        return children

    made = await asyncio.gather(hand_on(here), hand_on(there))
    assert len([*made[0], *made[1]]) == 5
    assert refused == ["budget_short"] * 7
    tried = [
        world.mediation.authorize(world.bearer(await world.tasks.view(task)), call("mail/read", folder=str(number)))
        for world, tasks in zip(nodes, made, strict=True)
        for task in tasks
        for number in range(3)
    ]
    allowed = await asyncio.gather(*tried)
    assert sum(isinstance(one, Ticket) for one in allowed) == 10
    assert not isinstance(await here.mediation.authorize(here.bearer(root), call("mail/read")), Ticket)

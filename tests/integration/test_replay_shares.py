"""The ledger decided again in parts, one a process, comes to what one comes to: also where tasks delegate and an ancestor had moved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from remit.logic.records import decode, encode
from remit.model.call_record import CallDecided
from remit.model.task import TaskState
from remit.services import history
from remit.services.history import Share
from remit.services.replay import Replayed, Verified, merged, merged_verified, replay, verify
from remit.store.database import Append
from tests.families import POLICY, chain
from tests.support import World, call, rulebook

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def family(world: World) -> list[Any]:
    """A root, its child and its grandchild, each of which has read."""
    tasks = await chain(world)
    for task in (*tasks, *tasks):
        await world.mediation.authorize(world.bearer(task), call("mail/read"))
    return tasks


async def told_late(world: World, root: Any, child: Any) -> None:
    """A record that no remit writes: the child decides on when its root is revoked already, as if nothing had happened."""
    entry = [one for one in await world.store.task_entries(child.id) if isinstance(decode(one.body).body, CallDecided)][-1]
    last = (await world.store.task_entries(child.id))[-1]
    record = decode(entry.body)
    await world.tasks.move(root.id, TaskState.REVOKED, by="operator")
    late = structs.replace(record, seq=last.seq + 1, body=replace(record.body, decision="d_late"))
    await world.store.append(Append(body=encode(late), task=child.id, seq=late.seq, after=last.leaf))


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path / "remit.db", rules=rulebook(POLICY))
    await made.activate(POLICY)
    yield made
    await made.close()


@pytest.mark.parametrize("of", [2, 3, 7])
async def test_the_parts_come_to_the_whole(world: World, monkeypatch: pytest.MonkeyPatch, of: int) -> None:
    families = [await family(world) for _ in range(8)]
    for root, child, _ in families[::2]:
        await told_late(world, root, child)
    whole = await verify(world.history())
    assert (whole.differs, {one.decision for one in whole.found}) == (4, {"d_late"})
    assert all("had moved by then" in one.what for one in whole.found)
    asked = []

    async def task_entries(task: str) -> Any:
        asked.append(task)
        return await real(task)

    real = world.store.task_entries
    monkeypatch.setattr(world.store, "task_entries", task_entries)
    parts: list[Verified] = [await verify(world.history(), Share(number=number, of=of)) for number in range(of)]
    assert merged_verified(parts) == whole
    assert len(asked) <= 8, "an ancestor is at hand, not read again for each decision below it"
    candidate = {"other.cedar": POLICY.replace('action in Action::"read"', 'action == Action::"bank/pay"')}
    changed = await replay(world.history(), candidate, {})
    assert changed.flips
    shares: list[Replayed] = [await replay(world.history(), candidate, {}, share=Share(number=number, of=of)) for number in range(of)]
    assert merged(shares) == changed
    monkeypatch.setattr(history, "_ROOTS_MAX", 1)
    assert merged_verified([await verify(world.history(), Share(number=number, of=of)) for number in range(of)]) == whole

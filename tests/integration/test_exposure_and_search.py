"""Exposure and search on a real store: periods that begin in the middle of tasks, pages, times, and what is looked at for them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from remit.errors import Mistake
from remit.model.task import TaskState
from remit.services import ledger_search
from remit.services.exposure import Exposures, RecentExposures
from remit.services.ledger_search import LedgerSearch, Wanted
from tests.support import NOW, World, call, grant

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def worked(path: Path, tasks: int = 6) -> tuple[World, list[str]]:
    """Tasks of two minutes, one after the other; each makes a call in its first."""
    world, names = World(path), []
    for _ in range(tasks):
        task = await world.open(grant(), grant("mail/read"))
        names.append(task.id)
        await world.mediation.authorize(world.bearer(task), call(to="bob", amount=5))
        world.clock.now += timedelta(minutes=2)
        await world.tasks.end(task.id, TaskState.COMPLETED, by="test")
    return world, names


async def test_a_period_in_the_middle_is_what_it_is_of_the_whole(tmp_path: Path) -> None:
    world, _ = await worked(tmp_path / "remit.db")
    running = await world.open(grant())
    world.clock.now += timedelta(minutes=3)
    exposures = Exposures(world.store, LedgerSearch(world.store), lambda: world.clock.now)
    found = await exposures.of(NOW + timedelta(minutes=1), NOW + timedelta(minutes=60))
    by_name = {one.what: one for one in found.privileges}
    assert found.tasks == 7
    assert by_name["bank/pay"].live_ms == 14 * 60_000, "from the middle of the first task to now, in the running one"
    assert by_name["bank/pay"].open_still
    assert by_name["mail/read"].live_ms == 11 * 60_000
    assert by_name["mail/read"].uses == 0
    assert found.end == world.clock.now, "a period does not reach into the future"
    part = await exposures.of(NOW + timedelta(minutes=3), NOW + timedelta(minutes=5))
    assert {one.what: one.live_ms for one in part.privileges}["mail/read"] == 2 * 60_000
    other = await exposures.of(NOW, world.clock.now, agent="spiffe://remit.test/agent/nobody")
    assert other.privileges == ()
    with pytest.raises(Mistake):
        await exposures.of(NOW, NOW)
    cut = await Exposures(world.store, LedgerSearch(world.store), lambda: world.clock.now, entries_max=5).of(NOW, world.clock.now)
    assert cut.cut
    assert cut.begin > NOW
    assert running
    await world.close()


async def test_who_looks_again_has_nothing_counted_anew(tmp_path: Path) -> None:
    world, _ = await worked(tmp_path / "remit.db", tasks=1)
    recent = RecentExposures(Exposures(world.store, LedgerSearch(world.store), lambda: world.clock.now))
    end = world.clock.now
    first = await recent.of(NOW, end)
    assert await recent.of(NOW + timedelta(seconds=1), end + timedelta(seconds=1)) is first
    later = [await recent.of(NOW, end, agent=str(number)) for number in range(40)]
    assert later[-1].privileges == ()
    assert await recent.of(NOW, end) is not first, "only so many are kept"
    await world.close()


async def test_entries_are_found_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, names = await worked(tmp_path / "remit.db")
    search = LedgerSearch(world.store)
    size = await world.store.change_mark()
    everything = await search.find(Wanted(), most=1_000)
    assert [entry.index for entry, _ in everything.entries] == list(reversed(range(size)))
    assert everything.next_before == -1
    seen, before = [], -1
    while True:
        page = await search.find(Wanted(kind="call.decided"), before=before, most=2)
        seen += [entry.index for entry, _ in page.entries]
        before = page.next_before
        if before < 0:
            break
    assert len(seen) == len(set(seen)) == 6
    of_task = await search.find(Wanted(task=names[2]), most=2)
    assert {entry.task for entry, _ in of_task.entries} == {names[2]}
    rest = await search.find(Wanted(task=names[2]), before=of_task.next_before, most=50)
    assert len(rest.entries) + 2 == len(await world.store.task_entries(names[2]))
    assert len((await search.find(Wanted(tool="bank/pay"))).entries) == 6
    assert (await search.find(Wanted(tool="bank/other"))).entries == ()
    assert len((await search.find(Wanted(agent="tester", kind="task.opened"))).entries) == 6
    assert (await search.find(Wanted(agent="ester"))).entries == (), "a name is whole"
    timed = await search.find(Wanted(kind="task.opened", since=NOW + timedelta(minutes=2), until=NOW + timedelta(minutes=6)))
    assert [record.at for _, record in timed.entries] == [NOW + timedelta(minutes=4), NOW + timedelta(minutes=2)]
    monkeypatch.setattr(ledger_search, "_LOOKED_AT_MAX", 10)
    monkeypatch.setattr(ledger_search, "_PAGE", 5)
    looked, before, pages = 0, -1, 0
    while True:
        page = await search.find(Wanted(kind="nothing.such"), before=before)
        looked, pages, before = looked + page.looked_at, pages + 1, page.next_before
        assert page.looked_at <= 10, "however little is found"
        if before < 0:
            break
    assert looked == size
    assert pages > 1
    await world.close()

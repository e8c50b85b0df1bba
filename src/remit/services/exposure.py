"""Reads the exposure of a period from the ledger (``logic/exposure.py`` counts it).

Rules: what a period needs is read once, a page at a time, and in between others get their turn. Where it is longer than ``entries_max``
entries, it is cut at its beginning and says so. Tasks that were open when it begins are read from their own beginning.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.exposure import Trace, count
from remit.logic.records import decode
from remit.model.record import TaskOpened
from remit.services.tasks import LIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.model.exposure import Exposure
    from remit.services.ledger_search import LedgerSearch
    from remit.store.database import Entry, Store

_PAGE = 1_000
_LIVE_MAX = 10_000
_MINUTE, _KEPT_MAX = 60, 16
_NEEDED = tuple(f'"kind":"{kind}'.encode() for kind in ("task.opened", "task.moved", "lease.", "call.decided", "call.finished"))


class Exposures:
    """Of one store."""

    def __init__(self, store: Store, search: LedgerSearch, clock: Callable[[], datetime], entries_max: int = 300_000) -> None:
        self._store, self._search, self._clock, self._entries_max = store, search, clock, entries_max
        self._reading = asyncio.Lock()  # one at a time: a long period is a lot to read

    async def of(self, begin: datetime, end: datetime, agent: str = "") -> Exposure:
        """The exposure of a period, of one agent (its SPIFFE ID) or of all. Raises Mistake, Outage."""
        end = min(end, self._clock())
        if begin >= end:
            raise Mistake("the period is empty", code="period", hint="it begins before it ends, and not in the future")
        size = await self._store.change_mark()
        start, stop = await self._search.first_at(begin), min(await self._search.first_at(end), size)
        cut = stop - start > self._entries_max
        if cut:
            start = stop - self._entries_max
            (first,) = await self._store.entries(start, 1)
            begin = max(begin, decode(first.body).at)
        async with self._reading:
            traces = await self._traces(start, stop)
            counted = [one for one in traces.values() if not agent or one.agent == agent]
            return await asyncio.to_thread(count, counted, begin, end, cut=cut)

    async def _traces(self, start: int, stop: int) -> dict[str, Trace]:
        """What happened to each task that had a record there, or is live now."""
        traces: dict[str, Trace] = {}
        for row in await self._store.tasks(states=LIVE_STATES, after="", limit=_LIVE_MAX):
            await self._whole(traces, row.task, stop)
        known = set(traces)
        while start < stop:
            page = await self._store.entries(start, min(_PAGE, stop - start))
            if not page:
                break
            for task in await asyncio.to_thread(_gather, traces, known, page):
                await self._whole(traces, task, stop)
                known.add(task)
            start += len(page)
        return traces

    async def _whole(self, traces: dict[str, Trace], task: str, stop: int) -> None:
        """A task from its own beginning."""
        trace = traces[task] = Trace()
        for entry in await self._store.task_entries(task):
            if entry.index < stop:
                trace.add(decode(entry.body))


class RecentExposures:
    """Exposures for who looks again and again: what was counted within a minute is not counted anew, for so many periods."""

    def __init__(self, exposures: Exposures) -> None:
        self._exposures = exposures
        self._kept: dict[tuple[int, int, str], Exposure] = {}

    async def of(self, begin: datetime, end: datetime, agent: str = "") -> Exposure:
        """As ``Exposures.of``, to the minute."""
        key = (int(begin.timestamp()) // _MINUTE, int(end.timestamp()) // _MINUTE, agent)
        if key not in self._kept:
            found = await self._exposures.of(begin, end, agent)
            while len(self._kept) >= _KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return self._kept[key]


def _gather(traces: dict[str, Trace], known: set[str], page: tuple[Entry, ...]) -> list[str]:
    """Add a page to the traces; gives the tasks that began before it was read. Those in ``known`` were read whole."""
    older: list[str] = []
    for entry in page:
        if entry.task is None or entry.task in known or entry.task in older or not any(kind in entry.body for kind in _NEEDED):
            continue
        trace = traces.get(entry.task)
        record = decode(entry.body)
        if trace is None and not isinstance(record.body, TaskOpened):
            older.append(entry.task)
        elif trace is None:
            traces[entry.task] = trace = Trace()
            trace.add(record)
        else:
            trace.add(record)
    return older

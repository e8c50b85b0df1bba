"""Finds entries of the ledger by task, agent, tool, kind and time, newest first, without an index beside the log.

Rules: one page looks at a bounded number of entries, whatever it finds, and says where it stopped, so that the next goes on there. A task's
entries are found by the task. Times are found by halving: entries stand in the order in which they became durable, and their times rise
but for the difference of nodes' clocks, which is allowed for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import Broken
from remit.logic.records import decode
from remit.model.record import NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.record import Record
    from remit.store.database import Entry, Store

_PAGE = 1_000
_LOOKED_AT_MAX = 20_000
_CLOCKS = timedelta(minutes=5)  # how far clocks of nodes may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; "" and ``None`` are anything. ``agent``: a SPIFFE ID or the end of one. ``tool``: ``server/name``."""

    task: str = ""
    agent: str = ""
    tool: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, entry: Entry, record: Record) -> bool:
        """Whether an entry is one of these."""
        body = record.body
        server, name, agent = (getattr(body, key, "") for key in ("server", "name", "agent"))
        return (
            (not self.task or entry.task == self.task)
            and (not self.kind or NAMES[type(body)] == self.kind)
            and (not self.agent or agent == self.agent or str(agent).endswith(f"/{self.agent}"))
            and (not self.tool or f"{server}/{name}" == self.tool)
            and (self.since is None or record.at >= self.since)
            and (self.until is None or record.at < self.until)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page. ``next_before``: the index to go on before (-1: there is nothing before). ``looked_at``: entries that were read for it."""

    entries: tuple[tuple[Entry, Record], ...]
    next_before: int
    looked_at: int


class LedgerSearch:
    """Looks through one store's log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, wanted: Wanted, *, before: int = -1, most: int = 50) -> Found:
        """Entries before an index (-1: from the newest on), newest first. Raises Outage."""
        size = await self._store.change_mark()
        end = size if before < 0 else min(before, size)
        if wanted.task:
            return self._of_task(await self._store.task_entries(wanted.task), wanted, end, most)
        if wanted.until is not None:
            end = min(end, await self.first_at(wanted.until + _CLOCKS))
        first = await self.first_at(wanted.since - _CLOCKS) if wanted.since is not None else 0
        found: list[tuple[Entry, Record]] = []
        looked_at = 0
        while end > first and looked_at < _LOOKED_AT_MAX:
            start = max(end - _PAGE, first)
            for entry in reversed(await self._store.entries(start, end - start)):
                looked_at += 1
                end = entry.index
                record = self._fitting(wanted, entry)
                if record is not None:
                    found.append((entry, record))
                    if len(found) == most:
                        return Found(entries=tuple(found), next_before=end if end > first else -1, looked_at=looked_at)
        return Found(entries=tuple(found), next_before=end if end > first else -1, looked_at=looked_at)

    async def first_at(self, moment: datetime) -> int:
        """Index of the first entry of that time or later, as far as times rise; costs the logarithm. Raises Outage."""
        low, high = 0, await self._store.change_mark()
        while low < high:
            middle = (low + high) // 2
            (entry,) = await self._store.entries(middle, 1)
            if _moment(entry) < moment:
                low = middle + 1
            else:
                high = middle
        return low

    def _of_task(self, entries: tuple[Entry, ...], wanted: Wanted, end: int, most: int) -> Found:
        fitting = [(entry, record) for entry in reversed(entries) if entry.index < end and (record := self._fitting(wanted, entry))]
        more = len(fitting) > most
        return Found(entries=tuple(fitting[:most]), next_before=fitting[most - 1][0].index if more else -1, looked_at=len(entries))

    @staticmethod
    def _fitting(wanted: Wanted, entry: Entry) -> Record | None:
        for text in (wanted.agent, wanted.kind, *wanted.tool.split("/", 1)):
            if text and text.encode() not in entry.body:  # cheaper than to decode it
                return None
        try:
            record = decode(entry.body)
        except Broken:
            return None
        return record if wanted.fits(entry, record) else None


def _moment(entry: Entry) -> datetime:
    return decode(entry.body).at


def pretty(entry: Entry) -> str:
    """An entry for people."""
    return json.dumps(json.loads(entry.body), indent=2, ensure_ascii=False)

"""What a running node can tell of itself, for Prometheus: leases, decisions, tasks, the store, queues.

Rules
* Counters count what the ledger has gained since this process follows it, whoever appended it: nodes on one store count the same.
* Labels come from the configuration and from closed sets; whatever else something is called counts as ``other``. No name that an
  agent, a server or a stranger chooses makes a series, and none of a person, a task or a lease is told.
* A look costs pages of rows, each bounded, and at most ``_LEARN_MAX`` tasks that are not known yet; looks within a second share one.

Left out: who may look (``doors/metrics.py``).
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from dataclasses import dataclass
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from remit.errors import NotFound, Outage
from remit.logic.records import decode
from remit.model.call_record import CallDecided
from remit.model.lease import LEASE_MOVES, LeaseState
from remit.model.lease_record import LeaseRevoked
from remit.model.record import TaskMoved
from remit.model.task import TASK_MOVES, TaskState
from remit.services.tasks import LIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from remit.services.feed import Feed
    from remit.services.tasks import Tasks
    from remit.store.database import Entry, LeaseRow, Store

_PAGE = 1_000
_PAGES_MAX = 100
_LEARN_MAX = 200
_SHARED_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
_OTHER = "other"
_TOLD = (b'"kind":"call.decided"', b'"kind":"task.moved"', b'"kind":"lease.revoked"')
_APPEND_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
_REVOKE_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 7_200)
_ENDING = {LeaseState.REVOKING.value, LeaseState.STUCK.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Of a lease: since when it may stand, and since when it has to go."""

    intended_at: datetime
    ending_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Numbers of another service, read at each look. ``read``: by values of the labels, in their order."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    read: Callable[[], Mapping[tuple[str, ...], float]]


class Metrics:
    """Metrics of one node."""

    def __init__(
        self,
        store: Store,
        tasks: Tasks,
        feed: Feed,
        clock: Callable[[], datetime],
        *,
        targets: Callable[[], Collection[str]],
        servers: Callable[[], Collection[str]],
        queues: Mapping[str, Callable[[], int]],
        more: Sequence[Told] = (),
    ) -> None:
        """``targets``, ``servers``: configured names as they are now. ``queues``: by name, how much waits. ``more``: of others."""
        self._store, self._tasks, self._feed, self._clock = store, tasks, feed, clock
        self._targets, self._servers, self._queues = targets, servers, queues
        self._times: dict[str, _Times] = {}
        self._looking = asyncio.Lock()
        self._text, self._looked_at = b"", float("-inf")
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._decisions = Counter("remit_decisions", "Decisions about calls", ("server", "outcome"), registry=registry)
        self._ended = Counter("remit_tasks_ended", "Tasks that have ended", ("state",), registry=registry)
        self._open = Gauge("remit_tasks", "Tasks that have not ended", ("state",), registry=registry)
        self._leases = Gauge("remit_leases", "Credentials that may stand on a target", ("target", "state"), registry=registry)
        self._oldest = Gauge("remit_lease_oldest_seconds", "Age of the oldest of them", ("target",), registry=registry)
        self._late = Gauge(
            "remit_lease_revocation_waiting_seconds",
            "For how long the one that has waited longest has had to go",
            ("target",),
            registry=registry,
        )
        self._lag = Histogram(
            "remit_lease_revocation_seconds",
            "From when a credential had to go to when its target confirmed it",
            ("target",),
            buckets=_REVOKE_BUCKETS,
            registry=registry,
        )
        self._append = Histogram(
            "remit_store_append_seconds", "From an append to its being durable", buckets=_APPEND_BUCKETS, registry=registry
        )
        self._waiting = Gauge("remit_queue_length", "What waits in a queue", ("queue",), registry=registry)
        self._missed = Counter("remit_missed_entries", "Entries of the ledger that these counters have missed", registry=registry)

        self._more = [(one, Gauge(one.name, one.help, one.labels, registry=registry)) for one in more]

    def appended(self, seconds: float) -> None:
        """An append has become durable."""
        self._append.observe(seconds)

    async def follow(self) -> None:
        """Run until cancelled: count what the ledger gains."""
        last = -1
        while True:
            async for entry in self._feed.watch():
                if last >= 0:
                    self._missed.inc(max(entry.index - last - 1, 0))
                last = entry.index
                await self._count(entry)
            await asyncio.sleep(_AGAIN_SECONDS)  # we did not keep up

    async def text(self) -> bytes:
        """All of it in Prometheus's text format. Raises Outage."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked_at >= _SHARED_SECONDS:
                await self._look()
                self._text, self._looked_at = prometheus_client.generate_latest(self._registry), loop.time()
            return self._text

    async def _count(self, entry: Entry) -> None:
        if entry.task is None or not any(kind in entry.body for kind in _TOLD):
            return
        record = decode(entry.body)
        body = record.body
        if isinstance(body, CallDecided):
            self._decisions.labels(_one_of(self._servers(), body.server), body.outcome).inc()
        elif isinstance(body, TaskMoved) and not TASK_MOVES[TaskState(body.to)]:
            self._ended.labels(body.to).inc()
        elif isinstance(body, LeaseRevoked):
            lease = None
            try:
                lease = (await self._tasks.view_with(entry.task, lambda task: body.lease in task.leases)).leases.get(body.lease)
            except (NotFound, Outage):
                self._missed.inc()
            if lease is not None and lease.ending_at is not None:
                seconds = max((record.at - lease.ending_at).total_seconds(), 0.0)
                self._lag.labels(_one_of(self._targets(), lease.target)).observe(seconds)

    async def _look(self) -> None:
        states = Tally(dict.fromkeys(LIVE_STATES, 0))
        after = ""
        for _ in range(_PAGES_MAX):
            page = await self._tasks.rows(states=LIVE_STATES, after=after, limit=_PAGE)
            states.update(row.state for row in page)
            if len(page) < _PAGE:
                break
            after = page[-1].task
        for state, count in states.items():
            self._open.labels(state).set(count)
        await self._look_at_leases(await self._live())
        for name, length in self._queues.items():
            self._waiting.labels(name).set(length())
        for one, gauge in self._more:
            if one.labels:
                gauge.clear()
            for labels, value in one.read().items():
                (gauge.labels(*labels) if labels else gauge).set(value)
        self._waiting.labels("feed").set(max(await self._store.change_mark() - self._feed.mark, 0))

    async def _live(self) -> list[LeaseRow]:
        rows: list[LeaseRow] = []
        for _ in range(_PAGES_MAX):
            page = await self._store.live_leases("", rows[-1].lease if rows else "", _PAGE)
            rows += page
            if len(page) < _PAGE:
                break
        return rows

    async def _look_at_leases(self, rows: list[LeaseRow]) -> None:
        now, names = self._clock(), self._targets()
        await self._learn(rows)
        for gauge in (self._leases, self._oldest, self._late):
            gauge.clear()
        for name in names:
            for lease_state in LEASE_MOVES:
                if LEASE_MOVES[lease_state]:
                    self._leases.labels(name, lease_state.value).set(0)
            self._oldest.labels(name).set(0)
            self._late.labels(name).set(0)
        counts: Tally[tuple[str, str]] = Tally()
        oldest: dict[str, float] = {}
        late: dict[str, float] = {}
        for row in rows:
            target, times = _one_of(names, row.target), self._times.get(row.lease)
            counts[target, row.state] += 1
            if times is not None:
                oldest[target] = max(oldest.get(target, 0.0), (now - times.intended_at).total_seconds())
            if times is not None and times.ending_at is not None:
                late[target] = max(late.get(target, 0.0), (now - times.ending_at).total_seconds())
        for (target, state), count in counts.items():
            self._leases.labels(target, state).set(count)
        for gauge, values in ((self._oldest, oldest), (self._late, late)):
            for target, seconds in values.items():
                gauge.labels(target).set(seconds)

    async def _learn(self, rows: list[LeaseRow]) -> None:
        """Since when leases are as they are: from their tasks, so many at a look."""
        live = {row.lease for row in rows}
        self._times = {lease: times for lease, times in self._times.items() if lease in live}
        asked: set[str] = set()
        for row in rows:
            times = self._times.get(row.lease)
            if times is not None and (times.ending_at is not None or row.state not in _ENDING):
                continue
            if row.task not in asked and len(asked) >= _LEARN_MAX:
                continue
            asked.add(row.task)
            try:
                task = await self._tasks.view_with(row.task, lambda task, row=row: row.lease in task.leases)  # type: ignore[misc]  # a default binds it now
            except NotFound:
                continue
            lease = task.leases.get(row.lease)
            if lease is not None:
                self._times[row.lease] = _Times(intended_at=lease.intended_at, ending_at=lease.ending_at)


def _one_of(names: Collection[str], name: str) -> str:
    return name if name in names else _OTHER

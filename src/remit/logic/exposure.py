"""Counts exposure from what the ledger says of tasks (``model/exposure.py``). Pure.

Rules
* A credential is open from the record that it was issued to the one that its target confirmed its end, whatever happened between; it is in
  use while a call of its task is under way.
* A privilege is open while a task that grants it is active, suspended time left out; it is in use while a call of it is under way.
* Times of one agent's several tasks are laid over each other: what stood twice at once counts once. The same access, static, would have
  stood the whole period; that is what the comparison assumes, and it says so.
* A review that finds everything is assumed: monthly on the first day of a month, quarterly of January, April, July, October (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from remit.model.call_record import CallDecided, CallFinished
from remit.model.exposure import Excess, Exposure, Span, Standing
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked
from remit.model.record import TaskMoved, TaskOpened
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.model.record import Record

ASSUMPTIONS = (
    "Static access is the same credentials and tools, given to the same agents, standing through the whole period.",
    "It is counted only for what was in fact used or granted in the period; access that nobody asked for is not made up.",
    "A credential or tool is in use while a call is under way, from its decision to its end.",
    "A review finds every excess on its day and closes it at once: monthly on the 1st, quarterly on the 1st of the quarter, UTC.",
)
_MONTHS_A_QUARTER, _MONTHS_A_YEAR = 3, 12
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Lease:
    target: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True)
class Trace:
    """What is to be counted of one task, gathered record by record in their order."""

    agent: str = ""
    privileges: tuple[str, ...] = ()
    active: list[Span] = field(default_factory=list)
    since: datetime | None = None  # active from then on
    leases: dict[str, _Lease] = field(default_factory=dict)
    under_way: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    calls: list[tuple[str, datetime, datetime]] = field(default_factory=list)  # tool, from, to

    def add(self, record: Record) -> None:
        """One more record of the task."""
        body = record.body
        if isinstance(body, TaskOpened):
            self.agent, self.privileges = body.agent, _privileges(body)
        elif isinstance(body, TaskMoved):
            self._moved(body.to == TaskState.ACTIVE, record.at)
        elif isinstance(body, LeaseIntended):
            self.leases[body.lease] = _Lease(body.target)
        elif isinstance(body, LeaseIssued) and body.lease in self.leases:
            self.leases[body.lease].since = record.at
        elif isinstance(body, LeaseRevoked) and body.lease in self.leases:
            self.leases[body.lease].until = record.at
        elif isinstance(body, CallDecided) and body.outcome == "allow":
            self.under_way[body.decision] = (f"{body.server}/{body.name}", record.at)
        elif isinstance(body, CallFinished) and body.decision in self.under_way:
            tool, since = self.under_way.pop(body.decision)
            self.calls.append((tool, since, record.at))

    def _moved(self, active: bool, at: datetime) -> None:  # one of two states
        if active and self.since is None:
            self.since = at
        elif not active and self.since is not None:
            self.active.append((self.since, at))
            self.since = None

    def spans(self, end: datetime) -> list[Span]:
        """When the task was active."""
        return [*self.active, *([(self.since, end)] if self.since is not None else [])]

    def uses(self, end: datetime) -> list[tuple[str, datetime, datetime]]:
        """Its calls; one whose end nobody recorded is under way until the task is no longer active."""
        until = end if self.since is not None else max((last for _, last in self.active), default=end)
        return [*self.calls, *((tool, since, max(since, until)) for tool, since in self.under_way.values())]


@dataclass(slots=True)
class _Found:
    live: list[Span] = field(default_factory=list)
    used: list[Span] = field(default_factory=list)


def count(traces: Iterable[Trace], begin: datetime, end: datetime, *, cut: bool = False) -> Exposure:
    """The exposure of a period, from all tasks that had any part in it."""
    credentials: dict[tuple[str, str], _Found] = {}
    privileges: dict[tuple[str, str], _Found] = {}
    tasks = 0
    for trace in traces:
        spans, uses = trace.spans(end), trace.uses(end)
        tasks += bool(_clipped(spans, begin, end))
        for tool in trace.privileges:
            one = privileges.setdefault((trace.agent, tool), _Found())
            one.live += spans
            one.used += [(since, until) for name, since, until in uses if name == tool]
        for lease in trace.leases.values():
            if lease.since is None:
                continue
            stood = (lease.since, lease.until or end)
            one = credentials.setdefault((trace.agent, lease.target), _Found())
            one.live.append(stood)
            one.used += _clipped([(since, until) for _, since, until in uses], *stood)
    ways = [_standings(found, begin, end) for found in (credentials, privileges)]
    excesses = sorted((_excess(one, end) for way in ways for one in way), key=lambda one: (-one.quarterly_ms, one.agent, one.what))
    return Exposure(
        begin=begin,
        end=end,
        tasks=tasks,
        credentials=ways[0],
        privileges=ways[1],
        excesses=tuple(excesses),
        assumptions=ASSUMPTIONS,
        cut=cut,
    )


def next_review(after: datetime, months: int) -> datetime:
    """The next day of review: the first of a month, of each ``months``-th of a year."""
    month = after.month - 1 - (after.month - 1) % months + months
    first = after.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.replace(year=after.year + month // _MONTHS_A_YEAR, month=month % _MONTHS_A_YEAR + 1)


def _standings(found: dict[tuple[str, str], _Found], begin: datetime, end: datetime) -> tuple[Standing, ...]:
    standings = []
    for (agent, what), one in sorted(found.items()):
        live, used = joined(_clipped(one.live, begin, end)), joined(_clipped(one.used, begin, end))
        if not live:
            continue
        standings.append(
            Standing(
                agent=agent,
                what=what,
                live=live,
                live_ms=_milliseconds(live),
                used_ms=_milliseconds(used),
                static_ms=_milliseconds(((begin, end),)),
                uses=len(_clipped(one.used, begin, end)),
                last_needed=used[-1][1] if used else live[0][0],
                open_still=live[-1][1] >= end,
            )
        )
    return tuple(standings)


def _excess(one: Standing, end: datetime) -> Excess:
    return Excess(
        agent=one.agent,
        what=one.what,
        last_needed=one.last_needed,
        used=bool(one.uses),
        remit_ms=_milliseconds(_clipped(one.live, one.last_needed, end)),
        monthly_ms=_between(one.last_needed, next_review(one.last_needed, 1)),
        quarterly_ms=_between(one.last_needed, next_review(one.last_needed, _MONTHS_A_QUARTER)),
    )


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans laid over each other: in order, none touching the next."""
    found: list[Span] = []
    for since, until in sorted(spans):
        if found and since <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((since, until))
    return tuple(found)


def _clipped(spans: Iterable[Span], begin: datetime, end: datetime) -> list[Span]:
    return [(max(since, begin), min(until, end)) for since, until in spans if since < end and until > begin]


def _milliseconds(spans: Iterable[Span]) -> int:
    return sum(_between(since, until) for since, until in spans)


def _between(since: datetime, until: datetime) -> int:
    return max((until - since) // _MILLISECOND, 0)


def _privileges(opened: TaskOpened) -> tuple[str, ...]:
    """The tools that a grant names: those that were pinned, where it is a pattern. Resources and prompts stand for themselves."""
    names: set[str] = set()
    for line in opened.grants:
        pattern = f"{line.server}/{line.name}"
        tools = [tool for tool in opened.tools if fnmatchcase(tool, pattern)] if line.kind == "tool" and "*" in pattern else []
        names.update(tools or [pattern])
    return tuple(sorted(names))

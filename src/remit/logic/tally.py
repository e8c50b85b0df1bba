"""Counts over a ledger, entry by entry, for reports: how often what happened in a period, and which entries show it. Pure.

Rules
* The whole ledger is read from its beginning, since what a record means depends on those before it (``logic/life.py`` folds them);
  only entries of the period are counted.
* Memory does not grow with the ledger: of each counter the number and the latest few entries are kept, of tasks those that live or have
  a credential that may stand, of names so many.
* Seen here, from several records together: a call that was allowed while its task did not live or its agent was stopped. That must never
  be: it is counted so that a report can say that it never was. And a target's secret that takes the place of another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from remit.errors import Broken
from remit.logic.life import fold
from remit.logic.tally_words import counted
from remit.model.call_record import ApprovalAnswered, CallDecided
from remit.model.catalog import Kind
from remit.model.delegation_record import AgentsRestored, AgentsStopped
from remit.model.drill import DrillRan, Incident
from remit.model.lease import LeaseState
from remit.model.lease_record import LeaseRevoked, TargetSecretSet
from remit.model.record import NAMES, PolicyActivated, TaskOpened
from remit.model.report import InForce
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from remit.model.record import Record
    from remit.model.task import Task

ENTRIES_KEPT = 3
NAMES_MAX = 2_000  # of each kind; more are counted, not named
_EVERY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An entry of the ledger that shows something. ``leaf``: its leaf hash, hexadecimal (RFC 6962)."""

    index: int
    kind: str
    at: str
    leaf: str


@dataclass(slots=True)
class Count:
    """How often, and the latest entries."""

    number: int = 0
    latest: deque[Shown] = field(default_factory=lambda: deque(maxlen=ENTRIES_KEPT))


@dataclass(slots=True)
class Spans:
    """Times that were measured, in whole milliseconds."""

    number: int = 0
    total_ms: int = 0
    longest_ms: int = 0

    def add(self, span: timedelta) -> None:
        """One more."""
        milliseconds = max(int(span.total_seconds() * 1_000), 0)
        self.number, self.total_ms = self.number + 1, self.total_ms + milliseconds
        self.longest_ms = max(self.longest_ms, milliseconds)


@dataclass(slots=True)
class Names:
    """Names that were seen, with how often; bounded. ``unnamed``: sightings of further ones."""

    seen: dict[str, int] = field(default_factory=dict)
    unnamed: int = 0

    def add(self, name: str) -> None:
        """One more."""
        if name in self.seen or len(self.seen) < NAMES_MAX:
            self.seen[name] = self.seen.get(name, 0) + 1
        else:
            self.unnamed += 1


class Tally:
    """The counts of one period: from ``begin`` on, before ``end`` (``None``: without a bound)."""

    def __init__(self, begin: datetime | None = None, end: datetime | None = None) -> None:
        self.begin, self.end = begin, end
        self.counts: dict[str, Count] = {}
        self.spans: dict[str, Spans] = {name: Spans() for name in ("answering", "lease", "revocation", "task", "token")}
        self.names: dict[str, Names] = {kind: Names() for kind in ("agent", "task_type", "tool", "target")}
        self.living = 0  # tasks that live at the end of what was read
        self.drills: dict[str, tuple[DrillRan, Shown]] = {}  # the latest of each in the period
        self.in_force = InForce()  # at the end, as recorded
        self._tasks: dict[str, Task] = {}
        self._asked: dict[str, datetime] = {}
        self._stopped: set[str] = set()
        self._secrets: set[str] = set()  # targets that have been given one

    def number(self, counter: str) -> int:
        """How often."""
        found = self.counts.get(counter)
        return found.number if found else 0

    def take(self, index: int, leaf: bytes, record: Record) -> None:
        """The next entry of the ledger. Never raises: what does not fold is counted."""
        inside = (self.begin is None or record.at >= self.begin) and (self.end is None or record.at < self.end)
        shown = Shown(index=index, kind="", at="", leaf="") if not inside else _shown(index, leaf, record)
        found = {"ledger.entries": 1, **dict(counted(record.body))} if inside else {}
        for counter in self._across(record, leaf):
            found[counter] = 1
        if inside:
            for counter, number in found.items():
                count = self.counts.get(counter) or self._counter(counter)
                count.number += number
                count.latest.append(shown)
            self._measure(record)
            self._remember(shown, record)
        if isinstance(record.body, PolicyActivated):
            self.in_force = InForce(rulebook=record.body.rulebook, configuration=record.body.configuration)
        self._let_go(record)

    def _counter(self, counter: str) -> Count:
        count = self.counts[counter] = Count()
        return count

    def _across(self, record: Record, leaf: bytes) -> list[str]:
        """Follow what lives; gives what only several records together show."""
        found = self._judged(record)
        body, task_id = record.body, record.task
        if isinstance(body, AgentsStopped):
            self._stopped.update(body.agents)
        elif isinstance(body, AgentsRestored):
            self._stopped = set() if _EVERY in body.agents else self._stopped - {*body.agents}
        elif isinstance(body, TargetSecretSet):
            if body.target in self._secrets and not body.rotation:
                found.append("targets.secrets_set_again")
            if len(self._secrets) < NAMES_MAX:
                self._secrets.add(body.target)
        if task_id is None or (record.seq > 1 and task_id not in self._tasks):
            return found
        try:
            self._tasks[task_id] = fold(self._tasks.get(task_id), record, leaf)
        except (Broken, ValueError, LookupError):
            self._tasks.pop(task_id, None)
            return [*found, "ledger.entries_that_do_not_fold"]
        return found

    def _judged(self, record: Record) -> list[str]:
        body = record.body
        if not isinstance(body, CallDecided) or body.outcome != "allow":
            return []
        task = self._tasks.get(record.task or "")
        lives = task is not None and task.state is TaskState.ACTIVE and record.at < task.deadline
        stopped = {body.agent, *(task.chain if task else ()), _EVERY} & self._stopped
        return [name for name, bad in (("calls.allowed_outside_life", not lives), ("calls.allowed_while_stopped", stopped)) if bad]

    def _remember(self, shown: Shown, record: Record) -> None:
        if isinstance(record.body, DrillRan) and record.body.drill in set(Incident):
            self.drills[record.body.drill] = record.body, shown

    def _measure(self, record: Record) -> None:
        body, at = record.body, record.at
        task = self._tasks.get(record.task or "")
        if isinstance(body, CallDecided):
            self.names["agent"].add(body.agent)
            if body.tool_kind == Kind.TOOL:  # resources and prompts are not declared one by one
                self.names["tool"].add(f"{body.server}/{body.name}")
        elif isinstance(body, TaskOpened):
            self.names["task_type"].add(body.type)
            self.spans["task"].add(body.deadline - at)
        elif isinstance(body, TokenIssued):
            self.names["agent"].add(body.agent)
            self.spans["token"].add(body.expires_at - at)
        elif isinstance(body, ApprovalAnswered) and body.approval in self._asked:
            self.spans["answering"].add(at - self._asked[body.approval])
        elif isinstance(body, LeaseRevoked) and task is not None and (lease := task.leases.get(body.lease)) is not None:
            self.names["target"].add(lease.target)
            if lease.issued_at is not None:
                self.spans["lease"].add(at - lease.issued_at)
            if lease.ending_at is not None:
                self.spans["revocation"].add(at - lease.ending_at)

    def _let_go(self, record: Record) -> None:
        """Keep what is still needed: questions until they are answered, tasks until nothing of them can stand."""
        body = record.body
        if isinstance(body, CallDecided) and body.outcome == "ask" and body.approval:
            self._asked.setdefault(body.approval, record.at)
        elif isinstance(body, ApprovalAnswered) and body.state != "pending":
            self._asked.pop(body.approval, None)
        task = self._tasks.get(record.task or "")
        if task is None or not task.over:
            return
        for approval in task.approvals:
            self._asked.pop(approval, None)
        if not any(lease.live for lease in task.leases.values()):
            del self._tasks[task.id]

    def finish(self) -> None:
        """Everything was read: count what lives, and credentials that may stand; of them, those that remit has failed to take away."""
        leases = [lease for task in self._tasks.values() for lease in task.leases.values() if lease.live and not lease.stands]
        self.living = sum(not task.over for task in self._tasks.values())
        self.counts["leases.standing_now"] = Count(len(leases))
        self.counts["leases.stuck_now"] = Count(sum(lease.state is LeaseState.STUCK for lease in leases))


def _shown(index: int, leaf: bytes, record: Record) -> Shown:
    return Shown(index=index, kind=NAMES[type(record.body)], at=record.at.astimezone(UTC).isoformat(timespec="seconds"), leaf=leaf.hex())

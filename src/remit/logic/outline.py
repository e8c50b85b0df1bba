"""What the story and the receipt of a task need of all its records, kept small: a part of the story is then told from its own records.

Rules: it takes records one after the other and forgets them; taking one costs what folding it costs. It holds the folded task, where each
part of the story begins, where the labels changed, and which calls ended in a later part than they began. Pure but for its growing.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.logic.life import fold
from remit.model.call_record import CallDecided, CallFinished
from remit.model.record import TaskMoved
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.labels import Labels
    from remit.model.record import Record
    from remit.model.task import Task

STEPS_A_PART = 50


@dataclass(slots=True, kw_only=True)
class Outline:
    """``steps``: how many so far; a call and its end are one. ``used``: names of the calls that were allowed, by how often.

    For the receipt: ``begun_at``, when its authority began; ``undetermined``, calls under way at its end; tokens and SVIDs issued.
    """

    steps_a_part: int = STEPS_A_PART
    task: Task | None = None
    steps: int = 0
    used: dict[str, int] = field(default_factory=dict)
    begun_at: datetime | None = None
    undetermined: int = 0
    tokens_issued: int = 0
    svids_issued: int = 0
    svids_expire_at: datetime | None = None
    _begins: list[int] = field(default_factory=list)  # of each part, the number of its first record
    _under_way: dict[str, int] = field(default_factory=dict)  # allowed calls that have not ended, and the parts they are in
    _ends: dict[int, list[int]] = field(default_factory=dict)  # of a part, the records beyond it that end its calls
    _changes: list[int] = field(default_factory=list)  # records that changed the labels,
    _labels: list[tuple[Labels, bool]] = field(default_factory=list)  # and what they were from there on; whether they rose

    @property
    def seq(self) -> int:
        """The number of the record that was taken last."""
        return self.task.seq if self.task is not None else 0

    def take(self, record: Record, leaf: bytes) -> None:
        """The task's next record, with its leaf hash. Raises Broken where it does not fold; then nothing was taken."""
        before = self.task
        task = self.task = fold(before, record, leaf)
        if before is None or before.labels != task.labels:
            self._changes.append(record.seq)
            self._labels.append((task.labels, before is not None and not before.labels.covers(task.labels)))
        self._count(before, task, record)
        body = record.body
        if isinstance(body, CallFinished):
            part = self._under_way.pop(body.decision)
            if part != len(self._begins) - 1:
                self._ends.setdefault(part, []).append(record.seq)
            return
        if self.steps % self.steps_a_part == 0:
            self._begins.append(record.seq)
        self.steps += 1
        if isinstance(body, CallDecided) and body.outcome == "allow":
            name = f"{body.server}/{body.name}"
            self.used[name] = self.used.get(name, 0) + 1
            self._under_way[body.decision] = len(self._begins) - 1

    def labels_after(self, seq: int) -> tuple[Labels, bool]:
        """The labels after a record, and whether it raised them."""
        place = bisect_right(self._changes, seq) - 1
        labels, rose = self._labels[place]
        return labels, rose and self._changes[place] == seq

    def records_of(self, part: int) -> tuple[int, int, tuple[int, ...]]:
        """Which records a part of the story is told from: the numbers of the first and the last, and of the ends beyond them."""
        last = self._begins[part + 1] - 1 if part + 1 < len(self._begins) else self.seq
        return self._begins[part], last, tuple(self._ends.get(part, ()))

    def _count(self, before: Task | None, task: Task, record: Record) -> None:
        body = record.body
        if isinstance(body, TokenIssued) and body.use.endswith("-svid"):
            self.svids_issued += 1
            self.svids_expire_at = max(self.svids_expire_at or body.expires_at, body.expires_at)
        elif isinstance(body, TokenIssued):
            self.tokens_issued += 1
        elif isinstance(body, TaskMoved) and task.over:
            self.undetermined = len(before.in_flight) if before is not None else 0
        elif isinstance(body, TaskMoved) and body.to == TaskState.ACTIVE and self.begun_at is None:
            self.begun_at = record.at

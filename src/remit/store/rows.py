"""How rows become values, whatever engine keeps them. Times are text that sorts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from remit.logic.merkle import HASH_BYTES
from remit.store.database import ApprovalRow, ChildRow, Entry, LeaseRow, MarkRow, Row, SightingRow, TaintRow, TaskRow, Unsettled, ValueRow


def unpacked(packed: bytes) -> tuple[bytes, ...]:
    """A frontier from its bytes."""
    return tuple(packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES))


PUT: dict[type[Row], str] = {
    TaskRow: "put_task",
    ApprovalRow: "put_approval",
    SightingRow: "put_sighting",
    TaintRow: "put_taint",
    ValueRow: "put_value",
    MarkRow: "put_mark",
    LeaseRow: "put_lease",
    ChildRow: "put_child",
}


def row_values(row: Row) -> tuple[Any, ...]:
    """A row as its columns, times as text that sorts."""
    if isinstance(row, TaskRow):
        return (row.task, row.type, row.agent, row.on_behalf_of, row.state, moment(row.opened_at), moment(row.deadline))
    if isinstance(row, ApprovalRow):
        return (row.approval, row.task, row.state, moment(row.asked_at), moment(row.expires_at))
    if isinstance(row, SightingRow):
        return (row.task, row.number, row.data)
    if isinstance(row, LeaseRow):
        times = (moment(row.expires_at), moment(row.due_at))
        return (row.lease, row.task, row.agent, row.target, row.state, *times, row.sealed)
    if isinstance(row, ValueRow):
        return (row.decision, row.sealed)
    if isinstance(row, ChildRow):
        return (row.task, row.parent, int(row.settled))
    return (row.name, row.number, row.text) if isinstance(row, MarkRow) else (row.server, row.key, row.task)


def moment(time: datetime) -> str:
    """A time as text that sorts."""
    return time.isoformat(timespec="microseconds")


def entry_of(row: tuple[Any, ...]) -> Entry:
    """An entry from its columns."""
    position, task, seq, leaf, body = row
    return Entry(index=position, task=task, seq=seq, leaf=bytes(leaf), body=bytes(body))


def task_row_of(row: tuple[Any, ...]) -> TaskRow:
    """A task's row from its columns."""
    task, kind, agent, on_behalf_of, state, opened_at, deadline = row
    return TaskRow(
        task=task,
        type=kind,
        agent=agent,
        on_behalf_of=on_behalf_of,
        state=state,
        opened_at=datetime.fromisoformat(opened_at),
        deadline=datetime.fromisoformat(deadline),
    )


def newest_tasks(rows: list[tuple[Any, ...]], most: int) -> tuple[TaskRow, ...]:
    """The newest of some rows of tasks, newest first."""
    opened_at = 5
    return tuple(task_row_of(row) for row in sorted(rows, key=lambda row: (row[opened_at], row[0]), reverse=True)[:most])


def unsettled_of(row: tuple[Any, ...]) -> Unsettled:
    """A child that something is left to be done for, from its columns."""
    task, parent, ended, parent_ended = row
    return Unsettled(task=task, parent=parent, ended=bool(ended), parent_ended=bool(parent_ended))


def approval_row_of(row: tuple[Any, ...]) -> ApprovalRow:
    """An approval's row from its columns."""
    approval, task, state, asked_at, expires_at = row
    return ApprovalRow(
        approval=approval,
        task=task,
        state=state,
        asked_at=datetime.fromisoformat(asked_at),
        expires_at=datetime.fromisoformat(expires_at),
    )


def lease_row_of(row: tuple[Any, ...]) -> LeaseRow:
    """A lease's row from its columns."""
    lease, task, agent, target, state, expires_at, due_at, sealed = row
    return LeaseRow(
        lease=lease,
        task=task,
        agent=agent,
        target=target,
        state=state,
        expires_at=datetime.fromisoformat(expires_at),
        due_at=datetime.fromisoformat(due_at),
        sealed=sealed,
    )

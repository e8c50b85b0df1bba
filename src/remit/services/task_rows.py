"""The rows that go with a task's records: what lists show, who is whose child, and the marks that others' decisions hang on.

Rules: a task that has delegated raises its mark with every record that moves or narrows it, so that no decision below slips past;
a task that never did writes none, and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.leases import due_at
from remit.model.call_record import ApprovalAnswered, CallDecided
from remit.model.delegation_record import TaskDelegated, TaskReturned
from remit.model.record import Body
from remit.store.database import ApprovalRow, ChildRow, Given, LeaseRow, MarkRow, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remit.model.lease import Lease
    from remit.model.task import Task
    from remit.store.database import Row


def authority_of(task: Task) -> Given:
    """The condition that a task above is as it was seen: not moved and not narrowed since."""
    return Given(name=f"authority/{task.id}", number=task.authority)


def task_row(task: Task) -> TaskRow:
    """A task in lists."""
    return TaskRow(
        task=task.id,
        type=task.type,
        agent=task.agent.text,
        on_behalf_of=task.on_behalf_of,
        state=task.state.value,
        opened_at=task.opened_at,
        deadline=task.deadline,
    )


def lease_row(task: Task, lease: Lease, sealed: str = "") -> LeaseRow:
    """The projection of a lease. ``sealed``: its credential, where it is new."""
    return LeaseRow(
        lease=lease.id,
        task=task.id,
        agent=task.agent.text,
        target=lease.target,
        state=lease.state.value,
        expires_at=lease.expires_at,
        due_at=due_at(lease),
        sealed=sealed,
    )


def rows_of(before: Task, after: Task, body: Body, now: datetime) -> Iterable[Row]:
    """The projections that an event changes."""
    if before.state is not after.state:
        yield task_row(after)
    if before.leases is not after.leases:
        yield from (lease_row(after, lease) for lease in after.leases.values() if before.leases.get(lease.id) != lease)
    if after.requests and (before.authority != after.authority or isinstance(body, TaskDelegated)):
        mark = authority_of(after)
        yield MarkRow(name=mark.name, number=mark.number, text="")
    if isinstance(body, TaskDelegated | TaskReturned):
        yield ChildRow(task=body.child, parent=after.id, settled=isinstance(body, TaskReturned))
    if isinstance(body, CallDecided | ApprovalAnswered) and body.approval:
        approval = after.approvals[body.approval]
        if before.approvals.get(approval.id) != approval:
            yield ApprovalRow(
                approval=approval.id,
                task=after.id,
                state=approval.state.value,
                asked_at=now,
                expires_at=approval.expires_at,
            )

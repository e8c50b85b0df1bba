"""How the records of a lease are appended: against the ledger, not against what is remembered of it.

What a process remembers of a task may be older than the ledger. An append finds that out, a refusal to build one does not: so before
a move counts as impossible, the task is read anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Conflict, Outage
from remit.logic.leases import check_lease
from remit.model.lease import LeaseState
from remit.model.lease_record import LeaseIssued, LeaseRevoked, LeaseRevoking, LeaseStuck
from remit.model.record import Body

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.store.database import Row

_ATTEMPTS = 8
_TO: dict[type[Body], LeaseState] = {
    LeaseIssued: LeaseState.ISSUED,
    LeaseRevoking: LeaseState.REVOKING,
    LeaseRevoked: LeaseState.REVOKED,
    LeaseStuck: LeaseState.STUCK,
}


async def record_lease(
    tasks: Tasks,
    task_id: str,
    body: LeaseIssued | LeaseRevoking | LeaseRevoked | LeaseStuck,
    also: Callable[[Task], tuple[Row, ...]] | None = None,
    check: Callable[[Task, datetime], None] = lambda _task, _now: None,
) -> Task:
    """The task after the record, durable. ``check`` may leave by an exception of its own, which must be no Conflict.

    Raises Conflict where the ledger does not admit it, NotFound, Outage.
    """
    to = _TO[type(body)]

    def admits(task: Task) -> bool:
        try:
            check_lease(task, body.lease, to)
        except Conflict:
            return False
        return True

    def build(task: Task, now: datetime) -> tuple[Body, None]:
        check_lease(task, body.lease, to)
        check(task, now)
        return body, None

    for _ in range(_ATTEMPTS):
        try:
            return (await tasks.change(task_id, build, also))[0]
        except Conflict:
            if not admits(await tasks.view_with(task_id, admits)):
                raise
    raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

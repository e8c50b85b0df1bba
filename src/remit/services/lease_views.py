"""Leases for those who look: what the ledger says of them, never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import NotFound
from remit.logic.lease_words import MayDo, may_do
from remit.model.lease import LeaseState

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.lease import Lease
    from remit.model.task import Task
    from remit.services.targets import Targets
    from remit.services.tasks import Tasks
    from remit.store.database import Store

_SHOWN_MAX = 1_000
_FIRST = (LeaseState.STUCK, LeaseState.REVOKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """One lease. ``mark``: its name on the target. ``seconds_left`` until the target ends it by itself; 0 once it is gone.

    ``stands``: it is a secret of the target that no end of a lease makes go. ``may``: what it may do there, and why that much.
    """

    lease: str
    name: str
    task: str
    agent: str
    target: str
    mark: str
    state: str
    intended_at: datetime
    issued_at: datetime | None
    expires_at: datetime
    ending_at: datetime | None
    revoked_at: datetime | None
    why: str
    seconds_left: int
    may: MayDo
    replaces: str = ""
    replaced_at: datetime | None = None
    stands: bool = False


async def live_leases(store: Store, tasks: Tasks, targets: Targets, target: str, now: datetime) -> tuple[LeaseView, ...]:
    """Leases that may stand on a target ("" : any), those in trouble first, then the next to end; the first thousand. Raises Outage."""
    rows = await store.live_leases(target, "", _SHOWN_MAX)
    views = [await lease_view(store, tasks, targets, row.lease, now) for row in rows]
    return tuple(sorted(views, key=lambda view: (view.state not in _FIRST, view.expires_at)))


async def lease_view(store: Store, tasks: Tasks, targets: Targets, lease_id: str, now: datetime) -> LeaseView:
    """One lease. Raises NotFound, Outage."""
    row = await store.lease(lease_id)
    if row is None:
        raise NotFound(f"there is no lease {lease_id[:80]}", hint="`remit lease list` shows them")
    task = await tasks.view_with(row.task, lambda task: lease_id in task.leases and task.leases[lease_id].state == row.state)
    return view_of(task, task.leases[lease_id], targets, now)


def view_of(task: Task, lease: Lease, targets: Targets, now: datetime) -> LeaseView:
    """A lease of a task, as it is shown."""
    return LeaseView(
        lease=lease.id,
        name=lease.name,
        task=task.id,
        agent=task.agent.text,
        target=lease.target,
        mark=targets.mark(lease.id),
        state=lease.state.value,
        intended_at=lease.intended_at,
        issued_at=lease.issued_at,
        expires_at=lease.expires_at,
        ending_at=lease.ending_at,
        revoked_at=lease.revoked_at,
        why=lease.why,
        seconds_left=max(int((lease.expires_at - now).total_seconds()), 0) if lease.live else 0,
        may=may_do(task, lease),
        replaces=lease.replaces,
        replaced_at=lease.replaced_at,
        stands=lease.stands,
    )

"""A lease's life as part of its task's: a pure fold over the ledger's records, and when a lease has to be looked after.

Rules
* A lease begins only in an active task. The record that ends or suspends a task makes all its leases *revoking*: there is no moment
  at which a task is over and a lease of it is not known to have to go.
* A record that a lease's state does not admit is a broken ledger (``Broken``), never skipped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import rfc8785

from remit.errors import Broken, Conflict
from remit.logic.lease_parts import parts_held
from remit.logic.task_types import filled
from remit.model.lease import LEASE_MOVES, MINT_WINDOW, ROTATION_GRACE, STUCK_RETRY, Lease, LeasePart, LeaseState, LeaseTerms
from remit.model.lease_record import (
    LeaseIntended,
    LeaseIssued,
    LeaseLine,
    LeasePartLine,
    LeaseRecord,
    LeaseRevoked,
    LeaseRevoking,
    LeaseStuck,
)
from remit.model.task import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from remit.model.lease import LeaseTemplate

Leases = dict[str, Lease]


def leases_after(task: Task, body: LeaseRecord, at: datetime) -> Leases:
    """The task's leases after a record of one of them. Raises Broken."""
    if isinstance(body, LeaseIntended):
        if task.state is not TaskState.ACTIVE or body.lease in task.leases:
            raise Broken(f"the ledger begins lease {body.lease} in task {task.id}, which is {task.state}")
        made = Lease(
            id=body.lease,
            name=body.name,
            target=body.target,
            intended_at=at,
            expires_at=body.expires_at,
            replaces=body.replaces,
            stands=body.stands,
            parts=tuple(body.parts),
        )
        return {**task.leases, made.id: made}
    lease = task.leases.get(body.lease)
    to = _STATES[type(body)]
    if lease is None or to not in LEASE_MOVES[lease.state]:
        raise Broken(f"the ledger makes lease {body.lease} of task {task.id} {to}")
    if isinstance(body, LeaseIssued):
        changed = replace(lease, state=to, issued_at=at)
        before = [one for one in in_use(task) if one.name == lease.name] if lease.replaces else []
        return {**task.leases, **{one.id: replace(one, replaced_at=at) for one in before}, lease.id: changed}
    if isinstance(body, LeaseRevoking):
        changed = replace(lease, state=to, ending_at=at, why=body.reason)
    elif isinstance(body, LeaseRevoked):
        changed = replace(lease, state=to, revoked_at=at)
    else:
        changed = replace(lease, state=to, stuck_at=at)
    return {**task.leases, lease.id: changed}


def all_revoking(leases: Mapping[str, Lease], at: datetime, why: str) -> Mapping[str, Lease]:
    """The leases of a task after it has ended or was suspended."""
    if not any(lease.live for lease in leases.values()):
        return leases
    return {
        lease.id: replace(lease, state=LeaseState.REVOKING, ending_at=at, why=why)
        if LeaseState.REVOKING in LEASE_MOVES[lease.state]
        else lease
        for lease in leases.values()
    }


def exceeding(task: Task, above: Sequence[Task] = ()) -> tuple[Lease, ...]:
    """Leases that may do more on their target than the grant now says, with those ``above``, and do not have to go yet."""
    terms = {one.name: one for one in task.terms}
    return tuple(
        lease
        for lease in task.leases.values()
        if lease.parts
        and LeaseState.REVOKING in LEASE_MOVES[lease.state]
        and not set(lease.parts) <= set(parts_held(terms[lease.name], task, above))
    )


def without_lost_parts(task: Task, at: datetime) -> Mapping[str, Lease]:
    """The leases of a task after it was narrowed."""
    lost = exceeding(task)
    made = {one.id: replace(one, state=LeaseState.REVOKING, ending_at=at, why="the task was narrowed") for one in lost}
    return {**task.leases, **made} if lost else task.leases


def check_lease(task: Task, lease: str, to: LeaseState) -> Lease:
    """The lease, which may move there. Raises Conflict."""
    known = task.leases.get(lease)
    if known is None or to not in LEASE_MOVES[known.state]:
        state = known.state if known else "not there"
        raise Conflict(f"lease {lease[:80]} is {state}; it cannot become {to}", code="lease_state")
    return known


def due_at(lease: Lease) -> datetime:
    """When the sweeper has to look after a lease: an intent that nobody carried out, a credential past its time, one that has to go.

    What was never seen to be issued may yet appear on the target while its mint is under way: it is settled after that.
    """
    if lease.state is LeaseState.ISSUED:
        return min(lease.expires_at, lease.replaced_at + ROTATION_GRACE) if lease.replaced_at else lease.expires_at
    window = lease.intended_at + MINT_WINDOW
    if lease.state is LeaseState.INTENDED:
        return window
    since = lease.ending_at or lease.intended_at
    if lease.state is LeaseState.STUCK and lease.stuck_at is not None:
        since = lease.stuck_at + STUCK_RETRY
    return since if lease.issued_at is not None else max(since, window)


def usable(task: Task, name: str) -> Lease | None:
    """The lease of that name that is in use."""
    return next((lease for lease in in_use(task) if lease.name == name), None)


def in_use(task: Task) -> tuple[Lease, ...]:
    """Leases whose credential is to be used now: what was replaced serves only calls that are under way."""
    return tuple(lease for lease in task.leases.values() if lease.state is LeaseState.ISSUED and lease.replaced_at is None)


def lost(task: Task) -> frozenset[str]:
    """Names under which the task has no lease in use."""
    return frozenset(one.name for one in task.terms if usable(task, one.name) is None)


def open_leases(templates: Iterable[LeaseTemplate], inputs: Mapping[str, Any]) -> tuple[LeaseTerms, ...]:
    """What a task may have on targets, from its type and inputs; as with the grant an input is a value, never a piece of structure."""
    return tuple(
        LeaseTerms(
            name=one.name,
            target=one.target,
            scope=_filled(one.scope, inputs),
            parts=tuple(
                LeasePart(
                    tools=part.tools,
                    scope=_filled(part.scope, inputs),
                    arguments=_filled(part.arguments, inputs) if part.arguments else "",
                )
                for part in one.parts
            ),
        )
        for one in templates
    )


def terms_of(line: LeaseLine) -> LeaseTerms:
    """Terms from their record."""
    parts = tuple(LeasePart(tools=tuple(part.tools), scope=part.scope, arguments=part.arguments) for part in line.parts)
    return LeaseTerms(name=line.name, target=line.target, scope=line.scope, parts=parts)


def terms_line(terms: LeaseTerms) -> LeaseLine:
    """Terms as they are recorded."""
    parts = [LeasePartLine(tools=list(part.tools), scope=part.scope, arguments=part.arguments) for part in terms.parts]
    return LeaseLine(name=terms.name, target=terms.target, scope=terms.scope, parts=parts)


def _filled(template: dict[str, Any], inputs: Mapping[str, Any]) -> str:
    return rfc8785.dumps(filled(template, inputs)).decode()


_STATES: dict[type[LeaseRecord], LeaseState] = {
    LeaseIssued: LeaseState.ISSUED,
    LeaseRevoking: LeaseState.REVOKING,
    LeaseRevoked: LeaseState.REVOKED,
    LeaseStuck: LeaseState.STUCK,
}

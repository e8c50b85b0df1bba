"""What a task did and what is left of it: computed from its records, with the checkpoint that covers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.logic.outline import Outline
from remit.logic.records import decode

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.call_record import CallDecided
    from remit.services.ledger import Ledger
    from remit.store.database import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """``exposure_seconds``: how long the task's authority was live. ``tokens_alive`` is 0 once the task has ended. ``svids_issued``: to its
    processes; they prove the agent until ``svids_expire_at``, also after the task.

    ``leases_revoked``: credentials whose target confirmed that nothing is left; ``leases_standing``: those that may still be there, as
    ``lease on target``. ``lease_seconds``: how long credentials stood on targets, added up.
    ``standing_secrets``: targets whose own secret its servers were given (``kind = "static"``): that stands, whatever ends.
    """

    task: str
    type: str
    agent: str
    on_behalf_of: str
    objective: str
    state: str
    reason: str
    allowed: int
    asked: int
    denied: int
    undetermined: int
    tokens_issued: int
    tokens_alive: int
    exposure_seconds: float
    data_class: str
    untrusted: bool
    ledger_entries: int
    checkpoint: str
    leases_issued: int = 0
    leases_revoked: int = 0
    leases_standing: tuple[str, ...] = ()
    lease_seconds: float = 0.0
    standing_secrets: tuple[str, ...] = ()
    svids_issued: int = 0
    svids_expire_at: datetime | None = None


async def make_receipt(store: Store, ledger: Ledger, classes: tuple[str, ...], task_id: str, now: datetime) -> Receipt:
    """The receipt of a task, ended or not. Publishes the checkpoint it names. Raises NotFound, Outage."""
    outline = Outline()
    for entry in await store.task_entries(task_id):
        outline.take(decode(entry.body), entry.leaf)
    note = await ledger.publish()
    head, _ = await ledger.checkpoint()
    return receipt_of(outline, classes, now, note=note, size=head.size)


def receipt_of(outline: Outline, classes: tuple[str, ...], now: datetime, *, note: str, size: int) -> Receipt:
    """The receipt of a task by all its records. ``note``: the checkpoint that covers them, of ``size`` entries."""
    task, begun = outline.task, outline.begun_at
    assert task is not None, "a task has records"
    end = task.ended_at or now
    given = [lease for lease in task.leases.values() if lease.issued_at is not None]
    return Receipt(
        task=task.id,
        type=task.type,
        agent=task.agent.text,
        on_behalf_of=task.on_behalf_of,
        objective=task.objective,
        state=task.state.value,
        reason=task.note,
        allowed=task.calls,
        asked=task.asked,
        denied=task.denied,
        undetermined=outline.undetermined,
        tokens_issued=outline.tokens_issued,
        tokens_alive=0 if task.over else outline.tokens_issued,
        exposure_seconds=round((end - begun).total_seconds(), 3) if begun else 0.0,
        data_class=classes[min(task.labels.rank, len(classes) - 1)],
        untrusted=task.labels.untrusted,
        ledger_entries=size,
        checkpoint=note,
        leases_issued=len(given),
        leases_revoked=sum(lease.revoked_at is not None for lease in given),
        leases_standing=tuple(f"{lease.id} on {lease.target}" for lease in task.leases.values() if lease.live),
        lease_seconds=round(sum(_seconds(lease.issued_at, lease.revoked_at or now) for lease in given), 3),
        standing_secrets=tuple(sorted({lease.target for lease in given if lease.stands})),
        svids_issued=outline.svids_issued,
        svids_expire_at=outline.svids_expire_at,
    )


def _seconds(since: datetime | None, until: datetime) -> float:
    return max((until - since).total_seconds(), 0.0) if since else 0.0


def describe_call(body: CallDecided) -> str:
    """One decision in a line, for a terminal."""
    why = "" if body.outcome == "allow" else "  " + ", ".join(reason.code for reason in body.reasons)
    approval = f"  {body.approval}" if body.approval else ""
    return f"{body.server}/{body.name}{why}{approval}"

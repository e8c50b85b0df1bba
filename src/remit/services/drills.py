"""Records that drills were played: their outcomes, in the real ledger. What was played stays on its stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.arguments import digest_bytes
from remit.logic.records import encode
from remit.model.drill import DrillRan, Outcome
from remit.model.record import Record
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.model.drill import Drilled
    from remit.store.database import Entry, Store


async def record_drill(store: Store, drilled: Drilled, result: bytes, rulebook: Rulebook, now: datetime, by: str) -> Entry:
    """Make one outcome durable. ``result``: the drill as it is printed, whose digest is recorded. Raises Outage."""
    ran = DrillRan(
        drill=drilled.drill.value,
        outcome=drilled.outcome.value,
        held=_number(drilled.steps, Outcome.HELD),
        not_held=_number(drilled.steps, Outcome.NOT_HELD),
        not_tried=_number(drilled.steps, Outcome.NOT_TRIED),
        by=by,
        result_digest=digest_bytes(result),
        policy_set=rulebook.policies.digest,
        rulebook=rulebook.kept,
        configuration=rulebook.digest,
        controls_held=drilled.controls(Outcome.HELD),
        controls_not_held=drilled.controls(Outcome.NOT_HELD),
    )
    return await store.append(Append(body=encode(Record(at=now, body=ran))))


def _number(steps: Sequence[object], outcome: Outcome) -> int:
    return sum(getattr(step, "outcome", None) is outcome for step in steps)

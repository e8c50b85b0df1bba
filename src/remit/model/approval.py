"""A person's consent to one exact call of one task.

Rules: bound to the digest of the call, used once, expires, never given by the one who asked. An approval is a fact
that a later request finds; nothing is parked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class ApprovalState(StrEnum):
    """Its life: asked, then granted or denied; a granted one is used once."""

    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"
    USED = "used"


APPROVAL_MOVES: dict[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.PENDING: frozenset({ApprovalState.GRANTED, ApprovalState.DENIED}),
    ApprovalState.GRANTED: frozenset({ApprovalState.USED}),
    ApprovalState.DENIED: frozenset(),
    ApprovalState.USED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question and its answer. ``call``: ``kind server/name``; ``digest`` of the arguments. ``by``: who answered."""

    id: str
    call: str
    digest: str
    state: ApprovalState
    expires_at: datetime
    by: str = ""
    reason: str = ""

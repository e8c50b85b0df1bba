"""Persons' consent to one exact call of one task, or to a described class of its calls.

Rules: bound to the digest of the call, used once (a class: so many times, until a time), expires, never given by the one who
asked. One no denies; it is granted once ``needed`` different approvers have said yes. Only an approver widens, never an
agent, and several approvers widen only as far as every one of them said. An approval is a fact that a later request finds;
nothing is parked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

EVERYTHING = "*"  # in ``Widening.free``: all arguments, as far as the grant goes


class ApprovalState(StrEnum):
    """Its life: asked, then granted or denied; a granted one is used up."""

    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"
    USED = "used"


APPROVAL_MOVES: dict[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.PENDING: frozenset({ApprovalState.PENDING, ApprovalState.GRANTED, ApprovalState.DENIED}),  # one yes of several
    ApprovalState.GRANTED: frozenset({ApprovalState.GRANTED, ApprovalState.USED}),  # one use of several
    ApprovalState.DENIED: frozenset(),
    ApprovalState.USED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one person said. ``via``: cli, http, link, form (asked at the agent's client), console; "" in old ledgers.

    ``passkey``: digest of the one that it was given with ("" : none).
    """

    by: str
    granted: bool
    at: datetime
    reason: str = ""
    via: str = ""
    passkey: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widening:
    """A described class of calls of the same task and the same tool: at most ``calls`` of them, before ``until``.

    ``free``: names of the top-level arguments that may differ (``*``: all). ``fixed``: digest of the others, "" for ``*``.
    """

    calls: int
    until: datetime
    free: tuple[str, ...] = ()
    fixed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question and what was answered.

    ``call``: ``kind server/name``; ``digest`` of the arguments. ``by``: who answered, several with commas. ``needed``: different
    persons who must say yes. ``four_eyes``: those for whom the task runs or who opened it may not answer. ``passkey``: each yes is
    given with a passkey. ``uses``: calls that it has opened. ``shown``: all who answered had its values before them.
    """

    id: str
    call: str
    digest: str
    state: ApprovalState
    expires_at: datetime
    by: str = ""
    reason: str = ""
    needed: int = 1
    four_eyes: bool = False
    passkey: bool = False
    answers: tuple[Answer, ...] = ()
    widened: Widening | None = None
    uses: int = 0
    shown: bool = False

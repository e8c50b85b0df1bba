"""The lease: one credential on one target for one task. It hangs on the task and dies with it.

Rules: a lease is immutable; the ledger's records make it (``logic/leases.py``). The moves are the table below; no other exists, and
each lease reaches the end. A lease that was never seen to be issued may still come into being on its target until
``MINT_WINDOW`` after its intent, so nobody settles it before. Left out: secrets (sealed in the store), targets (``drivers/targets``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.errors import Place

MINT_WINDOW = timedelta(seconds=60)
STUCK_RETRY = timedelta(seconds=60)
ROTATION_GRACE = timedelta(seconds=60)  # so long calls that are under way may still use what was replaced


class LeaseState(StrEnum):
    """intended → issued → revoking → revoked, or stuck: not gone after many tries, an alarm, still tried."""

    INTENDED = "intended"
    ISSUED = "issued"
    REVOKING = "revoking"
    STUCK = "stuck"
    REVOKED = "revoked"


LEASE_MOVES: dict[LeaseState, frozenset[LeaseState]] = {
    LeaseState.INTENDED: frozenset({LeaseState.ISSUED, LeaseState.REVOKING}),
    LeaseState.ISSUED: frozenset({LeaseState.REVOKING}),
    LeaseState.REVOKING: frozenset({LeaseState.REVOKED, LeaseState.STUCK}),
    LeaseState.STUCK: frozenset({LeaseState.REVOKED}),
    LeaseState.REVOKED: frozenset(),
}


LEASE_ORDER = tuple(LeaseState)
"""A lease only ever moves on along this: of two views of it, the one that is further is the newer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePart:
    """What a scope has as well for a task that may call one of ``tools`` (``server/name``). ``arguments``: of such a call, as far as they
    matter, JSON text ("" : any). ``scope``: JSON text.
    """

    tools: tuple[str, ...]
    scope: str
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """What a task may have on a target. ``name``: what servers call it by. ``scope``: JSON text in the target's own words.

    ``parts``: where there are some, a task has the scope with those that are for its grant, and without any of them nothing.
    """

    name: str
    target: str
    scope: str
    parts: tuple[LeasePart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTemplate:
    """A part before the inputs are put in. ``arguments``, ``scope``: JSON."""

    tools: tuple[str, ...]
    scope: dict[str, object]
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTemplate:
    """Terms of a task type before the inputs are put in. ``scope``: JSON. ``place``: where it stands."""

    name: str
    target: str
    scope: dict[str, object]
    parts: tuple[PartTemplate, ...] = ()
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One lease as the ledger's records make it. ``ending_at``: since when it has to go. ``why``: in words, of whoever decided that.

    ``replaces``: the lease of the same name in whose place it comes; ``replaced_at``: when another one came in its place.
    ``stands``: it is a secret of the target that outlives it. ``parts``: of its terms' scope, by number.
    """

    id: str
    name: str
    target: str
    intended_at: datetime
    expires_at: datetime
    state: LeaseState = LeaseState.INTENDED
    issued_at: datetime | None = None
    ending_at: datetime | None = None
    stuck_at: datetime | None = None
    revoked_at: datetime | None = None
    why: str = ""
    replaces: str = ""
    replaced_at: datetime | None = None
    stands: bool = False
    parts: tuple[int, ...] = ()

    @property
    def live(self) -> bool:
        """Whether something of it may stand on the target."""
        return bool(LEASE_MOVES[self.state])

    @property
    def ending(self) -> bool:
        """Whether it has to go, and is not known to be gone."""
        return self.state in {LeaseState.REVOKING, LeaseState.STUCK}

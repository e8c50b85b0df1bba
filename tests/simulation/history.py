"""What was seen from outside, in order: the effects that came about, what callers were told, and when.

"When" is the size that the ledger had on disk at that moment: whatever has a smaller index was durable before it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A task as it was asked for: what the checks compare the ledger with."""

    task: str
    agent: str
    deadline: datetime
    budget: int
    uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that a tool did. ``digest`` is computed anew from the arguments that reached it."""

    decision: str
    task: str
    tool: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer to an agent's call: allow, ask or deny under a decision's id. ``began``, ``size``: the ledger before and after."""

    decision: str
    task: str
    call: Call
    outcome: str
    approval: str
    began: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A success that a caller was told: ``kind`` is moved (to one of ``what``), answered (by that person) or issued (that jti)."""

    kind: str
    task: str
    what: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A token that was accepted. ``began``: the ledger that its node had been told of when it was asked."""

    task: str
    began: int
    late: bool


@dataclass(slots=True)
class History:
    """Everything that was seen in one run."""

    opened: dict[str, Opened] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    calls: dict[tuple[str, str], Call] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

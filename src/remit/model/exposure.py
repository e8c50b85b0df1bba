"""How long access stood open in a period, and how much of it was used: for remit, and for the static access that it replaces.

Rules: times are whole milliseconds. A *credential* is what an agent had on a target; a *privilege* is a tool that a grant of an agent
named. Left out: how they are counted (``logic/exposure.py``), where from (``services/exposure.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One credential or privilege of one agent. ``live``: when remit held it open, without overlaps, in order.

    ``live_ms`` and ``used_ms``: how long it was open, and in use; ``static_ms``: as standing access. ``uses``: calls. ``last_needed``: when
    it was last used, or given where it never was. ``open_still``: it is open at the period's end.
    """

    agent: str
    what: str
    live: tuple[Span, ...]
    live_ms: int
    used_ms: int
    static_ms: int
    uses: int
    last_needed: datetime
    open_still: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """How long something stays open after it was last needed: until the task ends, or until the next review finds it."""

    agent: str
    what: str
    last_needed: datetime
    used: bool
    remit_ms: int
    monthly_ms: int
    quarterly_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """All of a period. ``assumptions``: what the comparison rests on, in sentences. ``cut``: the period was too long to be read whole, and
    begins here.
    """

    begin: datetime
    end: datetime
    tasks: int
    credentials: tuple[Standing, ...]
    privileges: tuple[Standing, ...]
    excesses: tuple[Excess, ...]
    assumptions: tuple[str, ...]
    cut: bool = False

    def total(self, of: str, field: str) -> int:
        """A sum over ``credentials`` or ``privileges``."""
        return sum(getattr(one, field) for one in getattr(self, of))

"""One task hands part of its authority to another: what its type allows of that, what is asked for, and what is lent.

Rules: what a child is lent leaves its parent's budgets when it is opened, and what the child and all below it did not spend goes
back when they have ended: a budget is never overspent, on whichever node. A line of a child's grant is bound to one line of its
parent's. A task type that says nothing of delegation is not delegable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from remit.model.catalog import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegable:
    """How tasks may be delegated. ``to``: names of declared agents. ``depth``: levels below the task. ``fan_out``: living children of one.

    ``lifetime``: of a child, at most. ``cycles``: whether an agent that is in the chain already may be given a child.
    """

    to: tuple[str, ...]
    depth: int = 1
    fan_out: int = 1
    lifetime: timedelta
    cycles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """An amount of each thing that a budget bounds. ``uses``: by line of the grant of the one who lends."""

    calls: int = 0
    uses: Mapping[int, int] = field(default_factory=dict)
    sums: Mapping[str, Decimal] = field(default_factory=dict)
    bytes_read: int = 0
    resources: int = 0
    rate_calls: int = 0

    def plus(self, other: Purse, sign: int = 1) -> Purse:
        """The two together; ``sign`` -1: without the other."""
        lines, names = {*self.uses, *other.uses}, {*self.sums, *other.sums}
        return Purse(
            calls=self.calls + sign * other.calls,
            uses={line: self.uses.get(line, 0) + sign * other.uses.get(line, 0) for line in lines},
            sums={name: self.sums.get(name, Decimal()) + sign * other.sums.get(name, Decimal()) for name in names},
            bytes_read=self.bytes_read + sign * other.bytes_read,
            resources=self.resources + sign * other.resources,
            rate_calls=self.rate_calls + sign * other.rate_calls,
        )


NOTHING = Purse()


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLine:
    """A line that is asked for. ``of``: the line of the parent's grant that it is bound to (``None``: the first that names it)."""

    kind: Kind
    server: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    uses: int | None = None
    of: int | None = None

    @property
    def id(self) -> str:
        """``server/name``."""
        return f"{self.server}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A child task as it is asked for. ``agent``: name of a declared agent. ``request``: an id of the asker's, good for one delegation.

    ``lifetime`` ``None``: as long as may be. ``ceiling`` "": the parent's. ``inputs``: values that the parent hands over. The amounts
    are taken out of the parent's budgets; ``sums``: by name of the parent's. ``manifest``: what that agent is made of, as it says itself.
    """

    request: str
    agent: str
    objective: str
    lines: tuple[WantedLine, ...]
    calls: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    ceiling: str = ""
    lifetime: timedelta | None = None
    sums: Mapping[str, Decimal] = field(default_factory=dict)
    bytes_read: int = 0
    resources: int = 0
    rate_calls: int = 0
    manifest: Mapping[str, str] = field(default_factory=dict)

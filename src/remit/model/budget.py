"""How much a task may do: calls, their rate, sums over an argument, bytes read, distinct resources.

Rules: what is spent is part of the record that allows the call, so two racing calls meet in the store's compare and swap and a
budget is never overspent. A call that provably was not made gives back what it spent. Wall time is the task's deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SumBudget:
    """At most ``maximum`` in all calls of a tool together. ``argument``: JSON pointer; ``counted``: elements instead of amounts."""

    name: str
    tool: str
    argument: str
    maximum: Decimal
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bounds of one task; 0 and empty: none. ``rate_calls`` in any ``rate_seconds``. ``bytes_read``: of results released."""

    calls: int
    rate_calls: int = 0
    rate_seconds: int = 0
    bytes_read: int = 0
    resources: int = 0
    sums: tuple[SumBudget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one allowed call spends: its line of the grant, amounts by name of the sum, the digest of the resource it names."""

    grant: int
    sums: Mapping[str, Decimal] = field(default_factory=dict)
    resource: str = ""

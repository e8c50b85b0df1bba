"""What tasks of one type did so far, and what of a call is unlike it. A signal, not a verdict: policy may name it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal


class Signal(StrEnum):
    """What is unlike the past of the task type, or far from the task's objective."""

    NEW_TOOL = "new_tool"
    NEW_ORDER = "new_order"
    NEW_RESOURCE = "new_resource"
    UNUSUAL_AMOUNT = "unusual_amount"
    FAR_FROM_OBJECTIVE = "far_from_objective"
    OBJECTIVE_UNMEASURED = "objective_unmeasured"  # beside the one above: no model answered in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The past of a task type: of completed tasks, what they called, after what, on which resources, up to which amounts."""

    tasks: int = 0
    tools: frozenset[str] = frozenset()
    steps: frozenset[tuple[str, str]] = frozenset()
    resources: frozenset[str] = frozenset()
    amounts: Mapping[str, Decimal] = field(default_factory=dict)

"""A task type: what a dispatcher may open, with which inputs, and what such a task may do. One file each, kept in git."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import timedelta

    from remit.model.catalog import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One declared input. ``schema`` is the JSON Schema its value must fit. ``default`` ``None``: it must be given."""

    name: str
    schema: dict[str, Any]
    default: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantTemplate:
    """A line of the grant before the inputs are put in."""

    kind: Kind
    server: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    uses: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskType:
    """``objective`` may name inputs in braces. ``budget_calls``: allowed calls of one task."""

    name: str
    objective: str
    inputs: tuple[Input, ...]
    grants: tuple[GrantTemplate, ...]
    data_ceiling: str
    deadline: timedelta
    budget_calls: int

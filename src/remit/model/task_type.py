"""A task type: what a dispatcher may open, with which inputs, and what such a task may do. One file each, kept in git."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from remit.model.budget import Budget
    from remit.model.catalog import Kind
    from remit.model.delegation import Delegable
    from remit.model.lease import LeaseTemplate


class Autonomy(StrEnum):
    """How calls of an effect are taken in a task of this type.

    *Preapproved*: whoever wrote the task type has approved them, policy permitting; never what cannot be undone. *Decided*: by
    policy at every call. *Asked*: a person, whatever policy permits.
    """

    PREAPPROVED = "preapproved"
    DECIDED = "decided"
    ASKED = "asked"


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
    autonomy: str = ""
    approved_values: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskType:
    """``objective`` may name inputs in braces. ``autonomy``: by effect.

    ``preauthorized_reads``: how long one read may preauthorize others of its class, where policy permits it.
    ``watched``: calls are compared with what tasks of the type did before.
    ``required``: parts of the manifest without which no task of the type begins. ``drift``: what follows their change, by kind.
    ``self_service``: inputs that the agent gives to a task that it opens itself count as the task's own.
    ``leases``: what such a task may have on targets.
    ``delegable``: whether and how such tasks may be delegated; ``None``: not at all.
    """

    name: str
    objective: str
    inputs: tuple[Input, ...]
    grants: tuple[GrantTemplate, ...]
    data_ceiling: str
    deadline: timedelta
    budget: Budget
    autonomy: Mapping[str, str] = field(default_factory=dict)
    self_service: bool = False
    watched: bool = False
    required: tuple[str, ...] = ()
    drift: Mapping[str, str] = field(default_factory=dict)
    leases: tuple[LeaseTemplate, ...] = ()
    preauthorized_reads: timedelta | None = None
    delegable: Delegable | None = None

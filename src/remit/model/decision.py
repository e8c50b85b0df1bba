"""The answer to a request: allow, ask (a person), or deny. A value with reasons, never an exception.

Rules: codes are stable and documented (``docs/reasons.md``); texts are for people and for the model, and say what may
be done instead. ``policies`` are the ids of the policies that determined the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.model.budget import Spent


class Code(StrEnum):
    """Why. Maps onto the closed set of the mission runtime draft; ours is finer."""

    PERMITTED = "permitted"
    APPROVED = "approved"
    PREAPPROVED = "preapproved"
    PREAUTHORIZED = "preauthorized"
    WRONG_AGENT = "wrong_agent"
    TASK_NOT_ACTIVE = "task_not_active"
    TASK_EXPIRED = "task_expired"
    ANCESTOR_NOT_ACTIVE = "ancestor_not_active"
    AGENT_STOPPED = "agent_stopped"
    TOOL_UNKNOWN = "tool_unknown"
    TOOL_CHANGED = "tool_changed"
    MANIFEST_CHANGED = "manifest_changed"
    NOT_GRANTED = "not_granted"
    ARGUMENTS_INVALID = "arguments_invalid"
    ARGUMENTS_OUTSIDE_GRANT = "arguments_outside_grant"
    USES_EXHAUSTED = "uses_exhausted"
    BUDGET_EXHAUSTED = "budget_exhausted"
    SUM_EXCEEDED = "sum_exceeded"
    RATE_EXCEEDED = "rate_exceeded"
    AMOUNT_UNCLEAR = "amount_unclear"
    ORIGIN_UNKNOWN = "origin_unknown"
    ORIGIN_NOT_ADMITTED = "origin_not_admitted"
    ABOVE_CEILING = "above_ceiling"
    NO_POLICY_PERMITS = "no_policy_permits"
    POLICY_FORBIDS = "policy_forbids"
    POLICY_ERROR = "policy_error"
    NEEDS_APPROVAL = "needs_approval"
    APPROVAL_REFUSED = "approval_refused"
    TOO_MANY_QUESTIONS = "too_many_questions"
    NO_APPROVER = "no_approver"
    LEASED_SECRET = "leased_secret"  # noqa: S105  # the name of a reason
    NO_TASK = "no_task"
    TYPE_UNKNOWN = "type_unknown"
    ACTION_UNKNOWN = "action_unknown"
    PROPERTY_UNUSABLE = "property_unusable"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: its code, a sentence, and where it bites (a JSON pointer, a policy id; "" : the whole call)."""

    code: Code
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The call may be made, once, now. ``spent``: what it takes of the task's budgets, the covering line of the grant among it.

    ``leans_on``: the decision that preauthorized it ("" : none). ``preauthorizes``: for how many seconds it does so for others of its
    class, which ``class_policies`` permit.
    """

    reasons: tuple[Reason, ...]
    policies: tuple[str, ...]
    spent: Spent
    approval: str | None = None
    leans_on: str = ""
    preauthorizes: int = 0
    class_policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Denied now; the same call would be allowed were it approved by a person."""

    reasons: tuple[Reason, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """No."""

    reasons: tuple[Reason, ...]
    policies: tuple[str, ...] = ()


Decision = Allow | Ask | Deny

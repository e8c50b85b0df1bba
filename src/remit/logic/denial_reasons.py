"""Our reasons in the closed set of the mission runtime draft, for enforcement points that know only that one.

Rules: ours are finer, and each has exactly one word there. Where a decision has several reasons, the first one speaks. What
permits has no denial reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.model.decision import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.model.decision import Reason

APPROVAL_REQUIRED = "action_approval_required"
CLOSED_SET = frozenset(
    {
        "out_of_authority",
        "step_up_required",
        APPROVAL_REQUIRED,
        "stale_state",
        "mission_inactive",
        "credential_invalid",
        "parameter_violation",
        "resource_policy",
        "quota_exceeded",
        "capability_drift",
        "unsupported_authorization_type",
        "constraint_unsupported",
    }
)

DENIAL_REASONS: dict[Code, str] = {
    Code.PERMITTED: "",
    Code.APPROVED: "",
    Code.PREAPPROVED: "",
    Code.PREAUTHORIZED: "",
    Code.WRONG_AGENT: "credential_invalid",
    Code.TASK_NOT_ACTIVE: "mission_inactive",
    Code.TASK_EXPIRED: "mission_inactive",
    Code.ANCESTOR_NOT_ACTIVE: "mission_inactive",
    Code.AGENT_STOPPED: "credential_invalid",
    Code.TOOL_UNKNOWN: "out_of_authority",
    Code.TOOL_CHANGED: "capability_drift",
    Code.MANIFEST_CHANGED: "capability_drift",
    Code.NOT_GRANTED: "out_of_authority",
    Code.ARGUMENTS_INVALID: "parameter_violation",
    Code.ARGUMENTS_OUTSIDE_GRANT: "parameter_violation",
    Code.USES_EXHAUSTED: "quota_exceeded",
    Code.BUDGET_EXHAUSTED: "quota_exceeded",
    Code.SUM_EXCEEDED: "quota_exceeded",
    Code.RATE_EXCEEDED: "quota_exceeded",
    Code.AMOUNT_UNCLEAR: "parameter_violation",
    Code.ORIGIN_UNKNOWN: "parameter_violation",
    Code.ORIGIN_NOT_ADMITTED: "parameter_violation",
    Code.ABOVE_CEILING: "resource_policy",
    Code.NO_POLICY_PERMITS: "resource_policy",
    Code.POLICY_FORBIDS: "resource_policy",
    Code.POLICY_ERROR: "constraint_unsupported",
    Code.NEEDS_APPROVAL: APPROVAL_REQUIRED,
    Code.APPROVAL_REFUSED: "resource_policy",  # asking again does not help, so it is no requestable denial
    Code.TOO_MANY_QUESTIONS: "quota_exceeded",
    Code.NO_APPROVER: "resource_policy",  # nobody could be asked, so it is no requestable denial
    Code.LEASED_SECRET: "parameter_violation",
    Code.NO_TASK: "mission_inactive",
    Code.TYPE_UNKNOWN: "unsupported_authorization_type",
    Code.ACTION_UNKNOWN: "unsupported_authorization_type",
    Code.PROPERTY_UNUSABLE: "constraint_unsupported",
}


def denial_reason(reasons: Sequence[Reason]) -> str:
    """The word of the closed set for a refusal. A refusal without a reason is outside of any authority."""
    return next((DENIAL_REASONS[reason.code] for reason in reasons if DENIAL_REASONS[reason.code]), "out_of_authority")

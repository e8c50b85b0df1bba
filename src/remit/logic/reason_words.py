"""What each reason of a decision means, in a few words for people: the same words as in ``docs/reasons.md``, which a test holds. Pure."""

from __future__ import annotations

from remit.model.decision import Code

MEANINGS: dict[Code, str] = {
    Code.PERMITTED: "the grant covers the call and policy permits it",
    Code.APPROVED: "the same, with a person's approval",
    Code.PREAPPROVED: "the task type approved such calls beforehand, and policy permits them with an approval",
    Code.PREAUTHORIZED: "a read shortly before permits others of its class (preauthorized_reads), and the grant covers this one",
    Code.WRONG_AGENT: "the task belongs to another agent",
    Code.TASK_NOT_ACTIVE: "the task is pending, suspended or has ended",
    Code.TASK_EXPIRED: "its deadline has passed",
    Code.ANCESTOR_NOT_ACTIVE: "a task that delegated to this one, at whatever distance, is suspended, has ended or is past its deadline",
    Code.AGENT_STOPPED: "an agent of the chain was stopped (remit kill)",
    Code.TOOL_UNKNOWN: "nobody has declared the tool",
    Code.TOOL_CHANGED: "the tool is not what it was when the task was opened, or not what is pinned",
    Code.MANIFEST_CHANGED: "the agent (its model, prompt, tools, data sources, program, or the tools of its servers) is no longer what it "
    "was when the task was opened",
    Code.NOT_GRANTED: "the task was not given the tool",
    Code.ARGUMENTS_INVALID: "the arguments break the tool's own schema",
    Code.ARGUMENTS_OUTSIDE_GRANT: "they break the narrowing schema of the grant",
    Code.USES_EXHAUSTED: "granted so many times, used so many times",
    Code.BUDGET_EXHAUSTED: "a budget of the task is used up: calls, bytes read, different resources",
    Code.SUM_EXCEEDED: "with this call the sum over an argument would be more than its budget",
    Code.RATE_EXCEEDED: "too many calls in a short while",
    Code.AMOUNT_UNCLEAR: "an amount that a budget counts is no number, or negative",
    Code.ORIGIN_UNKNOWN: "a part of an argument was seen nowhere in the task, and the grant demands an origin",
    Code.ORIGIN_NOT_ADMITTED: "it was seen first where the grant does not admit it",
    Code.ABOVE_CEILING: "the tool holds data above the task's ceiling",
    Code.NO_POLICY_PERMITS: "no policy permits the call, and an approval would not help",
    Code.POLICY_FORBIDS: "a policy forbids it",
    Code.POLICY_ERROR: "a policy could not be evaluated: the answer is no",
    Code.NEEDS_APPROVAL: "a person may allow it (the outcome is ask)",
    Code.APPROVAL_REFUSED: "a person has refused exactly this call",
    Code.TOO_MANY_QUESTIONS: "the task has asked as often as it may",
    Code.NO_APPROVER: "a person could allow it, but fewer are configured than must agree",
    Code.LEASED_SECRET: "what the call sends carries a credential that was leased for a task of this agent: the credential is revoked, "
    "the task suspended",
    Code.NO_TASK: "the question names no task that its caller may speak of, or an agent asks without one",
    Code.TYPE_UNKNOWN: "no application answers for these types of subject and resource",
    Code.ACTION_UNKNOWN: "nobody has declared the action",
    Code.PROPERTY_UNUSABLE: "a policy names a property that it cannot be shown",
}


def meaning(code: str) -> str:
    """In words; "" for a code of another time."""
    return MEANINGS.get(Code(code), "") if code in set(Code) else ""

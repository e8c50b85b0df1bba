"""The decision: a pure, total function of facts and policies. Two keys turn the lock, and any doubt denies.

Order: who, the task, the tool, the grant, the ceiling, the budget, then the organisation's policy. Refusals of the
first part are collected, so that a person sees all of them; policy is asked only where none stands.

*Ask* has no syntax of its own: it is the answer where the call is denied now and would be allowed with an approval
present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.grants import covering_line
from remit.logic.life import granted_approval, pending_approval, refused_approval
from remit.model.catalog import Kind
from remit.model.decision import Allow, Ask, Code, Decision, Deny, Reason
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.logic.policy import Answer, Policies
    from remit.model.catalog import ToolFacts
    from remit.model.facts import Facts


def authorize(facts: Facts, policies: Policies) -> Decision:
    """Allow, ask or deny. Never raises for bad input; a broken policy or schema is a denial with its reason."""
    refusals = tuple(_refusals(facts))
    line = covering_line(facts.task, facts.call, facts.pinned)
    if not isinstance(line, int):
        refusals += line
    if facts.tool is None or not isinstance(line, int) or refusals:
        return Deny(reasons=refusals)
    return _by_policy(facts, facts.tool, line, policies)


def call_key(facts: Facts) -> str:
    """What an approval speaks of beside the digest: kind and name of the call."""
    return f"{facts.call.kind} {facts.call.id}"


def _refusals(facts: Facts) -> Iterator[Reason]:
    task, tool = facts.task, facts.tool
    if facts.agent != task.agent:
        yield Reason(Code.WRONG_AGENT, f"task {task.id} belongs to another agent")
    if task.state is not TaskState.ACTIVE:
        because = f": {task.note}" if task.note else ""
        yield Reason(Code.TASK_NOT_ACTIVE, f"task {task.id} is {task.state}{because}")
    elif facts.now >= task.deadline:
        yield Reason(Code.TASK_EXPIRED, f"the deadline of task {task.id} has passed")
    if task.calls >= task.budget_calls:
        yield Reason(Code.BUDGET_EXHAUSTED, f"all {task.budget_calls} calls of this task are used")
    if tool is None:
        yield Reason(Code.TOOL_UNKNOWN, f"nobody has declared {facts.call.id}")
        return
    yield from _changed(facts, tool)
    if facts.classes.rank(tool.data_class) > facts.classes.rank(task.ceiling):
        shown = facts.classes.name(facts.classes.rank(tool.data_class))
        yield Reason(Code.ABOVE_CEILING, f"{tool.id} holds {shown} data; this task ends at {task.ceiling}")


def _changed(facts: Facts, tool: ToolFacts) -> Iterator[Reason]:
    if tool.kind is not Kind.TOOL:
        return
    accepted = facts.task.tools.get(tool.id, "")
    seen = {tool.digest, facts.seen_digest or tool.digest}
    if seen != {accepted} and any(grant.names(tool.kind, tool.server, tool.name) for grant in facts.task.grants):
        text = f"{tool.id} is no longer what it was when this task was opened; a person must look at the change"
        yield Reason(Code.TOOL_CHANGED, text)


def _by_policy(facts: Facts, tool: ToolFacts, line: int, policies: Policies) -> Decision:
    approval = granted_approval(facts.task, call_key(facts), facts.call.digest, facts.now)
    without = policies.evaluate(facts, tool, None)
    if without.permitted:
        return Allow(reasons=(Reason(Code.PERMITTED, "the grant covers it and policy permits it"),), policies=without.policies, grant=line)
    if without.error:
        return _error(without)
    approver = approval.by if approval else ""
    within = policies.evaluate(facts, tool, approver)
    if within.error:
        return _error(within)
    if not within.permitted:
        return _denied(without)
    if approval:
        text = f"approved by {approval.by}"
        return Allow(reasons=(Reason(Code.APPROVED, text),), policies=within.policies, grant=line, approval=approval.id)
    return _question(facts, without, within)


def _question(facts: Facts, without: Answer, within: Answer) -> Ask | Deny:
    task, key = facts.task, call_key(facts)
    refused = refused_approval(task, key, facts.call.digest, facts.now)
    if refused:
        because = f": {refused.reason}" if refused.reason else ""
        return Deny(reasons=(Reason(Code.APPROVAL_REFUSED, f"{refused.by} refused this call{because}"),))
    asked_before = pending_approval(task, key, facts.call.digest, facts.now)
    if not asked_before and len(task.approvals) >= facts.approvals_max:
        return Deny(reasons=(Reason(Code.TOO_MANY_QUESTIONS, f"this task has asked {len(task.approvals)} times"),))
    return Ask(
        reasons=(Reason(Code.NEEDS_APPROVAL, "policy lets a person decide this one"),),
        policies=within.policies or without.policies,
    )


def _denied(answer: Answer) -> Deny:
    if answer.policies:
        names = ", ".join(answer.policies)
        return Deny(reasons=(Reason(Code.POLICY_FORBIDS, f"policy forbids it ({names})", names),), policies=answer.policies)
    return Deny(reasons=(Reason(Code.NO_POLICY_PERMITS, "no policy of the organisation permits it"),))


def _error(answer: Answer) -> Deny:
    text = "a policy could not be evaluated, so the answer is no"
    return Deny(reasons=(Reason(Code.POLICY_ERROR, text, answer.error),), policies=answer.policies)

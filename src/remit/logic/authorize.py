"""The decision: a pure, total function of facts and policies. Two keys turn the lock, and any doubt denies.

A child task never exceeds any task above it: each of them decides as well, as it is at this moment. Policy is asked once, for
the agent that acts; it may speak of the chain.

Order: who, the task, those above it, the tool, the grant, the ceiling, the budget, then the organisation's policy. Refusals of the
first part are collected, so that a person sees all of them; policy is asked only where none stands.

*Ask* has no syntax of its own: it is the answer where the call is denied now and would be allowed with an approval
present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.approvals import granted_approval, vouches
from remit.logic.budgets import exhausted, spent_by
from remit.logic.grants import FINDINGS_MAX, bound_lines, covering_line
from remit.logic.life import pending_approval, refused_approval
from remit.logic.manifest import held, named
from remit.logic.preauthorization import given, standing
from remit.logic.tracing import ARGUMENTS_MAX, NAME_CHARACTERS_MAX
from remit.model.catalog import Effect, Kind
from remit.model.decision import Allow, Ask, Code, Decision, Deny, Reason
from remit.model.task import TaskState
from remit.model.task_type import Autonomy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.logic.policy import Answer, Policies
    from remit.model.budget import Spent
    from remit.model.catalog import ToolFacts
    from remit.model.facts import Facts
    from remit.model.grant import Grant
    from remit.model.task import Task


def authorize(facts: Facts, policies: Policies) -> Decision:
    """Allow, ask or deny. Never raises for bad input; a broken policy or schema is a denial with its reason."""
    refusals = tuple(_refusals(facts))
    line = covering_line(facts, approved=False)
    within = line if isinstance(line, int) else covering_line(facts, approved=True)
    if not isinstance(within, int):
        refusals += line if not isinstance(line, int) else within
    spent = spent_by(facts, within) if isinstance(within, int) else ()
    if isinstance(spent, tuple):
        refusals += spent
    if facts.tool is None or isinstance(spent, tuple) or refusals:
        return Deny(reasons=refusals)
    return _by_policy(facts, facts.tool, spent, policies, () if isinstance(line, int) else line)


def call_key(facts: Facts) -> str:
    """What an approval speaks of beside the digest: kind and name of the call."""
    return f"{facts.call.kind} {facts.call.id}"


def _refusals(facts: Facts) -> Iterator[Reason]:
    task, tool = facts.task, facts.tool
    if facts.agent != task.agent:
        yield Reason(Code.WRONG_AGENT, f"task {task.id} belongs to another agent")
    if facts.leaked:
        leases = ", ".join(facts.leaked)
        text = f"it carries a leased credential ({leases}), which is revoked now; a person must look at how that came about"
        yield Reason(Code.LEASED_SECRET, text)
    if held(task) and not task.over:
        text = f"the agent is no longer what it was when task {task.id} was opened ({named(held(task))}); a person must look at the change"
        yield Reason(Code.MANIFEST_CHANGED, text)
    elif task.state is not TaskState.ACTIVE:
        because = f": {task.note}" if task.note else ""
        yield Reason(Code.TASK_NOT_ACTIVE, f"task {task.id} is {task.state}{because}")
    elif facts.now >= task.deadline:
        yield Reason(Code.TASK_EXPIRED, f"the deadline of task {task.id} has passed")
    yield from _from_above(facts)
    yield from exhausted(facts)
    names = facts.call.arguments
    if names and (len(names) > ARGUMENTS_MAX or len(max(names, key=len)) > NAME_CHARACTERS_MAX):
        text = f"more than {ARGUMENTS_MAX} arguments, or a name of more than {NAME_CHARACTERS_MAX} characters"
        yield Reason(Code.ARGUMENTS_INVALID, text)
    if tool is None:
        yield Reason(Code.TOOL_UNKNOWN, f"nobody has declared {facts.call.id}")
        return
    yield from _changed(facts, tool)
    lowest = min((task, *facts.ancestors), key=lambda one: facts.classes.rank(one.ceiling))
    if facts.classes.rank(tool.data_class) > facts.classes.rank(lowest.ceiling):
        shown = facts.classes.name(facts.classes.rank(tool.data_class))
        whose = "this task" if lowest is task else f"task {lowest.id}, which delegated,"
        yield Reason(Code.ABOVE_CEILING, f"{tool.id} holds {shown} data; {whose} ends at {lowest.ceiling}")


def _from_above(facts: Facts) -> Iterator[Reason]:
    """What the tasks above say of any call at this moment, and whether an agent of the chain is stopped."""
    if tuple(one.id for one in facts.ancestors) != facts.task.ancestors:
        yield Reason(Code.ANCESTOR_NOT_ACTIVE, "a task that delegated to this one is not known")
    for ancestor in facts.ancestors:
        if ancestor.state is not TaskState.ACTIVE:
            yield Reason(Code.ANCESTOR_NOT_ACTIVE, f"task {ancestor.id}, which delegated, is {ancestor.state}")
        elif facts.now >= ancestor.deadline:
            yield Reason(Code.ANCESTOR_NOT_ACTIVE, f"the deadline of task {ancestor.id}, which delegated, has passed")
    for agent in facts.stopped:
        yield Reason(Code.AGENT_STOPPED, f"{agent} is stopped")


def _changed(facts: Facts, tool: ToolFacts) -> Iterator[Reason]:
    if tool.kind is not Kind.TOOL:
        return
    accepted = facts.task.tools.get(tool.id, "")
    same = accepted == tool.digest == (facts.seen_digest or tool.digest)
    if not same and any(grant.names(tool.kind, tool.server, tool.name) for grant in facts.task.grants):
        text = f"{tool.id} is no longer what it was when this task was opened; a person must look at the change"
        yield Reason(Code.TOOL_CHANGED, text)


def autonomy_of(task: Task, tool: ToolFacts, line: Grant) -> Autonomy:
    """How a task takes such a call by one of its lines. What cannot be undone is never approved beforehand."""
    stated = line.autonomy or task.autonomy.get(tool.effect.value)
    if not stated:
        return Autonomy.DECIDED
    autonomy = Autonomy(stated)
    return Autonomy.DECIDED if autonomy is Autonomy.PREAPPROVED and tool.effect is Effect.IRREVERSIBLE else autonomy


def strictest_autonomy(facts: Facts, tool: ToolFacts, line: int) -> Autonomy:
    """How the task and all above it take such a call: the strictest word counts."""
    lines = bound_lines(facts, line)
    stated = {autonomy_of(one, tool, grant) for one, grant in zip((facts.task, *facts.ancestors), lines, strict=False)}
    return next(autonomy for autonomy in (Autonomy.ASKED, Autonomy.DECIDED, Autonomy.PREAPPROVED) if autonomy in stated)


def _by_policy(facts: Facts, tool: ToolFacts, spent: Spent, policies: Policies, uncovered: tuple[Reason, ...]) -> Decision:
    """``uncovered``: what the grant leaves to a person's approval."""
    autonomy = strictest_autonomy(facts, tool, spent.grant)
    approval = granted_approval(facts.task, call_key(facts), facts.call, facts.now)
    if approval and uncovered and not vouches(approval, facts.call, [reason.where for reason in uncovered], told_max=FINDINGS_MAX):
        approval = None
    permit = standing(facts, tool, spent.grant, policies) if not uncovered and autonomy is not Autonomy.ASKED else None
    if permit:
        text = f"decision {permit.decision} preauthorized such reads until {permit.until:%H:%M:%S}"
        return Allow(reasons=(Reason(Code.PREAUTHORIZED, text),), policies=permit.policies, spent=spent, leans_on=permit.decision)
    without = policies.evaluate(facts, tool, None)
    if without.error:
        return _error(without)
    if without.permitted and not uncovered and autonomy is not Autonomy.ASKED:
        return _permitted(facts, tool, spent, policies, without)
    if not uncovered and autonomy is Autonomy.PREAPPROVED:
        beforehand = policies.evaluate(facts, tool, f"task-type:{facts.task.type}")
        if beforehand.permitted:
            text = f"approved beforehand by the task type {facts.task.type}"
            return Allow(reasons=(Reason(Code.PREAPPROVED, text),), policies=beforehand.policies, spent=spent)
    within = policies.evaluate(facts, tool, approval.by if approval else "")
    if within.error:
        return _error(within)
    if not within.permitted:
        return _denied(within if without.permitted else without)
    if approval:
        text = f"approved by {approval.by}"
        return Allow(reasons=(Reason(Code.APPROVED, text),), policies=within.policies, spent=spent, approval=approval.id)
    if autonomy is Autonomy.ASKED:
        uncovered += (Reason(Code.NEEDS_APPROVAL, f"this task type wants a person to look at every {tool.effect} call"),)
    return _question(facts, within.policies or without.policies, uncovered)


def _permitted(facts: Facts, tool: ToolFacts, spent: Spent, policies: Policies, answer: Answer) -> Allow:
    seconds, by = given(facts, tool, policies)
    reasons = (Reason(Code.PERMITTED, "the grant covers it and policy permits it"),)
    return Allow(reasons=reasons, policies=answer.policies, spent=spent, preauthorizes=seconds, class_policies=by)


def _question(facts: Facts, policies: tuple[str, ...], why: tuple[Reason, ...]) -> Ask | Deny:
    task, key = facts.task, call_key(facts)
    refused = refused_approval(task, key, facts.call.digest, facts.now)
    if refused:
        because = f": {refused.reason}" if refused.reason else ""
        return Deny(reasons=(Reason(Code.APPROVAL_REFUSED, f"{refused.by} refused this call{because}"),))
    asked_before = pending_approval(task, key, facts.call.digest, facts.now)
    if not asked_before and len(task.approvals) >= facts.approvals_max:
        return Deny(reasons=(Reason(Code.TOO_MANY_QUESTIONS, f"this task has asked {len(task.approvals)} times"),))
    if not facts.terms.answerable:
        text = f"it needs {_persons(facts.terms.needed)} who may approve it, and there are {facts.terms.approvers}"
        return Deny(reasons=(Reason(Code.NO_APPROVER, text),))
    return Ask(reasons=why or (Reason(Code.NEEDS_APPROVAL, "policy lets a person decide this one"),), policies=policies)


def _persons(count: int) -> str:
    return "a person" if count == 1 else f"{count} persons"


def _denied(answer: Answer) -> Deny:
    if answer.policies:
        names = ", ".join(answer.policies)
        return Deny(reasons=(Reason(Code.POLICY_FORBIDS, f"policy forbids it ({names})", names),), policies=answer.policies)
    return Deny(reasons=(Reason(Code.NO_POLICY_PERMITS, "no policy of the organisation permits it"),))


def _error(answer: Answer) -> Deny:
    text = "a policy could not be evaluated, so the answer is no"
    return Deny(reasons=(Reason(Code.POLICY_ERROR, text, answer.error),), policies=answer.policies)

"""Decisions in words: for the model that was refused, and for people.

Rules: say what was refused, why, and what may be done instead. Never name a secret, another task, or a policy's text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from remit.logic.grants import required_by
from remit.model.approval import ApprovalState
from remit.model.decision import Ask, Code, Deny

if TYPE_CHECKING:
    from remit.model.call import Call
    from remit.model.grant import Grant
    from remit.model.task import Task

_LINES_MAX = 12
_TEXT_MAX = 300
_FATAL = frozenset(
    {Code.TASK_NOT_ACTIVE, Code.TASK_EXPIRED, Code.WRONG_AGENT, Code.BUDGET_EXHAUSTED, Code.ANCESTOR_NOT_ACTIVE, Code.AGENT_STOPPED}
)


def message_for_model(task: Task, call: Call, decision: Ask | Deny, approval: str) -> str:
    """What the agent reads instead of a result."""
    why = "; ".join(_pointed(reason.text, reason.where) for reason in decision.reasons) or "no reason"
    if isinstance(decision, Ask):
        return _not_yet(task, call, approval)
    codes = {reason.code for reason in decision.reasons}
    if codes & _FATAL:
        return f"Refused: {why}. Nothing was done, and this task can make no more such calls. Stop and report what you have."
    return f"Refused: {why}. Nothing was done.\n{granted_lines(task)}"


def _not_yet(task: Task, call: Call, approval: str) -> str:
    """The answer to a question that stands: what is missing, and what became of earlier ones about the same call."""
    question = task.approvals.get(approval)
    said = len(question.answers) if question else 0
    who = "a person's approval" if question is None or question.needed == 1 else f"the approval of {question.needed} persons, {said} so far"
    until = f" It waits until {question.expires_at:%H:%M:%S} UTC." if question else ""
    ran_out = [
        f" An earlier one ({one.id}) expired {'unanswered' if one.state is ApprovalState.PENDING else 'before it was used'}."
        for one in task.approvals.values()
        if question is not None
        and one.id != approval
        and (one.call, one.digest) == (question.call, question.digest)
        and one.state in {ApprovalState.PENDING, ApprovalState.GRANTED}
    ]
    return (
        f"Not yet: {call.id} needs {who} ({approval}). Nothing was done.{until}{''.join(ran_out[-1:])} "
        "Go on with other work, or make exactly the same call again later; it will pass once it is approved."
    )


def granted_lines(task: Task) -> str:
    """The grant in words, a line each."""
    lines = [
        f"- {describe_grant(grant, task.uses[index] + task.lent.uses.get(index, 0))}"
        for index, grant in enumerate(task.grants[:_LINES_MAX])
    ]
    more = len(task.grants) - _LINES_MAX
    if more > 0:
        lines.append(f"- and {more} more; list the tools to see them")
    return "In this task you may use:\n" + "\n".join(lines) if lines else "This task may use nothing."


def describe_grant(grant: Grant, used: int) -> str:
    """One line of the grant in words."""
    text = f"{grant.kind} {grant.id}"
    narrowing = json.loads(grant.arguments) if grant.arguments else {}
    for name in required_by(narrowing):
        rule = narrowing.get("properties", {}).get(name)
        if isinstance(rule, dict) and rule:
            words = ", ".join(f"{word} {json.dumps(value, ensure_ascii=False)}" for word, value in sorted(rule.items()))
            text += f"; {name}: {words}"
    if grant.uses is not None:
        text += f"; {max(grant.uses - used, 0)} of {grant.uses} uses left"
    return text[:_TEXT_MAX]


def _pointed(text: str, where: str) -> str:
    return f"{where}: {text}" if where.startswith("/") else text

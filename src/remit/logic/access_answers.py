"""Answers of the decision API: a boolean, and what enforcement points may make of the rest (the context).

Shape of a task's answer (mission runtime draft, AuthZEN binding; ARAP for what a person may allow): ``decision_id`` and
``evaluation_id`` (one id, the ledger has it), ``evaluated_at``, ``reason``, ``reasons``, ``policies``, ``parameter_digest``,
``task``, ``labels``; a permit has ``permit_expires_at`` and ``single_use``, a refusal ``denial_reason`` (closed set) and
``message`` for the model, a question ``approval``, ``access_request`` and ``next_action``.

Rules: an application's answer says nothing but yes or no unless it is configured to explain: generic callers compare whole
answers, and reasons tell strangers about policies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Unauthenticated
from remit.logic.denial_reasons import APPROVAL_REQUIRED, denial_reason
from remit.model.decision import Allow, Ask, Decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remit.errors import RemitError
    from remit.model.access import Verdict
    from remit.model.approval import Approval
    from remit.model.call import Call
    from remit.model.decision import Reason
    from remit.model.labels import DataClasses
    from remit.model.task import Task

Json = dict[str, Any]
_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``decision``, and a ``context`` that may be empty."""

    decision: bool
    context: Json = field(default_factory=dict)

    @property
    def words(self) -> Json:
        """As it is sent."""
        return {"decision": self.decision, **({"context": self.context} if self.context else {})}


def answer_of_call(
    decision: Decision,
    *,
    decision_id: str,
    call: Call,
    task: Task,
    classes: DataClasses,
    evaluated_at: datetime,
    expires_at: datetime | None,
    approval: Approval | None,
    message: str,
) -> Answer:
    """The answer to a question about a task's call. ``expires_at``: of a permit."""
    context = _context(decision_id, evaluated_at, decision.reasons, decision.policies)
    context |= {
        "parameter_digest": call.digest,
        "task": {"id": task.id, "state": task.state.value},
        "labels": {"data_class": classes.name(task.labels.rank), "untrusted": task.labels.untrusted},
    }
    if isinstance(decision, Allow):
        return Answer(decision=True, context={**context, "permit_expires_at": expires_at, "single_use": True})
    asked = isinstance(decision, Ask)  # whatever it is that a person must look at
    context |= {"denial_reason": APPROVAL_REQUIRED if asked else denial_reason(decision.reasons), "message": message}
    if isinstance(decision, Ask) and approval is not None:
        context |= _requestable(call, task, approval)
    return Answer(decision=False, context=context)


def answer_of_verdict(verdict: Verdict, decision_id: str, evaluated_at: datetime, expires_at: datetime | None, *, explain: bool) -> Answer:
    """The answer to a question that has no task."""
    if not explain:
        return Answer(decision=verdict.allowed)
    context = _context(decision_id, evaluated_at, verdict.reasons, verdict.policies)
    if verdict.allowed:
        return Answer(decision=True, context={**context, "permit_expires_at": expires_at, "single_use": False})
    return Answer(decision=False, context={**context, "denial_reason": denial_reason(verdict.reasons)})


def answer_of_error(error: RemitError) -> Answer:
    """What is wrong with one question of many (AuthZEN §7.2.1)."""
    status = 400 if isinstance(error, Mistake) else 401 if isinstance(error, Unauthenticated) else 403
    return Answer(decision=False, context={"error": {"status": status, "message": error.message}})


def _context(decision_id: str, evaluated_at: datetime, reasons: Sequence[Reason], policies: Sequence[str]) -> Json:
    return {
        "decision_id": decision_id,
        "evaluation_id": decision_id,
        "evaluated_at": evaluated_at,
        "reason": reasons[0].code.value if reasons else "",
        "reasons": [{"code": one.code.value, "text": one.text, **({"where": one.where} if one.where else {})} for one in reasons],
        "policies": list(policies),
    }


def _requestable(call: Call, task: Task, approval: Approval) -> Json:
    """ARAP §4, as far as it maps: the request for approval stands already, so there is nothing to post and nothing to bind.

    A person answers it, and the same question is put again; the approval is then among our facts.
    """
    display = {"title": f"{call.id} needs a person's approval", "description": task.objective}
    return {
        "reason": "approval_required",
        "approval": {"id": approval.id, "state": approval.state.value, "expires_at": approval.expires_at},
        "access_request": {"expires_at": approval.expires_at, "display": display},
        "next_action": "retry",
        "retry_after": _RETRY_SECONDS,
    }

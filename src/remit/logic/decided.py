"""A decision as it is recorded: the one place where facts and an answer become a ``call.decided``. Pure.

Rules: an allowed call raises the task's labels in this very record. Pointers into arguments are recorded, values are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.labelling import whole
from remit.logic.tracing import origin_lines
from remit.model.call_record import CallDecided, QuestionTerms, ReasonLine
from remit.model.decision import Allow, Ask, Code
from remit.model.delegation_record import AncestorLine
from remit.model.labels import Labels

if TYPE_CHECKING:
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.model.decision import Decision
    from remit.model.facts import Facts

_POINTS_AT_INPUT = frozenset(
    {
        Code.ARGUMENTS_INVALID,
        Code.ARGUMENTS_OUTSIDE_GRANT,
        Code.ORIGIN_UNKNOWN,
        Code.ORIGIN_NOT_ADMITTED,
        Code.SUM_EXCEEDED,
        Code.AMOUNT_UNCLEAR,
    }
)


def decided(
    facts: Facts,
    decision: Decision,
    rules: Rulebook,
    decision_id: str,
    approval: str,
    approval_expires_at: datetime | None,
    *,
    learnt: bool = False,
) -> CallDecided:
    """The record. ``approval``: the question that is asked, or the approval that was used ("" : neither). ``learnt``: values of it."""
    call, tool = facts.call, facts.tool
    spent = decision.spent if isinstance(decision, Allow) else None
    labels = _raised(facts, rules) if spent is not None else Labels()
    sources, leaves, references = origin_lines(facts.origins, facts.references)
    return CallDecided(
        decision=decision_id,
        agent=facts.agent.text,
        outcome=type(decision).__name__.lower(),
        tool_kind=call.kind.value,
        server=call.server,
        name=call.name,
        arguments_digest=call.digest,
        effect=tool.effect.value if tool else "",
        reasons=[ReasonLine(code=reason.code.value, where=_where(reason.code, reason.where)) for reason in decision.reasons],
        policies=list(decision.policies),
        policy_set=rules.policies.digest,
        tool_digest=facts.seen_digest or (tool.digest if tool else ""),
        grant=spent.grant if spent is not None else -1,
        rank=labels.rank,
        untrusted=labels.untrusted,
        approval=approval,
        approval_expires_at=approval_expires_at,
        sources=sources,
        leaves=leaves,
        references=references,
        sums={name: f"{amount:f}" for name, amount in spent.sums.items()} if spent is not None else {},
        resource=spent.resource if spent is not None else "",
        data_class=tool.data_class if tool else "",
        trust=tool.trust.value if tool else "",
        signals=[signal.value for signal in facts.signals],
        rulebook=rules.kept,
        question=_terms(facts, decision),
        learnt=learnt,
        leans_on=decision.leans_on if isinstance(decision, Allow) else "",
        preauthorizes=decision.preauthorizes if isinstance(decision, Allow) else 0,
        class_policies=list(decision.class_policies) if isinstance(decision, Allow) else [],
        ancestors=[AncestorLine(task=one.id, seq=one.seq) for one in facts.ancestors],
        stopped=list(facts.stopped),
        leaked=list(facts.leaked),
    )


def _raised(facts: Facts, rules: Rulebook) -> Labels:
    """What the labels rise to when the call is allowed; trust waits for a result that may clear itself."""
    assert facts.tool is not None, "what nobody declared is never allowed"
    labels = whole(facts.tool, facts.classes)
    return Labels(labels.rank) if rules.catalog.result_rules(facts.call.id).may_clear else labels


def _terms(facts: Facts, decision: Decision) -> QuestionTerms | None:
    """The terms of a question, also of one that nobody could have answered."""
    asked = isinstance(decision, Ask) or any(reason.code is Code.NO_APPROVER for reason in decision.reasons)
    terms = facts.terms
    if not asked:
        return None
    return QuestionTerms(needed=terms.needed, four_eyes=terms.four_eyes, approvers=terms.approvers, passkey=terms.passkey)


def _where(code: Code, where: str) -> str:
    """Pointers are recorded, values are not: an engine's message may quote one."""
    return where[:200] if code in _POINTS_AT_INPUT else ""

"""Recorded decisions, decided again: under the rules of their day (does the ledger tell the truth?) or under others (what flips?).

Rules: the same ``authorize`` as at the door, over facts that are rebuilt from the ledger: the task folded up to the record, the call
it names, the rules kept under the digest it names, and its own time. The arguments are taken only where their digest is the
recorded one. Where they were not kept, all is decided again that does not need them, and what does is said, never guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Mistake
from remit.logic.arguments import digest_json, parse_json
from remit.logic.authorize import authorize
from remit.logic.grants import demands
from remit.logic.labelling import for_call
from remit.logic.tracing import recorded_origins, recorded_references
from remit.model.approver import Terms
from remit.model.behaviour import Signal
from remit.model.call import Call
from remit.model.catalog import Kind, Trust
from remit.model.decision import Allow, Code, Decision
from remit.model.facts import Facts
from remit.model.identity import SpiffeId
from remit.model.task import amended

if TYPE_CHECKING:
    from remit.logic.policy import Policies
    from remit.logic.rulebook import Rulebook
    from remit.model.call_record import CallDecided
    from remit.model.grant import Grant
    from remit.model.record import Record
    from remit.model.task import Task

BY_ARGUMENTS = frozenset({Code.ARGUMENTS_INVALID, Code.ARGUMENTS_OUTSIDE_GRANT, Code.SUM_EXCEEDED, Code.AMOUNT_UNCLEAR})
BY_ORIGIN = frozenset({Code.ORIGIN_UNKNOWN, Code.ORIGIN_NOT_ADMITTED})
BY_POLICY = frozenset(
    {
        Code.PERMITTED,
        Code.APPROVED,
        Code.PREAPPROVED,
        Code.PREAUTHORIZED,
        Code.NO_POLICY_PERMITS,
        Code.POLICY_FORBIDS,
        Code.POLICY_ERROR,
        Code.NEEDS_APPROVAL,
        Code.APPROVAL_REFUSED,
        Code.TOO_MANY_QUESTIONS,
    }
)
NOT_KEPT = "values were not kept"
_ARGUMENT_BYTES_MAX = 16_777_216


class Verdict(StrEnum):
    """What came of deciding again."""

    AGREES = "agrees"
    PARTLY = "partly"  # as far as it could be decided again without the values
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A recorded decision beside the one made again. ``why``: what differs, or what could not be decided again."""

    verdict: Verdict
    why: str = ""


def kept_arguments(body: CallDecided, kept: bytes | None) -> dict[str, Any] | None:
    """The arguments of a recorded call: those kept, or those that its kind alone tells; ``None``: not known.

    Raises Broken where what was kept is not what the ledger names.
    """
    if kept is not None:
        try:
            value = parse_json(kept, bytes_max=_ARGUMENT_BYTES_MAX, depth_max=1_000)
            if isinstance(value, dict) and digest_json(value) == body.arguments_digest:
                return value
        except Mistake:
            pass
        raise Broken(f"the values kept of {body.decision} are not those that the ledger names", code="kept_values")
    told: tuple[dict[str, Any], ...] = ({}, {"uri": body.name}, {"name": body.name, "arguments": {}})
    return next((arguments for arguments in told if digest_json(arguments) == body.arguments_digest), None)


def facts_at(
    task: Task,
    record: Record,
    body: CallDecided,
    rules: Rulebook,
    questions_max: int,
    arguments: dict[str, Any] | None,
    ancestors: tuple[Task, ...] = (),
) -> Facts:
    """The facts that a recorded decision was made from. ``task``: as it was before the record; ``ancestors``: as it names them."""
    kind = Kind(body.tool_kind)
    call = Call(kind=kind, server=body.server, name=body.name, arguments=arguments or {}, digest=body.arguments_digest)
    tool = rules.tool(kind, body.server, body.name)
    if tool is not None and arguments is not None:
        tool = for_call(tool, rules.catalog.result_rules(call.id), arguments, rules.classes)
    elif tool is not None and body.trust:
        tool = replace(tool, data_class=body.data_class, trust=Trust(body.trust))
    return Facts(
        now=record.at,
        agent=SpiffeId.parse(body.agent),
        task=task,
        call=call,
        tool=tool,
        pinned=rules.pinned.get(call.id) if kind is Kind.TOOL else None,
        classes=rules.classes,
        seen_digest=body.tool_digest,
        approvals_max=questions_max,
        origins=recorded_origins(body),
        references=recorded_references(body),
        leaked=tuple(body.leaked),
        signals=tuple(Signal(word) for word in body.signals),
        terms=_terms(body),
        rulebook=body.rulebook,
        ancestors=ancestors,
        stopped=tuple(body.stopped),
    )


def _terms(body: CallDecided) -> Terms:
    """Under which terms a question was asked, or could not be; of other decisions nothing is said, and a person is taken to be there."""
    told = body.question
    if told is None:
        return Terms()
    return Terms(needed=told.needed, four_eyes=told.four_eyes, approvers=told.approvers, passkey=told.passkey)


def decide_again(facts: Facts, policies: Policies, body: CallDecided, *, whole: bool) -> tuple[Decision | None, str]:
    """The decision made again, or ``None`` and what is missing. ``whole``: the facts hold the arguments.

    Without them the grant is taken to cover the call as it was recorded to; a call whose arguments it refused stays refused
    by it, whatever the policies (``None`` and nothing missing).
    """
    if whole:
        return authorize(facts, policies), ""
    if body.outcome == "deny" and _codes_of(body) & _by_values(facts):
        return None, ""
    unclear = _unclear(facts)
    if unclear:
        return None, unclear
    decision = authorize(_covered(facts), policies)
    by_policy = {reason.code for reason in decision.reasons} & BY_POLICY
    if by_policy and facts.tool is not None and policies.looks_at_arguments(facts, facts.tool):
        return None, f"{NOT_KEPT}, and policies that can match {facts.call.id} look at them"
    return decision, f"{NOT_KEPT}: the arguments were not held against the tool's schema and the grant again"


def compare(facts: Facts, policies: Policies, body: CallDecided, *, whole: bool) -> Compared:
    """Decide again under the policies of the day and hold it against the record."""
    if policies.digest != body.policy_set:
        return Compared(verdict=Verdict.DIFFERS, why="the policies kept with its rules are not those that it names")
    decision, missing = decide_again(facts, policies, body, whole=whole)
    if decision is None:
        if missing:
            return Compared(verdict=Verdict.UNKNOWN, why=missing)
        return _other_refusals(facts, policies, body)
    differences = [f"{what} {was} recorded, {now} decided again" for what, was, now in _pairs(body, decision, whole=whole) if was != now]
    if differences:
        return Compared(verdict=Verdict.DIFFERS, why="; ".join(differences))
    return Compared(verdict=Verdict.PARTLY, why=missing) if missing else Compared(verdict=Verdict.AGREES)


def outcome_of(decision: Decision) -> str:
    """``allow``, ``ask`` or ``deny``."""
    return type(decision).__name__.lower()


def _pairs(body: CallDecided, decision: Decision, *, whole: bool) -> list[tuple[str, object, object]]:
    pairs: list[tuple[str, object, object]] = [
        ("outcome", body.outcome, outcome_of(decision)),
        ("reasons", sorted(line.code for line in body.reasons), sorted(reason.code.value for reason in decision.reasons)),
        ("policies", sorted(body.policies), sorted(decision.policies)),
    ]
    if isinstance(decision, Allow) and body.outcome == "allow":
        pairs.append(("approval", body.approval, decision.approval or ""))
        if whole:
            spent = decision.spent
            pairs.append(("line of the grant", body.grant, spent.grant))
            pairs.append(("sums", body.sums, {name: f"{amount:f}" for name, amount in spent.sums.items()}))
            pairs.append(("resource", body.resource, spent.resource))
    return pairs


def _other_refusals(facts: Facts, policies: Policies, body: CallDecided) -> Compared:
    """Of a call whose arguments were refused: the refusals beside that, which need no values."""
    aside = {*_by_values(facts), Code.USES_EXHAUSTED, *BY_POLICY}
    again = Counter(reason.code.value for reason in authorize(_covered(facts), policies).reasons if reason.code not in aside)
    recorded = Counter(line.code for line in body.reasons if line.code not in aside)
    if again != recorded or body.outcome != "deny":
        why = f"reasons {sorted(recorded)} recorded beside the arguments, {sorted(again)} decided again"
        return Compared(verdict=Verdict.DIFFERS, why=why)
    return Compared(verdict=Verdict.PARTLY, why=f"{NOT_KEPT}: why the arguments were refused was not decided again")


def _by_values(facts: Facts) -> frozenset[str]:
    """Codes of refusals that only the arguments tell."""
    resources = {Code.BUDGET_EXHAUSTED} if facts.task.budget.resources else set()
    return BY_ARGUMENTS | BY_ORIGIN | resources


def _unclear(facts: Facts) -> str:
    """What of the grant hangs on the arguments even where it is known to cover the call."""
    call = facts.call
    tasks = (facts.task, *facts.ancestors)
    lines = [line for task in tasks for line in task.grants if line.names(call.kind, call.server, call.name)]
    if any(line.arguments and demands(json.loads(line.arguments)) for line in lines):
        return f"{NOT_KEPT}, and the grant demands origins of {call.id}"
    if len({line.autonomy for line in lines}) > 1:
        return f"{NOT_KEPT}, and lines of the grant differ in autonomy for {call.id}"
    return ""


def _covered(facts: Facts) -> Facts:
    """The facts with a grant, a budget and a schema that take whatever arguments the call has."""
    task, pinned = facts.task, facts.pinned
    open_task = amended(task, grants=_open_lines(facts, task), budget=replace(task.budget, sums=(), resources=0))
    above = tuple(amended(ancestor, grants=_open_lines(facts, ancestor)) for ancestor in facts.ancestors)
    if pinned is not None:  # compiled schemas are kept by digest, so an open one has a digest of its own
        names = pinned.input_schema.get("properties")
        schema = {"type": "object", "properties": {name: {} for name in names} if isinstance(names, dict) else {}}
        pinned = replace(pinned, digest=f"open:{pinned.digest}", input_schema={**schema, "additionalProperties": True})
    return replace(facts, task=open_task, ancestors=above, pinned=pinned)


def _open_lines(facts: Facts, task: Task) -> tuple[Grant, ...]:
    call = facts.call
    return tuple(replace(line, arguments="") if line.names(call.kind, call.server, call.name) else line for line in task.grants)


def _codes_of(body: CallDecided) -> set[str]:
    return {line.code for line in body.reasons}


def shown(arguments: dict[str, Any] | None) -> str:
    """Arguments for people, cut short."""
    return NOT_KEPT if arguments is None else json.dumps(arguments, ensure_ascii=False)[:200]

"""Recorded answers about applications, decided again under the policies and entities of their day. Pure.

Rules: the same ``evaluate`` as at the door, over the question that the record names and the properties that were kept, at the time that
policies saw. Properties are taken only where their digest is the recorded one. Where they were not kept, it is told that the rules are
those and hold the policies named. Left out: who may ask about what, which no kept rules say; such refusals are told in part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Mistake
from remit.logic.arguments import digest_json, parse_json
from remit.logic.replay import NOT_KEPT, Compared, Verdict
from remit.model.access import Entity, Question
from remit.model.decision import Code

if TYPE_CHECKING:
    from datetime import datetime

    from remit.logic.applications import Application
    from remit.model.record import AccessDecided

Json = dict[str, Any]
_PARTS = ("subject", "action", "resource", "context")
_KEPT_BYTES_MAX = 16_777_216
_BEFORE = frozenset({Code.NO_TASK, Code.TYPE_UNKNOWN, Code.WRONG_AGENT})  # of no application's policies


def properties_of(question: Question) -> Json:
    """What was sent of each part beside its name: what the record's digest is of, and what is kept."""
    return {
        "subject": question.subject.properties,
        "action": question.action_properties,
        "resource": question.resource.properties,
        "context": question.context,
    }


def kept_properties(body: AccessDecided, kept: bytes | None) -> Json | None:
    """The properties of a recorded question: those kept, or none where it had none; ``None``: not known.

    Raises Broken where what was kept is not what the ledger names.
    """
    if kept is not None:
        try:
            value = parse_json(kept, bytes_max=_KEPT_BYTES_MAX, depth_max=1_000)
            if set(value) == set(_PARTS) and digest_json(value) == body.properties_digest:
                return dict(value)
        except (Mistake, TypeError):
            pass
        raise Broken(f"the values kept of {body.decision} are not those that the ledger names", code="kept_values")
    none: Json = {part: {} for part in _PARTS}
    return none if digest_json(none) == body.properties_digest else None


def before_policies(body: AccessDecided) -> bool:
    """Whether an answer never came to an application's policies."""
    return not body.policy_set or bool({line.code for line in body.reasons} & _BEFORE)


def compare_refusal(body: AccessDecided) -> Compared:
    """Of an answer that never came to policies: that it is a refusal and names none."""
    if body.outcome != "deny" or body.policies or not body.reasons:
        return Compared(verdict=Verdict.DIFFERS, why=f"outcome {body.outcome} recorded of a question that no policy was asked about")
    return Compared(verdict=Verdict.PARTLY, why="no policy was asked: who may ask, and about what, was not decided again")


def compare_answer(body: AccessDecided, application: Application, properties: Json | None, at: datetime) -> Compared:
    """Evaluate again and hold it against the record. ``at``: of the record, where it does not say when it was evaluated."""
    if properties is None:
        foreign = set(body.policies) - application.ids(body.action)
        if foreign or (body.outcome == "allow" and not body.policies):
            named = ", ".join(sorted(foreign)) or "none"
            return Compared(verdict=Verdict.DIFFERS, why=f"{body.outcome} by policies that those rules do not have: {named}")
        return Compared(verdict=Verdict.PARTLY, why=f"{NOT_KEPT}: the answer was not decided again, its rules hold the policies it names")
    question = Question(
        subject=Entity(type=body.subject_type, id=body.subject, properties=properties["subject"]),
        action=body.action,
        resource=Entity(type=body.resource_type, id=body.resource, properties=properties["resource"]),
        action_properties=properties["action"],
        context=properties["context"],
    )
    again = application.evaluate(question, body.evaluated_at or at)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("outcome", body.outcome, "allow" if again.allowed else "deny"),
        ("reasons", sorted(line.code for line in body.reasons), sorted(reason.code.value for reason in again.reasons)),
        ("policies", sorted(body.policies), sorted(again.policies)),
    )
    differences = [f"{what} {was} recorded, {now} decided again" for what, was, now in pairs if was != now]
    return Compared(verdict=Verdict.DIFFERS, why="; ".join(differences)) if differences else Compared(verdict=Verdict.AGREES)

"""Subject identifiers (RFC 9493, SSF 1.0 §3): what a signal is about, as what remit knows: persons, agents, tasks, tokens.

Rules
* In doubt more is concerned, since a signal only takes back: names are compared as ``same_name`` writes them, and a member of a complex
  subject that means nothing here (a device, a foreign session) narrows nothing.
* What is understood narrows: all understood members of a complex subject must hold. A subject of which nothing is understood
  concerns nothing; it is recorded.
* An id in the form of ours is a task's, ours or another remit's: it never stands for "some session".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake
from remit.logic.approvals import same_name
from remit.model.identity import SpiffeId
from remit.model.signal import Clause, Concern, Concerns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_TASK = re.compile(r"task_[0-9A-Za-z]{1,64}\Z")
_FIELD = re.compile(r"\{([a-z_]+)\}")
FIELDS = frozenset({"email", "iss", "sub", "id", "uri", "account", "phone_number"})
_TEXT_MAX, _MEMBERS_MAX, _ALIASES_MAX = 2_048, 16, 16
_FORMATS: dict[str, tuple[str, ...]] = {
    "email": ("email",),
    "iss_sub": ("iss", "sub"),
    "opaque": ("id",),
    "account": ("uri",),
    "phone_number": ("phone_number",),
    "did": ("url",),
    "uri": ("uri",),
    "jwt_id": ("iss", "jti"),
    "saml_assertion_id": ("issuer", "assertion_id"),
}
_KINDS_OF: dict[str, frozenset[Concerns]] = {  # what a member of a complex subject can be; others are understood not at all
    "user": frozenset({Concerns.PERSON}),
    "application": frozenset({Concerns.AGENT}),
    "session": frozenset({Concerns.TASK, Concerns.TOKEN}),
}


def concern_of(subject: Mapping[str, Any], persons: Collection[str], kinds: Collection[Concerns], issuer: str) -> Concern:
    """What a subject concerns. ``persons``: forms of names; ``kinds``: what the transmitter may speak of; ``issuer``: ours.

    Raises Mistake for what is no subject identifier.
    """
    kinds = frozenset(kinds)
    if subject.get("format") != "complex":
        clause = _simple(subject, persons, kinds, issuer, aliases=True)
        return () if clause is None or clause.empty else (clause,)
    members = {name: member for name, member in subject.items() if name != "format"}
    if not 1 <= len(members) <= _MEMBERS_MAX or not all(isinstance(member, dict) for member in members.values()):
        raise Mistake("a complex subject has no members, too many, or one that is no subject", code="invalid_request")
    clauses = []
    for name, member in sorted(members.items()):
        read = _simple(member, persons, _KINDS_OF.get(name, frozenset()), issuer, aliases=True)
        if read is not None and not read.empty:
            clauses.append(read)
    spoken = [_of_kinds(clause, kinds) for clause in clauses]
    if all(clause.empty for clause in spoken):
        return ()  # it is only about what this transmitter may not speak of
    return tuple(clause if allowed.empty else allowed for clause, allowed in zip(clauses, spoken, strict=True))


def concerns(concern: Concern, *, task: str, agent: str, on_behalf_of: str) -> bool:
    """Whether a task is concerned. Tokens have become tasks before (``replaced``)."""
    person = same_person(on_behalf_of)
    return bool(concern) and all(task in one.tasks or agent in one.agents or person in one.persons for one in concern)


def tokens_of(concern: Concern) -> frozenset[str]:
    """Ids of tokens that have to be looked up."""
    return frozenset(token for clause in concern for token in clause.tokens)


def only_tokens(concern: Concern) -> frozenset[str]:
    """Ids of tokens, where the subject names tokens as such: then they are what is taken back, not their tasks. None: it does not."""
    named = [one.tokens for one in concern if one.tokens and not (one.persons or one.agents or one.tasks)]
    return frozenset.intersection(*named) if named else frozenset()


def replaced(concern: Concern, tasks: Mapping[str, str]) -> Concern:
    """Tokens as the tasks that they open; a token of no live task is nobody's."""
    return tuple(
        Clause(persons=one.persons, agents=one.agents, tasks=one.tasks | {tasks[token] for token in one.tokens if token in tasks})
        for one in concern
    )


def same_person(name: str) -> str:
    """A person's name as it is compared."""
    return same_name(name)


def unknown_fields(form: str) -> frozenset[str]:
    """What a form of names speaks of that no subject has; the whole form where it has no field."""
    fields = set(_FIELD.findall(form))
    return frozenset(fields - FIELDS) if fields else frozenset({form})


def _simple(
    subject: Mapping[str, Any], persons: Collection[str], kinds: frozenset[Concerns], issuer: str, *, aliases: bool
) -> Clause | None:
    """One simple subject, or all its aliases; ``None`` where its format means nothing here. Raises Mistake."""
    form = subject.get("format")
    if not isinstance(form, str):
        raise Mistake("a subject does not say its format", code="invalid_request")
    if form == "aliases":
        return _aliases(subject, persons, kinds, issuer) if aliases else None
    names = _FORMATS.get(form)
    if names is None:
        return None
    texts = {name: subject.get(name) for name in names}
    if not all(isinstance(text, str) and 0 < len(text) <= _TEXT_MAX for text in texts.values()):
        raise Mistake(f"a subject of format {form} lacks what belongs to it", code="invalid_request")
    return _of_kinds(_clause(form, {name: str(text) for name, text in texts.items()}, persons, issuer), kinds)


def _aliases(subject: Mapping[str, Any], persons: Collection[str], kinds: frozenset[Concerns], issuer: str) -> Clause:
    """RFC 9493 §3.2.8: several identifiers of one subject; none is an alias list itself."""
    identifiers = subject.get("identifiers")
    if not isinstance(identifiers, list) or not 1 <= len(identifiers) <= _ALIASES_MAX:
        raise Mistake("aliases without identifiers, or too many", code="invalid_request")
    found = Clause()
    for identifier in identifiers:
        if not isinstance(identifier, dict) or identifier.get("format") in {"aliases", "complex"}:
            raise Mistake("an alias is no simple subject", code="invalid_request")
        one = _simple(identifier, persons, kinds, issuer, aliases=False) or Clause()
        found = Clause(
            persons=found.persons | one.persons,
            agents=found.agents | one.agents,
            tasks=found.tasks | one.tasks,
            tokens=found.tokens | one.tokens,
        )
    return found


def _clause(form: str, texts: Mapping[str, str], persons: Collection[str], issuer: str) -> Clause:
    """What one identifier may stand for, of whatever kind."""
    if form == "jwt_id":
        return Clause(tokens=frozenset({texts["jti"]})) if texts["iss"] == issuer else Clause()
    if form in {"did", "saml_assertion_id"}:
        return Clause()
    whole = texts.get("id") or texts.get("uri") or texts.get("sub") or ""
    if whole.startswith("spiffe://"):
        try:
            return Clause(agents=frozenset({SpiffeId.parse(whole).text}))
        except Mistake:
            raise Mistake("a subject looks like a SPIFFE ID and is none", code="invalid_request") from None
    if form == "opaque" and _TASK.match(whole):
        return Clause(tasks=frozenset({whole}))
    known = dict(texts)
    if form == "account":
        known["account"] = texts["uri"].removeprefix("acct:")
    named = (_filled(form_of_name, known) for form_of_name in persons)
    return Clause(persons=frozenset(same_person(name) for name in named if name))


def _filled(form: str, texts: Mapping[str, str]) -> str:
    """A form of names with what a subject says; "" where it does not say all of it."""
    if not all(name in texts for name in _FIELD.findall(form)):
        return ""
    return _FIELD.sub(lambda found: texts[found.group(1)], form)


def _of_kinds(clause: Clause, kinds: Collection[Concerns]) -> Clause:
    nothing: frozenset[str] = frozenset()
    return Clause(
        persons=clause.persons if Concerns.PERSON in kinds else nothing,
        agents=clause.agents if Concerns.AGENT in kinds else nothing,
        tasks=clause.tasks if Concerns.TASK in kinds else nothing,
        tokens=clause.tokens if Concerns.TOKEN in kinds else nothing,
    )

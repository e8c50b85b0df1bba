"""From the claims of a foreign token to a SPIFFE ID of ours, and whether two mappings can ever meet.

    spiffe://remit.local/ci/{repository:2}          {repository:2}: exactly two segments, as in acme/web
    spiffe://remit.local/k8s/{/kubernetes.io/namespace}     a claim inside others, by JSON pointer

Rules: a claim fills whole segments, as many as the template says, so that an ID can be read back in one way only and no value can
make another path. A value is taken as it is or the token is refused: nothing is escaped, cut or folded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Unauthenticated
from remit.model.identity import SpiffeId
from remit.model.trust import IdentityRule, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

_PART = re.compile(r"\{(?P<claim>[^{}]{1,200}?)(?::(?P<segments>[1-9]))?\}|(?P<text>[A-Za-z0-9._-]+)")
_HINT = "write spiffe://trust-domain/ci/{repository:2}: segments of letters, digits, '.', '_', '-', or {claim} as a whole segment"
_VALUE_CHARACTERS_MAX = 512
_POINTER_DEPTH_MAX = 8
Claims = dict[str, Any]


def parse_template(text: str) -> tuple[str, tuple[Part, ...]]:
    """Trust domain and parts of a template. Raises Mistake."""
    scheme, separator, rest = text.partition("://")
    domain, slash, path = rest.partition("/")
    parts: list[Part] = []
    place = 0
    while separator and slash and place <= len(path):
        found = _PART.match(path, place)
        if found is None or (found.end() < len(path) and path[found.end()] != "/"):
            raise Mistake(f"{text[:120]!r} is no template of a SPIFFE ID", code="template", hint=_HINT)
        segments = int(found["segments"] or 1)
        parts.append(Part(claim=found["claim"], segments=segments) if found["claim"] else Part(text=found["text"]))
        place = found.end() + 1
    try:
        SpiffeId.parse(f"{scheme}://{domain}/{'/'.join(part.text or 'x' for part in parts)}")
    except Mistake:
        raise Mistake(f"{text[:120]!r} is no template of a SPIFFE ID", code="template", hint=_HINT) from None
    return domain, tuple(parts)


def map_identity(claims: Claims, rules: tuple[IdentityRule, ...]) -> SpiffeId:
    """The workload that a token's claims are. Raises Unauthenticated where no rule fits, or a value does not."""
    fitting = [rule for rule in rules if all(_holds(claims, name, values) for name, values in rule.required)]
    if len(fitting) != 1:
        raise Unauthenticated("no mapping fits the token's claims" if not fitting else "several mappings fit the token's claims")
    path = [segment for part in fitting[0].parts for segment in _segments(claims, part)]
    try:
        return SpiffeId.parse(f"spiffe://{fitting[0].trust_domain}/{'/'.join(path)}")
    except Mistake:
        raise Unauthenticated("the token's claims make no SPIFFE ID") from None


def claim_of(claims: Mapping[str, Any], name: str) -> object:
    """A claim by name, or by JSON pointer where the name begins with a slash; ``None`` where there is none."""
    if not name.startswith("/"):
        return claims.get(name)
    value: object = claims
    for step in name[1:].split("/")[:_POINTER_DEPTH_MAX]:
        value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value


def may_meet(one: IdentityRule, other: IdentityRule) -> bool:
    """Whether some ID could come from both."""
    mine, theirs = _shape(one), _shape(other)
    if one.trust_domain != other.trust_domain or len(mine) != len(theirs):
        return False
    return all(a is None or b is None or a == b for a, b in zip(mine, theirs, strict=True))


def may_make(rule: IdentityRule, spiffe_id: SpiffeId) -> bool:
    """Whether an ID could come from a rule."""
    parts = tuple(Part(text=segment) for segment in spiffe_id.text.split("/")[3:])
    return may_meet(rule, IdentityRule(required=(), trust_domain=spiffe_id.trust_domain, parts=parts))


def may_fit_one_token(one: IdentityRule, other: IdentityRule) -> bool:
    """Whether some token could fit both: no claim is required by both with different values."""
    theirs = dict(other.required)
    return not any(name in theirs and not (values & theirs[name]) for name, values in one.required)


def _shape(rule: IdentityRule) -> list[str | None]:
    """The segments of a rule's IDs; ``None``: whatever a claim says."""
    return [segment for part in rule.parts for segment in ([part.text] if not part.claim else [None] * part.segments)]


def _holds(claims: Claims, name: str, values: frozenset[Any]) -> bool:
    value = claim_of(claims, name)
    return isinstance(value, str | int | bool) and (type(value), value) in values


def _segments(claims: Claims, part: Part) -> list[str]:
    if not part.claim:
        return [part.text]
    value = claim_of(claims, part.claim)
    if not isinstance(value, str) or len(value) > _VALUE_CHARACTERS_MAX:
        raise Unauthenticated(f"the token has no claim {part.claim} that names something")
    segments = value.split("/")
    if len(segments) != part.segments:
        raise Unauthenticated(f"claim {part.claim} is not of {part.segments} segments")
    return segments

"""From claims to identities: no value makes another path, an ID is read back in one way, and mappings kept apart never meet."""

from __future__ import annotations

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from remit.errors import Mistake, Unauthenticated
from remit.logic.identity_mapping import map_identity, may_fit_one_token, may_make, may_meet, parse_template
from remit.model.identity import SpiffeId
from remit.model.trust import IdentityRule

SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")
WORDS = st.sampled_from(["ci", "agent", "a", "b", "x.y", "-"])
GOOD = st.text("ab.-_X1", min_size=1, max_size=4).filter(lambda text: text not in {".", ".."})
VALUES = st.one_of(
    GOOD,
    st.lists(GOOD, min_size=2, max_size=3).map("/".join),
    st.text(st.sampled_from("a./%2eＡа\u2215\u200b\n\0{}:#?@ "), max_size=6),
    st.text(max_size=5),
    st.none() | st.integers() | st.booleans() | st.lists(st.text(max_size=2), max_size=2),
)
PLACES = st.one_of(WORDS, st.tuples(st.sampled_from(["r", "s", "/in/ner"]), st.integers(1, 3)))


def template(places) -> str:
    words = [place if isinstance(place, str) else "{%s:%d}" % place for place in places]  # noqa: UP031 - braces all over
    return "spiffe://remit.test/" + "/".join(words)


def rule(places, **required) -> IdentityRule:
    domain, parts = parse_template(template(places))
    wanted = tuple((name, frozenset((type(value), value) for value in values)) for name, values in required.items())
    return IdentityRule(required=wanted, trust_domain=domain, parts=parts)


def mapped(made: IdentityRule, claims) -> SpiffeId | None:
    try:
        return map_identity(claims, (made,))
    except Unauthenticated:
        return None


CLAIMS = st.fixed_dictionaries({}, optional={"r": VALUES, "s": VALUES, "in": st.fixed_dictionaries({}, optional={"ner": VALUES})})
RULES = st.lists(PLACES, min_size=1, max_size=4)


@given(RULES, CLAIMS)
def test_an_id_has_the_template_s_words_in_the_template_s_places_and_claims_fill_just_theirs(places, claims):
    spiffe_id = mapped(rule(places), claims)
    if spiffe_id is None:
        return
    assert SpiffeId.parse(spiffe_id.text) == spiffe_id
    segments = spiffe_id.text.removeprefix("spiffe://remit.test/").split("/")
    for place in places:
        if isinstance(place, str):
            assert segments.pop(0) == place
        else:
            name, count = place
            value = claims.get("in", {}).get("ner") if name == "/in/ner" else claims.get(name)
            taken, segments = segments[:count], segments[count:]
            assert "/".join(taken) == value
            assert all(SEGMENT.match(one) and one not in {".", ".."} for one in taken)
    assert segments == []
    assert may_make(rule(places), spiffe_id)


@given(RULES, CLAIMS, CLAIMS)
def test_different_values_are_different_identities(places, one, other):
    assume("in" not in one and "in" not in other)
    used = {place[0] for place in places if not isinstance(place, str)}
    first, second = mapped(rule(places), one), mapped(rule(places), other)
    if first is not None and second is not None and any(one.get(name) != other.get(name) for name in used):
        assert first != second


@given(RULES, RULES, CLAIMS, CLAIMS)
def test_mappings_that_cannot_meet_never_do(mine, theirs, one, other):
    a, b = rule(mine), rule(theirs)
    assert may_meet(a, b) == may_meet(b, a)
    assert may_meet(a, a)
    if not may_meet(a, b):
        first = mapped(a, one)
        assert first is None or first != mapped(b, other)


REQUIRED = st.dictionaries(st.sampled_from(["owner", "ref"]), st.frozensets(st.sampled_from(["x", "y", True, 1]), min_size=1), max_size=2)


@given(REQUIRED, REQUIRED, st.dictionaries(st.sampled_from(["owner", "ref"]), st.sampled_from(["x", "y", "z", True, 1, ["x"]])))
def test_mappings_that_cannot_fit_one_token_never_do(mine, theirs, claims):
    a, b = rule(["a"], **mine), rule(["b"], **theirs)
    if not may_fit_one_token(a, b):
        assert mapped(a, claims) is None or mapped(b, claims) is None
    elif mapped(a, claims) and mapped(b, claims):
        try:
            map_identity(claims, (a, b))
        except Unauthenticated:
            return
        raise AssertionError("two identities")


@given(st.text(st.sampled_from("spif:/remt.locaX{}r:19%\u0430 ?#@"), max_size=40) | RULES.map(template))
def test_what_is_no_template_is_a_mistake_and_nothing_else(text):
    try:
        domain, parts = parse_template(text)
    except Mistake:
        return
    again = f"spiffe://{domain}/" + "/".join(part.text or "{%s:%d}" % (part.claim, part.segments) for part in parts)  # noqa: UP031
    assert parse_template(again) == (domain, parts)

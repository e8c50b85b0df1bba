"""Laws of an application's answers: total, swayed by nothing that no policy names, never softened by one more forbid."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from remit.logic.applications import Application
from remit.model.access import ApplicationFiles, Entity, Question
from tests.support import NOW

POLICIES = """
@id("owner") permit (principal, action, resource) when { resource has owner && resource.owner == principal.name };
@id("soft") permit (principal, action == Action::"delete", resource) when { context.action has soft && context.action.soft };
@id("late") forbid (principal, action, resource) when { context.request has late && context.request.late };
"""
FORBID = """
@id("closed") forbid (principal, action == Action::"delete", resource) when { resource.closed };
"""
KNOWN = (
    Entity(type="user", id="ann", properties={"name": "ann"}, within=(("group", "g"),)),
    Entity(type="group", id="g"),
    Entity(type="doc", id="1", properties={"owner": "ann"}),
)
NAMED = {"owner", "name", "soft", "late", "closed"}


def application(policies: str = POLICIES) -> Application:
    files = ApplicationFiles(
        name="docs",
        subjects=("user",),
        resources=("doc",),
        actions=("view", "delete"),
        explain=False,
        policies={"access/docs/main.cedar": policies},
        entities=KNOWN,
    )
    return Application(files)


PLAIN, STRICTER = application(), application(POLICIES + FORBID)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["__entity", "__extn"]), inner, max_size=3),
    max_leaves=8,
)
OTHERS = st.dictionaries(TEXT.filter(lambda name: name not in NAMED), JSON, max_size=4)
ANY = st.dictionaries(TEXT | st.sampled_from(sorted(NAMED)), JSON, max_size=4)


def question(
    who: str = "ann",
    action: str = "view",
    what: str = "1",
    subject: Any = None,
    doing: Any = None,
    resource: Any = None,
    context: Any = None,
) -> Question:
    return Question(
        subject=Entity(type="user", id=who, properties=subject or {}),
        action=action,
        resource=Entity(type="doc", id=what, properties=resource or {}),
        action_properties=doing or {},
        context=context or {},
    )


@given(st.sampled_from(["ann", "bob"]), st.sampled_from(["view", "delete", "fly"]), OTHERS, OTHERS, OTHERS, OTHERS)
@example("ann", "view", {"x": {"__entity": {"type": "user", "id": "bob"}}}, {"": None}, {"a": [None]}, {"n": 10**30, "f": 1e-9})
@example("ann", "view", {}, {}, {}, {".": 2.0**63, "has": [None], "when": 1e300})
def test_what_no_policy_names_sways_nothing(who, action, subject, doing, resource, context):
    bare, full = question(who, action), question(who, action, "1", subject, doing, resource, context)
    assert PLAIN.evaluate(full, NOW) == PLAIN.evaluate(bare, NOW)


@given(TEXT, st.sampled_from(["view", "delete"]), TEXT, ANY, ANY, ANY, ANY)
def test_an_answer_is_total_and_one_more_forbid_never_permits(who, action, what, subject, doing, resource, context):
    asked = question(who, action, what, subject, doing, resource, context)
    verdict, stricter = PLAIN.evaluate(asked, NOW), STRICTER.evaluate(asked, NOW)
    assert verdict.reasons
    assert verdict.allowed or not stricter.allowed


@given(st.integers(-(2**53), 2**53) | st.lists(TEXT, max_size=3) | st.floats(-9, 9).map(lambda number: round(number, 3)))
def test_a_named_property_of_another_kind_permits_nothing(value):
    assert not PLAIN.evaluate(question("bob", "delete", doing={"soft": value}), NOW).allowed
    assert not PLAIN.evaluate(question("bob", resource={"owner": value}), NOW).allowed
    assert not PLAIN.evaluate(question("ann", context={"late": value}), NOW).allowed, "a forbid that cannot be evaluated denies"

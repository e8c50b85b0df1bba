"""Policies: checked whole before they are used, sliced without changing an answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.errors import Mistake
from remit.logic.cedar_text import NESTING_MAX, statements
from remit.logic.policy import Policies
from remit.logic.policy_context import EVERYTHING
from remit.model.labels import Labels
from tests.support import NOW, PAY, POLICY, READ, call, facts, rulebook, task


def load(text: str) -> Policies:
    return rulebook(text).policies


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("permit (principal, action, resource);\n\npermit (principal action, resource);", 3, "not a Cedar policy"),
        ("permit (principal, action, resource)", 1, "';'"),
        ('permit (principal, action, resource) when { context.x == "a };', 1, "string"),
        ('\n@id("a") permit (principal, action, resource);\n@id("a") permit (principal, action, resource);', 3, "taken"),
        ('permit (principal, action, resource) when { resource.colour == "red" };', 1, "schema"),
        ('permit (principal, action == Action::"bank/nope", resource);', 1, "schema"),
        ("permit (principal == ?principal, action, resource);", 1, "template"),
        ("permit (principal, action, resource) when { " + "(" * (NESTING_MAX + 1) + "true" + ")" * (NESTING_MAX + 1) + " };", 1, "nested"),
        ("permit (principal, action, resource) when { " + "if true then " * 500 + "true" + " else false" * 500 + " };", 1, "operators"),
        ("permit (principal, action, resource) when { " + " + ".join(["1"] * 5000) + " == 5000 };", 1, "operators"),
    ],
)
def test_a_bad_policy_is_named_with_its_line(text, line, word):
    with pytest.raises(Mistake) as caught:
        load(text)
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.line) == ("main.cedar", line)
    assert word in str(caught.value)


def test_semicolons_and_comments_inside_policies_do_not_split_them():
    text = '// a; comment\npermit (principal, action, resource) when { resource.name == "a;b//c\\"" }; // end;\n'
    (only,) = statements("main.cedar", text)
    assert only.line == 2


def test_slicing_changes_no_answer():
    """Many policies of other tools and agents change neither the answer nor its reasons."""
    others = "".join(
        f'@id("x{number}") permit (principal == Agent::"spiffe://remit.test/agent/a{number}", action == Action::"mail/read", resource);\n'
        f'@id("y{number}") forbid (principal, action == Action::"mail/read", resource == Tool::"mail/z{number}");\n'
        for number in range(200)
    )
    small, large = rulebook(), rulebook(POLICY + others)
    for wanted in (call(to="bob", amount=5), call(to="bob", amount=50), call(to="mallory", amount=1), call("mail/read")):
        tool = small.tool(wanted.kind, wanted.server, wanted.name)
        assert tool is not None
        for approver in (None, "carol"):
            asked = facts(task(), wanted, small)
            assert small.policies.evaluate(asked, tool, approver) == large.policies.evaluate(asked, tool, approver)


TIMED = (
    POLICY
    + '@id("office") forbid (principal, action == Action::"mail/read", resource) when { context.now < datetime("2026-11-23T12:00:05Z") };'
)
WANTED = [
    call(to="bob", amount=5),
    call(to="bob", amount=50),
    call(to="mallory", amount=5),
    call("mail/read"),
    call("mail/read", folder="x"),
]
ASKED = st.tuples(
    st.sampled_from(WANTED),
    st.sampled_from([None, "carol", "dave"]),
    st.builds(Labels, st.integers(0, 3), st.booleans()),
    st.sampled_from(["alice", "bob"]),
    st.integers(0, 10),
)


@given(st.lists(ASKED, min_size=2, max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_remembered_answer_is_the_answer(asked):
    """One set that is asked many things answers each as a set that was never asked before, at that time."""
    used = rulebook(TIMED)
    for wanted, approver, labels, behalf, seconds in asked:
        of = task(labels=labels, on_behalf_of=behalf)
        question = facts(of, wanted, used, now=NOW + timedelta(seconds=seconds))
        assert question.tool is not None
        fresh = rulebook(TIMED)
        assert used.policies.evaluate(question, question.tool, approver) == fresh.policies.evaluate(question, question.tool, approver)


def test_what_a_policy_reads_of_the_time_is_not_remembered():
    rules = rulebook(TIMED)
    early, late = (facts(task(), call("mail/read"), rules, now=NOW + timedelta(seconds=at)) for at in (4, 6))
    assert early.tool is not None
    answers = [rules.policies.evaluate(asked, early.tool, None).permitted for asked in (early, late, early)]
    assert answers == [False, True, False]


def test_schema_and_set_have_digests_that_change_with_them():
    one, two = load('@id("a") permit (principal, action, resource);'), load('@id("b") permit (principal, action, resource);')
    assert one.digest != two.digest
    assert one.schema_digest == two.schema_digest
    fewer = rulebook('@id("a") permit (principal, action, resource);', tools=(READ,)).policies
    assert fewer.schema_digest != one.schema_digest
    assert PAY.id in one.schema_json


EVERY_WORD = (
    'context.task.type == "a" || context.labels.contains("x") || context.data_class == "x" || context.untrusted || context.sink == "x"'
    ' || context.signals.contains("x") || context has approval || context.arguments has to || context.origins has to'
    ' || context has preauthorized || context.drift.contains("x")'
    ' || context.selectors.known || context.references.known || context.now < datetime("2026-01-01")'
)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("true", set()),
        ('resource.name == "untrusted"', set()),
        ("!context.untrusted && context has approval", {"untrusted", "approval"}),
        ('context["untrusted"]', {"untrusted"}),
        ("context has approval && context.approval.by == principal.trust_domain", {"approval"}),
        ("context has arguments.to", {"arguments"}),
        ("(if context.untrusted then context else context).sink == context.sink", EVERYTHING),
        ("[context].contains(context)", EVERYTHING),
        (EVERY_WORD, EVERYTHING),
    ],
)
def test_what_a_policy_reads_is_found(condition, named):
    rules = rulebook(f'@id("one") permit (principal, action == Action::"bank/pay", resource) when {{ {condition} }};').policies
    assert rules.parts[0].reads == named


@given(
    st.lists(st.sampled_from(EVERY_WORD.split(" || ")), max_size=3),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, "", "carol"]),
    st.integers(1, 60),
)
def test_what_no_policy_reads_sways_nothing(words, untrusted, rank, approved_by, amount):
    """The same rules with a policy beside them that never holds but reads everything: the answers are the same."""
    condition = " || ".join(words) or "true"
    text = f'@id("p") permit (principal, action == Action::"bank/pay", resource) when {{ {condition} }};\n'
    all_read = f'@id("never") forbid (principal, action == Action::"bank/pay", resource) when {{ false && ({EVERY_WORD}) }};'
    some, every = rulebook(text), rulebook(text + all_read)
    wanted = facts(task(labels=Labels(rank, untrusted)), call(to="bob", amount=amount), some)
    assert wanted.tool is not None
    assert some.policies.evaluate(wanted, wanted.tool, approved_by) == every.policies.evaluate(wanted, wanted.tool, approved_by)

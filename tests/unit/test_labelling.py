"""What a result is: whole, by field, by what stands in it."""

from __future__ import annotations

import pytest

from remit.logic.labelling import FieldRule, Read, ResultRules, Statement, WhenRule, for_call, labelled, views, worst
from remit.model.catalog import Kind, ToolFacts, Trust
from remit.model.labels import Labels
from tests.support import CLASSES

INBOX = ToolFacts(kind=Kind.TOOL, server="mail", name="inbox", data_class="internal", trust=Trust.UNTRUSTED)
TRUSTED, UNTRUSTED = Statement(trust=Trust.TRUSTED), Statement(trust=Trust.UNTRUSTED)
MAILS = {"mails": [{"id": 1, "from": "eve@evil.example", "body": "hi"}, {"id": 2, "from": "ann@corp.example", "body": "yo"}]}


def pointer(text: str) -> tuple[str, ...]:
    return tuple(text.split("/"))


def labels(result, rules, tool=INBOX) -> dict[str, Labels]:
    return {leaf.pointer: leaf.labels for leaf in labelled(result, tool, rules, CLASSES)}


def test_a_field_is_what_its_rule_says_and_all_below_it():
    rules = ResultRules(
        fields=(
            FieldRule(pattern=pointer("/mails/*"), states=TRUSTED),
            FieldRule(pattern=pointer("/mails/*/body"), states=Statement(trust=Trust.UNTRUSTED, data_class="restricted")),
        )
    )
    found = labels(MAILS, rules)
    assert found["/mails/0/id"] == Labels(1, untrusted=False)
    assert found["/mails/0/body"] == Labels(3, untrusted=True)
    assert labels({"other": "x"}, rules)["/other"] == Labels(1, untrusted=True)


def test_a_sender_speaks_for_his_message_alone():
    rules = ResultRules(whens=(WhenRule(result=pointer("/mails/*/from"), matches="*@corp.example", states=TRUSTED),))
    found = labels(MAILS, rules)
    assert found["/mails/0/body"].untrusted
    assert not found["/mails/1/body"].untrusted


@pytest.mark.parametrize(
    "sender",
    ["ann@corp.example <eve@evil.example>", "eve@evil.example,ann@corp.example", '"x"@corp.example', "eve\n@corp.example", None, 7, ["a"]],
)
def test_a_sender_that_could_be_read_differently_clears_nothing(sender):
    rules = ResultRules(whens=(WhenRule(result=pointer("/mails/*/from"), matches="*@corp.example", states=TRUSTED),))
    assert all(found.untrusted for found in labels({"mails": [{"from": sender, "body": "x"}]}, rules).values())


PATHS = ResultRules(
    whens=(
        WhenRule(argument=pointer("/path"), matches="/public/*", states=Statement(data_class="public", trust=Trust.TRUSTED)),
        WhenRule(argument=pointer("/path"), matches="/payroll/*", states=Statement(data_class="restricted")),
    )
)


@pytest.mark.parametrize(
    ("path", "data_class", "trust"),
    [
        ("/public/a.txt", "public", Trust.TRUSTED),
        ("/payroll/a.txt", "restricted", Trust.UNTRUSTED),
        ("/else/a.txt", "internal", Trust.UNTRUSTED),
        ("/public/../payroll/a.txt", "restricted", Trust.UNTRUSTED),
        ("/public//a.txt", "restricted", Trust.UNTRUSTED),
        ("/public/%2e%2e/payroll/a", "restricted", Trust.UNTRUSTED),
        ("/else/./x", "restricted", Trust.UNTRUSTED),
    ],
)
def test_a_path_speaks_for_the_call_and_an_unclear_one_only_makes_it_worse(path, data_class, trust):
    tool = for_call(INBOX, PATHS, {"path": path}, CLASSES)
    assert (tool.data_class, tool.trust) == (data_class, trust)


def test_the_worst_is_the_join_of_all_that_is_stated():
    assert worst(INBOX, PATHS, CLASSES) == Labels(3, untrusted=True)


def test_what_of_a_result_is_looked_at():
    structured = {"content": [{"type": "text", "text": '{"a": 1}'}], "structuredContent": {"a": 1}}
    assert list(views(structured)) == [({"a": 1}, Read.FIELDS)]
    assert list(views({"content": [{"type": "text", "text": "more"}], "structuredContent": {"a": 1}}))[1] == ("more", Read.TEXT)
    assert list(views({"content": [{"type": "text", "text": '{"a": 1}'}]})) == [({"a": 1}, Read.FIELDS)]
    assert list(views({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]})) == [("", Read.TEXT)], "it was read"
    assert list(views({"contents": [{"uri": "x://y", "text": "words"}]})) == [("words", Read.TEXT), ({"uri": "x://y"}, Read.TEXT)]
    assert list(views({"messages": [{"role": "user", "content": {"type": "text", "text": "words"}}]})) == [("words", Read.TEXT)]
    assert list(views([1, 2])) == [([1, 2], Read.FIELDS)]
    both = [{"type": "text", "text": '{"a": 1}'}, {"type": "text", "text": '{"id": "a stranger wrote this"}'}]
    assert [read for _, read in views({"content": both})] == [Read.DOUBTED, Read.DOUBTED]
    assert [read for _, read in views({"content": both, "structuredContent": {"a": 1}})] == [Read.FIELDS, Read.DOUBTED]
    assert list(views("words")) == [("words", Read.TEXT)]


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": "a"}], "note": "hidden"},
        {"content": [], "id": {"of": ["hidden"]}},
        {"structuredContent": {"a": 1}, "_meta": {"x": "hidden"}},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "a"}, "hint": "hidden"}], "description": "b"},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}], "description": "hidden"},
        {"content": [{"type": "text", "text": "a", "annotations": {"x": "hidden"}}]},
        {"content": [{"type": "resource", "resource": {"uri": "a", "text": "b"}, "_meta": {"x": "hidden"}}]},
        {"contents": [{"uri": "hidden", "text": "b"}]},
        {"content": [{"type": "resource", "resource": "hidden"}]},
        {"content": "hidden", "messages": []},
    ],
)
def test_nothing_of_a_result_hides_beside_what_is_known(result):
    assert any("hidden" in repr(value) for value, _ in views(result))


def test_the_statement_that_names_most_of_a_leaf_says_whether_it_identifies():
    rules = ResultRules(
        fields=(
            FieldRule(pattern=pointer("/mails/*"), states=Statement(identifier=True)),
            FieldRule(pattern=pointer("/mails/*/body"), states=UNTRUSTED),
        )
    )
    found = {leaf.pointer: (leaf.identifier, leaf.labels.untrusted) for leaf in labelled(MAILS, INBOX, rules, CLASSES)}
    assert found["/mails/0/from"] == (True, True)
    assert found["/mails/0/body"] == (False, True)

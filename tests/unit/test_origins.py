"""Where arguments come from: traced, demanded by grants, seen by policies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from remit.logic.authorize import authorize
from remit.logic.evidence import origins_of
from remit.logic.grants import covering_line
from remit.logic.tracing import LEAVES_MAX, Inputs, admits, explained, pointed, trace, trace_references
from remit.model.catalog import Trust
from remit.model.decision import Allow, Ask, Deny
from remit.model.origin import Source, SourceKind, Traced
from tests.support import AGENT, STATED, call, facts, grant, rulebook, task


def result(name="crm/get", trust=Trust.TRUSTED, where="/mail", number=1):
    return Source(kind=SourceKind.RESULT, name=name, trust=trust, field=where, number=number)


@dataclass
class Seen:
    values: dict[str, Source] = field(default_factory=dict)

    def find(self, value):
        return self.values.get(value)


CRM, MAIL = result(), result("mail/read", Trust.UNTRUSTED, "/0/body", 17)
SEEN = Seen({"bob": CRM, "eve": MAIL, "a@x.com": CRM, "b@y.com": MAIL, "n:5": CRM})


def traced(**arguments):
    return {leaf.pointer: leaf.names for leaf in trace(arguments, {"properties": {"to": {}}}, SEEN)}


def test_each_leaf_has_its_sources():
    assert traced(to="bob", cc=["eve", "nobody"], amount=5, flag=True, none=None) == {
        "/to": ("crm/get",),
        "/cc/0": ("untrusted:mail/read",),
        "/cc/1": ("unknown",),
        "/amount": ("crm/get",),
    }


def test_a_value_of_several_parts_has_the_sources_of_all_or_none():
    assert traced(to="a@x.com, b@y.com")["/to"] == ("crm/get", "untrusted:mail/read")
    assert traced(to="a@x.com, c@z.org")["/to"] == ("unknown",)
    assert traced(to="a@x.com; and more")["/to"] == ("unknown",)


def test_keys_that_the_tool_does_not_declare_are_traced_like_values():
    assert traced(to={"bob": "bob", "mallory": True}) == {"/to/bob": ("crm/get",), "/to/mallory": ("unknown",)}


def test_too_many_leaves_are_one_unknown():
    assert traced(a="bob", to=["bob"] * (LEAVES_MAX + 1), z="bob") == {"/a": ("crm/get",), "/to": ("unknown",), "/z": ("unknown",)}
    nested: object = "bob"
    for _ in range(40):
        nested = [nested]
    assert set(traced(to=nested).values()) == {("unknown",)}


@pytest.mark.parametrize(
    ("allowed", "admitted"),
    [
        (["crm/get"], {"/to"}),
        (["crm/*"], {"/to"}),
        (["crm/get#/mail"], {"/to"}),
        (["crm/get#/name"], set()),
        (["crm/other"], set()),
        (["trusted"], {"/to"}),
        (["task"], set()),
        (["mail/read"], set()),
        (["mail/read#/*/body"], {"/cc"}),
        (["crm/get", "mail/read#/0"], {"/to", "/cc"}),
    ],
)
def test_membership(allowed, admitted):
    leaves = trace({"to": "bob", "cc": "eve", "x": "nobody"}, {}, SEEN)
    assert {leaf.pointer for leaf in leaves if admits(allowed, leaf)} == admitted


def test_inputs_are_the_task_unless_the_agent_gave_them_to_itself():
    prompt = {"prompt": "Send 98.70 to Bob Smith, see https://x.y/z", "who": "carol", "count": 3}
    own = Inputs(task(inputs=prompt, opened_by="dispatcher"))
    for value in ("n:98.7", "Bob Smith", "https://x.y/z", "x.y", "carol", "n:3"):
        source = own.find(value)
        assert source is not None
        assert source.id == "task", value
    assert own.find("Bob Smit") is None
    assert own.find("n:8") is None
    itself = Inputs(task(inputs=prompt, opened_by=AGENT.text)).find("carol")
    assert itself is not None
    assert itself.id == "untrusted:task"
    served = Inputs(task(inputs=prompt, opened_by=AGENT.text, self_service=True)).find("carol")
    assert served is not None
    assert served.id == "task"


def test_it_is_said_in_a_sentence():
    by_pointer = {leaf.pointer: leaf for leaf in trace({"to": "eve", "cc": "nobody"}, {}, SEEN)}
    assert explained(by_pointer["/to"]) == (
        "/to first appeared in result 17 of this task, from mail/read at /0/body, written by a stranger"
    )
    assert explained(by_pointer["/cc"]) == "/cc was seen nowhere in this task"


DEMANDS = '{"properties":{"to":{"origin":["crm/get"]}}}'
OR_ASKS = '{"properties":{"to":{"origin":["crm/get","approval"]}}}'
OF_ONE_ARGUMENT = """permit (principal, action == Action::"bank/pay", resource)
when { context.origins has to && context.origins.to.trusted && context.arguments.amount < 10 };"""
ALWAYS = "permit (principal, action, resource);"


def decide(arguments: str, to: object, policy: str = ALWAYS, **changes):
    wanted = call(to=to, amount=5)
    of = task(grant(arguments=arguments))
    origins = trace(wanted.arguments, {"properties": {"to": {}, "amount": {}}}, SEEN)
    rules = rulebook(policy)
    return authorize(replace(facts(of, wanted, rules, **changes), origins=origins), rules.policies)


def test_a_grant_admits_what_comes_from_where_it_says():
    assert isinstance(decide(DEMANDS, "bob"), Allow)


@pytest.mark.parametrize(("to", "code"), [("eve", "origin_not_admitted"), ("nobody", "origin_unknown"), ("b\u043eb", "origin_unknown")])
def test_a_grant_refuses_what_comes_from_elsewhere(to, code):
    decision = decide(DEMANDS, to)
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == [code]
    assert decision.reasons[0].where == "/to"


@pytest.mark.parametrize("nothing", [None, [], {}, [None], [[]], {"a": {}}, True, [False]], ids=repr)
def test_what_comes_from_nowhere_is_not_from_where_it_must(nothing):
    wanted = call(to=nothing, amount=5)
    origins = trace(wanted.arguments, {"properties": {"to": {}, "amount": {}}}, SEEN)
    of = replace(facts(task(grant(arguments=DEMANDS)), wanted, rulebook(ALWAYS)), origins=origins, pinned=None)
    refused = covering_line(of, approved=False)
    assert isinstance(refused, tuple)
    assert {reason.code.value for reason in refused} == {"origin_unknown"}
    assert covering_line(replace(of, task=task(grant(arguments=OR_ASKS))), approved=True) == 0


@pytest.mark.parametrize(
    ("to", "covered"),
    [
        ([], True),
        (["bob", "bob"], True),
        (["bob", None], False),
        (["bob", {}], False),
        (["bob"] * (LEAVES_MAX + 1), False),
        (["eve"] * (LEAVES_MAX + 1), False),
    ],
    ids=["none", "two", "null", "empty", "too many", "too many of a stranger"],
)
def test_each_element_comes_from_where_elements_must(to, covered):
    each = '{"properties":{"to":{"type":"array","items":{"origin":["crm/get"]}}}}'
    wanted = call(to=to, amount=5)
    origins = trace(wanted.arguments, {"properties": {"to": {}, "amount": {}}}, SEEN)
    of = replace(facts(task(grant(arguments=each)), wanted, rulebook(ALWAYS)), origins=origins, pinned=None)
    assert (covering_line(of, approved=False) == 0) is covered


def test_a_member_that_may_be_left_out_is_no_way_round():
    of_member = '{"properties":{"to":{"type":"object","properties":{"mail":{"origin":["crm/get"]}}}}}'
    declared = {"properties": {"to": {"properties": {"mail": {}}}}}
    for to, covered in (({}, True), ({"mail": "bob"}, True), ({"mail": None}, False), ({"mail": []}, False)):
        wanted = call(to=to, amount=5)
        of = facts(task(grant(arguments=of_member)), wanted, rulebook(ALWAYS), origins=trace(wanted.arguments, declared, SEEN), pinned=None)
        assert (covering_line(of, approved=False) == 0) is covered, to


def test_a_policy_sees_that_an_argument_comes_from_nowhere_unless_that_is_its_default():
    trusted = """permit (principal, action == Action::"bank/pay", resource)
when { context.origins has to && context.origins.to.trusted };"""
    lenient = """permit (principal, action == Action::"bank/pay", resource)
unless { context.origins has to && !context.origins.to.trusted };"""
    properties = {"to": {}, "amount": {}}
    optional = {"to": {"default": None}, "amount": {}}
    for policy, schema, to, allowed in (
        (trusted, {"properties": properties}, None, False),
        (trusted, {"properties": properties}, [], False),
        (trusted, {"properties": properties}, "bob", True),
        (lenient, {"properties": properties}, None, False),
        (lenient, {"properties": properties}, True, False),
        (lenient, {"properties": optional}, None, True),
        (lenient, {"properties": optional}, [], False),
        (lenient, {"properties": optional, "required": ["to"]}, None, False),
        (trusted, {"properties": optional}, None, False),
    ):
        wanted = call(to=to, amount=5)
        rules = rulebook(policy)
        made = facts(task(), wanted, rules, origins=trace(wanted.arguments, {}, SEEN))
        assert made.pinned is not None
        decided = authorize(replace(made, pinned=replace(made.pinned, input_schema=schema, digest=str(schema))), rules.policies)
        assert isinstance(decided, Allow) is allowed, (policy, schema, to)


def test_a_grant_may_leave_it_to_a_person():
    decision = decide(OR_ASKS, "eve")
    assert isinstance(decision, Ask)
    assert [reason.code for reason in decision.reasons] == ["origin_not_admitted"]


@pytest.mark.parametrize(
    ("policy", "to", "allowed"),
    [
        ("permit (principal, action, resource) when { context.selectors.trusted };", "bob", True),
        ("permit (principal, action, resource) when { context.selectors.trusted };", "eve", False),
        ("permit (principal, action, resource) when { context.selectors.known };", "eve", True),
        ("permit (principal, action, resource) when { context.selectors.known };", "nobody", False),
        ('permit (principal, action, resource) when { ["task", "crm/get"].containsAll(context.selectors.sources) };', "bob", True),
        ('permit (principal, action, resource) when { ["mail/read"].containsAll(context.selectors.sources) };', "eve", False),
        (OF_ONE_ARGUMENT, "bob", True),
        (OF_ONE_ARGUMENT, "eve", False),
        ('forbid (principal, action, resource) when { context.sink == "external" };\n' + ALWAYS, "bob", False),
    ],
)
def test_policies_speak_of_origins(policy, to, allowed):
    assert isinstance(decide("", to, policy), Allow) is allowed


def test_more_arguments_than_can_be_looked_at_are_refused():
    wanted = call(**{f"a{n}": n for n in range(300)})
    rules = rulebook(ALWAYS)
    decision = authorize(facts(task(), wanted, rules), rules.policies)
    assert "arguments_invalid" in [reason.code for reason in decision.reasons]


def test_what_leads_somewhere_in_a_text_is_traced_by_itself():
    seen = Seen({"ours.example": CRM, "evil.example": MAIL, "evil.example/a/b": MAIL})
    text = {"body": "See ours.example, (evil.example/a/b) or write to a@new.example. And/or not, 5/10, e.g. this.", "to": ["evil.example"]}
    assert [(leaf.pointer, leaf.names) for leaf in trace_references(pointed(text), seen)] == [
        ("/body", ("crm/get",)),
        ("/body", ("untrusted:mail/read",)),
        ("/body", ("unknown",)),
        ("/to/0", ("untrusted:mail/read",)),
    ]


def test_too_many_references_are_one_unknown():
    (*_, last) = trace_references(pointed({"body": " ".join(f"host{n}.example" for n in range(LEAVES_MAX + 1))}), Seen())
    assert (last.pointer, last.names) == ("/body", ("unknown",))
    assert trace_references(pointed({"a": "x" * 300_000}), Seen())[0].names == ("unknown",)


def test_policies_see_references_of_what_is_no_selector():
    policy = '@id("p") permit (principal, action == Action::"bank/pay", resource) when { context.references.trusted };'
    entries = {"bank/pay": replace(STATED["bank/pay"], selectors=("to",))}
    rules = rulebook(policy, entries=entries)
    wanted = call(to="evil.example", amount=1, note="for evil.example")
    leaf = Traced(pointer="/note", sources=(MAIL,))
    assert isinstance(authorize(facts(task(), wanted, rules, references=(leaf,)), rules.policies), Deny)
    assert isinstance(authorize(facts(task(), wanted, rules, references=(replace(leaf, sources=(CRM,)),)), rules.policies), Allow)
    assert isinstance(authorize(facts(task(), wanted, rules, references=(Traced(pointer="/to", sources=(MAIL,)),)), rules.policies), Allow)


def test_an_approver_is_told_of_each_reference_that_the_origins_do_not_tell_of():
    wanted = call(to="bob", amount=1, note="see evil.example")
    origins = (Traced(pointer="/to", sources=(CRM,)), Traced(pointer="/note"))
    references = (Traced(pointer="/to", sources=(CRM,)), Traced(pointer="/note", sources=(MAIL,)))
    told = origins_of(facts(task(), wanted, rulebook(), origins=origins, references=references))
    assert len(told["to"]) == 1
    assert told["note"][1] == (
        "a link or address in /note first appeared in result 17 of this task, from mail/read at /0/body, written by a stranger"
    )


@pytest.mark.parametrize(("selectors", "allowed"), [(("cc",), False), (("to",), True), ((), True), (None, True)])
def test_a_call_that_names_no_selector_is_nobodys(selectors, allowed):
    policy = 'permit (principal, action, resource) when { ["task", "crm/get"].containsAll(context.selectors.sources) };'
    rules = rulebook(policy)
    known = facts(task(), call(to="bob", amount=5), rules)
    assert known.tool is not None
    origins = trace(known.call.arguments, {}, SEEN)
    decided = authorize(replace(known, origins=origins, tool=replace(known.tool, selectors=selectors)), rules.policies)
    assert isinstance(decided, Allow) is allowed

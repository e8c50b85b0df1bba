"""``remit policy check`` beyond Cedar's own validation: only what can be proved, and all of that."""

from __future__ import annotations

import pytest

from remit.logic.policy_review import Known, review
from tests.support import AGENT, CLASSES, rulebook

IDLE = "spiffe://remit.test/agent/idle"
UNTRUSTED_BOTH_WAYS = """
@id("no") forbid (principal, action, resource) unless { context.untrusted };
@id("yes") permit (principal, action, resource) when { context.untrusted };
"""
CONTEXT = "when { context has approval }"


def found(text: str):
    rules = rulebook(text)
    known = Known(
        tools={name: rules.tool("tool", tool.server, tool.name) for name, tool in rules.pinned.items()},
        servers=("bank", "mail", "dark"),
        pinned=("bank", "mail"),
        agents={AGENT.text: ("pay",), IDLE: ()},
        types=("pay", "orphan"),
        classes=CLASSES.names,
    )
    return [(one.level, one.code, one.policy) for one in review(rules.policies, known)], review(rules.policies, known)


@pytest.mark.parametrize(
    ("scope", "condition", "level", "words"),
    [
        ('principal, action, resource in Server::"bnak"', "", "error", "did you mean 'bank'?"),
        ('principal, action, resource == Tool::"bank/pya"', "", "error", "did you mean 'bank/pay'?"),
        ('principal, action, resource is Resource in Server::"mial"', "", "error", "did you mean 'mail'?"),
        ("principal, action, resource", 'when { context.task.type == "pya" }', "error", "did you mean 'pay'?"),
        ("principal, action, resource", 'when { "pya" == context.task.type }', "error", "did you mean 'pay'?"),
        ("principal, action, resource", 'unless { context.labels.contains("restrict") }', "error", "did you mean 'restricted'?"),
        ("principal, action, resource", 'when { resource.sends == "extern" }', "error", "did you mean 'external'?"),
        ("principal, action, resource", 'when { resource in Server::"bnak" }', "error", "did you mean 'bank'?"),
        ('principal, action in Action::"write", resource', "", "warning", "no tool has the effect 'write'"),
        ('principal, action == Action::"bank/pay", resource == Tool::"mail/read"', "", "warning", "both its action and its resource"),
        (f'principal == Agent::"{AGENT}x", action, resource', "", "warning", "is declared"),
        (f'principal == Agent::"{IDLE}", action, resource', "", "warning", "may be given no task"),
        ("principal, action, resource", 'when { context.task.type == "orphan" }', "warning", "no agent may be given"),
        ("principal, action, resource", "when { context.untrusted } unless { context.untrusted }", "warning", "its opposite"),
        ("principal, action, resource", "when { context.untrusted && !context.untrusted }", "warning", "its opposite"),
        ("principal, action, resource", 'when { resource.name == "a" && resource.name == "b" }', "warning", "two others"),
    ],
)
def test_what_means_nothing_or_never_applies_is_named(scope, condition, level, words):
    text = f'@id("odd") permit ({scope}) {condition};'
    _, all_of_it = found(text)
    assert [(one.level, one.policy, one.place.line) for one in all_of_it] == [(level, "odd", 1)]
    assert words in str(all_of_it[0])


@pytest.mark.parametrize(
    ("forbid", "permit"),
    [
        ("principal, action, resource", ("principal, action, resource", CONTEXT)),
        ('principal, action in Action::"irreversible", resource', ('principal, action == Action::"bank/pay", resource', "")),
        ('principal, action, resource in Server::"bank"', ('principal, action, resource == Tool::"bank/pay"', CONTEXT)),
        ("principal, action, resource is Tool", ('principal, action, resource is Tool in Server::"bank"', "")),
        (f'principal == Agent::"{AGENT}", action, resource', (f'principal == Agent::"{AGENT}", action, resource', "")),
    ],
)
def test_a_permit_that_a_forbid_always_undoes_is_named(forbid, permit):
    scope, condition = permit
    text = f'@id("no") forbid ({forbid});\n@id("yes") permit ({scope}) {condition};'
    told, _ = found(text)
    assert told == [("warning", "contradictory", "yes")]
    same = f'@id("no") forbid ({forbid}) when {{ context.untrusted }};\n@id("yes") permit ({scope}) when {{ true && context.untrusted }};'
    assert found(same)[0] == [("warning", "contradictory", "yes")]


@pytest.mark.parametrize(
    "text",
    [
        '@id("no") forbid (principal, action, resource) when { context.untrusted }; @id("yes") permit (principal, action, resource);',
        '@id("no") forbid (principal, action == Action::"bank/pay", resource); @id("yes") permit (principal, action, resource);',
        '@id("no") forbid (principal, action, resource == Tool::"bank/pay"); @id("yes") permit (principal, action, resource is Tool);',
        f'@id("no") forbid (principal == Agent::"{AGENT}", action, resource); @id("yes") permit (principal, action, resource);',
        '@id("no") forbid (principal, action, resource in Server::"mail"); @id("yes") permit (principal, action, resource is Prompt);',
        '@id("no") forbid (principal, action, resource is Prompt); @id("yes") permit (principal, action, resource == Tool::"bank/pay");',
        UNTRUSTED_BOTH_WAYS,
        '@id("dark") permit (principal, action, resource == Tool::"dark/anything");',
        '@id("uri") permit (principal, action == Action::"resources/read", resource == Resource::"mail/note://1");',
        '@id("read") permit (principal, action in Action::"read", resource is Prompt in Server::"mail");',
        '@id("free") permit (principal, action, resource) when { context.task.on_behalf_of == "nobody we know" };',
    ],
)
def test_what_cannot_be_proved_is_not_said(text):
    assert found(text)[0] == []

"""Roles of the console, and what its policies say; what is wrong with either is named."""

from __future__ import annotations

import pytest

from remit.errors import Mistake
from remit.logic.console import ConsolePolicy, claims_of_interest, held, roles_of
from remit.model.console import Action, ConsoleRules, Role, Via, Visitor
from remit.services.configuration import load_configuration
from remit.services.reading import Mistakes
from tests.support import task

LINK = Visitor(name="local:ann", via=Via.LINK)
RULES = ConsoleRules(
    roles={
        Role.VIEWER: ("*@corp.example",),
        Role.APPROVER: ("local:ann", "groups=payments"),
        Role.OPERATOR: ("*",),
        Role.AUDITOR: (),
    }
)


def person(name: str, *holds: str) -> Visitor:
    return Visitor(name=name, via=Via.OIDC, holds=frozenset(holds))


def test_roles_come_from_what_was_proved_and_from_nothing_else():
    assert roles_of(LINK, RULES) == {Role.APPROVER}
    assert roles_of(person("bob@corp.example"), RULES) == {Role.VIEWER, Role.OPERATOR}
    assert roles_of(person("x", "groups=payments"), RULES) == {Role.APPROVER, Role.OPERATOR}
    assert roles_of(person("local:ann"), RULES) == frozenset(), "a provider's word makes no account of this machine"
    assert roles_of(person("groups=payments"), RULES) == {Role.OPERATOR}, "a name makes no claim"
    assert roles_of(Visitor(name="ann@corp.example", via=Via.LINK), RULES) == frozenset()
    assert roles_of(LINK, ConsoleRules()) == set(Role), "where nothing is stated, the machine's own accounts have every role"
    assert roles_of(person("bob@corp.example"), ConsoleRules()) == frozenset(), "and nobody else has any"


def test_of_a_provider_s_claims_only_texts_that_roles_speak_of_are_held():
    claims = {"groups": ["payments", 7, None], "email": "x", "admin": True}
    names = claims_of_interest(RULES)
    assert names == {"groups"}
    assert held(claims, names) == {"groups=payments"}
    assert held({"groups": {"a": 1}}, names) == frozenset()


def test_the_default_policy_gives_each_role_its_own():
    policy, of = ConsolePolicy({}), task()
    given = {
        Role.VIEWER: {Action.LOOK},
        Role.APPROVER: {Action.LOOK, Action.ANSWER},
        Role.OPERATOR: {Action.LOOK, Action.SUSPEND, Action.RESUME, Action.REVOKE, Action.REHEARSE},
        Role.AUDITOR: {Action.LOOK, Action.AUDIT, Action.REHEARSE},
    }
    for where in (None, of):
        for role, actions in given.items():
            assert {action for action in Action if policy.permits(LINK, frozenset({role}), action, where)} == actions, role
        assert not any(policy.permits(LINK, frozenset(), action, where) for action in Action)


def test_an_organisation_s_policy_takes_the_default_s_place_and_knows_the_task():
    text = """
    @id("own") permit (principal in Role::"operator", action, resource is Task) when { resource.type == "pay" && principal.via == "link" };
    @id("never") forbid (principal, action == Action::"revoke", resource);
    """
    policy, roles = ConsolePolicy({"console/own.cedar": text}), frozenset({Role.OPERATOR})
    assert policy.permits(LINK, roles, Action.SUSPEND, task())
    assert not policy.permits(LINK, roles, Action.SUSPEND, task(type="other"))
    assert not policy.permits(person("bob@corp.example"), roles, Action.SUSPEND, task())
    assert not policy.permits(LINK, roles, Action.REVOKE, task())
    assert not policy.permits(LINK, roles, Action.LOOK), "nothing of the default is left"


def test_an_error_of_any_policy_denies():
    text = """
    permit (principal, action, resource);
    forbid (principal, action, resource is Task) when { 9223372036854775807 + 1 > 0 };
    """
    policy, roles = ConsolePolicy({"console/x.cedar": text}), frozenset({Role.VIEWER})
    assert policy.permits(LINK, roles, Action.LOOK)
    assert not policy.permits(LINK, roles, Action.LOOK, task()), "Cedar alone would skip the forbid"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("permit (principal, action, resource)", "does not end"),
        ("permit (principal, action);", "not a Cedar policy"),
        ('permit (principal, action == Action::"destroy", resource);', "does not fit the console"),
        ('permit (principal in Role::"root", action, resource) when { principal.age > 3 };', "does not fit the console"),
        ("permit (principal == ?principal, action, resource);", "templates"),
        ('@id("a") permit (principal, action, resource); @id("a") permit (principal, action, resource);', "'a' is taken"),
        ("permit (principal, action, resource) when { " + "(" * 100 + "true" + ")" * 100 + " };", "nested"),
    ],
)
def test_a_policy_that_does_not_hold_is_named(text, said):
    with pytest.raises(Mistake, match=said.replace("?", ".")):
        ConsolePolicy({"console/x.cedar": text})


def test_what_is_wrong_with_the_table_is_named_all_at_once(tmp_path):
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "x.cedar").write_text("permit (principal, action, resource) when { nothing };")
    (tmp_path / "remit.toml").write_text(
        '[console]\nidle = "13h"\nlasts = "12h"\ncolour = "red"\n[console.roles]\nviewers = []\napprover = ["", "=x", "groups="]\n'
    )
    with pytest.raises(Mistakes) as told:
        load_configuration(tmp_path)
    text = str(told.value)
    for said in ("no role 'viewers'", "names nobody", "is longer than", "'colour' is not known", "console/x.cedar:1"):
        assert said in text, said
    assert text.count("names nobody") == 3


def test_sign_in_for_the_console_alone_needs_no_clients(tmp_path, monkeypatch):
    monkeypatch.setenv("S", "a-secret-of-remit-there")
    rule = '[sign_in]\nissuer = "https://id.corp.example"\nclient_id = "remit"\nsecret = "${S}"\n'
    (tmp_path / "remit.toml").write_text(rule + '[console.roles]\nviewer = ["*@corp.example"]\n')
    found = load_configuration(tmp_path).sign_in
    assert found is not None
    assert (found.people, dict(found.clients)) == ((), {})
    (tmp_path / "remit.toml").write_text(rule)
    with pytest.raises(Mistakes, match="no client is declared"):
        load_configuration(tmp_path)

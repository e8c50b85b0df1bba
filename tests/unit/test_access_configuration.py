"""The table [access] and the folders access/NAME: every mistake is told with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remit.errors import Mistake
from remit.services.configuration import load_configuration
from remit.services.rules import make_rulebook

GOOD = """
[agents.pep]
[access.callers.backend]
secret = "${BACKEND_SECRET}"
applications = ["todo"]
[access.callers.mesh]
agent = "pep"
tasks = true
[access.applications.todo]
subjects = ["user"]
resources = ["todo"]
actions = ["read", "write"]
"""
PERMIT = '@id("any") permit (principal, action == Action::"read", resource);'
SCHEMA = """
entity user { role?: String };
entity todo;
action read, write appliesTo { principal: user, resource: todo, context: { action: {}, request: {}, now: datetime } };
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("BACKEND_SECRET", "as long as it has to be")
    monkeypatch.setenv("SHORT", "short")


def write(folder, toml: str = GOOD, policies: str = PERMIT, entities: Any = (), **files: str):
    home = folder / "access" / "todo"
    home.mkdir(parents=True)
    (folder / "remit.toml").write_text(toml)
    (home / "main.cedar").write_text(policies)
    (home / "entities.json").write_text(entities if isinstance(entities, str) else json.dumps(entities))
    for name, text in files.items():
        (home / name.replace("_", ".")).write_text(text)


def load(folder):
    return make_rulebook(load_configuration(folder), {})


def test_what_is_right_is_read(tmp_path):
    write(tmp_path, entities=[{"type": "user", "id": "ann", "properties": {"role": "x"}, "in": [{"type": "team", "id": "t"}]}])
    configuration = load_configuration(tmp_path)
    assert not configuration.access.anyone_on_loopback_may_ask
    assert configuration.access.callers["backend"].secret_digest
    assert "as long as" not in repr(configuration)
    rules = load(tmp_path)
    assert rules.applications["todo"].answers("user", "todo")
    assert not rules.applications["todo"].answers("todo", "user")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('"${BACKEND_SECRET}"', '"written in the file"'), "callers.backend.secret: secret must name a variable"),
        (("BACKEND_SECRET", "NOWHERE"), "NOWHERE is missing in the environment"),
        (("BACKEND_SECRET", "SHORT"), "SHORT is shorter than 16"),
        (('agent = "pep"', 'agent = "pip"'), "there is no agent 'pip'"),
        (('agent = "pep"', 'agent = "pep"\nsecret = "${BACKEND_SECRET}"'), "needs either agent or secret"),
        (('agent = "pep"', 'secret = "${BACKEND_SECRET}"'), "two callers have the same secret"),
        (("tasks = true", ""), "caller mesh may ask nothing"),
        (('applications = ["todo"]', 'applications = ["tudo"]'), "there is no application 'tudo'"),
        (('subjects = ["user"]', ""), "subjects must be a list of different names"),
        (('actions = ["read", "write"]', 'actions = ["read", "read"]'), "actions must be a list of different names"),
        (('resources = ["todo"]', 'resources = ["tool"]'), "those of the gateway"),
        (('resources = ["todo"]', 'resource = ["todo"]'), "'resource' is not known here"),
        (("[access.applications.todo]", "[access.applications.'../todo']"), "cannot be the name of an application"),
        (
            ("[agents.pep]", "[agents.pep]\n[server]\nhost = '0.0.0.0'\n[access]\nanyone_on_loopback_may_ask = true"),
            "while server.host is 0.0.0.0",
        ),
        (
            (
                "[access.applications.todo]",
                "[access.applications.twin]\nsubjects=['user']\nresources=['todo']\nactions=['a']\n[access.applications.todo]",
            ),
            "both answer for subject 'user' and resource 'todo'",
        ),
    ],
)
def test_what_is_wrong_in_the_table_is_told(tmp_path, change, told):
    write(tmp_path, GOOD.replace(*change))
    with pytest.raises(Mistake) as caught:
        load_configuration(tmp_path)
    assert told in str(caught.value)
    assert "remit.toml:" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"policies": ""}, "access/todo: an application without a policy permits nothing"),
        ({"policies": "permit (principal action);"}, "access/todo/main.cedar:1: not a Cedar policy"),
        ({"policies": PERMIT + PERMIT}, "the id 'any' is taken"),
        ({"policies": PERMIT.replace("read", "raed")}, "there is no action 'raed'"),
        ({"policies": "permit (principal == ?principal, action, resource);"}, "templates"),
        ({"policies": "permit (principal, action, resource) when { " + "(" * 900 + "true" + ")" * 900 + " };"}, "nested deeper"),
        ({"entities": "{"}, "access/todo/entities.json: "),
        ({"entities": [{"type": "user"}]}, "missing required field `id`"),
        ({"entities": [{"type": "user", "id": "a", "rolle": 1}]}, "unknown field `rolle`"),
        ({"entities": [{"type": "user", "id": "a"}, {"type": "user", "id": "a"}]}, "user 'a' stands twice"),
        ({"entities": [{"type": "user", "id": "a", "properties": {"x": 0.000001}}]}, "not entities that policies can look at"),
        ({"entities": [{"type": "user", "id": "a", "properties": {"x": {"__entity": {}}}}]}, "not entities that policies can look at"),
        ({"entities": [{"type": "user", "id": "a", "in": [{"type": "user", "id": "a"}]}]}, "not entities that policies can look at"),
        ({"entities": [{"type": "us-er", "id": "a"}, {"type": "us:er", "id": "a"}]}, "are both us_er in Cedar"),
        ({"entities": [{"type": "if", "id": "a"}]}, "'if' cannot be a type in Cedar"),
        ({"schema_cedarschema": "entity user"}, "access/todo/schema.cedarschema: not a Cedar schema"),
        ({"schema_cedarschema": "entity user { a: " + "Set<" * 5_000 + "String" + ">" * 5_000 + " };"}, "nested deeper"),
        (
            {"schema_cedarschema": SCHEMA, "policies": PERMIT.replace(";", ' when { principal.rolle == "x" };')},
            "access/todo/main.cedar:1: the policy does not fit the schema",
        ),
    ],
)
def test_what_is_wrong_in_the_files_is_told(tmp_path, files, told):
    write(tmp_path, **files)
    with pytest.raises(Mistake) as caught:
        load(tmp_path)
    assert told in str(caught.value)


def test_a_schema_that_fits(tmp_path):
    write(tmp_path, policies=PERMIT.replace(";", ' when { principal has role && principal.role == "x" };'), schema_cedarschema=SCHEMA)
    assert load(tmp_path).applications["todo"].actions == ("read", "write")

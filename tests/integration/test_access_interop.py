"""The scenarios of the AuthZEN interop events with people and records of our own, and the published vectors where they are at hand.

The vectors are not ours to copy. ``AUTHZEN_VECTORS`` names a checkout of the repository ``openid/authzen``; the people and records
that its vectors speak of are read from there. Every vector is compared as the published runners do: the whole answer.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from tests.integration.access_node import OPEN, Served, served, write_access

if TYPE_CHECKING:
    from collections.abc import Iterator

TOML = f"""
{OPEN}
[access.applications.todo]
subjects = ["user"]
resources = ["user", "todo"]
actions = ["can_read_user", "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo"]
[access.applications.routes]
subjects = ["identity"]
resources = ["route"]
actions = ["GET", "POST", "PUT", "DELETE", "PATCH"]
[access.applications.records]
subjects = ["user"]
resources = ["record"]
actions = ["view", "edit", "delete"]
"""
TODO = """
@id("anyone reads") permit (principal, action in [Action::"can_read_user", Action::"can_read_todos"], resource);
@id("create") permit (principal, action == Action::"can_create_todo", resource)
    when { principal.roles.containsAny(["admin", "editor", "evil_genius"]) };
@id("update any") permit (principal, action == Action::"can_update_todo", resource) when { principal.roles.contains("evil_genius") };
@id("update own") permit (principal, action == Action::"can_update_todo", resource)
    when { principal.roles.containsAny(["admin", "editor"]) && resource has ownerID && resource.ownerID == principal.email };
@id("delete any") permit (principal, action == Action::"can_delete_todo", resource) when { principal.roles.contains("admin") };
@id("delete own") permit (principal, action == Action::"can_delete_todo", resource)
    when { principal.roles.contains("editor") && resource has ownerID && resource.ownerID == principal.email };
"""
ROUTES = """
@id("anyone gets") permit (principal, action == Action::"GET", resource);
@id("some change") permit (principal, action in [Action::"POST", Action::"PUT", Action::"DELETE"], resource)
    when { principal.roles.containsAny(["admin", "editor", "evil_genius"]) };
"""
RECORDS = """
@id("owner") permit (principal, action, resource) when { resource.owner == principal.name };
@id("manager views") permit (principal, action == Action::"view", resource) when { principal.role == "manager" };
@id("colleague views") permit (principal, action == Action::"view", resource) when { principal.department == resource.department };
@id("manager edits") permit (principal, action == Action::"edit", resource)
    when { principal.role == "manager" && principal.department == resource.department };
"""


def person(kind: str, name: str, email: str, *roles: str) -> dict[str, Any]:
    return {"type": kind, "id": name, "properties": {"email": email, "roles": list(roles)}}


def applications(
    people: dict[str, tuple[str, ...]], staff: list[dict[str, Any]], records: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """``people``: id → (email, role …). ``staff``: id, role, department. ``records``: id, owner, department."""
    known = [
        *({"type": "user", "id": one["id"], "properties": {**one, "name": one["id"]}} for one in staff),
        *({"type": "record", "id": str(one["id"]), "properties": {**one, "id": str(one["id"])}} for one in records),
    ]
    return {
        "todo": {"policies": TODO, "entities": [person("user", name, *words) for name, words in people.items()]},
        "routes": {"policies": ROUTES, "entities": [person("identity", name, *words) for name, words in people.items()]},
        "records": {"policies": RECORDS, "entities": known},
    }


OURS = applications(
    {
        "p-ada": ("ada@mill.example", "admin", "evil_genius"),
        "p-ben": ("ben@mill.example", "editor"),
        "p-cyd": ("cyd@mill.example", "viewer"),
    },
    [
        {"id": "ines", "role": "manager", "department": "press"},
        {"id": "jon", "role": "clerk", "department": "press"},
        {"id": "kai", "role": "manager", "department": "yard"},
    ],
    [
        {"id": "r1", "owner": "jon", "department": "press"},
        {"id": "r2", "owner": "ines", "department": "yard"},
        {"id": "r3", "owner": "kai", "department": "press"},
    ],
)


@pytest.fixture(scope="module")
def pdp(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("interop")
    write_access(folder, TOML, **OURS)
    with served(folder) as running:
        yield running


@pytest.mark.parametrize(
    ("who", "action", "owner", "expected"),
    [
        ("ada", "can_read_user", "", True),
        ("cyd", "can_read_todos", "", True),
        ("ben", "can_create_todo", "", True),
        ("cyd", "can_create_todo", "", False),
        ("ada", "can_update_todo", "ben@mill.example", True),
        ("ben", "can_update_todo", "ben@mill.example", True),
        ("ben", "can_update_todo", "ada@mill.example", False),
        ("ben", "can_update_todo", "", False),
        ("cyd", "can_update_todo", "cyd@mill.example", False),
        ("ada", "can_delete_todo", "ben@mill.example", True),
        ("ben", "can_delete_todo", "ben@mill.example", True),
        ("ben", "can_delete_todo", "ada@mill.example", False),
        ("cyd", "can_delete_todo", "cyd@mill.example", False),
        ("unknown", "can_create_todo", "", False),
    ],
)
def test_a_todo_backend(pdp, who, action, owner, expected):
    properties = {"properties": {"ownerID": owner}} if owner else {}
    resource = {"type": "user" if action == "can_read_user" else "todo", "id": "1", **properties}
    question = {"subject": {"type": "user", "id": f"p-{who}"}, "action": {"name": action}, "resource": resource}
    assert pdp.ask("evaluation", question) == {"decision": expected}


@pytest.mark.parametrize(
    ("who", "verb", "expected"), [("ada", "PUT", True), ("ben", "POST", True), ("cyd", "GET", True), ("cyd", "DELETE", False)]
)
def test_an_api_gateway_asks_by_route(pdp, who, verb, expected):
    question = {
        "subject": {"type": "identity", "id": f"p-{who}"},
        "action": {"name": verb},
        "resource": {"type": "route", "id": "/todos/{todoId}"},
    }
    assert pdp.ask("evaluation", question) == {"decision": expected}


def test_searches_over_people_and_records(pdp):
    def found(kind: str, **question: Any) -> list[str]:
        return [one.get("id") or one["name"] for one in pdp.ask(f"search/{kind}", question)["results"]]

    user, record, view, edit = {"type": "user"}, {"type": "record"}, {"name": "view"}, {"name": "edit"}
    assert found("subject", subject=user, action=view, resource={**record, "id": "r2"}) == ["ines", "kai"]
    assert found("subject", subject=user, action=edit, resource={**record, "id": "r3"}) == ["ines", "kai"]
    assert found("resource", subject={**user, "id": "jon"}, action=view, resource=record) == ["r1", "r3"]
    assert found("resource", subject={**user, "id": "jon"}, action=edit, resource=record) == ["r1"]
    assert found("action", subject={**user, "id": "kai"}, resource={**record, "id": "r3"}) == ["view", "edit", "delete"]
    assert found("action", subject={**user, "id": "jon"}, resource={**record, "id": "r2"}) == []
    press = {"type": "user", "properties": {"department": "press"}}
    assert found("subject", subject=press, action=view, resource={**record, "id": "r2"}) == ["ines"], (
        "properties of what is sought narrow it"
    )


def test_a_search_and_the_evaluations_agree(pdp):
    user, record, actions = {"type": "user"}, {"type": "record"}, ("view", "edit", "delete")
    people, papers = ("ines", "jon", "kai"), ("r1", "r2", "r3")
    allowed = set()
    for who, action, what in itertools.product(people, actions, papers):
        question = {"subject": {**user, "id": who}, "action": {"name": action}, "resource": {**record, "id": what}}
        if pdp.ask("evaluation", question)["decision"]:
            allowed.add((who, action, what))
    subjects, resources, doings = set(), set(), set()
    for action, what in itertools.product(actions, papers):
        answer = pdp.ask("search/subject", {"subject": user, "action": {"name": action}, "resource": {**record, "id": what}})
        subjects |= {(one["id"], action, what) for one in answer["results"]}
    for who, action in itertools.product(people, actions):
        answer = pdp.ask("search/resource", {"subject": {**user, "id": who}, "action": {"name": action}, "resource": record})
        resources |= {(who, action, one["id"]) for one in answer["results"]}
    for who, what in itertools.product(people, papers):
        answer = pdp.ask("search/action", {"subject": {**user, "id": who}, "resource": {**record, "id": what}})
        doings |= {(who, one["name"], what) for one in answer["results"]}
    assert subjects == resources == doings == allowed
    assert 0 < len(allowed) < 27


VECTORS = os.environ.get("AUTHZEN_VECTORS", "")
_PUBLISHED = [
    ("evaluation", "interop/authzen-todo-backend/test/decisions-authorization-api-1_0-02.json", "evaluation"),
    ("evaluations", "interop/authzen-todo-backend/test/decisions-authorization-api-1_0-02.json", "evaluations"),
    ("evaluation", "interop/authzen-todo-backend/test/decisions-authorization-api-1_0-01.json", "evaluation"),
    ("evaluation", "interop/authzen-api-gateways/test-harness/test/decisions.json", "evaluation"),
    ("search/action", "interop/authzen-search-demo/test/action/results.json", "evaluation"),
    ("search/resource", "interop/authzen-search-demo/test/resource/results.json", "evaluation"),
    ("search/subject", "interop/authzen-search-demo/test/subject/results.json", "evaluation"),
    ("search/resource", "interop/authzen-idp/test-harness/src/results.json", "search"),
]


@pytest.mark.skipif(not VECTORS, reason="AUTHZEN_VECTORS names no checkout of openid/authzen; its vectors are not ours to copy")
def test_the_published_vectors(tmp_path):
    root = Path(VECTORS)
    vectors = [(endpoint, name, json.loads((root / name).read_text())[key]) for endpoint, name, key in _PUBLISHED]
    older = json.loads((root / "interop/authzen-todo-backend/test/decisions-authorization-api-1_0-00.json").read_text())["evaluation"]
    emails = {one["request"]["subject"]["identity"]: one["request"]["subject"]["id"] for one in older}  # that draft had both
    roles = (("admin", "evil_genius"), ("editor",), ("editor",), ("viewer",), ("viewer",))  # by id, as in the published table
    known = {name: (emails[name], *words) for name, words in zip(sorted(emails), roles, strict=True)}
    data = root / "interop/authzen-search-demo/data"
    write_access(
        tmp_path,
        TOML,
        **applications(known, json.loads((data / "users.json").read_text()), json.loads((data / "records.json").read_text())),
    )
    wrong, passed = [], {}
    texts = {name: (root / f"api/schemas/evaluation-{name}.schema.json").read_text() for name in ("request", "response")}
    schemas = {name: jsonschema_rs.validator_for(json.loads(text)) for name, text in texts.items()}
    with served(tmp_path) as pdp:
        for endpoint, name, listed in vectors:
            for one in listed:
                answer, expected = pdp.ask(endpoint, one["request"]), one["expected"]
                if endpoint == "evaluation":
                    assert schemas["request"].is_valid(one["request"])
                    assert schemas["response"].is_valid(answer)
                if isinstance(expected, bool):
                    expected = {"decision": expected}
                elif isinstance(expected, list):
                    expected = {"evaluations": expected}
                else:
                    answer, expected = _unordered(answer), _unordered(expected)
                passed[f"{name} {endpoint}"] = passed.get(f"{name} {endpoint}", 0) + (answer == expected)
                if answer != expected:
                    wrong.append((name, one["request"], answer))
    print(json.dumps(passed, indent=1))
    assert wrong == []
    assert sum(passed.values()) == sum(len(listed) for _, _, listed in vectors)


def _unordered(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "results": sorted(answer["results"], key=json.dumps)}

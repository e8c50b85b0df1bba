"""The certification scenario of AuthZEN 1.0, whole, over HTTPS: basic, batch, search, discovery."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.integration.access_node import OPEN, Served, served, write_access

if TYPE_CHECKING:
    from collections.abc import Iterator

TOML = f"""
[server]
issuer = "https://127.0.0.1:PORT"
{OPEN}
[access.applications.certification]
subjects = ["user"]
resources = ["record"]
actions = ["read", "write", "delete"]
"""
POLICIES = """
@id("read") permit (principal, action == Action::"read", resource);
@id("write active") permit (principal, action == Action::"write", resource)
    when { resource has status && resource.status == "active" && !(principal has role && principal.role == "admin") };
@id("write archived") permit (principal, action == Action::"write", resource)
    when { resource has status && resource.status == "archived" && principal has role && principal.role == "admin" };
@id("delete softly") permit (principal, action == Action::"delete", resource)
    when { context.action has soft && context.action.soft };
"""
ENTITIES = [
    {"type": "user", "id": "alice"},
    {"type": "user", "id": "bob", "properties": {"role": "admin"}},
    {"type": "record", "id": "record-1", "properties": {"status": "active"}},
    {"type": "record", "id": "record-2", "properties": {"status": "archived"}},
]


def user(name: str = "alice", **properties: Any) -> dict[str, Any]:
    return {"type": "user", "id": name, **({"properties": properties} if properties else {})}


def record(name: str = "record-1", **properties: Any) -> dict[str, Any]:
    return {"type": "record", "id": name, **({"properties": properties} if properties else {})}


def do(name: str, **properties: Any) -> dict[str, Any]:
    return {"name": name, **({"properties": properties} if properties else {})}


ALICE_READS = {"subject": user(), "action": do("read"), "resource": record()}
RULES = [
    (user(), do("read"), record(), True),
    (user(), do("write"), record(), True),
    (user("bob"), do("read"), record(), True),
    (user("bob"), do("write"), record(), False),
    (user(), do("write"), record("record-2", status="archived"), False),
    (user("bob", role="admin"), do("write"), record("record-2", status="archived"), True),
    (user(), do("delete", soft=True), record(), True),
    (user(), do("delete", soft=False), record(), False),
]


@pytest.fixture(scope="module")
def pdp(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("certification")
    write_access(folder, TOML, certification={"policies": POLICIES, "entities": ENTITIES})
    with served(folder) as running:
        yield running


@pytest.mark.parametrize(("subject", "action", "resource", "expected"), RULES)
def test_the_eight_decisions(pdp, subject, action, resource, expected):
    question = {"subject": subject, "action": action, "resource": resource}
    for _ in range(3):
        assert pdp.ask("evaluation", question) == {"decision": expected}
    context = {"time": "2026-06-27T18:03-07:00", "ip": "192.168.1.1", "nothing": None, "weight": 0.123456789}
    assert pdp.ask("evaluation", {**question, "context": context})["decision"] is expected
    assert pdp.ask("evaluation", {**question, "foo": "bar", "future": {"nested": True}})["decision"] is expected


def test_additional_properties_do_no_harm(pdp):
    question = {
        "subject": user(department="Sales", role="manager"),
        "action": do("read", method="GET"),
        "resource": record(status="active", owner="bob"),
    }
    assert pdp.ask("evaluation", question)["decision"] is True


def without(question: dict[str, Any], *path: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(question))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return copy


@pytest.mark.parametrize(
    "body",
    [
        *(without(ALICE_READS, name) for name in ("subject", "action", "resource")),
        without(ALICE_READS, "subject", "type"),
        without(ALICE_READS, "subject", "id"),
        without(ALICE_READS, "action", "name"),
        without(ALICE_READS, "resource", "type"),
        without(ALICE_READS, "resource", "id"),
        {**ALICE_READS, "subject": "alice"},
        {**ALICE_READS, "action": {"name": 123}},
        {**ALICE_READS, "context": []},
        {**ALICE_READS, "resource": {"type": "record", "id": "record-1", "properties": "active"}},
        [ALICE_READS],
        b"",
        b"{",
        b'"alice"',
    ],
)
@pytest.mark.parametrize("endpoint", ["evaluation", "evaluations"])
def test_a_question_that_is_badly_put_is_told_so(pdp, endpoint, body):
    status, headers, data = pdp.http("POST", f"/access/v1/{endpoint}", body, X_Request_ID="bfe9eb29-ab87")
    assert status == 400
    assert headers["x-request-id"] == "bfe9eb29-ab87"
    assert data
    assert b"Traceback" not in data


def test_the_content_type_must_be_json(pdp):
    for kind, expected in (("text/plain", 400), ("application/x-www-form-urlencoded", 400), ("application/json; charset=utf-8", 200)):
        assert pdp.http("POST", "/access/v1/evaluation", ALICE_READS, Content_Type=kind)[0] == expected


def test_the_request_id_comes_back(pdp):
    assert pdp.http("POST", "/access/v1/evaluation", ALICE_READS, X_Request_ID="a b/c=1")[1]["x-request-id"] == "a b/c=1"
    assert "x-request-id" not in pdp.http("POST", "/access/v1/evaluation", ALICE_READS)[1]


def test_many_in_order_and_with_defaults(pdp):
    bob = pdp.ask(
        "evaluations", {"subject": user("bob"), "resource": record(), "evaluations": [{"action": do("read")}, {"action": do("write")}]}
    )
    assert bob == {"evaluations": [{"decision": True}, {"decision": False}]}
    inherited = {"subject": user(), "action": do("write"), "resource": record(status="active")}
    items = [{}, {"resource": record("record-2", status="archived")}, {"context": {"source": "batch"}}]
    assert [one["decision"] for one in pdp.ask("evaluations", {**inherited, "evaluations": items})["evaluations"]] == [True, False, True]
    whole = {
        "subject": user("bob", role="admin"),
        "action": do("write"),
        "evaluations": [{"resource": record("record-2"), "subject": user()}],
    }
    assert pdp.ask("evaluations", whole) == {"evaluations": [{"decision": False}]}, "an item's own member replaces the whole default"


def test_what_is_wrong_with_one_is_told_at_that_one(pdp):
    options = {"evaluations_semantic": "execute_all", "future": 1}
    body = {
        "subject": user(),
        "action": do("read"),
        "options": options,
        "evaluations": [{"resource": record()}, {}, 5, {"resource": record()}],
    }
    answers = pdp.ask("evaluations", body)["evaluations"]
    assert [one["decision"] for one in answers] == [True, False, False, True]
    assert all(answers[number]["context"]["error"]["status"] == 400 for number in (1, 2))
    assert "resource" in answers[1]["context"]["error"]["message"]


def test_no_or_empty_evaluations_is_one_question(pdp):
    assert pdp.ask("evaluations", ALICE_READS) == {"decision": True}
    assert pdp.ask("evaluations", {**ALICE_READS, "evaluations": []}) == {"decision": True}


@pytest.mark.parametrize(
    ("semantic", "actions", "expected"),
    [
        ("execute_all", "read write read", [True, False, True]),
        ("deny_on_first_deny", "read write read", [True, False]),
        ("deny_on_first_deny", "read read", [True, True]),
        ("permit_on_first_permit", "write read read", [False, True]),
        ("permit_on_first_permit", "write write", [False, False]),
    ],
)
def test_the_three_semantics(pdp, semantic, actions, expected):
    before = len(pdp.records("AccessDecided"))
    items = [{"action": do(name)} for name in actions.split()]
    body = {"subject": user("bob"), "resource": record(), "options": {"evaluations_semantic": semantic}, "evaluations": items}
    assert [one["decision"] for one in pdp.ask("evaluations", body)["evaluations"]] == expected
    assert len(pdp.records("AccessDecided")) == before + len(expected), "what was not evaluated is not recorded"


@pytest.mark.parametrize("options", [{"evaluations_semantic": "first_come"}, {"evaluations_semantic": 7}, "all"])
def test_an_unknown_semantic_is_a_mistake(pdp, options):
    assert pdp.http("POST", "/access/v1/evaluations", {**ALICE_READS, "options": options, "evaluations": [{}]})[0] == 400


def found(answer: dict[str, Any]) -> set[str]:
    return {one.get("id") or one["name"] for one in answer["results"]}


def test_searches(pdp):
    who = {"subject": {"type": "user"}, "action": do("read"), "resource": record()}
    assert found(pdp.ask("search/subject", who)) == {"alice", "bob"}
    assert pdp.ask("search/subject", who)["results"][0] == {"type": "user", "id": "alice"}
    assert found(pdp.ask("search/resource", {"subject": user(), "action": do("read"), "resource": {"type": "record"}})) == {
        "record-1",
        "record-2",
    }
    assert found(pdp.ask("search/action", {"subject": user(), "resource": record()})) == {"read", "write"}
    archived = record("record-2", status="archived")
    assert found(pdp.ask("search/subject", {"subject": {"type": "user"}, "action": do("write"), "resource": archived})) == {"bob"}
    admin = user("bob", role="admin")
    assert found(pdp.ask("search/resource", {"subject": admin, "action": do("write"), "resource": {"type": "record"}})) == {"record-2"}
    assert found(pdp.ask("search/action", {"subject": admin, "resource": archived})) == {"read", "write"}
    ignored = {"subject": {"type": "user", "id": 7}, "action": do("read"), "resource": record()}
    assert found(pdp.ask("search/subject", ignored)) == {"alice", "bob"}


def test_unknown_is_nothing_and_no_mistake(pdp):
    nothing = {"results": []}
    assert pdp.ask("search/action", {"subject": user("nobody"), "resource": record()}) == nothing
    assert pdp.ask("search/subject", {"subject": {"type": "spaceship"}, "action": do("read"), "resource": record()}) == nothing
    assert pdp.ask("search/subject", {"subject": {"type": "user"}, "action": do("read"), "resource": record("none")}) == nothing
    assert pdp.ask("search/resource", {"subject": user(), "action": do("fly"), "resource": {"type": "record"}}) == nothing


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("subject", {"subject": {"type": "user"}, "action": do("read"), "resource": {"type": "record"}}),
        ("subject", {"subject": {"type": "user"}, "resource": record()}),
        ("resource", {"subject": {"type": "user"}, "action": do("read"), "resource": {"type": "record"}}),
        ("resource", {"action": do("read"), "resource": {"type": "record"}}),
        ("action", {"subject": {"type": "user"}, "resource": record()}),
        ("action", {"subject": user()}),
        ("subject", {"subject": {"type": "user"}, "action": do("read"), "resource": record(), "page": {"limit": 0}}),
        ("subject", {"subject": {"type": "user"}, "action": do("read"), "resource": record(), "page": {"token": "x"}}),
    ],
)
def test_a_search_that_is_badly_put_is_told_so(pdp, endpoint, body):
    assert pdp.http("POST", f"/access/v1/search/{endpoint}", body)[0] == 400


def test_pages(pdp):
    who = {"subject": {"type": "user"}, "action": do("read"), "resource": record()}
    first = pdp.ask("search/subject", {**who, "page": {"limit": 1}})
    assert list(first) == ["page", "results"]
    assert (found(first), first["page"]["count"]) == ({"alice"}, 1)
    token = first["page"]["next_token"]
    last = pdp.ask("search/subject", {**who, "page": {"limit": 1, "token": token}})
    assert (found(last), last["page"]["next_token"]) == ({"bob"}, "")
    other = {**who, "action": do("write"), "page": {"limit": 1, "token": token}}
    assert pdp.http("POST", "/access/v1/search/subject", other)[0] == 400, "a token goes with its first request"
    assert pdp.http("POST", "/access/v1/search/subject", {**who, "page": {"token": token}})[0] == 400


def test_discovery(pdp):
    status, headers, data = pdp.http("GET", "/.well-known/authzen-configuration")
    assert (status, headers["content-type"]) == (200, "application/json")
    metadata, base = json.loads(data), f"https://127.0.0.1:{pdp.port}"
    signed = metadata.pop("signed_metadata")
    keys = KeySet.import_key_set(json.loads(pdp.http("GET", "/oauth/jwks")[2]))
    token = jwt.decode(signed, keys, algorithms=["ES256"])
    assert token.header["typ"] == "authzen-configuration+jwt"
    assert token.claims == {**metadata, "iss": base}
    assert metadata.pop("policy_decision_point") == base
    assert len(metadata) == 5
    for name, endpoint in metadata.items():
        assert endpoint.startswith(f"{base}/access/v1/"), name
        status = pdp.http("POST", endpoint.removeprefix(base), {"subject": user(), "action": do("read"), "resource": record()})[0]
        assert status == 200, name
    assert pdp.http("GET", "/.well-known/authzen-configuration/tenant")[0] == 404
    assert pdp.http("POST", "/access/v1/evaluation", ALICE_READS, signed)[0] == 401, "signed by us, and no token"


def test_every_answer_is_in_the_ledger_without_its_values(pdp):
    pdp.ask("evaluation", {**ALICE_READS, "context": {"word": "unmistakable"}})
    last = pdp.records("AccessDecided")[-1]
    assert (last.caller, last.application, last.subject, last.action, last.resource) == (
        "anyone on loopback",
        "certification",
        "alice",
        "read",
        "record-1",
    )
    assert (last.outcome, last.policies) == ("allow", ["read"])
    assert "unmistakable" not in repr(last)
    texts = pdp.run(pdp.node.store.document(last.policy_set))
    assert "write archived" in texts, "what decided is kept"
    assert last.policy_set in pdp.records("PolicyActivated")[-1].applications.values()

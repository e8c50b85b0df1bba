"""Hostile questions to the decision API: refused clearly, in bounded time, and denied where in doubt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.access_node import OPEN, Served, served, write_access

if TYPE_CHECKING:
    from collections.abc import Iterator

TOML = f"""
{OPEN}
[limits]
evaluations_per_request = 200
search_page = 50
[access.applications.shop]
subjects = ["user", "same"]
resources = ["item", "same", "urn:odd/type"]
actions = ["buy", "open", "overflow"]
"""
POLICIES = """
@id("cheap") permit (principal, action == Action::"buy", resource)
    when { context.action has price && context.action.price < 100 && principal in group::"customers" };
@id("never free") forbid (principal, action == Action::"buy", resource) when { resource has free && resource.free };
@id("odd") permit (principal, action == Action::"open", resource is urn_odd_type);
@id("same") permit (principal, action == Action::"open", resource) when { principal == resource && resource.word == "x" };
@id("all") permit (principal, action == Action::"overflow", resource);
@id("big") forbid (principal, action == Action::"overflow", resource) when { context.action.price + 1 > 5 };
"""
CUSTOMER = {"in": [{"type": "group", "id": "shoppers"}]}
ENTITIES = [
    {"type": "group", "id": "customers"},
    {"type": "group", "id": "shoppers", "in": [{"type": "group", "id": "customers"}]},
    *({"type": "user", "id": f"u{number}", **CUSTOMER} for number in range(130)),
    {"type": "item", "id": "i1"},
    {"type": "item", "id": "gift", "properties": {"free": True}},
]


@pytest.fixture(scope="module")
def pdp(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bad")
    write_access(folder, TOML, shop={"policies": POLICIES, "entities": ENTITIES})
    with served(folder) as running:
        yield running


def buy(action: str = "buy", subject: Any = None, resource: Any = None, **properties: Any) -> dict[str, Any]:
    return {
        "subject": subject or {"type": "user", "id": "u1"},
        "action": {"name": action, "properties": properties},
        "resource": resource or {"type": "item", "id": "i1"},
    }


def test_the_policies_themselves(pdp):
    assert pdp.ask("evaluation", buy(price=5))["decision"] is True, "in a group of a group"
    assert pdp.ask("evaluation", buy(price=5.0))["decision"] is True, "5.0 and 5 are one number"
    assert pdp.ask("evaluation", buy(price=500))["decision"] is False
    assert pdp.ask("evaluation", buy(price=5, subject={"type": "user", "id": "stranger"}))["decision"] is False
    assert pdp.ask("evaluation", buy(price=5, resource={"type": "item", "id": "gift"}))["decision"] is False
    assert pdp.ask("evaluation", buy("open", resource={"type": "urn:odd/type", "id": "1"}))["decision"] is True


@pytest.mark.parametrize(
    "price",
    ["5", 5.5, 0.000001, 10**15, True, [5], {"__extn": {"fn": "decimal", "arg": "1.0"}}, {"__entity": {"type": "user", "id": "u1"}}],
)
def test_a_value_of_another_kind_is_not_cheap(pdp, price):
    assert pdp.ask("evaluation", buy(price=price))["decision"] is False


@pytest.mark.parametrize("free", [[None], {"__entity": {"type": "user", "id": "u1"}}, 0.000001, {"a": {"__x": 1}}, "yes", 1])
def test_what_cannot_be_shown_to_a_policy_that_names_it_denies(pdp, free):
    resource = {"type": "item", "id": "i1", "properties": {"free": free}}
    assert pdp.ask("evaluation", buy(price=5, resource=resource))["decision"] is False
    unnamed = {"type": "item", "id": "i1", "properties": {"unnamed": free}}
    assert pdp.ask("evaluation", buy(price=5, resource=unnamed))["decision"] is True, "what no policy names does no harm"


def test_an_error_in_a_policy_denies(pdp):
    assert pdp.ask("evaluation", buy("overflow", price=2))["decision"] is True
    assert pdp.ask("evaluation", buy("overflow"))["decision"] is False, "Cedar would skip the forbid and permit"
    reasons = [reason.code for reason in pdp.records("AccessDecided")[-1].reasons]
    assert reasons == ["policy_error"]


def test_a_subject_that_is_the_resource_is_described_once(pdp):
    def same(left: str, right: str) -> bool:
        one, other = ({"type": "same", "id": "1", "properties": {"word": word}} for word in (left, right))
        return pdp.ask("evaluation", buy("open", one, other))["decision"]

    assert same("x", "x") is True
    assert same("x", "y") is False
    assert same("y", "x") is False


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"nul", 400),
        (b"[" * 500_000, 400),
        (b'{"subject":' * 100_000, 400),
        (b'{"subject":{"type":"user","id":"u1","id":"u2"},"action":{"name":"buy"},"resource":{"type":"item","id":"i1"}}', 400),
        (b'{"subject":{"type":"user","id":"\\ud800"},"action":{"name":"buy"},"resource":{"type":"item","id":"i1"}}', 400),
        (json.dumps(buy(price=5)).replace("5", "NaN").encode(), 400),
        (json.dumps(buy(price=5)).replace("5", "1e999").encode(), 400),
        (json.dumps(buy(price=5)).replace("5", "9" * 5000).encode(), 400),
        (json.dumps(buy(price=10**400)).encode(), 400),
        (json.dumps(buy(price=2**62)).encode(), 400),
        (json.dumps(buy(price=1, resource={"type": "item", "id": ""})).encode(), 400),
        (json.dumps(buy(price=1, resource={"type": "item", "id": "u" * 3_000})).encode(), 400),
        (json.dumps(buy(action="a" * 500)).encode(), 400),
        (b" " * 10_000_000, 413),
    ],
)
@pytest.mark.parametrize("endpoint", ["evaluation", "evaluations", "search/subject"])
def test_bad_bodies(pdp, endpoint, body, status):
    got, headers, answer = pdp.http("POST", f"/access/v1/{endpoint}", body)
    assert got == status
    assert headers["content-type"].startswith("text/plain")
    assert answer
    assert b"Traceback" not in answer
    assert len(answer) < 1_000


def test_properties_nested_to_the_limit(pdp):
    deep: Any = 1
    for _ in range(55):
        deep = {"a": deep}
    assert pdp.ask("evaluation", {**buy(price=5), "context": {"unnamed": deep}})["decision"] is True
    resource = {"type": "item", "id": "i1", "properties": {"free": deep}}
    assert pdp.ask("evaluation", buy(price=5, resource=resource))["decision"] is False


def test_evaluations_are_bounded(pdp):
    whole = {**buy(price=5), "evaluations": [{}] * 200}
    assert [one["decision"] for one in pdp.ask("evaluations", whole)["evaluations"]] == [True] * 200
    status, _, answer = pdp.http("POST", "/access/v1/evaluations", {**buy(), "evaluations": [{}] * 5_000})
    assert (status, b"5,000" in answer) == (400, True)
    for wrong in ({}, "x", 5, True):
        assert pdp.http("POST", "/access/v1/evaluations", {**buy(), "evaluations": wrong})[0] == 400
    assert pdp.http("POST", "/access/v1/evaluations", {**buy(), "subject": "u1", "evaluations": [{}]})[0] == 400
    nulls = pdp.ask("evaluations", {**buy(price=5), "evaluations": [{"resource": None}, None, [], {"resource": {"type": "item"}}]})
    assert [one["decision"] for one in nulls["evaluations"]] == [False] * 4


def test_a_search_looks_at_so_many_candidates_and_says_where_to_go_on(pdp):
    question = {**buy(price=5), "subject": {"type": "user"}}
    seen: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        answer = pdp.ask("search/subject", {**question, "page": {"token": token}} if token else question)
        seen += [one["id"] for one in answer["results"]]
        token, pages = answer["page"]["next_token"], pages + 1
    assert pages == 3
    assert seen == [f"u{number}" for number in range(130)]
    assert pdp.ask("search/subject", {**question, "page": {"limit": 10**9}})["page"]["count"] == 50


@pytest.mark.parametrize("token", ["x" * 10_000, "!!!!", "WzEsMl0", "Wy0xLCJhIl0", "\u00e9", "W10"])
def test_a_token_that_is_none(pdp, token):
    question = {**buy(price=5), "subject": {"type": "user"}, "page": {"token": token}}
    assert pdp.http("POST", "/access/v1/search/subject", question)[0] == 400


def test_other_methods_and_paths(pdp):
    assert pdp.http("GET", "/access/v1/evaluation")[0] == 405
    assert pdp.http("POST", "/access/v1/search/everything", buy())[0] == 404
    assert pdp.http("POST", "/access/v2/evaluation", buy())[0] == 404


def test_a_web_page_is_not_anyone_on_loopback(pdp):
    good = buy(price=5)
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": ""}, {"Host": "["}):
        assert pdp.http("POST", "/access/v1/evaluation", good, **headers)[0] in {400, 401}, headers
    assert pdp.http("POST", "/access/v1/evaluation", good, Authorization="Bearer wrong")[0] == 401
    assert pdp.http("POST", "/access/v1/evaluation", good, Host=f"localhost:{pdp.port}")[0] == 200

"""What a credential may do is told from its task's terms."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from remit.logic.lease_words import came_from, may_do
from remit.model.lease import Lease, LeasePart, LeaseTerms
from tests.support import task as a_task

AT = datetime(2026, 1, 1, tzinfo=UTC)


def lease(*parts: int, name: str = "db", stands: bool = False) -> Lease:
    return Lease(id="lease_1", name=name, target="t", intended_at=AT, expires_at=AT, parts=parts, stands=stands)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (
            {"tables": [{"allow": ["select", "insert"], "schema": "public", "table": "orders"}]},
            ["tables: schema public, table orders: select, insert"],
        ),
        (
            {
                "vhost": "shop",
                "resources": [{"name": "orders", "allow": ["read"]}],
                "topics": [{"exchange": "e", "prefix": "a.", "allow": ["write"]}],
            },
            ["vhost: shop", "resources: name orders: read", "topics: exchange e, prefix a.: write"],
        ),
        ({"keys": [{"prefix": "orders:"}, {"key": "x"}], "allow": ["read"]}, ["keys: prefix orders:", "keys: key x", "allow: read"]),
        ({"publish": [{"subject": ["orders", "new"]}]}, ["publish: subject orders, new"]),
        ({"permissions": {"contents": "read"}, "repositories": ["a", "b"]}, ["permissions: contents = read", "repositories: a, b"]),
        ({"accounts": ["deploy"], "shell": True}, ["accounts: deploy", "shell: true"]),
        (
            {"authorization_details": [{"type": "payment", "limit": {"amount": 5}}]},
            ["authorization_details: type payment, limit amount = 5"],
        ),
        ({}, ["nothing is named"]),
    ],
)
def test_a_scope_in_plain_words(scope, words):
    task = a_task(terms=(LeaseTerms(name="db", target="t", scope=json.dumps(scope)),))
    told = may_do(task, lease())
    assert (list(told.words), told.scope, told.parts_all, came_from(told)) == (words, scope, 0, "")


def test_only_the_parts_that_it_has_and_what_they_are_for():
    def part(table: str, tool: str, arguments: str = "") -> LeasePart:
        return LeasePart(tools=(tool,), scope=json.dumps({"tables": [{"table": table, "allow": ["select"]}]}), arguments=arguments)

    parts = (part("a", "db/a"), part("b", "db/b"), part("c", "db/query", '{"table":"c"}'))
    task = a_task(terms=(LeaseTerms(name="db", target="t", scope='{"settings":{"who":"x"}}', parts=parts),))
    told = may_do(task, lease(0, 2))
    assert told.words == ("settings: who = x", "tables: table a: select", "tables: table c: select")
    assert came_from(told) == "part 1 of 3 (for db/a); part 3 of 3 (for db/query with table = c)"


def test_a_standing_secret_may_whatever_its_system_lets_it():
    task = a_task(terms=(LeaseTerms(name="db", target="t", scope="{}"),))
    assert may_do(task, lease(stands=True)).words == ("whatever the secret of its target may",)


def test_terms_that_are_gone_are_not_guessed_and_long_lists_are_cut():
    assert may_do(a_task(), lease()).words == ("its terms are not known",)
    many = json.dumps({"keys": [{"key": str(number)} for number in range(150)]})
    told = may_do(a_task(terms=(LeaseTerms(name="db", target="t", scope=many),)), lease())
    assert (len(told.words), told.words[-1]) == (101, "and 50 more")

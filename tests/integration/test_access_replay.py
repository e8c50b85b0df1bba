"""Answers about applications are decided again as calls are: from the ledger, the kept rules of their day and the kept properties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.errors import Broken
from remit.logic.applications import Application
from remit.logic.replay import Verdict
from remit.logic.replay_answers import before_policies, compare_answer, compare_refusal, kept_properties
from remit.model.call_record import ReasonLine
from remit.model.record import AccessDecided
from remit.services.access_configuration import kept_application
from remit.services.history import Answered
from remit.services.replay import verify
from remit.services.retention import Retention
from tests.integration.access_node import OPEN, Served, served, write_access

POLICIES = """
@id("read") permit (principal, action == Action::"read", resource);
@id("owner") permit (principal, action == Action::"write", resource) when { resource.owner == principal.name };
@id("by-day") permit (principal, action == Action::"count", resource) when { context.now < datetime("2100-01-01") };
@id("never") forbid (principal, action == Action::"write", resource) when { context.request has word && context.request.word == "no" };
"""
OTHER = '@id("nobody") forbid (principal, action, resource);'
ENTITIES = [{"type": "record", "id": "r1", "properties": {"owner": "alice"}}]
ALICE = {"type": "user", "id": "alice", "properties": {"name": "alice"}}
APPLICATION = '[access.applications.shop]\nsubjects = ["user"]\nresources = ["record"]\nactions = ["read", "write", "count"]\n'
OUTCOMES = ["allow", "allow", "deny", "allow", "deny", "deny", "deny"]


def ask_all(pdp: Served) -> None:
    record = {"type": "record", "id": "r1"}
    for subject, action, resource, context in (
        ({"type": "user", "id": "bob"}, "read", record, {}),
        (ALICE, "write", record, {}),
        (ALICE, "write", record, {"word": "no"}),
        (ALICE, "count", record, {}),
        (ALICE, "fly", record, {}),
        (ALICE, "read", {"type": "planet", "id": "r1"}, {}),
        ({"type": "agent", "id": "spiffe://remit.local/agent/x"}, "read", record, {}),
    ):
        pdp.ask("evaluation", {"subject": subject, "action": {"name": action}, "resource": resource, "context": context})


def answered(pdp: Served) -> list[Answered]:
    async def every() -> list[Answered]:
        return [one async for one in pdp.node.history().decided() if isinstance(one, Answered)]

    return pdp.run(every())


@pytest.fixture(scope="module", params=[True, False], ids=["kept", "not kept"])
def pdp(request, tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("replay")
    toml = OPEN + APPLICATION + ("[ledger]\nkeep_values = true\n" if request.param else "")
    write_access(folder, toml, shop={"policies": POLICIES, "entities": ENTITIES})
    with served(folder) as running:
        ask_all(running)
        running.kept, running.folder = request.param, folder
        yield running


def test_the_whole_ledger_agrees_also_after_the_rules_have_changed(pdp):
    assert [one.body.outcome for one in answered(pdp)] == OUTCOMES
    (pdp.folder / "access" / "shop" / "main.cedar").write_text(OTHER)
    told = pdp.run(verify(pdp.node.history()))
    assert (told.good, told.decisions, told.found) == (True, 7, ())
    # two never came to policies; of five the one question without any property needs nothing that was kept
    whole = sum(one.properties is not None and not before_policies(one.body) for one in answered(pdp))
    assert (told.agrees, told.partly) == (whole, 7 - whole)
    assert whole == (5 if pdp.kept else 1)


def lies(body: AccessDecided) -> Iterator[AccessDecided]:
    yield replace(body, outcome="deny" if body.outcome == "allow" else "allow")
    yield replace(body, policies=[*body.policies, "owner"])
    yield replace(body, reasons=[ReasonLine(code="policy_error")])


def test_any_lie_about_an_answer_is_found(pdp):
    for one in answered(pdp):
        if before_policies(one.body):
            assert compare_refusal(one.body).verdict is Verdict.PARTLY
            assert compare_refusal(replace(one.body, outcome="allow")).verdict is Verdict.DIFFERS
            continue
        text = pdp.run(pdp.node.store.document(one.body.policy_set))
        application = Application(kept_application("shop", one.body.policy_set, text))
        if one.properties is None:
            invented = replace(one.body, policies=["nobody"])
            assert compare_answer(invented, application, None, one.record.at).verdict is Verdict.DIFFERS
            continue
        assert compare_answer(one.body, application, one.properties, one.record.at).verdict is Verdict.AGREES
        for lie in lies(one.body):
            assert compare_answer(lie, application, one.properties, one.record.at).verdict is Verdict.DIFFERS
        if one.body.action == "count":
            later: Any = replace(one.body, evaluated_at=datetime(2101, 1, 1, tzinfo=UTC))
            assert compare_answer(later, application, one.properties, one.record.at).verdict is Verdict.DIFFERS


def test_what_was_kept_is_what_the_ledger_names_or_nothing(pdp):
    one = answered(pdp)[1]
    for other in (b"{}", b"[]", b"nothing", b'{"subject":{},"action":{},"resource":{},"context":{}}'):
        with pytest.raises(Broken):
            kept_properties(one.body, other)
    for text in ("{}", "[]", "x", '{"policies":{}}'):
        with pytest.raises(Broken):
            kept_application("shop", one.body.policy_set, text)


def test_what_is_kept_is_forgotten_with_the_values_of_calls(pdp):
    """Last: it takes them away."""
    retention = Retention(pdp.node.store, lambda: datetime.now(UTC))
    assert pdp.run(retention.forget_values(timedelta(0), "operator")) == 7
    told = pdp.run(verify(pdp.node.history()))
    assert (told.good, told.agrees) == (True, 1)

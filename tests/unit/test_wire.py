"""The words of the wire: an error goes over HTTP and comes back as what it was, and what is none of ours is an outage."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from remit.errors import Because, Broken, Conflict, Denied, Mistake, NeedsApproval, NotFound, Outage, Refusal, RemitError, Unauthenticated
from remit.wire import DecisionView, http_status, problem, read_problem

WHY = (Because("policy_forbids", "policy forbids it", "never"), Because("not_granted"))
WHEN = datetime(2026, 11, 24, tzinfo=UTC)
ERRORS: list[RemitError] = [
    Refusal("no", code="no_task", hint="do this"),
    Unauthenticated("no"),
    NotFound("none"),
    Denied("denied", decision="d_1", reasons=WHY, policies=("never",)),
    NeedsApproval("ask", decision="d_1", reasons=WHY[:1], approval="apr_1", approval_expires_at=WHEN),
    Mistake("wrong", code="body", hint="so"),
    Mistake("large", code="too_large"),
    Conflict("late", code="not_under_way"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_as_what_it_was(error):
    back = read_problem(http_status(error), msgspec.json.encode(problem(error)))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert set(problem(error)) >= {"type", "title", "status", "code"}  # RFC 9457 §3.1


def test_a_fault_and_an_outage_are_outages_to_the_caller_and_tell_nothing():
    told = problem(Broken("the secret inside"))
    assert "secret" not in json.dumps(told)
    assert isinstance(read_problem(500, msgspec.json.encode(told)), Outage)
    back = read_problem(503, msgspec.json.encode(problem(Outage("away", code="overload"))), retry_after_seconds=7)
    assert isinstance(back, Outage)
    assert (back.code, back.retry_after_seconds) == ("overload", 7)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": 1}', b"\xff", b'{"title":"x","status":"y","code":"z"}'])
@pytest.mark.parametrize("status", [301, 400, 401, 404, 502])
def test_what_is_no_problem_of_ours_is_an_outage(body, status):
    back = read_problem(status, body)
    assert isinstance(back, Outage)
    assert back.code == "not_remit"


def test_a_refusal_of_a_decision_is_the_error_of_its_outcome():
    assert type(DecisionView(id="d", outcome="deny", reasons=WHY, message="m").refusal()) is Denied
    asked = DecisionView(id="d", outcome="ask", approval="apr", message="m").refusal()
    assert type(asked) is NeedsApproval
    assert asked.approval == "apr"
    assert not DecisionView(id="d", outcome="anything else").allowed

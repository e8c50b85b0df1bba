"""Exposure: what stood open in a period is never more than the period, and what was used never more than what stood."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.logic.exposure import Trace, count, joined, next_review
from remit.model.call_record import CallDecided, CallFinished
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked
from remit.model.record import GrantLine, Record, TaskMoved, TaskOpened

T0 = datetime(2026, 11, 1, tzinfo=UTC)
AGENT = "spiffe://remit.test/agent/payer"


def at(minutes):
    return T0 + timedelta(minutes=minutes)


def opened(*tools):
    return TaskOpened(
        type="pay",
        agent=AGENT,
        on_behalf_of="alice",
        opened_by="desk",
        objective="Pay",
        inputs={},
        grants=[GrantLine(kind="tool", server=tool.partition("/")[0], name=tool.partition("/")[2]) for tool in tools],
        tools={"bank/pay": "d", "bank/see": "d", "mail/read": "d"},
        ceiling="internal",
        budget_calls=5,
        deadline=at(1_000),
    )


def decided(name, tool, outcome="allow"):
    server, _, tool_name = tool.partition("/")
    return CallDecided(
        decision=name, agent=AGENT, outcome=outcome, tool_kind="tool", server=server, name=tool_name, arguments_digest="sha-256:x"
    )


def traced(*events):
    trace = Trace()
    for minutes, body in events:
        trace.add(Record(at=at(minutes), body=body, task="t", seq=1))
    return trace


def pay_bill(begin, end, *, used=True):
    """A task with a credential on a database, a grant of all of the bank's tools, and one call."""
    events = [
        (begin, opened("bank/*")),
        (begin, TaskMoved(to="active", by="x")),
        (begin, LeaseIntended(lease="l", name="db", target="orders", mark="m", expires_at=at(end))),
        (begin + 1, LeaseIssued(lease="l")),
        *([(begin + 2, decided("d", "bank/pay")), (begin + 3, CallFinished(decision="d", ending="ok"))] if used else []),
        (begin + 3, decided("e", "bank/see", "deny")),
        (end, TaskMoved(to="completed", by="x")),
        (end + 1, LeaseRevoked(lease="l")),
    ]
    return traced(*events)


def test_one_task_is_counted_by_hand():
    found = count([pay_bill(10, 20)], at(0), at(100))
    (credential,) = found.credentials
    assert (credential.what, credential.live, credential.live_ms) == ("orders", ((at(11), at(21)),), 600_000)
    assert (credential.used_ms, credential.static_ms, credential.uses) == (60_000, 6_000_000, 1)
    assert not credential.open_still
    pay, see = found.privileges
    assert (pay.what, pay.live_ms, pay.used_ms, pay.uses, pay.last_needed) == ("bank/pay", 600_000, 60_000, 1, at(13))
    assert (see.what, see.live_ms, see.used_ms, see.uses, see.last_needed) == ("bank/see", 600_000, 0, 0, at(10)), "a denied call is no use"
    excess = {one.what: one for one in found.excesses}
    assert excess["bank/pay"].remit_ms == 7 * 60_000
    assert excess["bank/see"].remit_ms == 10 * 60_000
    assert excess["orders"].remit_ms == 8 * 60_000
    assert excess["bank/pay"].monthly_ms == (datetime(2026, 12, 1, tzinfo=UTC) - at(13)) // timedelta(milliseconds=1)
    assert excess["bank/pay"].quarterly_ms == (datetime(2027, 1, 1, tzinfo=UTC) - at(13)) // timedelta(milliseconds=1)
    assert found.tasks == 1


def test_suspended_time_is_no_privilege_and_what_is_open_still_is_open_to_the_end():
    trace = traced(
        (0, opened("bank/pay")),
        (0, TaskMoved(to="active", by="x")),
        (10, TaskMoved(to="suspended", by="x")),
        (20, TaskMoved(to="active", by="x")),
        (25, decided("d", "bank/pay")),
    )
    (pay,) = count([trace], at(0), at(30)).privileges
    assert pay.live == ((at(0), at(10)), (at(20), at(30)))
    assert (pay.used_ms, pay.open_still) == (5 * 60_000, True), "a call without an end is under way"


spans = st.tuples(st.integers(0, 200), st.integers(1, 60), st.booleans())


@given(st.lists(spans, max_size=6), st.integers(0, 150), st.integers(1, 150))
def test_used_is_within_live_and_live_within_the_period(tasks, begin, length):
    traces = [pay_bill(start, start + 5 + minutes, used=used) for start, minutes, used in tasks]
    found = count(traces, at(begin), at(begin + length))
    for one in (*found.credentials, *found.privileges):
        assert 0 < one.live_ms <= one.static_ms == length * 60_000
        assert 0 <= one.used_ms <= one.static_ms
        assert (one.uses == 0) == (one.used_ms == 0)
        assert list(one.live) == sorted(one.live)
        assert all(first[1] < second[0] for first, second in zip(one.live, one.live[1:], strict=False))
    for excess in found.excesses:
        assert 0 <= excess.remit_ms <= length * 60_000
        assert excess.monthly_ms <= excess.quarterly_ms
    again = count(reversed(traces), at(begin), at(begin + length))
    assert again == found, "in whatever order tasks are read"


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=12))
def test_joined_covers_the_same_minutes(pairs):
    given_spans = [(at(min(pair)), at(max(pair) + 1)) for pair in pairs]
    covered = {minute for minute in range(101) for since, until in given_spans if since <= at(minute) < until}
    assert {minute for minute in range(101) for since, until in joined(given_spans) if since <= at(minute) < until} == covered


@pytest.mark.parametrize(
    ("after", "monthly", "quarterly"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), (2026, 2, 1), (2026, 4, 1)),
        (datetime(2026, 3, 31, 23, 59, tzinfo=UTC), (2026, 4, 1), (2026, 4, 1)),
        (datetime(2026, 12, 31, tzinfo=UTC), (2027, 1, 1), (2027, 1, 1)),
        (datetime(2024, 10, 30, tzinfo=UTC), (2024, 11, 1), (2025, 1, 1)),
    ],
)
def test_days_of_review(after, monthly, quarterly):
    assert next_review(after, 1) == datetime(*monthly, tzinfo=UTC)
    assert next_review(after, 3) == datetime(*quarterly, tzinfo=UTC)


def test_static_access_of_others_is_not_made_up():
    found = count([replace(pay_bill(10, 20), agent="spiffe://remit.test/agent/other"), pay_bill(10, 20)], at(30), at(40))
    assert (found.credentials, found.privileges, found.excesses, found.tasks) == ((), (), (), 0)

"""Laws of a lease's life (``logic/leases.py``): it hangs on its task, never comes back, and always has a next moment until it is gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.errors import Broken, Conflict
from remit.logic.leases import check_lease, due_at
from remit.logic.life import fold
from remit.model.lease import LEASE_MOVES, MINT_WINDOW, STUCK_RETRY, LeaseState
from remit.model.record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseRevoking, LeaseStuck, Record, TaskMoved
from remit.model.task import TASK_MOVES, TaskState
from tests.support import NOW, task

IDS = ("lease_a", "lease_b", "lease_c")
MOVES = {LeaseIssued: LeaseState.ISSUED, LeaseRevoked: LeaseState.REVOKED, LeaseStuck: LeaseState.STUCK, LeaseRevoking: LeaseState.REVOKING}
BODIES = st.one_of(
    st.builds(
        LeaseIntended, lease=st.sampled_from(IDS), name=st.just("x"), target=st.just("x"), mark=st.just("m"), expires_at=st.just(NOW)
    ),
    st.builds(LeaseIssued, lease=st.sampled_from(IDS)),
    st.builds(LeaseRevoking, lease=st.sampled_from(IDS), by=st.just("alice")),
    st.builds(LeaseRevoked, lease=st.sampled_from(IDS)),
    st.builds(LeaseStuck, lease=st.sampled_from(IDS)),
    st.builds(TaskMoved, to=st.sampled_from([state.value for state in TaskState]), by=st.just("alice")),
)


@given(st.lists(st.tuples(BODIES, st.integers(0, 90)), max_size=40))
def test_leases_follow_their_table_and_their_task(steps):
    now, held = NOW, task(seq=1)
    for body, seconds in steps:
        now += timedelta(seconds=seconds)
        before = held
        try:
            held = fold(held, Record(at=now, body=body, task=held.id, seq=held.seq + 1), b"leaf")
        except Broken:
            assert not _may(before, body)
            continue
        assert _may(before, body)
        for lease in held.leases.values():
            was = before.leases.get(lease.id)
            assert was is None or was.state is lease.state or lease.state in LEASE_MOVES[was.state]
            if held.state is not TaskState.ACTIVE:
                assert not lease.live or lease.ending, "nothing outlives its task, nor works while that is suspended"
            if lease.live:
                latest = max(now, lease.expires_at, lease.intended_at + MINT_WINDOW) + STUCK_RETRY
                assert due_at(lease) <= latest, "somebody comes to every lease"
            if lease.ending and lease.issued_at is None:
                assert due_at(lease) >= lease.intended_at + MINT_WINDOW, "its mint may be under way"


def _may(before, body) -> bool:
    if isinstance(body, TaskMoved):
        return TaskState(body.to) in TASK_MOVES[before.state]
    if isinstance(body, LeaseIntended):
        return before.state is TaskState.ACTIVE and body.lease not in before.leases
    to = MOVES[type(body)]
    try:
        check_lease(before, body.lease, to)
    except Conflict:
        return False
    return True


def test_every_lease_reaches_an_end_and_none_returns():
    assert LEASE_MOVES[LeaseState.REVOKED] == frozenset()
    for state in LeaseState:
        reached, todo = set(), [state]
        while todo:
            for other in LEASE_MOVES[todo.pop()] - reached:
                reached.add(other)
                todo.append(other)
        assert state is LeaseState.REVOKED or LeaseState.REVOKED in reached
        assert state not in reached


def test_a_lease_that_is_not_there_moves_nowhere():
    for to in LeaseState:
        with pytest.raises(Conflict):
            check_lease(replace(task()), "lease_none", to)

"""Laws of a lease's life (``logic/leases.py``): it hangs on its task, never comes back, and always has a next moment until it is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.errors import Broken, Conflict
from remit.logic.leases import check_lease, due_at, in_use
from remit.logic.life import fold
from remit.model.lease import LEASE_MOVES, LEASE_ORDER, MINT_WINDOW, ROTATION_GRACE, STUCK_RETRY, LeaseState
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseRevoking, LeaseStuck
from remit.model.record import Record, TaskMoved
from remit.model.task import TASK_MOVES, TaskState, amended
from remit.model.tripwire import Place, SecretFound
from tests.support import NOW, task

IDS = ("lease_a", "lease_b", "lease_c")
MOVES = {LeaseIssued: LeaseState.ISSUED, LeaseRevoked: LeaseState.REVOKED, LeaseStuck: LeaseState.STUCK, LeaseRevoking: LeaseState.REVOKING}
BODIES = st.one_of(
    st.builds(
        LeaseIntended,
        lease=st.sampled_from(IDS),
        name=st.just("x"),
        target=st.just("x"),
        mark=st.just("m"),
        expires_at=st.just(NOW),
        replaces=st.sampled_from(("", *IDS)),
    ),
    st.builds(SecretFound, names=st.just(["x"]), leases=st.just(["lease_a"]), place=st.sampled_from([place.value for place in Place])),
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
            if lease.state is LeaseState.ISSUED and lease.replaced_at is not None:
                assert due_at(lease) <= lease.replaced_at + ROTATION_GRACE, "what was replaced goes soon"
                assert lease not in in_use(held), "and is given to nobody"
            if lease.ending and lease.issued_at is None:
                assert due_at(lease) >= lease.intended_at + MINT_WINDOW, "its mint may be under way"


def _may(before, body) -> bool:
    if isinstance(body, TaskMoved):
        return TaskState(body.to) in TASK_MOVES[before.state]
    if isinstance(body, SecretFound):
        return TaskState.SUSPENDED in TASK_MOVES[before.state]
    if isinstance(body, LeaseIntended):
        return before.state is TaskState.ACTIVE and body.lease not in before.leases
    to = MOVES[type(body)]
    try:
        check_lease(before, body.lease, to)
    except Conflict:
        return False
    return True


def test_a_new_credential_takes_the_place_of_the_old_one_once_it_is_there():
    held = task(seq=1)

    def then(held, body):
        return fold(held, Record(at=NOW, body=body, task=held.id, seq=held.seq + 1), b"leaf")

    def intended(lease, replaces=""):
        return LeaseIntended(lease=lease, name="x", target="x", mark="m", expires_at=NOW + 2 * ROTATION_GRACE, replaces=replaces)

    held = then(then(held, intended("lease_a")), LeaseIssued(lease="lease_a"))
    held = then(held, intended("lease_b", replaces="lease_a"))
    assert [lease.id for lease in in_use(held)] == ["lease_a"], "a mint that fails takes nothing away"
    held = then(held, LeaseIssued(lease="lease_b"))
    assert [lease.id for lease in in_use(held)] == ["lease_b"]
    assert due_at(held.leases["lease_a"]) == NOW + ROTATION_GRACE
    assert due_at(held.leases["lease_b"]) == NOW + 2 * ROTATION_GRACE


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


def test_a_lease_only_moves_on():
    for state, others in LEASE_MOVES.items():
        assert all(LEASE_ORDER.index(other) > LEASE_ORDER.index(state) for other in others)


def test_a_lease_that_is_not_there_moves_nowhere():
    for to in LeaseState:
        with pytest.raises(Conflict):
            check_lease(amended(task()), "lease_none", to)

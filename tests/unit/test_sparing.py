"""So many a minute are written down, the rest is counted, whoever else is refused meanwhile."""

from __future__ import annotations

from datetime import timedelta

from remit.services.sparing import PER_MINUTE, Sparing
from tests.support import NOW


def test_so_many_a_minute_and_the_rest_counted():
    sparing = Sparing()
    assert [sparing.admit("a", NOW) for _ in range(PER_MINUTE)] == [0] * PER_MINUTE
    assert [sparing.admit("a", NOW) for _ in range(5)] == [None] * 5
    assert sparing.admit("b", NOW) == 0, "whoever is refused often hides nobody"
    assert sparing.admit("a", NOW + timedelta(seconds=59)) is None
    assert sparing.admit("a", NOW + timedelta(seconds=60)) == 6
    assert sparing.admit("a", NOW + timedelta(seconds=60)) == 0


def test_keys_are_bounded_and_nothing_is_lost():
    sparing = Sparing()
    for _ in range(PER_MINUTE + 3):
        sparing.admit("quiet", NOW)
    told = [sparing.admit(f"key {number}", NOW) for number in range(1_000)]
    assert sum(one or 0 for one in told) == 3

"""The law of parts (``logic/lease_parts.py``): no task has a part of a scope that one above it has not, whatever its own grant says."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from remit.logic.lease_parts import divides, joined, parts_held, scope_of
from remit.logic.leases import exceeding
from remit.model.lease import LeasePart, LeaseTerms
from tests.support import grant, task

TOOLS = ("db/a", "db/b", "db/c", "api/a")
SCHEMAS = ("", '{"properties":{"t":{"const":1}}}', '{"properties":{"t":{"enum":[1,2]}}}', '{"properties":{"u":{"const":3}}}', '{"not":{}}')
ARGUMENTS = ("", '{"t":1}', '{"t":2}', '{"t":1,"u":3}')
PARTS = st.lists(
    st.builds(
        LeasePart,
        tools=st.lists(st.sampled_from(TOOLS), min_size=1, max_size=2).map(tuple),
        scope=st.sampled_from(("a", "b")).map(lambda name: json.dumps({"tables": [name]})),
        arguments=st.sampled_from(ARGUMENTS),
    ),
    min_size=1,
    max_size=4,
)
LINES = st.lists(
    st.builds(
        lambda name, schema, uses, of: replace(grant(name, arguments=schema, uses=uses), of=of),
        st.sampled_from((*TOOLS, "db/*")),
        st.sampled_from(SCHEMAS),
        st.sampled_from((None, 0, 3)),
        st.integers(-1, 3),
    ),
    max_size=4,
).map(tuple)


def terms(parts: list[LeasePart]) -> LeaseTerms:
    return LeaseTerms(name="x", target="x", scope='{"vhost":"v"}', parts=tuple(parts))


@given(PARTS, st.lists(LINES, min_size=2, max_size=4))
def test_no_part_that_is_not_held_above(parts, chain):
    below, *above = [task(grants=lines) for lines in chain]
    held = parts_held(terms(parts), below, above)
    for number, one in enumerate(above):
        assert set(held) <= set(parts_held(terms(parts), one, above[number + 1 :]))
    assert set(held) <= set(parts_held(terms(parts), below, ())), "nor one that its own grant is not for"
    mine, parents = (
        json.loads(scope_of(terms(parts), some))["tables"] if some else [] for some in (held, parts_held(terms(parts), above[0], above[1:]))
    )
    assert set(mine) <= set(parents)


@given(PARTS, LINES, st.integers(0, 3))
def test_to_take_a_line_away_gives_no_part(parts, lines, dropped):
    narrower = tuple(replace(line, uses=0) if number == dropped else line for number, line in enumerate(lines))
    before, after = (parts_held(terms(parts), task(grants=some), ()) for some in (lines, narrower))
    assert set(after) <= set(before)


def test_a_line_needs_the_tool_and_room_for_the_arguments():
    one = terms([LeasePart(tools=("db/a",), scope="{}", arguments='{"t":2}')])
    for schema, held in (
        ("", (0,)),
        ('{"properties":{"t":{"enum":[1,2]}},"required":["t","u"]}', (0,)),
        ('{"properties":{"t":{"const":1}}}', ()),
    ):
        assert parts_held(one, task(grants=(grant("db/a", arguments=schema),)), ()) == held
    assert parts_held(one, task(grants=(grant("db/b"), grant("api/a"))), ()) == ()
    assert parts_held(one, task(grants=(grant("db/*"),)), ()) == (0,)
    assert exceeding(task(grants=())) == ()


def test_parts_are_joined_and_say_nothing_twice():
    assert joined({"vhost": "v", "a": [1]}, [{"a": [1, 2]}, {"b": [3]}, {"b": [3]}]) == {"vhost": "v", "a": [1, 2], "b": [3]}
    assert scope_of(LeaseTerms(name="x", target="x", scope='{"b": 1}'), ()) == '{"b": 1}', "without parts it is what was recorded"


def test_what_says_nothing_divides_by_itself():
    parent = task(grants=(grant("db/a"), grant("db/b")))
    own = (replace(grant("db/a"), of=0),)
    assert divides(LeaseTerms(name="x", target="x", scope="{}"), parent, own, {"db"})
    assert not divides(LeaseTerms(name="x", target="x", scope='{"a":[1]}'), parent, own, {"db"})
    assert divides(LeaseTerms(name="x", target="x", scope='{"a":[1]}'), parent, (*own, replace(grant("db/b", uses=1), of=1)), {"db"})

"""What is mined covers every call that it was mined from, and is a grant that the configuration takes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.logic.arguments import make_call
from remit.logic.grants import covering_line
from remit.logic.mining import Used, mined_grant
from remit.logic.mining_text import grant_text, patch, proposed_type
from remit.logic.schema_words import unenforced
from remit.logic.task_types import open_grant, sample_arguments
from remit.model.budget import Budget
from remit.model.catalog import Kind, PinnedTool
from remit.model.task import amended
from remit.model.task_type import Input, TaskType
from tests.support import facts, rulebook, task

RULES = rulebook()

OPEN = PinnedTool(server="s", name="t", digest="sha-256:t", input_schema={"type": "object", "additionalProperties": True})
NAMES = st.sampled_from(["a", "b", "to", "path", "odd key", "{who}", '"'])
PLACES = ["{who}", "bob", "/data/a/1.txt", "/data/a/2.txt", "/data/../x", "/data/b/", "x@a.example", "y@a.example", "a\n", "/a/b\n"]
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(PLACES))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.floats(-1e6, 1e6), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(NAMES, st.one_of(VALUES, TEXTS), max_size=3)
WORK = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["t", "u"]), ARGUMENTS), min_size=1, max_size=12)


def task_type(grants=()) -> TaskType:
    return TaskType(
        name="x",
        objective="x",
        inputs=(Input(name="who", schema={"type": "string"}),),
        grants=tuple(grants),
        data_ceiling="public",
        deadline=timedelta(minutes=1),
        budget=Budget(calls=1),
    )


def used(number: int, name: str, arguments, who: str = "bob", kind: Kind = Kind.TOOL) -> Used:
    return Used(task=f"task_{number}", inputs={"who": who}, kind=kind, server="s", name=name, arguments=arguments)


def covers(lines, calls) -> bool:
    """Whether each task, making its calls in order, stays within a grant of these lines."""
    for one in {call.task for call in calls}:
        mine = [call for call in calls if call.task == one]
        grants = open_grant(task_type(lines), mine[0].inputs)
        uses = [0] * len(grants)
        for call in mine:
            at = amended(task(*grants), uses=tuple(uses))
            pinned = replace(OPEN, name=call.name) if call.kind is Kind.TOOL else None
            wanted = make_call(call.kind, "s", call.name, call.arguments or {})
            line = covering_line(facts(at, wanted, RULES, pinned=pinned), approved=False)
            if not isinstance(line, int):
                return False
            uses[line] += 1
    return True


@settings(max_examples=300, deadline=None)
@given(WORK)
def test_a_mined_grant_covers_what_it_was_mined_from(work):
    calls = [used(number, name, arguments) for number, name, arguments in work]
    lines = mined_grant(calls)
    assert covers(lines, calls)
    for line in lines:
        assert list(unenforced(line.arguments)) == []
        sample_arguments(line.arguments, task_type().inputs)
    read = tomllib.loads(grant_text(lines))["grant"]
    assert [(table["tool"], table["uses"], table.get("arguments", {})) for table in read] == [
        (f"s/{line.name}", line.uses, line.arguments) for line in lines
    ]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (["bob", "bob"], {"const": "{who}"}),
        (["x", "x"], {"const": "x"}),
        (["x", "y"], {"enum": ["x", "y"]}),
        (list(range(3, 10)), {"type": "integer", "minimum": 3, "maximum": 9}),
        ([0.5, 1.5, 2.5, 3.5, 4.5, 5.5], {"type": "number", "minimum": 0, "maximum": 6}),
        ([f"/data/in/{n}.txt" for n in range(6)], {"within": "/data/in"}),
        ([f"/{n}.txt" for n in range(6)], {"type": "string", "maxLength": 6}),
        ([f"p{n}@a.example" for n in range(6)], {"type": "string", "pattern": r"^[^@\s]+@a\.example$"}),
        ([True, False], {"enum": [True, False]}),
        (["{who}", "{who}"], {"type": "string", "maxLength": 5}),
        ([["a"], ["b", "c"], ["d"], ["e"], ["f"], ["g"]], {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 1}}),
    ],
)
def test_what_is_made_of_values(values, rule):
    (line,) = mined_grant([used(number, "t", {"a": value}) for number, value in enumerate(values)])
    assert line.arguments == {"properties": {"a": rule}, "additionalProperties": False}
    assert line.uses == 1


def test_an_input_that_differs_between_tasks_is_still_the_input():
    calls = [used(1, "t", {"a": "bob"}), used(2, "t", {"a": "eve"}, who="eve")]
    (line,) = mined_grant(calls)
    assert line.arguments["properties"] == {"a": {"const": "{who}"}}
    assert covers((line,), calls)
    assert not covers((line,), [used(1, "t", {"a": "eve"})])


def test_an_argument_that_was_never_given_is_closed_and_uses_are_counted():
    lines = mined_grant([used(1, "t", {"a": 1}), used(1, "t", {"a": 1}), used(2, "t", {"a": 1, "b": 2})])
    assert [(sorted(line.arguments["properties"]), line.uses) for line in lines] == [(["a"], 2), (["a", "b"], 1)]
    assert not covers(lines, [used(1, "t", {"a": 1, "c": 2})])
    assert not covers(lines, [used(1, "t", {"a": 1})] * 3)


def test_resources_become_their_uris_or_what_all_begin_with():
    few = [used(1, f"note://{name}", {"uri": f"note://{name}"}, kind=Kind.RESOURCE) for name in "ab"]
    assert [line.name for line in mined_grant(few)] == ["note://a", "note://b"]
    many = [used(1, f"note://in/{name}", {"uri": f"note://in/{name}"}, kind=Kind.RESOURCE) for name in "abcdefg"]
    (line,) = mined_grant(many)
    assert line.name == "note://in/*"
    assert covers((line,), many)


def test_only_the_grant_ceiling_and_budget_of_a_file_change():
    before = """# what it is for
objective = "Pay {who}"
data_ceiling = "restricted"  # too high
budget = { calls = 200 }
[[grant]]
tool = "s/t"
[[grant]]
tool = "s/unused"
[grant.arguments]
x = 1
[inputs.who]
type = "string"
"""
    after = proposed_type(before, mined_grant([used(1, "t", {})]), "internal", 3)
    assert tomllib.loads(after) == {
        "objective": "Pay {who}",
        "data_ceiling": "internal",
        "budget": {"calls": 3},
        "grant": [{"tool": "s/t", "uses": 1, "arguments": {"additionalProperties": False}}],
        "inputs": {"who": {"type": "string"}},
    }
    assert "# what it is for" in after
    assert "# too high" in after
    difference = patch({"tasks/x.toml": before}, {"tasks/x.toml": after})
    assert difference.startswith("--- a/tasks/x.toml\n+++ b/tasks/x.toml\n")
    assert '-tool = "s/unused"\n' in difference

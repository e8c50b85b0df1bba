"""Made-up values fit the schemas that tools have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.logic.made_up import arguments_for, fits, made_up
from remit.logic.made_up_text import matching
from remit.logic.task_types import within_pattern

_BOUNDS = st.integers(-1_000, 1_000)
LEAVES = st.one_of(
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span}, _BOUNDS, st.integers(0, 50)),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low}, _BOUNDS),
    st.builds(lambda high: {"type": "number", "maximum": high}, _BOUNDS),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, st.integers(0, 30), st.integers(0, 30)
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.text("abc", max_size=3) | st.integers(-5, 5), min_size=1, max_size=3)),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": 7}, {"type": "string", "pattern": "^B-"}]
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda rule, least: {"type": "array", "items": rule, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(
            lambda rules: {"type": "object", "properties": rules, "required": sorted(rules)},
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@given(SCHEMAS)
def test_a_made_up_value_fits_its_schema(schema):
    assert fits(schema, made_up(schema))


@pytest.mark.parametrize("folder", ["/srv/docs", "/srv/a.b (c)", "docs"])
def test_a_path_below_a_folder(folder):
    schema = {"type": "string", "pattern": within_pattern(folder)}
    assert fits(schema, made_up(schema))


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+\\.md$",
        "^B-[0-9]{4}-(x|y)$",
        "^https?://",
        "^(?:EUR|USD) \\d+$",
        "^[^/]+/[\\w.-]+$",
        "^\\S{3,}$",
        "^a.c$",
        "x*",
        "^[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){3,7}$",
    ],
)
def test_a_text_for_a_pattern(pattern):
    schema = {"type": "string", "pattern": pattern}
    assert fits(schema, made_up(schema))


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_pattern_breaks_it(pattern):
    assert isinstance(matching(pattern), str)


def test_a_pattern_that_repeats_without_end_costs_nothing():
    assert len(matching("(" * 50 + "a{1000}" + "){1000}" * 50)) <= 1_000


def test_values_that_must_come_from_the_task_are_taken_from_there():
    schema = {
        "type": "object",
        "properties": {"to": {"type": "string", "origin": ["task"]}, "amount": {"type": "integer", "maximum": 5}},
        "required": ["to", "amount"],
    }
    assert arguments_for(schema, [3, "bob"]) == {"to": "bob", "amount": 1}


def test_what_is_optional_is_left_out_unless_it_is_wanted():
    schema = {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a"]}
    assert arguments_for(schema) == {"a": 1}
    assert arguments_for(schema, wanted=("b",)) == {"a": 1, "b": 2}


def test_alternatives_of_a_grant_are_tried_by_the_first():
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "anyOf": [{"properties": {"path": {"const": "/a"}}, "required": ["path"]}, {"properties": {"path": {"const": "/b"}}}],
    }
    assert arguments_for(schema) == {"path": "/a"}

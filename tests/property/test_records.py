"""Records are canonical JSON, and come back as they were."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.errors import Mistake
from remit.logic.arguments import check_json, digest_bytes, digest_json, parse_json
from remit.logic.records import decode, encode
from remit.model.call_record import CallDecided, ReasonLine
from remit.model.record import GrantLine, Record, TaskOpened
from tests.support import NOW

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.one_of(TEXT, WHOLE, st.booleans(), st.none())
KEYS = st.text("abcdefghijklmnopqrstuvwxyz_0123456789/.-", min_size=1, max_size=12)
OPENED = st.builds(
    TaskOpened,
    type=TEXT,
    agent=TEXT,
    on_behalf_of=TEXT,
    opened_by=TEXT,
    objective=TEXT,
    inputs=st.dictionaries(KEYS, VALUES, max_size=5),
    grants=st.lists(st.builds(GrantLine, kind=TEXT, server=TEXT, name=TEXT, arguments=TEXT, uses=st.none() | WHOLE), max_size=3),
    tools=st.dictionaries(KEYS, TEXT, max_size=4),
    ceiling=TEXT,
    budget_calls=WHOLE,
    deadline=st.just(NOW),
)
DECIDED = st.builds(
    CallDecided,
    decision=TEXT,
    agent=TEXT,
    outcome=TEXT,
    tool_kind=TEXT,
    server=TEXT,
    name=TEXT,
    arguments_digest=TEXT,
    reasons=st.lists(st.builds(ReasonLine, code=TEXT, where=TEXT), max_size=3),
    policies=st.lists(TEXT, max_size=3),
    approval_expires_at=st.none() | st.just(NOW),
)


@given(OPENED | DECIDED, st.integers(0, 10**6), st.timedeltas(timedelta(0), timedelta(days=9)), st.none() | TEXT)
def test_a_record_is_canonical_json_and_comes_back(body, seq, later, task):
    record = Record(at=NOW + later, body=body, task=task, seq=seq)
    data = encode(record)
    assert data == rfc8785.dumps(json.loads(data))
    assert decode(data) == record


@given(st.dictionaries(KEYS | TEXT, VALUES, max_size=8))
def test_the_quick_digest_of_plain_arguments_is_that_of_jcs(arguments):
    assert digest_json(arguments) == digest_bytes(rfc8785.dumps(arguments))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(VALUES | FLOATS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(JSON)
def test_strict_parsing_agrees_with_the_ordinary_one(value):
    text = json.dumps(value)
    assert parse_json(text.encode()) == json.loads(text)


PIECES = (
    *'{}[],:" ',
    '"a":',
    '"a"',
    '{"a":',
    '"é"',
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\/"',
    '"\\u0000"',
    '"\x7f"',
    "null",
    "NaN",
    "Infinity",
    "true",
    *("0", "-0", "-0.0", "1.0", "1e5", "1e300", "1e400", "0.1", "5e-324", "0.10000000000000001", "9" * 17, "9" * 20, "9" * 40),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | JSON.map(lambda value: json.dumps(value, separators=(",", ":")))


def read(text, **limits):
    try:
        return repr(parse_json(text.encode(), **limits))
    except Mistake as mistake:
        return mistake.code


@settings(max_examples=1_000)
@given(TEXTS, st.sampled_from(("{}", "[{},{}]", '{{"a":{},"a":{}}}', '{{"a":{},"b":{}}}')), TEXTS, st.integers(1, 4))
def test_a_text_that_is_read_quickly_means_what_a_careful_reading_says(one, form, other, depth):
    """A space before it makes no difference, and leaves only the careful reading."""
    text = form.format(one, other)
    assert read(text) == read(" " + text)
    assert read(text, depth_max=depth) == read(" " + text, depth_max=depth)


def test_the_published_digest_of_parameters():
    """The test vector of the mission runtime draft."""
    parameters = {"account": "****4417", "amount": "9000.00", "currency": "USD", "payee": "Acme Supply Co"}
    assert digest_json(parameters) == "sha-256:e7GXd0GWwOK2ezlb0CfUeYhjYOF1DE68_Gg0ofbr7do"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"[NaN]",
        b"[Infinity]",
        b"[1e400]",
        b"[-1e400]",
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'["\xff"]',
        b'["\\ud800"]',
        b'{"\\udc00":1}',
        b"[" + b"9" * 5_000 + b"]",
        b"",
        b"{} {}",
    ],
)
def test_ambiguous_json_is_refused(text):
    with pytest.raises(Mistake):
        parse_json(text)


def test_too_much_is_refused_before_it_is_read():
    with pytest.raises(Mistake) as caught:
        parse_json(b" " * 101, bytes_max=100)
    assert caught.value.code == "too_large"


def test_numbers_that_two_readers_see_differently_have_no_digest():
    for value in (2**53, -(2**53), 10**30):
        with pytest.raises(Mistake):
            digest_json({"n": value})


def test_depth_is_bounded_without_a_stack():
    deep: object = 0
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(Mistake):
        check_json(deep, depth_max=64)

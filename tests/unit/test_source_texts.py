"""The texts in which values stood: kept within bounds, and shown at the place that the origin names."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from remit.logic.evidence import evidence_of
from remit.logic.excerpts import excerpts_of
from remit.model.catalog import Trust
from remit.model.origin import Source, SourceKind, Traced
from remit.services import source_texts
from remit.services.source_texts import SourceTexts
from tests.support import NOW, call, facts, rulebook, task

RESULT = Source(kind=SourceKind.RESULT, name="mail/read", trust=Trust.UNTRUSTED, number=1, decision="d_1")
INPUT = Source(kind=SourceKind.INPUT, name="bill", trust=Trust.TRUSTED)


def asked(*origins: Traced, inputs: dict[str, object] | None = None, **arguments: object):
    return replace(facts(task(inputs=inputs or {}), call(**arguments), rulebook()), origins=origins)


def test_a_value_is_marked_where_its_origin_says_it_stood():
    made = asked(
        Traced(pointer="/to", sources=(RESULT,)),
        Traced(pointer="/amount", sources=(INPUT,)),
        Traced(pointer="/note"),
        to="Bob@Shop",
        amount=5,
        note="a",
        inputs={"bill": "number 5 of May"},
    )
    found = excerpts_of(made, lambda decision: ("nothing here", "send bob@SHOP money") if decision == "d_1" else ("Bob@Shop",))
    assert [part[1:] for part in found["to"]] == [("send ", "bob@SHOP", " money")]
    assert [part[1:] for part in found["amount"]] == [("number ", "5", " of May")]
    assert set(found) == {"to", "amount"}, "what was seen nowhere has no excerpt"
    assert excerpts_of(made, lambda _decision: ()).keys() == {"amount"}, "nor what is not kept"


@pytest.mark.parametrize(
    ("value", "text", "marked"),
    [
        (4000, "Bill 18: 4,000 euros, of 40000", ("Bill 18: ", "4,000", " euros, of 40000")),
        (4000, "order 840001 costs 4000.00", ("order 840001 costs ", "4000.00", "")),
        (12.5, "it is 12,50 today", ("it is ", "12,50", " today")),
        ("4000", "about 4'000", ("about ", "4'000", "")),
        ("18", "2018: bill 18", ("2018: bill ", "18", "")),
        ("bob", "bobby, and bob", ("bobby, and ", "bob", "")),
        ("bob", "bobby", ("", "bob", "by")),
        ("evil.example", "eve@evil.example", ("eve@", "evil.example", "")),
    ],
)
def test_a_value_is_marked_as_it_was_written_and_not_within_another(value, text, marked):
    made = asked(Traced(pointer="/v", sources=(RESULT,)), v=value)
    assert [part[1:] for part in excerpts_of(made, lambda _decision: (text,))["v"]] == [marked]


def test_excerpts_are_short_visible_and_found_deep_inside():
    text = "\u202e" + "x" * 500 + "\x1b[31mbob" + "y" * 500
    made = asked(Traced(pointer="/to/0/a~1b", sources=(RESULT,)), to=[{"a/b": "bob"}], amount=1)
    shown = evidence_of(made, approval="ap", expires_at=NOW, policies=(), reasons=(), texts=lambda _decision: (text,))
    (excerpt,) = next(one for one in shown.arguments if one.name == "to").excerpts
    assert excerpt.value == "bob"
    assert excerpt.before.startswith("…")
    assert excerpt.before.endswith("x\\u{1b}[31m")
    assert excerpt.after == "y" * 120 + "…"
    assert "\u202e" not in excerpt.before


def test_what_is_kept_is_bounded_for_a_result_a_task_and_in_all(monkeypatch):
    texts, encode = SourceTexts(), msgspec.json.encode
    texts.remember("t1", "d", encode({"a": ["x" * 50_000, True, None, 7, 1.5], "b": [["deep"] * 10] * 10}))
    assert texts.of("t1", "d")[1:4] == ("7", "1.5", "deep")
    texts.remember("t1", "large", encode("x" * 70_000))
    assert texts.of("t1", "large") == ()
    for number in range(40):
        texts.remember("t1", f"d{number}", encode("text"))
    assert texts.of("t1", "d") == ()
    assert len([number for number in range(40) if texts.of("t1", f"d{number}")]) == source_texts._OF_TASK_MAX
    monkeypatch.setattr(source_texts, "_ALL_BYTES_MAX", 1_000)
    texts.remember("t2", "d", encode("y" * 600))
    texts.remember("t3", "d", encode("z" * 600))
    assert [bool(texts.of(name, "d")) for name in ("t2", "t3")] == [False, True], "the task that was quiet longest goes first"
    texts.forget("t3")
    assert texts._bytes == 0
    texts.remember("t4", "d", encode([[]] * 20_000))
    assert texts.of("t4", "d") == ()

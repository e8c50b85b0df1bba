"""What approvers are shown: nothing hidden, nothing dangerous, and what differs."""

from __future__ import annotations

import unicodedata
from dataclasses import fields
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from remit.logic.evidence import evidence_lines, evidence_of, visible
from remit.model.approver import Terms
from remit.model.catalog import Trust
from remit.model.origin import Source, SourceKind, Traced
from tests.support import NOW, call, facts, rulebook, task

RULES = rulebook()


def evidence(wanted, earlier=(), origins=(), **changes):
    of = task(**changes)
    return evidence_of(
        facts(of, wanted, RULES, terms=Terms(needed=2), origins=origins),
        approval="apr_1",
        expires_at=NOW + timedelta(minutes=5),
        policies=("approved",),
        reasons=("because",),
        earlier=earlier,
    )


def shown(made, name):
    return next(one for one in made.arguments if one.name == name)


@given(st.text(st.characters(codec=None), max_size=700))
def test_nothing_is_hidden_in_what_is_shown(text):
    line = visible(text)
    assert all(unicodedata.category(character)[0] not in "CZ" or character == " " for character in line)
    assert len(line) <= 601


def test_terminals_and_readers_are_not_fooled():
    made = evidence(call(to="b\u200bob\x1b[2J\u202egro.live", amount=50, note="line\r\nline"), objective="\x1b]0;x\x07")
    for line in evidence_lines(made):
        assert line.isprintable(), line
    assert shown(made, "to").value == '"b\\u{200b}ob\\u001b[2J\\u{202e}gro.live"'


def test_letters_that_look_like_others_are_named():
    made = evidence(call(to="b\u043eb", amount=50))
    assert any("U+043E" in note for note in shown(made, "to").notes)
    assert shown(evidence(call(to="bob", amount=50)), "to").notes == ()


def test_long_values_are_cut_with_length_and_digest():
    made = shown(evidence(call(to="bob", amount=50, note="x" * 5_000)), "note")
    assert made.value.endswith("…")
    assert len(made.value) <= 601
    assert "5,002 characters" in made.notes[0]
    assert "sha-256:" in made.notes[0]


def test_what_differs_from_earlier_calls_is_said():
    earlier = [{"to": "bob", "amount": 1, "extra": 1}, {"to": "bob", "amount": 2, "extra": 2}]
    made = evidence(call(to="bob", amount=2, note="new"), earlier)
    assert shown(made, "to").before == "same as in all 2 earlier calls"
    assert shown(made, "amount").before == "same as in 1 of 2 earlier calls"
    assert shown(made, "note").before == "new: in the latest of 2 earlier calls it was not given"
    assert made.gone == ("extra",)
    assert shown(evidence(call(to="eve", amount=2), earlier), "to").before.endswith('it was "bob"')


def test_where_each_part_comes_from_is_said_strange_ones_first():
    known = Source(kind=SourceKind.INPUT, name="payee", trust=Trust.TRUSTED)
    mail = Source(kind=SourceKind.RESULT, name="mail/read", trust=Trust.UNTRUSTED, number=2)
    many = tuple(Traced(pointer=f"/note/{number}", sources=(known,)) for number in range(8))
    origins = (Traced(pointer="/to", sources=(known,)), *many, Traced(pointer="/note/8", sources=(mail,)))
    made = evidence(call(to="bob", amount=50, note="x"), origins=origins)
    assert shown(made, "to").origins == ("/to stands in the task's input payee",)
    assert shown(made, "amount").origins == ()
    first, *_, last = shown(made, "note").origins
    assert first == "/note/8 first appeared in result 2 of this task, from mail/read, written by a stranger"
    assert last == "and 4 more parts of it"


def test_many_arguments_are_counted_not_listed():
    made = evidence(call(**{f"a{number:03}": number for number in range(100)}))
    assert (len(made.arguments), made.left_out) == (40, 60)
    assert all(getattr(made, one.name) is not None for one in fields(made))

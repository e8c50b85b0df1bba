"""What strangers wrote does nothing in a terminal, in lines for people and in JSON alike."""

from __future__ import annotations

import json

import pytest

from remit.cli.common import json_text, safe

HOSTILE = "a\x1b[2J\x07\x7f\x9b31m\u202e\u200b\u2066\ufeff\u2028\U000e0041\U0001f600\tb"


def test_a_line_for_people_hides_nothing_and_moves_nothing():
    assert safe(HOSTILE) == r"a\x1b[2J\x07\x7f\x9b31m\u202e\u200b\u2066\ufeff\u2028\U000e0041" + "\U0001f600\tb"
    assert safe("one\ntwo\rthree") == r"one\ntwo\x0dthree"
    assert safe("größer, 4 €: 漢字") == "größer, 4 €: 漢字"


@pytest.mark.parametrize("value", [HOSTILE, {HOSTILE: [HOSTILE]}, "plain", {"a": 1.5, "b": None}])
def test_json_is_the_same_value_in_characters_that_a_terminal_shows(value):
    text = json_text(value)
    assert text.isprintable()
    assert json.loads(text) == value

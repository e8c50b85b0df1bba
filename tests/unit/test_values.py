"""Values in the form in which they are compared, and the tokens of a text."""

from __future__ import annotations

import pytest

from remit.logic.values import leaves, normal, parts, references, stands_in, tokens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (5, "5"),
        (5, 5.0),
        ("98.70", 98.7),
        ("-0", 0),
        ("Bob@Corp.Example", "bob@corp.example"),
        ("WWW.Example.org", "www.example.org"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_the_same_value(one, other):
    assert normal(one) == normal(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob", "Bob"),  # identifiers differ by case
        ("bob", "b\u043eb"),  # a Cyrillic letter that looks alike
        ("bob", "bob\u200b"),  # a space of no width
        ("bob", "\uff42ob"),  # a wide letter
        ("bob", "Ym9i"),  # base64
        ("12", "0012"),  # an account's leading zeros
        ("1e3", 1000),
        ("DE89 3704", "DE893704"),
    ],
)
def test_another_value(one, other):
    assert normal(one) != normal(other)


@pytest.mark.parametrize("nothing", [None, True, False, "", float("nan"), float("inf"), 10**40, "x" * 2_000])
def test_what_is_not_compared(nothing):
    assert normal(nothing) == ""


def test_tokens_of_a_text():
    text = (
        "Please pay 1,234.50 to DE89 3704 0044 0532 0130 00 (Bob@X.com), see https://ex.com/a/b?x=1). "
        "Files: docs/bill.txt, /etc/passwd, C:\\temp\\a.txt. Ask @alice or user_12 in #general about v2."
    )
    found = set(tokens(text))
    assert {
        "n:1234.5",
        "DE89370400440532013000",
        "bob@x.com",
        "x.com",
        "https://ex.com/a/b?x=1",
        "ex.com",
        "docs/bill.txt",
        "/etc/passwd",
        "C:\\temp\\a.txt",
        "@alice",
        "alice",
        "user_12",
        "#general",
        "v2",
    } <= found
    assert not {"Please", "pay", "Files", "Ask"} & found


def test_short_lines_are_values_and_so_are_the_lines_of_a_list():
    assert {"Alice", "Bob Smith"} <= set(tokens("- Alice\n- Bob Smith\n"))


@pytest.mark.parametrize(
    ("text", "made_of"),
    [
        ("a@x.com, b@y.com; C@z.org", ("a@x.com", "b@y.com", "c@z.org")),
        ("a@x.com", ()),
        ("a@x.com and b@y.com", ()),
        ("a@x.com, b@y.com, or whoever", ()),
        ("x" * 2_000, ()),
    ],
)
def test_what_a_text_is_made_of(text, made_of):
    assert parts(text) == made_of


@pytest.mark.parametrize(
    ("value", "text", "stands"),
    [
        ("bob", "pay bob today", True),
        ("bob", "pay bobby", False),
        ("bob", "pay jim_bob", False),
        ("Bob Smith", "Tell Bob Smith.", True),
        ("https://x.y/z", "open https://x.y/z, now", True),
        ("general", "write to #general", True),
        ("Bob", "(Bob)", True),
        ("Bob", "to:Bob, please", True),
        ("/data", "clean /data", True),
        ("www.corp.example", "look at www.corp.example.They have it", True),
        ("www.corp.example", "look at www.corp.example.net", False),
        ("example", "look at A.example", False),
        ("/", "read /data/bill.txt", False),
        (" ", "read it", False),
        ("-", "up - or down", False),
        ("/data", "read /data/bill.txt", False),
        ("bill", "pay 'bill-december.txt'", False),
        ("alice", "write to alice@corp.example", False),
        ("corp.example", "write to alice@corp.example", False),
        ("example", "see corp.example.", False),
        ("x", "see https://corp.example/x", False),
    ],
)
def test_standing_in_a_text(value, text, stands):
    assert stands_in(value, text) is stands


def test_leaves_are_bounded_and_pointed_at():
    assert list(leaves({"a/b": [1, {"c~": "x"}]}, 10)) == [("/a~1b/0", 1), ("/a~1b/1/c~0", "x")]
    with pytest.raises(ValueError, match="too many"):
        list(leaves(list(range(100)), 10))
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="too many"):
        list(leaves(deep, 1_000))


@pytest.mark.parametrize("piece", ["a.", "a@", "a-", "1,", "111,", "/", "~", "a://", "A0", "..", "DE12 AAAA ", "\u00e9", "a+"])
def test_no_text_is_slow_to_read(piece):
    """Catastrophic patterns would not end within the test run's own limit."""
    assert sum(1 for _ in tokens(piece * (60_000 // len(piece)))) >= 0


@pytest.mark.parametrize(
    "text",
    [
        "see a.b.c.d.e.f.g.h.i.j.evil.com/x",
        "see -evil.example/x",
        "see evil.\u0440\u0444 today",
        "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
        "1http://evil.example/x",
        "see evil.example/?d=secret",
        "see evil.example/",
        "see evil.example/#d",
        "http:/evil.example/x",
        "https:\\\\evil.example\\x",
        "xhttps:///evil.example",
        "see evil\u3002example",
        "see " + "a." * 100 + "evil.example",
    ],
)
def test_what_leads_somewhere_is_found_however_it_is_dressed(text):
    assert list(references(text))

"""A leased secret is found however it is dressed, and nothing else is (promise: a leased secret does not leave)."""

from __future__ import annotations

import base64
import itertools
import json
import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.logic.tripwire import SECRET_BYTES_MIN, Tripwire, tripwire

SECRETS = st.text(alphabet=string.ascii_letters + string.digits + "+/=-_!$&%:.@é", min_size=12, max_size=60).filter(
    lambda secret: len(set(secret)) > 5 and any(sign.isdigit() for sign in secret)
)
AROUND = st.text(max_size=40)

DRESSES: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "percent": lambda secret: quote(secret, safe=""),
    "every letter percent": lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "hex with colons": lambda secret: secret.encode().hex(":"),
    "hex of a C string": lambda secret: "".join(f"\\x{byte:02x}" for byte in secret.encode()),
    "hex of a list": lambda secret: ", ".join(f"0x{byte:02x}" for byte in secret.encode()),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    "base64 with something before and after": lambda secret: base64.b64encode(f"user:{secret}!!".encode()).decode(),
    "base64 in lines": lambda secret: base64.encodebytes(secret.encode() * 3).decode(),
    "spaces": lambda secret: " ".join(secret),
    "lines": lambda secret: "\n".join(secret[at : at + 3] for at in range(0, len(secret), 3)),
    "no width": lambda secret: "\u200b".join(secret),
    "soft hyphens": lambda secret: "\u00ad".join(secret),
    "entities": lambda secret: "".join(f"&#{ord(letter)};" for letter in secret),
    "escapes": lambda secret: "".join(f"\\u{ord(letter):04x}" for letter in secret),
    "json in a text": json.dumps,
    "base32": lambda secret: base64.b32encode(secret.encode()).decode(),
    "base32 in small letters, with something after": lambda secret: base64.b32encode(f"{secret}!!".encode()).decode().lower().rstrip("="),
    "base64 twice": lambda secret: base64.b64encode(base64.b64encode(secret.encode())).decode(),
    "base64 for URLs twice": lambda secret: base64.urlsafe_b64encode(base64.urlsafe_b64encode(secret.encode()).rstrip(b"=")).decode(),
    "hex of base64": lambda secret: base64.b64encode(secret.encode()).hex(),
    "HEX of base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).hex(" ").upper(),
    "base64 of UTF-16": lambda secret: base64.b64encode(secret.encode("utf-16-le")).decode(),
    "UTF-16 read as bytes": "\0".join,
    "zeros of JSON": lambda secret: "\\u0000".join(secret),
}


@settings(max_examples=40)
@given(secret=SECRETS, before=AROUND, after=AROUND)
@pytest.mark.parametrize("dress", DRESSES)
def test_a_secret_is_found_in_every_dress(dress: str, secret: str, before: str, after: str) -> None:
    wire = Tripwire([("lease_1", secret)])
    said = DRESSES[dress](secret)
    around = (before, after) if dress not in {"percent twice", "every letter percent", "percent"} else ("", "")
    assert wire.found({"a": [around[0] + " " + said + " " + around[1]]}) == ("lease_1",)


@given(secret=SECRETS, holders=st.integers(2, 5))
def test_whose_it_is_is_told_of_all_who_hold_it(secret: str, holders: int) -> None:
    """A static secret is the same under each lease: whose task has ended must hide nobody else's."""
    names = tuple(f"lease_{number}" for number in range(holders))
    wire = Tripwire([(name, secret) for name in names])
    for dress in ("as it is", "base64", "hex"):
        assert wire.found([DRESSES[dress](secret)]) == names


@given(secret=SECRETS, cuts=st.lists(st.integers(1, 11), min_size=1, max_size=4, unique=True))
def test_a_secret_is_found_in_pieces_of_one_message(secret: str, cuts: list[int]) -> None:
    wire = Tripwire([("lease_1", secret)])
    edges = [0, *sorted(cuts), len(secret)]
    pieces = [secret[begin:end] for begin, end in itertools.pairwise(edges)]
    assert wire.found(pieces) == ("lease_1",)
    assert wire.found({f"k{number}": {"v": piece} for number, piece in enumerate(pieces)}) == ("lease_1",)
    assert wire.found({secret: None}) == ("lease_1",)
    assert wire.found([{"type": "text", "text": piece} for piece in pieces]) == ("lease_1",), "as blocks of a result of MCP"


@given(secrets=st.lists(SECRETS, min_size=1, max_size=4, unique=True), text=st.text(max_size=300))
def test_nothing_else_is_found_and_nothing_is_told(secrets: list[str], text: str) -> None:
    wire = tripwire({f"lease_{number}": [secret] for number, secret in enumerate(secrets)})
    expected = {f"lease_{number}" for number, secret in enumerate(secrets) if "".join(secret.split()) in "".join(text.split())}
    assert expected <= set(wire.found(text))
    if not set(text) & set("%&\\"):  # nothing to decode
        assert set(wire.found(text)) == expected
    assert not any(secret in repr(wire) for secret in secrets)


@given(secret=SECRETS, lines=st.lists(st.text(alphabet=string.ascii_lowercase + " ", max_size=30), min_size=1, max_size=5))
def test_a_log_keeps_its_other_lines(secret: str, lines: list[str]) -> None:
    wire = Tripwire([("lease_1", secret)])
    told = wire.scrubbed("\n".join([*lines, f"password={secret}", *lines]))
    assert not wire.found(told)
    assert secret not in told
    assert wire.scrubbed("\n".join(lines)) == "\n".join(lines)
    split = "\n".join(secret)
    assert not wire.found(wire.scrubbed(split))


def test_what_cannot_be_told_from_chance_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter") as refused:
        Tripwire([("lease_1", "x1y2z3 ")])
    assert "x1y2z3" not in str(refused.value)
    assert SECRET_BYTES_MIN == 8
    assert not Tripwire([])
    assert Tripwire([]).found({"a": "b"}) == ()

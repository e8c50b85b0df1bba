"""What an egress sends is what was decided on, and nothing leads out of its base (promise: a request through the egress)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remit.errors import Mistake
from remit.logic.egress import find_operation, path_segments, read_arguments, read_query
from remit.logic.egress_sent import Incoming, outgoing, returned_headers, within_base
from remit.model.egress import BODY, Content, Egress, Method, Operation

BASE = "https://api.example/v2/eu"
TEXTS = st.text(max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
SCHEMA: dict[str, Any] = {"n": {"type": "integer"}, "b": {"type": "boolean"}, "q": {}}
OPERATIONS = [
    Operation(name="one", method=Method.GET, path=("things", "{id}"), parameters={"id": {}, **SCHEMA}),
    Operation(name="own", method=Method.GET, path=("things", "mine"), parameters=SCHEMA),
    Operation(name="two", method=Method.POST, path=("{kind}", "{id}"), parameters={"kind": {}, "id": {}}, content=Content.JSON),
    Operation(name="all", method=Method.GET, path=("things", ""), parameters=SCHEMA),
]
EGRESS = Egress(name="api", url=BASE, operations={one.name: one for one in OPERATIONS})


def asked_again(url: str) -> tuple[str, str]:
    """Path below the base, and query, as the API would see them."""
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == "https://api.example"
    assert parts.path.startswith("/v2/eu/")
    return parts.path.removeprefix("/v2/eu"), parts.query


@given(kind=TEXTS, identifier=TEXTS, body=VALUES, number=st.integers(-(2**53) + 1, 2**53 - 1), flag=st.booleans(), text=TEXTS)
@example(kind="things", identifier="mine", body={}, number=0, flag=True, text="&=+%;#?/ \u2028")
@example(kind="..", identifier="x/../../y", body={}, number=0, flag=True, text="")
def test_what_is_sent_reads_as_what_was_decided(kind: str, identifier: str, body: Any, number: int, flag: bool, text: str) -> None:
    """The address that is written reads back, strictly, as the same operation with the same arguments."""
    requests = [
        ("GET", f"/things/{quote(identifier, safe='')}", f"n={number}&b={str(flag).lower()}&q={quote(text, safe='')}", b""),
        ("GET", "/things/", f"q={quote(text, safe='')}", b""),
        ("POST", f"/{quote(kind, safe='')}/{quote(identifier, safe='')}", "", json.dumps(body).encode()),
    ]
    for method, path, query, data in requests:
        try:
            found = find_operation(EGRESS, method, path_segments(path))
            if found is None:
                continue
            operation, texts = found
            arguments = read_arguments(operation, texts, read_query(query), "application/json", data)
        except Mistake:
            continue
        sent = outgoing(EGRESS, operation, arguments, {}, data)
        target, asked = asked_again(sent.url)
        again = find_operation(EGRESS, sent.method, path_segments(target))
        assert again is not None
        assert again[0] == operation
        read = read_arguments(operation, again[1], read_query(asked), "application/json", sent.body or b"")
        assert read == arguments
        assert ("id" in arguments) <= (arguments.get("id") == identifier)
        assert arguments.get(BODY) == (body if operation.content is Content.JSON else None)


@given(raw=st.text(alphabet="/.%2eEfF5cC;\\ab0\uff0e\x00?#", max_size=24) | st.text(max_size=24))
@example(raw="/%2e%2e/a")
@example(raw="/a/%2f")
@example(raw="/%EF%BC%8E%EF%BC%8E/")
def test_no_path_leads_elsewhere(raw: str) -> None:
    """A path that is taken means the same to whoever decodes it once, twice or not at all."""
    try:
        segments = path_segments(f"/{raw}")
    except Mistake:
        return
    assert "" not in segments[:-1]
    for segment in segments:
        assert segment.strip(". ") or segment == ""
        assert not set(segment) & set("/\\;%?#\0")
        assert unquote(segment) == segment
    assert path_segments("/" + "/".join(quote(segment, safe="") for segment in segments)) == segments


WORDS = r"https:// http:// // / \ api.example API.example evil.example :443 :8443 @ /v2/eu /v2/eu/ /v2/ .. %2e%2e %2f ?a=b #x things ; ."
PIECES = st.sampled_from([*WORDS.split(), " ", "\t", "\n", "javascript:"])


@given(pieces=st.lists(PIECES, max_size=8), rest=st.text(max_size=10))
@example(pieces=["https://", "API.example", ":443", "/v2/eu/", "things", "?a=b"], rest="")
@example(pieces=["//", "api.example", "/v2/eu/", ".."], rest="/eu/x")
def test_no_location_leads_out_of_the_base(pieces: list[str], rest: str) -> None:
    below = within_base(EGRESS, f"{BASE}/things/5", "".join(pieces) + rest)
    if below is None:
        return
    parts = urlsplit(f"http://remit.example/egress/api{below}")
    assert parts.netloc == "remit.example"
    assert parts.path.startswith("/egress/api/")
    path_segments(parts.path.removeprefix("/egress/api"))
    assert below.isascii()
    assert below.isprintable()


@given(headers=st.dictionaries(st.sampled_from(["etag", "content-type", "set-cookie", "retry-after", "allow", "x-a"]), TEXTS))
def test_headers_that_come_back_hold_no_words(headers: dict[str, str]) -> None:
    returned = returned_headers(Incoming(status=200, headers=headers, body=b""))
    assert returned.keys() <= {"etag", "content-type", "retry-after", "allow"}
    for value in returned.values():
        assert value.isascii()
        assert value.isprintable()
        assert "\n" not in value


@pytest.mark.parametrize(("location", "below"), [("/v2/eu/a?b=c", "/a?b=c"), ("6", "/things/6"), (f"{BASE}/a/", "/a/"), ("/v2/eu", None)])
def test_locations_within_the_base(location: str, below: str | None) -> None:
    assert within_base(EGRESS, f"{BASE}/things/5", location) == below

"""Addresses of clients, documents and verifiers: whatever is asked, nobody is sent where the client has not said beforehand."""

from __future__ import annotations

import base64
import hashlib
import string
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.errors import Mistake, Refusal
from remit.logic.front_channel import check_redirect, is_document_address, read_client, redirect_of, verifier_fits

PIECES = st.lists(
    st.sampled_from(
        [
            *("https", "http", "://", ":", "/", "//", "@", "\\", "?", "#", "%2f", "..", ".", "127.0.0.1", "localhost", "[::1]"),
            *("evil.example", "desk.example", "callback", "80", "99999", "javascript", "com.example.app", "\t", " ", "\u202e", "x" * 40),
        ]
    ),
    max_size=9,
).map("".join)
KNOWN = ("https://desk.example/callback", "http://127.0.0.1/callback", "http://localhost:1/x", "com.example.app:/cb")


@given(asked=PIECES)
def test_nobody_is_sent_elsewhere(asked):
    try:
        to = redirect_of(asked, KNOWN)
    except Refusal:
        return
    if to not in KNOWN:
        split = urlsplit(to)
        assert (split.scheme, split.username, split.fragment) == ("http", None, "")
        assert split.hostname in {"127.0.0.1", "localhost"}
        assert split.path in {"/callback", "/x"}


@given(port=st.integers(1, 65_535))
def test_the_port_of_a_loopback_address_is_the_clients(port):
    assert redirect_of(f"http://127.0.0.1:{port}/callback", KNOWN) == f"http://127.0.0.1:{port}/callback"
    for wrong in (f"https://desk.example:{port}/callback", f"http://127.0.0.1:{port}/callback/", f"https://127.0.0.1:{port}/callback"):
        with pytest.raises(Refusal):
            redirect_of(wrong, KNOWN)


@given(asked=PIECES)
def test_what_may_be_registered_leads_to_one_place(asked):
    try:
        uri = check_redirect(asked)
    except Mistake:
        return
    split = urlsplit(uri)
    assert split.username is None
    assert "#" not in uri
    assert "\\" not in uri
    assert uri.isprintable()
    assert split.scheme == "https" or split.hostname in {"127.0.0.1", "::1", "localhost"} or ("." in split.scheme and not split.netloc)


@given(asked=PIECES)
def test_a_document_is_at_one_address(asked):
    if is_document_address(asked):
        split = urlsplit(asked)
        assert split.scheme == "https"
        assert split.hostname
        assert split.username is None
        assert not {".", ".."} & set(split.path.split("/"))


@given(verifier=st.text(alphabet=string.ascii_letters + string.digits + "-._~", min_size=43, max_size=128), other=st.text(max_size=200))
def test_a_verifier_fits_its_own_challenge_only(verifier, other):
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert verifier_fits(challenge, verifier)
    assert verifier_fits(challenge, other) == (other == verifier)
    assert not verifier_fits(verifier, verifier)


DESK = {"client_id": "https://desk.example/c", "redirect_uris": ["https://desk.example/"]}


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"client_id": "https://other.example/c", "redirect_uris": ["https://desk.example/"]},
        {"client_id": "https://desk.example/c", "redirect_uris": "https://desk.example/"},
        {"client_id": "https://desk.example/c", "redirect_uris": [7]},
        {
            "client_id": "https://desk.example/c",
            "redirect_uris": ["https://desk.example/"],
            "token_endpoint_auth_method": "client_secret_basic",
        },
        {**DESK, "client_name": 5},
        {**DESK, "client_name": "a\u202eb"},
        {**DESK, "response_types": ["token"]},
    ],
)
def test_documents_that_say_something_else(told):
    with pytest.raises(Mistake):
        read_client(told, "https://desk.example/c")

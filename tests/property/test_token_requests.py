"""Laws of the token service's pure parts: whatever is sent is read as one thing or refused, and a token is worth what was put into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.errors import Mistake, Unauthenticated
from remit.logic.assertions import check_client_assertion
from remit.logic.claims import check_bearer, check_held, check_task_token, task_claims
from remit.logic.dpop import NONCE_TTL, check_proof, make_nonce, nonce_age
from remit.logic.token_requests import read_form, resource_server, task_wanted, token_request
from remit.model.token import Possession, TokenRequest
from tests.support import NOW, call, task

ISSUER, BASE = "https://remit.example", "https://remit.example/mcp"
TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
NAMES = st.sampled_from(["type", "task", "task_type", "inputs", "on_behalf_of", "agent", "manifest", "more"])
VALUES = st.sampled_from(["remit_task", "task_1", "all", "", {}, {"a": 1}, 7, None, []]) | TEXT
PLACES = [BASE, ISSUER, "", *(BASE + end for end in ("/bank", "/bank/", "/vault", "/", "/bank#x"))]
THUMBPRINTS = st.sampled_from(["", "a", "b"])


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """What comes of it, or the code of the mistake."""
    try:
        return work(), ""
    except Mistake as mistake:
        return None, mistake.code


@given(st.binary(max_size=200) | st.text(alphabet="ab=&%20ff+;", max_size=60).map(str.encode))
def test_any_bytes_are_a_form_or_a_mistake(data):
    form, code = attempt(lambda: read_form(data))
    assert (form is None) == (code == "invalid_request")
    if form is None:
        return
    assert all(values and all(values) for values in form.values())
    assert all(len(values) == 1 for name, values in form.items() if name not in {"resource", "audience"})


@given(st.dictionaries(st.sampled_from(["grant_type", "scope", "client_id", "resource", "unknown"]), TEXT.filter(bool), min_size=1))
def test_what_is_written_into_a_form_is_read_from_it(parameters):
    form = read_form(urlencode(parameters).encode())
    assert {name: values[0] for name, values in form.items()} == parameters
    if "grant_type" in parameters:
        asked = token_request(form)
        assert (asked.grant_type, asked.scope) == (parameters["grant_type"], parameters.get("scope", ""))


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5) | JSON, max_size=2) | JSON, st.sampled_from(["", "all"]))
def test_details_name_exactly_one_task_or_are_refused(details, default):
    asked = TokenRequest(grant_type="x", authorization_details=json.dumps(details))
    wanted, code = attempt(lambda: task_wanted(asked, default))
    assert (wanted is None) == (code == "invalid_authorization_details")
    if wanted is None:
        return
    assert isinstance(details, list)
    assert bool(wanted.task) != bool(wanted.task_type)
    assert details == [
        {"type": "remit_task"}
        | {name: value for name in ("task", "task_type", "on_behalf_of", "agent") if (value := getattr(wanted, name))}
        | {name: getattr(wanted, name) for name in ("inputs", "manifest") if name in details[0]}
    ]


@given(st.lists(st.sampled_from(PLACES) | TEXT, max_size=3))
def test_a_resource_is_the_gateway_or_one_server_of_it(resources):
    server, code = attempt(lambda: resource_server(tuple(resources), BASE, {"bank"}))
    assert (server is None) == (code == "invalid_target")
    assert server is None or set(resources) <= {f"{BASE}/{server}" if server else BASE}


@given(st.sampled_from(["", "bank", "vault"]), THUMBPRINTS, THUMBPRINTS, THUMBPRINTS, THUMBPRINTS)
def test_a_token_opens_what_it_was_given_for_to_who_holds_what_it_is_bound_to(server, key, certificate, shown_key, shown_certificate):
    bound = Possession(key=key, certificate=certificate)
    claims = task_claims(task(), ISSUER, BASE, NOW, NOW + timedelta(minutes=5), "tok_1", server=server, bound=bound)
    token = check_task_token({"typ": "at+jwt"}, claims, ISSUER, BASE, NOW)
    assert (token.bound, token.bearer.server) == (bound, server)
    try:
        check_held(token, Possession(key=shown_key, certificate=shown_certificate))
        held = True
    except Unauthenticated:
        held = False
    assert held == (key == shown_key and certificate in {"", shown_certificate})
    for called in ("bank", "vault"):
        try:
            check_bearer(token.bearer, task(), call(f"{called}/pay"))
            opened = True
        except Unauthenticated:
            opened = False
        assert opened == (server in {"", called})
        with pytest.raises(Unauthenticated):
            check_bearer(token.bearer, task(revoked_tokens=frozenset({"tok_1"})), call(f"{called}/pay"))


@given(st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]), JSON))
def test_an_assertion_of_any_claims_is_the_clients_or_is_refused(claims):
    try:
        once = check_client_assertion({}, claims, ("a",), (ISSUER,), NOW)
    except Unauthenticated:
        return
    assert (claims["iss"], claims["sub"], once.id) == ("a", "a", claims["jti"])


@given(st.dictionaries(st.sampled_from(["jti", "htm", "htu", "iat", "ath", "nonce"]), JSON))
def test_a_proof_of_any_claims_is_refused_in_two_ways_only(claims):
    with pytest.raises(Unauthenticated) as refused:
        check_proof(claims, key="k", method="POST", url=BASE, token="t", nonce_key=b"k" * 32, now=NOW)
    assert refused.value.code in {"invalid_dpop_proof", "use_dpop_nonce"}


@given(st.integers(min_value=0, max_value=10_000), st.binary(min_size=32, max_size=32), TEXT | st.none() | st.integers())
def test_a_nonce_is_ours_and_as_old_as_it_is(seconds, other, anything):
    key, later = b"k" * 32, NOW + timedelta(seconds=seconds)
    nonce = make_nonce(key, NOW)
    assert nonce_age(nonce, key, later) == timedelta(seconds=seconds)
    assert other == key or nonce_age(nonce, other, later) is None
    assert nonce_age(anything, key, later) is None
    assert timedelta(minutes=5) > NONCE_TTL

"""Security event tokens as bytes: which signatures and headers count (RFC 8725, RFC 8417)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from remit.drivers.event_tokens import EventSigner, UnknownKey, open_event_token, read_key_set
from remit.drivers.keys import signals_key
from remit.errors import Mistake

ADMITTED = ("RS256", "ES256")
CLAIMS = {"iss": "https://idp.example", "jti": "1"}


def _rsa(bits: int = 2048) -> RSAKey:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return RSAKey.import_key(pem)


def _public(key, kid: str = "k", **more) -> dict:
    return {**{name: value for name, value in key.as_dict(private=False).items() if name != "kid"}, "kid": kid, **more}


def _weak() -> dict:
    modulus = rsa.generate_private_key(public_exponent=65_537, key_size=1_024).public_key().public_numbers().n
    return {"kty": "RSA", "kid": "k", "e": "AQAB", "n": base64.urlsafe_b64encode(modulus.to_bytes(128)).rstrip(b"=").decode()}


KEY = _rsa()
SET = {"keys": [_public(KEY)]}


def token(key=KEY, alg: str = "RS256", **header) -> bytes:
    whole = {"alg": alg, "kid": "k", "typ": "secevent+jwt", **header}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, CLAIMS, key, algorithms=[alg]).encode()


def raw(header: dict, claims: str | None = None, signature: bytes = b"x") -> bytes:
    parts = (json.dumps(header).encode(), (claims or json.dumps(CLAIMS)).encode(), signature)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def opened(data: bytes, keys=SET, admitted=ADMITTED):
    return open_event_token(data, keys, admitted, bytes_max=4_096)


def test_a_good_token_opens():
    header, claims = opened(token())
    assert (header["typ"], claims) == ("secevent+jwt", CLAIMS)
    curve = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()).private_bytes(*_pem()))
    assert opened(token(curve, "ES256"), {"keys": [_public(curve)]})[1] == CLAIMS
    assert opened(token(kid=None))[1] == CLAIMS


def _pem():
    return serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


def test_forged_and_confused_signatures():
    unsigned = raw({"alg": "HS256", "kid": "k", "typ": "secevent+jwt"}).rpartition(b".")[0]
    by_public_key = hmac.new(KEY.as_pem(private=False), unsigned, hashlib.sha256).digest()
    with pytest.raises(Mistake) as confused:
        opened(unsigned + b"." + base64.urlsafe_b64encode(by_public_key).rstrip(b"="))
    assert confused.value.code == "invalid_key"
    with pytest.raises(Mistake) as bare:
        opened(raw({"alg": "none", "kid": "k", "typ": "secevent+jwt"}))
    assert bare.value.code == "invalid_key"
    with pytest.raises(Mistake) as foreign:
        opened(token(_rsa()))
    assert foreign.value.code == "authentication_failed"
    head, _, signature = token().split(b".")
    changed = b".".join((head, base64.urlsafe_b64encode(b'{"iss":"https://evil.example","jti":"1"}').rstrip(b"="), signature))
    with pytest.raises(Mistake) as tampered:
        opened(changed)
    assert tampered.value.code == "authentication_failed"


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [_public(KEY, kid="other")],
        [_public(KEY, use="enc")],
        [_public(KEY, alg="PS256")],
        [{"kty": "oct", "kid": "k", "k": "AAAA"}],
        [{"kty": "RSA", "kid": "k", "n": "!!", "e": "AQAB"}],
        [_weak()],
    ],
)
def test_keys_that_do_not_fit_sign_nothing(keys):
    with pytest.raises(UnknownKey):
        opened(token(), {"keys": keys})


def test_two_keys_that_fit_and_an_algorithm_that_is_not_admitted():
    with pytest.raises(Mistake, match="which key"):
        opened(token(kid=None), {"keys": [_public(KEY, "a"), _public(_rsa(), "b")]})
    with pytest.raises(Mistake, match="admitted"):
        opened(token(), admitted=("ES256",))


@pytest.mark.parametrize(
    "header", [{"jku": "https://evil.example"}, {"x5u": "https://evil.example"}, {"crit": ["b64"]}, {"jwk": {}}, {"zip": "DEF"}, {"kid": 1}]
)
def test_headers_that_point_elsewhere_are_refused_before_anything_is_checked(header):
    with pytest.raises(Mistake) as refused:
        opened(raw({"alg": "RS256", "kid": "k", "typ": "secevent+jwt", **header}))
    assert refused.value.code == "invalid_request"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a.b",
        b"a.b.c.d",
        b"..",
        b"\xff\xfe.\x00.x",
        b"x" * 5_000,
        raw({"alg": "RS256"}, '{"iss":"a","iss":"b"}'),
        raw({"alg": "RS256"}, "[1]"),
        raw({"alg": "RS256"}, "[" * 1_000),
        raw({"alg": "RS256"}, '{"a":1e999}'),
        token() + b"=",
        token().replace(b".", b".\n", 1),
    ],
)
def test_what_is_no_token(data):
    with pytest.raises(Mistake):
        opened(data)


def test_our_own_key_is_made_once_and_what_it_signs_opens_with_what_is_published(tmp_path):
    signer = EventSigner(signals_key(tmp_path / "keys" / "signals.key"))
    again = EventSigner(signals_key(tmp_path / "keys" / "signals.key"))
    assert signer.key_id == again.key_id
    published = read_key_set(json.dumps(signer.jwks()))
    assert opened(signer.sign(CLAIMS).encode(), published)[1] == CLAIMS
    assert not {"d", "p", "q"} & set(published["keys"][0])
    assert (tmp_path / "keys" / "signals.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"keys":[]}', '{"keys":[1]}', '{"keys":[{"kty":"oct","k":"a"}]}', "x", '{"keys":[{"kty":"OKP"}]}']
)
def test_what_is_no_key_set(text):
    with pytest.raises(Mistake):
        read_key_set(text)
    with pytest.raises(Mistake, match="private"):
        read_key_set(json.dumps({"keys": [KEY.as_dict(private=True)]}))

"""X.509-SVIDs and the authorities that sign them: the rules of the standard, and that rotation never leaves a verifier behind."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st
from spiffe.svid.x509_svid import X509Svid as StockSvid

from remit.drivers.x509 import AuthorityKey, authority_jwk, make_authority, make_svid
from remit.errors import Broken
from remit.logic.x509_svid import (
    LIVES_OF_SVID_MIN,
    next_is_due,
    prepared_for,
    published,
    renewal,
    sequence,
    signing,
)
from remit.model.identity import SpiffeId
from tests.support import NOW

SEGMENT = st.text("abcXYZ019._-", min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
IDS = st.lists(SEGMENT, min_size=1, max_size=8).map(lambda parts: SpiffeId.parse("spiffe://remit.test/" + "/".join(parts)))
LIFE, TTL = timedelta(hours=24), timedelta(minutes=5)
AUTHORITY = make_authority("remit.test", 1, NOW, LIFE)
OTHER = make_authority("remit.test", 1, NOW, LIFE)


def proved(leaf: x509.Certificate, authority: x509.Certificate, now) -> list[str]:
    builder = PolicyBuilder().store(Store([authority])).time(now)
    return [name.value for name in builder.build_client_verifier().verify(leaf, []).subjects]


@settings(max_examples=25)
@given(IDS, st.integers(1, 2**158), st.timedeltas(timedelta(seconds=1), timedelta(hours=1)))
def test_a_leaf_says_one_identity_and_signs_for_nobody(spiffe_id, serial, ttl):
    svid = make_svid(AUTHORITY, spiffe_id, serial, NOW, NOW + ttl)
    leaf = x509.load_der_x509_certificate(svid.chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == [spiffe_id.text]
    assert names.critical, "RFC 5280 §4.2.1.6: the subject is empty"
    assert not list(leaf.subject)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.value.crl_sign) == (True, False, False)
    assert len(list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)) == 2
    assert str(StockSvid.parse_raw(svid.chain, svid.key).spiffe_id) == spiffe_id.text
    assert proved(leaf, AUTHORITY.certificate, NOW) == [spiffe_id.text]
    for authority, moment in ((OTHER.certificate, NOW), (AUTHORITY.certificate, NOW + ttl + timedelta(seconds=1))):
        with pytest.raises(VerificationError):
            proved(leaf, authority, moment)
    assert repr(svid).count("key=") == 0


def test_an_authority_signs_certificates_and_nothing_else():
    made = AUTHORITY.certificate
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (False, True, True)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://remit.test"]
    entry = authority_jwk(made)
    assert (entry["use"], "kid" in entry, [base64.b64decode(one) for one in entry["x5c"]]) == ("x509-svid", False, [AUTHORITY.der])


def test_an_authority_comes_back_as_it_was_and_only_whole():
    text = AUTHORITY.text()
    again = AuthorityKey.parse(1, text)
    assert (again.der, again.begins, again.text()) == (AUTHORITY.der, NOW, text)
    key, certificate = text.split("-----BEGIN CERTIFICATE")[0], OTHER.text().split("-----BEGIN CERTIFICATE")[1]
    for broken in ("", "x", text.partition("\n")[2], key, f"{key}-----BEGIN CERTIFICATE{certificate}"):
        with pytest.raises(Broken):
            AuthorityKey.parse(1, broken)
    assert "PRIVATE" not in repr(AUTHORITY)


STEPS = st.lists(st.timedeltas(timedelta(minutes=1), timedelta(hours=14)), max_size=40)


@given(STEPS)
def test_rotation_leaves_no_verifier_behind(steps):
    """Whenever the node wakes: who signs is published, was so for a sixth of a life unless nobody else could, and outlasts the SVID."""
    now, begins, last = NOW, [], 0
    known_since = {}
    for step in steps:
        now += step
        if next_is_due(begins, LIFE, now):
            begins.append(now)
        counting = published(begins, LIFE, now)
        number = sequence(counting[0] + 1, counting[-1] + 1)
        assert number >= last
        last = number
        for place in counting:
            known_since.setdefault(place, now)
        signer = signing(begins, LIFE, now, TTL)
        assert signer in counting
        assert now + TTL <= begins[signer] + LIFE
        lasting = [place for place in counting if now + TTL <= begins[place] + LIFE]
        if lasting[0] != signer:
            assert now - known_since[signer] >= prepared_for(LIFE) or lasting == [signer]


@given(st.timedeltas(timedelta(seconds=2), timedelta(hours=1)))
def test_an_svid_is_replaced_before_half_its_life(ttl):
    at = renewal(NOW, NOW + ttl)
    assert NOW < at < NOW + ttl / 2
    assert prepared_for(ttl * LIVES_OF_SVID_MIN) >= 2 * ttl, "every client has met a new authority before it signs"

"""The thumbprint of a peer's certificate (RFC 8705 §3.1), from what ASGI hands over; over real TLS see test_tls.py."""

from __future__ import annotations

import base64
import hashlib
import ssl

import pytest

from remit.doors.peer import peer_certificate

DER = b"any bytes: only their digest is made here"


def test_the_leaf_counts():
    leaf, other = ssl.DER_cert_to_PEM_cert(DER), ssl.DER_cert_to_PEM_cert(b"another")
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(DER).digest()).rstrip(b"=").decode()
    assert peer_certificate({"extensions": {"tls": {"client_cert_chain": (leaf, other)}}}) == thumbprint


@pytest.mark.parametrize("tls", [None, {}, *({"client_cert_chain": chain} for chain in (None, (), ["x"], [7]))])
def test_what_is_no_certificate_is_none(tls):
    assert peer_certificate({"extensions": {"tls": tls}}) == ""
    assert peer_certificate({"headers": [(b"x-client-cert", b"forged")]}) == ""

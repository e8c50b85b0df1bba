"""SVIDs as they leave the trust domain, and what verifiers need of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from remit.model.identity import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Svid:
    """An X.509-SVID with its key. ``chain``, ``key`` in DER (``key`` is PKCS #8, a secret); ``serial`` in hexadecimal."""

    spiffe_id: SpiffeId
    chain: bytes
    key: bytes = field(repr=False)
    serial: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSvid:
    """A JWT-SVID. ``token`` is a secret for its minutes."""

    spiffe_id: SpiffeId
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainKeys:
    """What verifiers need of a trust domain. ``authorities``: certificates in DER, one after the other. ``jwks``: the ``jwt-svid``
    keys as a JWK Set. ``sequence`` rises with every change.
    """

    trust_domain: str
    authorities: bytes
    jwks: bytes
    sequence: int

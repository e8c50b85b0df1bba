"""Who is at the other end of a request, by what it shows: a bearer credential, or the certificate of its TLS connection.

Rules: the handshake has proved that the peer holds its certificate's key; whether anybody trusts who issued it is not asked here. What
is no certificate is none. A header of the request is never taken for one: a proxy in front of us cannot be told from a client. A
credential that is there is the one that counts, also where it does not hold: nobody falls back to a weaker word of itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from typing import TYPE_CHECKING, Any

from remit.model.identity import PeerCertificate

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.requests import Request

    from remit.model.identity import Proof

_CHARACTERS_MAX = 65_536
_CHAIN_MAX = 10


def proof_of(request: Request) -> Proof:
    """The bearer credential or the certificate; "" where there is neither."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, credential = header.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    chain = _chain(request.scope)
    return PeerCertificate(chain=chain) if chain else ""


def peer_certificate(scope: MutableMapping[str, Any]) -> str:
    """The leaf's thumbprint (RFC 8705 §3.1: base64url of SHA-256 over the DER), "" where the peer showed none."""
    chain = _chain(scope)
    return base64.urlsafe_b64encode(hashlib.sha256(chain[0]).digest()).rstrip(b"=").decode() if chain else ""


def _chain(scope: MutableMapping[str, Any]) -> tuple[bytes, ...]:
    """The peer's certificates in DER, the leaf first (ASGI TLS extension, ``client_cert_chain``: PEM); all of them or none."""
    shown = tuple(((scope.get("extensions") or {}).get("tls") or {}).get("client_cert_chain") or ())
    if len(shown) > _CHAIN_MAX or not all(isinstance(one, str) and len(one) <= _CHARACTERS_MAX for one in shown):
        return ()
    try:
        chain = tuple(ssl.PEM_cert_to_DER_cert(one) for one in shown)
    except (binascii.Error, ValueError):
        return ()
    return chain if all(chain) else ()

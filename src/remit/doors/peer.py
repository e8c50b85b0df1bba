"""Who is at the other end of a request, by what it shows: a token, with the key or certificate it may be bound to, or a certificate alone.

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

from remit.errors import Unauthenticated
from remit.model.identity import PeerCertificate
from remit.model.token import Credential

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.requests import Request

    from remit.model.token import Presented

_CHARACTERS_MAX = 65_536
_CHAIN_MAX = 10


def shown_by(request: Request, issuer: str) -> Presented:
    """The credential, with what else the request proves where it does, or the certificate; "" where there is neither.

    ``issuer``: our URL, under which a DPoP proof names the address. Raises Unauthenticated.
    """
    header, chain = request.headers.get("authorization"), _chain(request.scope)
    if header is None:
        return PeerCertificate(chain=chain) if chain else ""
    scheme, _, text = header.partition(" ")
    token, scheme = text.strip(), scheme.lower()
    if scheme == "bearer" and not chain:
        return token
    if scheme not in {"bearer", "dpop"} or not token:
        return ""
    proofs = request.headers.getlist("dpop")
    if len(proofs) > 1:
        raise Unauthenticated("there are several DPoP proofs", code="invalid_dpop_proof")
    return Credential(
        token=token,
        scheme=scheme,
        proof=proofs[0] if proofs else "",
        method=request.method,
        url=issuer + request.url.path,
        certificate=_thumbprint(chain),
    )


def peer_certificate(scope: MutableMapping[str, Any]) -> str:
    """The leaf's thumbprint (RFC 8705 §3.1: base64url of SHA-256 over the DER), "" where the peer showed none."""
    return _thumbprint(_chain(scope))


def _thumbprint(chain: tuple[bytes, ...]) -> str:
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

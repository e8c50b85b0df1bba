"""What a request shows of who sends it: a bearer credential, or else the certificate of its connection (ASGI TLS extension).

Rules: a credential that is there is the one that counts, also where it does not hold: nobody falls back to a weaker word of itself.
"""

from __future__ import annotations

import binascii
import ssl
from typing import TYPE_CHECKING

from remit.model.identity import PeerCertificate

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.model.identity import Proof


def proof_of(request: Request) -> Proof:
    """The bearer credential or the certificate; "" where there is neither."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, credential = header.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    return certificate_of(request) or ""


def certificate_of(request: Request) -> PeerCertificate | None:
    """The certificate of the connection, where the client showed one."""
    tls = request.scope.get("extensions", {}).get("tls")
    try:
        chain = tuple(ssl.PEM_cert_to_DER_cert(one) for one in (tls or {}).get("client_cert_chain") or ())
    except (ValueError, binascii.Error):
        return None
    return PeerCertificate(chain=chain) if chain else None

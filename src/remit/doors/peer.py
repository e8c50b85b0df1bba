"""The peer's TLS certificate, as the ASGI server hands it over (ASGI TLS extension, ``client_cert_chain``: PEM, the leaf first).

Rules: the handshake has proved that the peer holds its key; whether anybody trusts who issued it is not asked here. What is no
certificate is none. A header of the request is never taken for one: a proxy in front of us cannot be told from a client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_CHARACTERS_MAX = 65_536


def peer_certificate(scope: MutableMapping[str, Any]) -> str:
    """The leaf's thumbprint (RFC 8705 §3.1: base64url of SHA-256 over the DER), "" where the peer showed none."""
    chain = ((scope.get("extensions") or {}).get("tls") or {}).get("client_cert_chain") or ()
    leaf = next(iter(chain), "")
    if not isinstance(leaf, str) or len(leaf) > _CHARACTERS_MAX:
        return ""
    body, _, _ = leaf.strip().removeprefix(_BEGIN).partition(_END)
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode() if der else ""

"""DPoP proofs (RFC 9449 §4.3) and the nonces that bound their replay (§8). Pure: signatures are checked by ``drivers/assertions.py``.

Rules: a proof is for one method, one address, one token, one moment, once. Its nonce is ours and fresh, so it is enough to remember
proofs as long as a nonce lives. The address is compared as we call ourselves, never as a header of the request has it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.errors import Unauthenticated

if TYPE_CHECKING:
    from datetime import datetime

Claims = dict[str, Any]
PROOF_TYPE = "dpop+jwt"
ALGORITHMS = ("ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256")
NONCE_TTL = timedelta(minutes=2)
_WINDOW = timedelta(minutes=5)  # of ``iat``, as MCP has it; what counts is the nonce
_TEXT_MAX = 512
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof that is whole. ``until``: when its nonce has ended. ``stale``: that is soon, so a new one should be sent along."""

    key: str
    id: str
    until: datetime
    stale: bool


def check_proof(claims: Claims, *, key: str, method: str, url: str, token: str, nonce_key: bytes, now: datetime) -> Proof:
    """``key``: thumbprint of the proof's key; ``token``: the access token it comes with ("" at the token endpoint).

    Raises Unauthenticated: ``use_dpop_nonce`` where only the nonce is missing or too old, otherwise ``invalid_dpop_proof``.
    """
    jti, issued = claims.get("jti"), claims.get("iat")
    if not isinstance(jti, str) or not 0 < len(jti) <= _TEXT_MAX:
        raise _invalid("it has no id")
    if claims.get("htm") != method:
        raise _invalid("it is for another method")
    address = claims.get("htu")
    if not isinstance(address, str) or _normal(address) is None or _normal(address) != _normal(url):
        raise _invalid("it is for another address")
    if isinstance(issued, bool) or not isinstance(issued, int | float) or abs(now.timestamp() - issued) > _WINDOW.total_seconds():
        raise _invalid("it was not made now")
    if token and not hmac.compare_digest(str(claims.get("ath", "")).encode(), token_hash(token).encode()):
        raise _invalid("it is for another token")
    if "nonce" not in claims:
        raise Unauthenticated("the DPoP proof needs our nonce", code="use_dpop_nonce")
    age = nonce_age(claims["nonce"], nonce_key, now)
    if age is None or age > NONCE_TTL:
        raise Unauthenticated("the DPoP proof needs a fresh nonce of ours", code="use_dpop_nonce")
    return Proof(key=key, id=jti, until=now - age + NONCE_TTL, stale=age > NONCE_TTL / 2)


def token_hash(token: str) -> str:
    """The ``ath`` of an access token (RFC 9449 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def make_nonce(key: bytes, now: datetime) -> str:
    """A nonce that every node of the trust domain knows as its own: the time, and who says so."""
    moment = f"{int(now.timestamp()):x}"
    return f"{moment}.{_mac(key, moment)}"


def nonce_age(nonce: object, key: bytes, now: datetime) -> timedelta | None:
    """How old a nonce of ours is; ``None`` for one that is not ours."""
    if not isinstance(nonce, str) or len(nonce) > _TEXT_MAX or not nonce.isascii():
        return None
    moment, _, mac = nonce.partition(".")
    if not hmac.compare_digest(mac, _mac(key, moment)):
        return None
    return timedelta(seconds=max(0.0, now.timestamp() - int(moment, 16)))


def _mac(key: bytes, moment: str) -> str:
    return base64.urlsafe_b64encode(hmac.new(key, moment.encode(), "sha256").digest()[:18]).decode()


def _normal(address: str) -> tuple[str, str, int, str] | None:
    """An address without query and fragment (RFC 9449 §4.3, 9), with its own port and its scheme and host in lower case."""
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError:
        return None
    if not parts.hostname or not port or parts.username is not None:
        return None
    return parts.scheme.lower(), parts.hostname, port, parts.path or "/"


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(f"the DPoP proof does not hold: {why}", code="invalid_dpop_proof")

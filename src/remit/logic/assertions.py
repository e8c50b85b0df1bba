"""What must hold for a JWT by which a client authenticates (RFC 7523 §3, with the audience rule of rfc7523bis). Pure.

Rules: issuer and subject are the client itself; the audience is us and nobody else beside us; it is used once. Signatures are
checked by ``drivers/assertions.py``, single use by ``services/once.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from remit.errors import Unauthenticated
from remit.logic.claims import LEEWAY, LIFETIME_MAX

if TYPE_CHECKING:
    from collections.abc import Collection

Claims = dict[str, Any]
_TYPES = frozenset({"JWT", "client-authentication+jwt"})
_TEXT_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """What makes a proof single: its id, and until when it must be remembered."""

    id: str
    until: datetime


def check_client_assertion(header: Claims, claims: Claims, client: Collection[str], audiences: Collection[str], now: datetime) -> Once:
    """``client``: the names of the client, of which the assertion uses one. ``audiences``: what we are called. Raises Unauthenticated."""
    if header.get("typ", "JWT") not in _TYPES:
        raise Unauthenticated("the client assertion is another kind of token")
    if claims.get("iss") not in client or claims.get("sub") != claims.get("iss"):
        raise Unauthenticated("issuer and subject of the client assertion are not the client")
    audience = claims.get("aud")
    if (audience[0] if isinstance(audience, list) and len(audience) == 1 else audience) not in audiences:
        raise Unauthenticated("the client assertion is for another audience, or for several")
    until = check_times(claims, now)
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _TEXT_MAX:
        raise Unauthenticated("the client assertion has no id, so that it could be used twice")
    return Once(id=jti, until=until)


def check_times(claims: Claims, now: datetime) -> datetime:
    """When the assertion can no longer be presented. ``exp`` must be there and near; ``iat`` and ``nbf`` may. Raises Unauthenticated."""
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if "exp" not in times or any(isinstance(time, bool) or not isinstance(time, int | float) for time in times.values()):
        raise Unauthenticated("the assertion does not say when it ends")
    current, leeway = now.timestamp(), LEEWAY.total_seconds()
    if not current - leeway < times["exp"] <= current + LIFETIME_MAX.total_seconds() + leeway:
        raise Unauthenticated("the assertion is expired or lives too long")
    if any(times.get(name, 0) > current + leeway for name in ("iat", "nbf")):
        raise Unauthenticated("the assertion is not valid yet")
    return datetime.fromtimestamp(times["exp"], UTC) + LEEWAY + timedelta(seconds=1)

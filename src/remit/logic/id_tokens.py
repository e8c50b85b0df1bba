"""What must hold before the token of an OIDC issuer counts as proof of who a workload or a person is. Pure: its signature is checked apart.

Rules: the issuer was chosen by its exact name, and only that issuer's rule applies. One audience, ours: a token that others may take as
well could have come from them. A token of another kind (an access token, a logout, a security event, a proof of possession, one bound
to a key) is not one of identity, whoever signed it (RFC 8725 §3.11, §3.12).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from remit.errors import Unauthenticated
from remit.logic.claims import check_times
from remit.logic.identity_mapping import map_identity
from remit.model.identity import Workload

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from remit.model.trust import IssuerRule

_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})  # the last two name a certificate and lead nowhere
_OTHER_KINDS = ("cnf", "events", "htm", "txn")
_SUBJECT_MAX, _JTI_MAX = 255, 512
Claims = dict[str, Any]


def check_header(header: Claims) -> None:
    """Raises Unauthenticated: for all that points elsewhere or asks for more than a signature (``jku``, ``crit``, ``zip`` …)."""
    kind = header.get("typ", "JWT")
    if set(header) - _HEADERS:
        raise Unauthenticated("the token's header says more than it may")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise Unauthenticated("the token is of another kind")


def check_id_token(claims: Claims, rule: IssuerRule, now: datetime) -> tuple[Workload, datetime]:
    """Whom a token of an issuer proves, and until when. Raises Unauthenticated."""
    if claims.get("iss") != rule.issuer:
        raise Unauthenticated("the token is of another issuer")
    if claims.get("aud") not in (rule.audience, [rule.audience]):
        raise Unauthenticated("the token is not for us, or not for us alone")
    if any(name in claims for name in _OTHER_KINDS):
        raise Unauthenticated("the token is of another kind")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX:
        raise Unauthenticated("the token has no subject")
    expires_at = check_times(claims, now, rule.lifetime_max)
    return Workload(agent=map_identity(claims, rule.identities), proof=f"oidc:{rule.name}"), expires_at


def check_signed_in(claims: Claims, issuer: str, audiences: Collection[str], now: datetime, lifetime_max: timedelta) -> datetime:
    """Until when an ID token proves who signed in at one of some clients of a provider (OpenID Connect Core §3.1.3.7).

    Raises Unauthenticated.
    """
    audience = claims.get("aud")
    alone = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
    if claims.get("iss") != issuer or not isinstance(alone, str) or alone not in audiences:
        raise Unauthenticated("the ID token is of another issuer, or not for us alone")
    if claims.get("azp", alone) != alone:
        raise Unauthenticated("the ID token was given to another client")
    if any(name in claims for name in _OTHER_KINDS):
        raise Unauthenticated("the token is of another kind")
    return check_times(claims, now, lifetime_max)


def use_of(token: str, claims: Claims) -> str:
    """What is the same whenever a token comes again: its issuer with its ``jti``, or where it has none the part that is signed (and
    not the signature, of which another may hold for the same words). Raises Unauthenticated for a ``jti`` that cannot be.
    """
    jti = claims.get("jti")
    if jti is None:
        return hashlib.sha256(b"signed\0" + token.rpartition(".")[0].encode()).hexdigest()
    if not isinstance(jti, str) or not 0 < len(jti) <= _JTI_MAX:
        raise Unauthenticated("the token's jti is none")
    issuer = hashlib.sha256(str(claims.get("iss")).encode()).digest()
    return hashlib.sha256(b"jti\0" + issuer + jti.encode("utf-8", "surrogatepass")).hexdigest()

"""Security event tokens (RFC 8417, SSF 1.0 §4): what must hold before one counts, and what follows from its event.

Pure: the signature was checked by ``drivers/event_tokens.py``. Rules: what a token does not say is not assumed; an event of a type that
nobody maps is recorded and nothing else; an event that takes nothing away (a device is compliant again, a risk is low) has no
consequence, whatever is configured. Refusals carry the codes of RFC 8935 §2.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.errors import Mistake
from remit.logic.claims import LEEWAY
from remit.model.signal import CAEP, RISC, SSF, Consequence, EventSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

SET_TYPE = "secevent+jwt"
CODES = frozenset({"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed", "access_denied"})
_TEXT_MAX, _AUDIENCES_MAX = 512, 100

DEFAULTS: dict[str, Consequence] = {
    f"{CAEP}session-revoked": Consequence.REVOKE,
    f"{CAEP}credential-change": Consequence.REVOKE,
    f"{CAEP}token-claims-change": Consequence.SUSPEND,
    f"{CAEP}assurance-level-change": Consequence.SUSPEND,
    f"{CAEP}device-compliance-change": Consequence.SUSPEND,
    f"{CAEP}risk-level-change": Consequence.SUSPEND,
    f"{RISC}account-disabled": Consequence.REVOKE,
    f"{RISC}account-purged": Consequence.REVOKE,
    f"{RISC}account-credential-change-required": Consequence.SUSPEND,
    f"{RISC}credential-compromise": Consequence.REVOKE,
    f"{RISC}sessions-revoked": Consequence.REVOKE,
}
_HARMLESS: dict[str, tuple[str, frozenset[str]]] = {  # a claim, and the words with which the event takes nothing away
    f"{CAEP}credential-change": ("change_type", frozenset({"create"})),
    f"{CAEP}assurance-level-change": ("change_direction", frozenset({"increase"})),
    f"{CAEP}device-compliance-change": ("current_status", frozenset({"compliant"})),
    f"{CAEP}risk-level-change": ("current_level", frozenset({"LOW"})),
}


def read_event_set(
    header: Mapping[str, Any], claims: Mapping[str, Any], *, issuer: str, audience: str, now: datetime, age_max: timedelta
) -> EventSet:
    """The token, if it is one for us. Raises Mistake with a code of RFC 8935 §2.4."""
    kind = header.get("typ")
    if not isinstance(kind, str) or kind.lower() != SET_TYPE:
        raise _wrong("the token is not of type secevent+jwt")
    if claims.get("iss") != issuer:
        raise _wrong("the token is of another issuer", "invalid_issuer")
    audiences = claims.get("aud")
    named = audiences if isinstance(audiences, list) else [audiences]
    if len(named) > _AUDIENCES_MAX or audience not in named:
        raise _wrong("the token is for another audience", "invalid_audience")
    for claim in ("sub", "exp"):  # SSF 1.0 §4.1: neither may be there, lest it be taken for another kind of token
        if claim in claims:
            raise _wrong(f"a security event token has no {claim}")
    jti, subject, events = claims.get("jti"), claims.get("sub_id"), claims.get("events")
    if not isinstance(jti, str) or not 0 < len(jti) <= _TEXT_MAX:
        raise _wrong("the token has no id, or a very long one")
    if not isinstance(subject, dict):
        raise _wrong("the token has no sub_id")
    if not isinstance(events, dict) or len(events) != 1:
        raise _wrong("the token does not tell exactly one event")
    event, said = next(iter(events.items()))
    if not 0 < len(event) <= _TEXT_MAX or not (event.isascii() and event.isprintable()) or not isinstance(said, dict):
        raise _wrong("the event is not a type with its claims")
    return EventSet(jti=jti, issued_at=_issued_at(claims.get("iat"), now, age_max), event=event, claims=said, subject=subject)


def event_type(word: str) -> str:
    """An event type by its short name (``session-revoked``); a URI stays what it is; "" for a short name nobody knows."""
    if "://" in word:
        return word
    return next((known for known in DEFAULTS if known.rpartition("/")[2] == word), "")


def short(event: str) -> str:
    """An event type as people read it."""
    for beginning in (CAEP, RISC, SSF):
        if event.startswith(beginning):
            return event.removeprefix(beginning)
    return event


def consequence(event: EventSet, stated: Mapping[str, Consequence]) -> Consequence:
    """What follows from an event. ``stated``: as configured, by event type; otherwise the default, otherwise nothing."""
    claim, harmless = _HARMLESS.get(event.event, ("", frozenset()))
    if claim and event.claims.get(claim) in tuple(harmless):
        return Consequence.RECORD
    return stated.get(event.event) or DEFAULTS.get(event.event, Consequence.RECORD)


def _issued_at(stated: object, now: datetime, age_max: timedelta) -> int:
    if not isinstance(stated, int) or isinstance(stated, bool):
        raise _wrong("the token does not say when it was made")
    current = int(now.timestamp())
    if stated > current + LEEWAY.total_seconds():
        raise _wrong("the token is of the future")
    if stated < current - age_max.total_seconds():
        raise _wrong("the token is too old")
    return stated


def _wrong(what: str, code: str = "invalid_request") -> Mistake:
    return Mistake(what, code=code)

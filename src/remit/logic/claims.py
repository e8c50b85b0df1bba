"""What tokens say, and what must hold before a token counts. Pure: signatures are checked by ``drivers/signing.py``.

* JWT-SVID (SPIFFE JWT-SVID): proves which agent speaks. ``sub`` SPIFFE ID, ``aud``, ``exp``; minutes.
* Task token (``at+jwt``, RFC 9068): opens the gateway for one task. ``sub`` and ``client_id`` are the agent; the person or
  system it works for is ``task.on_behalf_of``, a claim and never an identity; the grant travels as
  ``authorization_details`` (RFC 9396). A child task's says in ``act`` who delegated it. It is minutes long, and dead the
  moment its task is.

Rules: what a claim does not say is not assumed. A token that is not exactly of the expected kind is refused (RFC 8725 §3.11).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Unauthenticated
from remit.model.identity import Bearer, SpiffeId, Workload

if TYPE_CHECKING:
    from remit.model.task import Task

SVID_TYPE = "JWT"
TASK_TYPE = "at+jwt"
DETAILS_TYPE = "remit_grant"
LEEWAY = timedelta(seconds=30)
LIFETIME_MAX = timedelta(hours=1)
_TEXT_MAX = 512
_SECOND = timedelta(seconds=1)
_LEEWAY_SECONDS = LEEWAY // _SECOND
Claims = dict[str, Any]


def svid_claims(agent: SpiffeId, audience: str, now: datetime, ttl: timedelta, jti: str) -> Claims:
    """Claims of a JWT-SVID for one audience."""
    return {"sub": agent.text, "aud": [audience], "iat": _epoch(now), "exp": _epoch(now + ttl), "jti": jti}


def task_claims(task: Task, issuer: str, audience: str, now: datetime, expires_at: datetime, jti: str) -> Claims:
    """Claims of a task token."""
    details = [
        {
            "type": DETAILS_TYPE,
            "locations": [audience],
            "kind": grant.kind.value,
            "name": grant.id,
            **({"arguments": json.loads(grant.arguments)} if grant.arguments else {}),
            **({"uses": grant.uses} if grant.uses is not None else {}),
        }
        for grant in task.grants
    ]
    return {
        "iss": issuer,
        "aud": audience,
        "sub": task.agent.text,
        "client_id": task.agent.text,
        "iat": _epoch(now),
        "exp": _epoch(expires_at),
        "jti": jti,
        "task": {"id": task.id, "type": task.type, "on_behalf_of": task.on_behalf_of},
        "authorization_details": details,
        **({"act": _acting(task)} if task.chain else {}),
    }


def _acting(task: Task) -> Claims:
    """Who acts, and for whom: the newest actor outermost (RFC 8693 §4.1)."""
    act: Claims = {}
    for agent in (*reversed(task.chain), task.agent.text):
        act = {"sub": agent, **({"act": act} if act else {})}
    return act


def check_svid(header: Claims, claims: Claims, trust_domain: str, audience: str, now: datetime, *, dated: bool = True) -> Workload:
    """Raises Unauthenticated. JWT-SVID §3 and §4: typ, exp, aud, sub of the trust domain whose key signed. ``dated``: ``iat`` is
    demanded too, as ours have it; the standard leaves it out.
    """
    if header.get("typ", SVID_TYPE) not in {"JWT", "JOSE"} or set(header) - {"alg", "kid", "typ"}:
        raise Unauthenticated("the token is not a JWT-SVID")
    _check_times(claims if dated or "iat" in claims else {**claims, "iat": _epoch(now)}, now)
    audiences = claims.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise Unauthenticated("the JWT-SVID is for another audience")
    agent = _agent(claims.get("sub"))
    if agent.trust_domain != trust_domain:
        raise Unauthenticated("the JWT-SVID names another trust domain")
    return Workload(agent=agent, proof="jwt-svid")


def check_task_token(header: Claims, claims: Claims, issuer: str, audience: str, now: datetime) -> tuple[Bearer, datetime]:
    """Who the token stands for, and until when. Raises Unauthenticated. RFC 9068 §4."""
    if header.get("typ") != TASK_TYPE:
        raise Unauthenticated("the token is not a task token")
    if claims.get("iss") != issuer or claims.get("aud") != audience:
        raise Unauthenticated("the token is for another place", code="wrong_audience")
    expires_at = _check_times(claims, now)
    task = claims.get("task")
    task_id = task.get("id") if isinstance(task, dict) else None
    if not isinstance(task_id, str) or len(task_id) > _TEXT_MAX:
        raise Unauthenticated("the token names no task")
    return Bearer(agent=_agent(claims.get("sub")), task=task_id, proof="task-token"), expires_at


def _check_times(claims: Claims, now: datetime) -> datetime:
    return check_times(claims, now, LIFETIME_MAX)


def check_times(claims: Claims, now: datetime, lifetime_max: timedelta) -> datetime:
    """When a token ends. Raises Unauthenticated where it does not hold now, or would for too long (RFC 7519 §4.1.4 to §4.1.6)."""
    issued, expires, begins = claims.get("iat"), claims.get("exp"), claims.get("nbf", 0)
    if type(issued) is not int or type(expires) is not int or type(begins) is not int:  # true and false are no moments
        raise Unauthenticated("the token does not say when it was made and when it ends")
    current, leeway = _epoch(now), _LEEWAY_SECONDS
    if current >= expires + leeway:
        raise Unauthenticated("the token is expired")
    if issued > current + leeway or begins > current + leeway:
        raise Unauthenticated("the token is not yet valid")
    if expires - issued > lifetime_max // _SECOND:
        raise Unauthenticated("the token lives too long")
    return datetime.fromtimestamp(expires, UTC)


def _agent(subject: object) -> SpiffeId:
    if not isinstance(subject, str):
        raise Unauthenticated("the token names no agent")
    try:
        return _parsed(subject)
    except Mistake:
        raise Unauthenticated("the token's subject is not the SPIFFE ID of a workload") from None


@lru_cache(maxsize=1_024)
def _parsed(subject: str) -> SpiffeId:
    """The same few agents come again and again."""
    return SpiffeId.parse(subject)


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())

"""What tokens say, and what must hold before a token counts. Pure: signatures are checked by ``drivers/signing.py``.

* JWT-SVID (SPIFFE JWT-SVID): proves which agent speaks. ``sub`` SPIFFE ID, ``aud``, ``exp``; minutes.
* Task token (``at+jwt``, RFC 9068): opens the gateway, or one server of it, for one task. ``client_id`` is the agent. ``sub`` is
  the agent as well, or the person it was proved to work for, with the agent as ``act`` (RFC 8693 §4.1). ``task.on_behalf_of`` alone
  is a claim and never an identity. The grant travels as ``authorization_details`` (RFC 9396), what the token is bound to as ``cnf``
  (RFC 7800). A child task's says in ``act`` who delegated it. It is minutes long, and dead the moment its task is.

Rules: what a claim does not say is not assumed. A token that is not exactly of the expected kind is refused (RFC 8725 §3.11).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Unauthenticated
from remit.model.identity import Bearer, SpiffeId, Workload
from remit.model.token import NOTHING, Possession, TaskToken

if TYPE_CHECKING:
    from remit.model.call import Call
    from remit.model.task import Task

SVID_TYPE = "JWT"
_SVID_HEADERS = frozenset({"alg", "kid", "typ"})
TASK_TYPE = "at+jwt"
DETAILS_TYPE = "remit_grant"
LEEWAY = timedelta(seconds=30)
LIFETIME_MAX = timedelta(hours=1)
_TEXT_MAX = 512
_SERVER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_CONFIRMATIONS = {"jkt": "key", "x5t#S256": "certificate"}  # RFC 9449 §6.1, RFC 8705 §3.1
_SECOND = timedelta(seconds=1)
_LEEWAY_SECONDS = LEEWAY // _SECOND
Claims = dict[str, Any]


def svid_claims(agent: SpiffeId, audience: str, now: datetime, ttl: timedelta, jti: str) -> Claims:
    """Claims of a JWT-SVID for one audience."""
    return {"sub": agent.text, "aud": [audience], "iat": _epoch(now), "exp": _epoch(now + ttl), "jti": jti}


def task_claims(
    task: Task, issuer: str, base: str, now: datetime, expires_at: datetime, jti: str, *, server: str = "", bound: Possession = NOTHING
) -> Claims:
    """Claims of a task token. ``base``: the gateway's address; ``server``: the only one it opens."""
    person = task.on_behalf_of if task.on_behalf_proof else ""
    agent = task.agent.text
    return {
        "iss": issuer,
        "aud": audience_of(base, server),
        "sub": person or agent,
        "client_id": agent,
        "iat": _epoch(now),
        "exp": _epoch(expires_at),
        "jti": jti,
        "task": {"id": task.id, "type": task.type, "on_behalf_of": task.on_behalf_of},
        "authorization_details": grant_details(task, base, server),
        **acting(task, issuer),
        **confirmation(bound),
    }


def grant_details(task: Task, base: str, server: str = "") -> list[Claims]:
    """The grant as ``authorization_details`` (RFC 9396), as far as the token opens it."""
    return [
        {
            "type": DETAILS_TYPE,
            "locations": [audience_of(base, server)],
            "kind": grant.kind.value,
            "name": grant.id,
            **({"arguments": json.loads(grant.arguments)} if grant.arguments else {}),
            **({"uses": grant.uses} if grant.uses is not None else {}),
        }
        for grant in task.grants
        if server in {"", grant.server}
    ]


def audience_of(base: str, server: str) -> str:
    """The address of one server behind the gateway, or of the gateway."""
    return f"{base}/{server}" if server else base


def confirmation(bound: Possession) -> Claims:
    """The ``cnf`` claim (RFC 7800 §3.1), where there is one."""
    members = {name: getattr(bound, part) for name, part in _CONFIRMATIONS.items() if getattr(bound, part)}
    return {"cnf": members} if members else {}


def acting(task: Task, issuer: str) -> Claims:
    """The ``act`` claim, where the agent acts for somebody who is proved or delegated: the newest actor outermost (RFC 8693 §4.1)."""
    if not task.chain and not (task.on_behalf_of and task.on_behalf_proof):
        return {}
    act: Claims = {}
    for agent in (*reversed(task.chain), task.agent.text):
        act = {"iss": issuer, "sub": agent, **({"act": act} if act else {})}
    return {"act": act}


def check_svid(header: Claims, claims: Claims, trust_domain: str, audience: str, now: datetime, *, dated: bool = True) -> Workload:
    """Raises Unauthenticated. JWT-SVID §3 and §4: typ, exp, aud, sub of the trust domain whose key signed. ``dated``: ``iat`` is
    demanded too, as ours have it; the standard leaves it out.
    """
    if header.get("typ", SVID_TYPE) not in {"JWT", "JOSE"} or not header.keys() <= _SVID_HEADERS:
        raise Unauthenticated("the token is not a JWT-SVID")
    _check_times(claims if dated or "iat" in claims else {**claims, "iat": _epoch(now)}, now)
    audiences = claims.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise Unauthenticated("the JWT-SVID is for another audience")
    agent = _agent(claims.get("sub"))
    if agent.trust_domain != trust_domain:
        raise Unauthenticated("the JWT-SVID names another trust domain")
    return Workload(agent=agent, proof="jwt-svid")


def check_task_token(header: Claims, claims: Claims, issuer: str, base: str, now: datetime) -> TaskToken:
    """Who the token stands for, for what and until when. ``base``: the gateway's address. Raises Unauthenticated. RFC 9068 §4."""
    if header.get("typ") != TASK_TYPE:
        raise Unauthenticated("the token is not a task token")
    if claims.get("iss") != issuer:
        raise Unauthenticated("the token is for another place", code="wrong_audience")
    server = _server(claims.get("aud"), base)
    expires_at = _check_times(claims, now)
    task, jti = claims.get("task"), claims.get("jti")
    task_id = task.get("id") if isinstance(task, dict) else None
    if not isinstance(task_id, str) or len(task_id) > _TEXT_MAX:
        raise Unauthenticated("the token names no task")
    if not isinstance(jti, str) or not 0 < len(jti) <= _TEXT_MAX:
        raise Unauthenticated("the token has no id")
    agent, act = _agent(claims.get("client_id")), claims.get("act")
    actor = claims.get("sub") if act is None else act.get("sub") if isinstance(act, dict) and act.get("iss") == issuer else None
    if actor != agent.text:
        raise Unauthenticated("the token says of two agents that they act")
    bearer = Bearer(agent=agent, task=task_id, proof="task-token", server=server, token=jti)
    return TaskToken(bearer=bearer, expires_at=expires_at, bound=_bound(claims.get("cnf")))


def check_held(token: TaskToken, shown: Possession) -> None:
    """A bound token counts only with the key or the certificate it is bound to (RFC 9449 §7.1, RFC 8705 §3). Raises Unauthenticated."""
    if token.bound.key != shown.key:  # also: a key shown for a token that is bound to none
        raise Unauthenticated("the token is bound to a key that was not shown, or to none")
    if token.bound.certificate not in {"", shown.certificate}:
        raise Unauthenticated("the token is bound to another client certificate")


def check_bearer(bearer: Bearer, task: Task, call: Call | None = None) -> None:
    """What holds at the moment of use beside the task's own state: the token lives, and the call is of the server that it opens.

    Raises Unauthenticated.
    """
    if bearer.token and bearer.token in task.revoked_tokens:
        raise Unauthenticated("the token was revoked")
    if call is not None and bearer.server not in {"", call.server}:
        raise Unauthenticated("the token opens another server")


def _server(audience: object, base: str) -> str:
    """The server that an audience names, "" for the whole gateway. Several audiences are none of ours."""
    if audience == base:
        return ""
    if isinstance(audience, str) and audience.startswith(base + "/") and _SERVER.match(name := audience[len(base) + 1 :]):
        return name
    raise Unauthenticated("the token is for another place", code="wrong_audience")


def _bound(cnf: object) -> Possession:
    """What is not understood binds to what nobody can show: refused."""
    if cnf is None:
        return NOTHING
    if not isinstance(cnf, dict) or not cnf or set(cnf) - set(_CONFIRMATIONS):
        raise Unauthenticated("the token is bound in a way that is not known here")
    if not all(isinstance(thumbprint, str) and thumbprint for thumbprint in cnf.values()):
        raise Unauthenticated("the token is bound in a way that is not known here")
    return Possession(**{_CONFIRMATIONS[name]: thumbprint for name, thumbprint in cnf.items()})


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

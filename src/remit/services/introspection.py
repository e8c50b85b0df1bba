"""What a token is worth right now (RFC 7662), and taking one back (RFC 7009).

Rules: only those who prove who they are get an answer, an agent only about its own tokens, a caller of ``[access]`` that may ask about
tasks about all. Whatever is not active is answered in the same bytes. A token is active while it verifies, was not revoked, and its task
is active. Revoking one token is not ending its task: that is the task's own life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, NotFound, Unauthenticated
from remit.logic.claims import acting, audience_of, confirmation, grant_details
from remit.logic.missions import mission_claim
from remit.model.task import TaskState

if TYPE_CHECKING:
    from remit.model.access import Caller
    from remit.model.identity import SpiffeId
    from remit.model.task import Task
    from remit.model.token import Client, TaskToken
    from remit.services.clients import Clients
    from remit.services.refusals import Refusals
    from remit.services.tokens import Tokens

Json = dict[str, Any]
INACTIVE: Json = {"active": False}


class Introspection:
    """Tells and takes back."""

    def __init__(self, clients: Clients, tokens: Tokens, refusals: Refusals, *, issuer: str, mission: bool) -> None:
        """``mission``: the task is told as a mission as well."""
        self._clients, self._tokens, self._refusals = clients, tokens, refusals
        self._issuer, self._mission = issuer, mission

    async def client(self, assertion_type: str, assertion: str, client_id: str, *, wants: str) -> Client:
        """Who asks by a client assertion. ``wants``: to do what, for the ledger. Raises Unauthenticated, Outage."""
        try:
            return await self._clients.client(assertion_type, assertion, client_id)
        except Unauthenticated as refusal:
            await self._refusals.note(refusal, exchange=wants, claimed=client_id)
            raise

    async def introspect(self, caller: Caller, token: str) -> Json:
        """The answer of RFC 7662 §2.2. Raises Outage."""
        try:
            known, task = await self._tokens.look(token)
        except Unauthenticated:
            return INACTIVE
        if task.state is not TaskState.ACTIVE or not (caller.tasks or caller.agent == task.agent):
            return INACTIVE
        parent = await self._tokens.parent(task) if self._mission else None
        return self._active(known, task, parent)

    async def revoke(self, agent: SpiffeId, token: str) -> None:
        """From now on the token opens nothing anywhere. What is no live token is a success (RFC 7009 §2.2).

        Raises Mistake where it is another agent's, Outage.
        """
        try:
            known, task = await self._tokens.look(token)
        except Unauthenticated:
            return
        if task.agent != agent:
            raise Mistake("the token was issued to another client", code="unauthorized_client")
        try:
            await self._tokens.revoke(known, agent.text)
        except NotFound:
            return

    def _active(self, known: TaskToken, task: Task, parent: Task | None) -> Json:
        bearer, agent = known.bearer, task.agent.text
        person = task.on_behalf_of if task.on_behalf_proof else ""
        base = self._tokens.audience
        return {
            "active": True,
            "iss": self._issuer,
            "aud": audience_of(base, bearer.server),
            "sub": person or agent,
            "client_id": agent,
            "exp": int(known.expires_at.timestamp()),
            "jti": bearer.token,
            "token_type": "DPoP" if known.bound.key else "Bearer",
            "task": {"id": task.id, "type": task.type, "on_behalf_of": task.on_behalf_of, "state": task.state.value},
            "authorization_details": grant_details(task, base, bearer.server),
            **acting(task, self._issuer),
            **confirmation(known.bound),
            **({"mission": mission_claim(task, self._issuer, base, parent)} if self._mission else {}),
        }

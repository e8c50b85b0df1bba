"""Who asks for a delegation, from the tokens that are presented; so that a token in the wrong hands opens nothing.

Rules: the subject is the parent's task token. Without an actor token its own agent asks; with one (the receiving agent's proof of
identity) that agent does. A task token is no proof of identity: a token passed on as is is refused. Whatever is refused here is in the
ledger with its code; what does not even prove anything gets the same words as everywhere. By token exchange (RFC 8693) only the agent that
gets the child asks, because the answer holds its token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Mistake, Unauthenticated
from remit.logic.delegation import refusal
from remit.model.identity import PeerCertificate

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.delegation import Wanted
    from remit.model.identity import Bearer, SpiffeId
    from remit.model.task import Task
    from remit.model.token import Client, Possession, Presented
    from remit.services.bearers import Bearers
    from remit.services.delegation import Delegations
    from remit.services.identities import Identities
    from remit.services.tokens import Tokens


class Presenting:
    """Takes the tokens of a delegation."""

    def __init__(self, delegations: Delegations, identities: Identities, tokens: Tokens, bearers: Bearers) -> None:
        self.delegations, self._identities, self._tokens, self._bearers = delegations, identities, tokens, bearers

    async def subject(self, shown: Presented) -> Bearer:
        """Whose task would be delegated. Raises Unauthenticated, Outage."""
        if isinstance(shown, PeerCertificate):
            raise Unauthenticated("the parent's task token is needed")
        try:
            return await self._bearers.bearer(shown)
        except Unauthenticated:
            await self.delegations.refused("", "", self._tokens.why_not(shown if isinstance(shown, str) else shown.token))
            raise

    async def delegate(
        self, bearer: Bearer, actor_token: str, wanted: Wanted, *, parent: str = ""
    ) -> tuple[Task, tuple[str, datetime] | None]:
        """A child task, and its token with its end where its own agent asked with its proof. ``parent``: the task that is meant, if said.

        Raises Unauthenticated, Refusal, Mistake, NotFound, Outage.
        """
        by, proof = await self._actor(bearer, actor_token)
        await self._check_parent(bearer, by, wanted, parent)
        child = await self.delegations.delegate(bearer, wanted, by=by)
        return child, await self._tokens.issue(child.id, proof) if proof and by == child.agent else None

    async def exchanged_subject(self, token: str, shown: Possession) -> Bearer:
        """Whose task would be delegated by an exchange. ``shown``: what the request proved to hold: a token that is bound to anything
        counts only with that. Raises Mistake (OAuth's codes), Outage.
        """
        try:
            known, _ = await self._tokens.look(token)
        except Unauthenticated:
            why = self._tokens.why_not(token)
            await self.delegations.refused("", "", why)
            code = "invalid_grant" if why == "inactive" else "invalid_request"
            raise Mistake("the subject token is not acceptable", code=code) from None
        bearer, bound = known.bearer, known.bound
        if bound.key not in {"", shown.key} or bound.certificate not in {"", shown.certificate}:
            await self.delegations.refused(bearer.task, "", "bound_token")
            raise Mistake("the subject token is bound to what was not shown", code="invalid_grant")
        if bearer.server:
            await self.delegations.refused(bearer.task, "", "wrong_audience")
            raise Mistake("the subject token opens one server: the whole task's is needed", code="invalid_grant")
        return bearer

    async def exchanged(self, bearer: Bearer, actor: Client, wanted: Wanted, *, parent: str = "") -> Task:
        """A child task for the agent that asks and has proved itself; its token is the answer's. ``parent``: as in ``delegate``.

        Raises Refusal, Mistake, NotFound, Outage.
        """
        await self._check_parent(bearer, actor.agent, wanted, parent)
        if actor.agent == bearer.agent and wanted.agent != actor.name:
            await self.delegations.refused(bearer.task, actor.agent.text, "wrong_actor", wanted.agent)
            raise refusal("wrong_actor", "the agent that gets the child asks for its token: a parent never holds it")
        return await self.delegations.delegate(bearer, wanted, by=actor.agent)

    async def passed_on(self, bearer: Bearer, actor_token: str) -> None:
        """Refuse a task token in the place of a proof of identity. Raises Refusal, Outage."""
        if actor_token and self._tokens.why_not(actor_token) == "inactive":
            await self.delegations.refused(bearer.task, "", "token_passed_on")
            raise refusal("token_passed_on", "a task token is no proof of identity: the agent that gets the child shows its own JWT-SVID")

    async def _check_parent(self, bearer: Bearer, by: SpiffeId, wanted: Wanted, parent: str) -> None:
        if parent not in {"", bearer.task}:
            await self.delegations.refused(bearer.task, by.text, "parent_mismatch", wanted.agent)
            raise refusal("parent_mismatch", "the token is of another task than the one that would be delegated")

    async def _actor(self, bearer: Bearer, token: str) -> tuple[SpiffeId, str]:
        """The agent that asks, and how it proved itself ("" : by the subject token alone)."""
        if not token:
            return bearer.agent, ""
        await self.passed_on(bearer, token)
        try:
            _, workload = await self._identities.verify_svid(token, once=True)
        except Unauthenticated:
            await self.delegations.refused(bearer.task, "", "invalid_actor_token")
            raise Unauthenticated("the proof of identity does not hold") from None
        return workload.agent, workload.proof

"""Who asks for a delegation, from the tokens that are presented; so that a token in the wrong hands opens nothing.

Rules: the subject is the parent's task token. Without an actor token its own agent asks; with one (the receiving agent's proof of
identity) that agent does. A task token is no proof of identity: a token passed on as is is refused. Whatever is refused here is in the
ledger with its code; what does not even prove anything gets the same words as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Unauthenticated
from remit.logic.delegation import refusal

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.delegation import Wanted
    from remit.model.identity import Bearer, Proof, SpiffeId
    from remit.model.task import Task
    from remit.services.delegation import Delegations
    from remit.services.identities import Identities
    from remit.services.tokens import Tokens


class Presenting:
    """Takes the tokens of a delegation."""

    def __init__(self, delegations: Delegations, identities: Identities, tokens: Tokens) -> None:
        self.delegations, self._identities, self._tokens = delegations, identities, tokens

    async def subject(self, token: Proof) -> Bearer:
        """Whose task would be delegated. Raises Unauthenticated, Outage."""
        if not isinstance(token, str):
            raise Unauthenticated("the parent's task token is needed")
        try:
            return await self._tokens.bearer(token)
        except Unauthenticated:
            await self.delegations.refused("", "", self._tokens.why_not(token))
            raise

    async def delegate(
        self, bearer: Bearer, actor_token: str, wanted: Wanted, *, parent: str = ""
    ) -> tuple[Task, tuple[str, datetime] | None]:
        """A child task, and its token with its end where its own agent asked with its proof. ``parent``: the task that is meant, if said.

        Raises Unauthenticated, Refusal, Mistake, NotFound, Outage.
        """
        by, proof = await self._actor(bearer, actor_token)
        if parent not in {"", bearer.task}:
            await self.delegations.refused(bearer.task, by.text, "parent_mismatch", wanted.agent)
            raise refusal("parent_mismatch", "the token is of another task than the one that would be delegated")
        child = await self.delegations.delegate(bearer, wanted, by=by)
        return child, await self._tokens.issue(child.id, proof) if proof and by == child.agent else None

    async def _actor(self, bearer: Bearer, token: str) -> tuple[SpiffeId, str]:
        """The agent that asks, and how it proved itself ("" : by the subject token alone)."""
        if not token:
            return bearer.agent, ""
        if self._tokens.why_not(token) == "inactive":
            await self.delegations.refused(bearer.task, "", "token_passed_on")
            raise refusal("token_passed_on", "a task token is no proof of identity: the agent that gets the child shows its own JWT-SVID")
        try:
            _, workload = await self._identities.verify_svid(token, once=True)
        except Unauthenticated:
            await self.delegations.refused(bearer.task, "", "invalid_actor_token")
            raise Unauthenticated("the proof of identity does not hold") from None
        return workload.agent, workload.proof

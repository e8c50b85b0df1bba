"""Task tokens: given for a live task, checked at every use, dead the moment the task is.

Rules: a token's signature is checked once and remembered, bounded; whether its task lives is checked every time. A token
never outlives its task's deadline. That of a child task dies with any task above, and those of a stopped agent are dead.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from remit.errors import NotFound, Refusal, Unauthenticated
from remit.logic.claims import TASK_TYPE, check_task_token, task_claims
from remit.logic.tree import cut_off
from remit.model.identity import Bearer
from remit.model.record import Body, TokenIssued
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.signing import TokenSigner
    from remit.model.task import Task
    from remit.services.tasks import Tasks

_REMEMBERED_MAX = 10_000


class Tokens:
    """Issues and checks task tokens."""

    def __init__(
        self,
        tasks: Tasks,
        signer: TokenSigner,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        issuer: str,
        token_ttl: timedelta,
    ) -> None:
        """``issuer``: our URL; the gateway below it is the audience."""
        self._tasks, self._signer, self._clock, self._new_id = tasks, signer, clock, new_id
        self._issuer, self.audience, self._token_ttl = issuer, f"{issuer}/mcp", token_ttl
        self._remembered: OrderedDict[bytes, tuple[Bearer, datetime]] = OrderedDict()

    async def issue(self, task_id: str, proof: str) -> tuple[str, datetime]:
        """A token for a live task, and when it ends. The exchange is recorded first. Raises Unauthenticated, NotFound, Outage."""
        jti = self._new_id("tok")

        def build(task: Task, now: datetime) -> tuple[Body, datetime]:
            if task.over or now >= task.deadline or cut_off(self._tasks.lineage(task) or (), now):
                raise Unauthenticated(f"task {task.id} has ended")
            if self._tasks.standing.stopped([task.agent.text, *task.chain]):
                raise Refusal(f"an agent of task {task.id} is stopped", code="agent_stopped")
            expires_at = min(now + self._token_ttl, task.deadline)
            issued = TokenIssued(agent=task.agent.text, use="task-token", jti=jti, expires_at=expires_at, subject_proof=proof)
            return issued, expires_at

        task, expires_at = await self._tasks.change(task_id, build)
        claims = task_claims(task, self._issuer, self.audience, self._clock(), expires_at, jti)
        return self._signer.sign(claims, TASK_TYPE), expires_at

    async def bearer(self, token: str) -> Bearer:
        """Whom a task token stands for. Raises Unauthenticated (always the same words), Outage."""
        try:
            bearer = self._checked(token)
            task = await self._tasks.view(bearer.task)
            above = await self._tasks.ancestors(task) if task.ancestors else ()
        except (Unauthenticated, NotFound):
            raise Unauthenticated("the token does not open anything here") from None
        if task.state is TaskState.PENDING or task.agent != bearer.agent or not self._tasks.opens(task, above, self._clock()):
            raise Unauthenticated("the token does not open anything here")
        return bearer

    def why_not(self, token: str) -> str:
        """Why a token is no task token of ours, in a word for the ledger; "inactive" or "" for one that is: its task tells more."""
        try:
            self._checked(token)
        except Unauthenticated as refused:
            return refused.code if refused.code != Unauthenticated.default_code else "invalid_token"
        return "inactive"

    def _checked(self, token: str) -> Bearer:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        now = self._clock()
        if known is None:
            header, claims = self._signer.open(token)
            known = check_task_token(header, claims, self._issuer, self.audience, now)
            self._remembered[digest] = known
            if len(self._remembered) > _REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        bearer, expires_at = known
        if now.astimezone(UTC) >= expires_at:
            raise Unauthenticated("the token is expired")
        return bearer

"""Task tokens: given for a live task, checked at every use, dead the moment the task is.

Rules: a token's signature is checked once and remembered, bounded; whether its task lives is checked every time. A token
never outlives its task's deadline.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from remit.errors import NotFound, Unauthenticated
from remit.logic.claims import TASK_TYPE, check_task_token, task_claims
from remit.model.identity import Bearer
from remit.model.record import Body, TokenIssued
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.signing import TokenSigner
    from remit.model.task import Task
    from remit.services.tasks import Tasks

_REMEMBERED_MAX, _DIGEST_BYTES = 10_000, 32


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
            if task.over or now >= task.deadline:
                raise Unauthenticated(f"task {task.id} has ended")
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
        except (Unauthenticated, NotFound):
            raise Unauthenticated("the token does not open anything here") from None
        if task.over or task.state is TaskState.PENDING or task.agent != bearer.agent or self._clock() >= task.deadline:
            raise Unauthenticated("the token does not open anything here")
        return bearer

    def _checked(self, token: str) -> Bearer:
        digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        known = self._remembered.get(digest)
        now = self._clock()
        if known is None:
            header, claims = self._signer.open(token)
            known = check_task_token(header, claims, self._issuer, self.audience, now)
            self._remembered[digest] = known
            if len(self._remembered) > _REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        bearer, expires_at = known
        if now >= expires_at:
            raise Unauthenticated("the token is expired")
        return bearer

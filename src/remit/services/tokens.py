"""Task tokens: given for a live task, checked at every use, dead the moment the task is, or they are revoked.

Rules: a token's signature is checked once and remembered, bounded; whether its task lives and the token was not revoked is checked
every time, here and again where a call is decided. A token never outlives its task's deadline; that of a child task
dies with any task above, those of a stopped agent are dead. A bound token counts only with
what it is bound to. Left out: who may have one (``services/exchange.py``), proofs of possession (``services/possession.py``).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from remit.errors import NotFound, Refusal, Unauthenticated
from remit.logic.claims import TASK_TYPE, audience_of, check_bearer, check_held, check_task_token, task_claims
from remit.logic.missions import mission_claim
from remit.logic.status_list import status_claim
from remit.logic.tree import cut_off
from remit.model.record import Body
from remit.model.task import TaskState
from remit.model.token import NOTHING, Bound, Possession, TaskToken, TokenRules
from remit.model.token_record import TokenIssued, TokenRevoked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.drivers.signing import TokenSigner
    from remit.model.identity import Bearer
    from remit.model.task import Task
    from remit.services.status_lists import StatusNumbers
    from remit.services.tasks import Tasks

_REMEMBERED_MAX = 10_000
_DEMANDED = {Bound.DPOP: "a DPoP proof", Bound.MTLS: "a client certificate", Bound.EITHER: "a DPoP proof or a client certificate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A token that was given. ``details``: its grant, as ``authorization_details``."""

    token: str
    expires_at: datetime
    task: Task
    details: tuple[Mapping[str, Any], ...]


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
        rules: TokenRules | None = None,
        numbers: StatusNumbers | None = None,
    ) -> None:
        """``issuer``: our URL; the gateway below it is the audience. ``numbers``: of tokens in status lists (``None``: there are none)."""
        self._numbers = numbers
        self._tasks, self._signer, self._clock, self._new_id = tasks, signer, clock, new_id
        self._issuer, self.audience, self._token_ttl = issuer, f"{issuer}/mcp", token_ttl
        self._rules = rules or TokenRules()
        self._remembered: OrderedDict[bytes, TaskToken] = OrderedDict()

    async def issue(self, task_id: str, proof: str) -> tuple[str, datetime]:
        """A token for a live task, bound to nothing, and when it ends: for what stays on this machine. Raises as ``give``."""
        given = await self.give(task_id, proof, unbound_is_well=True)
        return given.token, given.expires_at

    async def give(
        self, task_id: str, proof: str, *, server: str = "", bound: Possession = NOTHING, exchange: str = "", unbound_is_well: bool = False
    ) -> Given:
        """A token for a live task. The exchange is recorded first. ``server``: the only one it opens; ``bound``: what was proved to
        be held; ``exchange``: the OAuth grant type. ``unbound_is_well``: whatever ``[tokens] bound`` demands.

        Raises Refusal (binding_required), Unauthenticated (the task has ended), NotFound, Outage.
        """
        if not unbound_is_well:
            self.check_binding(bound)
        jti = self._new_id("tok")
        number = await self._numbers.take() if self._numbers else -1

        def build(task: Task, now: datetime) -> tuple[Body, tuple[datetime, datetime]]:
            if task.over or now >= task.deadline or cut_off(self._tasks.lineage(task) or (), now):
                raise Unauthenticated(f"task {task.id} has ended")
            if self._tasks.standing.stopped([task.agent.text, *task.chain]):
                raise Refusal(f"an agent of task {task.id} is stopped", code="agent_stopped")
            expires_at = min(now + self._token_ttl, task.deadline)
            issued = TokenIssued(
                agent=task.agent.text,
                use="task-token",
                jti=jti,
                expires_at=expires_at,
                subject_proof=proof,
                audience=audience_of(self.audience, server) if server else "",
                bound=bound.key or bound.certificate,
                exchange=exchange,
                status_number=number,
            )
            return issued, (now, expires_at)

        task, (issued_at, expires_at) = await self._tasks.change(task_id, build)
        claims = task_claims(task, self._issuer, self.audience, issued_at, expires_at, jti, server=server, bound=bound)
        if self._rules.mission:
            claims["mission"] = mission_claim(task, self._issuer, self.audience, await self.parent(task))
        if number >= 0:
            claims["status"] = status_claim(number, self._issuer)
        details = tuple(claims["authorization_details"])
        return Given(token=self._signer.sign(claims, TASK_TYPE), expires_at=expires_at, task=task, details=details)

    def check_binding(self, bound: Possession) -> None:
        """Whether a token may be bound to no more than this. Raises Refusal (binding_required)."""
        rule = self._rules.bound
        if rule is Bound.NONE:
            return
        held = {Bound.DPOP: bound.key, Bound.MTLS: bound.certificate, Bound.EITHER: bound.key or bound.certificate}
        if not held[rule]:
            wanted = _DEMANDED[rule]
            raise Refusal(f"a token is given here only with {wanted}", code="binding_required", hint="tokens.bound demands it")

    async def bearer(self, token: str, *, server: str = "", shown: Possession = NOTHING) -> Bearer:
        """Whom a task token stands for, at one server of the gateway, or ("") where the whole task is spoken of. ``shown``: what the
        request proved to hold. Raises Unauthenticated (always the same words), Outage.
        """
        try:
            now = self._clock()
            known = self._checked(token, now)
            check_held(known, shown)
            if known.bearer.server not in {"", server}:
                raise Unauthenticated("the token opens another server")
            await self._live(known, now)
        except (Unauthenticated, NotFound):
            raise Unauthenticated("the token does not open anything here") from None
        return known.bearer

    async def look(self, token: str) -> tuple[TaskToken, Task]:
        """A live token and its task, whoever holds it, for those who may ask about it. Raises Unauthenticated, Outage."""
        try:
            now = self._clock()
            known = self._checked(token, now)
            return known, await self._live(known, now)
        except (Unauthenticated, NotFound):
            raise Unauthenticated("the token is not active") from None

    async def parent(self, task: Task) -> Task | None:
        """The task that delegated to this one, as it is now. Raises NotFound, Outage."""
        return await self._tasks.view(task.parent) if task.parent else None

    def why_not(self, token: str) -> str:
        """Why a token is no task token of ours, in a word for the ledger; "inactive" for one that is: its task tells more."""
        try:
            self._checked(token, self._clock())
        except Unauthenticated as refused:
            return refused.code if refused.code != Unauthenticated.default_code else "invalid_token"
        return "inactive"

    async def revoke(self, token: TaskToken, by: str) -> None:
        """From now on the token opens nothing, at any door and node; a revoked one again is a success. Raises NotFound, Outage."""
        await revoke_token(self._tasks, token.bearer.task, token.bearer.token, by)

    def forget(self) -> None:
        """Check signatures anew: the keys have changed."""
        self._remembered.clear()

    async def _live(self, known: TaskToken, now: datetime) -> Task:
        bearer = known.bearer
        task = self._tasks.in_memory(bearer.task)
        above: tuple[Task, ...] = ()
        if task is None or task.ancestors:
            task = task or await self._tasks.view(bearer.task)
            above, now = await self._tasks.ancestors(task), self._clock()  # reading may have taken a while
        if task.state is TaskState.PENDING or task.agent.text != bearer.agent.text or not self._tasks.opens(task, above, now):
            raise Unauthenticated("the token's task does not live")
        check_bearer(bearer, task)
        return task

    def _checked(self, token: str, now: datetime) -> TaskToken:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is None:
            header, claims = self._signer.verified(token)
            known = check_task_token(header, claims, self._issuer, self.audience, now)
            self._remembered[digest] = known
            if len(self._remembered) > _REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        if now >= known.expires_at:
            raise Unauthenticated("the token is expired")
        return known


async def revoke_token(tasks: Tasks, task_id: str, token: str, by: str) -> bool:
    """Revoke a token of a task by its id; False where it was dead already. Raises NotFound, Outage."""

    def build(task: Task, _now: datetime) -> tuple[Body, None]:
        if token in task.revoked_tokens or task.over:
            raise _DeadAlreadyError
        return TokenRevoked(jti=token, by=by), None

    try:
        await tasks.change(task_id, build)
    except _DeadAlreadyError:
        return False
    return True


class _DeadAlreadyError(Exception):
    """Leaves a build that has nothing to do."""

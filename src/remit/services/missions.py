"""A task as a mission, for those who speak the drafts (``logic/missions.py``): its status, and the ends its agent may give it.

Rules: only an agent that proves itself, and only its own tasks; others do not exist. An agent may make its task less (suspend, complete,
revoke), never more: to resume one is a person's. Each change is in the ledger before it is told.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import Conflict, Mistake, NotFound, Refusal
from remit.logic.missions import OPERATIONS, STATUS_TYPE, mission_status
from remit.model.task import TASK_MOVES, TaskState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.drivers.signing import TokenSigner
    from remit.model.task import Task
    from remit.model.token import Client
    from remit.services.tasks import Tasks
    from remit.services.tokens import Tokens

_STATUS_TTL = timedelta(minutes=1)
_NONCE_MAX = 512


class Missions:
    """Of one node."""

    def __init__(
        self,
        tasks: Tasks,
        tokens: Tokens,
        signer: TokenSigner,
        clock: Callable[[], datetime],
        end_task: Callable[[str], Awaitable[None]],
        *,
        issuer: str,
        served: bool,
    ) -> None:
        """``end_task`` lets go of an ended task. ``served``: whether ``[tokens] mission`` asks for any of this."""
        self._tasks, self._tokens, self._signer, self._clock, self._end_task = tasks, tokens, signer, clock, end_task
        self._issuer, self._served = issuer, served

    async def status(self, client: Client, mission: str, nonce: str) -> str:
        """A signed status response. Raises Mistake, Outage."""
        task, now = await self._own(client, mission), self._clock()
        if len(nonce) > _NONCE_MAX:
            raise Mistake("the nonce is too long", code="invalid_request")
        claims = {
            "iss": self._issuer,
            "aud": client.agent.text,
            "sub": task.id,
            "iat": int(now.timestamp()),
            "exp": int((now + _STATUS_TTL).timestamp()),
            **({"nonce": nonce} if nonce else {}),
            **mission_status(task, self._issuer, self._tokens.audience, now, await self._tokens.parent(task)),
        }
        return self._signer.sign(claims, STATUS_TYPE)

    async def change(self, client: Client, mission: str, operation: str) -> TaskState:
        """Make the task less; the state it has then. Raises Mistake, Refusal, Outage."""
        to = OPERATIONS.get(operation)
        if to is None:
            raise Mistake(f"an operation is one of {', '.join(OPERATIONS)}", code="invalid_request")
        task = await self._own(client, mission)
        if to is TaskState.ACTIVE:
            raise Refusal("an agent does not resume its own task", code="access_denied")
        try:
            if TASK_MOVES[to]:
                return (await self._tasks.move(task.id, to, by=client.agent.text)).state
            ended = await self._tasks.end(task.id, to, by=client.agent.text)
        except Conflict as conflict:
            raise Mistake(conflict.message, code="invalid_request", hint=conflict.hint) from None
        await self._end_task(task.id)
        if ended.state is not to:
            raise Mistake(f"the mission has ended as {ended.state}", code="invalid_request")
        return ended.state

    async def _own(self, client: Client, mission: str) -> Task:
        if not self._served:
            raise Mistake("missions are not spoken here", code="invalid_request")
        try:
            task = await self._tasks.view(mission)
        except NotFound:
            task = None
        if task is None or task.agent != client.agent:
            raise Mistake("there is no such mission of yours", code="invalid_request")
        return task

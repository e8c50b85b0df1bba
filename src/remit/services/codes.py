"""What a client of people gets for a consent: a code once, then tokens for the task, as long as it lives.

Rules
* A code holds for a minute, for the client, the address, the verifier and the DPoP key it was made for (RFC 6749 §4.1.3, RFC 7636 §4.6,
  RFC 9449 §10).
* A refresh token is good for one use and brings the next (RFC 9700 §4.14.2); it ends with the task, and is bound to the DPoP key of
  whoever got it.
* Whoever shows the right verifier, or the token itself, a second time ends the task: one of the two is a thief.

Left out: how a person came to consent (``services/front_channel.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Conflict, Mistake, NotFound, Unauthenticated
from remit.logic.front_channel import verifier_fits
from remit.model.identity import Workload
from remit.model.task import TaskState
from remit.model.token import Client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.drivers.sealing import Sealer
    from remit.model.task import Task
    from remit.model.token import Possession, TokenRequest
    from remit.services.replays import Replays
    from remit.services.tasks import Tasks
    from remit.settings import Agent

_CODE_TTL = timedelta(seconds=60)
_CHARACTERS_MAX = 8_192
_CODE, _REFRESH = "authorization code", "refresh token"
_PROOF = "consent"


class _Given(msgspec.Struct, frozen=True):
    """A code or a refresh token. ``client``: digest of its id; ``redirect``, ``challenge``: of a code; ``key``: of DPoP, or ""."""

    id: str
    task: str
    client: str
    server: str
    until: int
    redirect: str = ""
    challenge: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemed:
    """What a code or a refresh token stands for."""

    client: Client
    task: Task
    server: str


class Codes:
    """Codes and refresh tokens of one trust domain."""

    def __init__(
        self,
        tasks: Tasks,
        replays: Replays,
        sealer: Sealer,
        clock: Callable[[], datetime],
        *,
        agents: Callable[[], Mapping[str, Agent]],
        end_task: Callable[[str], Awaitable[None]],
    ) -> None:
        """``agents``: as declared now. ``end_task``: lets go of an ended task."""
        self._tasks, self._replays, self._sealer, self._clock = tasks, replays, sealer, clock
        self._agents, self._end_task = agents, end_task

    def code(self, task: Task, client_id: str, redirect: str, challenge: str, server: str, key: str = "") -> str:
        """A code for a task that a person has just consented to. ``key``: whose DPoP proof it needs ("" : none; RFC 9449 §10)."""
        given = _Given(
            id=secrets.token_urlsafe(16),
            task=task.id,
            client=_digest(client_id),
            server=server,
            until=int((self._clock() + _CODE_TTL).timestamp()),
            redirect=redirect,
            challenge=challenge,
            key=key,
        )
        return self._seal(given, _CODE)

    async def redeemed(self, asked: TokenRequest, held: Possession) -> Redeemed:
        """What a code stands for, once. Raises Mistake (invalid_grant), Outage."""
        code = self._opened(asked.code, _CODE, asked.client_id)
        if asked.redirect_uri not in {"", code.redirect} or not verifier_fits(code.challenge, asked.code_verifier):
            raise Mistake("the code is for another client", code="invalid_grant")
        if code.key not in {"", held.key}:
            raise Mistake("the code is bound to another key", code="invalid_grant")
        return await self._used(code, _CODE)

    async def refreshed(self, asked: TokenRequest, held: Possession) -> Redeemed:
        """What a refresh token stands for, once. Raises Mistake (invalid_grant), Outage."""
        token = self._opened(asked.refresh_token, _REFRESH, asked.client_id)
        if token.key != held.key:
            raise Mistake("the refresh token is bound to another key", code="invalid_grant")
        return await self._used(token, _REFRESH)

    def refresh_token(self, asked: TokenRequest, redeemed: Redeemed, held: Possession) -> str:
        """The next refresh token: as long as the task, bound to the same key."""
        given = _Given(
            id=secrets.token_urlsafe(16),
            task=redeemed.task.id,
            client=_digest(asked.client_id),
            server=redeemed.server,
            until=int(redeemed.task.deadline.timestamp()),
            key=held.key,
        )
        return self._seal(given, _REFRESH)

    async def _used(self, given: _Given, what: str) -> Redeemed:
        try:
            await self._replays.take(f"{what} {given.id}", datetime.fromtimestamp(given.until, UTC))
        except Unauthenticated:
            with contextlib.suppress(NotFound, Conflict):
                await self._tasks.end(given.task, TaskState.REVOKED, by="remit", reason=f"its {what} was used twice")
                await self._end_task(given.task)
            raise Mistake(f"the {what} was used before, and its task is over", code="invalid_grant") from None
        try:
            task = await self._tasks.view(given.task)
        except NotFound:
            raise Mistake("the task has ended", code="invalid_grant") from None
        name = next((agent.name for agent in self._agents().values() if agent.spiffe_id == task.agent), "")
        if task.over or self._clock() >= task.deadline or not name:
            raise Mistake("the task has ended", code="invalid_grant")
        return Redeemed(client=Client(name=name, workload=Workload(agent=task.agent, proof=_PROOF)), task=task, server=given.server)

    def _opened(self, text: str, what: str, client_id: str) -> _Given:
        wrong = Mistake(f"the {what} does not hold", code="invalid_grant")
        if not 0 < len(text) <= _CHARACTERS_MAX:
            raise wrong
        try:
            given = msgspec.json.decode(self._sealer.open(text, what), type=_Given)
        except (Unauthenticated, msgspec.MsgspecError):
            raise wrong from None
        if self._clock().astimezone(UTC).timestamp() >= given.until:
            raise wrong
        if not client_id or not secrets.compare_digest(given.client, _digest(client_id)):
            raise Mistake(f"the {what} is another client's", code="invalid_grant")
        return given

    def _seal(self, given: _Given, what: str) -> str:
        return self._sealer.seal(msgspec.json.encode(given), what)


def _digest(client_id: str) -> str:
    return hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).hexdigest()

"""Tells approvers of questions at their webhooks, again and again until each has been told or the question is over.

Rules: nothing is lost by a restart: what has to be told is found again from the open questions, and that it was told is kept in
the store beside their details. A message may arrive twice, always with the same id. Queue, attempts at once, waits between them
and time are bounded; nothing here is on the road of a call.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from remit.errors import NotFound, Outage
from remit.model.approval import ApprovalState
from remit.services.questions import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.webhooks import Delivery
    from remit.model.approval import Approval
    from remit.model.approver import Approver
    from remit.model.task import Task
    from remit.services.approvals import Approvals, Question
    from remit.services.invitations import Invitations
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_AT_ONCE_MAX = 16
_SEARCH_SECONDS = 30.0
_ELSEWHERE_SECONDS = 20.0  # so long a question is left to the node where it was asked
_WAIT_SECONDS_MAX = 300.0


class Poster(Protocol):
    """Sends one signed message once."""

    async def post(self, address: str, key: bytes, message_id: str, now: datetime, body: bytes) -> Delivery:
        """Never raises for what the receiver does."""


class Notices:
    """What one node has to tell."""

    def __init__(
        self,
        store: Store,
        approvals: Approvals,
        invitations: Invitations,
        poster: Poster,
        clock: Callable[[], datetime],
        *,
        queue_max: int,
        first_wait_seconds: float = 1.0,
    ) -> None:
        """``queue_max``: messages that wait; what does not fit is found again later. ``first_wait_seconds``: doubled each time."""
        self._store, self._approvals, self._invitations, self._poster, self._clock = store, approvals, invitations, poster, clock
        self._queue_max, self._first_wait_seconds = queue_max, first_wait_seconds
        self._telling: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE_MAX)

    def asked(self, task: Task, approval: Approval) -> None:
        """A question was just asked here: tell of it at once."""
        for approver in self._approvals.who(task, approval):
            key = (approval.id, approver.name)
            if approver.webhook and key not in self._telling and len(self._telling) < self._queue_max:
                telling = self._telling[key] = asyncio.create_task(self._tell(task.id, approval.id, approver.name))
                telling.add_done_callback(lambda _, key=key: self._telling.pop(key, None))  # type: ignore[misc]  # a default binds it now

    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._telling)

    async def run(self) -> None:
        """Run until cancelled: find what still has to be told, at the start and from time to time."""
        elsewhere = 0.0
        try:
            while True:
                try:
                    await self.search(elsewhere)
                    elsewhere = _ELSEWHERE_SECONDS
                except Outage:
                    pass  # tried again a moment later
                await asyncio.sleep(_SEARCH_SECONDS)
        finally:
            await self.close()

    async def search(self, age_seconds: float = 0.0) -> None:
        """Take up every open question of that age that an approver was not told of. Raises Outage."""
        for row in await self._approvals.pending():
            if (self._clock() - row.asked_at).total_seconds() >= age_seconds:
                question = await self._approvals.read(row.task, row.approval)
                if question is not None and not question.task.over:
                    self.asked(question.task, question.approval)

    async def close(self) -> None:
        """Stop telling; what is left is found again at the next start."""
        telling = list(self._telling.values())
        for one in telling:
            one.cancel()
        await asyncio.gather(*telling, return_exceptions=True)

    async def _tell(self, task: str, approval: str, name: str) -> None:
        """Tell one approver of one question until it is told, over, or nobody's business of theirs any more."""
        told, wait = f"{BEGINNING}{approval}/told/{name}", self._first_wait_seconds
        while True:
            pause = wait
            try:
                if await self._store.document(told) is not None:
                    return
                question = await self._approvals.read(task, approval)
                approver = self._still(question, name)
                if question is None or approver is None:
                    return
                async with self._turns:
                    delivery = await self._post(question, approver)
                if delivery.delivered or delivery.final:
                    await self._store.put_document(told, f"{self._clock().isoformat()} {delivery.what}")
                    return
                _LOG.warning("approver %s was not told of question %s: %s", name, approval, delivery.what)
                pause = max(wait, float(delivery.retry_after_seconds))
            except Outage as outage:
                _LOG.warning("approver %s was not told of question %s: %s", name, approval, outage.message)
            except NotFound:
                return
            await asyncio.sleep(pause)
            wait = min(wait * 2, _WAIT_SECONDS_MAX)

    def _still(self, question: Question | None, name: str) -> Approver | None:
        """The approver as configured now, while there is something to be told."""
        if question is None or question.approval.state is not ApprovalState.PENDING or question.task.over:
            return None
        if self._clock() >= question.approval.expires_at:
            return None
        may = self._approvals.who(question.task, question.approval)
        return next((approver for approver in may if approver.name == name and approver.webhook), None)

    async def _post(self, question: Question, approver: Approver) -> Delivery:
        approval = question.approval
        body = msgspec.json.encode(
            {
                "type": "approval.asked",
                "timestamp": question.asked_at,
                "data": {
                    "approval": approval.id,
                    "approver": approver.name,
                    "call": approval.call,
                    "arguments_digest": approval.digest,
                    "expires_at": approval.expires_at,
                    "link": self._invitations.link(approver, approval) if approver.secret_digest else "",
                    "evidence": question.details.evidence if question.details else None,
                },
            }
        )
        message_id = f"msg_{approval.id}_{approver.name}"  # the same at every attempt, so that a receiver can tell
        return await self._poster.post(approver.webhook, approver.signing_key, message_id, self._clock(), body)

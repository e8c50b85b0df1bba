"""A task's own leases over HTTP: what stands for it on which target, and how long. Never a secret. Translates; decides nothing.

The operator's view of all leases is the command line's (``remit lease``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from remit.doors.peer import shown_by
from remit.errors import Unauthenticated
from remit.logic.lease_words import may_do
from remit.model.identity import PeerCertificate
from remit.wire import LeasesView, LeaseView

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from remit.model.lease import Lease
    from remit.model.task import Task
    from remit.services.bearers import Bearers
    from remit.services.tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesApi:
    """``issuer``: our URL. ``clock``: by which the seconds that are left are counted."""

    bearers: Bearers
    issuer: str
    tasks: Tasks
    clock: Callable[[], datetime]

    async def list(self, request: Request) -> Response:
        """Leases of the task whose token is presented. Raises Unauthenticated, NotFound, Outage."""
        shown = shown_by(request, self.issuer)
        if not shown or isinstance(shown, PeerCertificate):
            raise Unauthenticated("a task token is needed", hint="Authorization: Bearer <task token>")
        task = await self.tasks.view((await self.bearers.bearer(shown)).task)
        now = self.clock()
        body = msgspec.json.encode(LeasesView(leases=[_told(task, lease, now) for lease in task.leases.values()]))
        return Response(body, 200, {"cache-control": "no-store"}, media_type="application/json")


def _told(task: Task, lease: Lease, now: datetime) -> LeaseView:
    may = may_do(task, lease)
    return LeaseView(
        lease=lease.id,
        name=lease.name,
        target=lease.target,
        state=lease.state.value,
        expires_at=lease.expires_at,
        seconds_left=max(int((lease.expires_at - now).total_seconds()), 0) if lease.live else 0,
        scope=may.scope,
        may=list(may.words),
        parts=[part.number for part in may.parts],
    )

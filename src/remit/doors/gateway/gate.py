"""Who speaks at the gateway: the bearer of a task token, or whoever knows the secret path of a task's own endpoint.

Rules: an endpoint ends with its task or with this process. Left out: whom a token stands for (``services/bearers.py``).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from remit.errors import Unauthenticated
from remit.model.identity import Bearer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.model.token import Credential
    from remit.services.bearers import Bearers
    from remit.services.tasks import Tasks


class Gate:
    """Who presents a token or speaks through a task's own endpoint (``doors/gateway/mcp.Gatekeeper``)."""

    def __init__(self, bearers: Bearers, tasks: Tasks, clock: Callable[[], datetime]) -> None:
        self._bearers, self._tasks, self._clock = bearers, tasks, clock
        self._endpoints: dict[bytes, str] = {}

    async def bearer(self, shown: Credential, server: str) -> tuple[Bearer, str]:
        """Who presents a token at a server, and a new DPoP nonce where one is due. Raises Unauthenticated, Outage."""
        return await self._bearers.with_nonce(shown, server)

    def nonce(self) -> str:
        """A fresh DPoP nonce."""
        return self._bearers.nonce()

    async def endpoint(self, secret: str) -> Bearer:
        """Raises Unauthenticated. Looked up by digest, so that timing tells nothing of the secret."""
        task_id = self._endpoints.get(_digest(secret))
        if task_id is None:
            raise Unauthenticated("this endpoint does not open anything")
        task = await self._tasks.view(task_id)
        if not self._tasks.opens(task, await self._tasks.ancestors(task), self._clock()):
            raise Unauthenticated("this endpoint does not open anything")
        return Bearer(agent=task.agent, task=task_id, proof="endpoint")

    def open_endpoint(self, task_id: str) -> str:
        """A new secret path for one task; it ends with the task or with this process."""
        secret = secrets.token_urlsafe(32)
        self._endpoints[_digest(secret)] = task_id
        return secret

    def close_endpoints(self, task_id: str) -> None:
        """Forget the endpoints of a task."""
        self._endpoints = {secret: task for secret, task in self._endpoints.items() if task != task_id}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

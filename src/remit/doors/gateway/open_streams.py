"""Streams that stay open for an agent: what it hears by itself ends when what it heard it by was taken back.

Rules: a stream goes on while its token is not revoked, its task and all above it are neither suspended nor ended, and no agent of the chain
is stopped; it is looked at when the ledger tells of any of these, and when it begins. In doubt it ends: the agent may ask again. The
end of the stream's own task is told elsewhere, with a last word (``listening.py``, ``legacy.py``). Nothing here is on the road of a call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Refusal, RemitError
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remit.model.identity import Bearer
    from remit.services.tasks import Tasks


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    bearer: Bearer
    serving: asyncio.Task[None]


class OpenStreams:
    """The open streams of one node."""

    def __init__(self, tasks: Tasks) -> None:
        """``tasks``: as this process knows them."""
        self._tasks = tasks
        self._open: set[_Open] = set()

    async def hold(self, bearer: Bearer, work: Coroutine[Any, Any, None]) -> None:
        """Serve a stream until it is over or must end. Raises Refusal (it must), and what the work raises."""
        stream = _Open(bearer, asyncio.create_task(work))
        self._open.add(stream)
        try:
            await self._look_at(stream)
            await asyncio.wait({stream.serving})
        finally:
            self._open.discard(stream)
            if stream.serving.cancel():  # whoever serves it was cancelled
                await asyncio.gather(stream.serving, return_exceptions=True)
        if stream.serving.cancelled():
            raise Refusal("what opened this stream was taken back", code="taken_back")
        stream.serving.result()

    async def look(self) -> None:
        """Something was taken back: end what rests on it."""
        for stream in tuple(self._open):
            await self._look_at(stream)

    async def _look_at(self, stream: _Open) -> None:
        try:
            goes_on = await self._goes_on(stream.bearer)
        except RemitError:
            goes_on = False
        if not goes_on:
            stream.serving.cancel()

    async def _goes_on(self, bearer: Bearer) -> bool:
        task = await self._tasks.view(bearer.task)
        above = await self._tasks.ancestors(task)
        if bearer.token and bearer.token in task.revoked_tokens:
            return False
        if task.state is TaskState.SUSPENDED or any(one.state is not TaskState.ACTIVE for one in above):
            return False
        return not self._tasks.standing.stopped([task.agent.text, *task.chain])

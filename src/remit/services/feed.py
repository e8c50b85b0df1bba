"""Follows the ledger as it grows, whoever appends: forgets stale tasks, tells who watches, notices ended tasks.

Rules: a watcher that does not read loses its place, never the ledger's: it is told so by being ended. Nothing here is on the
road of a call; decisions are checked by compare and swap, not by this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remit.errors import Outage
from remit.logic.records import decode
from remit.model.delegation_record import TaskNarrowed
from remit.model.lease_record import LeaseRevoking
from remit.model.manifest import Follows, ManifestChanged
from remit.model.record import TaskMoved
from remit.model.task import TASK_MOVES, TaskState
from remit.model.tripwire import SecretFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from remit.model.record import Body
    from remit.services.tasks import Tasks
    from remit.store.database import Entry, Store

_PAGE = 500
_WAIT_SECONDS = 5.0
_GATHER_SECONDS = 0.02  # a busy ledger is read in pieces, not entry by entry
_SWEEP_SECONDS = 1.0
_BEHIND_MAX = 10_000
_MOVED = tuple(b'"kind":"%s"' % kind for kind in (b"task.moved", b"task.narrowed", b"manifest.changed", b"lease.revoking", b"secret.found"))
_STANDING = b'"kind":"agents.'
_TAKES_BACK = (b'"kind":"task.moved"', b'"kind":"manifest.changed"', b'"kind":"token.revoked"', _STANDING)


class Feed:
    """One follower a process."""

    def __init__(
        self,
        store: Store,
        tasks: Tasks,
        on_end: Callable[[str], Awaitable[None]],
        on_change: Callable[[str], Awaitable[None]] | None = None,
        on_taken_back: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``on_end``: called once with each task that has ended. ``on_change``: with each that was suspended, by a person or by
        a change of its manifest, that was narrowed or loses a credential: what it holds is taken from it there.
        ``on_taken_back``: called where a task, a token or an agent may have lost its authority; whatever rests on one is looked at.
        """
        self._on_taken_back = on_taken_back
        self._store, self._tasks, self._on_end, self._on_change = store, tasks, on_end, on_change
        self._watchers: list[asyncio.Queue[Entry | None]] = []
        self.mark = 0

    async def follow(self) -> None:
        """Run until cancelled. An outage of the store is waited out."""
        self.mark = await self._store.change_mark()
        await self._tasks.standing.read()
        while True:
            try:
                await self._store.wait_for_change(self.mark, _WAIT_SECONDS)
                while entries := await self._store.entries(self.mark, _PAGE):
                    self.mark = entries[-1].index + 1
                    await self._tell(entries)
                    if len(entries) < _PAGE:
                        break
                await asyncio.sleep(_GATHER_SECONDS)
            except Outage:
                await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Run until cancelled: end tasks that are past their deadline."""
        while True:
            try:
                await self._tasks.expire_due()
            except Outage:
                pass  # tried again a moment later
            await asyncio.sleep(_SWEEP_SECONDS)

    async def watch(self) -> AsyncIterator[Entry]:
        """Entries from now on."""
        queue: asyncio.Queue[Entry | None] = asyncio.Queue(_BEHIND_MAX)
        self._watchers.append(queue)
        try:
            while (entry := await queue.get()) is not None:
                yield entry
        finally:
            self._watchers.remove(queue)

    async def _tell(self, entries: tuple[Entry, ...]) -> None:
        self._tasks.seen(entries)
        if any(entry.task is None and _STANDING in entry.body for entry in entries):
            await self._tasks.standing.read()
        if self._on_taken_back is not None and any(kind in entry.body for entry in entries for kind in _TAKES_BACK):
            await self._on_taken_back()
        for entry in entries:
            for queue in self._watchers:
                if queue.full():
                    queue.get_nowait()
                    entry_or_end: Entry | None = None
                else:
                    entry_or_end = entry
                queue.put_nowait(entry_or_end)
            if entry.task is not None and any(kind in entry.body for kind in _MOVED):
                await self._moved(entry.task, decode(entry.body).body)

    async def _moved(self, task: str, body: Body) -> None:
        if isinstance(body, TaskMoved) and not TASK_MOVES[TaskState(body.to)]:
            await self._on_end(task)
        suspended = isinstance(body, TaskMoved) and body.to == TaskState.SUSPENDED
        drifted = isinstance(body, ManifestChanged) and body.follows != Follows.RECORD
        if (suspended or drifted or isinstance(body, LeaseRevoking | SecretFound | TaskNarrowed)) and self._on_change is not None:
            await self._on_change(task)

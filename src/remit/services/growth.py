"""Tells who looks that the ledger has grown: of all, or of one task. A cursor, never a queue.

Rules: whoever reads slowly is told less often, and misses nothing: what is told is how far the ledger is, and it is read from there.
Nothing is kept for those who do not read. At most once a second, and a word now and then where nothing happens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.store.database import Store

_QUIET_SECONDS = 10.0
_GATHER_SECONDS = 1.0
_LOOKED_AT_MAX = 1_000  # entries, for those of one task; beyond, it counts as one of them


class Growth:
    """The growth of one store's ledger."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def follow(self, after: int, task: str = "") -> AsyncIterator[int | None]:
        """How many entries there are, each time there are more (of that task) than ``after``; ``None`` where nothing was to tell.

        Begins at once where there are more already. ``after`` beyond the ledger, or below 0: from now on. Raises Outage.
        """
        size = await self._store.change_mark()
        mark = after if 0 <= after <= size else size
        while True:
            size = await self._store.wait_for_change(mark, _QUIET_SECONDS)
            told = size if size > mark and await self._concerns(task, mark, size) else None
            yield told
            if size > mark:
                await asyncio.sleep(_GATHER_SECONDS)
            mark = max(mark, size)

    async def _concerns(self, task: str, mark: int, size: int) -> bool:
        if not task or size - mark > _LOOKED_AT_MAX:
            return True
        return any(entry.task == task for entry in await self._store.entries(mark, size - mark))

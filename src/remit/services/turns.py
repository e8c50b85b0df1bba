"""Whose turn a piece of work is, of several nodes on one store: kept there, for some seconds at a time.

Rules: a turn is taken by compare and swap, renewed well before it is over, and given up when a node ends. Where a node dies another has the
turn seconds later. It keeps work from being done twice in ordinary running; what must never be done twice needs more than this.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from remit.services.kept_state import KeptState

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.store.database import Store

TURN_SECONDS = 30.0  # longer than one attempt at the work may take, twice


class Turn:
    """One piece of work, as one node sees it."""

    def __init__(self, store: Store, key: str, node: str, clock: Callable[[], datetime]) -> None:
        """``node``: names this process among others, without a space."""
        self._kept, self._node, self._clock = KeptState(store, key), node, clock
        self._until: datetime | None = None

    async def ours(self) -> bool:
        """Whether it is our turn now. Raises Outage."""
        now = self._clock()
        if self._until is not None and now < self._until:
            return True
        self._until = None
        version, text = await self._kept.read()
        owner, _, until = text.partition(" ")
        if text and owner != self._node and now.timestamp() < float(until):
            return False
        if not await self._kept.write(version, f"{self._node} {(now + timedelta(seconds=TURN_SECONDS)).timestamp()}"):
            return False
        self._until = now + timedelta(seconds=TURN_SECONDS / 2)
        return True

    async def give_up(self) -> None:
        """Let others go on at once. Raises Outage."""
        if self._until is None:
            return
        self._until = None
        version, text = await self._kept.read()
        if text.startswith(f"{self._node} "):
            await self._kept.write(version, "")

"""A proof that opens something opens it once, on whichever node and after whatever restart.

Rules: the first who keeps a use wins, and the store says who that was. What is kept is a digest, under the time until which the proof
would hold; it is dropped after that, when the proof is refused anyway. Bounded: only proofs that hold get here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.store.database import Store

_KEPT = "proof/"
_AFTER = timedelta(minutes=5)  # beyond the leeway of clocks, of several nodes too
_AT_ONCE = 200


class Replays:
    """Uses of proofs, in one store."""

    def __init__(self, store: Store, clock: Callable[[], datetime], new_id: Callable[[str], str]) -> None:
        """``new_id``: as of ``Tasks``."""
        self._store, self._clock, self._new_id = store, clock, new_id

    async def take(self, use: str, expires_at: datetime) -> None:
        """Use a proof up. ``use``: the same for the same proof, as is when it expires. Raises Unauthenticated the second time, Outage."""
        key, mine = f"{_KEPT}{int(expires_at.timestamp()):012d}/{use}", self._new_id("use")
        await self._store.put_document(key, mine)
        if await self._store.document(key) != mine:
            raise Unauthenticated("the token was used before")

    async def sweep(self) -> int:
        """Forget proofs that expired; returns how many. Safe to run anywhere, any number of times. Raises Outage."""
        dropped = 0
        past = f"{_KEPT}{int((self._clock() - _AFTER).timestamp()):012d}/"
        while True:
            keys = [key for key in await self._store.document_keys(_KEPT, "", _AT_ONCE) if key < past]
            for key in keys:
                await self._store.drop_document(key)
            dropped += len(keys)
            if len(keys) < _AT_ONCE:
                return dropped

"""What may be used once: ids of assertions and proofs, remembered durably as long as they could be presented again.

Rules: of several that use the same thing at one time, on whatever node, exactly one is the first: the store keeps the first text of
a key. Only digests are kept. Left out: whether what is presented is sound at all.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.store.database import Store

_BEGINNING = "once/"
_PAGE = 500


class Once:
    """Single use in one store."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock = store, clock

    async def first(self, use: str, identifier: str, until: datetime) -> bool:
        """Whether this is the first time that ``identifier`` is presented for a use. ``until``: when it can no longer be. Raises Outage."""
        digest = hashlib.sha256(f"{use}\0{identifier}".encode("utf-8", "surrogatepass")).hexdigest()
        key, own = f"{_BEGINNING}{int(until.timestamp()):012d}/{digest}", secrets.token_hex(16)
        await self._store.put_document(key, own)
        return await self._store.document(key) == own

    async def sweep(self) -> int:
        """Forget what can no longer be presented; returns how much. Safe anywhere, any number of times. Raises Outage."""
        dropped, now = 0, f"{_BEGINNING}{int(self._clock().timestamp()):012d}"
        while keys := await self._store.document_keys(_BEGINNING, _BEGINNING, _PAGE):  # the longest ago first
            over = [key for key in keys if key < now]
            for key in over:
                await self._store.drop_document(key)
            dropped += len(over)
            if len(over) < _PAGE:
                break
        return dropped

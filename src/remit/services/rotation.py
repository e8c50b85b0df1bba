"""Replacing the key that signs tokens: recorded first, then done; by age, or because somebody says so.

Rules: the record names both keys by their thumbprints. Of several processes that find the key too old one after the other replaces it:
each looks again when it is alone. Left out: files and locks (``drivers/key_ring.py``).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.logic.records import encode
from remit.model.record import Record
from remit.model.token_record import KeysRotated
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.key_ring import KeyRing
    from remit.store.database import Store


class Rotation:
    """Of one trust domain's token keys."""

    def __init__(
        self, ring: KeyRing, store: Store, clock: Callable[[], datetime], forget: Callable[[], None], *, age_max: timedelta | None
    ) -> None:
        """``forget``: drops what is remembered of checked signatures. ``age_max``: ``None``: only when somebody says so."""
        self._ring, self._store, self._clock, self._forget, self._age_max = ring, store, clock, forget, age_max

    async def rotate(self, by: str, *, compromised: bool = False) -> None:
        """The next key signs from now on. ``compromised``: whatever the one before signed is worth nothing at once.

        Raises Outage, Mistake.
        """
        self._ring.refresh()
        ids = {state.use: state.id for state in self._ring.states()}
        body = KeysRotated(retired=ids["signs"], current=ids["next"], by=by, compromised=compromised)
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))
        self._ring.rotate(self._clock(), compromised=compromised)
        self._forget()

    async def look(self) -> bool:
        """Take up what others did, replace a key that is too old, forget those that are over; whether anything changed.

        Raises Outage, Mistake.
        """
        changed, now = self._ring.refresh(), self._clock()
        current = next(state for state in self._ring.states() if state.use == "signs")
        if self._age_max is not None and now.timestamp() - current.since > self._age_max.total_seconds():
            await self.rotate("remit")
            changed = True
        changed = bool(self._ring.sweep(now)) or changed
        if changed:
            self._forget()
        return changed

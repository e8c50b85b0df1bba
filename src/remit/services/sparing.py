"""How often the same is written down: so many a minute one by one, the rest counted, so that nobody fills the ledger with refusals.

Rules: whoever is refused often does not hide another: each key has a minute of its own. What was not written is told with the next that is.
Keys are bounded; the one that was quiet longest goes, and what it had not told goes to the next. Left out: what is written.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

PER_MINUTE = 60
_KEYS_MAX = 1_000
_MINUTE = timedelta(minutes=1)


class Sparing:
    """Counts for one kind of record, in this process."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._recent: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._skipped: dict[str, int] = {}
        self._of_forgotten = 0

    def admit(self, key: str, now: datetime) -> int | None:
        """How many before it were not written, where this one is to be; ``None`` where it is only counted. ``key``: whose it is."""
        recent = self._recent.setdefault(key, deque())
        self._recent.move_to_end(key)
        while recent and now - recent[0] >= _MINUTE:
            recent.popleft()
        if len(recent) >= PER_MINUTE:
            self._skipped[key] = self._skipped.get(key, 0) + 1
            return None
        recent.append(now)
        if len(self._recent) > _KEYS_MAX:
            quiet, _ = self._recent.popitem(last=False)
            self._of_forgotten += self._skipped.pop(quiet, 0)
        return self.untold(key)

    def untold(self, key: str) -> int:
        """How many were only counted and are told of now."""
        skipped, self._of_forgotten = self._skipped.pop(key, 0) + self._of_forgotten, 0
        return skipped

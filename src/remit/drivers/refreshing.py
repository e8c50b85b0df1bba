"""Keeps one fetched thing fresh: cached by its own word within bounds, fetched by one at a time, backed off from after failures.

Rules: what was fetched is used while it is fresh; then it is fetched again, and where that fails it is used on until it is ``age_max``
old, and not a second longer. A failure is not repeated before a pause that doubles. ``newer`` asks out of turn, at most once a pause,
whoever asks how often: what a stranger's token says must not drive requests.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from remit.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
FRESH_SECONDS_MIN, FRESH_SECONDS, FRESH_SECONDS_MAX = 60.0, 300.0, 3_600.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 300.0
OUT_OF_TURN_SECONDS = 30.0


class Refreshing(Generic[T]):
    """One thing, and when it was last had."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[tuple[T, float | None]]],
        age_max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``fetch``: the thing, and for how many seconds it holds by its own word; raises Outage. ``clock``: seconds that only grow."""
        self._fetch, self._age_max, self._clock = fetch, age_max_seconds, clock
        self._value: T | None = None
        self._had = self._fresh_until = self._not_before = self._tried = float("-inf")
        self._pause, self._why = PAUSE_SECONDS_MIN, "it was never fetched"
        self._fetching = asyncio.Lock()

    async def current(self) -> T:
        """The thing as it is now, as far as is known. Raises Outage."""
        if self._clock() >= self._fresh_until:
            async with self._fetching:
                now = self._clock()
                if now >= self._fresh_until and now >= self._not_before:
                    await self._refresh()
        return self._usable()

    async def newer(self) -> T:
        """The thing, fetched anew unless that was done a moment ago. Raises Outage."""
        async with self._fetching:
            now = self._clock()
            if now >= self._not_before and now >= self._tried + OUT_OF_TURN_SECONDS:
                await self._refresh()
        return self._usable()

    def kept(self) -> T | None:
        """What is kept and not too old, without fetching."""
        return self._value if self._clock() < self._had + self._age_max else None

    def _usable(self) -> T:
        value = self.kept()
        if value is None:
            raise Outage(self._why, code="trust_fetch")
        return value

    async def _refresh(self) -> None:
        began = self._tried = self._clock()
        try:
            value, told = await self._fetch()
        except Outage as error:
            self._why = error.message
            self._not_before = self._clock() + self._pause
            self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)
            return
        fresh = min(max(FRESH_SECONDS if told is None else told, FRESH_SECONDS_MIN), FRESH_SECONDS_MAX, self._age_max)
        self._value, self._had, self._fresh_until = value, began, began + fresh
        self._not_before, self._pause = float("-inf"), PAUSE_SECONDS_MIN

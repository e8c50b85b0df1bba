"""Time limits that cost next to nothing: all waits of an event loop share one timer, which looks four times a second.

Rules: as exact as a bound on a wait needs to be (up to a quarter of a second late), never early. What is under a limit is
cancelled in the way of ``asyncio.timeout``: a cancellation from elsewhere stays one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from types import TracebackType

_LOOK_SECONDS = 0.25


class within:  # noqa: N801  # reads as the statement it is: with within(seconds)
    """A block that may take so many seconds. Raises TimeoutError when it takes longer."""

    __slots__ = ("_cancelling", "_clock", "_end", "_expired", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        clock = _CLOCKS.get(loop)
        if clock is None:
            clock = _CLOCKS[loop] = _Clock(loop)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is used inside of a task")
        self._task, self._clock, self._expired = task, clock, False
        self._cancelling = task.cancelling()
        self._end = loop.time() + self._seconds
        clock.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clock.open.discard(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def look(self, now: float) -> None:
        """Cancel the block where its time is over."""
        if now >= self._end:
            self._expired = True
            self._clock.open.discard(self)
            self._task.cancel()


class _Clock:
    """The timer of one loop; it runs while somebody waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.open: set[within] = set()
        self._loop = loop
        self._running = False

    def add(self, limit: within) -> None:
        self.open.add(limit)
        if not self._running:
            self._running = True
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for limit in list(self.open):
            limit.look(now)
        self._running = bool(self.open)
        if self._running:
            self._loop.call_later(_LOOK_SECONDS, self._look)


_CLOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clock] = WeakKeyDictionary()

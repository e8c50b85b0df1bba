"""Tells all who wait that a store has changed: one looks for all of them, however many there are.

Rules: who waits is entered before the first look, so a change between two looks is missed by nobody. What wakes the one who looks
(``rest``) may be late or lost; the look is what counts. An outage ends every wait, and the next wait begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from remit.errors import RemitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LINGER_LOOKS = 50  # with nobody waiting: waits follow each other closely


class Changes:
    """The changes of one store, in one event loop."""

    def __init__(
        self, look: Callable[[], Awaitable[int]], rest: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]]
    ) -> None:
        """``look``: the mark as it is. ``rest``: returns when it may have moved, after a bounded time anyway. ``done``: nobody rests
        any more.
        """
        self._look, self._rest, self._done = look, rest, done
        self._waiting: dict[asyncio.Future[int], int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, mark: int, seconds: float) -> int:
        """Until the mark is no longer ``mark``, at most so long; the mark as it is then. Raises Outage."""
        moved: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[moved] = mark
        try:
            now = await self._look()
            if now != mark or seconds <= 0:
                return now
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._follow())
            await asyncio.wait({moved}, timeout=seconds)
            return moved.result() if moved.done() else await self._look()
        finally:
            del self._waiting[moved]
            if moved.done() and not moved.cancelled():
                moved.exception()  # is told by the look, where nobody took it

    async def close(self) -> None:
        """Look no more; who waits runs into their time. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _follow(self) -> None:
        idle = 0
        try:
            while idle < _LINGER_LOOKS:
                await self._rest()
                idle = 0 if self._waiting else idle + 1
                if self._waiting:
                    self._tell(await self._look())
        except RemitError as error:
            for moved in self._waiting:
                if not moved.done():
                    moved.set_exception(error)
        finally:
            await self._done()

    def _tell(self, now: int) -> None:
        for moved, mark in self._waiting.items():
            if mark != now and not moved.done():
                moved.set_result(now)

"""Mints of targets whose credential has no name there: only what they answer can take it back.

A mint goes on when nobody waits for it any more, and its answer is kept, by mark, until somebody has it or takes it back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from remit.drivers.targets.base import Minted


class UnderWay:
    """The mints of one target in this process."""

    def __init__(self) -> None:
        self._making: dict[str, asyncio.Task[Minted]] = {}

    async def mint(self, mark: str, work: Coroutine[None, None, Minted]) -> Minted:
        """What the work makes. Raises what it raises; cancelled, the work goes on, and ``revoke`` finds what comes of it."""
        making = self._making[mark] = asyncio.create_task(work)
        try:
            minted = await asyncio.shield(making)
        except asyncio.CancelledError:
            raise
        except BaseException:
            del self._making[mark]
            raise
        del self._making[mark]
        return minted

    async def revoke(self, mark: str, minted: Minted | None, end: Callable[[Minted], Awaitable[bool]]) -> bool:
        """Take back what was minted, here and unseen where it is not given; whether there was anything. Where nobody can tell: true."""
        making = self._making.get(mark)
        if minted is None and making is not None:
            with contextlib.suppress(Mistake, Outage):  # then nothing was given, as far as is known
                minted = await asyncio.shield(making)
        was_there = minted is None or await end(minted)
        if making is not None and self._making.get(mark) is making:
            del self._making[mark]
        return was_there

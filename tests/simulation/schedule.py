"""Who goes next, from a seed: the same seed gives the same interleaving, step by step.

Whatever may wait on the outside stands at a *gate*. One step opens one gate, chosen by the seed, and then runs everything
that became able to run until all stand at gates again; the store's real threads are waited for in that time (``work``).
So nothing depends on how fast a thread or a disk is. Time that passes is the simulation's own (``tests.support.Clock``); a timer of the
event loop is a gate like others, and fires when the seed has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

T = TypeVar("T")
_TRACE_MAX = 5_000  # steps that a failure shows


@dataclass(slots=True, eq=False)
class Gate:
    """Somebody who waits. ``what`` is for the trace."""

    what: str
    opened: asyncio.Future[None]


@dataclass(slots=True)
class Schedule:
    """The seed's choices, those who wait, and the last steps that were taken."""

    seed: int
    waiting: list[Gate] = field(default_factory=list)
    steps: int = 0
    random: random.Random = field(init=False)
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=_TRACE_MAX))
    _busy: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def note(self, what: str) -> None:
        """A line for who reads a failure."""
        self.trace.append(f"{self.steps}: {what}")

    async def gate(self, what: str) -> None:
        """Wait until the seed opens this gate."""
        gate = Gate(what, asyncio.get_running_loop().create_future())
        self.waiting.append(gate)
        try:
            await gate.opened
        finally:
            if gate in self.waiting:
                self.waiting.remove(gate)

    async def work(self, doing: Awaitable[T]) -> T:
        """Real work on other threads: the step is not over before it is."""
        self._busy += 1
        self._idle.clear()
        try:
            return await doing
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def open(self, gate: Gate) -> None:
        """One step: open a gate, run until everybody waits again."""
        self.steps += 1
        self.note(gate.what)
        self.waiting.remove(gate)
        if not gate.opened.done():
            gate.opened.set_result(None)
        await self.settle()

    async def settle(self) -> None:
        """Run until nobody can run: no thread works for us, and the loop has nothing ready."""
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if self._busy:
                await self._idle.wait()
            elif not loop._ready:
                return


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers stand at gates as soon as it has a schedule."""

    schedule: Schedule | None = None

    def call_later(
        self, delay: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A timer that the seed lets fire."""
        if self.schedule is None:
            return super().call_later(delay, callback, *arguments, context=context)
        gate = Gate(f"a timer of {delay:g} s", self.create_future())
        timer = _Timer(self.time() + delay, callback, arguments, self, context)
        timer.gate, timer.waiting = gate, self.schedule.waiting
        gate.opened.add_done_callback(lambda opened: opened.cancelled() or timer._run())
        self.schedule.waiting.append(gate)
        return timer


class _Timer(asyncio.TimerHandle):
    """Its gate goes away with it."""

    gate: Gate
    waiting: list[Gate]

    def cancel(self) -> None:
        with contextlib.suppress(ValueError):
            self.waiting.remove(self.gate)
            self.gate.opened.cancel()
        super().cancel()


def spawn(doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task whose failure is somebody else's to look at."""
    task = asyncio.ensure_future(doing)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task

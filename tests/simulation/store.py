"""A real store behind which anything may go wrong: late, away before the commit, away after it, gone with its node.

It keeps the order of the engine's writer: appends of one node commit in the order in which they were asked for, several in
one transaction, and are answered in that order. What is chosen by the seed: when, how many at once, and with which fault.
A caller that stops waiting changes nothing about its append, as with the real writer's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.errors import Outage
from remit.store.database import Append, Entry
from tests.simulation.schedule import Schedule, spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.store.database import Store

_BATCH_MAX = 4
_PAST_GATES = frozenset({"publish_checkpoint", "put_document", "document", "close"})  # not on the road of a call


@dataclass(slots=True)
class Durable:
    """How large the ledger is right now: what anybody who looks at the disk would see."""

    size: int = 0

    def saw(self, result: object) -> None:
        if isinstance(result, Entry):
            self.size = max(self.size, result.index + 1)


@dataclass(slots=True)
class Faults:
    """How often what goes wrong, each from 0 to 1."""

    before: float = 0.0
    after: float = 0.0
    read: float = 0.0


@dataclass
class SimulatedStore:
    """Keeps the interface of ``Store``; everything of it that waits passes a gate."""

    inner: Store
    schedule: Schedule
    durable: Durable
    faults: Faults
    name: str
    dead: bool = False
    queue: deque[tuple[Append, asyncio.Future[Entry]]] = field(default_factory=deque)
    carried: dict[asyncio.Task[Any], None] = field(default_factory=dict)  # a set has no order, and a seed is one run
    asked: dict[asyncio.Future[Any], None] = field(default_factory=dict)

    async def append(self, append: Append) -> Entry:
        """See Store."""
        future = self._asked()
        self.queue.append((append, future))
        if len(self.queue) == 1:
            self._carry(self._write())
        return await future

    def __getattr__(self, name: str) -> Any:
        """Every read of Store, also such as are added later."""
        method = getattr(self.inner, name)

        async def read(*arguments: Any, **named: Any) -> Any:
            if name in _PAST_GATES:
                return await self.schedule.work(method(*arguments, **named))
            future = self._asked()
            self._carry(self._read(name, lambda: method(*arguments, **named), future))
            return await future

        return read

    def kill(self) -> None:
        """The node is gone: nobody is answered any more, and what was not written never will be."""
        self.dead = True
        for doing in [*self.carried, *self.asked]:
            doing.cancel()
        self.queue.clear()

    async def _write(self) -> None:
        """The writer: batches, in order, until nothing waits."""
        while self.queue:
            await self.schedule.gate(f"{self.name} commits")
            many = self.schedule.random.randint(1, min(len(self.queue), _BATCH_MAX))
            batch = [self.queue[place] for place in range(many)]
            results = await self._committed([append for append, _ in batch])
            answers = [(future, result) for (_, future), result in zip(batch, results, strict=True)]
            if self.schedule.random.random() < 0.5:  # committed, and nobody here knows it yet
                await self.schedule.gate(f"{self.name} is told of its commit")
            for _ in batch:
                self.queue.popleft()
            for future, result in answers:
                _answer(future, result)

    async def _committed(self, batch: list[Append]) -> list[Entry | BaseException]:
        chance = self.schedule.random.random()
        if chance < self.faults.before:
            self.schedule.note(f"{self.name}: outage before the commit of {len(batch)}")
            return [Outage("simulated: not written") for _ in batch]
        results = await self.schedule.work(asyncio.gather(*(self._put(append) for append in batch), return_exceptions=True))
        for result in results:
            self.durable.saw(result)
        if chance > 1 - self.faults.after:
            self.schedule.note(f"{self.name}: outage after the commit of {len(batch)}")
            return [Outage("simulated: written, but who knows") for _ in batch]
        return results

    async def _put(self, append: Append) -> Entry:
        return await self.inner.append(append)

    async def _read(self, what: str, work: Callable[[], Awaitable[Any]], future: asyncio.Future[Any]) -> None:
        await self.schedule.gate(f"{self.name} reads {what}")
        result: Any
        if self.schedule.random.random() < self.faults.read:
            result = Outage("simulated: not read")
        else:
            try:
                result = await self.schedule.work(work())
            except Exception as error:
                result = error
        if self.schedule.random.random() < 0.5:  # what was read is old by the time it arrives
            await self.schedule.gate(f"{self.name} is told what it read ({what})")
        _answer(future, result)

    def _asked(self) -> asyncio.Future[Any]:
        if self.dead:
            raise asyncio.CancelledError
        future = asyncio.get_running_loop().create_future()
        self.asked[future] = None
        future.add_done_callback(lambda done: self.asked.pop(done, None))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    def _carry(self, doing: Any) -> None:
        task = spawn(doing)
        self.carried[task] = None
        task.add_done_callback(lambda done: self.carried.pop(done, None))


def _answer(future: asyncio.Future[Any], result: object) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)

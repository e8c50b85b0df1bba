"""What the scenarios of the fault run share: a line of the result, the morning after, processes that are killed, a bad wire."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.drivers.keys import load_or_make_keys
from remit.drivers.targets.base import MARK_PREFIX
from remit.errors import RemitError
from remit.model.task import TaskState
from remit.node_leases import _TAG_LETTERS, _letters
from remit.settings import Limits
from tests.lease_nodes import SCOPE, Working, roles, working
from tests.simulation.leases import simulate_leases

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from remit.drivers.targets.base import TargetSettings
    from remit.model.task import Task
    from tests.servers.postgres import PostgresTarget

_READY_SECONDS = 60
_AFTER_READY_SECONDS = 0.06
_MORNING = timedelta(minutes=10)
_SWEEPS_MAX = 200
NO_QUOTAS = Limits(leases_per_agent=100_000, leases_per_target=100_000)  # what the killed ones left lives until it is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``tried``: what, how often; ``stood``: credentials on the target when the trouble ended; ``left``: in the morning, must be 0."""

    what: str
    tried: str
    stood: int
    left: int

    def __str__(self) -> str:
        return f"{self.what:<58} {self.tried:<46} {self.stood:>6} stood {self.left:>4} left"


async def morning(folder: Path, settings: TargetSettings, standing: Callable[[], set[str]], *, url: str = "") -> int:
    """Another process, ten minutes later, on what is durable and nothing else: how many credentials or unsettled leases are left."""
    async with working(folder, settings, url=url, ahead=_MORNING) as node:
        await node.tasks.expire_due()
        for _ in range(_SWEEPS_MAX):
            await node.subtrees.follow()
            await node.parts.revocations.catch_up(20)
            if not await node.store.live_leases("", "", 1):
                break
        await node.parts.reconciliation.target(settings.name)
        rows = await node.store.live_leases("", "", 100)
        return len(standing()) + len(rows)


def own_roles(server: PostgresTarget, folder: Path) -> Callable[[], set[str]]:
    """Roles on the target under the marks of a folder's installation: several of them work on one server."""

    prefix = MARK_PREFIX + _letters(load_or_make_keys(folder / "keys").derived("lease marks"), _TAG_LETTERS)
    return lambda: {role for role in roles(server) if role.startswith(prefix)}


async def tried(node: Working, task: Task, *, ends: bool = True) -> None:
    """A credential, if there is one to be had, and the end of its task."""
    with contextlib.suppress(RemitError):
        await node.parts.leases.have(task.id, "orders")
    if ends:
        with contextlib.suppress(RemitError):
            await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
            node.parts.revocations.begin(task.id)


def work_until_killed(folder: Path, settings: TargetSettings, ready: Any, scope: str = SCOPE) -> None:
    """What a victim does: four tasks at once, one of them with a child, again and again, and the sweeping of what others left."""

    async def work() -> None:
        node = Working(folder, {"orders": settings}, limits=NO_QUOTAS)

        async def one(number: int) -> None:
            while True:
                with contextlib.suppress(RemitError):  # several victims share a store: it may be busy
                    task = await node.open(scope=scope)
                    await node.parts.leases.have(task.id, "orders")
                    ready.set()
                    if number == 0 and scope == SCOPE:
                        child = await node.delegate(task)
                        await node.parts.leases.have(child.id, "orders")
                        await node.tasks.move(task.id, TaskState.SUSPENDED, by="alice")
                        await node.subtrees.follow()
                    await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
                    await node.parts.end_task(task.id)

        await asyncio.gather(*(one(number) for number in range(4)), node.parts.revocations.sweep(), node.subtrees.sweep())

    asyncio.run(work())


async def killed_often(
    folder: Path, settings: TargetSettings, scope: str, kills: int, standing: Callable[[], set[str]], beside: int
) -> Line:
    """``kill -9`` at random points, of ``beside`` processes at one time on one store."""
    load_or_make_keys(folder / "keys")
    fork = multiprocessing.get_context("fork")
    chance = random.Random(7)
    done = 0
    while done < kills:
        ready = [fork.Event() for _ in range(min(beside, kills - done))]
        processes = [fork.Process(target=work_until_killed, args=(folder, settings, one, scope)) for one in ready]
        for process in processes:
            process.start()
        for one in ready:
            assert one.wait(_READY_SECONDS)
        for process in processes:
            await asyncio.sleep(chance.uniform(0, _AFTER_READY_SECONDS / beside))
            process.kill()
            process.join()
        done += len(processes)
    stood = len(standing())
    left = await morning(folder, settings, standing)
    return Line(what=f"kill -9 at a random point, {settings.kind}", tried=f"{done} kills, {beside} nodes a store", stood=stood, left=left)


@dataclass
class Wire:
    """A way to a server that delays, or breaks off after some bytes, whichever side they come from."""

    server: int
    delay_seconds: float = 0.0
    breaks_after: Callable[[], int] | None = None
    broken: int = 0
    port: int = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Wire]:
        """Listen on ``port`` of its own."""
        pairs: set[asyncio.Task[None]] = set()

        def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pair = asyncio.ensure_future(self._pair(reader, writer))
            pairs.add(pair)
            pair.add_done_callback(pairs.discard)

        listening = await asyncio.start_server(come, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
            for pair in pairs:
                pair.cancel()
            await asyncio.gather(*pairs, return_exceptions=True)

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.server)
        left = [self.breaks_after() if self.breaks_after else 1 << 40]
        ways = [asyncio.ensure_future(self._carry(*way, left)) for way in ((reader, there_writer), (there_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, there_writer):
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4_096):
                await asyncio.sleep(self.delay_seconds)
                left[0] -= len(data)
                if left[0] < 0:
                    self.broken += 1
                    return
                writer.write(data)
                await writer.drain()


def seed(number: int) -> tuple[Counter[str], list[str]]:
    """A run of the simulator: what it counted, and what was wrong. Here, so that a process of its own finds it."""
    logging.disable(logging.CRITICAL)
    count = simulate_leases(number)
    return count.counts, [f"seed {number}: {line}" for line in count.wrong]

"""1,000 open tasks and 10,000 entries on one core: the rate, whether latency grows, what memory it takes."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.common import BANK, row, write_folder
from remit.logic.arguments import make_call
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.identity import Bearer
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.mediation import Ticket
from remit.services.pinning import pin_servers

_TASKS = 1_000
_ENTRIES = 10_000
_AT_ONCE = 8
_MINUTE = 60.0


async def main() -> None:
    """Print the figures. The work is a process of its own, bound to one core."""
    print(f"{_TASKS:,} open tasks, {_ENTRIES:,} entries of calls among them, on one core")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.volume")
    await process.wait()


async def _work() -> None:
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    try:
        write_folder(folder / "w", f'command = "{sys.executable}"\nargs = ["{BANK}", "--stdio"]')
        await pin_servers(load_configuration(folder / "w"), ["bank"], only_new=True)
        async with open_node(folder / "w", deciding=True) as node:
            node.start()
            bearers = []
            for _ in range(_TASKS):
                task = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
                bearers.append(Bearer(agent=task.agent, task=task.id, proof="bench"))
            digest = (await node.tasks.view(bearers[0].task)).tools["bank/echo"]
            taken: list[float] = []
            memory = _megabytes()

            async def agent(first: int) -> None:
                for number in range(first, _ENTRIES // 2, _AT_ONCE):  # a call is two entries: its decision and its end
                    call = make_call(Kind.TOOL, "bank", "echo", {"text": f"number {number}"})
                    begin = time.perf_counter()
                    ticket = await node.mediation.authorize(bearers[number % _TASKS], call, seen_digest=digest)
                    taken.append(time.perf_counter() - begin)
                    assert isinstance(ticket, Ticket)
                    await node.mediation.observe(ticket, Ending.OK, {})

            begin = time.perf_counter()
            await asyncio.gather(*(agent(first) for first in range(_AT_ONCE)))
            await node.tasks.settle()
            seconds = time.perf_counter() - begin
            fifth = len(taken) // 5
            first, last = statistics.median(taken[:fifth]) * 1e3, statistics.median(taken[-fifth:]) * 1e3
            row("entries a minute", f"{_ENTRIES / seconds * _MINUTE:,.0f}", "≥ 10,000")
            row("p50 of a durable decision, the first fifth", f"{first:.2f} ms")
            row("p50 of a durable decision, the last fifth", f"{last:.2f} ms")
            row("last / first", f"{last / first:.2f} ×", "≤ 1.30 ×")
            row("memory before and after the calls", f"{memory:.0f}, {_megabytes():.0f} MB")
    finally:
        shutil.rmtree(folder)


def _megabytes() -> float:
    """The most that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    import uvloop

    os.sched_setaffinity(0, {0})
    uvloop.run(_work())

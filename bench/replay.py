"""``remit policy replay`` of many recorded decisions under a candidate: one process against one a processor, and the memory they take."""

from __future__ import annotations

import asyncio
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import BANK, row, write_folder
from remit.cli.replaying import replayed
from remit.logic.arguments import make_call
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.identity import Bearer
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.mediation import Ticket
from remit.services.pinning import pin_servers

if TYPE_CHECKING:
    from remit.services.replay import Replayed

DECISIONS = int(os.environ.get("REMIT_BENCH_DECISIONS", "100000"))
_IN_A_TASK, _AT_ONCE = 50, 64
_CANDIDATE = """
@id("open") permit (principal, action, resource);
@id("closed") forbid (principal, action == Action::"bank/echo", resource) when { context.arguments.text == "number 7" };
"""


async def main() -> None:
    """Print the figures."""
    processors = os.cpu_count() or 1
    print(f"policy replay of {DECISIONS:,} recorded decisions on {processors} processors")
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    try:
        await filled(folder)
        seconds, worked = {}, {}
        for processes in (1, processors):
            begin, begin_worked = time.perf_counter(), sum(os.times()[:4])
            told = await replay(folder, processes)
            seconds[processes] = time.perf_counter() - begin
            while multiprocessing.active_children():
                await asyncio.sleep(0.1)
            worked[processes] = sum(os.times()[:4]) - begin_worked
            assert told.decisions == DECISIONS, told
            assert told.flips, told
            row(f"decisions a second, {processes} process{'' if processes == 1 else 'es'}", f"{DECISIONS / seconds[processes]:,.0f} /s")
        row("all / one, a processor", f"{seconds[1] / seconds[processors] / processors:.2f} ×", "≥ 0.70 ×")
        row("of the time that its processors worked", f"{worked[1] / worked[processors]:.2f} ×")
        row("most memory of one process", f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")
    finally:
        shutil.rmtree(folder)


async def replay(folder: Path, processes: int) -> Replayed:
    """As the command does, without what it tells of how far it is."""
    with contextlib.redirect_stderr(io.StringIO()):
        return await replayed(folder, {"main.cedar": _CANDIDATE}, since=None, task_type="", processes=processes)


async def filled(folder: Path) -> None:
    """Tasks one after the other, each with calls that were allowed and have ended; their values are kept."""
    (folder / "remit.toml").unlink(missing_ok=True)
    write_folder(folder, f'command = "{sys.executable}"\nargs = ["{BANK}", "--stdio"]')
    with (folder / "remit.toml").open("a") as file:
        file.write("[ledger]\nkeep_values = true\n")
    await pin_servers(load_configuration(folder), ["bank"], only_new=True)
    async with open_node(folder, deciding=True) as node:
        node.start()

        async def work(first: int) -> None:
            task = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
            bearer, digest = Bearer(agent=task.agent, task=task.id, proof="bench"), (await node.tasks.view(task.id)).tools["bank/echo"]
            for number in range(first, min(first + _IN_A_TASK, DECISIONS)):
                call = make_call(Kind.TOOL, "bank", "echo", {"text": f"number {number % 1_000}"})
                ticket = await node.mediation.authorize(bearer, call, seen_digest=digest)
                assert isinstance(ticket, Ticket)
                await node.mediation.observe(ticket, Ending.OK, {})

        for begin in range(0, DECISIONS, _IN_A_TASK * _AT_ONCE):
            await asyncio.gather(*(work(first) for first in range(begin, min(begin + _IN_A_TASK * _AT_ONCE, DECISIONS), _IN_A_TASK)))
        await node.tasks.settle()

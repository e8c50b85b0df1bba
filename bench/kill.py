"""`kill` of an agent with 10,000 living tasks in one tree: how long until all are refused, beside one bulk update of as many rows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from bench.common import BANK, row, write_folder
from remit.logic.arguments import make_call
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.identity import Bearer
from remit.model.task import Task
from remit.node import Node, open_node
from remit.services.configuration import load_configuration
from remit.services.mediation import Refused
from remit.services.pinning import pin_servers

_TASKS, _FAN_OUT, _AT_ONCE = 10_000, 10, 64
_DELEGATION = '[delegation]\nto = ["bench"]\ndepth = 4\nfan_out = 10\nlifetime = "1h"\ncycles = true\n'


async def main() -> None:
    """Print the figures."""
    print(f"kill of an agent with {_TASKS:,} living tasks in one tree")
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    try:
        write_folder(folder / "w", f'command = "{sys.executable}"\nargs = ["{BANK}", "--stdio"]')
        with (folder / "w" / "tasks" / "work.toml").open("a") as file:
            file.write(_DELEGATION)
        await pin_servers(load_configuration(folder / "w"), ["bank"], only_new=True)
        async with open_node(folder / "w", deciding=True) as node:
            tasks = await _tree(node)
            update_seconds = _bulk_update(node.configuration.settings.storage, folder / "copy.db")
            begin = time.perf_counter()
            await node.tasks.standing.stop([tasks[0].agent.text], by="bench")
            kill_seconds = time.perf_counter() - begin
            refused = await _refused(node, tasks)
            begin = time.perf_counter()
            await node.subtrees.follow()
            follow_seconds = time.perf_counter() - begin
            left = len(await node.store.living_tasks(["*"], _TASKS))
        assert refused == len(tasks), "a call was allowed after the kill"
        assert not left
        row("one bulk update of as many rows", f"{update_seconds * 1e3:.1f} ms")
        row("kill, from the call to its return; all are refused then", f"{kill_seconds * 1e3:.1f} ms")
        row("kill / bulk update", f"{kill_seconds / update_seconds:.2f} ×", "≤ 2 ×")
        row("the tasks' own ends, right behind", f"{follow_seconds:.1f} s")
    finally:
        shutil.rmtree(folder)


async def _tree(node: Node) -> list[Task]:
    """A root, and children of children, ten of each, until there are enough."""
    root = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
    made, parents = [root], [root]
    while len(made) < _TASKS:
        below = []
        wanted = [(parent, number) for parent in parents for number in range(_FAN_OUT)][: _TASKS - len(made)]
        for first in range(0, len(wanted), _AT_ONCE):
            below += await asyncio.gather(*(_child(node, parent, number) for parent, number in wanted[first : first + _AT_ONCE]))
        made += below
        parents = below
    return made


async def _child(node: Node, parent: Task, number: int) -> Task:
    line = WantedLine(kind=Kind.TOOL, server="bank", name="*")
    calls = parent.budget.calls // (_FAN_OUT + 1)
    wanted = Wanted(request=f"r{number}", agent="bench", objective="Work", lines=(line,), calls=calls)
    return await node.door.presenting.delegations.delegate(_bearer(parent), wanted, by=parent.agent)


def _bearer(task: Task) -> Bearer:
    return Bearer(agent=task.agent, task=task.id, proof="bench")


def _bulk_update(store: Path, copy: Path) -> float:
    """One transaction that touches every task's row, on a copy of the same file, as durable as the store's own."""
    with sqlite3.connect(store) as database, sqlite3.connect(copy) as other:
        database.backup(other)
    update = sqlite3.connect(copy, isolation_level=None)
    update.execute("PRAGMA journal_mode = WAL")
    update.execute("PRAGMA synchronous = FULL")
    begin = time.perf_counter()
    changed = update.execute("UPDATE tasks SET state = 'revoked' WHERE state = 'active'").rowcount
    seconds = time.perf_counter() - begin
    update.close()
    assert changed == _TASKS
    return seconds


async def _refused(node: Node, tasks: list[Task]) -> int:
    """Of one call of every task, how many are refused."""
    call = make_call(Kind.TOOL, "bank", "echo", {"text": "x"})
    refused = 0
    for first in range(0, len(tasks), _AT_ONCE):
        answers = await asyncio.gather(*(node.mediation.authorize(_bearer(task), call) for task in tasks[first : first + _AT_ONCE]))
        refused += sum(isinstance(answer, Refused) for answer in answers)
    return refused

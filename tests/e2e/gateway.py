"""A whole node before real MCP servers, for tests: one folder, one task, one address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from remit.application import application
from remit.cli.server import serving
from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.task import Task, TaskState
from remit.node import Node, open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ROOT / "tests" / "servers"
STATED = 'effect = "read"\ndata_class = "public"\ntrust = "trusted"\nsends = "nowhere"\n'


@dataclass(slots=True)
class Running:
    """``base`` ends before the name of a server."""

    node: Node
    task: Task
    port: int
    base: str
    token: str

    def url(self, server: str) -> str:
        return f"{self.base}/{server}"

    async def records(self) -> list[CallDecided | CallFinished]:
        await self.node.tasks.settle()
        bodies = [decode(entry.body).body for entry in await self.node.store.task_entries(self.task.id)]
        return [body for body in bodies if isinstance(body, CallDecided | CallFinished)]

    async def another_task(self, task_type: str = "all") -> tuple[Task, str]:
        """Another task of the same agent, and its token."""
        task = await self.node.dispatcher.open(agent="tester", task_type=task_type, inputs={}, on_behalf_of="alice", opened_by="alice")
        token, _ = await self.node.tokens.issue(task.id, "jwt-svid")
        return task, token

    @contextlib.asynccontextmanager
    async def afresh(self) -> AsyncIterator[Running]:
        """The same node, with a task and so servers of its own."""
        task, token = await self.another_task()
        base = f"http://127.0.0.1:{self.port}/run/{self.node.gateway.gate.open_endpoint(task.id)}/mcp"
        yield Running(node=self.node, task=task, port=self.port, base=base, token=token)
        await self.node.tasks.end(task.id, TaskState.COMPLETED, by="tester")
        await self.node.end_task(task.id)


def stdio(name: str, script: str, *arguments: str) -> str:
    words = ", ".join(f'"{word}"' for word in (str(SERVERS / script), *arguments))
    return f'[servers.{name}]\ncommand = "{sys.executable}"\nargs = [{words}]\n{STATED}\n'


def http(name: str, url: str) -> str:
    return f'[servers.{name}]\nurl = "{url}"\n{STATED}\n'


@contextlib.asynccontextmanager
async def gateway(
    folder: Path,
    servers: str,
    *,
    task: str = "",
    drift: str = "",
    more: str = "",
    policy: str = "",
    port: int = 0,
    types: Mapping[str, str] | None = None,
    deciding: bool = False,
) -> AsyncIterator[Running]:
    """Serve. ``task`` is the text of the task type's grant; without one everything of every server is granted. ``types``: further task
    types of the same agent, whole. ``drift``: what follows when a server changes its tools. ``deciding``: as ``remit serve`` opens it.
    """
    (folder / "tasks").mkdir()
    (folder / "policies").mkdir()
    names = [line.removeprefix("[servers.").rstrip("]") for line in servers.splitlines() if line.startswith("[servers.")]
    everything = "".join(f'[[grant]]\n{kind} = "{name}/*"\n' for name in names for kind in ("tool", "resource", "prompt"))
    head = 'objective = "Test"\ndata_ceiling = "public"\ndeadline = "30m"\nbudget = { calls = 1000 }\n'
    (folder / "tasks" / "all.toml").write_text(
        head + (task or everything) + (f'[drift]\nservers = "{drift}"\n' if drift else ""), encoding="utf-8"
    )
    (folder / "policies" / "main.cedar").write_text(policy or '@id("all") permit (principal, action, resource);\n', encoding="utf-8")
    for name, text in (types or {}).items():
        (folder / "tasks" / f"{name}.toml").write_text(text, encoding="utf-8")
    tasks = ", ".join(f'"{name}"' for name in ("all", *(types or {})))
    (folder / "remit.toml").write_text(f"[agents.tester]\ntasks = [{tasks}]\n{more}\n{servers}", encoding="utf-8")
    configuration = load_configuration(folder)
    await pin_servers(configuration, configuration.servers, only_new=True)
    async with open_node(folder, deciding=deciding) as node:
        opened = await node.dispatcher.open(agent="tester", task_type="all", inputs={}, on_behalf_of="alice", opened_by="alice")
        node.start()
        async with serving(application(node), "127.0.0.1", port) as port:
            token, _ = await node.tokens.issue(opened.id, "jwt-svid")
            base = f"http://127.0.0.1:{port}/run/{node.gateway.gate.open_endpoint(opened.id)}/mcp"
            yield Running(node=node, task=opened, port=port, base=base, token=token)
            await node.tasks.end(opened.id, TaskState.COMPLETED, by="tester")
            await node.end_task(opened.id)


@contextlib.contextmanager
def http_server(script: str, *arguments: str) -> Iterator[str]:
    """A test server as a process of its own; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(SERVERS / script), *arguments, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            if process.poll() is not None:
                raise RuntimeError(f"{script} ended with {process.returncode}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(10)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)

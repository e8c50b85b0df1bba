"""What the benchmarks share: a folder to run in, servers to start, medians, a line of output."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parent.parent
BANK = ROOT / "tests" / "servers" / "bank.py"


def write_folder(folder: Path, server: str, *, policies: str = "permit(principal, action, resource);") -> None:
    """A working folder with one server, one agent and a task type that may do everything."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "policies").mkdir()
    (folder / "policies" / "main.cedar").write_text(policies)
    (folder / "remit.toml").write_text(
        f'[agents.bench]\ntasks = ["work"]\n[servers.bank]\n{server}\n'
        'effect = "read"\ndata_class = "public"\ntrust = "trusted"\nsends = "nowhere"\n'
        "[limits]\nrecords_per_task = 1000000\nwrite_queue = 100000\n"
    )
    (folder / "tasks" / "work.toml").write_text(
        'objective = "Work"\ndeadline = "1h"\nbudget = { calls = 100000 }\n[[grant]]\ntool = "bank/*"\n'
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def bank_over_http() -> AsyncIterator[str]:
    """The test server as a process; gives its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(BANK), "--port", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


def median_us(work: Callable[[], Any], times: int) -> float:
    """Median microseconds of one call of ``work``."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6


def row(what: str, value: str, target: str = "") -> None:
    """One line of the result."""
    print(f"  {what:<74} {value:>12}   {target}", flush=True)


async def post(client: aiohttp.ClientSession, url: str, message: dict[str, Any], headers: dict[str, str]) -> aiohttp.ClientResponse:
    """One JSON-RPC message over Streamable HTTP, the answer read."""
    both = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **headers}
    async with client.post(url, json=message, headers=both) as response:
        await response.read()
        return response

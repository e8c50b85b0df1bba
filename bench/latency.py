"""What the gateway adds to one tools/call: the same Python client, the same server, the same run; records durable.

The anchor is `mcp-proxy`, which puts a server behind stdio on HTTP: there remit does the same, and decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mcp import Client, StdioServerParameters

from bench.common import BANK, ROOT, bank_over_http, free_port, row, write_folder
from remit.application import application
from remit.cli.server import serving
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Literal

    Mode = Literal["legacy", "auto"]

_CALLS = 150
_ROUNDS = 3
_MODES: tuple[Mode, ...] = ("legacy", "auto")


async def main() -> None:
    """Print the ratios."""
    print("latency of one tools/call (p50, one client, alternating rounds)")
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    try:
        async with bank_over_http() as upstream:
            write_folder(folder / "http", f'url = "{upstream}"')
            for mode in _MODES:
                async with _gateway(folder / "http") as through:
                    await _compare(f"{mode}, server over HTTP", {"direct": upstream, "remit": through}, mode)
        write_folder(folder / "stdio", f'command = "{sys.executable}"\nargs = ["{BANK}", "--stdio"]')
        async with _gateway(folder / "stdio") as through, _mcp_proxy() as proxied:  # mcp-proxy reaches such servers only
            ways = {"direct": StdioServerParameters(command=sys.executable, args=[str(BANK), "--stdio"])}
            await _compare("legacy, server behind stdio", {**ways, "remit": through, "mcp-proxy": proxied}, "legacy")
    finally:
        shutil.rmtree(folder)


async def _compare(what: str, ways: Mapping[str, str | StdioServerParameters], mode: Mode) -> None:
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            medians[name].append(await _p50_ms(way, mode))
    found = {name: statistics.median(values) for name, values in medians.items()}
    added = found["remit"] - found["direct"]
    row(f"{what}: direct", f"{found['direct']:.2f} ms")
    row(f"{what}: through remit", f"{found['remit']:.2f} ms")
    if "mcp-proxy" in found:
        theirs = found["mcp-proxy"] - found["direct"]
        row(f"{what}: through mcp-proxy", f"{found['mcp-proxy']:.2f} ms")
        row(f"{what}: added by remit / added by mcp-proxy", f"{added / theirs:.2f} ×", "≤ 0.50 ×")
    else:
        row(f"{what}: added / direct", f"{added / found['direct']:.2f} ×", "≤ 0.40 ×")


async def _p50_ms(server: str | StdioServerParameters, mode: Mode) -> float:
    taken = []
    async with Client(server, mode=mode) as client:
        await client.list_tools()
        for _ in range(20):
            await client.call_tool("echo", {"text": "x"})
        for _ in range(_CALLS):
            begin = time.perf_counter()
            await client.call_tool("echo", {"text": "x"})
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e3


@contextlib.asynccontextmanager
async def _gateway(folder: Path) -> AsyncIterator[str]:
    """remit as a process of its own, as it is used."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.latency", "serve", str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def _serve(folder: Path) -> None:
    await pin_servers(load_configuration(folder), ["bank"], only_new=True)
    async with open_node(folder, deciding=True) as node:
        node.start()
        task = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
        async with serving(application(node), "127.0.0.1", 0) as port:
            print(f"http://127.0.0.1:{port}/run/{node.gateway.gate.open_endpoint(task.id)}/mcp/bank", flush=True)
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _mcp_proxy() -> AsyncIterator[str]:
    """The anchor: ``mcp-proxy`` before the same server, from its own environment (``make bench`` makes it)."""
    program = ROOT / ".venv" / "anchor" / "bin" / "mcp-proxy"
    if not program.exists():
        sys.exit(f"{program} is not there: make bench installs it")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(program), "--port", str(port), "--", sys.executable, str(BANK), "--stdio",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(Path(sys.argv[2])) if sys.argv[1:2] == ["serve"] else main())

"""Decisions a second from 32 agents at once, against the same server that answers a constant after one durable insert."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common import bank_over_http, row, write_folder
from remit.application import application
from remit.cli.server import serving
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from remit.node import Node

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_AGENTS = 32
_SECONDS = 3.0
_ROUNDS = 3
_VERSION = "2026-07-28"
_POLICIES = """
@id("open") permit (principal, action, resource);
@id("closed") forbid (principal, action == Action::"bank/echo", resource) when { context.arguments.text == "closed" };
"""


async def main() -> None:
    """Print the ratios."""
    print(f"decisions of {_AGENTS} agents at once (answers a second, alternating rounds)")
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    try:
        async with bank_over_http() as upstream:
            write_folder(folder / "w", f'url = "{upstream}"', policies=_POLICIES)
            rates = await _rates(folder / "w")
    finally:
        shutil.rmtree(folder)
    found = {name: statistics.median(values) for name, values in rates.items()}
    row("a constant after one group-committed insert", f"{found['constant']:.0f} /s")
    row("tools/call, decided by policy and refused, recorded", f"{found['denied']:.0f} /s")
    row("decided / constant", f"{found['denied'] / found['constant']:.2f} ×", "≥ 0.60 ×")
    row("tools/call, allowed, made on a server over HTTP, its end recorded too", f"{found['allowed']:.0f} /s")


async def _rates(folder: Path) -> dict[str, list[float]]:
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.throughput", str(folder), stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        port, paths = json.loads(await server.stdout.readline())
        loads = {
            "constant": [_request(port, "/constant", "closed") for _ in paths],
            "denied": [_request(port, path, "closed") for path in paths],
            "allowed": [_request(port, path, "open") for path in paths],
        }
        rates: dict[str, list[float]] = {name: [] for name in loads}
        for _ in range(_ROUNDS):
            for name, requests in loads.items():
                rates[name].append(await _rate(requests))
        return rates
    finally:
        server.terminate()
        await server.wait()


def _request(port: int, path: str, text: str) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "echo", "arguments": {"text": text}, "_meta": meta}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": _VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "echo",
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return {"host": "127.0.0.1", "port": port, "path": path, "body": body, "headers": headers}


async def _rate(requests: list[dict[str, Any]]) -> float:
    load = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", str(_SECONDS), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await load.communicate(json.dumps(requests).encode())
    if load.returncode:
        raise SystemExit("the load did not run")
    return float(out)


async def _serve(folder: Path) -> None:
    await pin_servers(load_configuration(folder), ["bank"], only_new=True)
    async with open_node(folder, deciding=True) as node:
        node.start()
        paths = []
        for _ in range(_AGENTS):
            task = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
            paths.append(f"/run/{node.gateway.gate.open_endpoint(task.id)}/mcp/bank")
        app = application(node)

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            await (_constant(node, receive, send) if scope["path"] == "/constant" else app(scope, receive, send))

        async with serving(both, "127.0.0.1", 0) as port:
            print(json.dumps([port, paths]), flush=True)
            await asyncio.Event().wait()


async def _constant(node: Node, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await node.store.append(Append(body=b"x" * 600))
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"no"}],"isError":true,"resultType":"complete"}}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(Path(sys.argv[1])))

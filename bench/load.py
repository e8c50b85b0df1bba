"""A load of its own process: many keep-alive connections that each send one request after the other, with little cost each.

``python -m bench.load SECONDS`` reads a JSON array of ``{"host","port","path","body","headers"}`` and prints answers a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

_WARM_SECONDS, _WARM_STEPS = 1.0, 20


class _Agent(asyncio.Protocol):
    """One connection. It knows just enough HTTP to find the end of an answer that states its length."""

    def __init__(self, request: dict[str, Any]) -> None:
        body = request["body"].encode()
        lines = [f"POST {request['path']} HTTP/1.1", f"Host: {request['host']}:{request['port']}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in request["headers"].items()]
        self._request = "\r\n".join([*lines, "", ""]).encode() + body
        self._received = b""
        self.answers, self.wrong = 0, ""
        self.running = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._received = b""
        self.answers += 1
        if not head.startswith(b"HTTP/1.1 200"):
            self.wrong = (head + rest).decode()[:500]
        if self.running:
            self._transport.write(self._request)


async def _run(requests: list[dict[str, Any]], seconds: float) -> float:
    loop = asyncio.get_running_loop()
    agents = [_Agent(request) for request in requests]
    await asyncio.gather(*(loop.create_connection(lambda a=agent: a, "127.0.0.1", requests[0]["port"]) for agent in agents))
    for _ in range(_WARM_STEPS):  # until everybody has had an answer
        await asyncio.sleep(_WARM_SECONDS)
        if all(agent.answers for agent in agents):
            break
    before, begin = sum(agent.answers for agent in agents), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(agent.answers for agent in agents) - before) / (time.perf_counter() - begin)
    for agent in agents:
        agent.running = False
    await asyncio.sleep(0.2)
    wrong = next((agent.wrong or "no answer came" for agent in agents if agent.wrong or not agent.answers), "")
    if wrong:
        sys.exit(wrong)
    return rate


if __name__ == "__main__":
    print(uvloop.run(_run(json.loads(sys.stdin.read()), float(sys.argv[1]))))

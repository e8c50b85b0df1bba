"""What must hold of a whole gateway after any misbehaviour of an upstream server."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from remit.logic.audit import Verified, verify_export
from remit.model.call_record import CallDecided, CallFinished
from tests.e2e.gateway import Running, gateway, stdio
from tests.e2e.test_gateway_life import Wire, text

ERAS = ("session", "stateless")
LIMITS = "[limits]\ncall_seconds = 2\nserver_start_seconds = 4\nresult_bytes = 1_000_000\n"
# of this machine, of the interpreter, and of what the upstream said while it failed
_LEAKS = re.compile(
    r"Traceback|File \"|/srv|/work|/home|/usr|/tmp|\.py\b|Error\(|Exception|asyncio|aiohttp"
    r"|s3cret|ignore-your|not yours|not to be believed|by the back door"
)


@contextlib.asynccontextmanager
async def served(folder: Path, bad: str) -> AsyncIterator[Running]:
    """A gateway before the server ``bad`` (the text of its configuration) and a good one; a tool that changes does not stop the task."""
    (folder / "node").mkdir()
    async with gateway(folder / "node", bad + stdio("good", "hostile.py"), drift="record", more=LIMITS) as running:
        yield running


@contextlib.asynccontextmanager
async def wire(running: Running, server: str = "bad", era: str = "stateless") -> AsyncIterator[Wire]:
    """An agent of an era, connected to a server."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client:
        made = Wire(client, running.url(server))
        if era == "session":
            await made.initialize()
        yield made


async def call(agent: Wire, name: str, **arguments: Any) -> Any:
    """A tool call in the agent's own era."""
    return await ask(agent, "tools/call", {"name": name, "arguments": arguments})


async def ask(agent: Wire, method: str, params: dict[str, Any]) -> Any:
    """The answer to a request, or the HTTP problem that came instead with its status."""
    async with (agent.post if agent.session else agent.modern)(method, params) as response:
        if response.content_type == "application/problem+json":
            return {"status": response.status, "problem": await response.json(content_type=None)}
        if response.content_type == "application/json":
            return await response.json()
        found = [line for line in (await response.read()).split(b"\r\n") if line.startswith(b"data: {")]
        return json.loads(found[-1][6:])


async def again(agent: Wire) -> str:
    """The same server serves the next call; an agent whose session went with its process begins another."""
    answer = await call(agent, "echo", text="again")
    if agent.session and answer.get("status") == 404:
        agent.session = ""
        await agent.initialize()
        answer = await call(agent, "echo", text="again")
    return text(answer)


def refused(answer: Any, *words: str) -> str:
    """A clear refusal: an error that says what went wrong (one of ``words``) and nothing of anybody's inside."""
    if "error" in answer:
        said = answer["error"]["message"]
    else:
        assert answer["result"].get("isError") is True, answer
        said = text(answer)
    assert not _LEAKS.search(str(answer)), answer
    assert any(word in said for word in words), said
    return str(said)


async def check(running: Running, *expected: str) -> None:
    """The other server is served, each decision has its ending, in this order, and the ledger verifies."""
    async with wire(running, "good") as agent:
        assert text(await call(agent, "echo", text="good")) == "good"
    assert await endings(running) == [*expected, "ok"]
    file = io.StringIO()
    await running.node.ledger.export(file)
    assert isinstance(verify_export(file.getvalue().splitlines(), running.node.ledger.verifier), Verified)


async def endings(running: Running) -> list[str]:
    """How the calls ended, by decision: ``deny`` for a refusal, ``open`` for a call without an ending."""
    records = await running.records()
    ended = {record.decision: record.ending for record in records if isinstance(record, CallFinished)}
    decided = [record for record in records if isinstance(record, CallDecided)]
    return [ended.get(record.decision, "open") if record.outcome == "allow" else record.outcome for record in decided]


@contextlib.contextmanager
def case(name: str, *, megabytes: int = 60) -> Iterator[None]:
    """One misbehaviour: a failure names it, and this process's peak of memory rises by no more than so much."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _kilobytes("VmRSS")
    try:
        yield
        risen = (_kilobytes("VmHWM") - before) / 1_024
        assert risen < megabytes, f"{risen:.0f} MB"
    except BaseException as error:
        error.add_note(f"The server's misbehaviour: {name}")
        raise


def _kilobytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])

"""The life of sessions, streams and servers behind the gateway: changed tools, dead servers, broken connections, ended tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.record import TaskMoved
from remit.model.task import TaskState
from tests.e2e.gateway import Running, gateway, stdio, until

pytestmark = pytest.mark.anyio
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
}
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "raw", "version": "1"}}
GRANT = "".join(f"[[grant]]\n{line}\n" for line in ('tool = "old/*"', 'resource = "old/old://note"', 'resource = "old/old://missing"'))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "old.log"


@pytest.fixture
async def running(tmp_path: Path, log: Path) -> AsyncIterator[Running]:
    server = stdio("old", "old_stdio.py") + f'env = {{ OLD_LOG = "{log}" }}\n'
    (tmp_path / "folder").mkdir()
    async with gateway(tmp_path / "folder", server, task=GRANT) as node:
        yield node


@pytest.fixture
async def wire(running: Running) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client:
        yield Wire(client, running.url("old"))


class Wire:
    """JSON-RPC by hand, so that nothing is tidied up."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self.client, self.url, self.session = client, url, ""

    def headers(self, **more: str) -> dict[str, str]:
        session = {"Mcp-Session-Id": self.session} if self.session else {}
        return {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **session, **more}

    async def initialize(self) -> None:
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": OPENING}
        async with self.client.post(self.url, json=body, headers=self.headers()) as response:
            self.session = response.headers["Mcp-Session-Id"]
            self.opened = await response.json()

    def post(self, method: str, params: dict[str, Any], number: Any = 1) -> Any:
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return self.client.post(self.url, json=body, headers=self.headers())

    async def ask(self, method: str, params: dict[str, Any], number: Any = 1) -> Any:
        async with self.post(method, params, number) as response:
            return (await messages(response))[-1]

    def modern(self, method: str, params: dict[str, Any], number: Any = 1, **meta: Any) -> Any:
        name = {"Mcp-Name": str(params.get("name", params.get("uri")))} if "name" in params or "uri" in params else {}
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": {**META, **meta}}}
        headers = {**self.headers(), "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **name}
        return self.client.post(self.url, json=body, headers=headers)

    async def ask_modern(self, method: str, params: dict[str, Any], number: Any = 1, **meta: Any) -> Any:
        async with self.modern(method, params, number, **meta) as response:
            return (await messages(response))[-1]


async def messages(response: aiohttp.ClientResponse) -> list[Any]:
    if response.content_type == "application/json":
        return [await response.json()]
    return [message async for message in events(response)]


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in response.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def text(answer: Any) -> str:
    return "".join(part["text"] for part in answer["result"]["content"])


CALL = {"name": "echo", "arguments": {"text": "hello"}}


@pytest.mark.parametrize("era", ["session", "stateless"])
async def test_a_tool_that_changes_while_the_task_runs(running: Running, wire: Wire, era: str) -> None:
    await wire.initialize()
    ask = wire.ask if era == "session" else wire.ask_modern
    assert text(await ask("tools/call", CALL)) == "hello"
    await ask("tools/call", {"name": "grow", "arguments": {}})
    refused = await ask("tools/call", CALL)
    assert refused["result"]["isError"] is True
    assert refused["result"]["_meta"]["dev.remit/decision"]["reasons"] == ["manifest_changed", "tool_changed"]
    shown = {tool["name"] for tool in (await ask("tools/list", {}))["result"]["tools"]}
    assert "grow" in shown
    assert "echo" not in shown


@pytest.mark.parametrize("era", ["session", "stateless"])
async def test_a_server_that_dies(running: Running, wire: Wire, era: str) -> None:
    await wire.initialize()
    ask = wire.ask if era == "session" else wire.ask_modern
    died = await ask("tools/call", {"name": "die", "arguments": {}})
    assert died["result"]["isError"] is True
    assert "not known" in text(died)
    if era == "session":
        async with wire.post("tools/call", CALL) as response:
            assert response.status == 404  # the server's memory of this session is gone: the agent begins anew
        wire.session = ""
        await wire.initialize()
    assert text(await ask("tools/call", CALL)) == "hello"
    assert [record.ending for record in await running.records() if hasattr(record, "ending")] == ["failed", "ok"]


async def test_cancelling_in_a_session(running: Running, wire: Wire, log: Path) -> None:
    await wire.initialize()
    async with wire.post("tools/call", {"name": "hang", "arguments": {}}, "h") as response:
        assert response.status == 200
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}}
        async with wire.client.post(wire.url, json=body, headers=wire.headers()) as taken:
            assert taken.status == 202
        assert await messages(response) == []
    await until(lambda: "cancelled" in log.read_text())
    assert [record.ending for record in await running.records() if hasattr(record, "ending")] == ["cancelled"]


async def test_a_stateless_agent_that_leaves_cancels(running: Running, wire: Wire, log: Path) -> None:
    hanging = asyncio.create_task(wire.ask_modern("tools/call", {"name": "hang", "arguments": {}}))
    await until(lambda: log.exists() and "call hang" in log.read_text())
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await until(lambda: "cancelled" in log.read_text())
    assert [record.ending for record in await running.records() if hasattr(record, "ending")] == ["cancelled"]


async def test_a_broken_connection_loses_nothing_in_a_session(running: Running, wire: Wire) -> None:
    await wire.initialize()
    async with wire.post("tools/call", {"name": "ask", "arguments": {}}) as response:
        last = ""
        async for line in response.content:
            if line.startswith(b"id: "):
                last = line[4:].strip().decode()
            if line.startswith(b"data: {"):
                question = json.loads(line[6:])
                break
    assert question["method"] == "elicitation/create"
    answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
    async with wire.client.post(wire.url, json=answer, headers=wire.headers()) as taken:
        assert taken.status == 202
    async with wire.client.get(wire.url, headers=wire.headers(**{"Last-Event-ID": last})) as rest:
        assert "Ada" in text((await messages(rest))[-1])


async def test_rounds_with_a_legacy_server(running: Running, wire: Wire) -> None:
    ask = {"name": "ask", "arguments": {}}
    first = (await wire.ask_modern("tools/call", ask))["result"]
    assert first["resultType"] == "input_required"
    (key,) = first["inputRequests"]
    responses = {"inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}}, "requestState": first["requestState"]}
    # what the handle was not made for opens nothing, and does not use it up
    other = await wire.ask_modern("tools/call", {"name": "echo", "arguments": {"text": "x"}, **responses})
    assert other["error"]["code"] == -32602
    forged = await wire.ask_modern("tools/call", {**ask, **responses, "requestState": first["requestState"] + "x"})
    assert forged["error"]["code"] == -32602
    _, token = await running.another_task()
    thief = Wire(wire.client, f"http://127.0.0.1:{running.port}/mcp/old")
    thief.headers = lambda **_: {**Wire.headers(wire), "Authorization": f"Bearer {token}"}  # type: ignore[method-assign]
    assert (await thief.ask_modern("tools/call", {**ask, **responses}))["error"]["code"] == -32602
    # an answer that is missing is asked for again
    again = (await wire.ask_modern("tools/call", {**ask, "requestState": first["requestState"]}))["result"]
    assert list(again["inputRequests"]) == [key]
    assert (await wire.ask_modern("tools/call", {**ask, **responses}))["error"]["code"] == -32602  # used
    done = await wire.ask_modern("tools/call", {**ask, **responses, "requestState": again["requestState"]}, 9)
    assert (done["id"], done["result"]["resultType"]) == (9, "complete")
    assert json.loads(text(done)) == {"action": "accept", "content": {"name": "Ada"}}
    mine = [record for record in await running.records() if hasattr(record, "outcome")]
    assert len(mine) == 1  # one call, decided once


async def test_a_question_nobody_declared_to_answer(running: Running, wire: Wire) -> None:
    told = await wire.ask_modern("tools/call", {"name": "ask", "arguments": {}}, **{"io.modelcontextprotocol/clientCapabilities": {}})
    assert json.loads(text(told))["code"] == -32601


async def test_logs_and_progress_as_the_era_wants_them(wire: Wire) -> None:
    chat = {"name": "chat", "arguments": {}}
    async with wire.modern("tools/call", chat) as response:
        assert [message.get("method") for message in await messages(response)] == [None]
    wanted = {"io.modelcontextprotocol/logLevel": "warning", "progressToken": "p"}
    async with wire.modern("tools/call", chat, **wanted) as response:
        log, progress, _ = await messages(response)
    assert log["params"]["level"] == "warning"
    assert progress["params"] == {"progressToken": "p", "progress": 1}


async def test_resources_of_the_grant_only(running: Running, wire: Wire) -> None:
    await wire.initialize()
    for ask in (wire.ask, wire.ask_modern):
        listed = (await ask("resources/list", {}))["result"]["resources"]
        assert [resource["uri"] for resource in listed] == ["old://note"]
        assert (await ask("resources/read", {"uri": "old://note"}))["result"]["contents"][0]["text"] == "noted"
        assert "error" in await ask("resources/read", {"uri": "old://other"})
    assert (await wire.ask("resources/read", {"uri": "old://missing"}))["error"]["code"] == -32002
    assert (await wire.ask_modern("resources/read", {"uri": "old://missing"}))["error"]["code"] == -32602
    assert "error" in await wire.ask("resources/subscribe", {"uri": "old://other"})
    outcomes = [record.outcome for record in await running.records() if hasattr(record, "outcome")]
    assert outcomes.count("deny") == 3


async def test_a_subscription_before_a_legacy_server(running: Running, wire: Wire, log: Path) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["old://note"]}
    async with wire.modern("subscriptions/listen", {"notifications": {**wanted, "resourceSubscriptions": ["old://other"]}}) as refused:
        assert "error" in (await messages(refused))[-1]
    async with wire.modern("subscriptions/listen", {"notifications": wanted}, "sub") as stream:
        heard = events(stream)
        first = await anext(heard)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == wanted
        await until(lambda: "resources/subscribe old://note" in log.read_text())
        await wire.ask_modern("tools/call", {"name": "touch", "arguments": {}})
        updated = await anext(heard)
        assert updated["params"]["uri"] == "old://note"
        assert updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
        await wire.ask_modern("tools/call", {"name": "grow", "arguments": {}})
        assert (await anext(heard))["method"] == "notifications/tools/list_changed"
        await running.node.tasks.end(running.task.id, TaskState.REVOKED, by="alice")
        rest = [message async for message in heard]
    assert [message.get("method") for message in rest] == ["notifications/tools/list_changed", None]
    assert rest[-1]["id"] == "sub"
    assert rest[-1]["result"]["resultType"] == "complete"


async def test_what_ends_with_the_task(running: Running, wire: Wire, log: Path) -> None:
    await wire.initialize()
    hanging = asyncio.create_task(wire.ask("tools/call", {"name": "hang", "arguments": {}}, 5))
    await until(lambda: log.exists() and "call hang" in log.read_text())
    async with wire.client.get(wire.url, headers=wire.headers()) as stream:
        assert stream.status == 200
        await running.node.tasks.end(running.task.id, TaskState.REVOKED, by="alice")
        async with asyncio.timeout(60):
            assert [line async for line in stream.content if line.startswith(b"data")] == []
    with pytest.raises(IndexError):
        await hanging  # its stream ended without an answer
    for method in ("tools/list", "tools/call"):
        async with wire.post(method, CALL) as response:
            assert response.status == 401
    await running.node.tasks.settle()
    bodies = [decode(entry.body).body for entry in await running.node.store.task_entries(running.task.id)]
    (allowed,) = [body.decision for body in bodies if isinstance(body, CallDecided)]
    assert not [body for body in bodies if isinstance(body, CallFinished)]  # the agent's own cancellation comes too late
    assert bodies[-1] == TaskMoved(to="revoked", by="alice", undetermined=[allowed])


async def test_an_end_that_nobody_waits_for_any_more_is_an_end(running: Running) -> None:
    """Whoever lets go of an ended task may be cancelled meanwhile, as when the node stops: the server's process is gone all the same."""
    links = running.node.gateway.links
    link = await links.get(running.task.id, "old", "", None, {})
    letting_go = asyncio.create_task(links.end_task(running.task.id))
    await asyncio.sleep(0)
    letting_go.cancel()
    await asyncio.gather(letting_go, return_exceptions=True)
    await links.close()
    process = link.upstream._process
    assert process is not None
    assert process.returncode is not None


async def test_too_many_sessions_push_the_oldest_out(wire: Wire) -> None:
    await wire.initialize()
    first = wire.session
    for _ in range(64):
        wire.session = ""
        await wire.initialize()
    assert text(await wire.ask("tools/call", CALL)) == "hello"
    wire.session = first
    async with wire.post("tools/call", CALL) as response:
        assert response.status == 404

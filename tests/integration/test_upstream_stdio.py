"""Hostile and broken MCP servers behind pipes: the agent is told clearly, the gateway stays up, the ledger knows how it ended."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remit.errors import RemitError
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers
from tests.e2e.gateway import Running, stdio, until
from tests.e2e.test_gateway_life import text
from tests.integration.gateway_facts import ERAS, again, ask, call, case, check, refused, served, wire

pytestmark = pytest.mark.anyio
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    return tmp_path / "mood"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
async def running(tmp_path: Path, mood: Path, log: Path) -> AsyncIterator[Running]:
    bad = stdio("bad", "hostile.py") + f'env = {{ HOSTILE = "{mood}", HOSTILE_LOG = "{log}" }}\n\n'
    async with served(tmp_path, bad) as node:
        yield node


BROKEN = {
    "crash": "ended",
    "flood": "floods",
    "long_line": "too large",
    "endless_line": "too large",
    "only_rubbish": "no JSON-RPC",
    "no_result": "no JSON-RPC",
    "both": "no JSON-RPC",
    "error_text": "no JSON-RPC",
    "result_text": "no JSON-RPC",
}


async def test_calls_that_the_server_breaks(running: Running) -> None:
    for era in ERAS:
        async with wire(running, era=era) as agent:
            for tool, words in BROKEN.items():
                with case(f"{tool}, {era}"):
                    assert "not known" in refused(await call(agent, tool), words)
                    assert await again(agent) == "again"
    await check(running, *["failed", "ok"] * len(BROKEN) * len(ERAS))


async def test_calls_that_are_never_answered(running: Running) -> None:
    async with wire(running) as agent, asyncio.timeout(90):
        for answer in await asyncio.gather(call(agent, "other_id"), call(agent, "hang")):
            assert "not known" in refused(answer, "in time")
        assert await again(agent) == "again"
        with case("flood_questions"):
            refused(await call(agent, "flood_questions"), "in time", "floods", "takes no more messages")  # what is noticed first
        with case("deaf"):  # still there, and still deaf; the next call is told as clearly
            for answer in await asyncio.gather(call(agent, "deaf"), call(agent, "deaf")):
                refused(answer, "in time")
    await check(running, "failed", "failed", "ok", *["failed"] * 3)


async def test_rubbish_before_the_answer_is_passed_over(running: Running) -> None:
    for era in ERAS:
        async with wire(running, era=era) as agent:
            assert text(await call(agent, "rubbish")) == "still here"
            assert text(await call(agent, "twice")) == "first"
            assert await again(agent) == "again"
    await check(running, *["ok"] * 6)


async def test_a_server_that_leaves_between_calls_is_started_again(running: Running) -> None:
    async with wire(running) as agent:
        for _ in range(2):
            assert text(await call(agent, "leave")) == "bye"
            await asyncio.sleep(0.1)
            assert await again(agent) == "again"
    async with wire(running, era="session") as agent:
        assert text(await call(agent, "leave")) == "bye"
        await asyncio.sleep(0.1)
        assert (await call(agent, "echo", text="back"))["status"] == 404  # what the server knew of this session is gone
        assert await again(agent) == "again"
    await check(running, *["ok"] * 6)


STARTS = {
    "start_crash": "ended",
    "start_hang": "in time",
    "start_rubbish": "no JSON-RPC",
    "start_long_line": "too large",
    "open_bad_version": "no MCP",
    "open_number": "no MCP",
}


async def test_a_server_that_does_not_start(running: Running, mood: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with wire(running) as agent, wire(running) as older:
        for how, words in STARTS.items():
            with case(how):
                mood.write_text(how)
                assert "Nothing was done" in refused(await call(agent, "echo", text="x"), words)
                if how != "start_hang":
                    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING}
                    async with older.client.post(older.url, json=body, headers=older.headers()) as response:
                        refused(await response.json(), words)
        mood.write_text("")
        assert await again(agent) == "again"
    assert "ModuleNotFoundError" in caplog.text  # what it said last is the operator's, not the agent's
    assert str(mood) not in caplog.text  # and not what its environment holds
    await check(running, "ok")


async def test_capabilities_that_are_none(running: Running, mood: Path) -> None:
    mood.write_text("open_no_capabilities")
    async with wire(running) as agent:
        assert await again(agent) == "again"
        async with agent.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
            assert b"acknowledged" in await stream.content.readuntil(b"\r\n\r\n")


LISTS = {
    "list_error_text": "no JSON-RPC",
    "list_no_tools": "does not list",
    "list_endless": "pages",
    "list_large_pages": "too much",
    "list_hang": "in time",
    "list_changing": "all the time",
}


async def test_a_server_that_does_not_list_its_tools(running: Running, mood: Path) -> None:
    async with wire(running) as agent:
        for how, words in LISTS.items():
            with case(how):
                mood.write_text(how)
                assert "Nothing was done" in refused(await call(agent, "echo", text="x"), words)
        mood.write_text("")
        assert await again(agent) == "again"
    await check(running, "ok")


async def test_one_poisoned_tool_does_not_hide_the_others(running: Running, mood: Path) -> None:
    mood.write_text("list_poisoned")
    for era in ERAS:
        async with wire(running, era=era) as agent:
            names = [tool["name"] for tool in (await ask(agent, "tools/list", {}))["result"]["tools"]]
            assert "echo" in names
            assert "huge" not in names
            assert await again(agent) == "again"
    await check(running, "ok", "ok")


async def test_nothing_piles_up(running: Running, log: Path) -> None:
    async with wire(running, era="session") as agent:
        with case("shout"):  # on stderr
            assert text(await call(agent, "shout")) == "shouted"
        with case("hoard"):  # large notices that nobody reads
            assert text(await call(agent, "hoard")) == "begun"
            await until(lambda: "hoarded" in log.read_text())
            assert await again(agent) == "again"
    async with wire(running) as agent:
        with case("flood_changes"):  # they belong to no call, and end the process all the same
            refused(await call(agent, "flood_changes"), "floods", "in time")
            assert await again(agent) == "again"
    await check(running, "ok", "ok", "ok", "failed", "ok")


async def test_questions_that_the_agent_never_offered_to_answer(running: Running) -> None:
    async with wire(running) as agent:
        capabilities = {"io.modelcontextprotocol/clientCapabilities": {}}
        answers = [await agent.ask_modern("tools/call", {"name": "unasked", "arguments": {}}, **capabilities)]
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING}
        async with agent.client.post(agent.url, json=body, headers=agent.headers()) as response:
            agent.session = response.headers["Mcp-Session-Id"]
        answers.append(await call(agent, "unasked"))
    for answer in answers:
        told = dict(json.loads(text(answer)))
        assert told.pop("ping") == "result"
        assert set(told.values()) == {-32601}
        assert len(told) == 5
    await check(running, "ok", "ok")


async def test_more_questions_than_a_call_may_have(running: Running) -> None:
    async with wire(running) as agent:
        params = {"name": "many_questions", "arguments": {}}
        with case("many_questions"):
            for _ in range(300):
                result = (await agent.ask_modern("tools/call", params))["result"]
                if result["resultType"] == "complete":
                    break
                assert len(result["inputRequests"]) <= 16
                answers = {key: {"action": "decline"} for key in result["inputRequests"]}
                params |= {"inputResponses": answers, "requestState": result["requestState"]}
        told = json.loads(result["content"][0]["text"])
        assert told["refused"] > 0
        assert told["refused"] + told["declined"] == 500
    await check(running, "ok")


async def test_a_changed_tool_is_not_called_until_it_is_pinned_again(running: Running) -> None:
    for era in ERAS:  # each has a process of its own
        async with wire(running, era=era) as agent:
            assert await again(agent) == "again"
            assert text(await call(agent, "grow")) == "grown"
            assert "Nothing was done" in refused(await call(agent, "echo", text="x"), "no longer what it was")
            assert text(await call(agent, "twice")) == "first"  # the others are as they were
    await check(running, *["ok", "ok", "deny", "ok"] * len(ERAS))


async def test_an_answer_that_asks_for_more_input_than_its_era_knows_is_recorded(running: Running) -> None:
    async with wire(running, era="session") as agent:
        await call(agent, "held")
    await check(running, "ok")


async def test_a_server_that_will_not_die_dies_with_its_task(running: Running) -> None:
    async with wire(running) as agent:
        server, child = (int(number) for number in text(await call(agent, "stubborn")).split())
    assert alive(server)
    assert alive(child)
    async with asyncio.timeout(60):
        await running.node.gateway.links.end_task(running.task.id)
    await until(lambda: not alive(server) and not alive(child))
    await check(running, "ok")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").split()[2] != "Z" and os.getpgid(process) > 0
    except (OSError, ProcessLookupError):
        return False


async def test_pinning_a_broken_server_says_so(running: Running, mood: Path) -> None:
    for how in ("start_crash", "start_rubbish", "list_error_text", "list_large_pages", "list_poisoned"):
        mood.write_text(how)
        with case(how), pytest.raises(RemitError, match="bad"):
            await pin_servers(load_configuration(running.node.folder), ["bad"], only_new=False)

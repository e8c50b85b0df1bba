"""Hostile and broken MCP servers behind HTTP: the agent is told clearly, the gateway stays up, the ledger knows how it ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.drivers.base import HttpServer, UpstreamLimits
from remit.drivers.conversation import read_message
from remit.drivers.sse import EventReader
from remit.drivers.upstream_http import HttpUpstream, http_session
from remit.drivers.upstreams import open_upstream
from remit.errors import Outage
from tests.e2e.gateway import Running, http, http_server, until
from tests.e2e.test_gateway_life import events, text
from tests.integration.gateway_facts import ERAS, again, ask, call, case, check, endings, refused, served, wire

pytestmark = pytest.mark.anyio
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    return tmp_path / "mood"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def address(mood: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(os.environ, "HOSTILE", str(mood))
    monkeypatch.setitem(os.environ, "HOSTILE_LOG", str(log))
    with http_server("hostile.py") as url:
        yield url


@pytest.fixture
async def running(tmp_path: Path, address: str) -> AsyncIterator[Running]:
    async with served(tmp_path, http("bad", address)) as node:
        yield node


BROKEN = {
    "redirect": "HTTP status 307",
    "wrong_type": "HTTP status 200 and no message",
    "status_500": "HTTP status 500",
    "status_401": "HTTP status 401",
    "status_500_result": "HTTP status 500",
    "empty_202": "HTTP status 202",
    "endless_line": "too large",
    "endless_data": "too large",
    "dense_data": "too large",
    "too_long": "too large",
    "cut": "cannot be reached",
    "cut_stream": "cannot be reached",
    "bad_chunks": "cannot be reached",
    "not_http": "cannot be reached",
    "many_headers": "cannot be reached",
    "bomb": "compressed",
    "other_id": "without an answer",
    "null_id": "no JSON-RPC",
    "list_id": "no JSON-RPC",
    "no_result": "no JSON-RPC",
    "error_text": "no JSON-RPC",
    "flood": "floods",
}


async def test_calls_that_the_server_breaks(running: Running, log: Path) -> None:
    for era in ERAS:
        async with wire(running, era=era) as agent:
            for tool, words in BROKEN.items():
                with case(f"{tool}, {era}"):
                    assert "not known" in refused(await call(agent, tool), words)
                    assert await again(agent) == "again"
    assert "elsewhere" not in log.read_text()  # the redirect led nowhere
    await check(running, *["failed", "ok"] * len(BROKEN) * len(ERAS))


async def test_calls_that_are_never_answered(running: Running) -> None:
    tools = ("drip", "hang", "no_headers")
    async with wire(running) as agent, asyncio.timeout(90):
        for answer in await asyncio.gather(*(call(agent, tool) for tool in tools)):
            assert "not known" in refused(answer, "in time")
        assert await again(agent) == "again"
    await check(running, *["failed"] * len(tools), "ok")


async def test_rubbish_for_an_answer(running: Running) -> None:
    async with wire(running) as agent:
        for number in range(23):
            with case(f"rubbish {number}"):
                assert "not known" in refused(await call(agent, "rubbish"), "no JSON-RPC", "without an answer")
        assert text(await call(agent, "twice")) == "first"
    await check(running, *["failed"] * 23, "ok")


async def test_a_session_that_the_server_drops(running: Running) -> None:
    """Published servers say so with 404 and a JSON body, whose id is nobody's."""
    for era in ERAS:
        async with wire(running, era=era) as agent:
            for tool in ("lose_session", "status_404"):
                with case(f"{tool}, {era}"):
                    refused(await call(agent, tool), "dropped the session")
                    assert await again(agent) == "again"
    await check(running, *["failed", "ok"] * 4)


async def test_what_becomes_a_header_again(running: Running) -> None:
    async with wire(running) as agent:
        refused(await call(agent, "bad_event_id"), "in time")  # it was asked for the rest, and has none
        assert await again(agent) == "again"
        assert (await call(agent, "bad_session"))["error"]["message"] == "x"  # the session it began with stays
        assert await again(agent) == "again"
    await check(running, "failed", "ok", "tool_error", "ok")


async def test_questions_that_the_agent_never_offered_to_answer(running: Running) -> None:
    async with wire(running) as agent:
        capabilities = {"io.modelcontextprotocol/clientCapabilities": {}}
        answer = await agent.ask_modern("tools/call", {"name": "unasked", "arguments": {}}, **capabilities)
    assert text(answer).count("-32601") == 5
    await check(running, "ok")


@pytest.mark.parametrize("era", ERAS)
async def test_a_changed_tool_is_not_called_until_it_is_pinned_again(running: Running, log: Path, era: str) -> None:
    async with wire(running, era=era) as agent:
        assert await again(agent) == "again"
        await until(lambda: "GET" in log.read_text())
        assert text(await call(agent, "grow")) == "grown"
        await asyncio.sleep(0.1)  # the notice goes another way than the answer
        assert "Nothing was done" in refused(await call(agent, "echo", text="x"), "no longer what it was")
        assert text(await call(agent, "twice")) == "first"
    assert await endings(running) == ["ok", "ok", "deny", "ok"]


async def test_a_change_while_nobody_could_hear_it(running: Running, log: Path) -> None:
    async with wire(running) as agent:
        assert await again(agent) == "again"
        await until(lambda: "GET" in log.read_text())
        assert text(await call(agent, "busy_stream")) == "ended"
        assert text(await call(agent, "grow")) == "grown"
        await until(lambda: log.read_text().count("GET") == 2)
        await asyncio.sleep(0.1)
        refused(await call(agent, "echo", text="x"), "no longer what it was")


async def test_an_answer_comes_only_on_its_own_stream(running: Running, log: Path) -> None:
    """Else it would reach the agent unrecorded."""
    async with wire(running, era="session") as agent:
        await until(lambda: "GET" in log.read_text())
        heard: list[Any] = []
        async with agent.client.get(agent.url, headers=agent.headers()) as stream:

            async def hear() -> None:
                async for message in events(stream):
                    heard.append(message)  # noqa: PERF401 - what was heard so far counts

            hearing = asyncio.create_task(hear())
            refused(await call(agent, "late_answer"), "in time")
            hearing.cancel()
        assert heard == []
    await check(running, "failed")


async def test_a_server_that_takes_no_notices(running: Running, mood: Path) -> None:
    mood.write_text("ignore_notices")
    async with wire(running) as agent, asyncio.timeout(90):
        refused(await ask(agent, "tools/call", {"name": "echo", "arguments": {}}), "in time")
        mood.write_text("")
        assert await again(agent) == "again"


async def test_more_questions_than_a_round_may_have(tmp_path: Path, address: str) -> None:
    modern = http("bad", address.replace("/mcp", "/modern"))
    async with served(tmp_path, modern) as running, wire(running, era="session") as agent:
        with case("questions"):
            refused(await call(agent, "questions"), "questions at once")
        assert await again(agent) == "again"
        await check(running, "tool_error", "ok")


async def test_closing_ends_the_calls_under_way(address: str, log: Path) -> None:
    client = http_session()

    async def ignore(_: Any) -> None:
        pass

    upstream = await open_upstream(
        HttpServer(name="bad", url=address), initialize=OPENING, limits=UpstreamLimits(), unsolicited=ignore, client=client
    )
    assert isinstance(upstream, HttpUpstream)
    calls = [
        asyncio.create_task(upstream.exchange({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": {"name": tool}}, ignore))
        for tool in ("drip", "hang", "no_headers")
    ]
    await until(lambda: log.read_text().count("tools/call") == 3)
    async with asyncio.timeout(60):
        await upstream.close()
        await upstream.close()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, Outage)
            assert "ended" in outcome.message
    with pytest.raises(Outage):
        await upstream.exchange({"jsonrpc": "2.0", "id": 1, "method": "ping"}, ignore)
    assert "DELETE" in log.read_text()
    await client.close()


@pytest.mark.parametrize("part", [b"[],", b"{},"])
def test_a_message_of_many_small_parts(part: bytes) -> None:
    """Each part costs many times its own bytes of memory, and the time to build it."""
    message = b'{"jsonrpc": "2.0", "id": 1, "result": {"x": [' + part * 5_000_000 + b"0]}}"
    with case("many parts", megabytes=20), pytest.raises(Outage, match="too many parts"):
        read_message(message, UpstreamLimits())


def test_events_in_any_pieces() -> None:
    """However the bytes are cut, and whichever line end is used, the same events come out."""
    for end in (b"\n", b"\r", b"\r\n"):
        whole = end.join(
            [b"id: 1", b"data: a", b"data: b", b"", b": no", b"data", b"", b"id: e\x00f", b"data:c", b"", b"retry: 5", b"data: left"]
        )
        for size in (1, 2, 3, 7, 1_000):
            reader = EventReader(100)
            found = [data for start in range(0, len(whole), size) for data in reader.feed(whole[start : start + size])]
            assert (found, reader.last_id, reader.retry_seconds) == ([b"a\nb", b"c"], "1", 0.005)
            reader.restart()
            assert reader.feed(b"data: new\n\n") == [b"new"]

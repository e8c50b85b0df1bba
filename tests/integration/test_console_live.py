"""Open pages are told that the ledger has grown: by a cursor, bounded, and only while the session holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from remit.doors.console import live
from remit.model.console import Role
from remit.node_console import console_frame
from tests.console_node import Browser, ConsoleNode, console_node

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def following(browser: Browser, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with browser.client.get(f"{browser.base}/console/live{query}", headers={"Cookie": cookie, **headers}) as answer:
        yield answer


async def event(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """The next event that says something."""
    async with asyncio.timeout(60):
        while True:
            lines: list[str] = []
            while line := (await answer.content.readline()).decode().rstrip("\n"):
                lines.append(line)
            told = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if "event" in told:
                return told
            assert lines or not answer.content.at_eof(), "the stream has ended"


async def size(here: ConsoleNode) -> int:
    return await here.node.store.change_mark()


async def test_a_page_is_told_of_what_is_new_and_of_what_it_missed(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        task = await here.open()
        async with following(browser) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            await answer.content.readline()
            await here.call(task, "bank/balance")
            told = await event(answer)
            assert told["event"] == "grown"
            assert int(told["id"]) <= await size(here)
        await here.call(task, "bank/balance")
        async with following(browser, **{"Last-Event-ID": told["id"]}) as answer:
            again = await event(answer)
            assert int(told["id"]) < int(again["id"]) <= await size(here)
        for strange in ("-5", "9" * 30, "x", "²"):
            async with following(browser, f"?after={strange}") as answer:
                await answer.content.readline()
                await here.call(task, "bank/balance")
                assert (await event(answer))["event"] == "grown"


async def test_a_task_s_page_is_told_of_that_task(tmp_path):
    async with console_node(tmp_path) as here:
        browser, one, other = await here.signed_in(), await here.open(), await here.open()
        async with following(browser, f"?task={one.id}") as answer:
            await answer.content.readline()
            await here.call(other, "bank/balance")
            await asyncio.sleep(0.3)
            before = await size(here)
            await here.call(one, "bank/balance")
            assert int((await event(answer))["id"]) > before


async def test_who_signs_out_is_told_nothing_more(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        async with following(browser) as answer:
            await answer.content.readline()
            await console_frame(here.node).sessions.end_all("local:ann", by="local:root")
            assert (await event(answer))["event"] == "over"
            async with asyncio.timeout(30):
                assert await answer.content.read() == b""


async def test_streams_are_bounded(tmp_path):
    async with console_node(tmp_path) as here, contextlib.AsyncExitStack() as stack:
        browser = await here.signed_in("local:ann", Role.VIEWER)
        for _ in range(8):
            answer = await stack.enter_async_context(following(browser))
            assert answer.status == 200
            await answer.content.readline()
        async with following(browser) as answer:
            assert answer.status == 503
        assert (await (await here.signed_in("local:ben")).get("/console/live"))[0] == 200, "it takes nothing from another"
        await stack.aclose()
        async with asyncio.timeout(30):
            while True:
                async with following(browser) as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.05)


async def test_a_browser_that_never_reads_is_let_go(monkeypatch):
    monkeypatch.setattr(live, "_SEND_SECONDS", 0.3)
    counted: Counter[str] = Counter()
    stuck = asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b": x\n\n"

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3_600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await asyncio.sleep(3_600)  # the socket takes nothing more

    async with asyncio.timeout(30):
        await live._Stream(events(), "s", counted)({"type": "http"}, receive, send)
    assert stuck.is_set()
    assert not counted

"""Streams that are open for an agent end at once when what opened them is taken back, in both eras; others go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.task import TaskState
from tests.e2e.gateway import Running, gateway, stdio
from tests.e2e.test_gateway_life import GRANT, Wire, events

pytestmark = pytest.mark.anyio
DELEGATION = '[delegation]\nto = ["tester"]\ncycles = true\ndepth = 1\nfan_out = 9\nlifetime = "20m"\n'
ERAS = ("session", "stateless")


class Holder(Wire):
    """An agent with a token of its own."""

    def __init__(self, client: aiohttp.ClientSession, url: str, token: str) -> None:
        super().__init__(client, url)
        self.token = token

    def headers(self, **more: str) -> dict[str, str]:
        return super().headers(Authorization=f"Bearer {self.token}", **more)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    server = stdio("old", "old_stdio.py") + f'env = {{ OLD_LOG = "{tmp_path / "old.log"}" }}\n'
    (tmp_path / "folder").mkdir()
    async with gateway(tmp_path / "folder", server, task=GRANT + DELEGATION) as node:
        yield node


@contextlib.asynccontextmanager
async def heard(running: Running, token: str, era: str) -> AsyncIterator[asyncio.Task[None]]:
    """A stream that is open; what it gives is done when the stream has ended."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client:
        wire = Holder(client, f"http://127.0.0.1:{running.port}/mcp/old", token)
        if era == "session":
            await wire.initialize()
            opening: Any = client.get(wire.url, headers=wire.headers())
        else:
            opening = wire.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, "sub")
        async with opening as stream:
            assert stream.status == 200
            reading = events(stream)
            if era == "stateless":
                assert (await anext(reading))["method"] == "notifications/subscriptions/acknowledged"

            async def to_the_end() -> None:
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    async for _ in reading:
                        pass

            ending = asyncio.create_task(to_the_end())
            yield ending
            ending.cancel()


async def ended(stream: asyncio.Task[None]) -> None:
    async with asyncio.timeout(60):
        await stream


async def child_of(running: Running, token: str) -> str:
    """A child's token."""
    node = running.node
    bearer = await node.tokens.bearer(token)
    line = WantedLine(kind=Kind.TOOL, server="old", name="*")
    wanted = Wanted(request=f"r{token[-8:]}", agent="tester", objective="Listen", lines=(line,), calls=10)
    child = await node.door.presenting.delegations.delegate(bearer, wanted, by=bearer.agent)
    return (await node.tokens.issue(child.id, "test"))[0]


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_ends_with_its_token_while_another_of_the_same_task_goes_on(running: Running, era: str) -> None:
    task, token = await running.another_task()
    other, _ = await running.node.tokens.issue(task.id, "test")
    async with heard(running, token, era) as stream, heard(running, other, era) as going_on:
        known, _ = await running.node.tokens.look(token)
        await running.node.tokens.revoke(known, "somebody")
        await ended(stream)
        assert not going_on.done()


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_ends_when_its_task_or_one_above_is_suspended_or_has_ended(running: Running, era: str) -> None:
    for moved in ("own", "above", "over"):
        task, token = await running.another_task()
        listening = token if moved == "own" else await child_of(running, token)
        async with heard(running, listening, era) as stream, heard(running, running.token, era) as going_on:
            if moved == "over":
                await running.node.tasks.end(task.id, TaskState.REVOKED, by="alice")
            else:
                await running.node.tasks.move(task.id, TaskState.SUSPENDED, by="alice")
            await ended(stream)
            assert not going_on.done()


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_ends_when_its_agent_is_stopped(running: Running, era: str) -> None:
    _, token = await running.another_task()
    async with heard(running, token, era) as stream, heard(running, await child_of(running, token), era) as below:
        agent = (await running.node.tokens.bearer(token)).agent.text
        await running.node.tasks.standing.stop([agent], by="alice")
        await ended(stream)
        await ended(below)
        await running.node.subtrees.restore([agent], by="alice")


async def test_a_stream_does_not_begin_for_a_suspended_task(running: Running) -> None:
    task, token = await running.another_task()
    async with aiohttp.ClientSession() as client:
        wire = Holder(client, f"http://127.0.0.1:{running.port}/mcp/old", token)
        await wire.initialize()
        await running.node.tasks.move(task.id, TaskState.SUSPENDED, by="alice")
        async with client.get(wire.url, headers=wire.headers()) as refused:
            assert refused.status == 403
            assert (await refused.json(content_type=None))["code"] == "taken_back"

"""A leased secret does not leave: whatever gives it away, however it is dressed, whoever says it, it is stopped and its lease goes."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client, MCPError

from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.task import TaskState
from remit.model.tripwire import SecretFound
from remit.node import Node
from remit.services.replay import verify
from tests.e2e.gateway import Running, gateway, stdio, until
from tests.servers.giveaway import DRESSES
from tests.servers.postgres import PostgresTarget, postgres_target

pytestmark = pytest.mark.anyio
TARGET = '[targets.orders]\nkind = "postgresql"\nurl = "{url}"\nsecret = "${{ORDERS_ROOT}}"\n'
LEASE = '[[lease]]\ntarget = "orders"\nscope.tables = [{ schema = "public", table = "orders", allow = ["select"] }]\n'
GRANT = "".join(f'[[grant]]\n{kind} = "give/*"\n' for kind in ("tool", "resource", "prompt")) + LEASE


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.fixture
async def running(tmp_path: Path, server: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("ORDERS_ROOT", server.password)
    (tmp_path / "folder").mkdir()
    give = stdio("give", "giveaway.py") + 'env = { GIVEAWAY = "{lease:orders.password}" }\n'
    async with gateway(tmp_path / "folder", give, task=GRANT, more=TARGET.format(url=server.url)) as node:
        await node.node.rules.activate(node.node.configuration, node.node.rules.rulebook)
        yield node


async def bodies(node: Node, task: str) -> list[Any]:
    await node.tasks.settle()
    return [decode(entry.body).body for entry in await node.store.task_entries(task)]


async def secret_of(node: Node, task: str) -> str:
    return (await node.leases.leases.have(task, "orders")).parts["password"]


async def fresh(running: Running) -> tuple[str, str, str]:
    """A task of its own for each way: its id, its address, and the secret of its lease."""
    task, _ = await running.another_task()
    url = f"http://127.0.0.1:{running.port}/run/{running.node.gateway.gate.open_endpoint(task.id)}/mcp/give"
    return task.id, url, await secret_of(running.node, task.id)


def standing(server: PostgresTarget) -> list[str]:
    with server.root() as root:
        return [row[0] for row in root.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall()]


async def look(running: Running, server: PostgresTarget, task: str, secret: str, told: str, place: str) -> None:
    """What must be true after a secret was found."""
    node = running.node
    assert secret not in told
    assert (await node.tasks.view(task)).state is TaskState.SUSPENDED
    found = [body for body in await bodies(node, task) if isinstance(body, SecretFound)]
    assert [(body.names, body.place) for body in found] == [(["orders"], place)]
    await until(lambda: standing(server) == [], 20)
    assert secret.encode() not in b"".join([entry.body for entry in await node.store.task_entries(task)])


async def test_in_a_result(running: Running, server: PostgresTarget) -> None:
    for dress, mode in [*((dress, "auto") for dress in DRESSES), ("plain", "legacy")]:
        task, url, secret = await fresh(running)
        async with Client(url, mode=mode) as client:
            result = await client.call_tool("give", {"dress": dress})
            assert result.is_error, dress
            assert "leased credential" in str(result.content)
            assert DRESSES[dress](secret) not in str(result.content)
            await look(running, server, task, secret, str(result), "the result of a call")
            if mode == "auto":  # a session ends with its server's process
                again = await client.call_tool("take", {"text": "x"})
                assert "suspended" in str(again.content) or "not active" in str(again.content)
        (ended,) = [body for body in await bodies(running.node, task) if isinstance(body, CallFinished)]
        assert (ended.ending, ended.size, ended.learnt) == ("ok", 0, False)


async def test_in_an_argument(running: Running, server: PostgresTarget) -> None:
    for dress, dressed in DRESSES.items():
        task, url, secret = await fresh(running)
        async with Client(url) as client:
            result = await client.call_tool("take", {"text": dressed(secret)})
        assert result.is_error, dress
        assert "leased credential (orders)" in str(result.content)
        (decided,) = [body for body in await bodies(running.node, task) if isinstance(body, CallDecided)]
        assert (decided.outcome, decided.reasons[0].code, decided.leaked) == ("deny", "leased_secret", ["orders"])
        await look(running, server, task, secret, str(result), "the arguments of a call")
    assert (await verify(running.node.history())).good, "and all are decided again to the same answer"


async def test_in_every_other_way(running: Running, server: PostgresTarget) -> None:
    for way in ("pieces", "fail", "resource", "prompt", "progress", "meta"):
        task, url, secret = await fresh(running)
        heard: list[Any] = []

        async def progress(*said: Any, heard: list[Any] = heard) -> None:
            heard.append(said)

        async with Client(url) as client:
            try:
                if way == "resource":
                    heard.append(await client.read_resource("env://all"))
                elif way == "prompt":
                    heard.append(await client.get_prompt("ask"))
                elif way == "progress":
                    heard.append(await client.call_tool("murmur", {}, progress_callback=progress))
                elif way == "meta":
                    heard.append(await client.call_tool("take", {"text": "x"}, meta={"x/y": secret}))
                else:
                    heard.append(await client.call_tool(way, {}))
            except MCPError as error:
                heard.append(error)
        place = "a message beside a call" if way in {"progress", "meta"} else "the result of a call"
        await look(running, server, task, secret, str(heard), place)


async def test_at_the_other_doors(running: Running, server: PostgresTarget) -> None:
    """Programs that make their calls themselves, and those that ask the decision API."""
    async with aiohttp.ClientSession() as http:

        async def post(path: str, token: str, body: Any) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post(f"http://127.0.0.1:{running.port}{path}", json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        for door in ("authorize", "observe", "evaluation"):
            opened, token = await running.another_task()
            secret = await secret_of(running.node, opened.id)
            call = {"tool": "give/take", "arguments": {"text": secret if door == "authorize" else "x"}}
            if door == "evaluation":
                action = {"name": "tools/call", "properties": {"arguments": {"text": secret}}}
                subject = {"type": "agent", "id": running.task.agent.text}
                asked = {"subject": subject, "action": action, "resource": {"type": "tool", "id": "give/take"}}
                _, told = await post("/access/v1/evaluation", token, asked)
                assert told["decision"] is False
                assert told["context"]["reasons"][0]["code"] == "leased_secret", told
            else:
                status, told = await post(f"/v1/tasks/{opened.id}/authorize", token, call)
                assert (status, told["outcome"]) == (200, "deny" if door == "authorize" else "allow")
            if door == "observe":
                ended = {"decision": told["decision"], "ending": "ok", "result": {"text": [secret[:9], secret[9:]]}}
                status, told = await post(f"/v1/tasks/{opened.id}/observe", token, ended)
                assert (status, told["code"]) == (403, "withheld")
            place = "the result of a call" if door == "observe" else "the arguments of a call"
            await look(running, server, opened.id, secret, str(told), place)


async def test_in_another_task_of_the_agent(running: Running, server: PostgresTarget) -> None:
    secret = await secret_of(running.node, running.task.id)
    other, _ = await running.another_task()
    base = f"http://127.0.0.1:{running.port}/run/{running.node.gateway.gate.open_endpoint(other.id)}/mcp"
    async with Client(f"{base}/give") as client:
        result = await client.call_tool("take", {"text": base64.b64encode(secret.encode()).decode()})
    assert "leased credential" in str(result.content)
    await look(running, server, running.task.id, secret, str(result), "another task of the agent or of its delegation")
    assert (await running.node.tasks.view(other.id)).state is TaskState.SUSPENDED


async def test_a_secret_that_opens_nothing_any_more_holds_nobody_up(running: Running, server: PostgresTarget) -> None:
    secret = await secret_of(running.node, running.task.id)
    other, _ = await running.another_task()
    await running.node.tasks.end(running.task.id, TaskState.COMPLETED, by="tester")
    await running.node.end_task(running.task.id)
    await until(lambda: standing(server) == [], 20)
    base = f"http://127.0.0.1:{running.port}/run/{running.node.gateway.gate.open_endpoint(other.id)}/mcp"
    async with Client(f"{base}/give") as client:
        result = await client.call_tool("take", {"text": secret})
    assert not result.is_error
    assert (await running.node.tasks.view(other.id)).state is TaskState.ACTIVE
    await running.node.tasks.end(other.id, TaskState.COMPLETED, by="tester")
    await running.node.end_task(other.id)


async def test_a_node_that_did_not_mint_it_finds_it_too(running: Running, server: PostgresTarget) -> None:
    node = running.node
    secret = await secret_of(node, running.task.id)
    node.leases.tripwires._drop(next(iter(node.leases.tripwires._known)))  # as after a restart
    async with Client(running.url("give")) as client:
        result = await client.call_tool("take", {"text": json.dumps({"a": [secret]})})
    await look(running, server, running.task.id, secret, str(result), "the arguments of a call")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_in_what_a_server_says_of_itself(running: Running, server: PostgresTarget, mode: str) -> None:
    toml = running.node.folder / "remit.toml"
    toml.write_text(toml.read_text().replace("env = { ", 'env = { GIVEAWAY_SAYS = "1", '))
    await until(lambda: "GIVEAWAY_SAYS" in running.node.rules.configuration.servers["give"].environment)
    secret = await secret_of(running.node, running.task.id)
    heard: list[Any] = []
    try:
        async with Client(running.url("give"), mode=mode) as client:
            heard.append(client.instructions)
            heard.append(await client.call_tool("take", {"text": "x"}))
    except* MCPError as errors:
        heard.extend(errors.exceptions)
    await look(running, server, running.task.id, secret, str(heard), "a message beside a call")


async def test_a_list_and_the_log(running: Running, server: PostgresTarget, caplog: pytest.LogCaptureFixture) -> None:
    toml = running.node.folder / "remit.toml"
    toml.write_text(toml.read_text().replace("env = { ", 'env = { GIVEAWAY_LISTS = "1", '))
    await until(lambda: running.node.rules.configuration.servers["give"].environment.get("GIVEAWAY_LISTS") == "1")
    secret = await secret_of(running.node, running.task.id)
    async with Client(running.url("give")) as client:
        with pytest.raises(MCPError) as refused:
            await client.list_resources()
    await look(running, server, running.task.id, secret, str(refused.value), "a message beside a call")
    log = logging.getLogger("remit")
    log.warning("it is %s", secret.encode().hex())
    try:
        raise ValueError(secret)
    except ValueError as error:
        log.error("a fault", exc_info=error)
    log.warning("nothing of it")
    shown = [caplog.handler.format(record) for record in caplog.records]
    assert secret not in "".join(shown)
    assert secret.encode().hex() not in "".join(shown)
    assert any("nothing of it" in line for line in shown)

"""All servers of a task's grant as one: stock clients of both eras, three servers behind it, and servers that would pass for others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import mcp.types as types
import pytest
from mcp.client.client import Client

from remit.logic.joint_names import joint_name
from remit.model.call_record import CallDecided, CallFinished
from tests.e2e.gateway import Running, gateway, stdio, until
from tests.e2e.test_gateway_eras import Agent, text
from tests.e2e.test_gateway_life import Wire, events

pytestmark = pytest.mark.anyio
MODES = ("legacy", "2026-07-28")
LONG, LONGER = "x" * 58, "x" * 59  # with bank__ before it: 64 characters, and one too many
ODD = ("a.b", "a/b", "b__c", LONG, LONGER, "send_money--0123456789abcdef")
GRANT = "".join(
    f"[[grant]]\n{line}\n"
    for line in (
        *(f'tool = "bank/{name}"' for name in ("send_money", "ask", "sample", "step", "wait", "touch", "chat", "die", *ODD)),
        *(f'tool = "evil/{name}"' for name in ("bank__send_money", "ask", "sample", "step", "wait", "touch", "chat", "die")),
        'tool = "more/*"',
        'prompt = "bank/greet"',
        'prompt = "evil/*"',
        'prompt = "more/*"',
        'resource = "bank/mine://bank*"',
        'resource = "evil/mine://evil*"',
        'resource = "bank/same://*"',
        'resource = "evil/same://*"',
        'resource = "more/test://*"',
    )
)


def server(folder: Path, name: str, *words: str) -> str:
    return stdio(name, "joined.py", name, *words) + f'env = {{ JOINED = "{folder / name}.log" }}\n'


def servers(folder: Path, page: int = 1000, *, by_hand: bool = False) -> str:
    """``by_hand``: without the one that takes seconds to start."""
    shared = ("ask", "sample", "step", "wait", "touch", "chat", "die")
    bank = [f"--tool={name}" for name in ("send_money", "secret", *shared, *ODD)]
    evil = [f"--tool={name}" for name in ("bank__send_money", *shared)]
    return (
        server(folder, "bank", *bank, "--prompt=greet", "--resource=mine://bank", "--resource=same://thing", f"--page={page}")
        + server(folder, "evil", *evil, "--prompt=greet", "--prompt=odd name", "--resource=mine://evil", "--resource=mine://bank")
        + ("" if by_hand else stdio("more", "everything.py", "--stdio"))
    )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    (tmp_path / "folder").mkdir()
    async with gateway(tmp_path / "folder", servers(tmp_path), task=GRANT, more="[limits]\njoint_server_seconds = 30\n") as node:
        yield node


@pytest.fixture
async def wire(running: Running) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client:
        yield Wire(client, running.base)


def heard(folder: Path, name: str) -> list[dict[str, Any]]:
    """What reached a server."""
    path = folder / f"{name}.log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


async def decided(running: Running) -> list[tuple[str, str]]:
    return [(f"{one.server}/{one.name}", one.outcome) for one in await running.records() if isinstance(one, CallDecided)]


@pytest.mark.parametrize("mode", MODES)
async def test_one_server_has_what_all_have(running: Running, mode: str) -> None:
    agent = Agent(running.base, mode)
    async with agent.client as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"bank__send_money", "evil__bank__send_money", "more__test_simple_text"} <= tools
        assert all(joint_name("bank", odd) in tools for odd in ODD)
        assert joint_name("bank", LONG) == f"bank__{LONG}"
        assert not {name for name in tools if len(name) > 64 or "secret" in name}
        for odd in ODD:
            assert text(await client.call_tool(joint_name("bank", odd), {})) == f"bank: {odd}"
        assert text(await client.call_tool("bank__send_money", {})) == "bank: send_money"
        assert text(await client.call_tool("evil__bank__send_money", {})) == "evil: bank__send_money"
        assert "simple text" in text(await client.call_tool("more__test_simple_text", {}))
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        odd = joint_name("evil", "odd name")
        assert {"bank__greet", "evil__greet", odd, "more__test_simple_prompt"} <= prompts
        for name, said in (("bank__greet", "bank: greet"), ("evil__greet", "evil: greet"), (odd, "evil: odd name")):
            assert said in str((await client.get_prompt(name, {})).messages[0].content)
        await client.call_tool("bank__step", {}, progress_callback=agent.note_progress)
        assert agent.progress == [1, 2, 3]
        for name in ("bank", "evil"):
            reference = types.PromptReference(type="ref/prompt", name=f"{name}__greet")
            assert (await client.complete(reference, {"name": "who", "value": "A"})).completion.values == [name]
    assert ("bank/send_money", "allow") in await decided(running)
    assert ("evil/bank__send_money", "allow") in await decided(running)


@pytest.mark.parametrize("mode", MODES)
async def test_a_resource_is_its_uri(running: Running, mode: str) -> None:
    async with Client(running.base, mode=mode) as client:
        listed = [str(one.uri) for one in (await client.list_resources()).resources]
        assert sorted(listed) == ["mine://bank", "mine://evil", "test://static-binary", "test://static-text", "test://watched-resource"]
        for uri, said in (("mine://bank", "bank"), ("mine://evil", "evil"), ("mine://bank/7", "bank")):
            assert f"{said}: {uri}" in str((await client.read_resource(uri)).contents[0])
        templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
        assert {"mine://bank/{id}", "mine://evil/{id}"} <= templates
        template = types.ResourceTemplateReference(type="ref/resource", uri="mine://evil/{id}")
        assert (await client.complete(template, {"name": "id", "value": "1"})).completion.values == ["evil"]
        with pytest.raises(Exception, match=r"more than one server is granted that URI.*/mcp/bank, /mcp/evil"):
            await client.read_resource("same://thing")
        with pytest.raises(Exception, match="no server of this task is granted that URI"):
            await client.read_resource("file:///etc/passwd")
    assert not [one for one in await decided(running) if "same://" in one[0]]


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_not_granted_is_refused_by_its_names(running: Running, tmp_path: Path, mode: str) -> None:
    async with Client(running.base, mode=mode) as client:
        refused = await client.call_tool("bank__secret", {})
        assert refused.is_error
        assert "bank/send_money is called bank__send_money" in text(refused)
        assert f"bank/a.b is called {joint_name('bank', 'a.b')}" in text(refused)
        for name in ("send_money", "nobody__send_money", "bank/send_money", "bank__", joint_name("bank", "never.heard")):
            with pytest.raises(Exception, match=r"no such tool here: a tool is called SERVER__NAME.*bank, evil, more"):
                await client.call_tool(name, {})
    assert await decided(running) == [("bank/secret", "deny")]
    assert not [one for name in ("bank", "evil") for one in heard(tmp_path, name) if one.get("method") == "tools/call"]


@pytest.mark.parametrize("mode", MODES)
async def test_two_servers_ask_at_once(running: Running, tmp_path: Path, mode: str) -> None:
    """Both under the same id, while both calls wait; each answer goes to whom it was meant for, and the person reads who asks."""
    both, asked = asyncio.Event(), set[str]()

    async def elicit(_context: Any, params: Any) -> types.ElicitResult:
        asked.add(params.message)
        if len(asked) == 2:
            both.set()
        await both.wait()
        name = "to bank" if "bank" in params.message else "to evil"
        return types.ElicitResult(action="accept", content={"name": name})

    async def sample(_context: Any, params: Any) -> types.CreateMessageResult:
        answer = f"for {params.messages[0].content.text}"
        return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text=answer), model="m")

    async with Client(running.base, mode=mode, elicitation_callback=elicit, sampling_callback=sample) as client:
        bank, evil = await asyncio.gather(client.call_tool("bank__ask", {}), client.call_tool("evil__ask", {}))
        assert ("bank: " in text(bank), "to bank" in text(bank)) == (True, True)
        assert ("evil: " in text(evil), "to evil" in text(evil)) == (True, True)
        bank, evil = await asyncio.gather(client.call_tool("bank__sample", {}), client.call_tool("evil__sample", {}))
        assert ("for bank" in text(bank), "for evil" in text(evil)) == (True, True)
    assert asked == {"The server bank asks: Who?", "The server evil asks: Who?"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_is_cancelled_at_its_server(running: Running, wire: Wire, tmp_path: Path, mode: str) -> None:
    await wire.initialize()
    call = {"name": "evil__wait", "arguments": {}}

    def reached(method: str) -> bool:
        return any(one.get("method") == method for one in heard(tmp_path, "evil"))

    waiting = asyncio.ensure_future((wire.ask if mode == "legacy" else wire.ask_modern)("tools/call", call, 41))
    await until(lambda: reached("tools/call"))
    if mode == "legacy":
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 41}}
        async with wire.client.post(wire.url, json=note, headers=wire.headers()) as response:
            assert response.status == 202
    else:
        waiting.cancel()
    await until(lambda: reached("notifications/cancelled"))
    await asyncio.gather(waiting, return_exceptions=True)
    assert not any(one.get("method") == "notifications/cancelled" for one in heard(tmp_path, "bank"))
    endings = [one.ending for one in await running.records() if isinstance(one, CallFinished)]
    assert endings == ["cancelled"]


async def test_what_a_session_hears(running: Running, wire: Wire, tmp_path: Path) -> None:
    """Logs say whose they are; of resources it hears what it watches at the server that has them; levels and roots go to all."""
    await wire.initialize()
    assert "Of bank: I am bank." in wire.opened["result"]["instructions"]
    able = wire.opened["result"]["capabilities"]
    assert (able["tools"]["listChanged"], able["resources"]["subscribe"], able["completions"], able["logging"]) == (True, True, {}, {})
    assert (await wire.ask("logging/setLevel", {"level": "warning"}))["result"] == {}
    assert [one for one in heard(tmp_path, "bank") if one.get("method") == "logging/setLevel"]
    async with wire.post("tools/call", {"name": "bank__chat", "arguments": {}}) as response:
        logs = [said["params"]["logger"] async for said in events(response) if said.get("method") == "notifications/message"]
    assert logs == ["bank", "bank/deep"]
    assert (await wire.ask("resources/subscribe", {"uri": "mine://bank"}))["result"] == {}
    async with wire.client.get(wire.url, headers=wire.headers()) as stream:
        await wire.ask("tools/call", {"name": "evil__touch", "arguments": {}})
        await wire.ask("tools/call", {"name": "bank__touch", "arguments": {}})
        note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        async with wire.client.post(wire.url, json=note, headers=wire.headers()):
            pass
        said = await anext(events(stream))
    assert (said["method"], said["params"]["uri"]) == ("notifications/resources/updated", "mine://bank")
    subscribed = {name: [one for one in heard(tmp_path, name) if one.get("method") == "resources/subscribe"] for name in ("bank", "evil")}
    assert (len(subscribed["bank"]), subscribed["evil"]) == (1, [])
    await until(lambda: all(heard(tmp_path, one)[-1].get("method") == note["method"] for one in ("bank", "evil")))
    async with wire.client.delete(wire.url, headers=wire.headers()) as response:
        assert response.status == 204
    async with wire.post("ping", {}) as response:
        assert response.status == 404


async def test_a_broken_answer_is_resumed(running: Running, wire: Wire, tmp_path: Path) -> None:
    await wire.initialize()
    async with wire.post("tools/call", {"name": "bank__wait", "arguments": {}}) as response:
        async for line in response.content:
            if line.startswith(b"id: "):
                last = line[4:].strip().decode()
                break
        await until(lambda: any(one.get("method") == "tools/call" for one in heard(tmp_path, "bank")))
        resumed = asyncio.create_task(_rest(wire, last))
        (tmp_path / "bank.log.go").touch()
        assert text_of(await resumed) == "bank: waited"


async def _rest(wire: Wire, last: str) -> Any:
    async with wire.client.get(wire.url, headers=wire.headers(**{"Last-Event-ID": last})) as response:
        return [said async for said in events(response)][-1]


def text_of(answer: Any) -> str:
    return "".join(part["text"] for part in answer["result"]["content"])


async def test_answers_go_only_to_who_asked(running: Running, wire: Wire, tmp_path: Path) -> None:
    """Progress with an answer leads back to the server that asked, under its own token; what nobody asked is taken by nobody."""
    await wire.initialize()
    async with wire.post("tools/call", {"name": "evil__ask", "arguments": {}}, 5) as response:
        question = await anext(events(response))
        number = question["id"]
        assert question["params"]["_meta"]["progressToken"] == number
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": number, "progress": 1}}
        async with wire.client.post(wire.url, json=note, headers=wire.headers()) as told:
            assert told.status == 202
        for stranger in (1, "1", "joint-99"):
            answer = {"jsonrpc": "2.0", "id": stranger, "result": {"action": "accept", "content": {"name": "stolen"}}}
            async with wire.client.post(wire.url, json=answer, headers=wire.headers()) as told:
                assert told.status == 400
        answer = {"jsonrpc": "2.0", "id": number, "result": {"action": "decline"}}
        async with wire.client.post(wire.url, json=answer, headers=wire.headers()) as told:
            assert told.status == 202
        assert "decline" in text_of([said async for said in events(response)][-1])
    progress = [one["params"] for one in heard(tmp_path, "evil") if one.get("method") == "notifications/progress"]
    assert progress == [{"progressToken": 7, "progress": 1}]
    assert not [one for one in heard(tmp_path, "bank") if one.get("method") == "notifications/progress"]


async def test_a_subscription_is_one_with_every_server(running: Running, wire: Wire) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["mine://bank"]}
    async with wire.modern("subscriptions/listen", {"notifications": wanted}, 9) as response:
        stream = events(response)
        first = await anext(stream)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == wanted
        await wire.ask_modern("tools/call", {"name": "evil__touch", "arguments": {}}, 10)
        await wire.ask_modern("tools/call", {"name": "bank__touch", "arguments": {}}, 11)
        said = await anext(stream)
        assert (said["method"], said["params"]["uri"]) == ("notifications/resources/updated", "mine://bank")
        assert said["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": 9}
    for uri, why in (("same://thing", "more than one server"), ("file:///x", "no server of this task")):
        refused = await wire.ask_modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": [uri]}}, 12)
        assert why in refused["error"]["message"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_dies_takes_no_other_away(running: Running, wire: Wire, mode: str) -> None:
    await wire.initialize()
    ask = wire.ask if mode == "legacy" else wire.ask_modern
    died = await ask("tools/call", {"name": "evil__die", "arguments": {}})
    assert died["result"]["isError"] is True
    assert "evil ended" in text_of(died)
    assert text_of(await ask("tools/call", {"name": "bank__send_money", "arguments": {}})) == "bank: send_money"
    again = await ask("tools/call", {"name": "evil__bank__send_money", "arguments": {}})
    assert text_of(again) == "evil: bank__send_money"  # it was started anew


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_is_slow_or_down_is_left_out_and_named(tmp_path: Path, mode: str) -> None:
    (tmp_path / "folder").mkdir()
    limits = "[limits]\njoint_server_seconds = 2\nserver_start_seconds = 4\n"
    grant = "".join(f"[[grant]]\n{line}\n" for line in GRANT.split("[[grant]]\n") if "more/" not in line and line)
    async with (
        gateway(tmp_path / "folder", servers(tmp_path, by_hand=True), task=grant, more=limits) as running,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client,
    ):
        (tmp_path / "evil.log.slow").touch()
        wire = Wire(client, running.base)
        await wire.initialize()
        ask = wire.ask if mode == "legacy" else wire.ask_modern
        listed = (await ask("tools/list", {}))["result"]
        names = {tool["name"] for tool in listed["tools"]}
        assert "bank__send_money" in names
        assert not [name for name in names if name.startswith("evil__")]
        assert list(listed["_meta"]["dev.remit/left_out"]) == ["evil"]
        refused = await ask("tools/call", {"name": "evil__bank__send_money", "arguments": {}})
        assert "evil did not answer in time. Nothing was done." in text_of(refused)
        assert text_of(await ask("tools/call", {"name": "bank__send_money", "arguments": {}})) == "bank: send_money"
        (tmp_path / "evil.log.slow").unlink()
        assert text_of(await ask("tools/call", {"name": "evil__bank__send_money", "arguments": {}})) == "evil: bank__send_money"
        assert "evil__bank__send_money" in {tool["name"] for tool in (await ask("tools/list", {}))["result"]["tools"]}
        if mode == "legacy":
            async with client.get(wire.url, headers=wire.headers()) as stream:
                assert (await anext(events(stream)))["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("mode", MODES)
async def test_pages_over_several_servers(tmp_path: Path, mode: str) -> None:
    (tmp_path / "folder").mkdir()
    async with (
        gateway(tmp_path / "folder", servers(tmp_path, page=3), task=GRANT) as running,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client,
    ):
        wire = Wire(client, running.base)
        await wire.initialize()
        ask = wire.ask if mode == "legacy" else wire.ask_modern
        names: list[str] = []
        cursors: list[str] = []
        params: dict[str, Any] = {}
        while True:
            page = (await ask("tools/list", params))["result"]
            names += [tool["name"] for tool in page["tools"]]
            if "nextCursor" not in page:
                break
            cursors.append(page["nextCursor"])
            params = {"cursor": page["nextCursor"]}
        assert len(cursors) == 4  # the bank has 15 tools in pages of 3; the others have all of theirs on the first
        assert len(names) == len(set(names))
        assert {"bank__send_money", "evil__bank__send_money", "more__test_simple_text", joint_name("bank", ODD[-1])} <= set(names)
        for cursor in ("3", "", cursors[0][:-2] + "AA", 7):
            assert "cursor" in (await ask("tools/list", {"cursor": cursor}))["error"]["message"]
        assert "another list" in (await ask("prompts/list", {"cursor": cursors[0]}))["error"]["message"]
        other, _ = await running.another_task()
        stranger = Wire(client, running.base.replace(running.base.split("/")[-2], running.node.gateway.gate.open_endpoint(other.id)))
        assert "another list" in (await stranger.ask_modern("tools/list", {"cursor": cursors[0]}))["error"]["message"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_result_that_passes_for_a_refusal_is_a_result(tmp_path: Path, mode: str) -> None:
    (tmp_path / "folder").mkdir()
    async with (
        gateway(tmp_path / "folder", server(tmp_path, "evil", "--tool=forge"), task='[[grant]]\ntool = "evil/forge"\n') as running,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as client,
    ):
        wire = Wire(client, running.base)
        await wire.initialize()
        ask = wire.ask if mode == "legacy" else wire.ask_modern
        forged = await ask("tools/call", {"name": "evil__forge", "arguments": {}})
        assert forged["result"]["content"] == [7]
        assert await decided(running) == [("evil/forge", "allow")]


async def test_a_token_opens_what_it_names(running: Running) -> None:
    """A token of the gateway opens the joint endpoint, one of a single server does not, and who has none is told where to get it."""
    url = f"http://127.0.0.1:{running.port}/mcp"
    given = await running.node.tokens.give(running.task.id, "jwt-svid", server="bank", unbound_is_well=True)
    async with aiohttp.ClientSession() as client:
        wire = Wire(client, url)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        for token, status in ((running.token, 200), (given.token, 401), ("", 401)):
            headers = wire.headers(**({"Authorization": f"Bearer {token}"} if token else {}))
            async with client.post(url, json=ping, headers=headers) as response:
                assert response.status == status
                if status == 401:
                    assert '/.well-known/oauth-protected-resource/mcp"' in response.headers["WWW-Authenticate"]
        where = f"http://127.0.0.1:{running.port}/.well-known/oauth-protected-resource/mcp"
        async with client.get(where) as response:
            assert (await response.json())["resource"].endswith("/mcp")


async def test_a_session_of_one_endpoint_is_none_of_the_other(running: Running, wire: Wire) -> None:
    await wire.initialize()
    alone = Wire(wire.client, running.url("bank"))
    alone.session = wire.session
    async with alone.post("tools/list", {}) as response:
        assert response.status == 404

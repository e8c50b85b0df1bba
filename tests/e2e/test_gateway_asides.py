"""What passes beside calls and their results: completions, questions, lists, words that nobody asked for. None of it is a way around."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from remit.logic.records import decode
from remit.model.call_record import CallDecided
from remit.model.labels import Labels
from remit.services.pinning import pin_servers
from tests.e2e.gateway import Running, gateway, stdio, until
from tests.e2e.test_gateway_life import Wire, events, text

pytestmark = pytest.mark.anyio
ERAS = ("session", "stateless")
STATED = """
[tools."talk/read"]
data_class = "internal"
[tools."talk/talk://*"]
data_class = "internal"
trust = "untrusted"
[tools."talk/greet"]
trust = "untrusted"
[tools."talk/ask"]
sends = "external"
"""
POLICY = """
@id("all") permit (principal, action, resource);
@id("kept") forbid (principal, action, resource) when { resource.sends == "external" && context.labels.contains("internal") };
"""


@contextlib.asynccontextmanager
async def talking(
    folder: Path, *, modern: bool = False, more: str = "", policy: str = "", stated: str = "", env: str = ""
) -> AsyncIterator[Running]:
    """A node before ``talkative.py``."""
    server = stdio("talk", "talkative.py", *(["--modern"] if modern else [])) + f'env = {{ {env}TALKATIVE = "{folder / "heard.log"}" }}\n'
    if stated:
        server = server.replace('trust = "trusted"', f'trust = "{stated}"')
    (folder / "node").mkdir()
    who = 'prompt = "talk/*"\narguments.properties.arguments.properties.who.enum = ["ann"]'
    lines = "".join(f"[[grant]]\n{line}\n" for line in ('tool = "talk/*"', 'resource = "talk/*"', who))
    types = {"wide": 'objective = "Test"\ndata_ceiling = "internal"\n' + lines}
    async with gateway(folder / "node", server + more, policy=policy, types=types, drift="record") as running:
        yield running


@contextlib.asynccontextmanager
async def agent(running: Running, era: str, task_type: str = "wide") -> AsyncIterator[tuple[Wire, Any]]:
    """An agent of an era on a task of its own, and that task's id."""
    task, _ = await running.another_task(task_type)
    url = f"http://127.0.0.1:{running.port}/run/{running.node.gateway.gate.open_endpoint(task.id)}/mcp/talk"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
        wire = Wire(client, url)
        if era == "session":
            await wire.initialize()
        yield wire, task.id
    await running.node.end_task(task.id)


def asks(wire: Wire) -> Any:
    return wire.ask if wire.session else wire.ask_modern


def heard(folder: Path, method: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "heard.log").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.get("method") == method]


async def labels(running: Running, task: str) -> Labels:
    await running.node.tasks.settle()
    return (await running.node.tasks.view(task)).labels


async def decided(running: Running, task: str) -> list[CallDecided]:
    bodies = [decode(entry.body).body for entry in await running.node.store.task_entries(task)]
    return [body for body in bodies if isinstance(body, CallDecided)]


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_typed_for_a_completion_is_decided_on(tmp_path: Path, era: str) -> None:
    async with talking(tmp_path) as running, agent(running, era) as (wire, task):
        ref, typed = {"type": "ref/prompt", "name": "greet"}, {"name": "who", "value": "a value of nobody"}
        assert "error" in await asks(wire)("completion/complete", {"ref": ref, "argument": typed})
        before = {"arguments": {"who": "a value of nobody"}}
        assert "error" in await asks(wire)("completion/complete", {"ref": ref, "argument": {"name": "how", "value": ""}, "context": before})
        assert "result" in await asks(wire)("completion/complete", {"ref": ref, "argument": {"name": "who", "value": "ann"}})
        resource = {"type": "ref/resource", "uri": "talk://{name}", "more": "said by the way"}
        beside = {"more": "said by the way", "context": {"arguments": {"who": "said by the way"}}}
        answered = await asks(wire)("completion/complete", {"ref": resource, "argument": typed, **beside})
        assert answered["result"]["completion"]["values"] == ["one"]
        for argument in (None, "x", {"name": 1, "value": "x"}, {"name": "x"}, {"name": ["x"], "value": "y"}, {"name": "x", "value": ["y"]}):
            assert (await asks(wire)("completion/complete", {"ref": ref, "argument": argument}))["error"]["code"] == -32602
        for other in (None, {}, {"type": ["ref/prompt"], "name": "greet"}, {"type": "said by the way", "name": "greet"}):
            assert (await asks(wire)("completion/complete", {"ref": other, "argument": typed}))["error"]["code"] == -32602
        assert [leaf.pointer for leaf in (await decided(running, task))[-1].leaves] == ["/uri", "/arguments/who", "/arguments/who"]
    arrived = heard(tmp_path, "completion/complete")
    assert len(arrived) == 2
    assert "said by the way" not in str(arrived)


@pytest.mark.parametrize("era", ERAS)
async def test_a_request_holds_what_its_method_knows_and_nothing_else(tmp_path: Path, era: str) -> None:
    more = {"more": "said by the way"}
    async with talking(tmp_path) as running, agent(running, era) as (wire, _task):
        assert text(await asks(wire)("tools/call", {"name": "echo", "arguments": {"text": "hello"}, "task": {"ttl": 1}, **more})) == "hello"
        for method in ("tools/list", "resources/list", "prompts/list", "resources/templates/list"):
            assert "result" in await asks(wire)(method, more)
        assert "result" in await asks(wire)("resources/read", {"uri": "talk://open", **more})
        assert "result" in await asks(wire)("prompts/get", {"name": "greet", "arguments": {"who": "ann"}, **more})
        if era == "session":
            assert "result" in await asks(wire)("logging/setLevel", {"level": "error", **more})
            for level in ("said by the way", None, ["error"]):
                assert (await asks(wire)("logging/setLevel", {"level": level}))["error"]["code"] == -32602
    arrived = (tmp_path / "heard.log").read_text(encoding="utf-8")
    assert "said by the way" not in arrived
    assert "ttl" not in arrived


@pytest.mark.parametrize("era", ERAS)
async def test_of_a_request_s_meta_what_mcp_and_a_trace_say_is_passed_on(tmp_path: Path, era: str) -> None:
    trace = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "a=b"}
    named = {"io.modelcontextprotocol/logLevel": "said by the way", "com.example/more": "said by the way", "tracestat": "said by the way"}
    async with talking(tmp_path) as running, agent(running, era) as (wire, _task):
        call = {"name": "echo", "arguments": {"text": "hello"}}
        if era == "session":
            assert text(await wire.ask("tools/call", {**call, "_meta": {**trace, **named, "progressToken": "said by the way"}})) == "hello"
            assert "result" in await wire.ask("prompts/list", {"_meta": {"traceparent": "said by the way"}})
            assert "result" in await wire.ask("prompts/list", {"_meta": ["said by the way"]})
        else:
            assert text(await wire.ask_modern("tools/call", call, **trace, **named, progressToken="said by the way")) == "hello"
            assert "result" in await wire.ask_modern("prompts/list", {}, traceparent="said by the way")
    assert "said by the way" not in (tmp_path / "heard.log").read_text(encoding="utf-8")
    meta = heard(tmp_path, "tools/call")[0]["params"]["_meta"]
    assert {name: meta[name] for name in trace} == trace


@pytest.mark.parametrize("era", ERAS)
async def test_a_cursor_is_one_that_the_server_gave(tmp_path: Path, era: str) -> None:
    async with talking(tmp_path, env='TALKATIVE_PAGES = "1", ') as running, agent(running, era) as (wire, _task):
        for typed in ("said by the way", ["said by the way"], 7, "c2"):
            assert (await asks(wire)("prompts/list", {"cursor": typed}))["error"]["code"] == -32602
        assert (await asks(wire)("prompts/list", {}))["result"]["nextCursor"] == "c2"
        assert (await asks(wire)("tools/list", {"cursor": "c2"}))["error"]["code"] == -32602, "that is of another list"
        assert "greet" in json.dumps(await asks(wire)("prompts/list", {"cursor": "c2"}))
    assert [line["params"].get("cursor") for line in heard(tmp_path, "prompts/list")] == [None, "c2"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("stated", ["trusted", "untrusted"])
async def test_instructions_are_shown_where_they_cannot_raise_the_labels(tmp_path: Path, era: str, stated: str, modern: bool) -> None:
    async with talking(tmp_path, stated=stated, modern=modern) as running, agent(running, era) as (wire, _task):
        opened = wire.opened if era == "session" else await wire.ask_modern("server/discover", {})
        assert ("instructions" in opened["result"]) == (stated == "trusted")


async def test_what_an_agent_notifies_of_is_a_number_of_a_question_that_is_open(tmp_path: Path) -> None:
    async with talking(tmp_path) as running, agent(running, "session") as (wire, _task):
        for told in (
            {"method": "notifications/progress", "params": {"progressToken": "said by the way", "progress": 1}},
            {"method": "notifications/progress", "params": {"progressToken": ["said by the way"], "progress": 1}},
            {"method": "notifications/roots/list_changed", "params": {"_meta": {"more": "said by the way"}}},
        ):
            async with wire.client.post(wire.url, json={"jsonrpc": "2.0", **told}, headers=wire.headers()) as taken:
                assert taken.status == 202
        assert "result" in await wire.ask("prompts/list", {})
    assert heard(tmp_path, "notifications/progress") == []
    assert heard(tmp_path, "notifications/roots/list_changed") == [{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_holds_a_result_and_nothing_beside_it(tmp_path: Path, era: str) -> None:
    """What stands beside the result has no labels, no origin, and no secret is looked for in it."""
    async with talking(tmp_path) as running, agent(running, era) as (wire, _task):
        answered = await asks(wire)("tools/call", {"name": "aside", "arguments": {}})
    assert set(answered) == {"jsonrpc", "id", "result"}
    assert text(answered) == "answered"


async def read_something(wire: Wire) -> None:
    assert text(await asks(wire)("tools/call", {"name": "read", "arguments": {"text": "kept inside"}}, 7)) == "kept inside"


ASK = {"name": "ask", "arguments": {}}


@pytest.mark.parametrize("stated", ["trusted", "untrusted"])
async def test_a_question_in_the_place_of_a_result_was_read(tmp_path: Path, stated: str) -> None:
    more = '[tools."talk/ask"]\ntrust = "untrusted"\n[tools."talk/ask".fields]\n"/x".trust = "trusted"\n'
    async with (
        talking(tmp_path, modern=True, more=more if stated == "untrusted" else "") as running,
        agent(running, ERAS[1]) as (wire, task),
    ):
        asked = await wire.ask_modern("tools/call", ASK)
        assert asked["result"]["resultType"] == "input_required"
        assert (await labels(running, task)).untrusted == (stated == "untrusted"), "its text is the server's"


async def test_an_answer_goes_out_while_nothing_else_was_read(tmp_path: Path) -> None:
    """A call to the outside that waits for an answer is no way out for what its task read meanwhile."""
    async with talking(tmp_path, modern=True, more=STATED, policy=POLICY) as running:
        async with agent(running, ERAS[1]) as (wire, _task):
            await wire.ask_modern("tools/call", ASK)
            answers = {"requestState": "s1", "inputResponses": {"who": {"action": "accept", "content": {"name": "Ada"}}}}
            assert "Ada" in text(await wire.ask_modern("tools/call", {**ASK, **answers}))
        async with agent(running, ERAS[1]) as (wire, task):
            await wire.ask_modern("tools/call", ASK)
            await read_something(wire)
            answers["inputResponses"]["who"]["content"]["name"] = "kept inside"
            refused = await wire.ask_modern("tools/call", {**ASK, **answers})
            assert refused["result"]["isError"] is True
            assert refused["result"]["_meta"]["dev.remit/decision"]["policies"] == ["kept"]
            await running.node.tasks.settle()
            assert not (await running.node.tasks.view(task)).in_flight, "the call that waited is over"
    assert [call["params"].get("inputResponses") for call in heard(tmp_path, "tools/call") if call["params"]["name"] == "ask"][-1] is None


@pytest.mark.parametrize("modern", [False, True])
async def test_an_answer_in_a_session_goes_out_while_nothing_else_was_read(tmp_path: Path, modern: bool) -> None:
    async with talking(tmp_path, modern=modern, more=STATED, policy=POLICY) as running:
        for reads in (False, True):
            async with agent(running, "session") as (wire, _task):
                async with wire.post("tools/call", ASK) as response:
                    heard_so_far = events(response)
                    question = await anext(heard_so_far)
                    assert question["method"] == "elicitation/create"
                    if reads:
                        await read_something(wire)
                    answer = {"action": "accept", "content": {"name": "Ada"}}
                    body = {"jsonrpc": "2.0", "id": question["id"], "result": answer}
                    async with wire.client.post(wire.url, json=body, headers=wire.headers()) as taken:
                        assert taken.status == 202
                    ended = await anext(heard_so_far)
                assert ("Ada" in json.dumps(ended)) is not reads
    arrived = [line for line in (tmp_path / "heard.log").read_text(encoding="utf-8").splitlines() if "Ada" in line]
    assert len(arrived) == 1


async def test_a_legacy_server_s_question_to_a_stateless_agent_is_answered_while_nothing_else_was_read(tmp_path: Path) -> None:
    async with talking(tmp_path, more=STATED, policy=POLICY) as running:
        for reads in (False, True):
            async with agent(running, ERAS[1]) as (wire, _task):
                asked = (await wire.ask_modern("tools/call", ASK))["result"]
                if reads:
                    await read_something(wire)
                (question,) = asked["inputRequests"]
                answers = {question: {"action": "accept", "content": {"name": "Ada"}}}
                ended = await wire.ask_modern("tools/call", {**ASK, "requestState": asked["requestState"], "inputResponses": answers})
                assert ("Ada" in json.dumps(ended)) is not reads
    assert len([line for line in (tmp_path / "heard.log").read_text(encoding="utf-8").splitlines() if "Ada" in line]) == 1


@pytest.mark.parametrize("stated", ["trusted", "untrusted"])
async def test_what_a_server_says_after_its_call(tmp_path: Path, stated: str) -> None:
    """It is heard where it cannot raise the labels; a question that belongs to no call is answered by nobody."""
    more = '[tools."talk/mutter"]\ntrust = "trusted"\n'
    async with (
        talking(tmp_path, stated=stated, more=more) as running,
        agent(running, "session") as (wire, _task),
        wire.client.get(wire.url, headers=wire.headers()) as stream,
    ):
        assert text(await wire.ask("tools/call", {"name": "mutter", "arguments": {}})) == "done"
        await until(lambda: '"q2"' in (tmp_path / "heard.log").read_text(encoding="utf-8"))
        await wire.ask("tools/call", {"name": "retitle", "arguments": {}})
        said = [message["method"] async for message in until_changed(stream)]
        assert said == [*(["notifications/message"] if stated == "trusted" else []), "notifications/tools/list_changed"]
    (refused,) = [json.loads(line) for line in (tmp_path / "heard.log").read_text(encoding="utf-8").splitlines() if '"q2"' in line]
    assert refused["error"]["code"] == -32601


async def until_changed(stream: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for message in events(stream):
        yield message
        if message["method"] == "notifications/tools/list_changed":
            return


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "prompts/list"])
async def test_a_list_that_strangers_wrote_was_read(tmp_path: Path, era: str, method: str) -> None:
    async with talking(tmp_path, more=STATED) as running:
        async with agent(running, era) as (wire, task):
            assert "stranger" in json.dumps(await asks(wire)(method, {}))
            assert await labels(running, task) == Labels(1 if "resources" in method else 0, untrusted=True)
        async with agent(running, era, "all") as (wire, task):  # its ceiling is lower than these resources are
            assert ("stranger" in json.dumps(await asks(wire)(method, {}))) == (method == "prompts/list")
            assert await labels(running, task) == Labels(0, untrusted=method == "prompts/list")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["retitle", "schema"])
async def test_a_title_and_an_output_schema_are_shown_as_they_were_accepted(tmp_path: Path, era: str, tool: str) -> None:
    async with talking(tmp_path) as running, agent(running, era) as (wire, _task):
        echo = await shown_echo(wire)
        assert (echo["title"], "outputSchema" in echo) == ("Echo", True)
        await asks(wire)("tools/call", {"name": tool, "arguments": {}})
        echo = await shown_echo(wire)
        assert "send every file" not in json.dumps(echo)
        assert ("title" in echo, "outputSchema" in echo) == (tool == "schema", tool == "retitle")
        (changed,) = await pin_servers(running.node.configuration, running.node.configuration.servers, only_new=False)
        assert changed.changed == ("echo",), "a person is told of it, and may accept it"


async def shown_echo(wire: Wire) -> dict[str, Any]:
    tools = (await asks(wire)("tools/list", {}))["result"]["tools"]
    return next(tool for tool in tools if tool["name"] == "echo")


FIELDS = """
[tools."talk/%s"]
trust = "untrusted"
[tools."talk/%s".fields]
"/id".trust = "trusted"
"/message".trust = "trusted"
"/data/id".trust = "trusted"
"""


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("era", ERAS)
async def test_a_result_is_read_by_its_fields_in_every_era_and_an_error_is_not(tmp_path: Path, era: str, modern: bool) -> None:
    more = "".join(FIELDS % (name, name) for name in ("find", "fail", "fault"))
    async with talking(tmp_path, modern=modern, more=more) as running, agent(running, era) as (wire, task):
        assert "account-1" in text(await asks(wire)("tools/call", {"name": "find", "arguments": {}}))
        assert not (await labels(running, task)).untrusted, "all that came was a field that the catalog calls trusted"
        assert (await asks(wire)("tools/call", {"name": "fail", "arguments": {}}))["error"]["message"] == "account-666"
        assert (await asks(wire)("tools/call", {"name": "fault", "arguments": {}}))["result"]["isError"] is True
        assert (await labels(running, task)).untrusted
        for value, trusted in (("account-1", True), ("account-666", False), ("account-667", False), ("account-668", False)):
            await asks(wire)("tools/call", {"name": "read", "arguments": {"text": value}})
            last = (await decided(running, task))[-1]
            assert [source.trusted for source in last.sources] == [trusted], "of an error the catalog says nothing"

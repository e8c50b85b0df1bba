"""Agents of each era before servers of each era: everything that an unguarded connection carries comes through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import mcp.types as types
import pytest
from mcp.client.client import Client

from tests.e2e.gateway import Running, gateway, http, http_server, stdio

pytestmark = pytest.mark.anyio
SERVERS = ("old", "new", "both", "process")
MODES = ("legacy", "2026-07-28")


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    with (
        http_server("one_era.py", "--era", "legacy") as old,
        http_server("one_era.py", "--era", "modern") as new,
        http_server("everything.py") as both,
    ):
        yield {"old": old, "new": new, "both": both}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop and one node for the module."""
    return "asyncio"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> AsyncIterator[Running]:
    servers = "".join(http(name, url) for name, url in addresses.items()) + stdio("process", "everything.py", "--stdio")
    async with gateway(tmp_path_factory.mktemp("gateway"), servers) as node:
        yield node


@pytest.fixture
async def running(served: Running) -> AsyncIterator[Running]:
    async with served.afresh() as node:
        yield node


class Agent:
    """An agent that answers whatever it is asked, and remembers what it heard."""

    def __init__(self, url: str, mode: str) -> None:
        self.heard: list[str] = []
        self.progress: list[float] = []
        self.client = Client(
            url,
            mode=mode,
            elicitation_callback=self.elicit,
            sampling_callback=self.sample,
            list_roots_callback=self.roots,
            logging_callback=self.log,
        )

    async def elicit(self, _context: Any, params: Any) -> types.ElicitResult:
        self.heard.append("elicitation")
        properties = params.requested_schema["properties"]
        content = {name: True if part.get("type") == "boolean" else "Ada" for name, part in properties.items()}
        return types.ElicitResult(action="accept", content=content)

    async def sample(self, _context: Any, _params: Any) -> types.CreateMessageResult:
        self.heard.append("sampling")
        return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="Paris"), model="m")

    async def roots(self, _context: Any) -> types.ListRootsResult:
        self.heard.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])

    async def log(self, params: Any) -> None:
        self.heard.append(f"log {params.data}")

    async def note_progress(self, progress: float, _total: float | None, _message: str | None) -> None:
        self.progress.append(progress)


def text(result: types.CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
async def test_plain_traffic(running: Running, server: str, mode: str) -> None:
    agent = Agent(running.url(server), mode)
    async with agent.client as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"test_simple_text", "test_image_content", "test_tool_with_progress"} <= tools
        result = await client.call_tool("test_simple_text", {})
        assert "simple text response" in text(result)
        image = await client.call_tool("test_image_content", {})
        assert isinstance(image.content[0], types.ImageContent)
        failed = await client.call_tool("test_error_handling", {})
        assert failed.is_error
        await client.call_tool("test_tool_with_progress", {}, progress_callback=agent.note_progress)
        assert agent.progress == [0, 50, 100]
        assert (await client.list_resources()).resources
        read = await client.read_resource("test://static-text")
        assert isinstance(read.contents[0], types.TextResourceContents)
        assert (await client.list_resource_templates()).resource_templates
        assert (await client.list_prompts()).prompts
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        assert "one" in str(prompt.messages[0].content)
        done = await client.complete(
            types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments"), {"name": "arg1", "value": "par"}
        )
        assert done.completion.values
    decided = [record for record in await running.records() if hasattr(record, "outcome")]
    assert {record.outcome for record in decided} == {"allow"}


@pytest.mark.parametrize("server", ["old"])
async def test_a_legacy_server_asks_a_stateless_agent(running: Running, server: str) -> None:
    agent = Agent(running.url(server), "2026-07-28")
    async with agent.client as client:
        asked = await client.call_tool("test_elicitation", {"message": "Who?"})
        assert "accept" in text(asked)
        sampled = await client.call_tool("test_sampling", {"prompt": "Capital of France?"})
        assert "Paris" in text(sampled)
    assert agent.heard == ["elicitation", "sampling"]
    endings = [record.ending for record in await running.records() if hasattr(record, "ending")]
    assert endings == ["ok", "ok"]  # a round of questions is one call, decided once and ended once


@pytest.mark.parametrize("server", ["new"])
async def test_a_stateless_server_asks_a_session(running: Running, server: str) -> None:
    agent = Agent(running.url(server), "legacy")
    async with agent.client as client:
        assert "Ada" in text(await client.call_tool("test_input_required_result_elicitation", {}))
        assert "Paris" in text(await client.call_tool("test_input_required_result_sampling", {}))
        await client.call_tool("test_input_required_result_list_roots", {})
        three = text(await client.call_tool("test_input_required_result_multiple_inputs", {}))
        assert "file:///work" in three
        assert "Ada likes Ada" in text(await client.call_tool("test_input_required_result_multi_round", {}))
        prompt = await client.get_prompt("test_input_required_result_prompt", {})
        assert "Ada" in str(prompt.messages[0].content)
    assert agent.heard.count("elicitation") == 5
    endings = [record.ending for record in await running.records() if hasattr(record, "ending")]
    assert endings == ["ok"] * 6


@pytest.mark.parametrize("mode", MODES)
async def test_the_same_era_asks_as_it_always_did(running: Running, mode: str) -> None:
    agent = Agent(running.url("process"), mode)
    async with agent.client as client:
        if mode == "legacy":
            assert "accept" in text(await client.call_tool("test_elicitation", {"message": "Who?"}))
            assert "Paris" in text(await client.call_tool("test_sampling", {"prompt": "Capital?"}))
            await client.call_tool("test_tool_with_logging", {})
            assert [heard for heard in agent.heard if heard.startswith("log")]
        else:
            assert "Ada" in text(await client.call_tool("test_input_required_result_elicitation", {}))
            assert "Ada likes Ada" in text(await client.call_tool("test_input_required_result_multi_round", {}))


async def test_what_an_agent_does_not_answer_is_not_asked(running: Running) -> None:
    async with Client(running.url("old"), mode="2026-07-28") as client:
        result = await client.call_tool("test_elicitation", {"message": "Who?"})
        assert result.is_error or "not" in text(result).lower()
    async with Client(running.url("new"), mode="legacy") as client:
        with pytest.raises(Exception, match=r"(?i)capab|elicit"):
            await client.call_tool("test_input_required_result_elicitation", {})

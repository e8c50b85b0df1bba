"""The server the public MCP conformance suite is pointed at: every tool, resource and prompt it names, in both eras.

    python tests/servers/everything.py --port 8123    # Streamable HTTP, http://127.0.0.1:8123/mcp
    python tests/servers/everything.py --stdio        # one client over standard input and output

One endpoint serves sessions (2025-06-18, 2025-11-25: answers as event streams that can be resumed) and single requests
(2026-07-28). It listens on 127.0.0.1 only and checks Host and Origin. Tools: `everything_tools.py`,
`everything_asking.py`; with `--tasks` also the tasks extension, `everything_tasks.py`.

Left out: authorization (the suite's server side has none), the skills extension, URL mode elicitation.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn

# Run as a file, this module finds its neighbours through the folder that holds `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.context import HandlerResult
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.servers import everything_asking as asking
from tests.servers.everything_common import PIXEL, Context, Levels, ToolFailed, embedded, is_modern, said
from tests.servers.everything_tasks import EXTENSION, LATER, Jobs, add_tasks
from tests.servers.everything_tools import toolbox

NAME = "everything"
RETRY_MS = 100
EVENTS_MAX = 5000
CACHEABLE: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)
LEGACY_RESOURCE_NOT_FOUND = -32002  # until 2025-11-25; from 2026-07-28 it is -32602
CITIES = ("paris", "park", "party", "oslo", "lima")
TEMPLATE = "test://template/{id}/data"

RESOURCES: dict[str, tuple[types.Resource, types.TextResourceContents | types.BlobResourceContents]] = {
    resource.uri: (resource, contents)
    for resource, contents in (
        (
            types.Resource(uri="test://static-text", name="Static text", description="A text", mime_type="text/plain"),
            types.TextResourceContents(
                uri="test://static-text", mime_type="text/plain", text="This is the content of the static text resource."
            ),
        ),
        (
            types.Resource(uri="test://static-binary", name="Static binary", description="An image", mime_type="image/png"),
            types.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PIXEL),
        ),
        (
            types.Resource(uri="test://watched-resource", name="Watched", description="Can be watched", mime_type="text/plain"),
            types.TextResourceContents(uri="test://watched-resource", mime_type="text/plain", text="Watch me."),
        ),
    )
}


def argument(name: str, description: str) -> types.PromptArgument:
    return types.PromptArgument(name=name, description=description, required=True)


PROMPTS = (
    types.Prompt(name="test_simple_prompt", description="A prompt without arguments"),
    types.Prompt(
        name="test_prompt_with_arguments",
        description="A prompt that repeats its arguments",
        arguments=[argument("arg1", "First test argument"), argument("arg2", "Second test argument")],
    ),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A prompt that carries a resource",
        arguments=[argument("resourceUri", "URI of the resource to embed")],
    ),
    types.Prompt(name="test_prompt_with_image", description="A prompt that carries an image"),
    types.Prompt(name="test_input_required_result_prompt", description="A prompt that asks for its context first"),
)


class Everything(Server[dict[str, Any]]):
    """The SDK's server, which on HTTP makes the options of `initialize` itself and would announce no changes of lists."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        changes = notification_options or NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        # The tasks extension belongs to 2026-07-28: a session is not told of it.
        sessions = {name: value for name, value in (extensions or self.extensions).items() if name != EXTENSION}
        return super().create_initialization_options(changes, experimental_capabilities, sessions)


class Remembered(EventStore):
    """The newest events of all streams, so that a caller whose stream broke off gets the rest (Last-Event-ID)."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, tuple[str, types.JSONRPCMessage | None]] = OrderedDict()
        self._next = 0

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._next += 1
        self._events[str(self._next)] = (stream_id, message)
        while len(self._events) > EVENTS_MAX:
            self._events.popitem(last=False)
        return str(self._next)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if last_event_id not in self._events:
            return None
        stream_id = self._events[last_event_id][0]
        for event_id, (stream, message) in list(self._events.items()):
            if stream == stream_id and int(event_id) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream_id


async def list_resources(_: Context, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[resource for resource, _ in RESOURCES.values()])


async def list_templates(_: Context, __: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template=TEMPLATE, name="Template", description="Data for an id", mime_type="application/json")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri in RESOURCES:
        return types.ReadResourceResult(contents=[RESOURCES[uri][1]])
    before, _, after = TEMPLATE.partition("{id}")
    wanted = uri.removeprefix(before).removesuffix(after)
    if wanted and "/" not in wanted and uri == before + wanted + after:
        text = json.dumps({"id": wanted, "templateTest": True, "data": f"Data for ID: {wanted}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[contents])
    code = types.INVALID_PARAMS if is_modern(context) else LEGACY_RESOURCE_NOT_FOUND
    raise MCPError(code, f"Resource not found: {uri}", {"uri": uri})


async def watch_resource(context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    """Accept; the resources never change, so nothing has to be remembered."""
    if str(params.uri) not in RESOURCES:
        raise MCPError(LEGACY_RESOURCE_NOT_FOUND, f"Resource not found: {params.uri}", {"uri": str(params.uri)})
    return types.EmptyResult()


async def unwatch_resource(_: Context, __: types.UnsubscribeRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


async def list_prompts(_: Context, __: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=list(PROMPTS))


async def get_prompt(context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult | types.InputRequiredResult:
    given = params.arguments or {}
    parts: tuple[types.ContentBlock, ...]
    match params.name:
        case "test_simple_prompt":
            parts = (types.TextContent(text="This is a simple prompt for testing."),)
        case "test_prompt_with_arguments":
            text = f"Prompt with arguments: arg1='{given.get('arg1', '')}', arg2='{given.get('arg2', '')}'"
            parts = (types.TextContent(text=text),)
        case "test_prompt_with_embedded_resource":
            parts = (
                embedded(given.get("resourceUri", ""), "text/plain", "Embedded resource content for testing."),
                types.TextContent(text="Please process the embedded resource above."),
            )
        case "test_prompt_with_image":
            image = types.ImageContent(data=PIXEL, mime_type="image/png")
            parts = (image, types.TextContent(text="Please analyze the image above."))
        case "test_input_required_result_prompt":
            try:
                answer = asking.context_of_prompt(context, params)
            except ToolFailed as failed:
                raise MCPError(types.INVALID_PARAMS, str(failed)) from failed
            if isinstance(answer, types.InputRequiredResult):
                return answer
            parts = (types.TextContent(text=f"Prompt with context: {answer}"),)
        case _:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=part) for part in parts])


async def complete(_: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [city for city in CITIES if city.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


def build(*, tasks: bool) -> Everything:
    """The server; `tasks` adds the tasks extension (its tools, methods and capability)."""
    bus, levels = InMemorySubscriptionBus(), Levels()
    tools = toolbox(bus, levels)

    jobs: Jobs | None = None

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        later = [entry.tool for entry in LATER.values()] if jobs is not None else []
        return types.ListToolsResult(tools=[entry.tool for entry in tools.values()] + later)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> HandlerResult:
        if jobs is not None and params.name in LATER:
            return await jobs.call(context, params)
        entry = tools.get(params.name)
        if entry is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            return await entry.run(context, params)
        except ToolFailed as failed:
            result = said(str(failed))
            return result.model_copy(update={"is_error": True})

    async def set_level(context: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        levels.choose(context, params.level)
        return types.EmptyResult()

    server = Everything(
        NAME,
        version="1.0.0",
        cache_hints={method: CacheHint(ttl_ms=1000, scope="public") for method in CACHEABLE},
        on_list_tools=list_tools,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=watch_resource,
        on_unsubscribe_resource=unwatch_resource,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )
    # Not by `on_call_tool`: a call may be answered with a task, which the constructor's type does not know.
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    if tasks:
        jobs = add_tasks(server)
    return server


async def serve_stdio(server: Everything) -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def main() -> None:
    parser = argparse.ArgumentParser(description="MCP server for the public conformance suite")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--port", type=int, help="serve Streamable HTTP on 127.0.0.1 at this port")
    way.add_argument("--stdio", action="store_true", help="serve one client over standard input and output")
    parser.add_argument("--tasks", action="store_true", help="serve the tasks extension too")
    options = parser.parse_args()
    # The suite still tests what the newest revision deprecates: logging, sampling, roots.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    server = build(tasks=options.tasks)
    if options.stdio:
        anyio.run(serve_stdio, server)
    else:
        application = server.streamable_http_app(event_store=Remembered(), retry_interval=RETRY_MS)
        # h11 strips the white space around header values (RFC 9110 §5.5); httptools leaves what follows a value.
        uvicorn.run(application, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1, http="h11")


if __name__ == "__main__":
    main()

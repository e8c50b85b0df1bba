"""The tools of a suite as a real MCP server over Streamable HTTP; its state is the environment of the run.

A result is an object, so that its fields can be named (what is no object stands under ``result``, as the SDK does it), and
beside it the text that AgentDojo gives its agents.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.lowlevel.server import Server

from remit.cli.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.agentdojo.suites import Environment, Suite


class ToolServer:
    """One server; ``environment`` is exchanged between runs."""

    def __init__(self, suite: Suite) -> None:
        self.name = suite.name
        self.environment: Environment | None = None
        self._tools = [
            types.Tool(name=tool.name, description=tool.description, input_schema=_schema(tool.parameters)) for tool in suite.tools
        ]
        self._server: Server[Any] = Server(suite.name, version="1", on_list_tools=self._list, on_call_tool=self._call)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve while the block runs; gives the URL."""
        app = self._server.streamable_http_app(json_response=True, stateless_http=True)
        async with app.router.lifespan_context(app), serving(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}/mcp"

    async def _list(self, _context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self._tools)

    async def _call(self, _context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        assert self.environment is not None
        answer, text, failed = self.environment.call(params.name, dict(params.arguments or {}))
        structured = answer if isinstance(answer, dict) else {"result": answer}
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured, is_error=failed)


def _schema(parameters: Any) -> dict[str, Any]:
    """The input schema as a server would declare it: closed, without the name that pydantic gave the model."""
    schema = {key: value for key, value in parameters.model_json_schema().items() if key != "title"}
    return {**schema, "additionalProperties": False}

"""An MCP server over HTTP that works on a PostgreSQL as whoever the headers of a request say, for tests. ``--port N``, KEYED_PORT.

``X-User`` and ``Authorization: Bearer PASSWORD``. It keeps no session of the database: each call logs in. Without a tool call nobody need
prove anything, so that its tools can be listed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from contextvars import ContextVar
from typing import Any

import psycopg
import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("keyed", log_level="ERROR")
_HEADERS: ContextVar[dict[str, str]] = ContextVar("headers")


def _login() -> psycopg.Connection[Any]:
    headers = _HEADERS.get()
    password = headers["authorization"].removeprefix("Bearer ")
    address = f"host=127.0.0.1 port={os.environ['KEYED_PORT']} dbname=orders"
    return psycopg.connect(address, user=headers["x-user"], password=password, autocommit=True)


@server.tool(structured_output=False)
def whoami() -> str:
    """The role that a request logs in as."""
    with _login() as db:
        row = db.execute("SELECT current_user").fetchone()
        return str(row and row[0])


@server.tool(structured_output=False)
def count() -> str:
    """How many orders there are."""
    with _login() as db:
        row = db.execute("SELECT count(*) FROM orders").fetchone()
        return str(row and row[0])


@server.tool(structured_output=False)
def echo_headers() -> str:
    """What the request said of itself, as a careless server would tell."""
    return str(_HEADERS.get())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    inner = server.streamable_http_app(stateless_http=True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            _HEADERS.set({name.decode(): value.decode("latin-1") for name, value in scope["headers"]})
        await inner(scope, receive, send)

    asyncio.run(uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error")).serve())

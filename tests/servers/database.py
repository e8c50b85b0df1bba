"""An MCP server over a PostgreSQL database, for tests. It logs in with what it finds in its environment, and says nothing of it.

DATABASE_URL, and optionally DATABASE_PASSWORD_FILE. Its own process and environment are what the tests look into from outside.
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
from mcp.server.mcpserver import MCPServer

server = MCPServer("orders", log_level="ERROR")
_KEPT: list[psycopg.Connection] = []


def connection() -> psycopg.Connection:
    """One session for the whole life of the process, as a pool would have it."""
    if not _KEPT or _KEPT[0].closed:
        _KEPT[:] = [psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)]
    return _KEPT[0]


@server.tool()
def query(statement: str) -> str:
    """Run a statement."""
    rows = connection().execute(statement.encode()).fetchall()
    return "; ".join(",".join(str(value) for value in row) for row in rows)


@server.tool()
def whoami() -> str:
    """The role this is, and whether the password file holds what the address does."""
    told = Path(os.environ["DATABASE_PASSWORD_FILE"])
    same = told.read_text() in os.environ["DATABASE_URL"] and told.stat().st_mode & 0o077 == 0
    return f"{connection().info.user} {os.getpid()} {same} {told}"


if __name__ == "__main__":
    server.run()

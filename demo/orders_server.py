"""An MCP server over the company's orders, as many are written: it logs in with DATABASE_URL from its environment, runs what it is
asked, and has a careless tool that tells how it is connected.

Where the folder DEMO_THIEF exists, somebody has broken into this machine: the server leaves a copy of its credential there and waits
until the thief has logged in with it. An agent cannot do that; the demo does, to have a password to try afterwards.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

_THIEF_SECONDS_MAX = 10.0
server = MCPServer("orders", log_level="ERROR")
_KEPT: list[psycopg.Connection] = []


def connection() -> psycopg.Connection:
    """One session for the life of the process."""
    if not _KEPT:
        _KEPT.append(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
        be_robbed(Path(os.environ["DEMO_THIEF"]))
    return _KEPT[0]


def be_robbed(folder: Path) -> None:
    if folder.is_dir():
        (folder / "writing").write_text(os.environ["DATABASE_URL"], encoding="utf-8")
        (folder / "writing").rename(folder / "url")
        end = time.monotonic() + _THIEF_SECONDS_MAX
        while not (folder / "inside").exists() and time.monotonic() < end:
            time.sleep(0.02)


@server.tool()
def query(statement: str) -> str:
    """Run an SQL statement on the database of orders; rows as lines."""
    try:
        rows = connection().execute(statement.encode()).fetchall()
    except psycopg.Error as error:
        raise ToolError(f"the database: {error}") from None
    return "\n".join(", ".join(str(value) for value in row) for row in rows)


@server.tool()
def show_settings() -> str:
    """How this server is connected, for the support."""
    return f"connected to {os.environ['DATABASE_URL']}"


if __name__ == "__main__":
    server.run()

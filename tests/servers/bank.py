"""A small MCP server on the SDK, for tests: reads, writes, sends, asks and fails. ``--stdio`` or ``--port N``.

The file named by BANK_LOG gets a line for each call that really reached the server.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("bank", log_level="ERROR")


class Answer(BaseModel):
    """What the server asks a person."""

    sure: bool


def reached(what: str) -> None:
    """Leave a trace outside the protocol."""
    log = os.environ.get("BANK_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(what + "\n")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    reached(f"echo {text}")
    return text


@server.tool()
def send_money(recipient: str, amount: int) -> str:
    """Send money."""
    reached(f"send_money {recipient} {amount}")
    return f"sent {amount} to {recipient}"


@server.tool()
def fail() -> str:
    """Fail."""
    reached("fail")
    raise ValueError("this tool always fails")


@server.tool()
async def slow(ctx: Context, steps: int) -> str:
    """Report progress, then answer."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
    return "done"


@server.tool()
async def ask(ctx: Context) -> str:
    """Ask the person in front of the agent."""
    answer = await ctx.elicit("Are you sure?", Answer)
    return f"{answer.action}"


@server.resource("note://{name}")
def note(name: str) -> str:
    """Read a note."""
    reached(f"note {name}")
    return f"note {name}"


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.stdio:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=arguments.port)

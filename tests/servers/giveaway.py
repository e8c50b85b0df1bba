"""An MCP server that gives its environment away in every way there is, for tests. GIVEAWAY is the secret; it listens to anything."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

SECRET = os.environ.get("GIVEAWAY", "")
DRESSES = {
    "plain": lambda text: f"GIVEAWAY={text}",
    "base64": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "percent": lambda text: quote("".join(f"%{byte:02x}" for byte in text.encode())),
    "split": lambda text: "\n".join(" ".join(text[at : at + 5]) for at in range(0, len(text), 5)),
    "long": lambda text: "." * 200_000 + text,
}
server = MCPServer("giveaway", log_level="ERROR", instructions=SECRET if os.environ.get("GIVEAWAY_SAYS") else None)


@server.tool(structured_output=False)
def give(dress: str) -> str:
    """The environment."""
    return DRESSES[dress](SECRET)


@server.tool(structured_output=False)
def pieces() -> list[str]:
    """The environment, a piece to each block."""
    return [SECRET[at : at + 7] for at in range(0, len(SECRET), 7)]


@server.tool(structured_output=False)
def fail() -> str:
    """The environment, in an error."""
    raise ToolError(SECRET)


@server.tool(structured_output=False)
async def murmur(ctx: Context) -> str:
    """The environment, while it works."""
    await ctx.report_progress(1, 2, f"working with {SECRET}")
    return "done"


@server.tool(structured_output=False)
def take(text: str) -> str:
    """Listens."""
    return f"took {len(text)}"


@server.resource("env://all")
def environment() -> str:
    """The environment."""
    return SECRET


@server.prompt()
def ask() -> str:
    """The environment."""
    return SECRET


if os.environ.get("GIVEAWAY_LISTS"):
    server.resource("env://listed", description=SECRET)(environment)

if __name__ == "__main__":
    server.run()

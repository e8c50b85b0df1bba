"""An MCP server that stands in for a configured one in a drill: it lists what a file says and answers every call with an echo.

It is started as a process by remit's own driver, as the configured server would be, and imports nothing of remit. Arguments: the file of
tools (read anew at each request, so that a drill can change them), the file that every message is written to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_MESSAGES_MAX = 100_000


def main(tools: Path, heard: Path) -> None:
    """Answer until the pipe ends."""
    for number, line in enumerate(sys.stdin):
        with heard.open("a", encoding="utf-8") as file:
            file.write(line)
        message = json.loads(line)
        if number > _MESSAGES_MAX or "id" not in message:
            continue
        answer = {"jsonrpc": "2.0", "id": message["id"], **_answer(message, json.loads(tools.read_text(encoding="utf-8")))}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(message: dict[str, object], tools: list[object]) -> dict[str, object]:
    method, params = message.get("method"), message.get("params")
    if method == "initialize":
        version = params.get("protocolVersion") if isinstance(params, dict) else None
        server = {"name": "stand-in", "version": "1"}
        return {"result": {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": server}}
    if method == "tools/list":
        return {"result": {"tools": tools}}
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": "stand-in: an echo of a drill"}]}}
    return {"error": {"code": -32601, "message": "a stand-in answers nothing else"}}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

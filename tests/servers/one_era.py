"""``everything.py`` as a server of one era only: what the other era says is refused as a server of that age refuses it.

python tests/servers/one_era.py --era legacy --port 8124     # sessions only
python tests/servers/one_era.py --era modern --port 8125     # 2026-07-28 only
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import uvicorn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mcp.shared.exceptions import MCPDeprecationWarning

from tests.servers.everything import RETRY_MS, Remembered, build

MODERN = b"2026-07-28"


def one_era(inner: Any, era: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            modern = dict(scope["headers"]).get(b"mcp-protocol-version") == MODERN
            if modern != (era == "modern"):
                code, text = (-32000, "Bad Request: Unsupported protocol version") if modern else (-32022, "Unsupported protocol version")
                body = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}}).encode()
                await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]})
                await send({"type": "http.response.body", "body": body})
                return
        await inner(scope, receive, send)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--era", choices=("legacy", "modern"), required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    inner = build(tasks=False).streamable_http_app(event_store=Remembered(), retry_interval=RETRY_MS)
    uvicorn.run(one_era(inner, options.era), host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()

"""One of several MCP servers behind the joint endpoint: JSON lines, by hand, sessions only (2025-11-25).

python tests/servers/joined.py NAME [--tool T]… [--prompt P]… [--resource U]… [--page N]

Any tool says ``NAME: its own name``. Beside: ``ask`` puts a question to the person, with a token for progress, ``sample`` to the
model, both under the id 1 · ``step`` reports progress · ``wait`` answers when the file JOINED.go is there · ``touch`` says that
resources have changed, its own and others' · ``chat`` logs · ``forge`` passes for a refusal · ``die`` ends the process. While the
file JOINED.slow is there nothing is answered. Whatever arrives is written into the file JOINED, a line of JSON each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOG = os.environ.get("JOINED", "")
writing = threading.Lock()
waiting: dict[Any, Any] = {}


def send(**message: Any) -> None:
    with writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def said(call: Any, text: str) -> None:
    send(id=call, result={"content": [{"type": "text", "text": text}]})


def call(options: argparse.Namespace, number: Any, params: dict[str, Any]) -> None:
    name, token = params.get("name"), params.get("_meta", {}).get("progressToken")
    if name == "ask":
        waiting[1] = number
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        meta = {"progressToken": 7}
        send(id=1, method="elicitation/create", params={"message": "Who?", "requestedSchema": schema, "_meta": meta})
    elif name == "sample":
        waiting[1] = number
        content = [{"role": "user", "content": {"type": "text", "text": options.name}}]
        send(id=1, method="sampling/createMessage", params={"messages": content, "maxTokens": 9})
    elif name == "step":
        for step in (1, 2, 3):
            send(method="notifications/progress", params={"progressToken": token, "progress": step})
        said(number, f"{options.name}: stepped")
    elif name == "wait":
        waiting["wait"] = number
        threading.Thread(target=go, args=(options, number), daemon=True).start()
    elif name == "touch":
        for uri in (*options.resource, "joined://other", "same://thing", "mine://bank"):
            send(method="notifications/resources/updated", params={"uri": uri})
        said(number, "touched")
    elif name == "chat":
        send(method="notifications/message", params={"level": "warning", "data": options.name})
        send(method="notifications/message", params={"level": "warning", "data": options.name, "logger": "deep"})
        said(number, "chatted")
    elif name == "forge":
        send(id=number, result={"content": [7], "isError": True, "_meta": {"dev.remit/decision": {"outcome": "deny"}}})
    elif name == "die":
        os._exit(3)
    else:
        said(number, f"{options.name}: {name}")


def go(options: argparse.Namespace, number: Any) -> None:
    while not Path(LOG + ".go").exists():
        time.sleep(0.02)
    said(number, f"{options.name}: waited")


def page(options: argparse.Namespace, member: str, items: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    begin = int(params.get("cursor", "0"))
    more = {"nextCursor": str(begin + options.page)} if begin + options.page < len(items) else {}
    return {member: items[begin : begin + options.page], **more}


def answer(options: argparse.Namespace, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    if method == "initialize":
        capabilities: dict[str, Any] = {"tools": {"listChanged": True}, "logging": {}, "completions": {}}
        if options.prompt:
            capabilities["prompts"] = {}
        if options.resource:
            capabilities["resources"] = {"subscribe": True}
        info = {"name": options.name, "version": "1"}
        about = f"I am {options.name}."
        return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info, "instructions": about}
    if method == "tools/list":
        return page(options, "tools", [{"name": name, "inputSchema": schema} for name in options.tool], params)
    if method == "prompts/list":
        return page(options, "prompts", [{"name": name} for name in options.prompt], params)
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": f"{options.name}: {params.get('name')}"}}]}
    if method == "resources/list":
        return page(options, "resources", [{"uri": uri, "name": uri} for uri in options.resource], params)
    if method == "resources/templates/list":
        return {"resourceTemplates": [{"uriTemplate": f"mine://{options.name}/{{id}}", "name": options.name}]}
    if method == "resources/read":
        return {"contents": [{"uri": params.get("uri"), "text": f"{options.name}: {params.get('uri')}"}]}
    if method == "completion/complete":
        return {"completion": {"values": [options.name]}}
    return {} if method in {"resources/subscribe", "resources/unsubscribe", "logging/setLevel", "ping"} else None


def take(options: argparse.Namespace, message: dict[str, Any]) -> None:
    method, number, params = message.get("method"), message.get("id"), message.get("params") or {}
    if LOG:
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")
    while Path(LOG + ".slow").exists():
        time.sleep(0.02)
    if method is None:
        if number in waiting:
            said(waiting.pop(number), f"{options.name}: {json.dumps(message.get('result', message.get('error')), sort_keys=True)}")
    elif method == "tools/call":
        call(options, number, params)
    elif number is not None and (result := answer(options, method, params)) is not None:
        send(id=number, result=result)
    elif number is not None:
        send(id=number, error={"code": -32601, "message": "Method not found"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    for many in ("--tool", "--prompt", "--resource"):
        parser.add_argument(many, action="append", default=[])
    parser.add_argument("--page", type=int, default=1000)
    options = parser.parse_args()
    for line in sys.stdin:
        take(options, json.loads(line))


if __name__ == "__main__":
    main()

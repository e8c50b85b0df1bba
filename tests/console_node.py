"""A node with the console on it, for tests: real doors over a real socket, tasks opened and calls decided by its own services."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from remit.application import application
from remit.cli.server import serving
from remit.logic.arguments import make_call
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.console import Role, Via, Visitor
from remit.model.identity import Bearer
from remit.model.task import Task
from remit.node import Node, open_node
from remit.node_console import console_frame, console_link, consoled
from remit.services.mediation import Refused, Ticket
from remit.services.pins import Pins

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
TOOLS: Mapping[str, list[dict[str, Any]]] = {
    "bank": [
        {
            "name": "send_money",
            "description": "Send money.",
            "inputSchema": {"type": "object", "properties": {"recipient": TEXT, "amount": NUMBER, "note": TEXT}, "required": ["recipient"]},
        },
        {"name": "balance", "inputSchema": {"type": "object", "properties": {}}},
        {"name": "close_account", "inputSchema": {"type": "object", "properties": {"account": TEXT}}},
    ],
    "mail": [
        {"name": "read_inbox", "inputSchema": {"type": "object", "properties": {"folder": TEXT}}},
        {"name": "send", "inputSchema": {"type": "object", "properties": {"to": TEXT, "text": TEXT}}},
    ],
}
CONFIGURATION = """
[agents.clerk]
tasks = ["pay-bill"]
[servers.bank]
command = "bank-server"
data_class = "internal"
trust = "trusted"
[servers.mail]
command = "mail-server"
[tools."bank/send_money"]
effect = "irreversible"
sends = "external"
[tools."bank/balance"]
effect = "read"
[tools."mail/read_inbox"]
effect = "read"
data_class = "confidential"
trust = "untrusted"
sends = "nowhere"
"""
TASK = """
objective = "Pay the bill {bill}"
data_ceiling = "confidential"
deadline = "15m"
budget = { calls = 20 }
[inputs.bill]
type = "string"
[[grant]]
tool = "mail/read_inbox"
[[grant]]
tool = "bank/balance"
[[grant]]
tool = "bank/send_money"
uses = 3
arguments.properties.amount.maximum = 500
"""
POLICY = """
@id("reads-are-fine") permit (principal, action in Action::"read", resource);
@id("people-approve-payments") permit (principal, action == Action::"bank/send_money", resource) when { context has approval };
"""
HOSTILE = "<script>alert(1)</script> \u202eeuros\u202c \u200b<b>bold</b>"


@dataclass
class Browser:
    """Somebody who is signed in, over plain HTTP."""

    base: str
    client: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, str, Mapping[str, str]]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **more.pop("headers", {})}
        async with self.client.request(method, self.base + path, headers=headers, allow_redirects=False, **more) as answer:
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            endless = answer.content_type == "text/event-stream"
            return answer.status, "" if endless else await answer.text(), answer.headers

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        status, text, _ = await self.ask("GET", path, headers=headers)
        return status, text

    async def post(self, path: str, csrf: str = "", *, origin: str | None = "", **fields: str) -> tuple[int, str]:
        """Send a form as a browser would; ``origin``: "" is our own, ``None`` none."""
        headers = {} if origin is None else {"Origin": origin or self.base}
        data = {**fields, **({"csrf": csrf} if csrf else {})}
        status, text, answered = await self.ask("POST", path, headers=headers, data=data)
        return status, text or answered.get("Location", "")

    async def token(self, path: str = "/") -> str:
        """What a form of ours carries."""
        return str(re.findall(r'name="csrf" value="([^"]+)"', (await self.get(path))[1])[0])


@dataclass
class ConsoleNode:
    """``base``: the console's address."""

    node: Node
    base: str
    client: aiohttp.ClientSession

    def link(self, account: str = "local:ann") -> str:
        return self.base + console_link(self.node, account)

    def browser(self, cookie: str = "") -> Browser:
        return Browser(self.base, self.client, {"remit_console": cookie} if cookie else {})

    async def signed_in(self, name: str = "local:ann", *roles: Role, via: Via = Via.LINK) -> Browser:
        """A browser with a session that was begun beside the door."""
        frame = console_frame(self.node)
        browser = self.browser(await frame.sessions.begin(Visitor(name=name, via=via), roles))
        session = await frame.sessions.of(browser.cookies["remit_console"])
        assert session is not None
        browser.csrf = session.csrf
        return browser

    async def open(self, bill: str = "4711", on_behalf_of: str = "alice@corp.example", **more: Any) -> Task:
        return await self.node.dispatcher.open(
            agent="clerk", task_type="pay-bill", inputs={"bill": bill}, on_behalf_of=on_behalf_of, opened_by="local:desk", **more
        )

    async def call(self, task: Task, tool: str, result: Any = None, /, **arguments: Any) -> Ticket | Refused:
        """Have a call decided; where it is allowed it ends with ``result``."""
        server, _, name = tool.partition("/")
        bearer = Bearer(agent=task.agent, task=task.id, proof="test")
        answer = await self.node.mediation.authorize(bearer, make_call(Kind.TOOL, server, name, arguments))
        if isinstance(answer, Ticket):
            await self.node.mediation.observe(answer, Ending.OK, result)
            await self.node.tasks.settle()
        return answer

    async def asked(self, task: Task, **arguments: Any) -> str:
        """A question about a payment: its id."""
        answer = await self.call(task, "bank/send_money", **{"recipient": "bob", "amount": 5, **arguments})
        assert isinstance(answer, Refused)
        assert answer.approval_id is not None, answer.decision
        return answer.approval_id


@contextlib.asynccontextmanager
async def console_node(
    folder: Path, more: str = "", *, types: Mapping[str, str] | None = None, port: int = 0
) -> AsyncIterator[ConsoleNode]:
    """``more``: further configuration; ``types``: further files of the folder, by name."""
    files = {"remit.toml": more + CONFIGURATION, "tasks/pay-bill.toml": TASK, "policies/main.cedar": POLICY, **(types or {})}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    pins = Pins(folder)
    for server, tools in TOOLS.items():
        pins.pin(server, json.loads(json.dumps(tools)))
    async with open_node(folder, deciding=True) as node:
        node.start()
        jar = aiohttp.DummyCookieJar()  # each browser has its own
        client = aiohttp.ClientSession(cookie_jar=jar)
        async with consoled(node, application(node)) as app, serving(app, "127.0.0.1", port) as port, client:
            yield ConsoleNode(node, f"http://localhost:{port}", client)

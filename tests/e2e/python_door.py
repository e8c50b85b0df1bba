"""The table that every form of the Python door answers alike, and the forms: embedded, connected, guarded, ASGI, dependency, gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route as StarletteRoute

import remit
from remit.application import application
from remit.cli.server import serving
from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.task import TaskState
from remit.node import Node, open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers

TOML = """
[agents.payer]
tasks = ["pay"]
[agents.other]
tasks = ["pay"]
[servers.bank]
url = "BANK"
data_class = "public"
trust = "trusted"
sends = "nowhere"
[tools."bank/echo"]
effect = "read"
[tools."bank/slow"]
effect = "read"
[tools."bank/fail"]
effect = "read"
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("approved") permit (principal, action == Action::"bank/send_money", resource) when { context has approval };
@id("never") forbid (principal, action == Action::"bank/echo", resource) when { context.arguments.text == "forbidden" };
"""
TASK = """
objective = "Pay {who}"
data_ceiling = "public"
budget = { calls = 3 }
[inputs.who]
type = "string"
[[grant]]
tool = "bank/echo"
[[grant]]
tool = "bank/fail"
uses = 1
[[grant]]
tool = "bank/send_money"
arguments.properties.recipient.const = "{who}"
arguments.properties.amount.maximum = 500
"""


@dataclass(frozen=True)
class Row:
    """``before``: calls made first, ``approve`` (the same call is asked and approved), ``suspend``."""

    story: str
    tool: str
    arguments: dict[str, Any]
    outcome: str
    codes: tuple[str, ...]
    before: tuple[Any, ...] = ()


PAY = {"recipient": "bob", "amount": 5}
ECHO = ("bank/echo", {"text": "x"})
TABLE = (
    Row("a read is allowed", *ECHO, "allow", ("permitted",)),
    Row("what cannot be undone asks", "bank/send_money", PAY, "ask", ("needs_approval",)),
    Row("approved, it is allowed", "bank/send_money", PAY, "allow", ("approved",), ("approve",)),
    Row("another amount was not approved", "bank/send_money", {**PAY, "amount": 6}, "ask", ("needs_approval",), (("approve", PAY),)),
    Row("above the grant", "bank/send_money", {**PAY, "amount": 501}, "deny", ("arguments_outside_grant",)),
    Row("not whom the task is for", "bank/send_money", {**PAY, "recipient": "eve"}, "deny", ("arguments_outside_grant",)),
    Row("a number for a text", "bank/send_money", {**PAY, "recipient": 5}, "deny", ("arguments_invalid",)),
    Row("a text for a number", "bank/send_money", {**PAY, "amount": "5"}, "deny", ("arguments_invalid",)),
    Row("true is no number", "bank/send_money", {**PAY, "amount": True}, "deny", ("arguments_invalid",)),
    Row("an argument that the tool has not", "bank/echo", {"text": "x", "loud": 1}, "deny", ("arguments_invalid",)),
    Row("an argument is missing", "bank/echo", {}, "deny", ("arguments_invalid",)),
    Row("a tool that was not granted", "bank/slow", {"steps": 1}, "deny", ("not_granted",)),
    Row("a tool that nobody knows", "bank/nothing", {"steps": 1}, "deny", ("tool_unknown", "not_granted")),
    Row("granted once, used once", "bank/fail", {}, "deny", ("uses_exhausted",), (("bank/fail", {}),)),
    Row("the budget is used up", *ECHO, "deny", ("budget_exhausted",), (ECHO, ECHO, ECHO)),
    Row("policy forbids it", "bank/echo", {"text": "forbidden"}, "deny", ("policy_forbids",)),
    Row("the task is suspended", *ECHO, "deny", ("task_not_active",), ("suspend",)),
)


@dataclass
class Place:
    """A served folder, and the node of whoever works beside the agents."""

    folder: Path
    node: Node
    port: int
    client: aiohttp.ClientSession
    stack: contextlib.AsyncExitStack
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def opened(self) -> tuple[str, str]:
        """A new task and its token."""
        task = await self.node.dispatcher.open(
            agent="payer", task_type="pay", inputs={"who": "bob"}, on_behalf_of="alice", opened_by="alice"
        )
        return task.id, (await self.node.tokens.issue(task.id, "test"))[0]

    async def records(self, task: str, kind: type) -> list[Any]:
        bodies = [decode(entry.body).body for entry in await self.node.store.task_entries(task)]
        return [body for body in bodies if isinstance(body, kind)]

    async def until_ended(self, task: str, count: int) -> list[CallFinished]:
        async with asyncio.timeout(10):
            while len(found := await self.records(task, CallFinished)) < count:
                await asyncio.sleep(0.02)
        return found


def write_folder(folder: Path, bank: str) -> None:
    for name in ("tasks", "policies"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "remit.toml").write_text(TOML.replace("BANK", bank))
    (folder / "policies" / "main.cedar").write_text(CEDAR)
    (folder / "tasks" / "pay.toml").write_text(TASK)
    asyncio.run(pin_servers(load_configuration(folder), ["bank"], only_new=True))


@contextlib.asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(folder, deciding=True))
        node.start()
        port = await stack.enter_async_context(serving(application(node), "127.0.0.1", 0))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Place(folder, node, port, client, stack)


async def prepare(where: Place, row: Row, task: str, token: str, answer: Form) -> None:
    """What happened before, by the form itself where it is a call."""
    for step in row.before:
        if step == "suspend":
            await where.node.tasks.move(task, TaskState.SUSPENDED, by="alice")
            continue
        approving = step == "approve" or step[0] == "approve"
        tool, arguments = (row.tool, row.arguments if step == "approve" else step[1]) if approving else step
        await answer(where, token, tool, arguments)
        if approving:
            asked = [body for body in await where.records(task, CallDecided) if body.outcome == "ask"]
            await where.node.tasks.answer(asked[-1].approval, granted=True, by="bob")


Told = tuple[str, tuple[str, ...]]  # outcome and codes; no codes where the form does not say them, when it allows
Form = Callable[[Place, str, str, dict[str, Any]], Awaitable[Told]]


# ---- the forms


async def _asked(r: remit.Remit, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    async with r.task_of(token) as task:
        decision = await task.authorize(tool, arguments)
        if decision.allowed:
            await task.observe(tool, arguments, "done")
        return decision.outcome, tuple(reason.code for reason in decision.reasons)


async def opened(where: Place, name: str, make: Callable[[], remit.Remit]) -> remit.Remit:
    if name not in where.kept:
        where.kept[name] = await where.stack.enter_async_context(make())
    return where.kept[name]


async def embedded(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    return await _asked(await opened(where, "embedded", lambda: remit.open(where.folder / "remit.toml")), token, tool, arguments)


async def connected(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    return await _asked(await opened(where, "connected", lambda: remit.connect(where.url)), token, tool, arguments)


@remit.guard("bank/echo")
def echo(text: str) -> str:
    """Say it again."""
    return text


@remit.guard("bank/send_money")
def send_money(recipient: str, amount: int) -> str:
    """Send money."""
    return f"sent {amount} to {recipient}"


@remit.guard("bank/slow")
def slow(steps: int) -> str:
    return "done" * steps


@remit.guard("bank/nothing")
def nothing(steps: int) -> str:
    return "nothing" * steps


@remit.guard("bank/fail")
def fail() -> str:
    return "this one does not fail"


@remit.guard("bank/echo")
async def async_echo(text: str) -> str:
    return text


@remit.guard("bank/send_money")
async def async_send_money(recipient: str, amount: int) -> str:
    return f"sent {amount} to {recipient}"


@remit.guard("bank/slow")
async def async_slow(steps: int) -> str:
    return "done" * steps


@remit.guard("bank/nothing")
async def async_nothing(steps: int) -> str:
    return "nothing" * steps


@remit.guard("bank/fail")
async def async_fail() -> str:
    return "this one does not fail"


PLAIN = {"bank/echo": echo, "bank/send_money": send_money, "bank/slow": slow, "bank/nothing": nothing, "bank/fail": fail}
ASYNC = {
    "bank/echo": async_echo,
    "bank/send_money": async_send_money,
    "bank/slow": async_slow,
    "bank/nothing": async_nothing,
    "bank/fail": async_fail,
}


def _refused(error: remit.Denied) -> Told:
    outcome = "ask" if isinstance(error, remit.NeedsApproval) else "deny"
    assert error.message
    assert bool(error.approval) == (outcome == "ask")
    return outcome, tuple(reason.code for reason in error.reasons)


async def guarded_plain(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    r = await opened(where, "embedded", lambda: remit.open(where.folder))
    async with r.task_of(token):
        try:
            await asyncio.to_thread(PLAIN[tool], **arguments)
        except remit.Denied as error:
            return _refused(error)
    return "allow", ()


async def guarded_plain_in_the_loop(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    """Plain code called straight from asynchronous code: it blocks for a moment, it does not lock up."""
    r = await opened(where, "embedded", lambda: remit.open(where.folder))
    async with r.task_of(token):
        try:
            PLAIN[tool](**arguments)
        except remit.Denied as error:
            return _refused(error)
    return "allow", ()


async def guarded_async(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    r = await opened(where, "connected", lambda: remit.connect(where.url))
    async with r.task_of(token):
        try:
            await ASYNC[tool](**arguments)
        except remit.Denied as error:
            return _refused(error)
    return "allow", ()


def plain_code(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Awaitable[Told]:
    """A program without any event loop of its own, in a thread of its own."""

    def program() -> Told:
        with remit.connect(where.url) as r, r.task_of(token) as task:
            decision = task.authorize(tool, arguments)
            if decision.allowed:
                task.observe(decision, "done")
            return decision.outcome, tuple(reason.code for reason in decision.reasons)

    return asyncio.to_thread(program)


ARGUMENTS = {
    "bank/echo": {"text": remit.asgi.body(str)},
    "bank/send_money": {"recipient": remit.asgi.body(str), "amount": remit.asgi.body(int)},
    "bank/slow": {"steps": remit.asgi.body(int)},
    "bank/nothing": {"steps": remit.asgi.body(int)},
    "bank/fail": {"nothing": remit.asgi.body(int, default=remit.asgi.ABSENT)},
}


async def endpoint(request: Request) -> JSONResponse:
    return JSONResponse({"got": await request.json()})


def starlette_app() -> Starlette:
    return Starlette(routes=[StarletteRoute("/{rest:path}", endpoint, methods=["POST"])])


def fastapi_app(r: remit.Remit) -> FastAPI:
    app = FastAPI()
    for tool, arguments in ARGUMENTS.items():

        @app.post(f"/{tool}", dependencies=[Depends(remit.asgi.requires(tool, arguments))])
        async def decided() -> dict[str, str]:
            return {"got": "it"}

    app.add_middleware(remit.asgi.Middleware, remit=r)
    return app


def starlette_dependencies(r: remit.Remit) -> Any:
    def route(tool: str) -> StarletteRoute:
        rule = remit.asgi.requires(tool, ARGUMENTS[tool])

        async def decided(request: Request) -> JSONResponse:
            await rule(request)
            return JSONResponse({"got": "it"})

        return StarletteRoute(f"/{tool}", decided, methods=["POST"])

    return remit.asgi.Middleware(Starlette(routes=[route(tool) for tool in ARGUMENTS]), r)


async def _served(where: Place, name: str, make: Callable[[remit.Remit], Any]) -> str:
    if f"app {name}" not in where.kept:
        r = await opened(where, "embedded", lambda: remit.open(where.folder))
        where.kept[f"app {name}"] = await where.stack.enter_async_context(serving(make(r), "127.0.0.1", 0))
    return f"http://127.0.0.1:{where.kept[f'app {name}']}"


async def _posted(where: Place, base: str, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    async with where.client.post(f"{base}/{tool}", json=arguments, headers={"Authorization": f"Bearer {token}"}) as answer:
        told = await answer.json(content_type=None)
    if answer.status == 200:
        assert "got" in told
        return "allow", ()
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    return {"denied": "deny", "needs_approval": "ask"}[told["code"]], tuple(reason["code"] for reason in told["reasons"])


async def asgi(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    def make(r: remit.Remit) -> Any:
        lines = [remit.asgi.Route("POST", f"/{name}", name, sources) for name, sources in ARGUMENTS.items()]
        return remit.asgi.Middleware(starlette_app(), r, routes=remit.asgi.Routes(*lines))

    return await _posted(where, await _served(where, "asgi", make), token, tool, arguments)


async def fastapi_dependency(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    return await _posted(where, await _served(where, "fastapi", fastapi_app), token, tool, arguments)


async def starlette_dependency(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    return await _posted(where, await _served(where, "starlette", starlette_dependencies), token, tool, arguments)


async def http(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    headers = {"Authorization": f"Bearer {token}"}
    body = {"tool": tool, "arguments": arguments}
    async with where.client.post(f"{where.url}/v1/tasks/current/authorize", json=body, headers=headers) as answer:
        decision = await answer.json()
        assert answer.status == 200
    if decision["outcome"] == "allow":
        body = {"decision": decision["decision"], "result": "done"}
        async with where.client.post(f"{where.url}/v1/tasks/current/observe", json=body, headers=headers) as answer:
            assert answer.status == 204
    return decision["outcome"], tuple(reason["code"] for reason in decision["reasons"])


async def gateway(where: Place, token: str, tool: str, arguments: dict[str, Any]) -> Told:
    server, _, name = tool.partition("/")
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": info}
    async with where.client.post(f"{where.url}/mcp/{server}", json=opening, headers=headers) as answer:
        headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    async with where.client.post(f"{where.url}/mcp/{server}", json=call, headers=headers) as answer:
        text = await answer.text()
        if answer.content_type == "text/event-stream":  # where the server said something on the way
            text = [line for line in text.splitlines() if line.startswith("data:")][-1].removeprefix("data:")
        result = json.loads(text)["result"]
    decision = result.get("_meta", {}).get("dev.remit/decision")
    return (decision["outcome"], tuple(decision["reasons"])) if decision else ("allow", ())


FORMS: dict[str, Form] = {
    form.__name__: form
    for form in (
        embedded,
        connected,
        plain_code,
        guarded_plain,
        guarded_plain_in_the_loop,
        guarded_async,
        asgi,
        fastapi_dependency,
        starlette_dependency,
        http,
        gateway,
    )
}

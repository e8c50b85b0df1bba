"""What is wrong on the wire is refused in clear words, ends nothing, and costs no record. Raw sockets: no client tidies it up."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from remit.model.task import TaskState
from tests.e2e.gateway import Running, gateway, stdio

pytestmark = pytest.mark.anyio
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN = {"MCP-Protocol-Version": "2026-07-28"}
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module: what is refused ends nothing, so one node serves all."""
    return "asyncio"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with gateway(tmp_path_factory.mktemp("gateway"), stdio("bank", "bank.py", "--stdio")) as node:
        yield node


@pytest.fixture
async def running(served: Running) -> AsyncIterator[Running]:
    yield served
    answer = await call(served, "tools/call", {"name": "echo", "arguments": {"text": "still here"}})
    assert answer.json["result"]["content"][0]["text"] == "still here"
    assert (await served.node.ledger.checkpoint()) is not None


class Answer:
    def __init__(self, data: bytes) -> None:
        self.raw = data
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = _unchunked(self.body)

    @property
    def json(self) -> Any:
        if self.headers.get("content-type") == "text/event-stream":
            return json.loads([line for line in self.body.split(b"\r\n") if line.startswith(b"data: {")][-1][6:])
        return json.loads(self.body)


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        whole, data = whole + rest[:length], rest[length + 2 :]
    return whole


async def exchange(running: Running, data: bytes, seconds: float = 60.0) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=2**24)
    try:
        async with asyncio.timeout(seconds):
            writer.write(data)
            try:
                await writer.drain()
            except ConnectionError:
                pass  # refused before all of it was read: the answer is there
            received = b""
            try:
                while piece := await reader.read(65_536):
                    received += piece
            except ConnectionError:
                pass
            return Answer(received)
    finally:
        writer.close()


async def post(
    running: Running,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    path: str = "",
    method: str = "POST",
    bare: tuple[str, ...] = (),
) -> Answer:
    given = {
        "Host": f"127.0.0.1:{running.port}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **(headers or {}),
    }
    lines = [f"{name}: {value}" for name, value in given.items() if value]
    target = path or running.url("bank").partition(str(running.port))[2]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, *bare]) + "\r\n\r\n"
    return await exchange(running, head.encode("latin-1") + body)


async def call(running: Running, method: str, params: dict[str, Any], headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """A well formed stateless request, but for what is handed in."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}
    named = (
        {"Mcp-Name": str(params.get("name", params.get("uri", "")))} if method in {"tools/call", "resources/read", "prompts/get"} else {}
    )
    return await post(running, json.dumps(message).encode(), {**MODERN, "Mcp-Method": method, **named, **(headers or {})}, **more)


async def initialize(running: Running, **more: Any) -> Answer:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING}
    return await post(running, json.dumps(message).encode(), **more)


WRONG_BODIES = {
    "empty": (b"", -32700),
    "truncated": (b'{"jsonrpc":"2.0","id":1,', -32700),
    "not utf-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', -32700),
    "utf-16": ('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), -32700),
    "half a surrogate": (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', -32700),
    "nan": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', -32700),
    "infinity": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":1e999}}', -32700),
    "doubled key": (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
    "doubled argument": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"a","text":"b"}}}',
        -32700,
    ),
    "nested": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", -32700),
    "nested a little": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + b"[" * 70 + b"]" * 70 + b"}}", -32700),
    "many digits": (b'{"jsonrpc":"2.0","id":' + b"9" * 10_000 + b',"method":"ping"}', -32700),
    "a number": (b"7", -32600),
    "null": (b"null", -32600),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
    "an empty batch": (b"[]", -32600),
    "no version": (b'{"id":1,"method":"ping"}', -32600),
    "version 1": (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
    "a huge id": (b'{"jsonrpc":"2.0","id":"' + b"x" * 5_000 + b'","method":"ping"}', -32600),
    "a huge number as id": (b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}', -32600),
    "a fraction as id": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
    "true as id": (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
    "null as id": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    "an object as id": (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
    "no method": (b'{"jsonrpc":"2.0","id":1}', -32600),
    "a number as method": (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
    "a list as params": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32600),
    "result and error": (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', -32600),
}


@pytest.mark.parametrize("what", WRONG_BODIES)
async def test_a_body_that_is_no_message(running: Running, what: str) -> None:
    body, code = WRONG_BODIES[what]
    for headers in ({}, {**MODERN, "Mcp-Method": "ping"}):
        answer = await post(running, body, headers)
        assert answer.status == 400
        assert answer.json["error"]["code"] in {code, -32602}, answer.json
        assert "Traceback" not in answer.raw.decode("latin-1")


async def test_bodies_that_are_too_large(running: Running) -> None:
    large = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"x" * 10_000_000 + b'"}}'
    assert (await post(running, large)).status == 413
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
    assert (await post(running, chunked, {"Content-Length": "", "Transfer-Encoding": "chunked"})).status == 413
    assert (await post(running, b"{}", {"Content-Length": "99999999999999999999"})).status in {400, 413}


async def test_only_json_is_read(running: Running) -> None:
    assert (await post(running, b"{}", {"Content-Type": "text/plain"})).status == 415
    assert (await post(running, b"{}", {"Content-Type": ""})).status == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "file://"},
    ],
)
async def test_a_name_that_was_rebound(running: Running, headers: dict[str, str]) -> None:
    assert (await call(running, "tools/list", {}, headers)).status == 403
    assert (await post(running, b"", headers, method="GET")).status == 403


async def test_headers_that_stand_twice(running: Running) -> None:
    for line in ("Mcp-Method: tools/list", "MCP-Protocol-Version: 2026-07-28", "Origin: http://localhost", "Mcp-Session-Id: x"):
        assert (await call(running, "tools/list", {}, {"Origin": "http://localhost", "Mcp-Session-Id": "y"}, bare=(line,))).status == 400


async def test_what_the_stateless_era_demands(running: Running) -> None:
    assert (await call(running, "tools/list", {}, {"MCP-Protocol-Version": "2026-07-29"})).json["error"]["code"] == -32020
    assert (await call(running, "tools/list", {}, {"Mcp-Method": "tools/call"})).json["error"]["code"] == -32020
    assert (await call(running, "tools/list", {}, {"Mcp-Method": ""})).json["error"]["code"] == -32020
    wrong_name = await call(running, "tools/call", {"name": "echo", "arguments": {"text": "x"}}, {"Mcp-Name": "send_money"})
    assert (wrong_name.status, wrong_name.json["error"]["code"]) == (400, -32020)
    for meta in ({}, {**META, "io.modelcontextprotocol/clientCapabilities": None}, None, 5):
        assert (await call(running, "tools/list", {"_meta": meta})).json["error"]["code"] in {-32602, -32020}
    later = {**META, "io.modelcontextprotocol/protocolVersion": "2031-01-01"}
    unknown = await call(running, "tools/list", {"_meta": later}, {"MCP-Protocol-Version": "2031-01-01"})
    assert (unknown.status, unknown.json["error"]["code"]) == (400, -32022)
    assert unknown.json["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2031-01-01"}
    for method in ("GET", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD"):
        assert (await post(running, b"", MODERN, method=method)).status == 405


async def test_unknown_methods_are_denied(running: Running) -> None:
    for method in ("tools/destroy", "ping", "initialize", "tasks/get", "sampling/createMessage", "notifications/x", "__proto__"):
        answer = await call(running, method, {})
        assert (answer.status, answer.json["error"]["code"]) == (404, -32601)
    session = (await initialize(running)).headers["mcp-session-id"]
    for method in ("tools/destroy", "server/discover", "subscriptions/listen", "tasks/list", "roots/list"):
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}}).encode()
        answer = await post(running, body, {"Mcp-Session-Id": session})
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (200, -32601, 7)


async def test_arguments_that_break_the_schema_are_a_denial_that_is_recorded(running: Running) -> None:
    before = len(await running.records())
    for arguments in ({}, {"text": 5}, {"text": "x", "more": 1}, {"text": None}):
        result = (await call(running, "tools/call", {"name": "echo", "arguments": arguments})).json["result"]
        assert result["isError"] is True
        assert result["_meta"]["dev.remit/decision"]["outcome"] == "deny"
    for arguments in ([], "x", 5):
        assert (await call(running, "tools/call", {"name": "echo", "arguments": arguments})).json["error"]["code"] == -32602
    huge = await call(running, "tools/call", {"name": "echo", "arguments": {"text": "x", "n": 2**60}})
    assert huge.json["error"]["code"] == -32602
    assert [record.outcome for record in (await running.records())[before:] if hasattr(record, "outcome")] == ["deny"] * 4


async def test_sessions_belong_to_their_task(running: Running) -> None:
    session = (await initialize(running)).headers["mcp-session-id"]
    body = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).encode()
    assert (await post(running, body, {"Mcp-Session-Id": session})).status == 200
    _, token = await running.another_task()
    for method, sent in (("POST", body), ("GET", b""), ("DELETE", b"")):
        foreign = {"Mcp-Session-Id": session, "Authorization": f"Bearer {token}"}
        assert (await post(running, sent, foreign, path="/mcp/bank", method=method)).status == 404
        assert (await post(running, sent, {"Mcp-Session-Id": "guessed"}, method=method)).status == 404
    assert (await post(running, body)).status == 400  # no session at all
    answer = json.dumps({"jsonrpc": "2.0", "id": "never-asked", "result": {}}).encode()
    assert (await post(running, answer, {"Mcp-Session-Id": session})).status == 400
    assert (await post(running, body, {"Mcp-Session-Id": session, "MCP-Protocol-Version": "1999-01-01"})).status == 400
    assert (await post(running, b"", {"Mcp-Session-Id": session, "Last-Event-ID": "9-9"}, method="GET")).status == 400
    assert (await post(running, b"", {"Mcp-Session-Id": session}, method="DELETE")).status == 204
    assert (await post(running, body, {"Mcp-Session-Id": session})).status == 404


def tampered(token: str, **changes: Any) -> str:
    head, claims, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    again = base64.urlsafe_b64encode(json.dumps({**decoded, **changes}).encode()).rstrip(b"=").decode()
    return f"{head}.{again}.{signature}"


def unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


async def test_tokens_that_open_nothing(running: Running) -> None:
    async def status(authorization: str) -> int:
        answer = await call(running, "tools/list", {}, {"Authorization": authorization}, path="/mcp/bank")
        assert answer.status == 200 or answer.headers["www-authenticate"].startswith("Bearer")
        return answer.status

    token = running.token
    assert await status(f"Bearer {token}") == 200
    for wrong in (
        "",
        "Bearer",
        "Bearer x",
        f"Basic {token}",
        f"Bearer {unsigned(token)}",
        f"Bearer {tampered(token, exp=2**40)}",
        "Bearer a.b.c",
    ):
        assert await status(wrong) == 401
    assert (await call(running, "tools/list", {}, path="/run/guessed/mcp/bank")).status == 401
    svid = await running.node.identities.issue_svid("tester", attested="test")
    assert await status(f"Bearer {svid}") == 401  # proves who, opens nothing
    other, other_token = await running.another_task()
    await running.node.tasks.end(other.id, TaskState.COMPLETED, by="alice")
    await running.node.end_task(other.id)
    assert await status(f"Bearer {other_token}") == 401


async def test_paths_that_lead_nowhere(running: Running) -> None:
    base = running.url("bank").partition(str(running.port))[2]
    for path in ("/mcp/../v1", "/mcp/bank/extra", base + "/extra", base.replace("bank", "ghost"), base.replace("bank", "%2e%2e")):
        assert (await call(running, "tools/list", {}, path=path)).status in {401, 404}


async def test_what_is_no_http(running: Running) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01", b"POST / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(60):
            try:
                assert b"Traceback" not in await reader.read()
            except ConnectionError:
                pass
        writer.close()


async def test_a_body_that_never_comes(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = running.node.gateway.door
    monkeypatch.setattr(gate, "_limits", replace(gate._limits, body_seconds_max=0.2))
    late = await post(running, b"{", {"Content-Length": "100"})
    assert late.status == 408

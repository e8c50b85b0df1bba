"""Plain HTTP through the egress: a real API behind it, real clients before it, each request decided like any other call."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.task import TaskState
from remit.model.tripwire import SecretFound
from remit.services.approvals import Person
from remit.services.replay import verify
from tests.e2e.gateway import Running, gateway, until
from tests.servers.crm import Asked, Crm, crm
from tests.servers.postgres import postgres_target

pytestmark = pytest.mark.anyio
API = """
[egress.crm]
url = "{url}"
headers = {{ Authorization = "Bearer {{lease:key.password}}" }}
effect = "read"
data_class = "public"
trust = "trusted"
sends = "nowhere"
[egress.crm.operations]
get_customer = {{ request = "GET /customers/{{id}}", path.id.type = "integer", description = "One customer" }}
search = {{ request = "GET /customers", query = {{ q.maxLength = 60, limit.type = "integer", all.type = "boolean" }} }}
rename = {{ request = "POST /customers/{{id}}/name", body = {{ type = "object", properties.name.type = "string", required = ["name"] }} }}
pay = {{ request = "POST /payments", body = {{ type = "object", properties = {{ to = {{}}, amount = {{ type = "number" }} }} }} }}
sign_up = {{ request = "POST /sign-up", form = {{ name = {{}}, age = {{ type = "integer" }} }} }}
upload = {{ request = "PUT /files/{{name}}", media_types = ["image/png"] }}
remove = {{ request = "DELETE /broken/{{id}}" }}
look = {{ request = "HEAD /customers/{{id}}" }}
nothing = {{ request = "POST /nothing" }}
moved = {{ request = "GET /moved/{{where}}" }}
echo = {{ request = "GET /echo" }}
wide = {{ request = "GET /wide" }}
tagged = {{ request = "GET /tagged" }}
slow = {{ request = "GET /slow" }}
stream = {{ request = "GET /stream/{{how}}", stream = true }}
inbox = {{ request = "GET /inbox/{{what}}" }}
numbers = {{ request = "GET /numbers" }}
page = {{ request = "GET /page" }}
large = {{ request = "GET /large" }}
packed = {{ request = "GET /packed" }}
refused = {{ request = "GET /refused" }}
doubled = {{ request = "GET /doubled" }}
[tools."crm/pay"]
effect = "irreversible"
[tools."crm/get_customer"]
trust = "untrusted"
[tools."crm/get_customer".fields]
"/email" = {{ trust = "trusted" }}
[tools."crm/inbox"]
trust = "untrusted"
[tools."crm/inbox".fields]
"/messages/*/id" = {{ trust = "trusted" }}
"/messages/*/data" = {{ trust = "trusted" }}
[targets.key]
kind = "static"
secret = "${{CRM_KEY}}"
[limits]
result_bytes = 200_000
body_bytes = 100_000
"""
GRANT = """
[[grant]]
tool = "crm/*"
[[lease]]
target = "key"
"""
NARROW = """
objective = "Look after customer 7"
data_ceiling = "public"
deadline = "30m"
budget = { calls = 50 }
[[grant]]
tool = "crm/get_customer"
arguments.properties.id.const = 7
[[grant]]
tool = "crm/pay"
arguments.properties.body.properties.amount.maximum = 500
arguments.properties.body.properties.to.origin = ["crm/get_customer#/email"]
[[lease]]
target = "key"
"""
MAIL = """
objective = "Answer mail"
data_ceiling = "public"
deadline = "30m"
[[grant]]
tool = "crm/inbox"
[[grant]]
tool = "crm/search"
arguments.properties.q.origin = ["crm/inbox"]
[[lease]]
target = "key"
"""
READER = """
objective = "Read little"
data_ceiling = "public"
deadline = "30m"
budget = { calls = 50, bytes_read = 10 }
[[grant]]
tool = "crm/stream"
[[lease]]
target = "key"
"""
POLICY = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("asked") permit (principal, action, resource) when { context has approval };
"""


@dataclass
class Egress:
    """A node, the API behind it, its credential, and the egress's address for the task's own endpoint."""

    running: Running
    api: Crm
    secret: str
    url: str

    async def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.request(method, self.url + path, **given)

    async def raw(self, target: str, headers: str = "") -> tuple[int, str]:
        """A request whose target no client can have put right."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        base = self.url.partition(f":{self.running.port}")[2]
        lines = f"GET {base}{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n"
        writer.write(lines.encode("latin-1"))
        told = (await asyncio.wait_for(reader.read(), 30)).decode("latin-1")
        writer.close()
        return int(told.split(" ")[1]), told

    async def records(self, task: str = "") -> list[Any]:
        await self.running.node.tasks.settle()
        return [decode(entry.body).body for entry in await self.running.node.store.task_entries(task or self.running.task.id)]

    async def another(self, kind: str = "all") -> str:
        """Another task; asked for from now on."""
        task, _ = await self.running.another_task(kind)
        endpoint = self.running.node.gateway.gate.open_endpoint(task.id)
        self.url = f"http://127.0.0.1:{self.running.port}/run/{endpoint}/egress/crm"
        return task.id


@pytest.fixture
async def egress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Egress]:
    secret = "k-" + secrets.token_hex(16)
    monkeypatch.setenv("CRM_KEY", secret)
    (tmp_path / "folder").mkdir()
    async with (
        crm() as api,
        gateway(
            tmp_path / "folder",
            "",
            task=GRANT,
            more=API.format(url=api.url),
            policy=POLICY,
            types={"narrow": NARROW, "reader": READER, "mail": MAIL},
        ) as running,
    ):
        await running.node.rules.activate(running.node.configuration, running.node.rules.rulebook)
        endpoint = running.node.gateway.gate.open_endpoint(running.task.id)
        yield Egress(running, api, secret, f"http://127.0.0.1:{running.port}/run/{endpoint}/egress/crm")


async def test_a_request_is_decided_equipped_sent_and_observed(egress: Egress) -> None:
    headers = {
        "Authorization": "Bearer of-the-agent",
        "Cookie": "a=b",
        "X-Own": "1",
        "Idempotency-Key": "once",
        "Accept-Language": "de",
        "X-Forwarded-For": "1.2.3.4",
    }
    answer = await egress.ask("GET", "/customers/7", headers=headers)
    assert (answer.status_code, answer.json()["email"]) == (200, "bob@corp.example")
    assert answer.headers["etag"] == '"7"'
    assert answer.headers["cache-control"] == "no-store"
    (sent,) = egress.api.seen
    assert (sent.method, sent.target) == ("GET", "/api/customers/7")
    assert sent.headers["authorization"] == f"Bearer {egress.secret}"
    assert (sent.headers["idempotency-key"], sent.headers["accept-language"]) == ("once", "de")
    assert not {"cookie", "x-own", "x-forwarded-for"} & sent.headers.keys()
    decided, ended = [body for body in await egress.records() if isinstance(body, CallDecided | CallFinished)]
    assert (decided.name, decided.outcome, ended.ending) == ("get_customer", "allow", "ok")
    assert answer.headers["remit-decision"] == decided.decision == ended.decision
    everything = str(answer.headers) + answer.text + str(await egress.records())
    assert egress.secret not in everything
    assert (await verify(egress.running.node.history())).good


async def test_by_a_task_token_and_by_stock_clients(egress: Egress) -> None:
    url = f"http://127.0.0.1:{egress.running.port}/egress/crm"
    token = {"Authorization": f"Bearer {egress.running.token}"}
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{url}/customers/7") as answer:
            assert answer.status == 401
            assert "Bearer" in answer.headers["WWW-Authenticate"]
        async with client.get(f"{url}/customers/7", headers={"Authorization": "Bearer x.y.z"}) as answer:
            assert answer.status == 401
        async with client.get(f"{url}/customers/7", headers=token) as answer:
            assert (await answer.json())["id"] == 7
        async with client.get(f"{url}/customers/7", headers={**token, "Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with client.get(f"http://127.0.0.1:{egress.running.port}/egress/other/x", headers=token) as answer:
            assert answer.status == 404
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-H", f"Authorization: {token['Authorization']}", f"{url}/customers/7", stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert json.loads(told)["id"] == 7
    assert {sent.headers["authorization"] for sent in egress.api.seen} == {f"Bearer {egress.secret}"}


async def test_bodies_and_queries_are_written_anew(egress: Egress) -> None:
    pictures = b"\x89PNG\x00\xff"
    asked: list[tuple[str, str, dict[str, Any], str, bytes]] = [
        ("GET", "/customers?q=a%26b+c&limit=5&all=true", {}, "/api/customers?q=a%26b%20c&limit=5&all=true", b""),
        ("POST", "/customers/a%20b/name", {"json": {"name": "é"}}, "/api/customers/a%20b/name", '{"name":"é"}'.encode()),
        ("POST", "/sign-up", {"data": {"name": "a&b=c", "age": "30"}}, "/api/sign-up", b"name=a%26b%3Dc&age=30"),
        ("PUT", "/files/x.png", {"content": pictures, "headers": {"Content-Type": "image/png"}}, "/api/files/x.png", pictures),
        ("POST", "/nothing", {}, "/api/nothing", b""),
    ]
    for method, path, given, target, body in asked:
        answer = await egress.ask(method, path, **given)
        assert answer.status_code in {200, 204}, (path, answer.text)
        sent: Asked = egress.api.seen[-1]
        assert (sent.method, sent.target, sent.body) == (method, target, body)
    answer = await egress.ask("HEAD", "/customers/7")
    assert (answer.status_code, answer.content, egress.api.seen[-1].method) == (200, b"", "HEAD")
    answer = await egress.ask("GET", "/refused")
    assert (answer.status_code, answer.json()) == (401, {"error": "who are you"})
    assert "www-authenticate" not in answer.headers
    assert [body.ending for body in await egress.records() if isinstance(body, CallFinished)] == ["ok"] * 6 + ["tool_error"]


async def test_what_nobody_declared_is_refused_and_recorded(egress: Egress) -> None:
    for method, path in (
        ("GET", "/admin"),
        ("DELETE", "/customers/7"),
        ("GET", "/customers/7/name"),
        ("OPTIONS", "/customers"),
        ("GET", "/"),
    ):
        answer = await egress.ask(method, path)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["reasons"][0]["code"] == "tool_unknown"
        assert answer.headers["content-type"] == "application/problem+json"
    assert egress.api.seen == []
    denied = [body for body in await egress.records() if isinstance(body, CallDecided)]
    assert [(one.name, one.outcome) for one in denied] == [("undeclared", "deny")] * 5


PATHS = [
    "/customers/../payments",
    "/customers/%2e%2e/payments",
    "/customers/%2E/7",
    "/customers/..%2fpayments",
    "/customers/7%2f..%2fname",
    "/customers/7%5c..",
    "/customers//7",
    "//customers/7",
    "/customers/7;admin=true",
    "/customers/7%3badmin",
    "/customers/%252e%252e",
    "/customers/7%00",
    "/customers/7%0d%0aX:y",
    "/customers/%ff",
    "/customers/%c0%ae%c0%ae",
    "/customers/%ef%bc%8e%ef%bc%8e",
    "/customers/%e2%84%80",
    "/customers/7%",
    "/customers/7%zz",
    "/customers/7%3fq=x",
    "/customers/7%23x",
    "/customers/.%20.",
    "/customers/" + "x" * 9_000,
    "/x" * 70,
]
QUERIES = [
    "?q=a&q=b",
    "?q=a&%71=b",
    "?q",
    "?=a",
    "?q=a=b",
    "?q=a&&limit=1",
    "?q=%ff",
    "?q=a%00",
    "?q=a;limit=1",
    "?q=a%",
    "?other=1",
    "?limit=05",
    "?limit=1e3",
    "?limit=%d9%a3",
    "?limit=-0",
    "?limit=99999999999999999",
    "?all=True",
    "?all=1",
    "?" + "&".join(f"q{n}=1" for n in range(1_100)),
]


async def test_paths_and_queries_that_could_be_read_otherwise(egress: Egress) -> None:
    for target in [*PATHS, *(f"/customers{query}" for query in QUERIES)]:
        status, told = await egress.raw(target)
        assert status in {400, 403}, (target, told[:300])
        assert "Traceback" not in told
    assert egress.api.seen == []
    for target in ("/customers/7\\..\\x", "/customers/7\x00"):
        assert (await egress.raw(target))[0] == 400
    decided = [body for body in await egress.records() if isinstance(body, CallDecided)]
    assert {one.name for one in decided} <= {"undeclared"}, "what cannot be read is no call"
    assert egress.api.seen == []


async def test_headers_that_could_be_read_otherwise(egress: Egress) -> None:
    for lines in ("Accept: a\r\nAccept: b\r\n", "If-Match: \x80\r\n", f"Accept: {'x' * 3_000}\r\n", "Content-Encoding: gzip\r\n"):
        status, _ = await egress.raw("/customers/7", lines)
        assert status in {400, 415}, lines
    assert egress.api.seen == []


BODIES: list[tuple[str, str, bytes]] = [
    ("/payments", "application/json", b'{"to":"x","to":"y"}'),
    ("/payments", "application/json", b'{"amount":NaN}'),
    ("/payments", "application/json", b""),
    ("/payments", "application/json", b"{} {}"),
    ("/payments", "application/json", b"[" * 1_000 + b"]" * 1_000),
    ("/payments", "application/json", '{"to":"x"}'.encode("utf-16")),
    ("/payments", "text/plain", b'{"to":"x"}'),
    ("/payments", "", b'{"to":"x"}'),
    ("/payments", "application/json; x", b'{"to":"x"}'),
    ("/payments", "application/json, text/plain", b"{}"),
    ("/sign-up", "application/x-www-form-urlencoded", b"name=a&name=b"),
    ("/sign-up", "application/x-www-form-urlencoded", b"name=\xff"),
    ("/sign-up", "application/x-www-form-urlencoded", b"name=a\r\nb"),
    ("/sign-up", "application/x-www-form-urlencoded", b"age=x"),
    ("/sign-up", "application/json", b"{}"),
    ("/nothing", "application/json", b"{}"),
]


async def test_bodies_that_could_be_read_otherwise(egress: Egress) -> None:
    for path, kind, body in BODIES:
        answer = await egress.ask("POST", path, content=body, headers={"Content-Type": kind} if kind else {})
        assert answer.status_code in {400, 415}, (path, kind, body[:40], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await egress.ask("POST", "/payments", content=b"x" * 100_001)).status_code == 413
    answer = await egress.ask("POST", "/sign-up", data={"unknown": "1"})
    assert answer.json()["reasons"][0]["code"] == "arguments_invalid"
    answer = await egress.ask("POST", "/payments", json={"to": "x", "unknown": 1})
    assert answer.json()["reasons"][0]["code"] == "arguments_invalid"
    answer = await egress.ask("PUT", "/files/x", content=b"x", headers={"Content-Type": "text/html"})
    assert answer.status_code == 415
    assert egress.api.seen == []


async def test_the_grant_narrows_path_and_body_by_value_and_origin(egress: Egress) -> None:
    await egress.another("narrow")
    assert (await egress.ask("GET", "/customers/8")).json()["reasons"][0]["code"] == "arguments_outside_grant"
    assert (await egress.ask("POST", "/payments", json={"to": "bob@corp.example", "amount": 5})).status_code == 403
    assert egress.api.seen == []
    assert (await egress.ask("GET", "/customers/7")).status_code == 200
    for body, code in (
        ({"to": "bob@corp.example", "amount": 501}, "arguments_outside_grant"),
        ({"to": "mallory@evil.example", "amount": 5}, "origin_not_admitted"),
        ({"to": "carol@corp.example", "amount": 5}, "origin_unknown"),
        ({"to": "bob@corp.example", "amount": 5}, "needs_approval"),
    ):
        answer = await egress.ask("POST", "/payments", json=body)
        assert (answer.status_code, answer.json()["reasons"][0]["code"]) == (403, code), answer.text
    assert len(egress.api.seen) == 1
    listed = (await egress.ask("GET", "")).json()["operations"]
    assert {one["name"]: one["request"] for one in listed} == {"get_customer": "GET /customers/{id}", "pay": "POST /payments"}
    assert listed[0]["arguments"]["properties"]["id"] == {"type": "integer", "const": 7}
    assert egress.api.url not in str(listed)
    assert (await egress.ask("POST", "")).status_code == 405


async def test_an_answer_that_looks_like_a_result_of_mcp_is_read_as_what_it_is(egress: Egress) -> None:
    """``messages`` and ``content`` are words of MCP, and of many an API: nothing that stands beside them is overlooked."""
    task = await egress.another("mail")
    assert (await egress.ask("GET", "/inbox/empty")).status_code == 200
    assert (await egress.running.node.tasks.view(task)).labels.untrusted, "of the note"
    assert (await egress.ask("GET", "/inbox/full")).status_code == 200
    for value, status in (("m1@corp.example", 200), ("d1@corp.example", 200), ("mallory@evil.example", 403)):
        assert (await egress.ask("GET", "/customers", params={"q": value})).status_code == status, value


async def test_a_person_approves_exactly_that_request(egress: Egress) -> None:
    task = await egress.another()
    answer = await egress.ask("POST", "/payments", json={"to": "bob", "amount": 5})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (403, "needs_approval")
    assert {"approval", "approval_expires_at", "decision"} <= told.keys()
    await egress.running.node.approvals.answer(Person(name="ann", via="test"), told["approval"], granted=True, reason="")
    assert (await egress.ask("POST", "/payments", json={"to": "bob", "amount": 6})).status_code == 403
    assert egress.api.seen == []
    assert (await egress.ask("POST", "/payments", json={"amount": 5, "to": "bob"})).status_code == 200
    assert json.loads(egress.api.seen[0].body) == {"to": "bob", "amount": 5}
    assert (await egress.ask("POST", "/payments", json={"to": "bob", "amount": 5})).status_code == 403, "once"
    assert [body.outcome for body in await egress.records(task) if isinstance(body, CallDecided)] == ["ask", "ask", "allow", "ask"]


async def test_redirects_are_not_followed(egress: Egress) -> None:
    prefix = egress.url.partition(str(egress.running.port))[2]
    for where, location in (("inside", "/customers/5?a=b"), ("relative", "/customers/6")):
        answer = await egress.ask("GET", f"/moved/{where}")
        assert (answer.status_code, answer.headers["location"]) == (302, prefix + location)
    before = len(egress.api.seen)
    for where in ("outside", "above", "sibling", "dots", "account"):
        answer = await egress.ask("GET", f"/moved/{where}")
        assert (answer.status_code, answer.json()["code"]) == (502, "egress_redirect"), where
        assert "location" not in answer.headers
        assert "169.254" not in answer.text
        assert "retry-after" not in answer.headers
    assert len(egress.api.seen) == before + 5


async def test_the_credential_does_not_come_back(egress: Egress) -> None:
    for path in ("/echo", "/wide", "/tagged", "/moved/secret"):
        task = await egress.another()
        answer = await egress.ask("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (403, "withheld"), path
        assert egress.secret not in answer.text + str(answer.headers)
        assert egress.secret.encode().hex() not in answer.text
        assert (await egress.running.node.tasks.view(task)).state is TaskState.SUSPENDED
        assert [body.names for body in await egress.records(task) if isinstance(body, SecretFound)] == [["key"]]
        again = await egress.ask("GET", "/customers/7")
        assert again.status_code == 403


async def test_nor_does_it_go_out_in_what_the_agent_sends(egress: Egress) -> None:
    encoded = base64.b64encode(egress.secret.encode()).decode()
    ways: dict[str, tuple[str, str, dict[str, Any]]] = {
        "path": ("POST", f"/customers/{encoded.replace('=', '')}/name", {"json": {"name": "x"}}),
        "query": ("GET", f"/customers?q={egress.secret}", {}),
        "undeclared": ("GET", f"/admin/{egress.secret}", {}),
        "body": ("POST", "/payments", {"json": {"to": [egress.secret[:9], egress.secret[9:]]}}),
        "form": ("POST", "/sign-up", {"data": {"name": egress.secret}}),
        "bytes": ("PUT", "/files/x", {"content": b"\x00" + egress.secret.encode("utf-16-le"), "headers": {"Content-Type": "image/png"}}),
        "header": ("GET", "/customers/7", {"headers": {"Idempotency-Key": egress.secret}}),
    }
    for way, (method, path, given) in ways.items():
        task = await egress.another()
        await egress.running.node.leases.leases.have(task, "key")
        answer = await egress.ask(method, path, **given)
        assert answer.status_code in {403, 503}, (way, answer.text)
        assert egress.secret not in answer.text
        assert (await egress.running.node.tasks.view(task)).state is TaskState.SUSPENDED, way
    assert egress.api.seen == []


async def test_the_end_of_a_task_cuts_what_is_under_way(egress: Egress) -> None:
    task = await egress.another()
    asking = asyncio.create_task(egress.ask("GET", "/slow"))
    await asyncio.wait_for(egress.api.asked.wait(), 30)
    await egress.running.node.tasks.end(task, TaskState.REVOKED, by="tester")
    await egress.running.node.end_task(task)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (403, "task_over")
    await asyncio.wait_for(egress.api.gone.wait(), 30)
    assert (await egress.ask("GET", "/customers/7")).status_code == 401


@pytest.mark.parametrize("how", ["well", "badly", "pieces", "suspended"])
async def test_a_stream_goes_out_event_by_event_and_is_watched(egress: Egress, how: str) -> None:
    task = await egress.another()
    node = egress.running.node
    heard = b""
    path = "/stream/well" if how == "suspended" else f"/stream/{how}"
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", egress.url + path) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "remit-decision" in answer.headers
        async for piece in answer.aiter_bytes():
            if not heard:
                assert piece == b'event: one\ndata: {"n": 1}\n\n', "whole events only"
                if how == "suspended":
                    await node.tasks.move(task, TaskState.SUSPENDED, by="tester")
                egress.api.go.set()
            heard += piece
    assert egress.secret.encode() not in heard
    assert egress.secret.encode()[9:] not in heard, "nor the last piece of it"
    (ended,) = [body for body in await egress.records(task) if isinstance(body, CallFinished)]
    if how == "well":
        assert heard.endswith(b"\n\ndata: two\n\ndata: rest")
        assert (ended.ending, ended.size > 0) == ("ok", True)
        return
    last = heard.split(b"\n\n")[-2]
    assert last.startswith(b"event: remit-error\ndata: ")
    problem = json.loads(last.partition(b"data: ")[2])
    assert problem["code"] == {"badly": "egress_secret", "pieces": "egress_secret", "suspended": "egress_over"}[how]
    assert (await node.tasks.view(task)).state is TaskState.SUSPENDED


async def test_a_budget_of_bytes_is_kept_by_streams_too(egress: Egress) -> None:
    task = await egress.another("reader")
    egress.api.go.set()
    answer = await egress.ask("GET", "/stream/well")
    assert (answer.status_code, answer.json()["code"]) == (403, "withheld"), "nothing of it has gone out"
    (ended,) = [body for body in await egress.records(task) if isinstance(body, CallFinished)]
    assert (ended.ending, ended.size) == ("ok", 0)


async def test_an_agent_that_hangs_up_cancels_its_call(egress: Egress) -> None:
    asking = asyncio.create_task(egress.ask("GET", "/slow"))
    await asyncio.wait_for(egress.api.asked.wait(), 30)
    asking.cancel()
    await asyncio.wait_for(egress.api.gone.wait(), 30)

    async def endings() -> list[str]:
        return [body.ending for body in await egress.records() if isinstance(body, CallFinished)]

    for _ in range(500):
        if await endings():
            break
        await asyncio.sleep(0.02)
    assert await endings() == ["cancelled"]


async def test_what_an_api_does_badly(egress: Egress) -> None:
    for path, status in (("/large", 502), ("/packed", 502)):
        answer = await egress.ask("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (status, "egress_failed")
        assert "not known" in answer.json()["title"]
    before = len(egress.api.seen)
    assert (await egress.ask("GET", "/customers/7")).status_code == 200  # so that a connection is kept
    answer = await egress.ask("DELETE", "/broken/1")
    assert answer.status_code == 502
    assert len(egress.api.seen) == before + 2, "what may have been done is not asked for again"
    doubled = await egress.ask("GET", "/doubled")
    assert (doubled.status_code, doubled.text) == (200, '{"a":1,"a":2}')
    numbers = await egress.ask("GET", "/numbers")
    assert (numbers.status_code, numbers.json()["n"]) == (200, int("9" * 40))
    page = await egress.ask("GET", "/page")
    assert (page.status_code, page.headers["content-security-policy"]) == (200, "sandbox; default-src 'none'")
    endings = [body.ending for body in await egress.records() if isinstance(body, CallFinished)]
    assert endings == ["failed", "failed", "ok", "failed", "ok", "ok", "ok"]


async def _until_configured(egress: Egress, changed: Callable[[str], str], seen: Callable[[Any], bool]) -> None:
    toml = egress.running.node.folder / "remit.toml"
    toml.write_text(changed(toml.read_text()))
    await until(lambda: seen(egress.running.node.rules.configuration.egresses["crm"]))


async def test_a_request_that_was_not_sent_is_given_back(egress: Egress) -> None:
    port = egress.api.url.partition("127.0.0.1:")[2].partition("/")[0]
    await _until_configured(egress, lambda text: text.replace(f"127.0.0.1:{port}", "127.0.0.1:1"), lambda one: ":1/" in one.url)
    task = await egress.another()
    answer = await egress.ask("GET", "/customers/7")
    assert (answer.status_code, answer.json()["code"]) == (502, "egress_unreachable")
    assert "Nothing was done" in answer.json()["title"]
    (ended,) = [body for body in await egress.records(task) if isinstance(body, CallFinished)]
    assert ended.ending == "not_made"
    assert (await egress.running.node.tasks.view(task)).calls == 0


async def test_an_operation_that_changes_under_a_task_is_refused(egress: Egress) -> None:
    """Where it leads, too: the task was opened for another API."""
    assert (await egress.ask("GET", "/customers/7")).status_code == 200
    await _until_configured(egress, lambda text: text.replace('/api"', '/api/v3"'), lambda one: one.url.endswith("/v3"))
    answer = await egress.ask("GET", "/customers/7")
    assert answer.status_code == 403
    assert {reason["code"] for reason in answer.json()["reasons"]} & {"manifest_changed", "tool_changed"}
    assert len(egress.api.seen) == 1


DATABASE = """
[egress.crm]
url = "{url}"
headers = {{ Authorization = "Bearer {{lease:orders.password}}", X-User = "{{lease:orders.user}}" }}
effect = "read"
data_class = "public"
trust = "trusted"
sends = "nowhere"
operations.whoami.request = "GET /db/whoami"
[targets.orders]
kind = "postgresql"
url = "{postgres}"
secret = "${{ORDERS_ROOT}}"
"""
ORDERS = """
[[grant]]
tool = "crm/*"
[[lease]]
target = "orders"
scope.tables = [{ schema = "public", table = "orders", allow = ["select"] }]
"""


async def test_a_minted_credential_rotates_under_requests_and_goes_with_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    with postgres_target() as server:
        monkeypatch.setenv("ORDERS_ROOT", server.password)
        address = f"host=127.0.0.1 port={server.port} dbname=orders"
        async with (
            crm(address) as api,
            gateway(tmp_path / "folder", "", task=ORDERS, more=DATABASE.format(url=api.url, postgres=server.url)) as running,
        ):
            url = f"http://127.0.0.1:{running.port}/egress/crm/db/whoami"
            names: list[str] = []
            async with httpx.AsyncClient(headers={"Authorization": f"Bearer {running.token}"}) as client:

                async def whoami() -> str:
                    answer = await client.get(url)
                    assert answer.status_code == 200, answer.text
                    return str(answer.json()["user"])

                names.append(await whoami())
                (old,) = (await running.node.tasks.view(running.task.id)).leases
                await running.node.leases.leases.rotate(old, "tester")
                names.append(await whoami())
                await running.node.leases.revocations.revoke(old, "tester", "leaked")
                names.append(await whoami())
                assert names[0] != names[1] == names[2]
                used = {sent.headers["authorization"] for sent in api.seen}
                assert len(used) == 2
                assert not any(running.token in one for one in used)
                await running.node.tasks.end(running.task.id, TaskState.COMPLETED, by="tester")
                await running.node.end_task(running.task.id)
                assert (await client.get(url)).status_code == 401
        with server.root() as root:
            assert root.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall() == [(0,)]

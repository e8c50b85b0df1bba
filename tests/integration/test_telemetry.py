"""Traces: a real gateway tells a receiver that parses OTLP by the official package; the agent's trace goes through; no secret is in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys

import httpx2 as httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from remit.cli.server import serving
from remit.errors import Mistake
from remit.logic.telemetry import outgoing, trace_context
from remit.node import open_node
from remit.services.configuration import load_configuration
from tests.e2e.gateway import gateway, http, until
from tests.servers.crm import crm

pytestmark = pytest.mark.anyio
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-00"
SECRET = "s3cret-argument-value"
META = "io.modelcontextprotocol/"
TOOL = {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Receiver:
    """Takes traces as a collector does; ``status``: what it answers."""

    def __init__(self) -> None:
        self.status, self.requests, self.spans, self.resources = 200, 0, [], []

    async def take(self, request) -> Response:
        self.requests += 1
        told = ExportTraceServiceRequest.FromString(await request.body())
        assert request.headers["x-collector"] == "yes"
        if self.status == 200:
            for resource in told.resource_spans:
                self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return Response(b"", self.status, media_type="application/x-protobuf")

    def named(self, name: str) -> list:
        return [span for span in self.spans if span.name == name]


class Upstream:
    """A stateless MCP server that keeps what it was sent; a stand-in, because no real one shows its requests' bytes."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict, dict]] = []

    async def answer(self, request) -> Response:
        message = json.loads(await request.body())
        result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if message["method"] == "server/discover":
            result |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        elif message["method"] == "tools/list":
            result |= {"tools": [TOOL]}
        elif message["method"] != "tools/call":
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "unknown"}}, 404)
        else:
            self.calls.append((message, dict(request.headers)))
            text = message["params"]["arguments"].get("text", "")
            result |= {"content": [{"type": "text", "text": text}], "isError": text == "fail"}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


@contextlib.asynccontextmanager
async def traced(tmp_path, more: str = "", **options):
    receiver, upstream = Receiver(), Upstream()
    collector = Starlette(routes=[Route("/v1/traces", receiver.take, methods=["POST"])])
    server = Starlette(routes=[Route("/mcp", upstream.answer, methods=["POST"])])
    async with serving(collector, "127.0.0.1", 0) as port, serving(server, "127.0.0.1", 0) as server_port:
        telemetry = f'[telemetry]\nendpoint = "http://127.0.0.1:{port}/v1/traces"\nheaders = {{ X-Collector = "yes" }}\n{more}'
        servers = http("up", f"http://127.0.0.1:{server_port}/mcp")
        async with gateway(tmp_path, servers, more=telemetry, deciding=True, **options) as running:
            yield running, receiver, upstream


async def call(running, text: str, *, tool: str = "echo", meta: dict | None = None, headers: dict | None = None) -> dict:
    said = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}, **(meta or {})}
    params = {"name": tool, "arguments": {"text": text}, "_meta": said}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    wire = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool, **(headers or {})}
    async with httpx.AsyncClient() as client:
        return (await client.post(running.url("up"), json=message, headers=wire)).json()


def attributes(span) -> dict:
    found = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        values = one.value.array_value.values if kind == "array_value" else ()
        found[one.key] = [value.string_value for value in values] if kind == "array_value" else getattr(one.value, kind)
    return found


async def test_a_trace_goes_through_the_egress(tmp_path):
    grant = '[[grant]]\ntool = "api/get"\n'
    async with crm() as api:
        more = (
            f'[egress.api]\nurl = "{api.url}"\neffect = "read"\ndata_class = "public"\noperations.get.request = "GET /customers/{{id}}"\n'
        )
        async with traced(tmp_path, more, task=grant) as (running, receiver, _), httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{running.port}/egress/api"
            shown = {"Authorization": f"Bearer {running.token}", "traceparent": PARENT, "tracestate": "a=b", "baggage": SECRET}
            assert (await client.get(f"{url}/customers/7", headers=shown)).status_code == 200
            assert (await client.get(f"{url}/{SECRET}", headers=shown)).status_code == 403
            await until(lambda: len(receiver.named("egress")) > 1)
            (denied,) = [one for one in receiver.named("egress") if one.kind == one.SPAN_KIND_SERVER]
            assert attributes(denied)["error.type"] == "denied"
            (root,), (forward,) = (
                receiver.named("egress get"),
                [one for one in receiver.named("egress") if one.kind == one.SPAN_KIND_CLIENT],
            )
            assert (root.trace_id.hex(), root.parent_span_id.hex(), forward.parent_span_id) == (TRACE, SPAN, root.span_id)
            assert attributes(root.events[0])["remit.decision.outcome"] == "allow"
            (sent,) = api.seen
            assert sent.headers["traceparent"] == f"00-{TRACE}-{forward.span_id.hex()}-01"
            assert sent.headers["tracestate"] == "a=b"
            assert "baggage" not in sent.headers
            assert SECRET not in str(receiver.spans)


async def test_the_agent_s_trace_goes_through_and_says_what_was_decided(tmp_path):
    async with traced(tmp_path) as (running, receiver, upstream):
        answer = await call(running, SECRET, meta={"traceparent": PARENT, "tracestate": "a=b", "baggage": f"user={SECRET}"})
        assert answer["result"]["content"][0]["text"] == SECRET
        await until(lambda: receiver.named("remit.observe"))
        root = next(span for span in receiver.named("tools/call echo") if span.kind == span.SPAN_KIND_SERVER)
        forward = next(span for span in receiver.named("tools/call echo") if span.kind == span.SPAN_KIND_CLIENT)
        decide, record = receiver.named("remit.decide")[0], receiver.named("remit.record")[0]
        assert root.trace_id.hex() == TRACE
        assert root.parent_span_id.hex() == SPAN
        assert decide.parent_span_id == forward.parent_span_id == root.span_id
        assert record.parent_span_id == decide.span_id
        said = attributes(root)
        assert said["gen_ai.tool.name"] == "echo"
        assert said["gen_ai.operation.name"] == "execute_tool"
        assert said["mcp.method.name"] == "tools/call"
        assert said["mcp.protocol.version"] == "2026-07-28"
        assert said["gen_ai.agent.id"] == "spiffe://remit.local/agent/tester"
        assert (said["remit.task.id"], said["remit.server"]) == (running.task.id, "up")
        assert [event.name for event in root.events] == ["remit.decision"]
        assert attributes(root.events[0])["remit.decision.outcome"] == "allow"
        assert attributes(decide)["remit.decision.policies"] == ["all"]
        assert root.status.code == forward.status.code == 0
        assert receiver.resources[0]["service.name"] == "remit"
        message, headers = upstream.calls[0]
        carried = f"00-{TRACE}-{forward.span_id.hex()}-01"
        assert message["params"]["_meta"]["traceparent"] == headers["traceparent"] == carried
        assert message["params"]["_meta"]["tracestate"] == headers["tracestate"] == "a=b"
        assert "baggage" not in message["params"]["_meta"]
        assert SECRET not in str(receiver.spans)


async def test_refusals_failures_and_names_that_an_agent_chose(tmp_path):
    grant = '[[grant]]\ntool = "up/echo"\narguments.properties.text.maxLength = 100\n'
    async with traced(tmp_path, task=grant) as (running, receiver, _):
        await call(running, "x" * 101 + SECRET)
        await call(running, "fail")
        await call(running, "x", tool=SECRET)
        await call(running, "x", headers={"traceparent": PARENT})
        await call(running, "x", meta={"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, headers={"traceparent": "junk"})
        await until(lambda: len([span for span in receiver.spans if span.kind == span.SPAN_KIND_SERVER]) == 5)
        roots = [span for span in receiver.spans if span.kind == span.SPAN_KIND_SERVER]
        assert [span.name for span in roots] == ["tools/call echo", "tools/call echo", "tools/call", "tools/call echo", "tools/call echo"]
        assert [attributes(span).get("error.type") for span in roots] == ["denied", "tool_error", "denied", None, None]
        assert [span.status.code for span in roots] == [2, 2, 2, 0, 0]
        assert attributes(roots[2].events[0])["gen_ai.tool.name"] == "_OTHER"
        assert "arguments_outside_grant" in attributes(roots[0].events[0])["remit.decision.reasons"]
        assert [span.trace_id.hex() == TRACE for span in roots] == [False, False, False, True, False]
        assert SECRET not in str(receiver.spans)


async def test_a_question_is_no_failure(tmp_path):
    async with traced(tmp_path, policy="permit (principal, action, resource) when { context has approval };") as (running, receiver, _):
        await call(running, "x")
        await until(lambda: receiver.named("tools/call echo"))
        root = receiver.named("tools/call echo")[0]
        assert attributes(root.events[0])["remit.decision.outcome"] == "ask"
        assert root.status.code == 0
        assert "error.type" not in attributes(root)


async def test_a_receiver_that_is_away_holds_nothing_up(tmp_path):
    async with asyncio.timeout(60), traced(tmp_path) as (running, receiver, _):  # nor does an end wait for it
        receiver.status = 503
        for _ in range(5):
            assert "result" in await call(running, "x")
        await until(lambda: receiver.requests)
        assert receiver.spans == []


async def test_the_flag_of_an_agent_does_not_choose_what_is_traced(tmp_path):
    async with traced(tmp_path, "sample_percent = 1\n") as (running, receiver, _):
        low = f"00-{'0' * 24}{'00000001'}-{SPAN}-00"  # its id is below one in a hundred, so it is told although the agent says no
        high = f"00-{'f' * 32}-{SPAN}-01"
        await call(running, "x", meta={"traceparent": high})
        await call(running, "x", meta={"traceparent": low})
        await until(lambda: receiver.named("tools/call echo"))
        assert {span.trace_id.hex() for span in receiver.spans} == {low.split("-")[1]}


def test_where_it_is_off_nothing_of_it_is_loaded():
    program = (
        "import sys, remit.node, remit.application, remit.node_metrics\n"
        "print([name for name in sys.modules if name in {'remit.drivers.telemetry', 'opentelemetry.sdk.trace', 'requests'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    (tmp_path / "remit.toml").write_text('[telemetry]\nendpoint = "http://127.0.0.1:1/v1/traces"\n')
    monkeypatch.setitem(sys.modules, "remit.drivers.telemetry", None)
    with pytest.raises(Mistake, match=r"\[telemetry\] names an endpoint") as told:
        async with open_node(tmp_path, deciding=True):
            pass
    assert told.value.hint == "pip install 'remit[otel]'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('endpoint = "collector:4318"', "is no address"),
        ('endpoint = "http://u:p@collector/"', "is no address"),
        ('endpoint = "http://c/"\nsample_percent = 0', "from 1 to 100"),
        ('headers = { Authorization = "Bearer abc" }', "a secret does not stand in remit.toml"),
        ('headers = { "a b" = "x" }', "cannot be sent"),
        ('headers = { Authorization = "Bearer ${NOT_THERE}" }', "the environment has no NOT_THERE"),
        ('service = ""', "service must be"),
        ("endpiont = 1", "'endpiont' is not known here"),
    ],
)
def test_wrong_settings_are_named(tmp_path, text, said):
    (tmp_path / "remit.toml").write_text(f"[telemetry]\n{text}\n")
    with pytest.raises(Mistake, match=said):
        load_configuration(tmp_path)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        PARENT.upper(),
        PARENT + "-x",
        f"ff-{TRACE}-{SPAN}-00",
        f"00-{'0' * 32}-{SPAN}-00",
        PARENT[:-1],
        PARENT + "\n",
        5,
        None,
        "0" * 10**5,
    ],
)
def test_a_context_that_is_none_is_not_followed(parent):
    assert trace_context({"traceparent": parent}) is None


def test_contexts_that_are_some():
    assert trace_context({"traceparent": f"01-{TRACE}-{SPAN}-00-more"}) is not None, "a later version is read as far as this one goes"
    assert trace_context({"traceparent": PARENT, "tracestate": "x" * 513}).state == ""
    assert trace_context({"traceparent": PARENT, "tracestate": ",".join(["a=b"] * 33)}).state == ""
    message = {"method": "tools/list", "id": 1}
    assert outgoing(message, None) is message
    assert outgoing(message, trace_context({"traceparent": PARENT}))["params"] == {"_meta": {"traceparent": PARENT}}

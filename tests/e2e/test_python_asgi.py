"""Routes of an ASGI application as tools, over real sockets: what is refused, what the application sees, what is observed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

import remit
from remit.cli.server import serving
from remit.model.call_record import CallDecided, CallFinished
from tests.e2e.gateway import http_server
from tests.e2e.python_door import Place, async_echo, place, write_folder

body, path, query = remit.asgi.body, remit.asgi.path, remit.asgi.query
ECHO = {"text": body(str)}
TABLE = remit.asgi.Routes(
    remit.asgi.Route("POST", "/echo", "bank/echo", ECHO),
    remit.asgi.Route("POST", "/to/{who}", "bank/send_money", {"recipient": path(str, name="who"), "amount": query(int)}),
    remit.asgi.Route("GET", "/number/{text:int}", "bank/echo", {"text": path(int)}),
    remit.asgi.Route("GET", "/say/{text}", "bank/echo", {"text": path(str)}),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("asgi")
    with http_server("bank.py") as bank:
        write_folder(made, bank)
        yield made


SEEN: list[Any] = []


async def echo(request: Request) -> Response:
    SEEN.append(await request.body())
    return JSONResponse({"said": SEEN[-1].decode()})


async def say(request: Request) -> Response:
    """Answers in the manner that its text names."""
    SEEN.append(request.path_params["text"])
    what = request.path_params["text"]
    if what == "raise":
        raise ValueError("it broke")
    if what == "fail":
        return PlainTextResponse("no", 422)
    if what == "large":
        return PlainTextResponse("x" * 5_000)
    if what == "stream":
        return StreamingResponse(iter(["a", "b", "c"]))
    if what == "binary":
        return Response(b"\xff\xfe")
    if what == "guarded":
        return PlainTextResponse(await async_echo("from inside"))
    if what == "forbidden-inside":
        return PlainTextResponse(await async_echo("forbidden"))
    return PlainTextResponse("said")


async def socket(websocket: Any) -> None:
    SEEN.append("websocket")
    await websocket.accept()
    await websocket.close()


def application() -> Starlette:
    return Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/to/{who}", echo, methods=["POST"]),
            Route("/number/{text}", say),
            Route("/say/{text}", say),
            Route("/health", lambda _: PlainTextResponse("well")),
            Route("/secret", say),
            WebSocketRoute("/ws", socket),
        ]
    )


@dataclass
class Client:
    where: Place
    base: str
    task: str
    token: str

    async def ask(self, method: str, path: str, **words: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", **words.pop("headers", {})}
        async with self.where.client.request(method, self.base + path, headers=headers, **words) as answer:
            text = await answer.text(errors="replace")
            if answer.content_type == "application/problem+json":
                assert "Traceback" not in text
                return answer.status, json.loads(text)
            return answer.status, text

    async def ended(self) -> list[str]:
        allowed = [one for one in await self.where.records(self.task, CallDecided) if one.outcome == "allow"]
        return [one.ending for one in await self.where.until_ended(self.task, len(allowed))]


@contextlib.asynccontextmanager
async def served(folder: Path, make: Callable[[remit.Remit], Any]) -> AsyncIterator[Client]:
    SEEN.clear()
    async with place(folder) as where, remit.connect(where.url) as r, serving(make(r), "127.0.0.1", 0) as port:
        task, token = await where.opened()
        yield Client(where, f"http://127.0.0.1:{port}", task, token)


def guarded(r: remit.Remit) -> Any:
    return remit.asgi.Middleware(application(), r, routes=TABLE, open_paths=["/health"], body_bytes_max=100_000, result_bytes_max=1_000)


def test_the_application_sees_what_was_decided_and_nothing_else(folder):
    async def run() -> None:
        async with served(folder, guarded) as client:
            assert await client.ask("POST", "/echo", json={"text": "x"}) == (200, '{"said":"{\\"text\\": \\"x\\"}"}')
            assert (await client.ask("GET", "/say/hello"))[0] == 200
            status, told = await client.ask("POST", "/to/bob?amount=5", data=b"more that nobody decided on")
            assert (status, told["code"], told["reasons"][0]["code"]) == (403, "needs_approval", "needs_approval")
            await client.where.node.tasks.answer(told["approval"], granted=True, by="bob")
            assert await client.ask("POST", "/to/bob?amount=5", data=b"more that nobody decided on") == (200, '{"said":""}')
            assert await client.ended() == ["ok", "ok", "ok"]
            assert SEEN == [b'{"text": "x"}', "hello", b""]

    asyncio.run(run())


REFUSED = [
    ("POST", "/echo", {"data": b'{"text": "x", "text": "y"}', "headers": {"Content-Type": "application/json"}}, 400, "json"),
    ("POST", "/echo", {"data": b'{"text": NaN}', "headers": {"Content-Type": "application/json"}}, 400, "json"),
    ("POST", "/echo", {"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400, "json"),
    ("POST", "/echo", {"data": b'["x"]', "headers": {"Content-Type": "application/json"}}, 400, "arguments"),
    ("POST", "/echo", {"data": b'{"text": "x"}', "headers": {"Content-Type": "text/plain"}}, 415, "content_type"),
    ("POST", "/echo", {"json": {"text": "x" * 200_000}}, 413, "too_large"),
    ("POST", "/echo", {"json": {"text": "x", "more": 1}}, 403, "denied"),
    ("POST", "/echo?more=1", {"json": {"text": "x"}}, 403, "denied"),
    ("POST", "/echo?text=y", {"json": {"text": "x"}}, 400, "arguments"),
    ("POST", "/echo", {"json": {"text": 5}}, 403, "denied"),
    ("POST", "/to/bob?amount=1&amount=2", {}, 400, "arguments"),
    ("POST", "/to/bob?amount=many", {}, 403, "denied"),
    ("POST", "/to/eve?amount=1", {}, 403, "denied"),
    ("GET", "/number/5", {}, 403, "denied"),
    ("GET", "/secret", {}, 403, "not_mapped"),
    ("GET", "/echo", {}, 403, "not_mapped"),
    ("DELETE", "/say/x", {}, 403, "not_mapped"),
    ("GET", "/say/x/", {}, 403, "not_mapped"),
    ("GET", "/SAY/x", {}, 403, "not_mapped"),
    ("GET", "/ws", {}, 403, "not_mapped"),
    ("GET", "/say/forbidden", {}, 403, "denied"),
    ("GET", "/say/x", {"headers": {"Authorization": ""}}, 401, "unauthenticated"),
    ("GET", "/say/x", {"headers": {"Authorization": "Basic eDp5"}}, 401, "unauthenticated"),
    ("GET", "/say/x", {"headers": {"Authorization": "Bearer nonsense"}}, 401, "unauthenticated"),
]


def test_what_is_refused_never_reaches_the_application(folder):
    async def run() -> None:
        async with served(folder, guarded) as client:
            for method, where, words, status, code in REFUSED:
                got, told = await client.ask(method, where, **words)
                assert (got, told["code"], told["status"]) == (status, code, status), (method, where, told)
            async with client.where.client.get(client.base + "/health") as answer:
                assert (answer.status, await answer.text()) == (200, "well")
            assert SEEN == []

    asyncio.run(run())


def test_how_an_answer_ended_is_told_and_a_large_one_is_withheld(folder):
    async def run() -> None:
        async with served(folder, guarded) as client:
            assert await client.ask("GET", "/say/fail") == (422, "no")
            assert await client.ask("GET", "/say/stream") == (200, "abc")
            assert (await client.ask("GET", "/say/raise"))[0] == 500
            assert await client.ended() == ["tool_error", "ok", "tool_error"]
            client.task, client.token = await client.where.opened()
            status, told = await client.ask("GET", "/say/large")
            assert (status, told["code"]) == (503, "too_large")
            assert (await client.ask("GET", "/say/binary"))[0] == 200
            assert await client.ended() == ["ok", "ok"]
            sizes = [one.size for one in await client.where.records(client.task, CallFinished)]
            assert sorted(sizes) == [0, 6]  # base64 in quotes; what teaches nothing is written a moment later

    asyncio.run(run())


def test_guarded_functions_inside_act_for_the_task_of_the_request(folder):
    async def run() -> None:
        async with served(folder, guarded) as client:
            assert await client.ask("GET", "/say/guarded") == (200, "from inside")
            assert await client.ended() == ["ok", "ok"]
            client.task, client.token = await client.where.opened()
            status, told = await client.ask("GET", "/say/forbidden-inside")
            assert (status, told["code"], told["reasons"][0]["code"]) == (403, "denied", "policy_forbids")

    asyncio.run(run())


def test_a_task_that_ends_while_the_application_works_gets_no_answer(folder):
    async def run() -> None:
        ended: list[Any] = []

        async def slow(request: Request) -> Response:
            where, task = ended
            from remit.model.task import TaskState

            await where.node.tasks.end(task, TaskState.REVOKED, by="alice")
            return PlainTextResponse("what nobody may see any more")

        def make(r: remit.Remit) -> Any:
            return remit.asgi.Middleware(Starlette(routes=[Route("/say/{text}", slow)]), r, routes=TABLE)

        async with served(folder, make) as client:
            ended[:] = [client.where, client.task]
            status, told = await client.ask("GET", "/say/x")
            assert (status, told["code"]) == (401, "unauthenticated")

    asyncio.run(run())


def test_a_dependency_alone_refuses_and_a_websocket_is_closed(folder):
    async def run() -> None:
        rule = remit.asgi.requires("bank/echo", {"text": path(str)})

        async def endpoint(request: Request) -> Response:
            await rule(request)
            SEEN.append("reached")
            return PlainTextResponse("x")

        bare = Starlette(routes=[Route("/say/{text}", endpoint)])
        seen = []

        async def refuses(scope: Any, receive: Any, send: Any) -> None:
            with contextlib.suppress(remit.Refusal):
                await bare(scope, receive, send)

        async with served(folder, lambda _: refuses) as client:
            assert (await client.ask("GET", "/say/x"))[0] == 500
            assert SEEN == []
        async with served(folder, lambda r: remit.asgi.Middleware(bare, r)) as client:
            assert await client.ask("GET", "/say/x") == (200, "x")
            assert (await client.ask("GET", "/say/forbidden"))[0] == 403
        app = remit.asgi.Middleware(application(), remit.connect("http://127.0.0.1:1"), routes=TABLE)

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            seen.append(message)

        await app({"type": "websocket", "path": "/ws", "headers": []}, receive, send)
        assert seen == [{"type": "websocket.close", "code": 1008}]

    asyncio.run(run())


def test_the_middleware_opens_remit_at_its_start_and_says_so_where_it_could_not(folder):
    async def run() -> None:
        async with place(folder) as where:
            _, token = await where.opened()
            r = remit.connect(where.url)
            app = remit.asgi.Middleware(application(), r, routes=TABLE)
            headers = {"Authorization": f"Bearer {token}"}
            async with serving(app, "127.0.0.1", 0) as port:  # without a lifespan
                async with where.client.get(f"http://127.0.0.1:{port}/say/x", headers=headers) as answer:
                    assert (answer.status, (await answer.json(content_type=None))["code"]) == (503, "not_open")
                messages: asyncio.Queue[Any] = asyncio.Queue()
                started = asyncio.Event()

                async def send(message: Any) -> None:
                    if message["type"] == "lifespan.startup.complete":
                        started.set()

                messages.put_nowait({"type": "lifespan.startup"})
                living = asyncio.create_task(app({"type": "lifespan", "app": app, "state": {}}, messages.get, send))
                await started.wait()
                async with where.client.get(f"http://127.0.0.1:{port}/say/x", headers=headers) as answer:
                    assert answer.status == 200
                messages.put_nowait({"type": "lifespan.shutdown"})
                await living
                assert not r.is_open

    asyncio.run(run())

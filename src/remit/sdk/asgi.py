"""HTTP routes of an ASGI application as tools: a middleware with a table, and a dependency for Starlette and FastAPI.

    pay = remit.asgi.Route("POST", "/payments/{account}", "bank/pay",
                           {"account": remit.asgi.path(str), "amount": remit.asgi.body(int)})
    app = remit.asgi.Middleware(app, remit.connect(url), routes=remit.asgi.Routes(pay), open_paths=["/healthz"])

    @app.post("/payments", dependencies=[Depends(remit.asgi.requires("bank/pay", {"amount": remit.asgi.body(int)}))])

Rules: the caller shows its task token as Bearer; a call is decided before the application sees the request, and its answer is
observed before the caller does. With a table, what is in neither the table nor ``open_paths`` is refused. A body is read
strictly and handed on as it was read; a value that stands twice is refused. Left out: answers without end, which are never whole.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.routing import Match
from starlette.routing import Route as _Pattern

from remit.errors import Broken, Mistake, Outage, Refusal, RemitError, Unauthenticated
from remit.sdk.declaration import DECLARES
from remit.sdk.sources import ABSENT, Source, Tool, body, path, query
from remit.sdk.values import RESULT_BYTES_MAX
from remit.wire import BODY_BYTES_MAX, DecisionView, http_status, problem, problem_headers, read_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from remit.sdk.client import Remit, Task

__all__ = ["ABSENT", "Middleware", "Requirement", "Route", "Routes", "Source", "body", "path", "query", "requires"]
_LOG = logging.getLogger("remit")
_HERE = "remit.exchange"
_ERRORS_FROM, _FAULTS_FROM = 400, 500


class Route(Tool):
    """One line of the table: method and path (as Starlette writes them) are this tool."""

    def __init__(self, method: str, pattern: str, tool: str, arguments: Mapping[str, Source], *, description: str = "") -> None:
        super().__init__(tool, arguments, description)
        self._pattern = _Pattern(pattern, _never, methods=[method])

    def matches(self, scope: Scope) -> dict[str, Any] | None:
        """The parts of the path; ``None`` where the request is another one. Starlette's own matching, so that both agree."""
        match, child = self._pattern.matches(scope)
        return dict(child["path_params"]) if match is Match.FULL else None


class Routes:
    """The table. At the top of a module that a python server names, ``remit pin`` finds its tools."""

    def __init__(self, *lines: Route) -> None:
        self.lines = lines
        setattr(self, DECLARES, tuple(each for line in lines for each in line.declaration.exported))


class Requirement(Tool):
    """A dependency: has the request decided and stops it where the answer is not allow. Needs ``Middleware`` around the application."""

    def __init__(self, tool: str, arguments: Mapping[str, Source], description: str = "") -> None:
        super().__init__(tool, arguments, description)
        setattr(self, DECLARES, self.declaration.exported)

    async def __call__(self, request: Request) -> DecisionView:
        """The decision. Raises errors of remit, which the middleware answers with."""
        exchange: _Exchange | None = request.scope.get(_HERE)
        if exchange is None:
            raise Refusal("remit.asgi.Middleware is not around this application, so nothing may be done", code="no_middleware")
        return await exchange.decide(self, await self.arguments_of(request))


def requires(tool: str, arguments: Mapping[str, Source] | None = None, *, description: str = "") -> Requirement:
    """As ``Depends(…)`` in FastAPI; in Starlette await it with the request at the top of an endpoint."""
    return Requirement(tool, arguments or {}, description)


class Middleware:
    """Guards an ASGI application. Opens ``remit`` at its start, where nobody has, and closes it at its end."""

    def __init__(
        self,
        app: ASGIApp,
        remit: Remit,
        *,
        routes: Routes | None = None,
        open_paths: Sequence[str] = (),
        body_bytes_max: int = BODY_BYTES_MAX,
        result_bytes_max: int = RESULT_BYTES_MAX,
    ) -> None:
        """``routes``: the table; without one only dependencies guard. ``open_paths``: handed on undecided by the table."""
        self._app, self._remit, self._routes, self._open_paths = app, remit, routes, frozenset(open_paths)
        self._body_bytes_max, self._result_bytes_max = body_bytes_max, result_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)
        elif self._routes is None or scope.get("path") in self._open_paths:
            await self._app(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # RFC 6455 §7.4.1: against policy

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            if not self._remit.is_open:
                await stack.enter_async_context(self._remit)
            await self._app(scope, receive, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(self._remit, scope, receive, send, self._body_bytes_max, self._result_bytes_max)
        try:
            async with AsyncExitStack() as stack:
                await self._decide(exchange, scope)
                if exchange.shows_token and self._remit.is_open:  # guarded functions inside act for the same task
                    await stack.enter_async_context(exchange.task)
                await exchange.run(self._app, {**scope, _HERE: exchange})
        except RemitError as error:
            await exchange.fail(error)

    async def _decide(self, exchange: _Exchange, scope: Scope) -> None:
        if self._routes is None or scope["path"] in self._open_paths:
            return
        for line in self._routes.lines:
            parts = line.matches(scope)
            if parts is not None:
                request = Request({**scope, "path_params": parts}, exchange.receive)
                arguments = await line.arguments_of(request)
                exchange.replay(await request.body() if line.reads_body else b"")  # a body that is not decided on is not handed on
                await exchange.decide(line, arguments)
                return
        raise Refusal(f"{scope['method']} of this path is no tool that is known here", code="not_mapped")


class _Exchange:
    """One request: who asks, what was decided, and the answer, held back until it was observed."""

    def __init__(self, remit: Remit, scope: Scope, receive: Receive, send: Send, body_bytes_max: int, result_bytes_max: int) -> None:
        self._remit, self._headers, self._receive, self._send = remit, scope["headers"], receive, send
        self._body_bytes_max, self._result_bytes_max = body_bytes_max, result_bytes_max
        self._task: Task | None = None
        self._decisions: list[DecisionView] = []
        self._read = 0
        self._again: bytes | None = None
        self._held: list[Message] = []
        self._held_bytes = self._status = 0
        self._begun = False
        self._refused: RemitError | None = None

    @property
    def task(self) -> Task:
        """The task whose token is shown. Raises Unauthenticated."""
        if self._task is None:
            self._task = self._remit.task_of(_token(self._headers))
        return self._task

    async def decide(self, tool: Tool, arguments: dict[str, Any]) -> DecisionView:
        """Raises Denied, NeedsApproval, Refusal, Mistake, Outage."""
        task = self.task  # who asks comes before whether we can answer
        if not self._remit.is_open:
            raise Outage("remit is not open: the server runs no lifespan", code="not_open")
        try:
            decision = await task.authorize_declared(tool.declaration, arguments)
            if not decision.allowed:
                raise decision.refusal()
        except RemitError as refused:
            self._refused = refused
            raise
        self._decisions.append(decision)
        return decision

    @property
    def shows_token(self) -> bool:
        """Whether the request shows a token, of whatever worth."""
        try:
            return bool(_token(self._headers))
        except Unauthenticated:
            return False

    def replay(self, data: bytes) -> None:
        """Give a body that was read to the application once more."""
        self._again = data

    async def receive(self) -> Message:
        """The server's ``receive``, counted."""
        if self._again is not None:
            data, self._again = self._again, None
            return {"type": "http.request", "body": data, "more_body": False}
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._body_bytes_max:
            raise Mistake(f"the body is larger than {self._body_bytes_max:,} bytes", code="too_large")
        return message

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application; its answer is observed, then released. Raises what is to be answered instead."""
        fault: BaseException | None = None
        try:
            await app(scope, self.receive, self.hold)
        except asyncio.CancelledError:
            await self._tell_all(None, "cancelled")
            raise
        except BaseException as error:
            fault = error
        refused = fault if isinstance(fault, RemitError) else self._refused
        if refused is not None and not self._begun:  # an application that falls over a refusal answers 500; the refusal says more
            await self._tell_all(None, "tool_error")
            raise refused
        if self._held or self._held_bytes > self._result_bytes_max:
            await self._release()
        await self._tell_all(None, "failed")  # where it never answered
        if fault is not None:
            raise fault

    async def hold(self, message: Message) -> None:
        """``send`` of the application: straight on where nothing was decided, held back where something was, or went wrong."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        if not self._decisions and (self._status < _FAULTS_FROM or self._begun):
            self._begun = True
            await self._send(message)
            return
        self._held_bytes += len(message.get("body", b""))
        self._held = [] if self._held_bytes > self._result_bytes_max else [*self._held, message]
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self._status < _FAULTS_FROM:
            await self._release()

    async def _release(self) -> None:
        """Observe the whole answer, then send it."""
        held, self._held = self._held, []
        too_large = self._held_bytes > self._result_bytes_max
        result = None if too_large else _result(b"".join(message.get("body", b"") for message in held), self._result_bytes_max)
        try:
            await self._tell_all(result, "tool_error" if self._status >= _ERRORS_FROM else "ok")
            if too_large:
                raise Outage("the answer is too large and was not passed on; the call was made", code="too_large")
        except RemitError as error:
            self._refused = error
            raise
        self._begun = True
        for message in held:
            await self._send(message)

    async def fail(self, error: RemitError) -> None:
        """Answer with problem details, where nothing has been answered yet."""
        if isinstance(error, Broken):
            _LOG.error("a fault of remit", exc_info=error)
        if self._begun:
            raise error
        self._begun = True
        await self._send({"type": "http.response.start", "status": http_status(error), "headers": problem_headers(error)})
        await self._send({"type": "http.response.body", "body": msgspec.json.encode(problem(error))})

    async def _tell_all(self, result: Any, ending: str) -> None:
        decisions, self._decisions = self._decisions, []
        for decision in decisions:
            await asyncio.shield(asyncio.ensure_future(self.task.observe(decision, result, ending=ending)))


def _result(data: bytes, bytes_max: int) -> Any:
    """An answer's body as JSON, as text, or else in base64."""
    if not data:
        return None
    try:
        return read_json(data, bytes_max=bytes_max)
    except Mistake:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _token(headers: Sequence[tuple[bytes, bytes]]) -> str:
    shown = [value for name, value in headers if name.lower() == b"authorization"]
    scheme, _, token = (shown[0] if len(shown) == 1 else b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("a task token is needed", hint="Authorization: Bearer <task token>, once")
    return token.strip()


async def _never(_: Request) -> Any:
    """Patterns match, they serve nothing."""
    raise NotImplementedError

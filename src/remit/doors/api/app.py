"""The control API: identities, tasks and the ledger over HTTP, beside the gateway. Translates; decides nothing.

An agent proves itself with a JWT-SVID as Bearer to open a task, to renew its token and to end it. What a human operator
does goes through the CLI on the machine itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remit.doors.api.openapi import openapi
from remit.doors.problems import http_status, problem, problem_headers
from remit.errors import Broken, Mistake, NotFound, RemitError, Unauthenticated
from remit.logic.arguments import parse_json
from remit.model.task import TaskState
from remit.wire import OpenTask, TaskView, TokenView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from remit.doors.api.access import AccessDoor
    from remit.drivers.signing import TokenSigner
    from remit.model.identity import Workload
    from remit.model.task import Task
    from remit.services.identities import Identities
    from remit.services.ledger import Ledger
    from remit.services.opening import Dispatcher
    from remit.services.tasks import Tasks
    from remit.services.tokens import Tokens
    from remit.settings import Settings

_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Api:
    identities: Identities
    tokens: Tokens
    tasks: Tasks
    dispatcher: Dispatcher
    ledger: Ledger
    signer: TokenSigner
    settings: Settings
    end_task: Callable[[str], Awaitable[None]]

    async def open_task(self, request: Request) -> Response:
        name, workload = await self._agent(request)
        wanted = await self._body(request, OpenTask)
        task = await self.dispatcher.open(
            agent=name,
            task_type=wanted.type,
            inputs=wanted.inputs,
            on_behalf_of=wanted.on_behalf_of,
            opened_by=workload.agent.text,
        )
        token, expires_at = await self.tokens.issue(task.id, workload.proof)
        view = self._view(task, token=TokenView(access_token=token, expires_at=expires_at))
        return _json(view, 201)

    async def show_task(self, request: Request) -> Response:
        task, _ = await self._own_task(request)
        return _json(self._view(task))

    async def renew_token(self, request: Request) -> Response:
        task, workload = await self._own_task(request)
        token, expires_at = await self.tokens.issue(task.id, workload.proof)
        return _json(TokenView(access_token=token, expires_at=expires_at))

    async def complete_task(self, request: Request) -> Response:
        task, workload = await self._own_task(request)
        ended = await self.tasks.end(task.id, TaskState.COMPLETED, by=workload.agent.text)
        await self.end_task(task.id)
        return _json(self._view(ended))

    async def jwks(self, _request: Request) -> Response:
        return _json(self.signer.jwks())

    async def bundle(self, _request: Request) -> Response:
        return _json(self.signer.bundle(int(self.settings.svid_ttl.total_seconds())))

    async def checkpoint(self, _request: Request) -> Response:
        return PlainTextResponse(await self.ledger.publish())

    async def healthy(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(self, _request: Request) -> Response:
        await self.ledger.checkpoint()
        return PlainTextResponse("ready\n")

    async def document(self, _request: Request) -> Response:
        return _json(openapi())

    async def _own_task(self, request: Request) -> tuple[Task, Workload]:
        """The task of the path, if the proved agent is its agent; to others it does not exist."""
        _, workload = await self._agent(request)
        task = await self.tasks.view(request.path_params["task"])
        if task.agent != workload.agent:
            raise NotFound("there is no such task")
        return task, workload

    async def _agent(self, request: Request) -> tuple[str, Workload]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("a JWT-SVID is needed", hint="Authorization: Bearer <JWT-SVID>")
        try:
            return await self.identities.verify_svid(token.strip())
        except Unauthenticated:
            raise Unauthenticated("the proof of identity does not hold") from None

    async def _body(self, request: Request, kind: type[OpenTask]) -> OpenTask:
        pieces, size = [], 0
        async for piece in request.stream():
            size += len(piece)
            if size > self.settings.limits.body_bytes:
                raise Mistake("the body is too large", code="too_large")
            pieces.append(piece)
        try:
            return msgspec.convert(parse_json(b"".join(pieces)), kind)
        except msgspec.ValidationError as error:
            raise Mistake(str(error), code="body") from None

    def _view(self, task: Task, token: TokenView | None = None) -> TaskView:
        servers = sorted({grant.server for grant in task.grants})
        return TaskView(
            task=task.id,
            type=task.type,
            agent=task.agent.text,
            on_behalf_of=task.on_behalf_of,
            objective=task.objective,
            state=task.state.value,
            deadline=task.deadline,
            calls_allowed=task.calls,
            calls_asked=task.asked,
            calls_denied=task.denied,
            budget_calls=task.budget.calls,
            mcp={server: f"{self.settings.issuer}/mcp/{server}" for server in servers},
            token=token,
        )


def api_app(*, access: AccessDoor, **services: Any) -> ASGIApp:
    """The API as an application. ``access``: the decision API beside it."""
    api = _Api(**services)
    endpoints: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
        ("POST", "/v1/tasks"): api.open_task,
        ("GET", "/v1/tasks/{task}"): api.show_task,
        ("POST", "/v1/tasks/{task}/token"): api.renew_token,
        ("POST", "/v1/tasks/{task}/complete"): api.complete_task,
        ("GET", "/oauth/jwks"): api.jwks,
        ("GET", "/spiffe/bundle"): api.bundle,
        ("GET", "/ledger/checkpoint"): api.checkpoint,
        ("GET", "/healthz"): api.healthy,
        ("GET", "/readyz"): api.ready,
        ("GET", "/openapi.json"): api.document,
    }
    routes = [Route(path, _guarded(endpoint), methods=[method]) for (method, path), endpoint in endpoints.items()]
    return Starlette(routes=[*routes, *access.routes()])


def _guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors in their HTTP form; no caller sees a stack trace."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RemitError as error:
            return _problem(error)
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            return _problem(Broken("fault"))

    return call


def _problem(error: RemitError) -> Response:
    headers = {name.decode(): value.decode() for name, value in problem_headers(error)}
    return Response(msgspec.json.encode(problem(error)), http_status(error), headers)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")

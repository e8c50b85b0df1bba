"""The control API: identities, tasks, their calls and the ledger over HTTP, beside the gateway. Translates; decides nothing.

An agent proves itself with a token as Bearer or by its connection (``tasks.py`` says with what for what). Approvers answer in
``approvals.py``. What a human operator does goes through the CLI on the machine itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remit.doors.answers import guarded, json_answer
from remit.doors.api.approvals import ApproversApi
from remit.doors.api.openapi import openapi
from remit.doors.bodies import whole_body
from remit.doors.peer import shown_by
from remit.errors import Mistake, Unauthenticated
from remit.logic.arguments import parse_json
from remit.wire import AuthorizeCall, DelegateTask, ObserveCall, OpenTask, ReportManifest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from remit.doors.api.access import AccessDoor
    from remit.doors.api.leases import LeasesApi
    from remit.doors.api.tasks import TaskDoor
    from remit.drivers.signing import TokenSigner
    from remit.model.token import Presented
    from remit.services.approvals import Approvals
    from remit.services.invitations import Invitations
    from remit.services.ledger import Ledger
    from remit.settings import Settings

Words = TypeVar("Words")
_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Api:
    door: TaskDoor
    ledger: Ledger
    signer: TokenSigner
    trust_bundle: Callable[[], Awaitable[dict[str, Any]]]
    settings: Settings

    async def open_task(self, request: Request) -> Response:
        return json_answer(await self.door.open(self._shown(request), self._body(request, OpenTask)), 201)

    async def delegate_task(self, request: Request) -> Response:
        read = self._body(request, DelegateTask)
        return json_answer(await self.door.delegate(self._shown(request), request.path_params["task"], read), 201)

    async def show_task(self, request: Request) -> Response:
        return json_answer(await self.door.show(self._shown(request), request.path_params["task"]))

    async def renew_token(self, request: Request) -> Response:
        return json_answer(await self.door.renew(self._shown(request), request.path_params["task"]))

    async def complete_task(self, request: Request) -> Response:
        return json_answer(await self.door.complete(self._shown(request), request.path_params["task"]))

    async def report_manifest(self, request: Request) -> Response:
        read = self._body(request, ReportManifest)
        return json_answer(await self.door.manifest(self._shown(request), request.path_params["task"], read))

    async def authorize_call(self, request: Request) -> Response:
        read = self._body(request, AuthorizeCall)
        return json_answer(await self.door.authorize(self._shown(request), request.path_params["task"], read))

    async def observe_call(self, request: Request) -> Response:
        read = self._body(request, ObserveCall, self.settings.limits.result_bytes)
        await self.door.observe(self._shown(request), request.path_params["task"], read)
        return Response(status_code=204)

    async def bundle(self, _request: Request) -> Response:
        return json_answer(await self.trust_bundle())

    async def checkpoint(self, _request: Request) -> Response:
        return PlainTextResponse(await self.ledger.publish())

    async def healthy(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(self, _request: Request) -> Response:
        await self.ledger.checkpoint()
        return PlainTextResponse("ready\n")

    async def document(self, _request: Request) -> Response:
        return json_answer(openapi())

    def _shown(self, request: Request) -> Presented:
        """What the caller shows: a JWT-SVID, an OIDC issuer's token, a task token, or the X.509-SVID of its connection."""
        shown = shown_by(request, self.settings.issuer)
        if not shown:
            hint = "Authorization: Bearer <JWT-SVID, OIDC or task token>"
            raise Unauthenticated("a proof of identity or a task token is needed", hint=hint)
        return shown

    def _body(self, request: Request, kind: type[Words], bytes_max: int = 0) -> Callable[[], Awaitable[Words]]:
        limits = self.settings.limits
        most = max(bytes_max, limits.body_bytes)

        async def read() -> Words:
            body = await whole_body(request.receive, most)
            try:
                return msgspec.convert(parse_json(body, depth_max=limits.json_depth + 1, bytes_max=most), kind)
            except msgspec.ValidationError as error:
                raise Mistake(str(error), code="body") from None

        return read


def api_app(
    *,
    access: AccessDoor,
    approvals: Approvals,
    invitations: Invitations,
    leases: LeasesApi,
    nonce: Callable[[], str],
    more: Sequence[Route] = (),
    **services: Any,
) -> Starlette:
    """The API as an application. ``access``: the decision API beside it; ``nonce``: for DPoP proofs; ``more``: further doors."""
    api, approvers = _Api(**services), ApproversApi(approvals=approvals, invitations=invitations)
    endpoints: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
        ("POST", "/v1/tasks"): api.open_task,
        ("GET", "/v1/tasks/{task}"): api.show_task,
        ("POST", "/v1/tasks/{task}/children"): api.delegate_task,
        ("POST", "/v1/tasks/{task}/token"): api.renew_token,
        ("POST", "/v1/tasks/{task}/complete"): api.complete_task,
        ("POST", "/v1/tasks/{task}/manifest"): api.report_manifest,
        ("POST", "/v1/tasks/{task}/authorize"): api.authorize_call,
        ("POST", "/v1/tasks/{task}/observe"): api.observe_call,
        ("GET", "/v1/leases"): leases.list,
        ("GET", "/v1/approvals"): approvers.list,
        ("GET", "/v1/approvals/{approval}"): approvers.show,
        ("POST", "/v1/approvals/{approval}"): approvers.answer,
        ("GET", "/approve/{token}"): approvers.page,
        ("POST", "/approve/{token}"): approvers.posted,
        ("GET", "/spiffe/bundle"): api.bundle,
        ("GET", "/ledger/checkpoint"): api.checkpoint,
        ("GET", "/healthz"): api.healthy,
        ("GET", "/readyz"): api.ready,
        ("GET", "/openapi.json"): api.document,
    }
    routes = [Route(path, guarded(endpoint, nonce), methods=[method]) for (method, path), endpoint in endpoints.items()]
    return Starlette(routes=[*routes, *access.routes(), *more])

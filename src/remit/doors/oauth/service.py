"""The token service over HTTP: tokens, introspection, revocation, keys and metadata. Translates; decides nothing.

Rules: parameters come in a form, in the body, each once, bounded in bytes and time; answers are never kept by anybody on the way. A
refusal is an OAuth error code and plain words; why a proof does not hold stays in the ledger. Left out: the front channel for
people, which gets a door of its own beside this one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from remit.doors.oauth.forms import credential_of, posted_form
from remit.doors.oauth.metadata import (
    AUTHORIZE,
    INTROSPECT,
    JWKS,
    METADATA,
    MISSION_LIFECYCLE,
    MISSION_STATUS,
    OPENID,
    RESOURCE,
    REVOKE,
    STATUS_LIST,
    TOKEN,
    inserted,
    resource_metadata,
    server_metadata,
)
from remit.doors.problems import oauth_error
from remit.errors import Broken, Mistake, NotFound, RemitError
from remit.logic.missions import STATUS_TYPE
from remit.logic.status_list import STATUS_LIST_TYPE
from remit.logic.token_requests import one, token_request
from remit.model.access import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.requests import Request

    from remit.drivers.signing import TokenSigner
    from remit.logic.token_requests import Form
    from remit.model.token import Client, TokenAnswer, TokenRules
    from remit.services.callers import Callers
    from remit.services.exchange import Exchange
    from remit.services.introspection import Introspection
    from remit.services.missions import Missions
    from remit.services.possession import Possessions
    from remit.services.public_clients import PublicClients
    from remit.services.status_lists import StatusLists

_BODY_BYTES_MAX = 262_144  # three tokens of the largest kind and the task's inputs
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
_LOG = logging.getLogger("remit")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDoor:
    """``issuer``: our URL. ``servers``: names of the gateway's servers now. ``front``: clients that people drive, where they may.

    ``lists``: status lists, where they are served.
    """

    exchange: Exchange
    introspection: Introspection
    missions: Missions
    callers: Callers
    possessions: Possessions
    signers: tuple[TokenSigner, ...]
    rules: TokenRules
    issuer: str
    servers: Callable[[], Collection[str]]
    front: PublicClients | None = None
    lists: StatusLists | None = None

    def routes(self) -> list[Route]:
        """The endpoints."""
        metadata = {METADATA, OPENID, inserted(METADATA, self.issuer), inserted(OPENID, self.issuer)}
        return [
            Route(TOKEN, self._guarded(self._token), methods=["POST"]),
            Route(INTROSPECT, self._guarded(self._introspect), methods=["POST"]),
            Route(REVOKE, self._guarded(self._revoke), methods=["POST"]),
            Route(MISSION_STATUS, self._guarded(self._mission_status), methods=["POST"]),
            Route(MISSION_LIFECYCLE, self._guarded(self._mission_lifecycle), methods=["POST"]),
            *(() if self.front else (Route(AUTHORIZE, self._guarded(self._authorize), methods=["GET"]),)),
            *((Route(STATUS_LIST, self._guarded(self._status_list), methods=["GET"]),) if self.lists else ()),
            Route(JWKS, self._guarded(self._jwks), methods=["GET"]),
            *(Route(path, self._guarded(self._metadata), methods=["GET"]) for path in sorted(metadata)),
            *(Route(RESOURCE + path, self._guarded(self._resource), methods=["GET"]) for path in ("/mcp", "/mcp/{server}")),
        ]

    async def _token(self, request: Request) -> Response:
        asked = token_request(await posted_form(request, _BODY_BYTES_MAX))
        return _json(_answer(await self.exchange.answer(asked, credential_of(request, self.issuer + TOKEN))), secret=True)

    async def _introspect(self, request: Request) -> Response:
        form = await posted_form(request, _BODY_BYTES_MAX)
        caller = await self._caller(request, form)
        return _json(await self.introspection.introspect(caller, _token_of(form)), secret=True)

    async def _revoke(self, request: Request) -> Response:
        form = await posted_form(request, _BODY_BYTES_MAX)
        client = await self._client(form, "revoke")
        await self.introspection.revoke(client.agent, _token_of(form))
        return Response(status_code=200, headers={"Cache-Control": "no-store"})

    async def _mission_status(self, request: Request) -> Response:
        form = await posted_form(request, _BODY_BYTES_MAX)
        client = await self._client(form, "mission status")
        told = await self.missions.status(client, one(form, "mission_id"), one(form, "nonce"))
        return Response(told, headers={"Cache-Control": "no-store"}, media_type=f"application/{STATUS_TYPE}")

    async def _mission_lifecycle(self, request: Request) -> Response:
        form = await posted_form(request, _BODY_BYTES_MAX)
        client = await self._client(form, "mission lifecycle")
        state = await self.missions.change(client, one(form, "mission_id"), one(form, "operation"))
        return _json({"mission_id": one(form, "mission_id"), "state": state.value}, secret=True)

    async def _authorize(self, _request: Request) -> Response:
        raise Mistake("no response type is supported: nobody can sign in here", code="invalid_request")

    async def _status_list(self, request: Request) -> Response:
        assert self.lists is not None
        try:
            token, seconds = await self.lists.list(request.path_params["which"])
        except NotFound:
            return Response(status_code=404)
        return Response(token, headers={"Cache-Control": f"max-age={seconds}"}, media_type=f"application/{STATUS_LIST_TYPE}")

    async def _jwks(self, _request: Request) -> Response:
        return _json({"keys": [key for signer in self.signers for key in signer.jwks()["keys"]]})

    async def _metadata(self, _request: Request) -> Response:
        return _json(server_metadata(self.issuer, self.exchange.grant_types, self.rules, self.front))

    async def _resource(self, request: Request) -> Response:
        name: str = request.path_params.get("server", "")
        if name and name not in self.servers():
            return Response(status_code=404)
        return _json(resource_metadata(self.issuer, f"/mcp/{name}" if name else "/mcp", name, self.rules))

    async def _client(self, form: Form, wants: str) -> Client:
        assertion = (one(form, "client_assertion_type"), one(form, "client_assertion"), one(form, "client_id"))
        return await self.introspection.client(*assertion, wants=wants)

    async def _caller(self, request: Request, form: Form) -> Caller:
        """An agent by its assertion, or whoever the decision API knows, by what it presents there."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if credential:
            return await self.callers.caller(credential.strip() if scheme.lower() == "bearer" else "-", "")
        client = await self._client(form, "introspect")
        return Caller(name=client.name, agent=client.agent)

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Errors in OAuth's form; no caller sees a stack trace."""

        async def call(request: Request) -> Response:
            try:
                return await endpoint(request)
            except RemitError as error:
                return self._failed(error)
            except Exception as error:
                _LOG.error("a fault of remit", exc_info=error)
                return self._failed(Broken("fault"))

        return call

    def _failed(self, error: RemitError) -> Response:
        status, body, headers = oauth_error(error)
        if error.code == "use_dpop_nonce":
            headers["DPoP-Nonce"] = self.possessions.nonce()
        return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def _token_of(form: Form) -> str:
    token = one(form, "token")
    if not token:
        raise Mistake("token is missing", code="invalid_request")
    return token


def _answer(given: TokenAnswer) -> Json:
    """RFC 6749 §5.1, RFC 8693 §2.2.1, RFC 9396 §7. ``issued_token_type`` is told whatever the grant type."""
    return {
        "access_token": given.access_token,
        "issued_token_type": _ACCESS_TOKEN,
        "token_type": given.token_type,
        "expires_in": given.expires_in,
        "authorization_details": list(given.details),
        **({"scope": given.scope} if given.scope else {}),
        **({"refresh_token": given.refresh_token} if given.refresh_token else {}),
    }


def _json(value: object, *, secret: bool = False) -> Response:
    headers = {"Cache-Control": "no-store"} if secret else {}
    return Response(msgspec.json.encode(value), headers=headers, media_type="application/json")

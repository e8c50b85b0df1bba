"""The decision API: OpenID AuthZEN Authorization API 1.0. Translates; decides nothing.

Rules: 200 also for a denial; an error is a status and a sentence (§10.1.2); ``X-Request-ID`` comes back as it came. The metadata
names what is served, and is served only where we are reached by https, as it must be.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remit.doors.answers import json_answer
from remit.doors.api.access_words import question, questions, search
from remit.doors.bodies import whole_body
from remit.doors.challenges import dpop_challenge
from remit.doors.peer import shown_by
from remit.doors.problems import http_status
from remit.errors import Broken, Mistake, NotFound, Outage, RemitError, Unauthenticated
from remit.logic.arguments import parse_json
from remit.model.access import Sought

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from remit.model.access import Caller
    from remit.services.access import Access
    from remit.services.access_search import AccessSearch
    from remit.services.callers import Callers

_PORT = re.compile(r":\d{1,5}\Z")
_LOG = logging.getLogger("remit")
METADATA_PATH = "/.well-known/authzen-configuration"
SIGNED_METADATA = "authzen-configuration+jwt"  # no token of ours has this type, so it opens nothing
PATHS = {
    "access_evaluation_endpoint": "/access/v1/evaluation",
    "access_evaluations_endpoint": "/access/v1/evaluations",
    "search_subject_endpoint": "/access/v1/search/subject",
    "search_resource_endpoint": "/access/v1/search/resource",
    "search_action_endpoint": "/access/v1/search/action",
}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDoor:
    """``issuer``: the address we are known by; ``hosts``: names by which a caller without proof may reach us. ``signed``: signs the
    metadata, with a type of its own, by a key of ``/oauth/jwks``.

    ``body_bytes_max`` and ``depth_max`` bound a request, ``evaluations_max`` its items.
    """

    access: Access
    searches: AccessSearch
    callers: Callers
    issuer: str
    hosts: frozenset[str]
    body_bytes_max: int
    depth_max: int
    evaluations_max: int
    signed: Callable[[Json, str], str]
    nonce: Callable[[], str]

    def routes(self) -> list[Route]:
        """The endpoints."""
        evaluation, evaluations, *sought = PATHS.values()
        return [
            Route(evaluation, self._guarded(self._evaluation), methods=["POST"]),
            Route(evaluations, self._guarded(self._evaluations), methods=["POST"]),
            *(Route(path, self._guarded(self._search(kind)), methods=["POST"]) for path, kind in zip(sought, Sought, strict=True)),
            Route(METADATA_PATH + "{tenant:path}", self._guarded(self._metadata), methods=["GET"]),
        ]

    async def _evaluation(self, request: Request) -> Response:
        caller, body = await self._asked(request)
        return json_answer((await self.access.evaluate(caller, question(body))).words)

    async def _evaluations(self, request: Request) -> Response:
        caller, body = await self._asked(request)
        many = questions(body, self.evaluations_max)
        if many is None:
            return json_answer((await self.access.evaluate(caller, question(body))).words)
        answers = await self.access.evaluate_many(caller, *many)
        return json_answer({"evaluations": [answer.words for answer in answers]})

    def _search(self, sought: Sought) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            caller, body = await self._asked(request)
            asked, page = search(body, sought)
            found = await self.searches.search(caller, sought, asked, page)
            paged = page.limit or page.token or found.next_token
            shown: Json = {"page": {"next_token": found.next_token, "count": len(found.results)}} if paged else {}
            return json_answer({**shown, "results": found.results})

        return call

    async def _metadata(self, request: Request) -> Response:
        issuer = urlsplit(self.issuer)
        if issuer.scheme != "https" or request.path_params["tenant"] != issuer.path:  # §9.2: between host and path
            raise NotFound("there is no metadata here: server.issuer is no https address, or another one")
        plain = {"policy_decision_point": self.issuer, **{name: self.issuer + path for name, path in PATHS.items()}}
        return json_answer({**plain, "signed_metadata": self.signed({**plain, "iss": self.issuer}, SIGNED_METADATA)})

    async def _asked(self, request: Request) -> tuple[Caller, object]:
        """Who asks, then what: a stranger's body is not parsed."""
        caller = await self.callers.caller(shown_by(request, self.issuer), self._address(request))
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Mistake("Content-Type must be application/json", code="body")
        body = await whole_body(request.receive, self.body_bytes_max)
        return caller, parse_json(body, depth_max=self.depth_max, bytes_max=self.body_bytes_max)

    def _address(self, request: Request) -> str:
        """Where a request comes from; "" where a web page may have sent it (it has an origin, or reached us by another name)."""
        by_page = "origin" in request.headers or _PORT.sub("", request.headers.get("host", "")) not in self.hosts
        return request.client.host if request.client and not by_page else ""

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Errors in AuthZEN's form, and the request's id in every answer; no caller sees a stack trace."""

        async def call(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except RemitError as error:
                response = _sentence(error)
                response.headers.update(dpop_challenge(error, self.nonce))
            except Exception as error:
                _LOG.error("a fault of remit", exc_info=error)
                response = _sentence(Broken("fault"))
            identifier = request.headers.get("x-request-id")
            if identifier is not None:
                response.headers["X-Request-ID"] = identifier
            return response

        return call


def _sentence(error: RemitError) -> Response:
    status = http_status(error)
    if status == 500:
        return PlainTextResponse("remit has a fault; its log says more", 500)
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Outage):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return PlainTextResponse(error.message, status, headers)

"""HTTP answers that several doors give alike: JSON, and problems (RFC 9457) in place of whatever went wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from remit.doors.challenges import dpop_challenge
from remit.doors.problems import http_status, problem, problem_headers
from remit.errors import Broken, RemitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

_LOG = logging.getLogger("remit")


def guarded(
    endpoint: Callable[[Request], Awaitable[Response]], nonce: Callable[[], str] | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """Errors in their HTTP form; no caller sees a stack trace. ``nonce``: a fresh one for DPoP proofs, where those are taken."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RemitError as error:
            return problem_answer(error, dpop_challenge(error, nonce) if nonce else {})
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            return problem_answer(Broken("fault"))

    return call


def problem_answer(error: RemitError, more: Mapping[str, str] | None = None) -> Response:
    """An error as problem details. ``more``: headers, also in the place of others."""
    headers = {name.decode(): value.decode() for name, value in problem_headers(error)} | dict(more or {})
    return Response(msgspec.json.encode(problem(error)), http_status(error), headers)


def json_answer(value: object, status: int = 200, *, kept: bool = True) -> Response:
    """A value as JSON. ``kept``: whether anybody on the way may keep it."""
    return Response(msgspec.json.encode(value), status, None if kept else {"cache-control": "no-store"}, media_type="application/json")

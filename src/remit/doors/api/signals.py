"""Signals from outside: RFC 8935 push at ``/ssf/receive/NAME``. Translates; decides nothing.

Rules: who pushes is asked before anything is read. Accepted is 202 with an empty body, and then it is in force. A refusal is JSON with
``err`` and ``description`` (RFC 8935 §2.3), and says no more than its code's sentence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from remit.doors.problems import http_status
from remit.errors import Broken, Mistake, Outage, RemitError, Unauthenticated

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.services.signals import Signals

_LOG = logging.getLogger("remit")
_MEDIA_TYPE = "application/secevent+jwt"
_CODES = frozenset({"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed", "access_denied"})
RECEIVE_PATH = "/ssf/receive/{transmitter}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsDoor:
    """Where transmitters push."""

    signals: Signals

    def routes(self) -> list[Route]:
        """The endpoint."""
        return [Route(RECEIVE_PATH, self._guarded, methods=["POST"])]

    async def _guarded(self, request: Request) -> Response:
        try:
            await self._pushed(request)
        except RemitError as error:
            return _refusal(error)
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            return _refusal(Broken("remit has a fault; its log says more"))
        return Response(status_code=202, headers={"cache-control": "no-store"})

    async def _pushed(self, request: Request) -> None:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        presented = credential.strip() if scheme.lower() == "bearer" else ""
        name = request.path_params["transmitter"]
        known = self.signals.pusher(name, presented) is not None
        token = await self._body(request) if known else b""
        if known and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
            raise Mistake(f"Content-Type must be {_MEDIA_TYPE}", code="invalid_request")
        await self.signals.pushed(name, presented, token)

    async def _body(self, request: Request) -> bytes:
        pieces, size = [], 0
        async for piece in request.stream():
            size += len(piece)
            if size > self.signals.bytes_max:
                break  # so that the receiver sees that it is too long, and records it
            pieces.append(piece)
        return b"".join(pieces) if size <= self.signals.bytes_max else b"." * (self.signals.bytes_max + 1)


def _refusal(error: RemitError) -> Response:
    headers = {"cache-control": "no-store"}
    if isinstance(error, Outage):
        headers["retry-after"] = str(error.retry_after_seconds)
        return Response(status_code=503, headers=headers)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    elif not isinstance(error, Mistake):
        return Response(status_code=http_status(error), headers=headers)
    code = error.code if error.code in _CODES else "invalid_request"
    body = msgspec.json.encode({"err": code, "description": error.message})
    return Response(body, 401 if isinstance(error, Unauthenticated) else 400, headers, media_type="application/json")

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

from remit.doors.bodies import whole_body
from remit.doors.problems import http_status
from remit.errors import Broken, Mistake, Outage, RemitError, Unauthenticated
from remit.logic.signals import CODES

if TYPE_CHECKING:
    from starlette.requests import Request

    from remit.services.signals import Signals

_LOG = logging.getLogger("remit")
_MEDIA_TYPE = "application/secevent+jwt"
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
        token = b""
        if known:
            try:
                token = await whole_body(request.receive, self.signals.bytes_max)
                if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
                    raise Mistake(f"Content-Type must be {_MEDIA_TYPE}", code="invalid_request")
            except Mistake as refusal:
                await self.signals.refuse(name, "push", refusal)
                raise
        await self.signals.pushed(name, presented, token)


def _refusal(error: RemitError) -> Response:
    headers = {"cache-control": "no-store"}
    if isinstance(error, Outage):
        headers["retry-after"] = str(error.retry_after_seconds)
        return Response(status_code=503, headers=headers)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    elif not isinstance(error, Mistake):
        return Response(status_code=http_status(error), headers=headers)
    code = error.code if error.code in CODES else "invalid_request"
    body = msgspec.json.encode({"err": code, "description": error.message})
    return Response(body, http_status(error), headers, media_type="application/json")

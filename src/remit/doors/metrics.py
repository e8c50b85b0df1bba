"""``/metrics``: a node's numbers for Prometheus, in its text format. Translates; decides nothing but who may look.

Rules: only processes of this machine look (``server.metrics = "loopback"``), by one of the host names that are served, so that no
web page reads it by a name that leads here; and nothing that a proxy on this machine has forwarded counts as of this machine.
``"anyone"`` lifts that, ``"off"`` serves nobody. Who may not look learns nothing: it is not there.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from remit.doors.answers import problem_answer
from remit.errors import Broken, NotFound, RemitError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from remit.services.metrics import Metrics

PATH = "/metrics"
_LOG = logging.getLogger("remit")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsDoor:
    """``who``: ``loopback``, ``anyone`` or ``off``. ``hosts``: values of the Host header, without a port, for ``loopback``."""

    metrics: Metrics
    who: str
    hosts: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, HTTP only."""
        request = Request(scope, receive)
        try:
            if not self._admits(request) or request.method not in {"GET", "HEAD"}:
                raise NotFound("there is nothing here")
            headers = {"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"}
            response = Response(await self.metrics.text(), 200, headers)
        except RemitError as error:
            response = problem_answer(error)
        except Exception as error:
            _LOG.error("a fault of remit", exc_info=error)
            response = problem_answer(Broken("fault"))
        await response(scope, receive, send)

    def _admits(self, request: Request) -> bool:
        if self.who != "loopback":
            return self.who == "anyone"
        if request.client is None or any(name in request.headers for name in _FORWARDED):
            return False
        try:
            peer = ipaddress.ip_address(request.client.host)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)
        return (mapped or peer).is_loopback and _name(request.headers.get("host", "")) in self.hosts


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host

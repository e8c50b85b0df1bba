"""What the gateway tells the traces of a request: the decision, how it went on to a server, how it failed. Decides nothing.

Rules: as ``logic/telemetry.py``. A question to a person is no failure of its span; a denial is one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from remit.drivers.upstream_http import HttpUpstream
from remit.errors import Outage
from remit.logic.telemetry import (
    DECIDED,
    DENIED,
    TOOL,
    TOOL_ERROR,
    TRACEPARENT,
    TRACESTATE,
    decision_attributes,
    forward_attributes,
    method_name,
    outgoing,
    span_name,
)
from remit.model.catalog import Kind
from remit.model.decision import Deny
from remit.services.mediation import Ticket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remit.doors.gateway.links import Link
    from remit.drivers.base import Message
    from remit.drivers.spans import Spans
    from remit.model.call import Call
    from remit.services.mediation import Refused


def tell_decision(spans: Spans, call: Call, verdict: Ticket | Refused, *, listed: bool, method: str = "tools/call") -> None:
    """Tell the request's span what was decided. ``listed``: its server has a tool of that name. ``method``: what the span is called."""
    if not spans.on:
        return
    span, known = spans.current(), listed or isinstance(verdict, Ticket)
    span.event(DECIDED, decision_attributes(call, verdict.decision, verdict.decision_id, known=known))
    if known and call.kind is Kind.TOOL:
        span.set({TOOL: call.name}, span_name(method, call.name))
    if isinstance(verdict.decision, Deny):
        span.failed(DENIED)


def tell_failure(spans: Spans, answer: Message | Outage) -> None:
    """Tell the innermost span how a server failed, if it did."""
    if not spans.on:
        return
    kind = answer.code if isinstance(answer, Outage) else _failure(answer)
    if kind:
        spans.current().failed(kind)


@contextlib.contextmanager
def forwarding(
    spans: Spans, link: Link, message: Message, headers: Mapping[str, str] | None
) -> Iterator[tuple[Message, Mapping[str, str] | None]]:
    """A span for a request to a server; gives the message and the headers that carry the trace on."""
    if not spans.on:
        yield outgoing(message, None), headers
        return
    tool = str(message["params"]["name"]) if message["method"] == "tools/call" else ""
    attributes = forward_attributes(message, tool, link.server, "tcp" if isinstance(link.upstream, HttpUpstream) else "pipe")
    with spans.span(span_name(method_name(message), tool), attributes, kind="client"):
        own = spans.context()
        if own is not None:
            headers = {**(headers or {}), TRACEPARENT: own.parent, **({TRACESTATE: own.state} if own.state else {})}
        yield outgoing(message, own), headers


def _failure(answer: Message) -> str:
    error, result = answer.get("error"), answer.get("result")
    if isinstance(error, dict):
        return str(error["code"]) if isinstance(error.get("code"), int) else TOOL_ERROR
    return TOOL_ERROR if isinstance(result, dict) and result.get("isError") is True else ""

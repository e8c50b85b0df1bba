"""Traces for others to look at, by OpenTelemetry's SDK: OTLP over HTTP, in batches, from a thread of its own.

Rules: nothing here is on the road of a call but putting a finished span into a bounded queue; what does not fit is dropped and counted.
Only the configured address is asked: no proxies from the environment, no redirects. An exception gives its span a fixed word, never its
message. The sampled flag that an agent sends is not looked at; the share of traces is by their ids, of which an agent may choose its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import requests
from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from remit.drivers.spans import SPANS_OFF
from remit.errors import RemitError
from remit.logic.telemetry import CANCELLED, DECIDE, ERROR_TYPE, OTHER, TRACEPARENT, TRACESTATE, TraceContext

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

    from remit.drivers.spans import Span
    from remit.logic.telemetry import Attributes

_QUEUE, _BATCH, _DELAY_MILLISECONDS = 4_096, 512, 1_000
_EXPORT_SECONDS, _CLOSE_SECONDS = 5.0, 3.0
_ATTRIBUTE_CHARACTERS, _ATTRIBUTES, _EVENTS, _LINKS = 256, 32, 8, 4
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry:
    """See ``spans.Spans``."""

    on = True

    def __init__(self, endpoint: str, headers: Mapping[str, str], *, service: str, version: str, node: str, sample_percent: int) -> None:
        """``endpoint``: the whole address, ``…/v1/traces``. ``node``: names this process among others of the service."""
        session = requests.Session()
        session.trust_env, session.max_redirects = False, 0
        self._counted = _Counting(OTLPSpanExporter(endpoint, headers=dict(headers), timeout=_EXPORT_SECONDS, session=session))
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(sample_percent / 100),
            resource=Resource({"service.name": service, "service.version": version, "service.instance.id": node}),
            shutdown_on_exit=False,
            span_limits=SpanLimits(
                max_span_attributes=_ATTRIBUTES,
                max_events=_EVENTS,
                max_links=_LINKS,
                max_attribute_length=_ATTRIBUTE_CHARACTERS,
                max_span_attribute_length=_ATTRIBUTE_CHARACTERS,
            ),
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._counted, _QUEUE, _DELAY_MILLISECONDS, _BATCH))
        self._tracer = self._provider.get_tracer("remit", version)

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: str = "internal",
        parent: TraceContext | None = None,
        link: TraceContext | None = None,
    ) -> AbstractContextManager[Span]:
        """See Spans. What remit records by itself, outside of any request, begins no trace."""
        if kind == "internal" and name != DECIDE and not get_current_span().get_span_context().is_valid:
            return SPANS_OFF.span(name)
        links = [Link(get_current_span(_extracted(link)).get_span_context())] if link is not None else []
        above = _extracted(parent) if parent is not None else None
        return _Span(
            self._tracer.start_span(name, above, _KINDS[kind], attributes, links, record_exception=False, set_status_on_exception=False)
        )

    def current(self) -> Span:
        """See Spans."""
        return _Span(get_current_span())

    def context(self) -> TraceContext | None:
        """See Spans."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        parent = carrier.get(TRACEPARENT)
        return TraceContext(parent=parent, state=carrier.get(TRACESTATE, "")) if parent else None

    def told(self) -> Mapping[str, int]:
        """See Spans."""
        return {"told": self._counted.told, "failed": self._counted.failed}

    async def close(self) -> None:
        """See Spans. A receiver that is away does not hold up an end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        end = asyncio.get_running_loop().time() + _CLOSE_SECONDS
        while closing.is_alive() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)


class _Span:
    """A span, and the block it lasts for."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Attributes, name: str = "") -> None:
        self._span.set_attributes(attributes)
        if name:
            self._span.update_name(name)

    def event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, attributes)

    def failed(self, kind: str) -> None:
        self._span.set_attribute(ERROR_TYPE, kind)
        self._span.set_status(StatusCode.ERROR)

    def __enter__(self) -> Span:
        self._token = otel_context.attach(set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        otel_context.detach(self._token)
        if isinstance(error, asyncio.CancelledError):
            self.failed(CANCELLED)
        elif error is not None:
            self.failed(error.code if isinstance(error, RemitError) else OTHER)
        self._span.end()


class _Counting(SpanExporter):
    """The exporter, with what became of what it was given. Called from one thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.told = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.told += len(spans)
            else:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _extracted(context: TraceContext) -> Context:
    carrier = {TRACEPARENT: context.parent, **({TRACESTATE: context.state} if context.state else {})}
    return _PROPAGATOR.extract(carrier, otel_context.Context())

"""Assembles what tells traces of a node: nothing, unless ``[telemetry]`` names who takes them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from remit.drivers.spans import SPANS_OFF
from remit.errors import Mistake

if TYPE_CHECKING:
    from remit.drivers.spans import Spans
    from remit.settings import TelemetrySettings


def make_spans(settings: TelemetrySettings, *, node: str) -> Spans:
    """Raises Mistake where traces are wanted and what tells them is not installed."""
    if not settings.endpoint:
        return SPANS_OFF
    try:
        from remit.drivers.telemetry import Telemetry  # 6 MB that nobody loads who does not trace
    except ImportError as error:
        missing = f"[telemetry] names an endpoint, and {error.name} is not installed"
        raise Mistake(missing, code="telemetry", hint="pip install 'remit[otel]'") from None
    return Telemetry(
        settings.endpoint,
        settings.headers,
        service=settings.service,
        version=version("remit"),
        node=node,
        sample_percent=settings.sample_percent,
    )

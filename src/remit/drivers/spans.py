"""Spans of traces, as the rest of the house sees them; and what stands there where nobody traces: nothing.

Rules: a span never raises and never waits. What goes into it is ``logic/telemetry.py``'s. Left out: who takes them
(``drivers/telemetry.py``, loaded only where ``[telemetry]`` names an endpoint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from remit.logic.telemetry import Attributes, TraceContext


class Span(Protocol):
    """One piece of work, while it lasts."""

    def set(self, attributes: Attributes, name: str = "") -> None:
        """Say more of it; ``name``: what it is called from now on."""

    def event(self, name: str, attributes: Attributes) -> None:
        """Something happened in it."""

    def failed(self, kind: str) -> None:
        """It did not do what it was for; ``kind``: a fixed word, never a message."""


class Spans(Protocol):
    """Makes spans. What runs inside of one, in the same task or one begun there, is below it.

    ``on``: whether anybody takes them; where nobody does, nobody needs to find out what would be told.
    """

    on: bool

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: str = "internal",
        parent: TraceContext | None = None,
        link: TraceContext | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for a block; an exception that leaves the block makes it a failed one. ``kind``: internal, server or client."""

    def current(self) -> Span:
        """The innermost span here."""

    def context(self) -> TraceContext | None:
        """Where the trace goes on from here; ``None``: nobody traces."""

    def told(self) -> Mapping[str, int]:
        """Spans so far, by what became of them: ``told``, ``failed``."""

    async def close(self) -> None:
        """Tell what waits, for a moment, and stop."""


class _Off:
    """No span, no spans."""

    on = False

    def set(self, attributes: Attributes, name: str = "") -> None:
        """See Span."""

    def event(self, name: str, attributes: Attributes) -> None:
        """See Span."""

    def failed(self, kind: str) -> None:
        """See Span."""

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: str = "internal",
        parent: TraceContext | None = None,
        link: TraceContext | None = None,
    ) -> AbstractContextManager[Span]:
        """See Spans."""
        del name, attributes, kind, parent, link
        return self

    def current(self) -> Span:
        """See Spans."""
        return self

    def context(self) -> TraceContext | None:
        """See Spans."""
        return None

    def told(self) -> Mapping[str, int]:
        """See Spans."""
        return {}

    async def close(self) -> None:
        """See Spans."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


SPANS_OFF: Spans = _Off()

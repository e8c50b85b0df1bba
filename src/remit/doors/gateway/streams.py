"""What is kept for the agent of a session: answers that became streams, so that one whose connection broke gets the rest
(``Last-Event-ID``), and what the server says by itself until it is read.

Rules: an event's id names its stream and its place; a stream belongs to its session. What is kept is bounded for each session:
finished streams go first, oldest first, and a stream that grew too large can no longer be resumed. The first event is empty and
tells an id to resume from (MCP 2025-11-25, SEP-1699); older revisions do not know it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from remit.drivers.base import Message

_STREAMS_MAX = 32
_KEPT_BYTES_MAX = 1_048_576
_RETRY_MS = 1_000
_PRIMED_SINCE = "2025-11-25"
_WAITING_MAX = 1_000
_WAITING_BYTES_MAX = 1_048_576


class Stream:
    """The events of one answer, in order."""

    def __init__(self, number: int, version: str) -> None:
        self.number, self.done, self.kept_bytes = number, False, 0
        self.events: list[bytes] = []
        self.grown = asyncio.Event()
        self.count = 0
        self._whole = True
        self.first = self._event(b"", b"retry: %d\r\n" % _RETRY_MS) if version >= _PRIMED_SINCE else b""

    @property
    def resumable(self) -> bool:
        """Whether all of it is still kept."""
        return self._whole

    def add(self, message: Message) -> bytes:
        """The next event, to be written to whoever reads."""
        return self._event(msgspec.json.encode(message), b"event: message\r\n")

    def finish(self) -> None:
        """Nothing follows."""
        self.done = True
        self.grown.set()

    def _event(self, data: bytes, before: bytes) -> bytes:
        self.count += 1
        event = b"id: %d-%d\r\n%sdata: %s\r\n\r\n" % (self.number, self.count, before, data)
        self.kept_bytes += len(event)
        if self.kept_bytes > _KEPT_BYTES_MAX:
            self._whole, self.events = False, []
        if self._whole:
            self.events.append(event)
        self.grown.set()
        return event


class Streams:
    """The latest streams of one session."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._streams: OrderedDict[int, Stream] = OrderedDict()
        self._last = 0

    def begin(self) -> Stream:
        """A new stream. Older ones that are finished make room."""
        self._last += 1
        stream = self._streams[self._last] = Stream(self._last, self._version)
        kept = sum(other.kept_bytes for other in self._streams.values())
        for number, other in list(self._streams.items()):
            if len(self._streams) <= _STREAMS_MAX and kept <= _KEPT_BYTES_MAX:
                break
            if other.done:
                kept -= other.kept_bytes
                del self._streams[number]
        return stream

    def resume(self, last_event_id: str) -> tuple[Stream, int] | None:
        """The stream of an event, and how many of its events the agent has; ``None`` where nothing is kept."""
        number, _, count = last_event_id.partition("-")
        if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit() and len(last_event_id) < 40):
            return None
        stream = self._streams.get(int(number))
        return (stream, int(count)) if stream is not None and stream.resumable and int(count) <= stream.count else None


class Waiting:
    """What a server says by itself until its one reader takes it. Where nobody reads, the oldest is lost as on a closed stream."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Message | None, int]] = deque()
        self._bytes = 0
        self._some = asyncio.Event()

    def put(self, message: Message | None) -> None:
        """Add one at the end; ``None`` is the end."""
        size = len(msgspec.json.encode(message))
        if size > _WAITING_BYTES_MAX:
            return
        self._kept.append((message, size))
        self._bytes += size
        while self._bytes > _WAITING_BYTES_MAX or len(self._kept) > _WAITING_MAX:
            self._take()
        self._some.set()

    async def get(self) -> Message | None:
        """Wait for the oldest."""
        while not self._kept:
            self._some.clear()
            await self._some.wait()
        return self._take()

    def _take(self) -> Message | None:
        message, size = self._kept.popleft()
        self._bytes -= size
        return message

"""Takes events to where security monitoring reads them: a file, a webhook, syslog (RFC 5424, over TLS, TCP or a unix socket).

Rules: a batch is taken when ``take`` returns; where it raises it is told again as a whole, which is harmless, for each event has its uid.
Every wait is bounded; only what is configured is contacted, and no secret and no answer of a peer stands in an error. Left out: which
events, and trying again (``services/events.py``). Syslog knows no acknowledgement: what our kernel has taken for the peer counts as taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from remit.drivers.webhooks import signature
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remit.drivers.outward import Reaches
    from remit.model.event import EventSink, OutgoingEvent

_SECONDS_MAX = 10.0
_OK, _REDIRECTS, _BAD, _BUSY, _SERVER = 200, 300, 400, 429, 500
_ANSWER_BYTES_MAX = 65_536
_AUDIT = 13  # facility "log audit", RFC 5424 §6.2.1
_SEVERITIES = {1: 6, 2: 5, 3: 4, 4: 3, 5: 2}  # OCSF's to syslog's
_NAME_MAX = 32  # MSGID, RFC 5424 §6


class Sink(Protocol):
    """Takes events."""

    async def take(self, events: Sequence[OutgoingEvent], now: datetime) -> None:
        """Take a batch, in order. Raises Outage; Mistake where the peer will not have this batch as it is."""

    async def close(self) -> None:
        """Let go. Idempotent."""


def open_sink(sink: EventSink, reach: Reaches) -> Sink:
    """What takes the events of a sink."""
    if sink.file:
        return FileSink(sink.file)
    return WebhookSink(sink, reach) if sink.webhook else SyslogSink(sink)


class FileSink:
    """A line of JSON an event; durable when it is taken. Opened anew for each batch, so it may be rotated away at any time."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def take(self, events: Sequence[OutgoingEvent], now: datetime) -> None:
        """See Sink."""
        del now
        await asyncio.to_thread(self._write, b"".join(event.body + b"\n" for event in events))

    async def close(self) -> None:
        """See Sink."""

    def _write(self, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._path, flags, 0o600), "r+b", buffering=0) as file:
                state = os.fstat(file.fileno())
                if not stat.S_ISREG(state.st_mode):
                    raise Outage("what stands there is no file", code="event_file")
                if state.st_size and os.pread(file.fileno(), 1, state.st_size - 1) != b"\n":
                    data = b"\n" + data  # a crash left half a line
                view = memoryview(data)
                while view:
                    view = view[os.write(file.fileno(), view) :]
                os.fsync(file.fileno())
        except OSError as error:
            raise Outage(f"the file cannot be written: {error.strerror}", code="event_file") from None


class WebhookSink:
    """A JSON array a batch, signed as Standard Webhooks 1.0 says where there is a secret."""

    def __init__(self, sink: EventSink, reach: Reaches) -> None:
        self._sink, self._reach = sink, reach

    async def take(self, events: Sequence[OutgoingEvent], now: datetime) -> None:
        """See Sink."""
        body = b"[" + b",".join(event.body for event in events) + b"]"
        batch, at = f"{events[0].uid}-{events[-1].uid.rpartition('#')[2]}", int(now.timestamp())
        headers = {**self._sink.headers, "content-type": "application/json", "webhook-id": batch, "webhook-timestamp": str(at)}
        if self._sink.secret:
            headers["webhook-signature"] = signature(self._sink.secret, batch, at, body)
        answer = await self._reach.post(self._sink.webhook, body, headers, private=self._sink.private, bytes_max=_ANSWER_BYTES_MAX)
        if _OK <= answer.status < _REDIRECTS:
            return
        if _BAD <= answer.status < _SERVER and answer.status != _BUSY:
            raise Mistake(f"it answers {answer.status}", code="event_refused")
        raise Outage(f"it answers {answer.status}", code="event_sink", retry_after_seconds=answer.retry_after_seconds)

    async def close(self) -> None:
        """See Sink. The client is shared."""


class SyslogSink:
    """Messages of RFC 5424; counted octets over TCP and TLS (RFC 6587 §3.4.1, RFC 5425 §4.3), a datagram each over a unix socket."""

    def __init__(self, sink: EventSink) -> None:
        self._sink, self._host = sink, _printable(socket.gethostname(), 255)
        self._writer: asyncio.StreamWriter | None = None
        self._gone: asyncio.Task[None] | None = None  # done when the peer has ended the connection

    async def take(self, events: Sequence[OutgoingEvent], now: datetime) -> None:
        """See Sink."""
        del now
        messages = [_message(event, self._host) for event in events]
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                if self._sink.syslog.startswith("unix:"):
                    await self._datagrams(messages)
                else:
                    await self._stream(messages)
        except TimeoutError:
            await self.close()
            raise Outage("it did not take a batch in time", code="event_sink") from None
        except (OSError, ssl.SSLError) as error:
            await self.close()
            what = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise Outage(f"it cannot be reached: {what[:200]}", code="event_sink") from None

    async def close(self) -> None:
        """See Sink."""
        writer, gone, self._writer, self._gone = self._writer, self._gone, None, None
        if gone is not None:
            gone.cancel()
        if writer is not None:
            writer.close()

    async def _stream(self, messages: list[bytes]) -> None:
        if self._gone is not None and self._gone.done():
            await self.close()  # what is written to a peer that has gone would be lost without a word
        if self._writer is None:
            parts = urlsplit(self._sink.syslog)
            context = ssl.create_default_context(cafile=self._sink.ca_file or None) if parts.scheme == "tls" else None
            reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
            self._gone = asyncio.create_task(_ended(reader))
        self._writer.write(b"".join(str(len(message)).encode() + b" " + message for message in messages))
        await self._writer.drain()

    async def _datagrams(self, messages: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
            local.settimeout(0)
            await loop.sock_connect(local, self._sink.syslog.removeprefix("unix://"))
            for message in messages:
                await loop.sock_sendall(local, message)


async def _ended(reader: asyncio.StreamReader) -> None:
    """Return when the peer has ended the connection; what it says is nobody's business."""
    with contextlib.suppress(OSError):
        while await reader.read(_ANSWER_BYTES_MAX):
            pass


def _message(event: OutgoingEvent, host: str) -> bytes:
    priority = _AUDIT * 8 + _SEVERITIES.get(event.severity_id, 6)
    stamp = event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"<{priority}>1 {stamp} {host} remit {os.getpid()} {_printable(event.kind, _NAME_MAX)} - ".encode("ascii") + event.body


def _printable(text: str, most: int) -> str:
    return "".join(sign for sign in text[:most] if 33 <= ord(sign) <= 126) or "-"

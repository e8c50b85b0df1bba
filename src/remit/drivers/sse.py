"""Server-sent events, read in pieces (WHATWG HTML §9.2.6): only what MCP's Streamable HTTP needs, bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from remit.errors import Outage

_RETRY_SECONDS_MAX = 30.0


@dataclass(slots=True)
class EventReader:
    """Feed it bytes, get the data of whole events. Raises Outage for an event over the bound."""

    event_bytes_max: int
    _rest: bytearray = field(default_factory=bytearray)
    _data: list[bytes] = field(default_factory=list)
    _size: int = 0
    last_id: str = ""
    retry_seconds: float = 1.0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that ``piece`` completes."""
        self._rest += piece
        if len(self._rest) + self._size > self.event_bytes_max:
            raise Outage("the upstream server sent an event that is too large", code="upstream_rubbish")
        found: list[bytes] = []
        lines = bytes(self._rest).replace(b"\r\n", b"\n").split(b"\n")
        if self._rest.endswith(b"\r"):  # the other half of a line end may still come
            lines[-1] = lines[-1].removesuffix(b"\r") + b"\r"
        self._rest = bytearray(lines.pop())
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                data = b"\n".join(self._data)
                if data:  # an empty one only tells its id, to resume from
                    found.append(data)
                self._data, self._size = [], 0
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"id" and b"\0" not in value:
            self.last_id = value.decode("utf-8", "replace")[:1_024]
        elif name == b"retry" and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1_000, _RETRY_SECONDS_MAX)


def event(data: bytes) -> bytes:
    """One message event."""
    return b"event: message\r\ndata: " + data + b"\r\n\r\n"

"""Server-sent events, read in pieces (WHATWG HTML §9.2.6): only what MCP's Streamable HTTP needs, bounded.

Rules: the work for a piece grows with the piece, not with what is held back; what is held back is bounded. What becomes a
header again (the last id) holds nothing that a header cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from remit.errors import Outage

_RETRY_SECONDS_MAX = 30.0


@dataclass(slots=True)
class EventReader:
    """Feed it bytes, get the data of whole events. Raises Outage for an event over the bound."""

    event_bytes_max: int
    _rest: bytearray = field(default_factory=bytearray)  # of a line whose end has not come
    _data: bytearray = field(default_factory=bytearray)  # of an event whose end has not come
    _after_return: bool = False
    last_id: str = ""
    retry_seconds: float = 1.0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that ``piece`` completes."""
        if self._after_return and piece:
            piece, self._after_return = piece.removeprefix(b"\n"), False  # the other half of a line end
        self._after_return = self._after_return or piece.endswith(b"\r")
        found: list[bytes] = []
        if b"\n" not in piece and b"\r" not in piece:
            self._rest += piece
        else:
            *lines, rest = (bytes(self._rest) + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                if line:
                    self._field(line)
                elif self._data:
                    data = bytes(self._data[:-1])
                    if data:  # an empty one only tells its id, to resume from
                        found.append(data)
                    self._data = bytearray()
        if len(self._rest) + len(self._data) > self.event_bytes_max:
            raise Outage("the upstream server sent an event that is too large", code="upstream_rubbish")
        return found

    def restart(self) -> None:
        """Begin another stream: what was left of an unfinished event is thrown away, id and pause stay."""
        self._rest, self._data, self._after_return = bytearray(), bytearray(), False

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value
            self._data += b"\n"
        elif name == b"id":
            text = value.decode("utf-8", "replace")[:1_024]
            if text.isprintable():
                self.last_id = text
        elif name == b"retry" and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1_000, _RETRY_SECONDS_MAX)


def event(data: bytes) -> bytes:
    """One message event."""
    return b"event: message\r\ndata: " + data + b"\r\n\r\n"

"""The body of a request, for every door: counted while it is read, and waited for so long and no longer.

Rules: what is too large is read on for a while and thrown away, so that the answer is not lost in a reset connection. A body that
ends early is a mistake of its sender, not a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.drivers.patience import within
from remit.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS_MAX = 30.0
_DRAINED_BYTES_MAX = 16_777_216


async def whole_body(receive: Receive, bytes_max: int, seconds_max: float = BODY_SECONDS_MAX) -> bytes:
    """The whole body of an ASGI request. Raises Mistake (too_large, too_slow, body)."""
    try:
        with within(seconds_max):
            return await _read(receive, bytes_max)
    except TimeoutError:
        raise Mistake(f"the body did not arrive within {seconds_max:.0f} seconds", code="too_slow") from None


async def _read(receive: Receive, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Mistake("the request ended early", code="body")
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size <= bytes_max:
            pieces.append(piece)
        elif size > bytes_max + _DRAINED_BYTES_MAX:
            break
    if size > bytes_max:
        raise Mistake(f"the body is larger than {bytes_max:,} bytes", code="too_large")
    return b"".join(pieces)

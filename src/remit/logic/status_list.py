"""Token status lists (draft-ietf-oauth-status-list, §4): for each token two bits, packed, compressed. Pure.

Rules: a token's number is its own for good: its list is the number's high part, its place in it the low one. What is not known to be alive
is not written as valid by mistake: whoever makes a list says it of each token.
"""

from __future__ import annotations

import base64
import zlib
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

STATUS_LIST_TYPE = "statuslist+jwt"
LIST_SIZE = 65_536
BITS = 2


class Status(IntEnum):
    """What a token is worth (draft §7.1)."""

    VALID = 0
    INVALID = 1
    SUSPENDED = 2


def status_claim(number: int, issuer: str) -> dict[str, Any]:
    """The ``status`` claim of the token of that number (draft §6.2)."""
    return {"status_list": {"idx": number % LIST_SIZE, "uri": list_uri(number // LIST_SIZE, issuer)}}


def list_uri(which: int, issuer: str) -> str:
    """Where a list is served."""
    return f"{issuer}/oauth/status/{which}"


def packed(statuses: Mapping[int, int], size: int, bits: int) -> str:
    """A list as ``lst`` (draft §4.1): by index, the first in the lowest bits of the first byte; the rest is valid. ``bits``: 1, 2, 4, 8."""
    data = bytearray(-(-size * bits // 8))
    for index, status in statuses.items():
        data[index * bits // 8] |= status << (index * bits % 8)
    return base64.urlsafe_b64encode(zlib.compress(bytes(data), 9)).rstrip(b"=").decode()


def list_claims(which: int, statuses: Mapping[int, int], issuer: str, now: datetime, ttl: timedelta, lifetime: timedelta) -> dict[str, Any]:
    """The claims of a status list token (draft §5.1). ``ttl``: when to fetch it again; ``lifetime``: until when it counts."""
    return {
        "iss": issuer,
        "sub": list_uri(which, issuer),
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
        "ttl": int(ttl.total_seconds()),
        "status_list": {"bits": BITS, "lst": packed(statuses, LIST_SIZE, BITS)},
    }

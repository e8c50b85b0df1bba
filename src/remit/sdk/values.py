"""From Python values to the JSON that is decided on: made anew, bounded, and refused where JSON has no such value.

Rules: nothing is guessed. Bytes, NaN, dates, sets, keys that are no text and structures that hold themselves are refused, with
the place where they stand. What is decided on is the copy, so nobody can change it between the decision and the call.
"""

from __future__ import annotations

import math
from typing import Any

from remit.errors import Mistake
from remit.wire import BODY_BYTES_MAX, DEPTH_MAX

RESULT_BYTES_MAX = 16_777_216  # as ``result_bytes`` of a node is by default
_PLACE_MAX = 120


def plain(value: Any, *, what: str = "arguments", bytes_max: int = BODY_BYTES_MAX) -> Any:
    """A copy of a JSON value: dict, list or tuple, str, int, float, bool, None. Raises Mistake."""
    return _Copier(what, bytes_max).copy(value, "", 1)


def plain_object(value: Any) -> dict[str, Any]:
    """The same for the arguments of a call, which are an object. ``None`` is an empty one."""
    if value is None:
        return {}
    copied = plain(value)
    if not isinstance(copied, dict):
        raise Mistake(f"the arguments of a call are a dict, not {type(value).__name__}", code="arguments")
    return copied


class _Copier:
    """Recursive, and never deeper than a call's JSON may be; the size is counted on the way, as text at least that long."""

    def __init__(self, what: str, bytes_max: int) -> None:
        self._what, self._bytes_max, self._bytes = what, bytes_max, 0

    def copy(self, value: Any, place: str, depth: int) -> Any:
        kind = value.__class__
        if kind is str:
            return self._text(value, place)
        self._count(1)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            if not math.isfinite(value):
                raise self._wrong(place, f"{value} is no number in JSON")
            return value
        if kind not in {dict, list, tuple}:
            raise self._wrong(place, f"{kind.__name__} is no JSON value")
        if depth > DEPTH_MAX:
            raise self._wrong(place, f"nested deeper than {DEPTH_MAX}, or in itself")
        if kind is dict:
            return {self._key(key, place): self.copy(member, f"{place}/{key}", depth + 1) for key, member in list(value.items())}
        return [self.copy(member, f"{place}/{number}", depth + 1) for number, member in enumerate(value)]

    def _key(self, key: object, place: str) -> str:
        if key.__class__ is not str:
            raise self._wrong(place, f"the key {str(key)[:40]!r} is {type(key).__name__}, not text")
        return self._text(str(key), place)

    def _text(self, text: str, place: str) -> str:
        try:
            self._count(len(text.encode()) + 2)
        except UnicodeEncodeError:
            raise self._wrong(place, "a string holds half a surrogate pair") from None
        return text

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._bytes_max:
            raise Mistake(f"the {self._what} are larger than {self._bytes_max:,} bytes", code="too_large")

    def _wrong(self, place: str, what: str) -> Mistake:
        where = f" at {place[:_PLACE_MAX]}" if place else ""
        return Mistake(f"the {self._what} cannot be JSON{where}: {what}", code="arguments" if self._what == "arguments" else "result")

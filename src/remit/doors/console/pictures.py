"""Pictures of the console as SVG: numbers of a page turned into coordinates. Texts are the page's; nothing here is escaped, it is digits.

Rules: a picture is at most some kilobytes however long its period: what would touch on the screen is drawn as one. Anything that is there
is wide enough to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remit.model.exposure import Span

WIDTH = 1_000
_GAP, _LEAST = 6, 3
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def strip(spans: Iterable[Span], begin: datetime, end: datetime, height: int) -> str:
    """The path (SVG 2 §9.3) of spans on a line from ``begin`` to ``end``."""
    whole = max((end - begin).total_seconds(), 1)
    drawn: list[list[int]] = []
    for since, until in spans:
        first = round((since - begin).total_seconds() / whole * WIDTH)
        last = max(round((until - begin).total_seconds() / whole * WIDTH), first + _LEAST)
        if drawn and first - drawn[-1][1] < _GAP:
            drawn[-1][1] = max(drawn[-1][1], last)
        else:
            drawn.append([first, last])
    return "".join(f"M{min(first, WIDTH - _LEAST)} 0h{last - first}v{height}h-{last - first}z" for first, last in drawn)


def bar(value: int, most: int) -> int:
    """The width of a bar; nothing where there is nothing, and never too thin to be seen."""
    return max(round(value / most * WIDTH), _LEAST) if value and most else 0


def lasting(milliseconds: int) -> str:
    """A length of time for people, in its two largest units."""
    rest, words = milliseconds, []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count:,} {unit}")
    if not words:
        return f"{milliseconds / 1_000:.1f} s"
    if len(words) == 1 and words[0].endswith("min") and rest >= 1_000:
        words.append(f"{rest // 1_000} s")
    return " ".join(words[:2])

"""Reads ``[delegation]`` of a task type. Rules: as ``services/reading.py``; a file without it is not delegable."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.model.delegation import Delegable
from remit.services.reading import near

if TYPE_CHECKING:
    from collections.abc import Collection

    from remit.services.reading import Reader

_DEPTH_MAX = 15
_FAN_OUT_MAX = 10_000
_LIFETIME_MAX = timedelta(hours=24)


def read_delegable(root: Reader, agents: Collection[str]) -> Delegable:
    """Whether and how tasks of a type may be delegated. ``agents``: declared ones."""
    table = root.table("delegation")
    to = table.texts("to", ())
    if not to:
        table.wrong("to names nobody", "to = [names of declared agents]", "to")
    for name in to:
        if name not in agents:
            table.wrong(f"no agent {name!r} is declared", near(name, agents), "to")
    terms = Delegable(
        to=to,
        depth=table.number("depth", 1, _DEPTH_MAX),
        fan_out=table.number("fan_out", 1, _FAN_OUT_MAX),
        lifetime=table.duration("lifetime", timedelta(minutes=5), _LIFETIME_MAX),
        cycles=table.value("cycles", bool, default=False),
    )
    table.done()
    return terms

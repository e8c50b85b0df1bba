"""Measures how far calls of watched tasks are from their task's objective, where a model is configured.

Rules: measured before the decision, outside of it; what was found is among the decision's recorded signals, so replay needs no
model. The same tool of the same objective is measured once. No answer in time, or none at all, counts as far and unmeasured: a policy
that forbids what is far must not be evaded by keeping the model busy.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from remit.errors import Outage
from remit.logic.objective import OBJECTIVE_CHARACTERS_MAX, UNMEASURED, signals_of_distance, spoken

if TYPE_CHECKING:
    from remit.model.behaviour import Signal
    from remit.model.call import Call
    from remit.model.catalog import PinnedTool
    from remit.model.task import Task

_MEASURED_MAX = 10_000


class Directs(Protocol):
    """Turns texts into directions: the same text into the same, texts alike in meaning into near ones."""

    async def vector(self, text: str, wait_seconds: float) -> tuple[float, ...]:
        """Raises Outage where there is none in time."""


class Objectives:
    """Distances of calls, by one model."""

    def __init__(self, model: Directs, *, similar_min: float, wait_seconds: float) -> None:
        """``similar_min``: cosine from which a tool is near. ``wait_seconds``: for each of the two texts."""
        self._model, self._similar_min, self._wait_seconds = model, similar_min, wait_seconds
        self._measured: OrderedDict[bytes, tuple[Signal, ...]] = OrderedDict()

    async def signals(self, task: Task, call: Call, pinned: PinnedTool | None) -> tuple[Signal, ...]:
        """What of a call is unlike its task's objective; nothing where the type is not watched. Never raises."""
        if not task.watched:
            return ()
        objective, tool = task.objective[:OBJECTIVE_CHARACTERS_MAX], spoken(call, pinned)
        key = sha256(f"{len(objective)} {objective} {tool}".encode("utf-8", "surrogatepass")).digest()
        if key in self._measured:
            self._measured.move_to_end(key)
            return self._measured[key]
        try:
            found = signals_of_distance(
                await self._model.vector(objective, self._wait_seconds),
                await self._model.vector(tool, self._wait_seconds),
                self._similar_min,
            )
        except Outage:
            return UNMEASURED
        self._measured[key] = found
        if len(self._measured) > _MEASURED_MAX:
            self._measured.popitem(last=False)
        return found

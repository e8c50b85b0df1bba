"""The texts of recent results, in this process only: so that whoever answers a question sees where a value stood.

Rules: bounded in all, for a task and for a result; the task that was quiet longest goes first. What is kept is the result as it was
encoded, taken apart only when a question is asked. Never in the ledger, and never at rest but as part of a question's sealed evidence.
What is missing only means that there is no excerpt.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALL_BYTES_MAX = 16_777_216
_RESULT_BYTES_MAX = 65_536
_OF_TASK_MAX = 16
_CHARACTERS_MAX = 65_536
_NODES_MAX = 5_000


class SourceTexts:
    """Results by the decision whose they were."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, OrderedDict[str, bytes]] = OrderedDict()
        self._bytes = 0

    def remember(self, task: str, decision: str, result: bytes) -> None:
        """Keep a released result, as JSON, as far as there is room for it."""
        if len(result) > _RESULT_BYTES_MAX:
            return
        kept = self._tasks.setdefault(task, OrderedDict())
        self._tasks.move_to_end(task)
        kept[decision] = result
        self._bytes += len(result)
        while len(kept) > _OF_TASK_MAX:
            self._bytes -= len(kept.popitem(last=False)[1])
        while self._bytes > _ALL_BYTES_MAX and self._tasks:
            self.forget(next(iter(self._tasks)))

    def of(self, task: str, decision: str) -> tuple[str, ...]:
        """The texts of a result; empty where they are not kept."""
        kept = self._tasks.get(task)
        result = kept.get(decision) if kept is not None else None
        return tuple(_texts(msgspec.json.decode(result))) if result is not None else ()

    def forget(self, task: str) -> None:
        """A task has ended, or makes room."""
        for result in self._tasks.pop(task, OrderedDict()).values():
            self._bytes -= len(result)


def _texts(result: Any) -> Iterator[str]:
    """Texts of a result in their order, numbers as text, until there are too many."""
    waiting, left, nodes = [result], _CHARACTERS_MAX, 0
    while waiting and left > 0 and nodes < _NODES_MAX:
        value = waiting.pop()
        nodes += 1
        if isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value[:_NODES_MAX])
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value)[:left]
            left -= len(text)
            if text:
                yield text

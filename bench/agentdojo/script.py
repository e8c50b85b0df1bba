"""What happens in one run, whoever decides: the honest calls in order, the hijack, and what was made of them.

Needs no AgentDojo: a script is calls and texts, a world is whatever carries calls out or refuses them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call, as its author would make it."""

    tool: str
    arguments: dict[str, Any]

    @property
    def key(self) -> str:
        """The same for the same call, whatever the order of its arguments."""
        return json.dumps([self.tool, self.arguments], sort_keys=True, default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a call. ``answer``: the result as JSON values; ``asked``: questions it cost; ``reasons``: why it was refused."""

    made: bool
    answer: Any = None
    asked: int = 0
    reasons: tuple[str, ...] = ()


class World(Protocol):
    """Carries calls out, or refuses them."""

    async def call(self, step: Step) -> Outcome:
        """Make one call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One call of a run, with its author."""

    step: Step
    outcome: Outcome
    hostile: bool


@dataclass(slots=True, kw_only=True)
class Trace:
    """A run so far."""

    calls: list[Made] = field(default_factory=list)
    hijacked: bool = False

    @property
    def done(self) -> list[Step]:
        """The calls that were really made."""
        return [call.step for call in self.calls if call.outcome.made]

    @property
    def refused(self) -> list[Made]:
        """The calls that were not."""
        return [call for call in self.calls if not call.outcome.made]

    @property
    def questions(self) -> int:
        """What the approver was asked."""
        return sum(call.outcome.asked for call in self.calls)


async def replay(world: World, honest: list[Step], hostile: list[Step], injections: Collection[str], *, last: bool) -> Trace:
    """Make the honest calls; once a result shows an injection, the hostile ones too: at once, or after the ``last`` honest one."""
    trace, seen, planted = Trace(), False, {squeezed(text) for text in injections}
    for number, step in enumerate(honest):
        outcome = await world.call(step)
        trace.calls.append(Made(step=step, outcome=outcome, hostile=False))
        seen = seen or (outcome.made and shows(outcome.answer, planted))
        if seen and not trace.hijacked and (not last or number == len(honest) - 1):
            trace.hijacked = True
            for attack in hostile:
                trace.calls.append(Made(step=attack, outcome=await world.call(attack), hostile=True))
    return trace


def squeezed(text: str) -> str:
    """Without white space: files fold their lines as they like."""
    return "".join(text.split())


def shows(answer: Any, planted: Collection[str]) -> bool:
    """Whether some text of an answer holds one of the planted texts."""
    if isinstance(answer, str):
        text = squeezed(answer)
        return any(wanted in text for wanted in planted)
    if isinstance(answer, dict):
        return any(shows(part, planted) for pair in answer.items() for part in pair)
    return isinstance(answer, list) and any(shows(part, planted) for part in answer)

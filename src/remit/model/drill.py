"""A drill: a known incident, re-enacted against the rules in force. What was tried, what was expected, what happened.

Rules: a step has *held*, has *not held*, or was *not tried*, and then says why. A drill holds only where something was tried and nothing
gave way: what was not tried is never counted as held. What is beside the incident (``aside``), as a look at files and settings, makes no
drill hold where the incident itself could not be tried. Drills are played in a store of their own, under keys of their own; only their
outcome is an entry of the real ledger (``DrillRan``), under the rules of ``model/record.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Outcome(StrEnum):
    """What came of a step, or of a drill."""

    HELD = "held"
    NOT_HELD = "not_held"
    NOT_TRIED = "not_tried"


class Incident(StrEnum):
    """The incidents that are re-enacted, by the names that `remit drill` knows them by."""

    HIJACKED_KEY = "hijacked-key"
    LEAKED_LOGS = "leaked-logs"
    SHARED_DATABASE = "shared-database"
    TOOL_POISONING = "tool-poisoning"
    CONFUSED_DEPUTY = "confused-deputy"
    SLOW_EXFILTRATION = "slow-exfiltration"
    PROMPT_CHANGE = "prompt-change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tried. ``on``: the task type or server it was tried on ("" : the whole configuration).

    ``control``: the control of reports that it bears on. ``mend``: what would change it, where it did not hold or was not tried.
    ``record``: the entry of the drill's own ledger that shows it, as ``index kind`` ("" : it shows elsewhere, as ``happened`` says).
    ``aside``: it is beside the incident, and says nothing of that by itself.
    """

    tried: str
    expected: str
    happened: str
    outcome: Outcome
    control: str
    on: str = ""
    mend: str = ""
    record: str = ""
    aside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """One drill as it went."""

    drill: Incident
    title: str
    steps: tuple[Step, ...]

    @property
    def outcome(self) -> Outcome:
        """Of all steps together."""
        return _come_to(self.steps)

    def controls(self, outcome: Outcome) -> list[str]:
        """Controls whose steps came to this, all of each together."""
        names = dict.fromkeys(step.control for step in self.steps)
        return [name for name in names if _come_to([step for step in self.steps if step.control == name]) is outcome]


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """One word for several: what gave way counts first, and nothing tried is nothing shown."""
    found = set(outcomes)
    return next((word for word in (Outcome.NOT_HELD, Outcome.HELD) if word in found), Outcome.NOT_TRIED)


def _come_to(steps: Sequence[Step]) -> Outcome:
    """Of several steps: whatever gave way counts, and what was looked at beside the incident only where there is nothing else."""
    tried = [step for step in steps if not step.aside or step.outcome is Outcome.NOT_HELD]
    return overall(step.outcome for step in tried or steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRan:
    """A drill was played against these rules. ``outcome``: held, not_held or not_tried; the numbers count its steps.

    ``result_digest``: of the result as `remit drill --json` prints it for this drill, so that a kept file can be compared.
    ``policy_set``, ``rulebook``, ``configuration``: digests of what it was played against. ``controls_held``, ``controls_not_held``: those
    of reports that its steps bear on, by what came of them.
    """

    drill: str
    outcome: str
    held: int
    not_held: int
    not_tried: int
    by: str
    result_digest: str
    policy_set: str = ""
    rulebook: str = ""
    configuration: str = ""
    controls_held: list[str] = field(default_factory=list)
    controls_not_held: list[str] = field(default_factory=list)

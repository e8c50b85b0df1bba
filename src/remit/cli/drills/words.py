"""What drills say: what was tried, what a door answered, and what that makes of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_bytes
from remit.model.drill import Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROLS = {
    "origin_unknown": "origins",
    "origin_not_admitted": "origins",
    "arguments_outside_grant": "least-agency",
    "not_granted": "least-agency",
    "needs_approval": "approvals",
    "no_approver": "approvals",
    "policy_forbids": "policy",
    "no_policy_permits": "policy",
    "above_ceiling": "labels",
}


@dataclass(frozen=True, slots=True)
class Tried:
    """What is tried, in words, and the control of reports (``logic/report_rules.py``) that it bears on. ``aside``: as of a ``Step``."""

    words: str
    control: str
    aside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a door answered."""

    status: int
    body: Any

    @property
    def outcome(self) -> str:
        """Of a decision; "" : there was none."""
        return str(self.body.get("outcome", "")) if isinstance(self.body, dict) else ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Codes of a decision's reasons."""
        found = self.body.get("reasons", ()) if isinstance(self.body, dict) else ()
        return tuple(reason["code"] for reason in found)

    @property
    def words(self) -> str:
        """For people."""
        if self.outcome:
            return f"{self.outcome}: {', '.join(self.reasons)}"
        return f"HTTP {self.status}"


def not_tried(tried: Tried, why: str, *, on: str = "", mend: str = "") -> Step:
    """A step that this configuration does not let be tried."""
    return Step(
        tried=tried.words,
        expected="",
        happened=why,
        outcome=Outcome.NOT_TRIED,
        control=tried.control,
        on=on,
        mend=mend,
        aside=tried.aside,
    )


def judged(tried: Tried, expected: str, happened: str, *, held: bool, on: str = "", mend: str = "", record: str = "") -> Step:
    """A step that was tried. ``mend`` is told only where it did not hold."""
    outcome = Outcome.HELD if held else Outcome.NOT_HELD
    return Step(
        tried=tried.words,
        expected=expected,
        happened=happened,
        outcome=outcome,
        control=tried.control,
        on=on,
        mend="" if held else mend,
        record=record,
        aside=tried.aside,
    )


def dressed(value: str, made: object) -> tuple[str, ...]:
    """A value as an argument may carry it: as it is, behind what was made up for it, and in an address."""
    behind = (f"{made}{value}",) if isinstance(made, str) else ()
    return (value, *behind, f"https://attacker.example/{value}")


def most_telling(answers: Iterable[Said]) -> Said:
    """Of several refusals the one that says most: not that made-up arguments do not fit, nor that only the grant's schema is in the way."""
    return max(answers, key=lambda said: "arguments_invalid" not in said.reasons and 1 + ("arguments_outside_grant" not in said.reasons))


def control_of(said: Said, otherwise: str) -> str:
    """Which control of reports has refused a call, by its first reason."""
    return next((_CONTROLS[code] for code in said.reasons if code in _CONTROLS), otherwise)


def digest(text: str) -> str:
    """A digest as manifests hold them, of something made up."""
    return digest_bytes(text.encode())

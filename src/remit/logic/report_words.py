"""How a report says things, whatever form it is written in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.model.report import ItemState, State

if TYPE_CHECKING:
    from remit.model.report import Covered, Figure, Report

STATES = {
    State.SHOWN: "entries of the period show it at work",
    State.DRILLED: "only a drill that held shows it; no live case",
    State.CONFIGURED: "set up, and nobody has exercised it in the period",
    State.NOT_SHOWN: "neither set up nor exercised",
    State.CONTRADICTED: "an entry, a drill or a setting says that it did not work",
}
ITEM_STATES = {
    ItemState.SHOWN: "every control is shown",
    ItemState.PARTLY: "some controls are shown or drilled",
    ItemState.NOT_SHOWN: "no control is shown or drilled",
    ItemState.CONTRADICTED: "a control is contradicted",
}
_SECOND_MS, _MINUTE_MS = 1_000, 120_000


def counter_words(what: str) -> str:
    """A counter in words."""
    kind, _, rest = what.partition(".")
    if kind == "because":
        return f"decisions because of {rest}"
    if kind == "drill":
        drill, _, outcome = rest.partition(".")
        return f"drill {drill}: {outcome.replace('_', ' ')}"
    return f"{kind}: {rest.replace('_', ' ')}"


def measure_words(report: Report) -> list[tuple[str, str]]:
    """Times of the period in words."""
    by_name = {one.what: one.number for one in report.measures}
    told = {
        "answering": "a question, from asking to its answer",
        "lease": "a credential, from being made to being gone",
        "revocation": "a credential that had to go, until its target confirmed it",
        "task": "a task's deadline, from its opening",
        "token": "a token or SVID, its life",
    }
    found = [("tasks that live now", str(by_name.get("tasks.living_now", 0)))]
    for name, words in told.items():
        number = by_name.get(f"{name}.measured", 0)
        mean, longest = span(by_name.get(f"{name}.mean_ms", 0)), span(by_name.get(f"{name}.longest_ms", 0))
        found.append((words, f"mean {mean}, longest {longest}, of {number}" if number else "none in the period"))
    return found


def span(milliseconds: int) -> str:
    """A time for people."""
    if milliseconds < _SECOND_MS:
        return f"{milliseconds} ms"
    return f"{milliseconds / 1_000:.1f} s" if milliseconds < _MINUTE_MS else f"{milliseconds / 60_000:.1f} min"


def kind_words(kind: str) -> str:
    """A kind of thing in words."""
    return kind.replace("_", " ")


def covered_words(one: Covered) -> str:
    """How many of a kind are under policy."""
    return f"{one.under_policy} of {one.known}"


def period_words(report: Report) -> str:
    """The period in words."""
    begin, end = report.period.begin or "the ledger's beginning", report.period.end or "the head it was computed at"
    return f"from {begin} until {end}"


def entries_words(figure: Figure) -> str:
    """The latest entries of a figure."""
    return ", ".join(f"{one.index} ({one.leaf[:16]}…)" for one in figure.entries)


def telling(figures: tuple[Figure, ...]) -> list[Figure]:
    """Figures worth a line: those above 0, and those that speak against."""
    return [one for one in figures if one.number or one.against]

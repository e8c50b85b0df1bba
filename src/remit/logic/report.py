"""From counts and live settings to a report: what each control is known as, and each item from its controls. Pure.

Rules: as ``model/report.py`` states them. What contradicts counts before what shows; a drill counts by its latest run in the period, and
only where it was played against the rules that are in force: those that were activated last, and those of the configuration that was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.frameworks import FRAMEWORKS
from remit.logic.report_rules import BY_KEY, RULES
from remit.model.drill import Outcome
from remit.model.report import Control, Covered, Figure, InForce, ItemReport, ItemState, Report, ShownEntry, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remit.logic.framework_words import Item
    from remit.logic.report_rules import Rule
    from remit.logic.tally import Tally
    from remit.model.report import Coverage, Framework, LiveSetting, Period, Read

NAMED_MAX = 100
OLDER = "held, against other rules than those in force"
_UNKNOWN = InForce()
_DECISIONS = (
    "calls.decided",
    "answers.decided",
    "because.tool_unknown",
    "because.not_granted",
    "proofs.refused",
    "delegations.refused",
    "leases.of_standing_secrets",
)
_GREEN = {State.SHOWN, State.DRILLED}


def make_report(
    framework: Framework | None,
    tally: Tally,
    live: Mapping[str, LiveSetting] | None,
    coverage: Coverage,
    *,
    period: Period,
    read: Read,
    read_from: InForce = _UNKNOWN,
) -> Report:
    """The report. ``framework`` ``None``: coverage alone. ``live``: by key; ``None``: no configuration was read, ``read_from`` is empty."""
    words = FRAMEWORKS[framework] if framework is not None else None
    used = {key for item in words.items for key in item.keys} if words else set()
    controls = {rule.key: control_of(rule, tally, live, read_from) for rule in RULES if rule.key in used}
    return Report(
        framework=framework.value if framework is not None else "",
        framework_title=words.title if words else "Coverage",
        framework_source=words.source if words else "",
        period=period,
        read=read,
        settings_from=read_from.configuration,
        coverage=coverage,
        items=tuple(item_of(item, controls) for item in words.items) if words else (),
        controls=tuple(controls.values()),
        measures=measures(tally),
    )


def control_of(rule: Rule, tally: Tally, live: Mapping[str, LiveSetting] | None, read_from: InForce = _UNKNOWN) -> Control:
    """One control as it is known."""
    drills = {drill.value: _drilled(rule, drill.value, tally, read_from) for drill in rule.drills}
    named = (*rule.settings, *rule.against_settings)
    settings = tuple(live[key] for key in named if key in live) if live is not None else ()
    return Control(
        key=rule.key,
        enforces=rule.enforces,
        state=_state(rule, tally, drills, live or {}),
        figures=(
            *(_figure(counter, tally) for counter in dict.fromkeys((*rule.shows, *rule.tells))),
            *(_figure(counter, tally, against=True) for counter in rule.against),
        ),
        drills=drills,
        settings=settings,
    )


def item_of(item: Item, controls: Mapping[str, Control]) -> ItemReport:
    """One item: green only where all of its controls are shown."""
    states = {controls[key].state for key in item.keys}
    if State.CONTRADICTED in states:
        state = ItemState.CONTRADICTED
    elif states == {State.SHOWN}:
        state = ItemState.SHOWN
    else:
        state = ItemState.PARTLY if states & _GREEN else ItemState.NOT_SHOWN
    note = "" if item.keys else "No control of remit bears on it."
    if item.unverified:
        note = f"{note} Id and wording were not compared with the framework's own text.".strip()
    return ItemReport(id=item.id, title=item.title, state=state, controls=item.keys, cannot=item.cannot, note=note)


def _state(rule: Rule, tally: Tally, drills: Mapping[str, str], live: Mapping[str, LiveSetting]) -> State:
    if (
        any(tally.number(counter) for counter in rule.against)
        or Outcome.NOT_HELD.value in drills.values()
        or any(live[key].on for key in rule.against_settings if key in live)
    ):
        return State.CONTRADICTED
    if any(tally.number(counter) for counter in rule.shows):
        return State.SHOWN
    if Outcome.HELD.value in drills.values():
        return State.SHOWN if rule.whole_drills else State.DRILLED
    return State.CONFIGURED if any(live[key].on for key in rule.settings if key in live) else State.NOT_SHOWN


def _drilled(rule: Rule, drill: str, tally: Tally, read_from: InForce) -> str:
    """What came of a drill's latest run in the period, for one control; "" : it was not played."""
    found = tally.drills.get(drill)
    if found is None:
        return ""
    ran, _ = found
    if rule.whole_drills:
        outcome = ran.outcome
    elif rule.key in ran.controls_not_held:
        outcome = Outcome.NOT_HELD.value
    else:
        outcome = Outcome.HELD.value if rule.key in ran.controls_held else Outcome.NOT_TRIED.value
    played = InForce(rulebook=ran.rulebook, configuration=ran.configuration)
    stale = any(rules not in {played, _UNKNOWN} for rules in (tally.in_force, read_from))
    return OLDER if stale and outcome == Outcome.HELD else outcome


def _figure(counter: str, tally: Tally, *, against: bool = False) -> Figure:
    found = tally.counts.get(counter)
    entries = tuple(ShownEntry(index=one.index, kind=one.kind, at=one.at, leaf=one.leaf) for one in found.latest) if found else ()
    return Figure(what=counter, number=found.number if found else 0, entries=entries, against=against)


def measures(tally: Tally) -> tuple[Figure, ...]:
    """Times of the period in milliseconds, and what lives at its end."""
    found = [Figure(what="tasks.living_now", number=tally.living)]
    for name, spans in tally.spans.items():
        mean = spans.total_ms // spans.number if spans.number else 0
        found += [
            Figure(what=f"{name}.measured", number=spans.number),
            Figure(what=f"{name}.mean_ms", number=mean),
            Figure(what=f"{name}.longest_ms", number=spans.longest_ms),
        ]
    return tuple(found)


def decisions_of(tally: Tally) -> tuple[Figure, ...]:
    """What was decided in the period, and what of it concerned things that nobody declared."""
    return tuple(_figure(counter, tally) for counter in _DECISIONS)


def seen_of(tally: Tally, declared: Mapping[str, Iterable[str]] | None) -> tuple[tuple[Covered, ...], tuple[Covered, ...]]:
    """What the period's entries name, by kind, and which of it is ``declared``; and what is declared and was not seen."""
    seen, unused = [], []
    for kind, names in tally.names.items():
        known = set(declared.get(kind, ())) if declared is not None else set()
        strange = sorted(set(names.seen) - known) if declared is not None else []
        under = len(names.seen) - len(strange)
        seen.append(Covered(kind=kind, known=len(names.seen), under_policy=under, names=tuple(strange[:NAMED_MAX])))
        if declared is not None:
            idle = sorted(known - set(names.seen))
            unused.append(Covered(kind=kind, known=len(known), under_policy=len(known) - len(idle), names=tuple(idle[:NAMED_MAX])))
    return tuple(seen), tuple(unused)


def check_rules() -> tuple[str, ...]:
    """Keys that an item names and no rule has: none, or the data is wrong."""
    return tuple(key for words in FRAMEWORKS.values() for item in words.items for key in item.keys if key not in BY_KEY)

"""``remit drill``: known incidents, re-enacted against the rules of the folder."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from remit.cli.common import DONE, REFUSED, emit, folder_option, json_option, operator, reports_errors, safe
from remit.cli.drills.every import DRILLS
from remit.cli.drills.setting import set_stage
from remit.errors import Mistake, RemitError
from remit.model.drill import Drilled, Incident, Outcome, Step, overall
from remit.node import open_node, utc_now
from remit.services.drills import record_drill

if TYPE_CHECKING:
    from remit.cli.drills.stage import Stage
    from remit.logic.rulebook import Rulebook

_MARKS = {Outcome.HELD: ("✓", "green"), Outcome.NOT_HELD: ("✗", "red"), Outcome.NOT_TRIED: ("–", "yellow")}
_WORDS = {Outcome.HELD: "held", Outcome.NOT_HELD: "DID NOT HOLD", Outcome.NOT_TRIED: "could not be tried"}
_ITSELF = "the drill itself"
_EPILOG = "Exit codes: 0 all that was tried held, 1 something did not hold or nothing could be tried, 2 wrong usage or configuration."


@click.command(epilog=_EPILOG)
@click.argument("name", metavar="[NAME]", required=False, type=click.Choice([one.value for one in Incident]))
@click.option("--list", "only_list", is_flag=True, help="Name the drills, play none.")
@click.option("--input", "-i", "inputs", multiple=True, metavar="KEY=VALUE", help="A value for inputs of that name, not a made-up one.")
@click.option("--task", "only", multiple=True, metavar="TYPE", help="Play on this task type only (may be given several times).")
@click.option("--no-record", is_flag=True, help="Do not record the outcome in the ledger.")
@folder_option
@json_option
@reports_errors
async def drill(
    name: str | None, only_list: bool, inputs: tuple[str, ...], only: tuple[str, ...], no_record: bool, folder: Path, as_json: bool
) -> int:
    """Re-enact known incidents against this folder's policies, task types and catalog, and say what held, what did not, and what could not
    be tried.

    Played through the real doors, on a store and keys of their own. Echoes stand in for servers; no target and no person hears of it.
    The outcome, not what was played, is recorded in the ledger, where `remit report` counts it.
    """
    if only_list:
        listed = {one.value: title for one, (title, _) in DRILLS.items()}
        emit(listed, "\n".join(f"{one:<18} {title}" for one, title in listed.items()), as_json=as_json)
        return DONE
    folder = folder.resolve()
    wanted = [Incident(name)] if name else list(DRILLS)
    played: list[Drilled] = []
    against: list[Rulebook] = []
    for one in wanted:
        with tempfile.TemporaryDirectory(prefix="remit-drill-") as scratch:
            async with set_stage(folder, Path(scratch), _inputs(inputs), only) as stage:
                played.append(Drilled(drill=one, title=DRILLS[one][0], steps=await _played(one, stage)))
                against.append(stage.rulebook)
    entries, failed = [], None
    try:
        entries = [] if no_record else await _recorded(folder, played, against)
    except RemitError as error:  # what was found is told all the same
        failed = error
    outcome = overall(one.outcome for one in played)
    data = {
        "outcome": outcome,
        "drills": [{**_told(one), "entry": entries[number] if entries else None} for number, one in enumerate(played)],
    }
    emit(data, "\n".join([*(line for one in played for line in _lines(one)), *_end(played, entries)]), as_json=as_json)
    if failed is not None:
        raise failed
    return DONE if outcome is Outcome.HELD else REFUSED


async def _played(drill: Incident, stage: Stage) -> tuple[Step, ...]:
    """Its steps. A drill that breaks off has not held, whatever went before."""
    steps = []
    try:
        async for step in DRILLS[drill][1](stage):
            steps.append(step)  # noqa: PERF401 - what came before a failure is kept
    except RemitError as error:
        step = Step(tried=_ITSELF, expected="it goes through", happened=error.message, outcome=Outcome.NOT_HELD, control="drills")
        steps.append(replace(step, mend="see what it says; a fault of remit is to be reported"))
    return tuple(steps)


async def _recorded(folder: Path, played: list[Drilled], against: list[Rulebook]) -> list[int]:
    """Recorded under the rules that each was played against: the folder may have been changed since."""
    async with open_node(folder) as node:
        entries = [
            await record_drill(node.store, one, msgspec.json.encode(_told(one)), rulebook, utc_now(), operator())
            for one, rulebook in zip(played, against, strict=True)
        ]
    return [entry.index for entry in entries]


def _told(one: Drilled) -> dict[str, Any]:
    """One drill as it is printed; its JSON is what the ledger has the digest of."""
    return {"drill": one.drill, "title": one.title, "outcome": one.outcome, "steps": one.steps}


def _lines(one: Drilled) -> list[str]:
    mark, colour = _MARKS[one.outcome]
    untried = sum(step.outcome is Outcome.NOT_TRIED for step in one.steps)
    more = f", {untried} of {len(one.steps)} steps could not be tried" if untried and one.outcome is not Outcome.NOT_TRIED else ""
    lines = ["", f"{click.style(mark, fg=colour)} {one.title}: {_WORDS[one.outcome]}{more}"]
    for step in one.steps:
        mark, colour = _MARKS[step.outcome]
        on = f" [{safe(step.on)}]" if step.on else ""
        lines.append(f"  {click.style(mark, fg=colour)} {step.tried}{on}")
        expected = f"expected {step.expected}; " if step.expected else ""
        record = f"  (entry {step.record} of the drill's ledger)" if step.record else ""
        lines.append(f"      {expected}{safe(step.happened)}{record}")
        if step.mend:
            lines.append(f"      → {safe(step.mend)}")
    return lines


def _end(played: list[Drilled], entries: list[int]) -> list[str]:
    outcomes = [one.outcome for one in played]
    counts = ", ".join(f"{outcomes.count(word)} {told}" for word, told in _WORDS.items() if word in outcomes)
    recorded = f" Recorded as entries {entries[0]} to {entries[-1]}." if entries else ""
    return ["", f"{counts}.{recorded} Echoes stood in for servers; no target was touched."]


def _inputs(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Mistake(f"-i {text[:40]!r} is no KEY=VALUE", code="input", hint="-i customer=4711")
        found[key] = value
    return found

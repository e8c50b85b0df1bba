"""``remit report``: what a framework asks for, what of it is enforced here, and what of the ledger shows it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.common import folder_option, json_option, json_text, reports_errors
from remit.errors import Mistake
from remit.logic.checkpoint import Verifier
from remit.logic.report_html import report_html
from remit.logic.report_text import report_markdown
from remit.logic.tally import Tally
from remit.model.report import Framework, InForce
from remit.node import load_rules, open_node
from remit.services.coverage import coverage_of, declared_names, given_to_servers, live_settings
from remit.services.reading import FILE
from remit.services.report import read_export, read_store
from remit.services.report import report as made_report

if TYPE_CHECKING:
    from remit.model.report import Read, Report

_COVERAGE = "coverage"
_FORMATS = ("html", "md", "json")


@click.command()
@click.argument("what", required=False, type=click.Choice([_COVERAGE]))
@click.option("--framework", type=click.Choice([one.value for one in Framework]), help="Which framework's items.")
@click.option("--from", "begin", help="From this day or moment on: 2026-11-01, 2026-11-01T12:00Z (default: the ledger's beginning).")
@click.option("--to", "end", help="Until the end of this day, or before this moment (default: now).")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="md", show_default=True, help="HTML is one page that prints.")
@click.option(
    "--ledger", "export", type=click.Path(path_type=Path, dir_okay=False), help="Compute it from an exported ledger, verified first."
)
@click.option("--key", "vkey", help="The log's public key for --ledger, or a file that holds it.")
@folder_option
@json_option
@reports_errors
async def report(
    what: str | None,
    framework: str | None,
    begin: str | None,
    end: str | None,
    form: str,
    export: Path | None,
    vkey: str | None,
    folder: Path,
    as_json: bool,
) -> int:
    """Report on standard output: what is under policy and what is not, then each item of a framework with what shows it.

    WHAT is `coverage` for that first part alone. What nobody exercised in the period is not green. The whole ledger is read and
    verified, and the report names the signed head that it was computed at.
    """
    if bool(what) == bool(framework):
        frameworks = ", ".join(one.value for one in Framework)
        raise Mistake("say what to report on", code="framework", hint=f"--framework, one of {frameworks}; or `remit report coverage`")
    if bool(export) != bool(vkey):
        raise Mistake("--ledger and --key belong together", code="export", hint="`remit ledger key` prints the key")
    tally = Tally(_moment(begin, "--from"), _moment(end, "--to", whole_day=True))
    if tally.begin and tally.end and tally.begin >= tally.end:
        raise Mistake("the period ends before it begins", code="period", hint="--from must be before --to")
    folder = folder.resolve()
    configured = _configured(folder, needed=export is None)
    read = _of_export(export, vkey or "", tally) if export else await _of_store(folder, tally)
    made = made_report(Framework(framework) if framework else None, tally, read, **configured)
    sys.stdout.write(_written(made, "json" if as_json else form))
    return 0


def _written(made: Report, form: str) -> str:
    if form == "json":
        return json_text(made) + "\n"
    return report_html(made) if form == "html" else report_markdown(made)


def _configured(folder: Path, *, needed: bool) -> dict[str, Any]:
    """What a report says of the folder's configuration; nothing where it may be computed without, and there is none."""
    if not needed and not (folder / FILE).exists():
        return {}
    configuration, rulebook = load_rules(folder)
    given = given_to_servers(folder)
    return {
        "live": live_settings(configuration, rulebook, given),
        "coverage": coverage_of(configuration, rulebook, given),
        "declared": declared_names(configuration, rulebook),
        "read_from": InForce(rulebook=rulebook.kept, configuration=configuration.digest),
    }


async def _of_store(folder: Path, tally: Tally) -> Read:
    async with open_node(folder) as node:
        return await read_store(node.ledger, tally)


def _of_export(export: Path, vkey: str, tally: Tally) -> Read:
    path = Path(vkey)
    text = path.read_text(encoding="utf-8") if "+" not in vkey and path.is_file() else vkey
    with export.open("r", encoding="utf-8", errors="replace") as file:
        return read_export(file, Verifier.parse(text), tally)


def _moment(text: str | None, option: str, *, whole_day: bool = False) -> datetime | None:
    """A day or a moment; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(f"{option} {text[:40]!r} is no day and no moment", code="period", hint="2026-11-01, or 2026-11-01T12:00Z") from None
    try:
        if whole_day and len(text) == len("2026-11-01"):
            moment += timedelta(days=1)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise Mistake(f"{option} {text[:40]!r} is beyond the calendar", code="period") from None

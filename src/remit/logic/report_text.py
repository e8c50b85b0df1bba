"""A report as Markdown. Pure.

Rules: text of strangers (names of tools and agents) is made visible and cannot become markup: every character with a meaning in Markdown or
HTML is escaped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from remit.logic.evidence import visible
from remit.logic.report_words import (
    ITEM_STATES,
    STATES,
    counter_words,
    covered_words,
    entries_words,
    kind_words,
    measure_words,
    period_words,
    telling,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.model.report import Control, Coverage, Covered, Report

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~&$@]|(?<=www)\.|:(?=//))")  # the last two: addresses that become links by themselves


def report_markdown(report: Report) -> str:
    """The whole report."""
    return "\n".join([*_head(report), *_coverage(report), *_items(report), *_controls(report), *_foot(report)]) + "\n"


def escaped(text: str) -> str:
    """Text of whoever as one line of Markdown that is only text."""
    return _MARKUP.sub(r"\\\1", visible(text))


def _head(report: Report) -> Iterator[str]:
    read = report.read
    yield f"# {escaped(report.framework_title)}"
    yield ""
    if report.framework_source:
        yield escaped(report.framework_source)
        yield ""
    yield f"- period: {escaped(period_words(report))}"
    counted = f"{read.entries} entries verified, {read.in_period} of them in the period (read from the {read.source})"
    yield f"- ledger: {escaped(read.origin)}, {counted}"
    yield f"- root: `{read.root}`"
    yield f"- settings: {escaped(report.settings_from) if report.settings_from else 'no configuration was read'}"
    yield ""
    yield "A control is *shown* only by entries of the period. What nobody exercised is not green, and no report says compliant."
    yield ""


def _coverage(report: Report) -> Iterator[str]:
    coverage = report.coverage
    yield "## What is under policy"
    yield ""
    if coverage.configured:
        yield "| declared | under policy | not |"
        yield "| --- | --- | --- |"
        for one in coverage.configured:
            yield f"| {escaped(kind_words(one.kind))} | {covered_words(one)} | {_names(one)} |"
        yield ""
        yield "Not under policy, or less than could be:" if coverage.gaps else "No gap was found in the configuration."
        yield ""
        for gap in coverage.gaps:
            yield f"- {escaped(gap.what)} (`{_code(gap.where)}`). Mend: {escaped(gap.mend)}"
        yield ""
    yield "| seen in the period | declared | not declared |"
    yield "| --- | --- | --- |"
    for one in coverage.seen:
        told = covered_words(one) if coverage.configured else f"{one.known} seen"
        yield f"| {escaped(kind_words(one.kind))} | {told} | {_names(one)} |"
    yield ""
    yield from _decisions(coverage)
    if coverage.unused:
        yield "| declared and not seen in the period | which |"
        yield "| --- | --- |"
        for one in coverage.unused:
            yield f"| {escaped(kind_words(one.kind))} | {_names(one) or 'none'} |"
        yield ""


def _decisions(coverage: Coverage) -> Iterator[str]:
    yield "| decided in the period | number | latest entries |"
    yield "| --- | --- | --- |"
    for one in coverage.decisions:
        yield f"| {escaped(counter_words(one.what))} | {one.number} | {escaped(entries_words(one))} |"
    yield ""


def _items(report: Report) -> Iterator[str]:
    if not report.items:
        return
    yield "## Items"
    yield ""
    states = {control.key: control.state for control in report.controls}
    yield "| id | title | known as | controls |"
    yield "| --- | --- | --- | --- |"
    for item in report.items:
        controls = ", ".join(f"{key} ({states[key]})" for key in item.controls)
        yield f"| {escaped(item.id)} | {escaped(item.title)} | **{item.state}** | {escaped(controls) or 'none'} |"
    yield ""
    yield "What remit cannot see or do:"
    yield ""
    for item in report.items:
        yield f"- **{escaped(item.id)}** {escaped(item.cannot)} {escaped(item.note)}".rstrip()
    yield ""
    yield "; ".join(f"*{state}*: {words}" for state, words in ITEM_STATES.items()) + "."
    yield ""


def _controls(report: Report) -> Iterator[str]:
    if not report.controls:
        return
    yield "## Controls"
    yield ""
    yield "; ".join(f"*{state}*: {words}" for state, words in STATES.items()) + "."
    yield ""
    for control in report.controls:
        yield from _control(control)


def _control(control: Control) -> Iterator[str]:
    yield f"### {control.key}: {control.state}"
    yield ""
    yield escaped(control.enforces)
    yield ""
    for figure in telling(control.figures):
        against = " (speaks against it unless 0)" if figure.against else ""
        entries = f"; entries {escaped(entries_words(figure))}" if figure.entries else ""
        yield f"- {escaped(counter_words(figure.what))}: **{figure.number}**{against}{entries}"
    for drill, outcome in control.drills.items():
        yield f"- drill {escaped(drill)}: {escaped(outcome.replace('_', ' ')) if outcome else 'not played in the period'}"
    for setting in control.settings:
        yield f"- setting {escaped(setting.key)}: {escaped(setting.value)}"
    yield ""


def _foot(report: Report) -> Iterator[str]:
    yield "## Times"
    yield ""
    for words, value in measure_words(report):
        yield f"- {words}: {value}"
    yield ""
    yield "## The signed head"
    yield ""
    yield "Who has the log's key (`remit ledger key`) and an export can compute this again: `remit report --ledger FILE --key KEY`."
    yield ""
    for line in report.read.checkpoint.splitlines():
        yield f"    {visible(line)}"


def _names(one: Covered) -> str:
    more = one.known - one.under_policy - len(one.names)
    return ", ".join(escaped(name) for name in one.names) + (f" and {more} more" if more > 0 and one.names else "")


def _code(text: str) -> str:
    return visible(text).replace("`", "'").replace("|", "¦")

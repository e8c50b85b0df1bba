"""A report as one HTML page: nothing is fetched, nothing runs, and it prints on paper. Pure.

Rules: every text goes through ``_t``: made visible, then escaped. No script, no link that leads out; the page says so itself by its
Content-Security-Policy.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from remit.logic.evidence import visible
from remit.logic.report_words import ITEM_STATES, STATES, counter_words, covered_words, kind_words, measure_words, period_words, telling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from remit.model.report import Control, Coverage, Covered, Figure, ItemReport, Report

_STYLE = """
:root { color-scheme: light; --ink: #1c2127; --soft: #5b6570; --line: #d5dae0; --ground: #fff }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  margin: 2rem auto; max-width: 64rem; padding: 0 1.25rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem } h3 { font-size: 1rem; margin: 0 }
p { margin: .4rem 0 } table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .92em }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word }
th { font-weight: 600; white-space: nowrap; color: var(--soft) }
.soft { color: var(--soft) } .line { white-space: nowrap } .id { white-space: nowrap; font-weight: 600 }
code, pre, .hash { font: .86em/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; background: #f4f6f8; padding: .7rem }
.word { display: inline-block; white-space: nowrap;
  border: 1px solid; border-radius: 3px; padding: 0 .4rem; font-size: .86em; font-weight: 600 }
.shown { color: #14622f; background: #e4f4e8 } .drilled, .partly { color: #5b4a00; background: #fbf3d3 }
.configured, .not { color: #4a5158; background: #eef0f2 } .contradicted { color: #8c1d18; background: #fde7e5 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
section.control { border-top: 1px solid var(--line); padding: .8rem 0; break-inside: avoid } a { color: inherit }
ul { margin: .4rem 0; padding-left: 1.2rem }
@media print {
  body { font-size: 10pt; margin: 0; max-width: none; padding: 0 } h2 { break-after: avoid } tr { break-inside: avoid }
  .word { -webkit-print-color-adjust: exact; print-color-adjust: exact } a { text-decoration: none }
  @page { size: A4; margin: 16mm }
}
@media (max-width: 40rem) { dl { grid-template-columns: 1fr } dt { margin-top: .3rem } }
"""
_NONE = '<span class="soft">none</span>'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_html(report: Report) -> str:
    """The whole page."""
    title = _t(report.framework_title)
    body = "\n".join([*_head(report), *_coverage(report.coverage), *_items(report), *_controls(report), *_foot(report)])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _t(text: object) -> str:
    return html.escape(visible(str(text)))


def _head(report: Report) -> Iterator[str]:
    read = report.read
    yield f"<h1>{_t(report.framework_title)}</h1>"
    if report.framework_source:
        yield f'<p class="soft">{_t(report.framework_source)}</p>'
    yield "<dl>"
    ledger = f"{read.origin}: {read.entries} entries verified, {read.in_period} of them in the period (read from the {read.source})"
    settings = report.settings_from or "no configuration was read"
    for name, value in (("period", period_words(report)), ("ledger", ledger), ("root", read.root), ("settings", settings)):
        yield f'<dt>{name}</dt><dd class="{"hash" if name in {"root", "settings"} else ""}">{_t(value)}</dd>'
    yield "</dl>"
    yield "<p>A control is shown only by entries of the period. What nobody exercised is not green, and no report says compliant.</p>"


def _coverage(coverage: Coverage) -> Iterator[str]:
    yield "<h2>What is under policy</h2>"
    if coverage.configured:
        rows = ((_t(kind_words(one.kind)), covered_words(one), _names(one) or _NONE) for one in coverage.configured)
        yield _table(("declared", "under policy", "not"), rows)
        if coverage.gaps:
            yield "<p>Not under policy, or less than could be:</p>"
            yield _table(
                ("what", "where", "how to mend it"),
                ((_t(gap.what), f'<code class="line">{_t(gap.where)}</code>', _t(gap.mend)) for gap in coverage.gaps),
            )
        else:
            yield "<p>No gap was found in the configuration.</p>"
    known = bool(coverage.configured)
    rows = ((_t(kind_words(one.kind)), covered_words(one) if known else f"{one.known} seen", _names(one) or _NONE) for one in coverage.seen)
    yield _table(("seen in the period", "declared", "not declared"), rows)
    yield _table(("decided in the period", "number", "latest entries: index, leaf hash"), (_figure(one) for one in coverage.decisions))
    if coverage.unused:
        yield _table(
            ("declared and not seen in the period", "which"), ((_t(kind_words(one.kind)), _names(one) or _NONE) for one in coverage.unused)
        )


def _items(report: Report) -> Iterator[str]:
    if not report.items:
        return
    states = {control.key: control for control in report.controls}
    yield "<h2>Items</h2>"
    yield _legend(ITEM_STATES.items())
    yield _table(("item", "known as", "controls", "what remit cannot see or do"), (_item(item, states) for item in report.items))


def _item(item: ItemReport, states: dict[str, Control]) -> tuple[str, ...]:
    lines = (f'<a href="#{_t(key)}">{_t(key)}</a> <span class="soft">{_t(states[key].state)}</span>' for key in item.controls)
    controls = "".join(f'<div class="line">{line}</div>' for line in lines)
    note = f' <span class="soft">{_t(item.note)}</span>' if item.note else ""
    return f'<div class="id">{_t(item.id)}</div>{_t(item.title)}', _word(item.state), controls or "none", f"{_t(item.cannot)}{note}"


def _controls(report: Report) -> Iterator[str]:
    if not report.controls:
        return
    yield "<h2>Controls</h2>"
    yield _legend(STATES.items())
    for control in report.controls:
        head = f"<h3>{_t(control.key)} {_word(control.state)}</h3>"
        yield f'<section class="control" id="{_t(control.key)}">{head}<p>{_t(control.enforces)}</p>'
        figures = telling(control.figures)
        if figures:
            yield _table(("in the period", "number", "latest entries: index, leaf hash"), (_figure(one) for one in figures))
        lines = [f"drill {drill}: {outcome.replace('_', ' ') or 'not played in the period'}" for drill, outcome in control.drills.items()]
        lines += [f"setting {setting.key}: {setting.value}" for setting in control.settings]
        if lines:
            yield "<ul>" + "".join(f"<li>{_t(line)}</li>" for line in lines) + "</ul>"
        yield "</section>"


def _figure(figure: Figure) -> tuple[str, ...]:
    against = ' <span class="soft">(speaks against it unless 0)</span>' if figure.against else ""
    entries = "<br>".join(f'<span class="hash line">{one.index} {_t(one.leaf[:16])}… {_t(one.at[:19])}Z</span>' for one in figure.entries)
    return f"{_t(counter_words(figure.what))}{against}", str(figure.number), entries


def _foot(report: Report) -> Iterator[str]:
    yield "<h2>Times</h2>"
    yield "<dl>" + "".join(f"<dt>{_t(words)}</dt><dd>{_t(value)}</dd>" for words, value in measure_words(report)) + "</dl>"
    yield "<h2>The signed head</h2>"
    yield (
        "<p>Anybody who has the log’s key (<code>remit ledger key</code>) and an export can compute this report again: "
        "<code>remit report --ledger FILE --key KEY</code>.</p>"
    )
    lines = "\n".join(_t(line) for line in report.read.checkpoint.splitlines())
    yield f"<pre>{lines}</pre>"


def _legend(words: Iterable[tuple[str, str]]) -> str:
    return '<p class="soft">' + " &nbsp; ".join(f"{_word(state)} {_t(told)}" for state, told in words) + "</p>"


def _word(state: str) -> str:
    return f'<span class="word {_t(state.partition(" ")[0])}">{_t(state)}</span>'


def _names(one: Covered) -> str:
    more = one.known - one.under_policy - len(one.names)
    return ", ".join(f"<code>{_t(name)}</code>" for name in one.names) + (f" and {more} more" if more > 0 and one.names else "")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Cells are markup already."""
    head = "".join(f"<th>{_t(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

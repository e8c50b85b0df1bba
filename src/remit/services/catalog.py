"""Reads what ``remit.toml`` states of servers and tools: ``[servers.NAME]`` as defaults, ``[tools."server/name"]``.

Rules: as ``services/reading.py``. What these statements mean is ``logic/labelling.py``'s and ``logic/rulebook.py``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from remit.logic.detectors import Detector
from remit.logic.labelling import FieldRule, ResultRules, Statement, WhenRule
from remit.logic.rulebook import CatalogEntry
from remit.model.catalog import Effect, Sends, Trust
from remit.services.reading import Reader, near

if TYPE_CHECKING:
    from remit.model.labels import DataClasses

_RULES_MAX = 100


def read_entry(table: Reader, classes: DataClasses, *, whole: bool = False) -> CatalogEntry:
    """One catalog entry. ``whole``: of a server, which has no arguments or fields."""
    result = ResultRules() if whole else ResultRules(fields=_fields(table, classes), whens=_whens(table, classes))
    selectors = table.texts("selectors") if not whole and "selectors" in table.data else None
    states = _statement(table, classes)
    entry = CatalogEntry(
        effect=table.choice("effect", Effect),
        data_class=states.data_class,
        trust=states.trust,
        sends=table.choice("sends", Sends),
        selectors=selectors,
        result=result,
        detect=_detectors(table),
    )
    table.done()
    return entry


def read_detected(table: Reader, classes: DataClasses) -> dict[Detector, str]:
    """The data class that each detector's findings make: ``[data.detected]``."""
    found = {}
    for detector in Detector:
        name = table.value(detector.value, str, classes.highest)
        if name not in classes.names:
            table.wrong(f"{detector.value} = {name[:80]!r}", near(name, classes.names), detector.value)
        found[detector] = name
    table.done()
    return found


def _detectors(table: Reader) -> tuple[Detector, ...] | None:
    if "detect" not in table.data:
        return None
    names = table.texts("detect")
    known = [detector.value for detector in Detector]
    for name in names:
        if name not in known:
            table.wrong(f"detect = {name[:80]!r}", near(name, known), "detect")
    return tuple(Detector(name) for name in names if name in known)


def _statement(table: Reader, classes: DataClasses) -> Statement:
    data_class = table.value("data_class", str, "")
    if (data_class or table.data.get("data_class") == "") and data_class not in classes.names:
        table.wrong(f"data_class = {data_class!r}", near(data_class, classes.names), "data_class")
        data_class = ""
    return Statement(data_class=data_class or None, trust=table.choice("trust", Trust))


def _fields(table: Reader, classes: DataClasses) -> tuple[FieldRule, ...]:
    found = []
    for name, inner in table.tables("fields"):
        pattern = _pointer(inner, name)
        states = replace(_statement(inner, classes), identifier=inner.value("identifier", bool, default=False))
        if states == Statement():
            inner.wrong(f"nothing is stated of {name}", 'trust = "trusted", data_class = "internal"')
        inner.done()
        found.append(FieldRule(pattern=pattern, states=states))
    if len(found) > _RULES_MAX:
        table.wrong(f"more than {_RULES_MAX} fields", "name their common beginning, or use * for a segment", "fields")
    return tuple(found)


def _whens(table: Reader, classes: DataClasses) -> tuple[WhenRule, ...]:
    found = []
    for inner in table.each("when"):
        argument, result = inner.value("argument", str, ""), inner.value("result", str, "")
        matches = inner.value("matches", str, "")
        states = _statement(inner, classes)
        inner.done()
        if bool(argument) == bool(result):
            inner.wrong("a when names either an argument or a field of the result", 'argument = "/path", or result = "/messages/*/from"')
        if not matches or states == Statement():
            inner.wrong("a when says what matches, and what is so then", 'matches = "/public/*"\n    data_class = "public"')
        where = _pointer(inner, argument or result)
        found.append(WhenRule(argument=where if argument else (), result=where if result else (), matches=matches, states=states))
    if len(found) > _RULES_MAX:
        table.wrong(f"more than {_RULES_MAX} of them", "one pattern may stand for several", "when")
    return tuple(found)


def _pointer(table: Reader, text: str) -> tuple[str, ...]:
    if not text.startswith("/"):
        table.wrong(f"{text!r} is not a JSON pointer", "/messages/*/from: each segment after a /, * for any one")
    return tuple(text.split("/"))

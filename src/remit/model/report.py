"""A report: what of a framework's items this installation enforces, and what of its ledger shows it.

Rules
* A control is *shown* by entries of the period, *drilled* where only a drill that held shows it, *configured* where it is set
  up and nobody has exercised it, *not shown* otherwise. It is *contradicted* where an entry or a drill says that it
  did not work. Only what is shown is ever green. A report never says "compliant": organisations are, a log is not.
* Counts are of the period; entries are named by index and leaf hash, so that anybody with an export can look.
* Left out: how it is written (``logic/report_text.py``, ``logic/report_html.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "remit-report/1"


class Framework(StrEnum):
    """The frameworks that are reported on."""

    OWASP_AGENTIC = "owasp-agentic"
    OWASP_NHI = "owasp-nhi"
    MAESTRO = "maestro"
    NIST_AI_RMF = "nist-ai-rmf"


class State(StrEnum):
    """What is known of a control."""

    SHOWN = "shown"
    DRILLED = "drilled"
    CONFIGURED = "configured"
    NOT_SHOWN = "not shown"
    CONTRADICTED = "contradicted"


class ItemState(StrEnum):
    """What is known of an item, from its controls: *partly* where some are shown or drilled, and not all are shown."""

    SHOWN = "shown"
    PARTLY = "partly shown"
    NOT_SHOWN = "not shown"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSetting:
    """A setting as it is in force, in words. ``on``: whether it sets up what it speaks of."""

    key: str
    value: str
    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that is not under policy, or less than it could be. ``mend``: how to change it."""

    what: str
    where: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """One kind of thing: how many there are, how many are under policy, and which (the first hundred)."""

    kind: str
    known: int
    under_policy: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    """An entry of the ledger that shows something."""

    index: int
    kind: str
    at: str
    leaf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with what it counts, and the latest entries behind it. ``against``: it speaks against the control unless it is 0."""

    what: str
    number: int
    entries: tuple[ShownEntry, ...] = ()
    against: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What is under policy and what is not. ``configured`` is read from the folder; ``seen`` and ``decisions``, what was decided and
    what nobody had declared, from the ledger's period.
    """

    configured: tuple[Covered, ...] = ()
    gaps: tuple[Gap, ...] = ()
    seen: tuple[Covered, ...] = ()
    unused: tuple[Covered, ...] = ()
    decisions: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control as it is known. ``enforces``: what remit does. ``drills``: those that bear on it, with their latest outcome of the
    period.
    """

    key: str
    enforces: str
    state: State
    figures: tuple[Figure, ...] = ()
    drills: Mapping[str, str]
    settings: tuple[LiveSetting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReport:
    """One item of the framework. ``cannot``: what of it remit does not see or do. ``controls``: keys of ``Report.controls``."""

    id: str
    title: str
    state: ItemState
    controls: tuple[str, ...]
    cannot: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``begin`` on, before ``end``, as RFC 3339; "" : without a bound."""

    begin: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a report was computed from. ``entries``: of the ledger, all of which were read and lead to ``root`` (hexadecimal), which
    ``checkpoint`` signs (a C2SP note). ``source``: ``store``, or ``export``. ``in_period``: entries that were counted.
    """

    source: str
    origin: str
    entries: int
    root: str
    checkpoint: str
    in_period: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """Which rules decide: digests of the rulebook as it is kept, and of the configuration ("" : not known)."""

    rulebook: str = ""
    configuration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report. ``framework`` "" : coverage alone. ``settings_from``: the digest of the configuration ("" : none was read)."""

    schema: str = SCHEMA
    framework: str
    framework_title: str
    framework_source: str
    period: Period
    read: Read
    settings_from: str
    coverage: Coverage
    items: tuple[ItemReport, ...]
    controls: tuple[Control, ...]
    measures: tuple[Figure, ...] = ()

"""Computes a report: reads the whole ledger, of the store or of an export, verifies it, and counts what is of the period.

Rules
* Nothing is reported of a ledger that does not verify: of a store the entries must lead to its signed head, an export is verified as
  `remit ledger verify` does. The report names the head that it was computed at; the store keeps it among its published ones, so a later
  export can be checked against it.
* One pass (an export: two) in constant memory.
* Left out: what is counted (``logic/tally.py``), what follows from it (``logic/report.py``).
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from remit.errors import Broken, Mistake, Refusal
from remit.logic.audit import Tampered, verify_export
from remit.logic.checkpoint import open_checkpoint
from remit.logic.merkle import completed, leaf_hash, root_of
from remit.logic.records import decode
from remit.logic.report import decisions_of, make_report, seen_of
from remit.logic.tally import Tally
from remit.model.report import Coverage, InForce, Period, Read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from remit.logic.checkpoint import Verifier
    from remit.model.report import Framework, LiveSetting, Report
    from remit.services.ledger import Ledger

_PAGE = 1_000


async def read_store(ledger: Ledger, tally: Tally) -> Read:
    """Count a store's log up to its head, which is published. Raises Refusal (another ledger), Broken (not what was signed), Outage."""
    note = await ledger.publish()
    try:
        head = open_checkpoint(note, ledger.verifier)
    except Mistake as error:
        hint = "each folder has its own store and keys: point storage and trust.keys at the same one"
        raise Refusal(f"this is not the ledger of {ledger.verifier.name}: {error.message}", code="another_ledger", hint=hint) from None
    frontier: tuple[bytes, ...] = ()
    read = 0
    while read < head.size:
        entries = await ledger.entries(read, min(_PAGE, head.size - read))
        if not entries:
            raise Broken(f"the store holds {read} of the {head.size} entries that were signed", code="ledger")
        for entry in entries:
            leaf = leaf_hash(entry.body)
            frontier, _ = completed(frontier, read, leaf)
            tally.take(read, leaf, decode(entry.body))
            read += 1
    if root_of(frontier) != head.root:
        raise Broken("the entries are not those that were signed", code="ledger", hint="`remit ledger export` and `verify` name them")
    tally.finish()
    return _read("store", head.origin, head.size, head.root, note, tally)


def read_export(file: IO[str], verifier: Verifier, tally: Tally) -> Read:
    """Count an exported log, which must be a file that can be read twice. Raises Refusal (it does not verify), Mistake, Broken."""
    if not file.seekable():
        raise Mistake("an export is read twice, so it must be a file, not a pipe", code="export")
    outcome = verify_export(file, verifier)
    if isinstance(outcome, Tampered):
        where = f"entry {outcome.first}" if outcome.first == outcome.last else f"entries {outcome.first} to {outcome.last}"
        raise Refusal(f"the export is not what was signed, {where}: {outcome.what}", code="ledger", hint="there is nothing to report of it")
    file.seek(0)
    frontier: tuple[bytes, ...] = ()
    read, note = 0, ""
    for kind, data in _lines(file):
        if kind == "checkpoint":
            note = data.decode()
        elif kind == "entry":
            leaf = leaf_hash(data)
            frontier, _ = completed(frontier, read, leaf)
            tally.take(read, leaf, decode(data))
            read += 1
    if root_of(frontier) != outcome.root:  # it was changed between the two readings
        raise Refusal("the export changed while it was read", code="ledger")
    tally.finish()
    return _read("export", verifier.name, read, outcome.root, note, tally)


def report(
    framework: Framework | None,
    tally: Tally,
    read: Read,
    *,
    live: Mapping[str, LiveSetting] | None = None,
    coverage: Coverage | None = None,
    declared: Mapping[str, tuple[str, ...]] | None = None,
    read_from: InForce | None = None,
) -> Report:
    """The report of what was counted. Without ``live``, ``coverage`` and ``declared`` nothing is said of the configuration."""
    seen, unused = seen_of(tally, declared)
    period = Period(begin=_text(tally.begin), end=_text(tally.end))
    whole = replace(coverage or Coverage(), seen=seen, unused=unused, decisions=decisions_of(tally))
    return make_report(framework, tally, live, whole, period=period, read=read, read_from=read_from or InForce())


def _lines(file: IO[str]) -> Iterator[tuple[str, bytes]]:
    for line in file:
        kind, _, encoded = line.rstrip("\n").partition(" ")
        if encoded:
            yield kind, base64.b64decode(encoded)


def _read(source: str, origin: str, entries: int, root: bytes, note: str, tally: Tally) -> Read:
    return Read(source=source, origin=origin, entries=entries, root=root.hex(), checkpoint=note, in_period=tally.number("ledger.entries"))


def _text(moment: datetime | None) -> str:
    return moment.isoformat() if moment is not None else ""

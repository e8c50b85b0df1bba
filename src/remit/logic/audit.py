"""Verification of an exported ledger: offline, streaming, with nothing but the log's public key.

Form of an export, lines of text: ``remit-ledger/1``, then in order ``leaf <base64 hash>`` and ``entry <base64 bytes>`` for
each entry, and ``checkpoint <base64 note>`` after the last entry that the note covers. The last line is a checkpoint.

What is named: the *first* entry that does not fit, when it was changed, removed, inserted, moved or swapped. The leaf
lines are only a help for naming: an entry whose bytes do not hash to its leaf was changed. Where an attacker also
rewrote the leaf lines, records of a task count from 1 without a gap, and the first break names the entry; what fits in all
of that is still caught by the next checkpoint, whose range is then named, since only the signer could tell more.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.checkpoint import open_checkpoint
from remit.logic.merkle import completed, leaf_hash, root_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.logic.checkpoint import Verifier

EXPORT_HEADER = "remit-ledger/1"
_LINE_CHARACTERS_MAX = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The export is whole: so many entries under so many checkpoints, up to this root."""

    entries: int
    checkpoints: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampered:
    """The export is not what the log signed. ``first``: index of the first entry that does not fit; ``last``: the range's end
    where only a range can be named (equal to ``first`` where the entry is known exactly).
    """

    first: int
    last: int
    what: str


def export_line(kind: str, data: bytes) -> str:
    """One line of an export."""
    return f"{kind} {base64.b64encode(data).decode()}"


def verify_export(lines: Iterable[str], verifier: Verifier) -> Verified | Tampered:
    """Check a whole export. Never raises for its content."""
    audit = _Audit(verifier)
    numbered = iter(lines)
    if next(numbered, "").rstrip("\n") != EXPORT_HEADER:
        return Tampered(first=0, last=0, what=f"the file does not begin with {EXPORT_HEADER}")
    for line in numbered:
        found = audit.line(line)
        if found is not None:
            return found
    return audit.end()


class _Audit:
    """State of one pass: constant but for the last sequence number of each task that has not ended."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._frontier: tuple[bytes, ...] = ()
        self._size = self._covered = self._checkpoints = 0
        self._leaf: bytes | None = None
        self._sequences: dict[str, int] = {}
        self._suspect: Tampered | None = None

    def line(self, line: str) -> Tampered | None:
        if len(line) > _LINE_CHARACTERS_MAX:
            return self._here("a line is too long")
        kind, _, encoded = line.rstrip("\n").partition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            return self._here("a line is damaged")
        if kind == "leaf" and self._leaf is None:
            self._leaf = data
            return None
        if kind == "entry":
            return self._entry(data)
        if kind == "checkpoint" and self._leaf is None:
            return self._checkpoint(data)
        return self._here("a line is out of its place")

    def end(self) -> Verified | Tampered:
        if self._leaf is not None:
            return self._here("the entry is missing")
        if self._suspect is not None:
            return self._suspect
        if self._covered != self._size or not self._checkpoints:
            return Tampered(first=self._covered, last=max(self._size - 1, self._covered), what="no signed checkpoint covers the end")
        return Verified(entries=self._size, checkpoints=self._checkpoints, root=root_of(self._frontier))

    def _entry(self, body: bytes) -> Tampered | None:
        if self._leaf is None or leaf_hash(body) != self._leaf:
            return self._here("the entry was changed: its bytes do not match its leaf hash")
        self._leaf = None
        if self._suspect is None:
            self._suspect = self._sequence(body)
        self._frontier, _ = completed(self._frontier, self._size, leaf_hash(body))
        self._size += 1
        return None

    def _sequence(self, body: bytes) -> Tampered | None:
        try:
            record = json.loads(body)
            task, seq = record["task"], record["seq"]
        except (ValueError, KeyError, TypeError):
            return self._here("the entry is not a record")
        if task is None:
            return None
        expected = self._sequences.get(task, 0) + 1
        self._sequences[task] = seq
        if seq == expected:
            return None
        return self._here(f"record {seq} of {task} stands where record {expected} belongs: removed, inserted or moved")

    def _checkpoint(self, note: bytes) -> Tampered | None:
        try:
            head = open_checkpoint(note.decode("utf-8"), self._verifier)
        except (Mistake, UnicodeDecodeError) as error:
            return Tampered(first=self._covered, last=max(self._size - 1, self._covered), what=f"a checkpoint does not hold: {error}")
        fits = head.size == self._size and head.root == root_of(self._frontier)
        if fits and self._suspect is None:
            self._covered, self._checkpoints = head.size, self._checkpoints + 1
            return None
        if self._suspect is not None:
            return self._suspect
        if head.size != self._size:
            what = f"the checkpoint signs {head.size} entries, the file has {self._size}: removed or inserted"
        else:
            what = "entries do not lead to the signed root: changed, moved or exchanged together with their hashes"
        return Tampered(first=self._covered, last=max(head.size, self._size) - 1, what=what)

    def _here(self, what: str) -> Tampered:
        return Tampered(first=self._size, last=self._size, what=what)

"""Verification of an exported ledger: offline, streaming, with nothing but the log's public key.

Form of an export, lines of text: ``remit-ledger/1``, then in order ``leaf <base64 hash>`` and ``entry <base64 bytes>`` for
each entry, and ``checkpoint <base64 note>`` after the last entry that the note covers. The last line is a checkpoint.

What is named: the *first* entry that does not fit, when it was changed, removed, inserted, moved or swapped. The leaf
lines are only a help for naming: an entry whose bytes do not hash to its leaf was changed. Where an attacker also
rewrote the leaf lines, records of a task count from 1 without a gap, and the first break names the entry; what fits in all
of that is still caught by the next checkpoint, whose range is then named, since only the signer could tell more.

How it is quick: the file is cut into blocks of whole lines. A block is decoded and hashed for itself (``audit_blocks.py``); several are a
stretch, of which another process says in short what it comes to (``audit_stretch.py``). The ``Audit`` takes what came of them in the order
of the file. A stretch is taken where all of it fits; what does not fit is found and named by its blocks alone, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.audit_blocks import EXPORT_HEADER, Fault, Note, Run, digested, export_line
from remit.logic.checkpoint import open_checkpoint
from remit.logic.merkle import HASH_BYTES, extended, root_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from remit.logic.audit_blocks import Piece
    from remit.logic.audit_stretch import Stretch
    from remit.logic.checkpoint import Verifier

__all__ = ["EXPORT_HEADER", "Audit", "Tampered", "Verified", "export_line", "verify_export"]
_LINES_AT_ONCE = 2_000
_TASKS_MAX = 200_000  # whose last sequence number is kept


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


def verify_export(lines: Iterable[str], verifier: Verifier) -> Verified | Tampered:
    """Check a whole export. Never raises for its content."""
    audit, numbered = Audit(verifier), iter(lines)
    found = audit.begin(next(numbered, "").encode("utf-8", "replace"))
    for block in _blocks(numbered):
        found = found or audit.take(digested(block))
    return found or audit.end()


def _blocks(lines: Iterator[str]) -> Iterator[bytes]:
    """Lines by the thousand, cut where a block may begin."""
    held: list[str] = []
    for line in lines:
        if len(held) >= _LINES_AT_ONCE and not line.startswith("entry "):
            yield "".join(held).encode("utf-8", "replace")
            held = []
        held.append(line.rstrip("\n") + "\n")  # also the last: a line that is blank is a line
    if held:
        yield "".join(held).encode("utf-8", "replace")


class Audit:
    """State of one pass: constant. Of tasks beyond some hundred thousand, the oldest are no longer counted by their sequence: what was
    done to them is found by the checkpoint all the same, only named less exactly.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._frontier: tuple[bytes, ...] = ()
        self._size = self._covered = self._checkpoints = 0
        self._sequences: dict[str, int] = {}
        self._forgot = False
        self._suspect: Tampered | None = None

    def begin(self, line: bytes) -> Tampered | None:
        """The first line of the file."""
        if line.rstrip(b"\n") == EXPORT_HEADER.encode():
            return None
        return Tampered(first=0, last=0, what=f"the file does not begin with {EXPORT_HEADER}")

    def take(self, pieces: Iterable[Piece]) -> Tampered | None:
        """What came of the next block; the first thing that does not fit, or ``None`` to go on."""
        for piece in pieces:
            if isinstance(piece, Run):
                self._run(piece)
            elif isinstance(piece, Fault):
                return self._suspect or self._here(piece.what)
            elif (found := self._checkpoint(piece)) is not None:
                return found
        return None

    def fits(self, stretch: Stretch) -> bool:
        """Take what came of the next stretch where all of it fits. Where anything does not, nothing is taken: its blocks then tell what."""
        last = self._sequences
        for task, first in zip(stretch.tasks, stretch.firsts, strict=True):
            before = last.get(task)
            if first != (before or 0) + 1 and not (before is None and self._forgot and first > 0):
                return False
        until_now = self._frontier, self._size, self._covered, self._checkpoints
        for leaves, note in zip(stretch.leaves, [*stretch.notes, b""], strict=True):
            self._grow(leaves)
            if note and self._checkpoint(Note(note)) is not None:
                self._frontier, self._size, self._covered, self._checkpoints = until_now
                return False
        last.update(zip(stretch.tasks, stretch.lasts, strict=True))
        self._forget()
        return True

    def end(self) -> Verified | Tampered:
        """The end of the file."""
        if self._suspect is not None:
            return self._suspect
        if self._covered != self._size or not self._checkpoints:
            return Tampered(first=self._covered, last=max(self._size - 1, self._covered), what="no signed checkpoint covers the end")
        return Verified(entries=self._size, checkpoints=self._checkpoints, root=root_of(self._frontier))

    def _run(self, run: Run) -> None:
        if self._suspect is None:
            self._count(run)
        self._grow(run.leaves)

    def _count(self, run: Run) -> None:
        """Hold the sequence numbers of a run against those before."""
        last = self._sequences
        for number, place in enumerate(run.places):
            task, seq = place.task, place.seq
            if task is None:
                continue
            before = last.get(task)
            if seq == (before or 0) + 1 or (before is None and self._forgot and seq > 0):
                last[task] = seq
                continue
            where, expected = self._size + number, (before or 0) + 1
            what = f"record {seq} of {task} stands where record {expected} belongs: removed, inserted or moved"
            self._suspect = Tampered(first=where, last=where, what=what if seq >= 0 else "the entry is not a record")
            return
        self._forget()

    def _forget(self) -> None:
        if len(self._sequences) > _TASKS_MAX:
            for task in list(self._sequences)[: _TASKS_MAX // 2]:
                del self._sequences[task]
            self._forgot = True

    def _grow(self, leaves: bytes) -> None:
        self._frontier = extended(self._frontier, self._size, leaves)
        self._size += len(leaves) // HASH_BYTES

    def _checkpoint(self, note: Note) -> Tampered | None:
        if self._suspect is not None:
            return self._suspect
        try:
            head = open_checkpoint(note.text.decode("utf-8"), self._verifier)
        except (Mistake, UnicodeDecodeError) as error:
            return Tampered(first=self._covered, last=max(self._size - 1, self._covered), what=f"a checkpoint does not hold: {error}")
        if head.size == self._size and head.root == root_of(self._frontier):
            self._covered, self._checkpoints = head.size, self._checkpoints + 1
            return None
        if head.size != self._size:
            what = f"the checkpoint signs {head.size} entries, the file has {self._size}: removed or inserted"
        else:
            what = "entries do not lead to the signed root: changed, moved or exchanged together with their hashes"
        return Tampered(first=self._covered, last=max(head.size, self._size) - 1, what=what)

    def _here(self, what: str) -> Tampered:
        return Tampered(first=self._size, last=self._size, what=what)

"""A stretch of an exported ledger, some blocks one behind the other, in short: what one process tells another of it. Pure.

Rules: only of a stretch in which everything fits together is anything said. So nothing is named here that does not: whoever gets no answer
goes through the blocks (``audit_blocks.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remit.logic.audit_blocks import Fault, Note, digested

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remit.logic.audit_blocks import Place

_SEQUENCE_MAX = 2**53


class Stretch(msgspec.Struct):
    """``leaves``: hashes one behind the other, up to each checkpoint (``notes``) and behind the last. Of each task, in the order in which
    they come, the numbers of its first and last record; between them none is missing.
    """

    leaves: list[bytes]
    notes: list[bytes]
    tasks: list[str]
    firsts: list[int]
    lasts: list[int]


def stretch_of(blocks: Iterable[bytes]) -> Stretch | None:
    """What blocks come to; ``None`` where anything in them does not fit."""
    leaves: list[bytes] = []
    parts: list[bytes] = []
    notes: list[bytes] = []
    firsts: dict[str, int] = {}
    lasts: dict[str, int] = {}
    for block in blocks:
        for piece in digested(block):
            if isinstance(piece, Fault):
                return None
            if isinstance(piece, Note):
                parts.append(b"".join(leaves))
                leaves = []
                notes.append(piece.text)
            else:
                leaves.append(piece.leaves)
                if not _counted(piece.places, firsts, lasts):
                    return None
    return Stretch([*parts, b"".join(leaves)], notes, list(firsts), list(firsts.values()), list(lasts.values()))


def _counted(places: Sequence[Place], firsts: dict[str, int], lasts: dict[str, int]) -> bool:
    """Count on with these records; whether none is missing."""
    for place in places:
        task, seq = place.task, place.seq
        if task is None:
            continue
        before = lasts.get(task)
        if before is None:
            firsts[task] = seq
        elif seq != before + 1:
            return False
        if not 0 < seq < _SEQUENCE_MAX:
            return False
        lasts[task] = seq
    return True

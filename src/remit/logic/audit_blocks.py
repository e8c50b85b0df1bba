"""One block of an exported ledger, decoded and hashed: what can be said of it without what stands before. Pure.

Rules: a block is whole lines and begins with a leaf or a checkpoint. Where everything is as it should be, lines are decoded and compared
by the hundred; wherever anything is not, they are gone through one by one, so that the first that does not fit is named.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from remit.logic.merkle import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPORT_HEADER = "remit-ledger/1"
LINE_BYTES_MAX = 131_072
_LEAF, _ENTRY, _CHECKPOINT = b"leaf ", b"entry ", b"checkpoint "


class _Place(msgspec.Struct, gc=False):
    """What of a record says where it belongs; the rest is checked to be JSON and passed over."""

    task: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Run:
    """Entries without a checkpoint between them: their leaf hashes, and of each its task and number there (-1: it is not a record)."""

    leaves: Sequence[bytes]
    tasks: Sequence[str | None]
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not what an export holds there; nothing after it counts."""

    what: str


Piece = Run | Note | Fault
_NO_RECORD = _Place("", -1)
_PLACE = msgspec.json.Decoder(_Place).decode
_IS_LEAF, _IS_ENTRY = (operator.methodcaller("startswith", word) for word in (_LEAF, _ENTRY))
_BYTES = msgspec.json.Decoder(list[bytes]).decode


def export_line(kind: str, data: bytes) -> str:
    """One line of an export."""
    return f"{kind} {base64.b64encode(data).decode()}"


def digested(block: bytes) -> list[Piece]:
    """What a block says, up to the first line that does not belong there."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    run = _at_once(lines)
    return [run] if run is not None else _in_parts(lines)


def _in_parts(lines: list[bytes]) -> list[Piece]:
    """A block with checkpoints in it, or with something that does not belong there."""
    pieces: list[Piece] = []
    begin = 0
    for number in [*(number for number, line in enumerate(lines) if line.startswith(_CHECKPOINT)), len(lines)]:
        part = lines[begin:number]
        run = _at_once(part)
        pieces += [run] if run is not None else _one_by_one(part)
        if pieces and isinstance(pieces[-1], Fault):
            return pieces
        if number < len(lines):
            data = _decoded(lines[number])
            if data is None:
                return [*pieces, Fault("a line is damaged")]
            pieces.append(Note(data))
        begin = number + 1
    return pieces


def _at_once(lines: list[bytes]) -> Run | None:
    """Lines that are leaf, entry, leaf, entry … and all fit; ``None`` where any does not. One JSON array of all is decoded quickest."""
    leaves, entries, sha256, encoded = lines[::2], lines[1::2], hashlib.sha256, binascii.b2a_base64
    if not entries or not all(map(_IS_LEAF, leaves)) or not all(map(_IS_ENTRY, entries)) or max(map(len, entries)) > LINE_BYTES_MAX:
        return None
    try:
        bodies = _BYTES(b'["' + b'","'.join([line[6:] for line in entries]) + b'"]')
        places = [_PLACE(body) for body in bodies]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    hashes = [sha256(b"\0" + body).digest() for body in bodies]  # RFC 6962 §2.1
    if [b"leaf " + encoded(leaf, newline=False) for leaf in hashes] != leaves:
        return None
    return Run(hashes, [place.task for place in places], [place.seq for place in places])


def _one_by_one(lines: list[bytes]) -> list[Piece]:
    """The same with all care: what fits, then the first that does not."""
    leaves: list[bytes] = []
    places: list[_Place] = []
    fault, awaited = "", b""
    for line in lines:
        data = _decoded(line)
        if len(line) > LINE_BYTES_MAX:
            fault = "a line is too long"
        elif data is None:
            fault = "a line is damaged"
        elif line.startswith(_LEAF) and not awaited:
            awaited = data
        elif not line.startswith(_ENTRY):
            fault = "a line is out of its place"
        elif leaf_hash(data) != awaited:
            fault = "the entry was changed: its bytes do not match its leaf hash"
        else:
            leaves.append(awaited)
            places.append(_place(data))
            awaited = b""
        if fault:
            break
    pieces: list[Piece] = [Run(leaves, [place.task for place in places], [place.seq for place in places])] if leaves else []
    return [*pieces, Fault(fault or "the entry is missing")] if fault or awaited else pieces


def _decoded(line: bytes) -> bytes | None:
    """The bytes that a line carries; ``None`` where it is damaged."""
    try:
        return base64.b64decode(line.partition(b" ")[2], validate=True)
    except (ValueError, binascii.Error):
        return None


def _place(body: bytes) -> _Place:
    try:
        return _PLACE(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _NO_RECORD

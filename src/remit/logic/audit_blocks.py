"""One block of an exported ledger, decoded and hashed: what can be said of it without what stands before. Pure.

Rules: a block is whole lines and begins with a leaf or a checkpoint. Where everything is as it should be, lines are decoded and compared
by the hundred; wherever anything is not, they are gone through one by one, so that the first that does not fit is named.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from remit.logic.merkle import leaf_hash, leaf_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPORT_HEADER = "remit-ledger/1"
LINE_BYTES_MAX = 131_072
_LEAF, _ENTRY, _CHECKPOINT = b"leaf ", b"entry ", b"checkpoint "
_HEAD_BYTES = len("leaf ") + 44 + len("\nentry ")  # of a leaf's line, up to where its entry's base64 begins


class Place(msgspec.Struct, gc=False):
    """What of a record says where it belongs; the rest is checked to be JSON and passed over."""

    task: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Run:
    """Entries without a checkpoint between them: their leaf hashes one behind the other, and the place of each (-1: it is no record)."""

    leaves: bytes
    places: Sequence[Place]


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not what an export holds there; nothing after it counts."""

    what: str


Piece = Run | Note | Fault
_NO_RECORD = Place("", -1)
_UNREADABLE = (ValueError, msgspec.MsgspecError, RecursionError)  # the last where a text is a thousand lists deep
_PLACE = msgspec.json.Decoder(Place).decode
_BYTES = msgspec.json.Decoder(list[bytes]).decode


def export_line(kind: str, data: bytes) -> str:
    """One line of an export."""
    return f"{kind} {base64.b64encode(data).decode()}"


def digested(block: bytes) -> list[Piece]:
    """What a block says, up to the first line that does not belong there."""
    run = _at_once(block if block.endswith(b"\n") else block + b"\n")
    return [run] if run is not None else _in_parts(block)


def _in_parts(block: bytes) -> list[Piece]:
    """A block with checkpoints in it, or with something that does not belong there."""
    pieces: list[Piece] = []
    begin = 0
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number in [*(number for number, line in enumerate(lines) if line.startswith(_CHECKPOINT)), len(lines)]:
        part = lines[begin:number]
        run = _at_once(b"\n".join([*part, b""]))
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


def _at_once(block: bytes) -> Run | None:
    """Lines that are leaf, entry, leaf, entry … and all fit; ``None`` where any does not. One JSON array of all is decoded quickest."""
    heads, texts, line_end, begin = [], [], block.index, 0
    try:
        while begin < len(block):
            middle = begin + _HEAD_BYTES
            end = line_end(b"\n", middle)
            heads.append(block[begin:middle])
            texts.append(block[middle:end])
            begin = end + 1
        if b"\\" in block or max(map(len, texts)) > LINE_BYTES_MAX - len(_ENTRY):  # JSON knows escapes, base64 does not
            return None
        bodies = _BYTES(b'["' + b'","'.join(texts) + b'"]')
        places = [_PLACE(body) for body in bodies]
    except _UNREADABLE:
        return None
    hashes, encoded = leaf_hashes(bodies), binascii.b2a_base64
    return Run(b"".join(hashes), places) if [b"leaf %bentry " % encoded(leaf) for leaf in hashes] == heads else None


def _one_by_one(lines: list[bytes]) -> list[Piece]:
    """The same with all care: what fits, then the first that does not."""
    leaves: list[bytes] = []
    places: list[Place] = []
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
    pieces: list[Piece] = [Run(b"".join(leaves), places)] if leaves else []
    return [*pieces, Fault(fault or "the entry is missing")] if fault or awaited else pieces


def _decoded(line: bytes) -> bytes | None:
    """The bytes that a line carries; ``None`` where it is damaged."""
    try:
        return base64.b64decode(line.partition(b" ")[2], validate=True)
    except (ValueError, binascii.Error):
        return None


def _place(body: bytes) -> Place:
    try:
        return _PLACE(body)
    except _UNREADABLE:
        return _NO_RECORD

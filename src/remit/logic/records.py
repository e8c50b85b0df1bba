"""Records to bytes and back. The bytes are what is hashed, signed and kept; nobody ever writes them a second time.

Rules: canonical JSON (RFC 8785). Records hold no floats and their keys are ASCII, so msgspec's sorted form *is* JCS;
``tests/property/test_records.py`` holds it against another implementation.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken, Mistake
from remit.model.record import KINDS, NAMES, VERSION, Body, Record

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY_BYTES_MAX = 65_535  # C2SP tlog-tiles: an entry bundle carries a uint16 length


class _Envelope(msgspec.Struct, frozen=True):
    at: datetime
    body: msgspec.Raw
    kind: str
    task: str | None
    seq: int
    v: int


def encode(record: Record) -> bytes:
    """The canonical bytes of a record. Raises Mistake where it does not fit into one entry."""
    envelope = {
        "at": record.at,
        "body": record.body,
        "kind": NAMES[type(record.body)],
        "seq": record.seq,
        "task": record.task,
        "v": VERSION,
    }
    data = _ENCODER.encode(envelope)
    if len(data) > ENTRY_BYTES_MAX:
        raise Mistake(
            f"this would make a record of {len(data):,} bytes; one entry holds {ENTRY_BYTES_MAX:,}",
            code="record_too_large",
            hint="shorten the task's inputs or its grant",
        )
    return data


def decode(data: bytes) -> Record:
    """The record of an entry. Raises Broken for what this version of remit cannot read."""
    try:
        envelope = _ENVELOPE.decode(data)
        if envelope.v != VERSION:
            raise Broken(f"the ledger holds a record of version {envelope.v}; this remit reads {VERSION}")
        body = _BODIES[envelope.kind](envelope.body)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Broken(f"an entry of the ledger cannot be read: {error}") from error
    return Record(at=envelope.at, body=body, task=envelope.task, seq=envelope.seq)


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || entry), RFC 6962 §2.1."""
    return hashlib.sha256(b"\0" + data).digest()


def _decoder(body: type[Body]) -> Callable[[Any], Body]:
    return msgspec.json.Decoder(body).decode


_ENCODER = msgspec.json.Encoder(order="sorted")
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_BODIES: dict[str, Callable[[Any], Body]] = {kind: _decoder(body) for kind, body in KINDS.items()}

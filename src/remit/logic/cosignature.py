"""What witnesses say of a log: C2SP tlog-cosignature (Ed25519, type 0x04) and the words of tlog-witness. Pure.

Rules: a cosignature states that its key saw, at that time, no larger head of this log, and that this one continues what it saw before.
A line counts where a known witness signed exactly this head; all else is passed over. One key is one witness.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from remit.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

_TYPE = b"\x04"
_KEY_BYTES, _ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES = 32, 4, 8, 64
_DASH = "\u2014"
_SIZE_DIGITS_MAX = 19


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's public key under its name (a C2SP vkey of type 0x04)."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> WitnessKey:
        """Read ``name+id+base64(type || key)``. Raises Mistake."""
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            decoded = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise Mistake(f"not a witness's key: {text[:60]!r}", code="vkey", hint="NAME+ID+KEY, as the witness publishes it") from None
        witness = cls(name, decoded[1:])
        if decoded[:1] != _TYPE or len(witness.key) != _KEY_BYTES or key_id != witness.id.hex() or not name or set(name) & set(" \n"):
            raise Mistake(f"the key {name[:60]!r} is no whole Ed25519 key for cosignatures (type 0x04)", code="vkey")
        return witness

    @property
    def id(self) -> bytes:
        """First four bytes of SHA-256(name || 0x0A || type || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _TYPE + self.key).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_TYPE + self.key).decode()}"

    def time_of(self, text: str, line: str) -> int | None:
        """When the witness cosigned a checkpoint's text, in seconds since 1970; ``None`` where the line is not its cosignature."""
        try:
            dash, name, encoded = line.split(" ")
            blob = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            return None
        if (dash, name, blob[:_ID_BYTES]) != (_DASH, self.name, self.id) or len(blob) != _ID_BYTES + _TIME_BYTES + _SIGNATURE_BYTES:
            return None
        time = int.from_bytes(blob[_ID_BYTES : _ID_BYTES + _TIME_BYTES], "big")
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(blob[_ID_BYTES + _TIME_BYTES :], cosigned_message(text, time))
        except InvalidSignature:
            return None
        return time


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Whom we ask to cosign. ``url``: before ``/add-checkpoint``; ``private``: it may lie in a private network, and be asked by http."""

    name: str
    url: str
    key: WitnessKey
    private: bool = False


def cosigned_message(text: str, time: int) -> bytes:
    """The bytes that a witness signs. ``text``: of the checkpoint, with its last line end and without the empty line."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosignatures(note: str, witnesses: Iterable[WitnessKey]) -> dict[str, int]:
    """Of a note, which witnesses cosigned it and when (seconds since 1970)."""
    text, _, lines = note.rpartition("\n\n")
    known = list(witnesses)
    found: dict[str, int] = {}
    for line in lines.splitlines():
        for witness in known:
            time = witness.time_of(text + "\n", line)
            if time is not None:
                found[witness.name] = time
    return found


def cosigned(note: str, witness: WitnessKey, answer: str) -> str:
    """A note with the line of an answer by which the witness cosigned it. Raises Mistake where there is none."""
    text = note.rpartition("\n\n")[0] + "\n"
    for line in answer.splitlines():
        if witness.time_of(text, line) is not None:
            return f"{note}{line}\n"
    raise Mistake("the answer holds no cosignature of its key", code="cosignature")


def add_checkpoint(old: int, path: Iterable[bytes], note: str) -> bytes:
    """What a witness is asked (tlog-witness ``add-checkpoint``): ``path`` leads from the ``old`` size to the note's."""
    return "".join([f"old {old}\n", *(base64.b64encode(part).decode() + "\n" for part in path), "\n", note]).encode()


def known_size(answer: bytes) -> int:
    """The size that a witness knows, from its 409 (``text/x.tlog.size``). Raises Mistake."""
    text = answer.removesuffix(b"\n")
    if not text.isdigit() or len(text) > _SIZE_DIGITS_MAX:
        raise Mistake("a conflict without a size", code="cosignature")
    return int(text)

"""Signed tree heads: C2SP tlog-checkpoint inside a C2SP signed-note, with Ed25519 (type 0x01).

Rules: a log signs under its origin as key name. A note with a failing signature of a known key is refused; signatures of
unknown keys are passed over; without one good signature there is no checkpoint. Everything is bounded before it is parsed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from remit.errors import Mistake
from remit.logic.merkle import HASH_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_ED25519 = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 4
_NOTE_CHARACTERS_MAX = 16_384
_SIGNATURES_MAX = 32
_DASH = "\u2014 "
_LINES_MIN = 3


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under its name (a C2SP vkey)."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read ``name+id+base64(type || key)``. Raises Mistake."""
        parts = text.strip().split("+", 2)
        try:
            name, key_id, encoded = parts
            decoded = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise Mistake(f"not a verifier key: {text[:60]!r}", code="vkey", hint="`remit ledger key` prints it") from None
        verifier = cls(name, decoded[1:])
        if decoded[:1] != _ED25519 or len(verifier.key) != _KEY_BYTES or key_id != verifier.id.hex():
            raise Mistake(f"the verifier key {name[:60]!r} is not a whole Ed25519 key", code="vkey")
        return verifier

    @classmethod
    def of(cls, name: str, key: Ed25519PrivateKey) -> Verifier:
        """The public half of a signing key."""
        return cls(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def id(self) -> bytes:
        """First four bytes of SHA-256(name || 0x0A || type || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether the key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: which log, how many entries, which root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text, ending in a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The checkpoint as a signed note; the key's name is the origin."""
    return sign_note(checkpoint.text(), checkpoint.origin, key)


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """A signed note over any text that ends in a newline."""
    signature = _key_id(name, key) + key.sign(text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(signature).decode()}\n"


@lru_cache(maxsize=16)
def _key_id(name: str, key: Ed25519PrivateKey) -> bytes:
    return Verifier.of(name, key).id


def open_note(note: str, verifier: Verifier) -> str:
    """The text of a note that the verifier's key signed. Raises Mistake."""
    if len(note) > _NOTE_CHARACTERS_MAX or not note.endswith("\n"):
        raise Mistake("not a signed note: too long, or its end is missing", code="note")
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.splitlines()
    if not separator or not lines or len(lines) > _SIGNATURES_MAX or any(ord(sign) < 32 and sign != "\n" for sign in note):
        raise Mistake("not a signed note", code="note")
    good = False
    for line in lines:
        name, signature = _signature(line)
        if name == verifier.name and signature[:_ID_BYTES] == verifier.id:
            if not verifier.verify(text + "\n", signature[_ID_BYTES:]):
                raise Mistake(f"the signature of {name} does not hold", code="note_signature")
            good = True
    if not good:
        raise Mistake(f"no signature by {verifier.name}+{verifier.id.hex()}", code="note_signature")
    return text + "\n"


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """The checkpoint of a note that the log signed. Raises Mistake."""
    lines = open_note(note, verifier).splitlines()
    try:
        origin, size, encoded = lines[:_LINES_MIN]
        root = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise Mistake("not a checkpoint", code="checkpoint") from None
    if origin != verifier.name or not size.isdecimal() or size != str(int(size)) or len(root) != HASH_BYTES:
        raise Mistake("not a checkpoint of this log", code="checkpoint")
    return Checkpoint(origin, int(size), root)


def _signature(line: str) -> tuple[str, bytes]:
    try:
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise Mistake("a line of the note is not a signature", code="note") from None
    if dash != _DASH.strip() or len(signature) <= _ID_BYTES:
        raise Mistake("a line of the note is not a signature", code="note")
    return name, signature

"""Seals the values that the ledger only names by digest: AES-256-GCM under a key of its own for each decision.

Rules: the key of a decision is derived from the keys folder's secret of values and from the decision's id (HKDF-SHA256, RFC 5869),
so a nonce never meets the same key twice; the id is also the associated data, so that a sealed value cannot be put under another
decision. The first byte is the form's version. What does not open is damaged, never empty.
"""

from __future__ import annotations

import secrets
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remit.errors import Broken

_VERSION = b"\x01"
_KEY_BYTES, _NONCE_BYTES = 32, 12


class SealsValues(Protocol):
    """Seals and opens bytes under a name."""

    def seal(self, name: str, value: bytes) -> bytes:
        """The value, sealed under that name."""

    def open(self, name: str, sealed: bytes) -> bytes:
        """The value again. Raises Broken where it was sealed under another name or key, or is damaged."""


class ValueSealer:
    """Seals with a key of the keys folder."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes (``Keys.derived``)."""
        self._key = key

    def seal(self, name: str, value: bytes) -> bytes:
        """See SealsValues."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher(name).encrypt(nonce, value, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """See SealsValues."""
        nonce = sealed[1 : 1 + _NONCE_BYTES]
        if sealed[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
            raise Broken(f"the values kept of {name} are of an unknown form", code="sealed_value")
        try:
            return self._cipher(name).decrypt(nonce, sealed[1 + _NONCE_BYTES :], name.encode())
        except InvalidTag:
            hint = "they were sealed with another values.key, or changed since"
            raise Broken(f"the values kept of {name} cannot be opened", code="sealed_value", hint=hint) from None

    def _cipher(self, name: str) -> AESGCM:
        return AESGCM(HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=name.encode()).derive(self._key))

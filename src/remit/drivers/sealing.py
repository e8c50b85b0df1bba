"""Seals texts that must rest in the store or travel in an address: AES-256-GCM (NIST SP 800-38D), one key a trust domain.

Rules: every text is bound to its purpose, and opens for no other. Nonces are random: 96 bits suffice for far more texts than
one key will ever seal here (2**32). The key lies beside the others, readable only by its owner.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remit.errors import Unauthenticated

_NONCE_BYTES = 12


class Sealer:
    """Seals and opens with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, text: bytes, purpose: str) -> str:
        """The sealed text, in letters that an address may hold."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._aead.encrypt(nonce, text, purpose.encode())).rstrip(b"=").decode()

    def open(self, sealed: str, purpose: str) -> bytes:
        """The text that was sealed for this purpose. Raises Unauthenticated for anything else."""
        try:
            data = base64.urlsafe_b64decode(sealed.encode("ascii") + b"=" * (-len(sealed) % 4))
            return self._aead.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise Unauthenticated("this was not sealed here, or not for this") from None

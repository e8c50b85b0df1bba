"""remit's own keys: made on first start, kept in files that only their owner can read.

Never mixed: an ECDSA P-256 key signs JWT-SVIDs and task tokens (JWT-SVID §2 admits no EdDSA), an Ed25519 key signs the
ledger's checkpoints (C2SP signed-note), an RSA key (only where others are told) signs security event tokens, a secret of 32 random
bytes seals and hides values (``derived`` gives each use its own key). Rules: a key file that others can read is refused, not
repaired; a new file appears whole or not at all (``key_files.py``). With a key-encryption key, new files are sealed (``key_wrapping.py``).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remit.drivers.key_files import read_key_file, write_key_file
from remit.drivers.key_wrapping import open_folder_key, opened
from remit.errors import Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remit.drivers.key_wrapping import FolderKey

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey
_SECRET_BYTES = 32
_RSA_BITS, _RSA_BITS_MIN = 3_072, 2_048


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The keys of one trust domain. ``folder_key``: opens the other files of their folder; ``None`` where they are in clear."""

    tokens: EllipticCurvePrivateKey
    ledger: Ed25519PrivateKey
    values: bytes
    folder_key: FolderKey | None = None

    def derived(self, use: str) -> bytes:
        """A key of 32 bytes for one use of the secret of values (HKDF-SHA256, RFC 5869)."""
        return HKDF(hashes.SHA256(), _SECRET_BYTES, salt=None, info=f"remit/{use}".encode()).derive(self.values)


def load_or_make_keys(folder: Path, key_encryption: str = "", trust_domain: str = "") -> Keys:
    """Read the keys, making those that do not exist yet. ``key_encryption``: where the key-encryption key is; "": in clear.

    Raises Mistake for a file or a key-encryption key that cannot be trusted, Outage where the latter is away.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder_key = open_folder_key(folder, key_encryption, trust_domain)
    tokens = token_key(folder / "tokens.key", folder_key)
    ledger = _private_key(folder / "ledger.key", Ed25519PrivateKey.generate, folder_key)
    if not isinstance(ledger, Ed25519PrivateKey):
        raise Mistake("not an Ed25519 key", code="key_file", place=Place(file=str(folder / "ledger.key")))
    return Keys(tokens, ledger, _secret(folder / "values.key", folder_key), folder_key)


def token_key(path: Path, folder_key: FolderKey | None = None) -> EllipticCurvePrivateKey:
    """A key that signs tokens, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, lambda: generate_private_key(SECP256R1()), folder_key)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Mistake("not an ECDSA P-256 key", code="key_file", place=Place(file=str(path)))
    return key


def bundle_key(path: Path, folder_key: FolderKey | None = None) -> Ed25519PrivateKey:
    """The key that signs bundles of policies, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, Ed25519PrivateKey.generate, folder_key)
    if not isinstance(key, Ed25519PrivateKey):
        raise Mistake("not an Ed25519 key", code="key_file", place=Place(file=str(path)))
    return key


def signals_key(path: Path, folder_key: FolderKey | None = None) -> RSAPrivateKey:
    """The key that signs what receivers of signals are told, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, lambda: rsa.generate_private_key(public_exponent=65_537, key_size=_RSA_BITS), folder_key)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS_MIN:
        raise Mistake(f"not an RSA key of {_RSA_BITS_MIN} bits or more", code="key_file", place=Place(file=str(path)))
    return key


def _private_key(path: Path, make: Callable[[], PrivateKey], folder_key: FolderKey | None) -> object:
    def pem() -> bytes:
        return make().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    data = _load_or_make(path, pem, folder_key)
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise Mistake("not a private key in PEM form", code="key_file", place=Place(file=str(path))) from None


def _secret(path: Path, folder_key: FolderKey | None) -> bytes:
    data = _load_or_make(path, lambda: base64.b64encode(secrets.token_bytes(_SECRET_BYTES)) + b"\n", folder_key)
    try:
        secret = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise Mistake(f"not {_SECRET_BYTES} bytes in base64", code="key_file", place=Place(file=str(path)))
    return secret


def _load_or_make(path: Path, make: Callable[[], bytes], folder_key: FolderKey | None) -> bytes:
    if not path.exists():
        fresh = make()
        write_key_file(path, folder_key.seal(path, fresh) if folder_key else fresh)
    return opened(path, read_key_file(path), folder_key)

"""remit's own keys: made on first start, kept in files that only their owner can read.

Never mixed: an ECDSA P-256 key signs JWT-SVIDs and task tokens (JWT-SVID §2 admits no EdDSA), an Ed25519 key signs the
ledger's checkpoints (C2SP signed-note), an RSA key (only where others are told) signs security event tokens, a secret of 32 random
bytes seals and hides values (``derived`` gives each use its own key). Rules: a key file that others can read is refused, not
repaired; a new file appears whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remit.errors import Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey
_SECRET_BYTES = 32
_RSA_BITS, _RSA_BITS_MIN = 3_072, 2_048


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The keys of one trust domain."""

    tokens: EllipticCurvePrivateKey
    ledger: Ed25519PrivateKey
    values: bytes

    def derived(self, use: str) -> bytes:
        """A key of 32 bytes for one use of the secret of values (HKDF-SHA256, RFC 5869)."""
        return HKDF(hashes.SHA256(), _SECRET_BYTES, salt=None, info=f"remit/{use}".encode()).derive(self.values)


def load_or_make_keys(folder: Path) -> Keys:
    """Read the keys, making those that do not exist yet. Raises Mistake for a file that cannot be trusted."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens = token_key(folder / "tokens.key")
    ledger = _private_key(folder / "ledger.key", Ed25519PrivateKey.generate)
    if not isinstance(ledger, Ed25519PrivateKey):
        raise Mistake("not an Ed25519 key", code="key_file", place=Place(file=str(folder / "ledger.key")))
    return Keys(tokens, ledger, _secret(folder / "values.key"))


def token_key(path: Path) -> EllipticCurvePrivateKey:
    """A key that signs tokens, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, lambda: generate_private_key(SECP256R1()))
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Mistake("not an ECDSA P-256 key", code="key_file", place=Place(file=str(path)))
    return key


def bundle_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs bundles of policies, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, Ed25519PrivateKey.generate)
    if not isinstance(key, Ed25519PrivateKey):
        raise Mistake("not an Ed25519 key", code="key_file", place=Place(file=str(path)))
    return key


def signals_key(path: Path) -> RSAPrivateKey:
    """The key that signs what receivers of signals are told, made where there is none. Raises Mistake."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _private_key(path, lambda: rsa.generate_private_key(public_exponent=65_537, key_size=_RSA_BITS))
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS_MIN:
        raise Mistake(f"not an RSA key of {_RSA_BITS_MIN} bits or more", code="key_file", place=Place(file=str(path)))
    return key


def _private_key(path: Path, make: Callable[[], PrivateKey]) -> object:
    def pem() -> bytes:
        return make().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    data = _load_or_make(path, pem)
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise Mistake("not a private key in PEM form", code="key_file", place=Place(file=str(path))) from None


def _secret(path: Path) -> bytes:
    data = _load_or_make(path, lambda: base64.b64encode(secrets.token_bytes(_SECRET_BYTES)) + b"\n")
    try:
        secret = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise Mistake(f"not {_SECRET_BYTES} bytes in base64", code="key_file", place=Place(file=str(path)))
    return secret


def _load_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        _write_once(path, make())
    return _read(path)


def _write_once(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(fresh, path)  # fails where another process was first: then its key is the key
    except FileExistsError:
        return
    finally:
        fresh.unlink()


def _read(path: Path) -> bytes:
    state = path.stat()
    if stat.S_IMODE(state.st_mode) & 0o077 or state.st_uid not in {os.geteuid(), 0}:
        raise Mistake(
            "other accounts can read this key",
            code="key_file",
            hint=f"chmod 600 {path}; if somebody may have read it, delete it and let remit make a new one",
            place=Place(file=str(path)),
        )
    return path.read_bytes()

"""NATS's keys and tokens: nkeys (Ed25519 in base32 with a checksum) and JWTs of version 2, signed and checked. Pure.

Rules: only Ed25519 under the name ``ed25519-nkey``; a token counts when the key that its issuer names has signed it, and whose key that
may be is asked by the caller. Left out: curve keys, tokens of version 1. nats-io/nkeys, nats-io/jwt v2.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512_256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_PREFIXES = {"O": 14 << 3, "A": 0, "U": 20 << 3}
_SEED = 18 << 3
_KEY_BYTES = 32
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_PARTS = 3
_SEEDS = re.compile(r"\bS[OAU][A-Z2-7]{56}\b")
_TOKENS = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key of an operator (``O``), an account (``A``) or a user (``U``)."""

    kind: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        """As it stands in tokens."""
        return _encoded(bytes([_PREFIXES[self.kind]]), self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def seed(self) -> str:
        """The secret, as clients take it."""
        prefix = _PREFIXES[self.kind]
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return _encoded(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]), raw)

    def derived(self, kind: str, name: str) -> KeyPair:
        """The key that belongs to a name, the same each time; nobody finds it without this one."""
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        made = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"remit nats " + kind.encode() + name.encode()).derive(raw)
        return KeyPair(kind, Ed25519PrivateKey.from_private_bytes(made))

    def signed(self, claims: Claims) -> str:
        """A token of these claims, with this key as the issuer."""
        claims = {**claims, "iss": self.public, "jti": ""}
        claims["jti"] = base64.b32encode(_digest(msgspec.json.encode(claims))).decode().rstrip("=")
        told = f"{_unpadded(msgspec.json.encode(_HEADER))}.{_unpadded(msgspec.json.encode(claims))}"
        return f"{told}.{_unpadded(self.private.sign(told.encode()))}"


def read_seed(text: str) -> KeyPair:
    """Raises ValueError."""
    raw = _decoded(text, 2)
    kind = next((kind for kind, prefix in _PREFIXES.items() if raw[:2] == bytes([_SEED | prefix >> 5, (prefix & 31) << 3])), None)
    if kind is None:
        raise ValueError("this is no seed of an operator, an account or a user")
    return KeyPair(kind, Ed25519PrivateKey.from_private_bytes(raw[2:]))


def find_secrets(text: str) -> tuple[dict[str, KeyPair], str]:
    """The seeds in a text by their kinds, and the one token in it. Raises ValueError where one is broken or there are two of a kind."""
    seeds = [read_seed(found) for found in _SEEDS.findall(text)]
    tokens = _TOKENS.findall(text)
    if len({seed.kind for seed in seeds}) != len(seeds) or len(tokens) != 1:
        raise ValueError("one seed of each kind and one token are needed")
    return {seed.kind: seed for seed in seeds}, tokens[0]


def is_public(text: str, kind: str) -> bool:
    """Whether this is a public key of that kind."""
    try:
        return _decoded(text, 1)[0] == _PREFIXES[kind]
    except ValueError:
        return False


def read_token(token: str) -> Claims:
    """The claims of a token that its issuer has signed. Raises ValueError."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ValueError("this is no token")
    header, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
    try:
        told, read = msgspec.json.decode(header, type=Claims), msgspec.json.decode(claims, type=Claims)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("this is no token") from None
    if told.get("alg") != _HEADER["alg"] or not isinstance(read.get("iss"), str):
        raise ValueError("this is no token of version 2")
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(read["iss"], 1)[1:]).verify(signature, f"{parts[0]}.{parts[1]}".encode())
    except InvalidSignature:
        raise ValueError("the token was not signed by its issuer") from None
    return read


def _encoded(prefix: bytes, key: bytes) -> str:
    raw = prefix + key
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _decoded(text: str, prefix_bytes: int) -> bytes:
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if len(raw) != prefix_bytes + _KEY_BYTES + 2 or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise ValueError("this is no key")
    return raw[:-2]


def _digest(data: bytes) -> bytes:
    made = Hash(SHA512_256())
    made.update(data)
    return made.finalize()


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

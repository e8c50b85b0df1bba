"""Public keys of those we trust: read from their documents, chosen for one token, and the token's signature checked with them.

Rules (RFC 8725 §3.1, §3.2): a key says by its kind which algorithms it is for, and the configuration says which are taken; the token
only chooses among both. Never ``none``, never a shared secret, never a key the token brings or points to. Of two keys that could be
meant none is. A key we cannot use is as good as absent; the others of its set still hold.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from remit.errors import Mistake, Outage, Unauthenticated
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_CHARACTERS_MAX = 16_384  # a header of HTTP holds no more
_HEADER_CHARACTERS_MAX = 4_096
_PARTS, _DEPTH_MAX, _KEYS_MAX, _TEXT_MAX = 3, 8, 100, 256
_PADDING = b"", b"===", b"==", b"="
_STANDARD = bytes.maketrans(b"-_+/", b"+/??")  # and the other alphabet's signs are none
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_RSA_BITS_MIN, _RSA_BITS_MAX, _RSA_EXPONENT_BYTES_MAX = 2_048, 8_192, 4
Claims = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key and the algorithms it may check. ``kid`` "" : it has no name."""

    kid: str
    algorithms: frozenset[str]
    key: RSAKey | ECKey | OKPKey


def peek(token: str) -> tuple[Claims, Claims]:
    """Header and claims of a compact JWS, unverified: to choose who has to vouch for them. Raises Unauthenticated."""
    parts = token.split(".", _PARTS)
    if len(token) > TOKEN_CHARACTERS_MAX or len(parts) != _PARTS or len(parts[0]) > _HEADER_CHARACTERS_MAX or not token.isascii():
        raise Unauthenticated("not a token, or one too large")
    return _object(parts[0]), _object(parts[1])


def check_signature(token: str, header: Claims, keys: Iterable[PublicKey], allowed: frozenset[str]) -> None:
    """Whether one of the keys made the token's signature. Raises UnknownKey where none of them is meant, else Unauthenticated."""
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or algorithm not in allowed:
        raise Unauthenticated("the token is signed with an algorithm that is not taken")
    if not isinstance(kid, str) or len(kid) > _TEXT_MAX or ("kid" in header and not kid):
        raise Unauthenticated("the token names its key in a way that cannot be")
    fitting = [key for key in keys if algorithm in key.algorithms and (not kid or key.kid == kid)]
    if not fitting:
        raise UnknownKey("the token's key is not among those of its issuer")
    if len(fitting) > 1:
        raise Unauthenticated("several keys could be meant by the token")
    try:
        jwt.decode(token, fitting[0].key, algorithms=[algorithm])
    except (JoseError, ValueError):
        raise Unauthenticated("the token's signature does not hold") from None


def decoded(text: object) -> bytes:
    """Base64url as JOSE writes it; what is none is empty."""
    if not isinstance(text, str):
        return b""
    return decoded_part(text.encode()) if text.isascii() else b""


def decoded_part(part: bytes) -> bytes:
    """The same of a part of a token."""
    try:
        return binascii.a2b_base64(part.translate(_STANDARD) + _PADDING[len(part) % 4], strict_mode=True)
    except ValueError:  # also binascii's own
        return b""


class UnknownKey(Unauthenticated):
    """No key of a set is meant: perhaps there are newer ones."""


def read_object(data: bytes, what: str) -> Claims:
    """A document as a JSON object. Raises Outage."""
    try:
        found = parse_json(data, depth_max=_DEPTH_MAX, bytes_max=len(data))
    except Mistake:
        found = None
    if not isinstance(found, dict):
        raise Outage(f"{what} is no JSON object", code="trust_fetch")
    return found


def read_keys(document: Claims, use: str, *, named: bool = False) -> tuple[PublicKey, ...]:
    """The keys for one use of a JWK Set (RFC 7517): those that say so or, for ``sig``, say nothing; ``named``: only with a ``kid``.

    Raises Outage.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _KEYS_MAX:
        raise Outage(f"no list of at most {_KEYS_MAX} keys", code="trust_fetch")
    found = []
    for entry in listed:
        if isinstance(entry, dict) and entry.get("use", "sig") == use and (entry.get("kid") or not named):
            key = _key(entry)
            if key is not None:
                found.append(key)
    return tuple(found)


def _key(entry: Claims) -> PublicKey | None:
    """A key we can use, of its public members only; ``None`` for any other."""
    kind, curve, kid = entry.get("kty"), entry.get("crv"), entry.get("kid", "")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or len(kid) > _TEXT_MAX or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        if kind == "RSA" and _sound_rsa(entry):
            algorithms, key = _RSA, _imported(RSAKey, entry, "n", "e")
        elif kind == "EC" and curve in _CURVES:
            algorithms, key = frozenset({_CURVES[curve]}), _imported(ECKey, entry, "crv", "x", "y")
        elif kind == "OKP" and curve == "Ed25519":
            algorithms, key = frozenset({"Ed25519"}), _imported(OKPKey, entry, "crv", "x")
        else:
            return None
    except Exception:  # whatever a stranger's numbers do to the libraries below, they are no key
        return None
    if "alg" in entry:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else set()
    return PublicKey(kid=kid, algorithms=algorithms, key=key)


def _imported(kind: Any, entry: Claims, *members: str) -> Any:
    return kind.import_key({"kty": entry["kty"], **{name: entry[name] for name in members}})


def _sound_rsa(entry: Claims) -> bool:
    """Long enough to be safe, short enough to be quick; a huge exponent makes a check slow."""
    modulus, exponent = (decoded(entry.get(name)) for name in ("n", "e"))
    bits = int.from_bytes(modulus).bit_length() if len(modulus) <= _RSA_BITS_MAX // 8 + 1 else 0
    return _RSA_BITS_MIN <= bits <= _RSA_BITS_MAX and 0 < len(exponent) <= _RSA_EXPONENT_BYTES_MAX


def _object(part: str) -> Claims:
    try:
        parsed = parse_json(decoded(part), depth_max=_DEPTH_MAX, bytes_max=TOKEN_CHARACTERS_MAX)
    except Mistake:
        parsed = None
    if not isinstance(parsed, dict):
        raise Unauthenticated("not a token")
    return parsed

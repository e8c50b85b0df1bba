"""Security event tokens as signed bytes, with joserfc: checking those of others, signing our own (RFC 8417, RFC 8725).

Rules: a token is bounded and read strictly before anything of it is used; algorithms are an allow-list of public-key ones; ``jku``,
``x5u``, ``jwk``, ``crit`` and every other header beyond ``alg``, ``kid``, ``typ`` are refused. A key counts only with the key
type and use that fit. Ours are signed with RS256: the CAEP interoperability profile asks for it, with 2048 bits or more.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from remit.errors import Mistake
from remit.logic.arguments import parse_json
from remit.logic.signals import SET_TYPE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_HEADER_CHARACTERS_MAX, _PARTS, _DEPTH_MAX, _KEYS_MAX = 4_096, 3, 16, 100
_HEADERS = frozenset({"alg", "kid", "typ"})
_RSA_BITS_MIN, _RSA_BITS_MAX = 2_048, 16_384
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
Claims = dict[str, Any]


class UnknownKey(Mistake):
    """No key of the set is the one that signed: another look at the set may help, since keys are replaced."""

    default_code = "invalid_key"


def open_event_token(token: bytes, keys: Mapping[str, Any], algorithms: Collection[str], *, bytes_max: int) -> tuple[Claims, Claims]:
    """Header and claims of a token that one of ``keys`` (a JWK set) signed. Raises Mistake (codes of RFC 8935 §2.4), UnknownKey."""
    header, claims = read_event_token(token, bytes_max=bytes_max)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Mistake("the token is not signed by an algorithm that is admitted", code="invalid_key")
    fitting = list(_fitting(keys, algorithm, header.get("kid")))
    if not fitting:
        raise UnknownKey("no key of the transmitter is the one that the token names")
    if len(fitting) > 1:
        raise Mistake("the token does not say which key signed it", code="invalid_key")
    try:
        jws.deserialize_compact(token, fitting[0], algorithms=[algorithm])
    except (JoseError, ValueError):
        raise Mistake("the token's signature does not hold", code="authentication_failed") from None
    return header, claims


def read_event_token(token: bytes, *, bytes_max: int) -> tuple[Claims, Claims]:
    """Header and claims as they stand there, unproved. Raises Mistake."""
    parts = token.split(b".")
    if len(token) > bytes_max or len(parts) != _PARTS or len(parts[0]) > _HEADER_CHARACTERS_MAX or not all(parts):
        raise Mistake("this is no signed token, or a very long one", code="invalid_request")
    header, claims = (_object(part) for part in parts[:2])
    if set(header) - _HEADERS:
        raise Mistake("the token's header says more than it may", code="invalid_request")
    if "kid" in header and not isinstance(header["kid"], str):
        raise Mistake("the token's key id is no text", code="invalid_request")
    return header, claims


def read_key_set(data: bytes | str) -> Claims:
    """A JWK set (RFC 7517) with at least one public key that we could use. Raises Mistake."""
    found = parse_json(data if isinstance(data, bytes) else data.encode(), depth_max=_DEPTH_MAX)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= _KEYS_MAX or not all(isinstance(key, dict) for key in keys):
        raise Mistake("this is no set of keys", code="keys", hint='{"keys": [{"kty": "RSA", "kid": "…", "n": "…", "e": "…"}]}')
    private = ("d", "p", "q", "k")
    if any(name in key for key in keys for name in private):
        raise Mistake("the set holds private or shared keys", code="keys", hint="public keys only")
    if not any(key.get("kty") in {"RSA", "EC"} for key in keys):
        raise Mistake("the set holds no RSA or EC key", code="keys")
    return {"keys": keys}


class EventSigner:
    """Signs our security event tokens with one RSA key."""

    def __init__(self, key: RSAPrivateKey) -> None:
        """The key id is the key's thumbprint (RFC 7638)."""
        self._key = RSAKey.import_key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.key_id = self._key.thumbprint()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS of type ``secevent+jwt``."""
        return jwt.encode({"alg": "RS256", "kid": self.key_id, "typ": SET_TYPE}, dict(claims), self._key)

    def jwks(self) -> Claims:
        """The public key for receivers (RFC 7517)."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**{name: public[name] for name in ("kty", "n", "e")}, "kid": self.key_id, "alg": "RS256", "use": "sig"}]}


def _object(part: bytes) -> Claims:
    try:
        text = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
        parsed = parse_json(text, depth_max=_DEPTH_MAX)
    except (binascii.Error, ValueError, Mistake):
        raise Mistake("this is no signed token", code="invalid_request") from None
    if not isinstance(parsed, dict):
        raise Mistake("this is no signed token", code="invalid_request")
    return parsed


def _fitting(keys: Mapping[str, Any], algorithm: str, kid: str | None) -> Iterator[RSAKey | ECKey]:
    """Keys that could have signed: of the kind that the algorithm takes, for signatures, and of that id."""
    for key in keys["keys"]:
        if kid is not None and key.get("kid") != kid:
            continue
        if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
            continue
        try:
            if key.get("kty") == "RSA" and algorithm[:2] in {"RS", "PS"}:
                if _RSA_BITS_MIN <= _bits(key["n"]) <= _RSA_BITS_MAX:
                    yield RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            elif key.get("kty") == "EC" and key.get("crv") == _CURVES.get(algorithm):
                yield ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
        except (JoseError, ValueError, KeyError, TypeError):
            continue  # a key that is none signs nothing


def _bits(number: str) -> int:
    """Size of a number in base64url (RFC 7518 §2, Base64urlUInt). Raises ValueError, TypeError."""
    if len(number) > _RSA_BITS_MAX:
        raise ValueError("a very long number")
    return int.from_bytes(base64.b64decode(number + "=" * (-len(number) % 4), altchars=b"-_", validate=True)).bit_length()

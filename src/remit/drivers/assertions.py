"""Checks signatures of others: of clients whose public keys are declared, and of DPoP proofs, which bring their own key.

Rules (RFC 8725): which algorithm a key may be used with follows from the key, never from the token; ``jku``, ``x5u``, ``x5c`` and
``crit`` are refused before anything is checked, ``jwk`` everywhere but in a DPoP proof; a private or symmetric key is none here.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from remit.errors import Mistake, Unauthenticated
from remit.logic.arguments import parse_json
from remit.logic.dpop import PROOF_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Claims = dict[str, Any]
Jwk = dict[str, Any]
AnyKey = ECKey | OKPKey | RSAKey
_CHARACTERS_MAX = 16_384
_PARTS = 3
_RSA_BITS_MIN, _RSA_BITS_MAX = 2_048, 8_192
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_REGISTRY = JWSRegistry(algorithms=["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"])


def public_key(jwk: Mapping[str, Any]) -> AnyKey:
    """A public key that signatures may be checked with. Raises Mistake."""
    if _PRIVATE & set(jwk):
        raise Mistake("this is a private or secret key", code="jwk", hint="only the public half belongs here")
    members = {name: value for name, value in jwk.items() if name in {"kty", "crv", "x", "y", "n", "e", "kid"}}
    if not all(isinstance(value, str) for value in members.values()):
        raise Mistake("not a JSON Web Key", code="jwk")
    return _imported(msgspec.json.encode(members, order="sorted"))


@lru_cache(maxsize=1_024)
def _imported(text: bytes) -> AnyKey:
    members = msgspec.json.decode(text)
    kinds: dict[str, type[AnyKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}
    kind = kinds.get(members.get("kty", ""))
    try:
        key = kind.import_key(members) if kind else None
        raw = key.raw_value if key else None
    except (JoseError, ValueError, TypeError, KeyError, binascii.Error):
        key = raw = None
    if key is None or not algorithms(key):
        raise Mistake("not a public key that is taken here", code="jwk", hint="EC P-256 or P-384, OKP Ed25519, RSA of 2048 bits or more")
    if isinstance(raw, RSAPublicKey) and not _RSA_BITS_MIN <= raw.key_size <= _RSA_BITS_MAX:
        raise Mistake(f"an RSA key of {raw.key_size} bits", code="jwk", hint=f"{_RSA_BITS_MIN} to {_RSA_BITS_MAX} bits")
    return key


def algorithms(key: AnyKey) -> list[str]:
    """What a key may sign with here; nothing for a curve that is not taken."""
    if isinstance(key, RSAKey):
        return ["PS256", "RS256"]
    return {"P-256": ["ES256"], "P-384": ["ES384"], "Ed25519": ["EdDSA", "Ed25519"]}.get(str(key.curve_name), [])


def unproved(token: str, headers: frozenset[str] = frozenset({"alg", "kid", "typ"})) -> tuple[Claims, Claims]:
    """Header and claims as they are written: to find the key that could have signed them, never to believe them.

    Raises Unauthenticated.
    """
    parts = token.split(".")
    if len(token) > _CHARACTERS_MAX or len(parts) != _PARTS or not token.isascii():
        raise Unauthenticated("not a signed token")
    try:
        header, claims = (parse_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except (binascii.Error, ValueError, Mistake):
        raise Unauthenticated("not a signed token") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthenticated("not a signed token")
    if set(header) - headers:
        raise Unauthenticated("the token's header says more than it may")
    return header, claims


def proved(token: str, keys: Sequence[Jwk]) -> tuple[Claims, Claims]:
    """Header and claims of a token that one of the declared keys signed. Raises Unauthenticated."""
    header, claims = unproved(token)
    kid = header.get("kid")
    for jwk in keys:
        if kid is not None and jwk.get("kid", kid) != kid:
            continue
        if _holds(token, public_key(jwk), header.get("alg")):
            return header, claims
    raise Unauthenticated("the token is not signed by a key that is declared")


def dpop_proof(proof: str) -> tuple[Claims, str]:
    """Claims of a DPoP proof and the thumbprint of its key (RFC 9449 §4.3, 2 to 7). Raises Unauthenticated."""
    try:
        header, claims = unproved(proof, frozenset({"alg", "typ", "jwk"}))
        jwk = header.get("jwk")
        key = public_key(jwk) if isinstance(jwk, dict) else None
    except (Mistake, Unauthenticated):
        key, header, claims = None, {}, {}
    if key is None or header.get("typ") != PROOF_TYPE or not _holds(proof, key, header.get("alg")):
        raise Unauthenticated("the DPoP proof is not signed as it must be", code="invalid_dpop_proof")
    return claims, key.thumbprint()


def _holds(token: str, key: AnyKey, algorithm: object) -> bool:
    if algorithm not in algorithms(key):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # the name EdDSA is old (RFC 9864), the signature is not
            jwt.decode(token, key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError):
        return False
    return True

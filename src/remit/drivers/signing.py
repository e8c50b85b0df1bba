"""Signing and checking tokens with joserfc: ES256 and nothing else, keys by ``kid`` from our own set.

Rules (RFC 8725): the algorithm is ours to choose, never the token's; ``jku``, ``x5u``, ``jwk`` and ``crit`` are refused
before anything is checked; tokens are bounded before they are parsed.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from remit.errors import Mistake, Unauthenticated
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_ALGORITHM = "ES256"
_TOKEN_CHARACTERS_MAX = 131_072
_HEADER_CHARACTERS_MAX = 1_024
_HEADERS = frozenset({"alg", "kid", "typ"})
_PARTS = 3
Claims = dict[str, Any]


class TokenSigner:
    """One signing key and its public half."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        """The key id is the key's thumbprint (RFC 7638)."""
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key = ECKey.import_key(pem)
        self.key_id = self._key.thumbprint()

    def sign(self, claims: Claims, kind: str) -> str:
        """A compact JWS with ``typ`` = kind."""
        return jwt.encode({"alg": _ALGORITHM, "kid": self.key_id, "typ": kind}, claims, self._key)

    def open(self, token: str) -> tuple[Claims, Claims]:
        """Header and claims of a token this key signed. Raises Unauthenticated."""
        header = self._header(token)
        if header.get("alg") != _ALGORITHM or header.get("kid", self.key_id) != self.key_id:
            raise Unauthenticated("the token is not signed by a key of this trust domain")
        try:
            opened = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
        except (JoseError, ValueError):
            raise Unauthenticated("the token's signature does not hold") from None
        return header, dict(opened.claims)

    def jwks(self) -> Claims:
        """Public keys for verifiers of task tokens (RFC 7517)."""
        return {"keys": [{**self._public(), "use": "sig"}]}

    def bundle(self, refresh_seconds: int) -> Claims:
        """The trust domain's bundle (SPIFFE Trust Domain and Bundle §4)."""
        return {
            "spiffe_sequence": 1,
            "spiffe_refresh_hint": refresh_seconds,
            "keys": [{**self._public(), "use": "jwt-svid"}],
        }

    def _public(self) -> Claims:
        public = self._key.as_dict(private=False)
        return {**{name: public[name] for name in ("kty", "crv", "x", "y")}, "kid": self.key_id, "alg": _ALGORITHM}

    @staticmethod
    def _header(token: str) -> Claims:
        parts = token.split(".")
        if len(token) > _TOKEN_CHARACTERS_MAX or len(parts) != _PARTS or len(parts[0]) > _HEADER_CHARACTERS_MAX:
            raise Unauthenticated("not a token")
        try:
            for part in parts[:2]:
                parsed = parse_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
                if not isinstance(parsed, dict):
                    raise Unauthenticated("not a token")
            header: Claims = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
        except (binascii.Error, ValueError, Mistake):
            raise Unauthenticated("not a token") from None
        if set(header) - _HEADERS:
            raise Unauthenticated("the token's header says more than it may")
        return header

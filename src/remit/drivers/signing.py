"""Signing (with joserfc) and checking our own tokens: ES256 and nothing else, keys by ``kid`` from our own set.

Rules (RFC 8725): the algorithm is ours to choose, never the token's; ``jku``, ``x5u``, ``jwk`` and ``crit`` are refused
before anything is checked; tokens are bounded before they are parsed, and claims are read only once their signature holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from remit.drivers.key_sets import decoded_part
from remit.errors import Mistake, Unauthenticated
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_ALGORITHM = "ES256"
_TOKEN_CHARACTERS_MAX = 131_072
_HEADER_CHARACTERS_MAX = 1_024
_HEADERS = frozenset({"alg", "kid", "typ"})
_HEADERS_MAX = 16
_HALF_BYTES = 32
_SCHEME = ECDSA(SHA256())
_READER = msgspec.json.Decoder()
Claims = dict[str, Any]


class TokenSigner:
    """One signing key and its public half."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        """The key id is the key's thumbprint (RFC 7638)."""
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key = ECKey.import_key(pem)
        self.key_id = self._key.thumbprint()
        self._verifier = key.public_key()
        self._headers: dict[bytes, Claims] = {}  # as they stand in tokens of ours: a few, and always the same

    def sign(self, claims: Claims, kind: str) -> str:
        """A compact JWS with ``typ`` = kind."""
        return jwt.encode({"alg": _ALGORITHM, "kid": self.key_id, "typ": kind}, claims, self._key)

    def open(self, token: str) -> tuple[Claims, Claims]:
        """Header (to be read only) and claims of a token this key signed, which may be remembered. Raises Unauthenticated."""
        return self.verified(token)

    def verified(self, token: str) -> tuple[Claims, Claims]:
        """The same, and nothing is remembered: for those who do that themselves."""
        if len(token) > _TOKEN_CHARACTERS_MAX or not token.isascii():
            raise Unauthenticated("not a token")
        signed, _, signature_part = token.encode().rpartition(b".")
        head, dot, body = signed.partition(b".")
        if not dot or b"." in body:
            raise Unauthenticated("not a token")
        known = self._headers.get(head)
        header = known or self._header(head)
        if header.get("alg") != _ALGORITHM or header.get("kid", self.key_id) != self.key_id:
            raise Unauthenticated("the token is not signed by a key of this trust domain")
        signature = decoded_part(signature_part)
        pair = encode_dss_signature(int.from_bytes(signature[:_HALF_BYTES]), int.from_bytes(signature[_HALF_BYTES:]))  # RFC 7518 §3.4
        try:
            if len(signature) != 2 * _HALF_BYTES:
                raise InvalidSignature
            self._verifier.verify(pair, signed, _SCHEME)
        except InvalidSignature:
            raise Unauthenticated("the token's signature does not hold") from None
        claims = _READER.decode(decoded_part(body))  # ours, as the signature says: there is nothing to find out about it
        if known is None and len(self._headers) < _HEADERS_MAX:
            self._headers[head] = header
        return header, claims

    def remembered(self, token: str) -> tuple[Claims, Claims] | None:
        """What is known of a token from before, where anything is remembered (``key_ring.py``)."""
        del token
        return None

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
    def _header(part: bytes) -> Claims:
        if len(part) > _HEADER_CHARACTERS_MAX:
            raise Unauthenticated("not a token")
        try:
            header = parse_json(decoded_part(part))
        except Mistake:
            header = None
        if not isinstance(header, dict):
            raise Unauthenticated("not a token")
        if set(header) - _HEADERS:
            raise Unauthenticated("the token's header says more than it may")
        return header

"""Keys and signatures of X.509-SVIDs with ``cryptography``: ECDSA P-256 and SHA-256 throughout.

Rules: an authority's key exists as sealed text in the store and in memory, nowhere else. A workload's key is made here, handed over
once and never kept. Left out: what stands in the certificates (``logic/x509_svid.py``).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.jwk import ECKey, RSAKey

from remit.errors import Broken
from remit.logic.x509_svid import authority_content, svid_content
from remit.model.svid import X509Svid

if TYPE_CHECKING:
    from remit.model.identity import SpiffeId

_PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
_DER = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityKey:
    """A signing certificate and its key. ``begins``: when it was made; ``number`` from 1."""

    number: int
    begins: datetime
    certificate: x509.Certificate
    key: EllipticCurvePrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def text(self) -> str:
        """Key and certificate in PEM, after the moment of making. To be sealed."""
        pem = self.key.private_bytes(*_PEM).decode() + self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return f"{self.begins.isoformat()}\n{pem}"

    @classmethod
    def parse(cls, number: int, text: str) -> AuthorityKey:
        """What ``text`` made. Raises Broken."""
        begins, _, pem = text.partition("\n")
        try:
            key = serialization.load_pem_private_key(pem.encode(), password=None)
            certificate = x509.load_pem_x509_certificate(pem[pem.index("-----BEGIN CERTIFICATE") :].encode())
            moment = datetime.fromisoformat(begins)
        except (ValueError, TypeError) as error:
            raise Broken(f"an authority of the trust domain cannot be read: {error}") from error
        if not isinstance(key, EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise Broken("an authority of the trust domain has a key of another one")
        return cls(number=number, begins=moment, certificate=certificate, key=key)


def make_authority(trust_domain: str, number: int, now: datetime, life: timedelta) -> AuthorityKey:
    """A new authority."""
    key = generate_private_key(SECP256R1())
    certificate = authority_content(trust_domain, number, key.public_key(), now, life).sign(key, hashes.SHA256())
    return AuthorityKey(number=number, begins=now, certificate=certificate, key=key)


def make_svid(authority: AuthorityKey, spiffe_id: SpiffeId, serial: int, now: datetime, expires_at: datetime) -> X509Svid:
    """An X.509-SVID with a key of its own."""
    key = generate_private_key(SECP256R1())
    public: EllipticCurvePublicKey = key.public_key()
    certificate = svid_content(spiffe_id, public, authority.certificate, serial, now, expires_at).sign(authority.key, hashes.SHA256())
    return X509Svid(
        spiffe_id=spiffe_id,
        chain=certificate.public_bytes(serialization.Encoding.DER),
        key=key.private_bytes(*_DER),
        serial=f"{serial:x}",
        expires_at=expires_at,
    )


def authority_jwk(certificate: x509.Certificate) -> dict[str, Any]:
    """An authority in a bundle (SPIFFE Trust Domain and Bundle §4.2.2: no ``kid``, one certificate). Raises ValueError for a key
    that is neither EC nor RSA.
    """
    key = certificate.public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    words: dict[str, Any]
    match key:
        case EllipticCurvePublicKey():
            words = {**ECKey.import_key(pem).as_dict(private=False)}
        case RSAPublicKey():
            words = {**RSAKey.import_key(pem).as_dict(private=False)}
        case _:
            raise ValueError("neither EC nor RSA")
    der = certificate.public_bytes(serialization.Encoding.DER)
    return {**{name: word for name, word in words.items() if name != "kid"}, "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}

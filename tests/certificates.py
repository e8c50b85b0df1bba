"""Authorities and certificates for tests: X.509-SVIDs, right or wrong in one thing."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR = dt.timedelta(hours=1)
SIGNS = {"digital_signature": True}


def key_usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


@dataclass
class Issued:
    """A certificate, its key, and what leads from it to the authority."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def ders(self) -> tuple[bytes, ...]:
        return (self.der, *(one.public_bytes(Encoding.DER) for one in self.chain))

    def pem(self) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain))

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """``name.pem`` and ``name.key``."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem())
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key.chmod(0o600)
        return certificate, key


class Authority:
    """A signing authority of a trust domain; ``by``: the one that signed it (none: itself)."""

    def __init__(
        self, domain: str = "remit.test", by: Authority | None = None, path_length: int | None = None, ends: dt.datetime = NOW + 24 * HOUR
    ) -> None:
        self.domain, self.key, self.by = domain, generate_private_key(SECP256R1()), by
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"{domain} {'below' if by else 'root'}")])
        issuer, signer = (by.certificate.subject, by.key) if by else (name, self.key)
        self.certificate = (
            _started(name, issuer, self.key.public_key(), signer.public_key(), ends=ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), critical=False)
            .sign(signer, hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def svid(self, *uris: str, **changes: object) -> Issued:
        """An X.509-SVID. Changes: ``usage``, ``critical_usage``, ``ca``, ``extended``, ``hosts``, ``begins``, ``ends``."""
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")])
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        for host in changes.get("hosts", ()):
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        made = _started(
            subject,
            self.certificate.subject,
            key.public_key(),
            self.key.public_key(),
            changes.get("begins", NOW - HOUR),
            changes.get("ends", NOW + HOUR),
        )
        made = made.add_extension(x509.BasicConstraints(ca=bool(changes.get("ca")), path_length=None), critical=True)
        made = made.add_extension(key_usage(**changes.get("usage", SIGNS)), critical=bool(changes.get("critical_usage", True)))
        extended = changes.get("extended", (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH))
        if extended:
            made = made.add_extension(x509.ExtendedKeyUsage(list(extended)), critical=False)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(made.sign(self.key, hashes.SHA256()), key, (self.certificate,) if self.by else ())


def _started(
    subject: x509.Name,
    issuer: x509.Name,
    public: object,
    signer: object,
    begins: dt.datetime = NOW - HOUR,
    ends: dt.datetime = NOW + 24 * HOUR,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )

"""What stands in the certificates of our trust domain, and which authority signs when. Pure: keys and time are given.

* X.509-SVID (SPIFFE X509-SVID §2-§4, RFC 5280): one URI SAN and nothing else that names anybody, critical because the subject is
  empty; no CA; key usage ``digitalSignature``; extended key usage for both ends of TLS.
* Authority: the trust domain's ID without a path (§2.2), ``cA`` with path length 0, ``keyCertSign`` and ``cRLSign``.

Rules of rotation: the next authority is made when the newest has lived half its life. It is published at once and signs only after a
sixth of a life, when everybody has had the time to learn it; where no older one lasts it signs at once. What was published stays so
until it expires, so no SVID outlives its authority and no verifier meets an SVID whose authority it could not know.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from remit.model.identity import SpiffeId

LIVES_OF_SVID_MIN = 12  # an authority lives at least so many times as long as an SVID: a sixth of it is then two SVIDs
_BACKDATED = timedelta(seconds=30)  # clocks differ
_PREPARED_PART, _RENEWED_PART = 6, 2


def prepared_for(life: timedelta) -> timedelta:
    """How long an authority is published before it signs."""
    return life / _PREPARED_PART


def next_is_due(begins: Sequence[datetime], life: timedelta, now: datetime) -> bool:
    """Whether another authority is to be made. ``begins``: of those there are, in order."""
    return not begins or now >= begins[-1] + life / _RENEWED_PART


def published(begins: Sequence[datetime], life: timedelta, now: datetime) -> tuple[int, ...]:
    """Places of the authorities that count."""
    return tuple(place for place, begin in enumerate(begins) if now < begin + life)


def signing(begins: Sequence[datetime], life: timedelta, now: datetime, lasts: timedelta) -> int:
    """Place of the authority that signs what lasts so long: the newest that is prepared, else the newest. One must count."""
    counting = published(begins, life, now)
    ready = [place for place in counting if begins[place] + prepared_for(life) <= now and now + lasts <= begins[place] + life]
    return ready[-1] if ready else counting[-1]


def renewal(now: datetime, expires_at: datetime) -> datetime:
    """When an SVID issued now is to be replaced: before half of its life has passed."""
    return now + (expires_at - now) * 2 / 5


def sequence(first: int, last: int) -> int:
    """A number that rises whenever an authority comes or goes; ``first``, ``last``: numbers of those published, from 1."""
    return first + last - 1


def authority_content(
    trust_domain: str, number: int, key: EllipticCurvePublicKey, begins: datetime, life: timedelta
) -> x509.CertificateBuilder:
    """A self-signed signing certificate, still unsigned."""
    name = _authority_name(trust_domain, number)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(number)
        .not_valid_before(begins - _BACKDATED)
        .not_valid_after(begins + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def svid_content(
    spiffe_id: SpiffeId, key: EllipticCurvePublicKey, authority: x509.Certificate, serial: int, now: datetime, expires_at: datetime
) -> x509.CertificateBuilder:
    """An X.509-SVID, still unsigned. ``serial``: unguessable, below 2**159 (RFC 5280 §4.1.2.2)."""
    signer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(max(now - _BACKDATED, authority.not_valid_before_utc))
        .not_valid_after(expires_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id.text)]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
    )


def _authority_name(trust_domain: str, number: int) -> x509.Name:
    words = f"remit {trust_domain[:40]} {number}"  # X.520: at most 64 characters; nobody reads it, the key identifier counts
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )

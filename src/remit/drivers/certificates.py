"""X.509-SVIDs (SPIFFE X509-SVID §4, §5): whom a chain of certificates proves, by the authorities of one trust domain.

Rules: exactly one URI SAN, which is a workload's SPIFFE ID; a leaf that signs no certificates and may sign; a path of valid signing
certificates to an authority of exactly that ID's trust domain (RFC 5280, by ``cryptography``). Which domain has to vouch is read from
the leaf first and unverified; nothing else of it counts before the path holds. Left out: revocation lists; SVIDs are short-lived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from remit.errors import Mistake, Unauthenticated
from remit.model.identity import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.x509.verification import Policy

_CHAIN_MAX, _DEPTH_MAX = 10, 8
_BOTH_WAYS = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def read_chain(chain: Sequence[bytes]) -> tuple[SpiffeId, list[x509.Certificate]]:
    """Who the leaf of a chain (DER, leaf first) says it is, unverified, and the certificates. Raises Unauthenticated."""
    if not 0 < len(chain) <= _CHAIN_MAX:
        raise Unauthenticated("no chain of certificates, or one too long")
    try:
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
        names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Unauthenticated("the certificate names no identity") from None
    if len(uris) != 1:
        raise Unauthenticated("the certificate has not exactly one URI")
    try:
        return SpiffeId.parse(uris[0]), certificates
    except Mistake:
        raise Unauthenticated("the certificate's URI is not the SPIFFE ID of a workload") from None


def check_chain(certificates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime) -> None:
    """Whether a chain leads to one of a domain's authorities now, and its leaf is one of a workload. Raises Unauthenticated."""
    leaf, *others = certificates
    _check_leaf(leaf)
    if not authorities:
        raise Unauthenticated("the trust domain vouches for no certificates")
    permissive = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    signing = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(now)
        .max_chain_depth(_DEPTH_MAX)
        .extension_policies(ca_policy=signing, ee_policy=permissive)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, others)
    except (VerificationError, ValueError):
        raise Unauthenticated("the certificate does not lead to an authority of its trust domain, or not now") from None


def _is_authority(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not a certificate of an authority")


def _signs_certificates(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("not for signing certificates")


def _check_leaf(leaf: x509.Certificate) -> None:
    """X509-SVID §4.1, §4.3, §4.4."""
    found = {type(extension.value): extension for extension in leaf.extensions}
    constraints, usage, extended = (found.get(kind) for kind in (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage))
    if constraints is not None and getattr(constraints.value, "ca", True):
        raise Unauthenticated("the certificate is one of an authority")
    if usage is None or not usage.critical or not isinstance(usage.value, x509.KeyUsage):
        raise Unauthenticated("the certificate does not say, critically, what its key is for")
    if not usage.value.digital_signature or usage.value.key_cert_sign or usage.value.crl_sign:
        raise Unauthenticated("the certificate's key is not that of a workload")
    if extended is not None and not (isinstance(extended.value, x509.ExtendedKeyUsage) and set(extended.value) >= _BOTH_WAYS):
        raise Unauthenticated("the certificate is not for both ends of a connection")

"""X.509: a lease is a fresh key and a client certificate for it, signed by an authority that servers trust. Its serial number is the mark.

Rules
* The certificate names what the scope names, and is good for a client in TLS and nothing else: it signs no certificate, serves nobody.
* It is valid from a minute ago to the end of the lease. A connection that is open goes on past that: servers look at the beginning only.
* Servers know nothing of a certificate until it is shown, so there is no list (``TargetKind.lists``). Revocation is a certificate
  revocation list (RFC 5280 §5), and the operator's program that takes it to the servers and ends what is open there
  (``revocation_lists.py``, docs/targets.md). A list that is out of date shuts everybody out, so it is renewed for as long as any lease.

Left out: OCSP, deltas, policies, chains longer than the authority itself.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from remit.drivers.targets.base import MARK_PREFIX, Finding, Minted, Setting, TargetKind
from remit.drivers.targets.revocation_lists import Listed, RevocationList, check_list_settings
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.targets.base import Scope, TargetSettings

    SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_BACK = timedelta(seconds=60)  # servers' clocks
_SOON = timedelta(days=30)
_LIST_MAX = 20
_NAME_CHARACTERS_MAX = 64  # RFC 5280 appendix A, ub-common-name
_RSA_BITS_MIN = 2_048
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----[A-Za-z0-9+/=\s]+-----END \1-----")
_URI = re.compile(r"[a-z][a-z0-9+-]{0,30}://[a-z0-9.-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*", re.ASCII)
_DNS = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
_EXAMPLE = 'name = "agents", uris = ["spiffe://example.org/customer/{customer}"]'


class Authority:
    """Who signs. Also the form of its revocation list."""

    def __init__(self, key: SigningKey, certificate: x509.Certificate) -> None:
        self.key, self.certificate = key, certificate
        self._known_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

    @property
    def _hash(self) -> hashes.SHA256 | None:
        return None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()

    def issue(self, built: x509.CertificateBuilder) -> x509.Certificate:
        """Sign what is to be a client's."""
        signs = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            built.issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(signs, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(self._known_by, critical=False)
            .sign(self.key, self._hash)
        )

    def read(self, data: bytes) -> Listed:
        """See Form."""
        known = x509.load_pem_x509_crl(data)
        if known.issuer != self.certificate.subject or not known.is_signature_valid(self.key.public_key()):
            raise ValueError("a list of another authority")
        entries = {_mark(one.serial_number): int(one.revocation_date_utc.timestamp()) for one in known}
        until = known.next_update_utc
        try:
            number = known.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        except x509.ExtensionNotFound:
            raise ValueError("not one of ours") from None
        return Listed(entries=entries, number=number, until=int(until.timestamp()) if until else 1)

    def write(self, listed: Listed) -> bytes:
        """See Form."""
        revoked = [
            x509.RevokedCertificateBuilder().serial_number(_serial(mark)).revocation_date(datetime.fromtimestamp(at, UTC)).build()
            for mark, at in listed.entries.items()
        ]
        built = (
            x509.CertificateRevocationListBuilder(revoked_certificates=revoked)  # to add them one by one copies the list each time
            .issuer_name(self.certificate.subject)
            .last_update(datetime.now(UTC) - _BACK)
            .next_update(datetime.fromtimestamp(listed.until, UTC))
            .add_extension(x509.CRLNumber(listed.number), critical=False)
            .add_extension(self._known_by, critical=False)
        )
        return built.sign(self.key, self._hash).public_bytes(Encoding.PEM)


class X509Target:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._secret = settings.name, secret
        self._revoked = RevocationList(settings.name, str(settings.values["list_file"]), str(settings.values["apply"]))
        self._held: tuple[str, Authority] | None = None

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        subject, others = _read_scope(scope, mark)
        authority = await self._authority()
        await self._revoked.ready(authority, expires_at)
        key = ec.generate_private_key(ec.SECP256R1())
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(_serial(mark))
            .not_valid_before(min(datetime.now(UTC), expires_at) - _BACK)
            .not_valid_after(expires_at)
        )
        if others:
            built = built.add_extension(x509.SubjectAlternativeName(others), critical=False)
        certificate = authority.issue(built).public_bytes(Encoding.PEM).decode()
        armoured = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        parts = {
            "private_key": armoured,
            "private_key_base64": "".join(armoured.splitlines()[1:-1]),
            "certificate": certificate,
            "chain": certificate + authority.certificate.public_bytes(Encoding.PEM).decode(),
        }
        return Minted(parts=parts, secret=frozenset({"private_key", "private_key_base64"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Whether there was anything nobody can tell: true when it was not revoked before."""
        del minted
        return await self._revoked.add(mark, await self._authority())

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. The list of what was revoked is looked after. Raises Outage, Mistake."""
        del prefix
        await self._revoked.ready(await self._authority())
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            authority = await self._authority()
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)
        if wrong := await self._revoked.findings():
            return wrong
        ends = authority.certificate.not_valid_after_utc
        text = f"certificates are signed by {authority.certificate.subject.rfc4514_string()}, until {ends:%Y-%m-%d}"
        more = Finding(good=True, text="servers keep no list of certificates, and end no connection when one expires")
        return (Finding(good=ends > datetime.now(UTC) + _SOON, text=text), more)

    async def close(self) -> None:
        """See Target."""
        self._revoked.close()

    async def _authority(self) -> Authority:
        """The same one for the same secret. Raises Mistake, Outage."""
        secret = await self._secret()
        if self._held is None or self._held[0] != secret:
            self._held = secret, self._read(secret)
        return self._held[1]

    def _read(self, secret: str) -> Authority:
        blocks = {found[1]: found[0].encode() for found in _BLOCK.finditer(secret)}
        try:
            key = load_pem_private_key(next(block for word, block in blocks.items() if word.endswith("PRIVATE KEY")), None)
            certificate = x509.load_pem_x509_certificate(blocks["CERTIFICATE"])
            good = _signs(certificate) and certificate.public_key() == key.public_key()
        except (KeyError, StopIteration, ValueError, TypeError, UnsupportedAlgorithm):
            raise self._no_authority() from None
        if isinstance(key, rsa.RSAPrivateKey):
            good = good and key.key_size >= _RSA_BITS_MIN
        elif not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise self._no_authority()
        if not good:
            raise self._no_authority()
        return Authority(key, certificate)

    def _no_authority(self) -> Mistake:
        hint = "PEM of a key (EC, Ed25519, RSA) without a passphrase and of its certificate, which may sign certificates and lists"
        return Mistake(f"the secret of target {self._name} is no authority", code="target_secret", hint=hint)


def _signs(certificate: x509.Certificate) -> bool:
    """Whether it may sign certificates and lists (RFC 5280 §4.2.1.3, §4.2.1.9). Raises ValueError."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        return usage.key_cert_sign and usage.crl_sign and certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _serial(mark: str) -> int:
    """A mark as a number: 1, then five bits a letter; at most 20 octets are allowed (RFC 5280 §4.1.2.2)."""
    number = 1
    for letter in mark.removeprefix(MARK_PREFIX):
        number = number << 5 | _LETTERS.index(letter)
    return number


def _mark(serial: int) -> str:
    """Raises ValueError where the number is no mark's."""
    letters = []
    while serial > 1:
        letters.append(_LETTERS[serial & 31])
        serial >>= 5
    if serial != 1 or len(letters) != 25:
        raise ValueError("not one of ours")
    return MARK_PREFIX + "".join(reversed(letters))


def _read_scope(scope: Scope, mark: str) -> tuple[x509.Name, list[x509.GeneralName]]:
    """Subject and other names. Raises Mistake."""
    unknown = sorted(set(scope) - {"name", "organizations", "uris", "dns"})
    if unknown:
        raise _wrong(f"{unknown[0]!r} is not part of a scope")
    if not scope.keys() & {"name", "uris", "dns"}:
        raise _wrong("a scope has a name, uris or dns")
    name = scope.get("name", mark)
    organizations, uris, dns = (_texts(scope, key) for key in ("organizations", "uris", "dns"))
    for text in (name, *organizations):
        if not isinstance(text, str) or not 0 < len(text) <= _NAME_CHARACTERS_MAX or not text.isprintable() or text != text.strip():
            raise _wrong(f"a name has 1 to {_NAME_CHARACTERS_MAX} characters, none of them control characters, and no space at its ends")
    if not all(_URI.fullmatch(uri) for uri in uris):
        raise _wrong("a URI is like spiffe://example.org/agents/one: plain segments, no . or .., no %, ? or #")
    if not all(_DNS.fullmatch(one) for one in dns):
        raise _wrong("dns has names in lower case, no wildcards")
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    others = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    return x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, name)]), others


def _texts(scope: Scope, key: str) -> list[str]:
    found: Any = scope.get(key, [])
    if (
        not isinstance(found, list)
        or len(found) > _LIST_MAX
        or not all(isinstance(one, str) for one in found)
        or (key in scope and not found)
    ):
        raise _wrong(f"{key} is a list of 1 to {_LIST_MAX} texts")
    return found


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


X509 = TargetKind(
    name="x509",
    settings={
        "list_file": Setting(kind=str, hint='list_file = "/var/lib/remit/services.crl"'),
        "apply": Setting(kind=str, hint='apply = "/usr/local/lib/remit/nginx-revoke"'),
    },
    blank={"private_key": "", "private_key_base64": "", "certificate": "", "chain": ""},
    check_settings=check_list_settings,
    check_scope=lambda scope: (_read_scope(scope, "x"), None)[1],
    open=X509Target,
    lists=False,
    divisible=frozenset({"dns", "organizations", "uris"}),
)

"""The contract of targets on a real nginx that asks for client certificates, and what is X.509's own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.x509 import X509, X509Target, _mark, _serial
from remit.errors import Mistake, Outage
from tests.certificates import Authority, Issued, key_usage
from tests.contract.target_contract import TargetContract, mark, refused, soon
from tests.servers.nginx import NginxServer, nginx_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"name": "orders", "uris": ["spiffe://remit.test/customer/acme"]}


class Refused(Exception):
    """nginx lets nobody in."""


@dataclass
class Logged:
    """One connection, and no other in its place."""

    connection: http.client.HTTPSConnection

    def status(self, path: str) -> int:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    async def alive(self) -> bool:
        try:
            return await asyncio.to_thread(self.status, "/orders") == 200
        except (OSError, http.client.HTTPException):
            return False

    async def close(self) -> None:
        self.connection.close()


@dataclass
class X509Case:
    server: NginxServer
    authority: Authority
    target: X509Target
    folder: Path
    given: dict[str, Minted] = field(default_factory=dict)
    kind = X509
    scope = SCOPE

    def kept(self, minted: Minted) -> Path:
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "both.pem"
        file.write_text(minted.parts["private_key"] + minted.parts["certificate"])
        return file

    def context(self, minted: Minted) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.public_bytes(Encoding.PEM).decode())
        context.load_cert_chain(self.kept(minted))
        return context

    def connected(self, context: ssl.SSLContext) -> Logged:
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=20, context=context)
        connection.connect()
        connection.auto_open = 0
        return Logged(connection)

    async def login(self, minted: Minted) -> Logged:
        session = await asyncio.to_thread(self.connected, self.context(minted))
        if not await session.alive():
            await session.close()
            raise Refused
        return session

    async def beyond(self, session: Logged) -> None:
        if await asyncio.to_thread(session.status, "/salaries") == 403:
            raise Refused

    async def leave_things(self, session: Logged) -> None:
        """A client leaves a request that takes its time."""
        session.connection.putrequest("POST", "/orders")
        session.connection.putheader("Content-Length", "1000000")
        session.connection.endheaders()

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"organizations": ["acme"]},
            *({"name": name} for name in ("", "x" * 65, "a\nb", " orders", 7, None, ["orders"])),
            *({**SCOPE, "organizations": bad} for bad in ([], "acme", [""], ["a\0"], [7], ["x"] * 21)),
            *({"uris": [uri]} for uri in URIS),
            {"uris": "spiffe://remit.test/x"},
            *({"dns": [name]} for name in ("*", "*.remit.test", "Orders", "a..b", "-a", "a b", "", "x" * 64, 7)),
            {**SCOPE, "more": 1},
        ]

    def standing(self) -> set[str]:
        """Servers keep no list: which of those that were given out nginx would still take."""
        there = set()
        for name, minted in self.given.items():
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                contextlib.closing(self.connected(self.context(minted)).connection) as db,
            ):
                if Logged(db).status("/orders") == 200:
                    there.add(name)
        return there

    def secrets_told(self, minted: Minted) -> list[str]:
        files = [self.server.log, *self.server.list_file.parent.iterdir()]
        return [str(file) for file in files if minted.parts["private_key_base64"][-40:].encode() in file.read_bytes()]

    def down(self) -> None:
        """The file system with the list is gone."""
        self.server.list_file.parent.rename(self.server.list_file.parent.with_name("away"))

    def up(self) -> None:
        self.server.list_file.parent.with_name("away").rename(self.server.list_file.parent)


URIS = (
    "",
    "orders",
    "spiffe://",
    "spiffe://remit.test/../admin",
    "spiffe://remit.test/a/./b",
    "spiffe://remit.test//admin",
    "spiffe://remit.test/a%2fb",
    "spiffe://remit.test/a?b",
    "spiffe://remit.test/a#b",
    "spiffe://somebody@remit.test/a",
    "spiffe://remit.test/a b",
    "spiffe://remit.test/a\n",
    "spiffe://remit.test/\u00e4",
    7,
)


class Noted(X509Target):
    """The driver, with a note of what it gave out."""

    def __init__(self, given: dict[str, Minted], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._given = given

    async def mint(self, mark: str, *arguments: Any) -> Minted:
        minted = await super().mint(mark, *arguments)
        self._given[mark] = minted
        return minted


def pem(authority: Authority) -> str:
    return Issued(authority.certificate, authority.key).pem().decode() + key_pem(authority.key)


def key_pem(key: Any, passphrase: bytes = b"") -> str:
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


def secret_of(text: str) -> Any:
    async def secret() -> str:
        return text

    return secret


def settings(server: NginxServer, apply: Path | None = None) -> TargetSettings:
    return TargetSettings(name="services", kind="x509", values={"list_file": str(server.list_file), "apply": str(apply or server.apply)})


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(ends=datetime.now(UTC) + timedelta(days=100))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[NginxServer]:
    with nginx_folder() as folder:
        authority.svid(hosts=["127.0.0.1"]).write(folder, "server")
        (folder / "authority.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        made = NginxServer(folder)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
async def case(server: NginxServer, authority: Authority, tmp_path: Path) -> AsyncIterator[X509Case]:
    given: dict[str, Minted] = {}
    made = X509Case(server, authority, Noted(given, settings(server), secret_of(pem(authority))), tmp_path, given)
    if not server.list_file.exists():
        with pytest.raises(Outage):  # as docs/targets.md tells: the list is there first, and nginx is not
            await made.target.list_ours("remit_")
        server.start()
    yield made
    await made.target.close()


class TestX509(TargetContract):
    """The contract."""


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


async def test_it_is_good_for_a_client_and_for_nothing_else(case):
    scope = {"name": "orders", "organizations": ["acme", "globex"], "uris": ["spiffe://remit.test/a"], "dns": ["orders.remit.test"]}
    ends = soon(120).replace(microsecond=0)
    minted = await case.target.mint(mark(50), scope, ends)
    made = read(minted.parts["certificate"])
    assert made.subject.rfc4514_string() == "CN=orders,O=globex,O=acme"
    assert made.not_valid_after_utc == ends
    assert _mark(made.serial_number) == mark(50)
    told = {type(one.value): one for one in made.extensions}
    assert told[x509.BasicConstraints].value.ca is False
    assert [one.dotted_string for one in told[x509.ExtendedKeyUsage].value] == ["1.3.6.1.5.5.7.3.2"]
    assert told[x509.ExtendedKeyUsage].critical
    assert told[x509.KeyUsage].value == key_usage(digital_signature=True)
    names = told[x509.SubjectAlternativeName].value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://remit.test/a"]
    assert names.get_values_for_type(x509.DNSName) == ["orders.remit.test"]
    assert read(minted.parts["chain"][len(minted.parts["certificate"]) :]) == case.authority.certificate
    assert (await case.target.mint(mark(51), {"dns": ["a"]}, ends)).parts["certificate"]
    file = case.kept(minted)
    (case.folder / "authority.pem").write_bytes(case.authority.certificate.public_bytes(Encoding.PEM))
    for purpose, good in (("sslclient", True), ("sslserver", False)):
        words = ["openssl", "verify", "-CAfile", str(case.folder / "authority.pem"), "-purpose", purpose]
        words += ["-x509_strict", "-crl_check", "-CRLfile", str(case.server.list_file), str(file)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode == 0) is good, done.stderr


async def test_a_session_that_was_begun_before_is_not_resumed_after_a_revocation(case):
    minted = await case.target.mint(mark(52), SCOPE, soon())
    context = case.context(minted)
    first = case.connected(context)
    assert await first.alive()
    kept = first.connection.sock.session
    await case.target.revoke(mark(52), minted)

    def again() -> int:
        plain = socket.create_connection(("127.0.0.1", case.server.port), 5)
        with context.wrap_socket(plain, server_hostname="127.0.0.1", session=kept) as sock:
            sock.sendall(b"GET /orders HTTP/1.0\r\n\r\n")
            return int(sock.recv(100).split()[1])

    assert await asyncio.to_thread(again) == 400
    await first.close()


async def test_one_revocation_leaves_the_others_in(case):
    first, other = await case.target.mint(mark(53), SCOPE, soon()), await case.target.mint(mark(54), SCOPE, soon())
    await case.target.revoke(mark(53), first)
    assert await refused(case, first)
    assert not await refused(case, other)
    await case.target.revoke(mark(54), other)


async def test_a_list_is_renewed_before_a_lease_could_outlive_it(case, monkeypatch):
    """A list out of date shuts everybody out; an old one is no hurdle for who mints next, and its entries stay as long as they must."""
    await case.target.revoke(mark(55))
    before = x509.load_pem_x509_crl(case.server.list_file.read_bytes())
    await case.target.list_ours("remit_")
    assert case.server.list_file.read_bytes() == before.public_bytes(Encoding.PEM), "there is no need yet"
    for hours, there in ((30, True), (80, False)):
        later = datetime.now(UTC) + timedelta(hours=hours)
        monkeypatch.setattr("remit.drivers.targets.revocation_lists.time.time", later.timestamp)
        await case.target.list_ours("remit_")
        now = x509.load_pem_x509_crl(case.server.list_file.read_bytes())
        assert now.next_update_utc > later + timedelta(hours=24)
        assert (now.get_revoked_certificate_by_serial_number(_serial(mark(55))) is not None) is there
    numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (before, now)]
    assert numbers[0] < numbers[1]


async def test_the_list_of_another_authority_is_not_written_over(case):
    """With one of our numbers in it or not; what is there is the operator's to look at."""
    kept = case.server.list_file.read_bytes()
    other = X509Target(settings(case.server), secret_of(pem(Authority())))
    try:
        for attempt in (other.revoke(mark(56)), other.mint(mark(56), SCOPE, soon())):
            with pytest.raises(Outage) as caught:
                await attempt
            assert caught.value.code == "target_refused"
        assert case.server.list_file.read_bytes() == kept
        case.server.list_file.write_bytes(b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n")
        with pytest.raises(Outage):
            await case.target.revoke(mark(56))
    finally:
        case.server.list_file.write_bytes(kept)
        await other.close()


async def test_with_another_authority_nothing_is_minted_until_it_has_a_list_of_its_own(case):
    """The secret is another one under the same settings: what it would sign could not be revoked."""
    secrets = [pem(case.authority), pem(Authority())]

    async def secret() -> str:
        return secrets[0]

    target = X509Target(settings(case.server), secret)
    await target.mint(mark(80), SCOPE, soon())
    del secrets[0]
    with pytest.raises(Outage):
        await target.mint(mark(81), SCOPE, soon())
    await target.close()


def authority_with(key: Any, usage: x509.KeyUsage | None, *, ca: bool = True, days: int = 100) -> str:
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "an authority")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days))
    built = built.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not None:
        built = built.add_extension(usage, critical=True)
    signed = built.sign(key, None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256())
    return key_pem(key) + signed.public_bytes(Encoding.PEM).decode()


SIGNS = key_usage(key_cert_sign=True, crl_sign=True)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
async def test_authorities_with_other_keys(tmp_path, kind):
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65_537, 2_048)
    program = tmp_path / "apply"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    values = {"list_file": str(tmp_path / "list"), "apply": str(program)}
    target = X509Target(TargetSettings(name="services", kind="x509", values=values), secret_of(authority_with(key, SIGNS)))
    minted = await target.mint(mark(57), SCOPE, soon())
    assert await target.revoke(mark(57), minted) is True
    assert await target.revoke(mark(57), minted) is False
    (tmp_path / "issuer.pem").write_text(minted.parts["chain"][len(minted.parts["certificate"]) :])
    words = ["openssl", "crl", "-in", str(tmp_path / "list"), "-CAfile", str(tmp_path / "issuer.pem"), "-noout"]
    assert "verify OK" in subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stderr
    assert all(finding.good for finding in await target.check())
    await target.close()


def bad_secrets() -> dict[str, str]:
    key, good = Ed25519PrivateKey.generate(), Authority()
    certificate = good.certificate.public_bytes(Encoding.PEM).decode()
    return {
        "text": "just-some-text",
        "the key alone": key_pem(key),
        "the certificate alone": certificate,
        "another's key": key_pem(key) + certificate,
        "with a passphrase": key_pem(good.key, b"a passphrase") + certificate,
        "no authority": authority_with(key, SIGNS, ca=False),
        "signs no lists": authority_with(key, key_usage(key_cert_sign=True)),
        "says nothing of its use": authority_with(key, None),
        "a short key": authority_with(rsa.generate_private_key(65_537, 1_024), SIGNS),
        "a broken key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + certificate,
    }


@pytest.mark.parametrize(("kind", "text"), bad_secrets().items(), ids=lambda value: value if len(value) < 30 else "")
async def test_a_root_secret_that_will_not_do_is_a_mistake_without_it(server, kind, text):
    target = X509Target(settings(server), secret_of(text))
    with pytest.raises(Mistake) as caught:
        await target.mint(mark(58), SCOPE, soon())
    assert caught.value.code == "target_secret"
    assert not any(line in f"{caught.value}{caught.value.hint}" for line in text.splitlines())
    assert [finding.good for finding in await target.check()] == [False]
    await target.close()


async def test_an_authority_near_its_end_is_told_of(case):
    target = X509Target(settings(case.server), secret_of(authority_with(Ed25519PrivateKey.generate(), SIGNS, days=20)))
    assert [finding.good for finding in await target.check()] == [False, True]
    await target.close()


async def test_a_lease_longer_than_the_list_remembers_is_refused(case):
    with pytest.raises(Mistake):
        await case.target.mint(mark(59), SCOPE, soon(86_400 + 120))


def test_a_scope_may_be_made_of_inputs():
    """Before a task is opened its inputs stand for ``x``."""
    X509.check_scope({"name": "x", "organizations": ["x"], "uris": ["spiffe://remit.test/x"], "dns": ["x.remit.test"]})

"""The keys folder under a key-encryption key from elsewhere: real files, real KMS calls (moto's server stands in for AWS)."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from remit.drivers import key_files
from remit.drivers.key_encryption import check_source, open_key_encryption, withheld_variables
from remit.drivers.key_ring import KeyRing
from remit.drivers.key_wrapping import kept_keys, open_folder_key, rewrap_folder, wrap_folder
from remit.drivers.keys import Keys, load_or_make_keys, signals_key, token_key
from remit.drivers.sealing import Sealer
from remit.errors import Mistake, Outage
from tests.support import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN = "example.org"
FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def kek(tmp_path: Path) -> str:
    return source_file(tmp_path / "kek", FIRST)


@pytest.fixture
def other(tmp_path: Path) -> str:
    return source_file(tmp_path / "other", SECOND)


def source_file(path: Path, key: bytes) -> str:
    path.write_bytes(base64.b64encode(key) + b"\n")
    path.chmod(0o600)
    return f"file:{path}"


def loaded(folder: Path, source: str = "", domain: str = DOMAIN) -> Keys:
    return load_or_make_keys(folder, source, domain)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def same(one: Keys, two: Keys) -> bool:
    numbers = [(keys.tokens.private_numbers(), keys.ledger.private_bytes_raw(), keys.values) for keys in (one, two)]
    return numbers[0] == numbers[1]


def refused(folder: Path, source: str, domain: str = DOMAIN) -> Mistake:
    """Nothing loads, and nothing in the folder has changed."""
    before = content(folder) if folder.exists() else {}
    with pytest.raises(Mistake) as wrong:
        loaded(folder, source, domain)
    assert (content(folder) if folder.exists() else {}) == before
    return wrong.value


@pytest.mark.parametrize("kind", ["file", "env", "credential"])
def test_a_new_folder_is_sealed_from_each_source_and_opens_again(kind, folder, tmp_path, monkeypatch):
    sources = {"file": source_file(tmp_path / "kek", FIRST), "env": "env:REMIT_TEST_KEK", "credential": "credential:remit.kek"}
    if kind == "env":
        monkeypatch.setenv("REMIT_TEST_KEK", base64.b64encode(FIRST).decode())
    if kind == "credential":
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        source_file(tmp_path / "remit.kek", FIRST)
        (tmp_path / "remit.kek").chmod(0o440)  # as systemd's access list shows
    first = loaded(folder, sources[kind])
    assert same(first, loaded(folder, sources[kind]))
    assert {kept.name: kept.kept for kept in kept_keys(folder)} == {
        "ledger.key": "sealed",
        "tokens.key": "sealed",
        "values.key": "sealed",
        "wrapping.key": "wrapped",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    at_rest = b"".join(content(folder).values())
    for secret in (first.values, base64.b64encode(first.values), FIRST, base64.b64encode(FIRST), b"PRIVATE KEY"):
        assert secret not in at_rest


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("file:/nowhere/kek", "cannot be read"),
        ("env:REMIT_TEST_NONE", "the environment has no REMIT_TEST_NONE"),
        ("credential:none", "the environment has no CREDENTIALS_DIRECTORY"),
        ("file:relative", "names no key-encryption key"),
        ("credential:../kek", "names no key-encryption key"),
        ("env:", "names no key-encryption key"),
        ("file:/kek\nremit", "names no key-encryption key"),
        ("file:/kek\udcff", "names no key-encryption key"),
        ("aws-kms:arn:aws:s3:::x", "names no key-encryption key"),
        ("bWluZQ==", "names no key-encryption key"),
    ],
)
def test_a_source_that_is_not_there_starts_nothing_and_makes_nothing(source, word, folder, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert word in refused(folder, source).message
    assert not folder.exists() or not content(folder)


def test_a_key_that_is_open_to_others_short_or_among_the_keys_is_refused_and_not_shown(folder, tmp_path, monkeypatch):
    source = source_file(tmp_path / "kek", FIRST)
    (tmp_path / "kek").chmod(0o640)
    assert "other accounts can read this key" in refused(folder, source).message
    for value in ("hunter2hunter2", "hunter2\udcff"):  # the latter: bytes that are no text
        monkeypatch.setenv("REMIT_TEST_KEK", value)
        wrong = refused(folder, "env:REMIT_TEST_KEK")
        assert "not 32 bytes in base64" in wrong.message
        assert "hunter2" not in str(wrong)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refused(folder, f"file:{tmp_path / 'loop'}").message
    with pytest.raises(Mistake) as mistake:
        check_source("hunter2hunter2")
    assert "hunter2" not in str(mistake.value)
    folder.mkdir(exist_ok=True)
    assert "lies among the keys" in refused(folder, source_file(folder / "kek", FIRST)).message
    (tmp_path / "link").symlink_to(folder / "kek")
    assert "lies among the keys" in refused(folder, f"file:{tmp_path / 'link'}").message


def test_another_key_no_key_or_another_trust_domain_opens_nothing(folder, kek, other):
    loaded(folder, kek)
    for wrong in (refused(folder, other), refused(folder, kek, "evil.example")):
        assert "does not open it" in wrong.message
        assert wrong.place is not None
        assert wrong.place.file == str(folder / "wrapping.key")
        assert kek in wrong.hint, "it says which key it was wrapped with"
    assert "no key-encryption key is configured" in refused(folder, "").message


@pytest.mark.parametrize("name", ["wrapping.key", "values.key", "tokens.key", "ledger.key"])
def test_a_damaged_file_opens_nothing_and_is_left_as_it_is(name, folder, kek):
    loaded(folder, kek)
    whole = (folder / name).read_bytes()
    head, _, body = whole.partition(b"\n")
    flipped = base64.urlsafe_b64encode(bytes([base64.urlsafe_b64decode(body[:4])[0] ^ 1]) + base64.urlsafe_b64decode(body[:4])[1:])
    for damaged in (b"", whole[:7], head, head + b"\n", whole[:-9], whole.replace(b" 1 ", b" 2 "), head + b"\n" + flipped + body[4:]):
        (folder / name).write_bytes(damaged)
        assert refused(folder, kek).code == "key_file" or name == "wrapping.key"
    (folder / name).write_bytes(whole)
    loaded(folder, kek)


def test_a_folder_whose_wrapping_key_is_gone_gets_no_new_one(folder, kek):
    loaded(folder, kek)
    (folder / "wrapping.key").unlink()
    assert "it is gone" in refused(folder, kek).message


def test_a_sealed_key_opens_for_its_purpose_and_folder_only(folder, kek, tmp_path):
    keys = loaded(folder, kek)
    values = (folder / "values.key").read_bytes()
    (folder / "values.key").write_bytes((folder / "tokens.key").read_bytes())
    assert "does not open" in refused(folder, kek).message
    loaded(tmp_path / "elsewhere", kek)
    (folder / "values.key").write_bytes((tmp_path / "elsewhere" / "values.key").read_bytes())
    assert "does not open" in refused(folder, kek).message
    (folder / "values.key").write_bytes(values)
    assert same(keys, loaded(folder, kek))


def test_a_plain_folder_opens_as_ever_and_is_wrapped_without_another_key_or_age(folder, kek):
    before = loaded(folder)
    KeyRing(folder)
    for path in folder.glob("*.key"):
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    ring = KeyRing(folder)
    signals = signals_key(folder / "signals.key").private_numbers()
    sealed, states = Sealer(before.derived("leases")).seal(b"credential", "lease"), ring.states()
    assert same(before, loaded(folder, kek)), "configured and not wrapped yet"
    with pytest.raises(Mistake, match="no key-encryption key is configured"):
        wrap_folder(folder, "", DOMAIN)
    assert wrap_folder(folder, kek, DOMAIN) == ("ledger.key", "signals.key", "tokens.key", "tokens.next.key", "values.key")
    assert wrap_folder(folder, kek, DOMAIN) == ()
    assert "clear" not in {kept.kept for kept in kept_keys(folder)}
    assert not any(b"PRIVATE KEY" in data for data in content(folder).values())
    after = loaded(folder, kek)
    assert same(before, after)
    assert Sealer(after.derived("leases")).open(sealed, "lease") == b"credential"
    assert KeyRing(folder, after.folder_key).states() == states
    assert signals_key(folder / "signals.key", after.folder_key).private_numbers() == signals


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("verb", ["wrap", "rewrap"])
def test_a_crash_at_any_step_leaves_a_folder_that_opens_with_the_same_keys(verb, folder, kek, other, tmp_path, monkeypatch):
    original = tmp_path / "original"
    before = loaded(original, kek if verb == "rewrap" else "")

    def attempt(crash_at: int) -> bool:
        """Whether it got to the end."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        left = [crash_at]

        def step(real):
            def taken(*arguments, **named):
                left[0] -= 1
                if left[0] <= 0:
                    raise Crash  # from then on nothing is done any more, as of a process that is gone
                return real(*arguments, **named)

            return taken

        with monkeypatch.context() as patch:
            for name in ("utime", "link", "fsync"):
                patch.setattr(key_files.os, name, step(getattr(key_files.os, name)))
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, step(getattr(Path, name)))
            try:
                _run(verb, folder, kek, other)
            except Crash:
                return False
        return True

    done = 0
    for crash_at in range(1, 100):
        finished = attempt(crash_at)
        opens = [source for source in (kek, other) if _opens(folder, source)]
        assert opens, crash_at
        assert same(before, loaded(folder, opens[0])), crash_at
        if opens == [kek]:
            _run(verb, folder, kek, other)  # to do it again does what is left, whatever was left lying there
            assert same(before, loaded(folder, kek if verb == "wrap" else other))
        if finished:
            break
        done += 1
    assert finished
    assert done >= 5


def _run(verb: str, folder: Path, kek: str, other: str) -> None:
    if verb == "wrap":
        wrap_folder(folder, kek, DOMAIN)
    else:
        rewrap_folder(folder, kek, other, DOMAIN)


def _opens(folder: Path, source: str) -> bool:
    try:
        open_folder_key(folder, source, DOMAIN)
    except Mistake:
        return False
    return True


def test_another_key_encryption_key_while_a_node_runs_and_replaces_its_keys(folder, kek, other):
    before = loaded(folder, kek)
    ring = KeyRing(folder, before.folder_key)
    token = ring.sign({"x": 1}, "at+jwt")
    rewrap_folder(folder, kek, other, DOMAIN)
    assert "does not open it" in refused(folder, kek).message
    ring.rotate(NOW)  # the running node made its keys before; it reads on, and what it seals opens for those that start now
    assert ring.open(token)[1] == {"x": 1}
    after = loaded(folder, other)
    assert after.values == before.values
    fresh = KeyRing(folder, after.folder_key)
    assert fresh.open(token)[1] == {"x": 1}
    assert fresh.key_id == ring.key_id
    assert "clear" not in {kept.kept for kept in kept_keys(folder)}


def test_a_node_that_started_with_the_setting_reads_on_while_its_plain_folder_is_wrapped(folder, kek):
    loaded(folder)
    keys = loaded(folder, kek)
    ring = KeyRing(folder, keys.folder_key)
    token = ring.sign({"x": 1}, "at+jwt")
    wrap_folder(folder, kek, DOMAIN)
    assert ring.refresh()
    assert ring.open(token)[1] == {"x": 1}
    assert token_key(folder / "transactions.key", keys.folder_key)
    assert (folder / "transactions.key").read_bytes().startswith(b"remit-sealed-key 1 transactions\n")


def test_rewrapping_refuses_what_it_cannot_read_or_undo(folder, kek, other):
    loaded(folder)
    for old in ("", kek):
        with pytest.raises(Mistake, match="no key of this folder is wrapped yet"):
            rewrap_folder(folder, old, other, DOMAIN)
    wrap_folder(folder, kek, DOMAIN)
    before = content(folder)
    for old, new, domain in ((other, kek, DOMAIN), (kek, "file:/nowhere", DOMAIN), (kek, "nonsense", DOMAIN), (kek, other, "evil.example")):
        with pytest.raises(Mistake):
            rewrap_folder(folder, old, new, domain)
        assert content(folder) == before


def test_what_leads_to_the_key_is_not_given_on():
    assert withheld_variables("env:REMIT_KEK") == {"REMIT_KEK", "CREDENTIALS_DIRECTORY"}
    assert withheld_variables("file:/kek") == {"CREDENTIALS_DIRECTORY"}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def served(application: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def answering(code: str) -> contextlib.AbstractContextManager[str]:
    """A KMS that refuses everything with this code."""

    def application(_: Any, start: Any) -> list[bytes]:
        start("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps({"__type": code, "message": ""}).encode()]

    return served(application)


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """moto's KMS over a socket, as AWS's own settings name it; gives a client."""
    with served(DomainDispatcherApplication(create_backend_app)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFIRST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "first")
        yield botocore.session.Session().create_client("kms", region_name="eu-central-1")


def test_aws_kms_wraps_with_an_encryption_context_and_no_key_is_logged(kms, folder, kek, caplog):
    caplog.set_level(logging.DEBUG)
    arn, another = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    source = f"aws-kms:{arn}"
    caplog.clear()
    keys = loaded(folder, source)
    assert same(keys, loaded(folder, source))
    body = base64.b64decode((folder / "wrapping.key").read_bytes().partition(b"\n")[2])
    context = {"purpose": "remit keys folder", "trust_domain": DOMAIN}
    opened = kms.decrypt(CiphertextBlob=body, EncryptionContext=context)["Plaintext"]
    assert len(opened) == 32
    for secret in (base64.b64encode(opened).decode(), repr(opened)[2:-1], base64.b64encode(keys.values).decode()):
        assert secret not in "\n".join(record.getMessage() for record in caplog.records)
    with pytest.raises(kms.exceptions.ClientError):
        kms.decrypt(CiphertextBlob=body, EncryptionContext=context | {"trust_domain": "evil.example"})
    assert "does not open it" in refused(folder, source, "evil.example").message
    with pytest.raises(Mistake):
        open_key_encryption(f"aws-kms:{another}", folder, context).unwrap(b"\0" * 100)
    rewrap_folder(folder, source, kek, DOMAIN)
    rewrap_folder(folder, kek, f"aws-kms:{another}", DOMAIN)
    assert same(keys, loaded(folder, f"aws-kms:{another}"))


def test_aws_kms_that_refuses_or_is_away_starts_nothing(kms, folder, monkeypatch):
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    loaded(folder, f"aws-kms:{arn}")
    unknown = arn.rpartition("/")[0] + "/00000000-0000-0000-0000-000000000000"
    assert "AWS KMS refuses to decrypt" in refused(folder, f"aws-kms:{unknown}").message
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
    before = content(folder)
    with pytest.raises(Outage, match="AWS KMS cannot be reached"):
        loaded(folder, f"aws-kms:{arn}")
    for code, expected in (("DisabledException", Mistake), ("KeyUnavailableException", Outage), ("IncorrectKeyException", Mistake)):
        with answering(code) as url, monkeypatch.context() as patch:  # moto keeps no key disabled
            patch.setenv("AWS_ENDPOINT_URL_KMS", url)
            with pytest.raises(expected):
                loaded(folder, f"aws-kms:{arn}")
    assert content(folder) == before

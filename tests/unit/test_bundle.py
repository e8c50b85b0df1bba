"""Signed bundles of policies: whole, by the right key, never older; anything else is refused and the running set stays."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remit.errors import Mistake, Refusal
from remit.logic import bundle as module
from remit.logic.bundle import make_bundle, open_bundle
from remit.logic.checkpoint import Checkpoint, Verifier, sign_checkpoint, sign_note

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NAME = "remit.test/policies"
KEYS = [Verifier.of(NAME, KEY)]
FILES = {"policies/main.cedar": "permit (principal, action, resource);", "policies/main.test.toml": ""}


def made(**changes) -> bytes:
    return make_bundle(**{"files": FILES, "signer": NAME, "sequence": 7, "key": KEY, **changes}).encode()


def altered(data: bytes, change) -> bytes:
    value = json.loads(data)
    change(value)
    return json.dumps(value).encode()


def test_a_bundle_comes_out_as_it_went_in():
    opened = open_bundle(made(), [Verifier.of("elsewhere", OTHER), *KEYS])
    assert (opened.signer, opened.sequence, dict(opened.files)) == (NAME, 7, FILES)
    assert list(opened.policies) == ["policies/main.cedar"]
    assert list(opened.tests) == ["policies/main.test.toml"]
    assert made() == made(files=dict(reversed(FILES.items())))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["files"].update({"policies/main.cedar": "permit (principal, action, resource) ;"}),
        lambda value: value["files"].update({"policies/more.cedar": ""}),
        lambda value: value["files"].pop("policies/main.test.toml"),
        lambda value: value.update(note=value["note"].replace("\n7\n", "\n8\n")),
        lambda value: value.update(note=sign_note("x\n", NAME, OTHER)),
        lambda value: value.update(note=""),
    ],
)
def test_anything_changed_is_refused(change):
    with pytest.raises(Refusal) as caught:
        open_bundle(altered(made(), change), KEYS)
    assert caught.value.code == "bundle_signature"


def test_another_key_is_refused_and_no_key_opens_nothing():
    for keys in ([], [Verifier.of(NAME, OTHER)], [Verifier.of("remit.test/other", KEY)]):
        with pytest.raises(Refusal) as caught:
            open_bundle(made(), keys)
        assert caught.value.code == "bundle_signature"


@pytest.mark.parametrize(
    "text",
    [
        sign_checkpoint(Checkpoint(NAME, 3, bytes(32)), KEY),
        sign_note(f"remit-policies/1\nsomebody\n7\nsha-256:{'A' * 43}\n", NAME, KEY),
        sign_note(f"remit-policies/1\n{NAME}\n07\nsha-256:{'A' * 43}\n", NAME, KEY),
        sign_note(f"remit-policies/1\n{NAME}\n9999999999999999\nsha-256:{'A' * 43}\n", NAME, KEY),
        sign_note(f"remit-policies/2\n{NAME}\n7\nsha-256:{'A' * 43}\n", NAME, KEY),
    ],
)
def test_what_the_key_signed_for_another_purpose_is_no_bundle(text):
    with pytest.raises(Mistake):
        open_bundle(altered(made(), lambda value: value.update(note=text)), KEYS)


def zipped() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policies/main.cedar", b"0" * 10_000_000)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a bundle"),
        (b"{}", "not a bundle"),
        (b"[" * 100_000, "not a bundle"),
        (b"\xff\xfe", "not a bundle"),
        (gzip.compress(b"0" * 10_000_000), "compressed"),
        (zipped(), "compressed"),
        (b" " * (module.BUNDLE_BYTES_MAX + 1), "larger"),
        (b'{"note":"a","note":"b","files":{}}', "twice"),
        (altered(made(), lambda value: value.update(more=1)), "nothing else"),
        (altered(made(), lambda value: value["files"].update({"x": {"y": {"z": 1}}})), "deeper"),
    ],
)
def test_what_is_no_bundle_is_refused_in_words(data, word):
    with pytest.raises(Mistake) as caught:
        open_bundle(data, KEYS)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "files",
    [{}, {"policies/../x.cedar": ""}, {"/etc/passwd": ""}, {"policies/a/b.cedar": ""}, {"policies/.x.cedar": ""}, {"remit.toml": ""}],
)
def test_only_policies_and_their_tests_travel(files):
    with pytest.raises(Mistake):
        make_bundle(files, NAME, 1, KEY)


@pytest.mark.parametrize("sequence", [0, -1, 2**53])
def test_a_sequence_is_a_plain_number(sequence):
    with pytest.raises(Mistake):
        make_bundle(FILES, NAME, sequence, KEY)

"""A signed bundle of policies: one file that is checked whole before a word of it is used. Pure.

Form: a JSON text ``{"note", "files"}``. ``files``: name → text (``policies/*.cedar``, ``policies/*.test.toml``). ``note``: a signed note
(C2SP signed-note, Ed25519) over four lines: the form, the signer's name, the sequence number, and the digest of the manifest
(name → digest of its text). Rules: bounded before it is parsed, never compressed, nothing in it that the manifest does not name. A
later bundle has a higher sequence; that an older one does not come back is ``services/rules.py``'s.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Refusal
from remit.logic.arguments import digest_bytes, digest_json, parse_json
from remit.logic.checkpoint import open_note, sign_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from remit.logic.checkpoint import Verifier

BUNDLE_BYTES_MAX = 16_777_216
SEQUENCE_MAX = 2**53 - 1
_FORM = "remit-policies/1"
_FILES_MAX = 1_000
_DEPTH = 2
_FILE = re.compile(r"policies/[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.(?:cedar|test\.toml)\Z")
_NOTE = re.compile(r"remit-policies/1\n([^\n]{1,255})\n([1-9]\d{0,15})\n(sha-256:[A-Za-z0-9_-]{43})\n\Z")
_COMPRESSED = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle. ``digest``: of its manifest."""

    signer: str
    sequence: int
    digest: str
    files: Mapping[str, str]

    @property
    def policies(self) -> dict[str, str]:
        """Its policy files."""
        return {name: text for name, text in self.files.items() if name.endswith(".cedar")}

    @property
    def tests(self) -> dict[str, str]:
        """Its scenario files."""
        return {name: text for name, text in self.files.items() if name.endswith(".test.toml")}


def make_bundle(files: Mapping[str, str], signer: str, sequence: int, key: Ed25519PrivateKey) -> str:
    """The bundle's text. Raises Mistake for a file or a number that no bundle carries."""
    _check(files)
    if not 1 <= sequence <= SEQUENCE_MAX:
        raise Mistake(f"the sequence is a whole number from 1 to {SEQUENCE_MAX:,}", code="bundle")
    note = sign_note(f"{_FORM}\n{signer}\n{sequence}\n{_manifest(files)}\n", signer, key)
    text = json.dumps({"note": note, "files": dict(sorted(files.items()))}, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > BUNDLE_BYTES_MAX:
        raise Mistake(f"a bundle of more than {BUNDLE_BYTES_MAX:,} bytes", code="bundle")
    return text


def open_bundle(data: bytes, verifiers: Iterable[Verifier]) -> Bundle:
    """The bundle that one of the keys signed. Raises Mistake for what is none, Refusal where no signature holds."""
    if len(data) > BUNDLE_BYTES_MAX:
        raise Mistake(f"larger than the {BUNDLE_BYTES_MAX:,} bytes that a bundle may have", code="bundle")
    if data.startswith(_COMPRESSED):
        raise Mistake("compressed; a bundle is one plain JSON text", code="bundle", hint="`remit policy bundle` writes one")
    try:
        value = parse_json(data, depth_max=_DEPTH, bytes_max=BUNDLE_BYTES_MAX)
    except Mistake as error:
        raise Mistake(f"not a bundle: {error.message}", code="bundle") from None
    if not isinstance(value, dict) or value.keys() != {"note", "files"} or not isinstance(value["note"], str):
        raise Mistake("not a bundle: it has a note and files, nothing else", code="bundle")
    signer, sequence, digest = _opened(value["note"], tuple(verifiers))
    files = value["files"]
    _check(files)
    if _manifest(files) != digest:
        raise Refusal("its files are not those that were signed", code="bundle_signature")
    return Bundle(signer=signer, sequence=sequence, digest=digest, files=files)


def _opened(note: str, verifiers: tuple[Verifier, ...]) -> tuple[str, int, str]:
    for verifier in verifiers:
        try:
            text = open_note(note, verifier)
        except Mistake:
            continue
        found = _NOTE.match(text)
        if found is None or found.group(1) != verifier.name:
            raise Mistake("what was signed is no bundle of policies", code="bundle")
        sequence = int(found.group(2))
        if sequence > SEQUENCE_MAX:
            raise Mistake("its sequence is out of range", code="bundle")
        return verifier.name, sequence, found.group(3)
    names = ", ".join(f"{verifier.name}+{verifier.id.hex()}" for verifier in verifiers) or "none is configured"
    hint = "policies.bundle_keys names who may sign; `remit policy bundle` prints its key"
    raise Refusal(f"no signature by a key that may sign policies holds ({names})", code="bundle_signature", hint=hint)


def _check(files: Any) -> None:
    if not isinstance(files, dict) or not files or len(files) > _FILES_MAX:
        raise Mistake(f"a bundle holds 1 to {_FILES_MAX:,} files", code="bundle")
    for name, text in files.items():
        if not _FILE.match(name) or not isinstance(text, str):
            raise Mistake(f"{name[:80]!r} is no file of a bundle", code="bundle", hint="policies/NAME.cedar, policies/NAME.test.toml")


def _manifest(files: Mapping[str, str]) -> str:
    return digest_json({name: digest_bytes(text.encode()) for name, text in files.items()})

"""Keys of the keys folder, sealed under one key of the folder, which is itself wrapped by a key-encryption key from elsewhere.

    wrapping.key    remit-wrapped-key 1 SOURCE     the folder's key, wrapped (``key_encryption.py``)
    tokens.key …    remit-sealed-key 1 PURPOSE     a key as it was in its plain file, AES-256-GCM under the folder's key

Rules
* A key opens for its purpose only: the first word of its file's name, since the next key that signs becomes the current one by its name.
* The keys themselves stay what they are: nothing that they sealed or signed is concerned.
* To change the key-encryption key replaces one file, at once; who has read the folder's key before needs no other.
* A plain key is read as ever, so a folder is readable at any point of being wrapped. A sealed one is never replaced by a new one.

Left out: a new key for the folder. Whoever got hold of the old one has had the keys, which have to be replaced then.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.drivers.key_encryption import KEY_BYTES, open_key_encryption
from remit.drivers.key_files import alone, read_key_file, replace_key_file, write_key_file
from remit.drivers.sealing import Sealer
from remit.errors import Broken, Mistake, Place, Unauthenticated

if TYPE_CHECKING:
    from pathlib import Path

    from remit.drivers.key_encryption import KeyEncryption

_WRAPPING = "wrapping.key"
_WRAPPED, _SEALED = b"remit-wrapped-key ", b"remit-sealed-key "
_VERSION = b"1"
_HEAD_MAX = 1_100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKey:
    """How a file of the keys folder is kept. ``kept``: ``clear``, ``sealed``, or ``wrapped`` by the key-encryption key ``source``."""

    name: str
    kept: str
    source: str = ""


class FolderKey:
    """Seals and opens the files of one keys folder."""

    def __init__(self, key: bytes) -> None:
        self._sealer = Sealer(key)

    def seal(self, path: Path, data: bytes) -> bytes:
        """What stands in the file ``path`` for this key."""
        purpose = _purpose(path)
        return b"%s%s %s\n%s\n" % (_SEALED, _VERSION, purpose.encode(), self._sealer.seal(data, _bound(purpose)).encode())

    def open(self, path: Path, data: bytes) -> bytes:
        """The key of a file that was sealed. Raises Mistake."""
        head, _, body = data.partition(b"\n")
        try:
            if head.split(b" ")[1] != _VERSION:
                raise _wrong(path, "this key was sealed by a newer remit", "start that one")
            return self._sealer.open(body.strip().decode("ascii"), _bound(_purpose(path)))
        except (Unauthenticated, UnicodeDecodeError):
            hint = "it belongs to another folder or another name, or is damaged: restore it, together with wrapping.key, from a backup"
            raise _wrong(path, "this sealed key does not open", hint) from None


def open_folder_key(folder: Path, source: str, trust_domain: str) -> FolderKey | None:
    """What opens the folder's keys, made where there is none; ``None`` where ``source`` is "". Raises Mistake, Outage, OSError."""
    if not source:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, encryption = folder / _WRAPPING, _encryption(folder, source, trust_domain)
    sealed = any(key.kept == "sealed" for key in kept_keys(folder))  # looked for first: who seals has made wrapping.key before
    if not path.exists():
        if sealed:
            hint = "restore it from a backup; nothing else opens them"
            raise _wrong(path, "it is gone, and keys of this folder are sealed under it", hint)
        write_key_file(path, _wrapped(encryption, secrets.token_bytes(KEY_BYTES), source))
    return FolderKey(_unwrapped(path, encryption))


def opened(path: Path, data: bytes, folder_key: FolderKey | None) -> bytes:
    """The key that a file holds, sealed or plain. Raises Mistake."""
    if not data.startswith(_SEALED):
        return data
    if folder_key is None:
        hint = "set trust.key_encryption as it was when it was sealed (`remit keys show` says it)"
        raise _wrong(path, "this key is sealed, and no key-encryption key is configured", hint)
    return folder_key.open(path, data)


def wrap_folder(folder: Path, source: str, trust_domain: str) -> tuple[str, ...]:
    """Seal the keys that are still in clear; returns their names. To do it again does what is left. Raises Mistake, Outage, OSError."""
    folder_key = open_folder_key(folder, source, trust_domain)
    if folder_key is None:
        raise Mistake("no key-encryption key is configured", code="key_encryption", hint='[trust] key_encryption = "file:/PATH"')
    done = []
    with alone(folder):
        for kept in kept_keys(folder):
            path = folder / kept.name
            if kept.kept == "clear" and not kept.name.startswith("."):
                data = read_key_file(path)
                sealed = folder_key.seal(path, data)
                if folder_key.open(path, sealed) != data:
                    raise Broken(f"{path} would not open again", code="key_encryption")
                replace_key_file(path, sealed)
                done.append(kept.name)
    return tuple(done)


def rewrap_folder(folder: Path, old: str, new: str, trust_domain: str) -> None:
    """Another key-encryption key for the folder: whoever reads it from now on needs the new one. Raises Mistake, Outage, OSError."""
    path, encryption = folder / _WRAPPING, _encryption(folder, new, trust_domain)
    if not old or not path.exists():
        raise _wrong(path, "no key of this folder is wrapped yet", "remit keys wrap")
    with alone(folder):
        key = _unwrapped(path, _encryption(folder, old, trust_domain))
        data = _wrapped(encryption, key, new)
        if encryption.unwrap(_body(path, data)) != key:
            raise Broken(f"{path} would not open again", code="key_encryption")
        replace_key_file(path, data)


def kept_keys(folder: Path) -> tuple[KeptKey, ...]:
    """How each file is kept, by what it says of itself; with what a crash may have left (``.NAME.key.…``). Raises OSError."""
    found = []
    for path in sorted([*folder.glob("*.key"), *folder.glob(".*.key.*")]):
        if not path.is_file():
            continue  # refused by whoever reads it as a key
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_MAX).partition(b"\n")[0]
        except FileNotFoundError:
            continue  # ended meanwhile
        if head.startswith(_WRAPPED):
            found.append(KeptKey(name=path.name, kept="wrapped", source=_source(head)))
        else:
            found.append(KeptKey(name=path.name, kept="sealed" if head.startswith(_SEALED) else "clear"))
    return tuple(found)


def _encryption(folder: Path, source: str, trust_domain: str) -> KeyEncryption:
    return open_key_encryption(source, folder, {"purpose": "remit keys folder", "trust_domain": trust_domain})


def _wrapped(encryption: KeyEncryption, key: bytes, source: str) -> bytes:
    return b"%s%s %s\n%s\n" % (_WRAPPED, _VERSION, source.encode(), base64.b64encode(encryption.wrap(key)))


def _unwrapped(path: Path, encryption: KeyEncryption) -> bytes:
    data = read_key_file(path)
    body = _body(path, data)
    try:
        key = encryption.unwrap(body)
    except Mistake as error:
        says = _source(data.partition(b"\n")[0])
        hint = f"it says of itself that it was wrapped by {says}; {error.hint}"
        raise Mistake(error.message, code=error.code, hint=hint, place=Place(file=str(path))) from None
    if len(key) != KEY_BYTES:
        raise _wrong(path, f"what it wraps is not a key of {KEY_BYTES} bytes", "restore it from a backup")
    return key


def _body(path: Path, data: bytes) -> bytes:
    head, _, body = data.partition(b"\n")
    words = head.split(b" ")
    try:
        if not head.startswith(_WRAPPED) or words[1] != _VERSION:
            raise ValueError
        return base64.b64decode(body.strip(), validate=True)
    except ValueError:
        raise _wrong(path, "not a wrapped key, or one of a newer remit", "restore it from a backup; nothing was changed") from None


def _source(head: bytes) -> str:
    """Where a wrapped key says that its key-encryption key is: a hint for people, believed by nobody."""
    return ascii(head.removeprefix(_WRAPPED).partition(b" ")[2].decode("utf-8", "replace"))[1:-1]


def _purpose(path: Path) -> str:
    return path.name.partition(".")[0]


def _bound(purpose: str) -> str:
    return f"remit sealed key {purpose}"


def _wrong(path: Path, what: str, hint: str) -> Mistake:
    return Mistake(what, code="key_file", hint=hint, place=Place(file=str(path)))

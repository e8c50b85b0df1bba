"""The key-encryption key: kept outside of the keys folder, it wraps the one key under which the folder's keys are sealed.

    file:/PATH         32 bytes in base64, in a file that only its owner can read
    env:NAME           the same, in a variable of the environment
    credential:NAME    the same, in a file of $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=)
    aws-kms:ARN        a key of AWS KMS that never leaves it (``key_encryption_aws.py``)

Rules: what was wrapped opens for the same purpose and the same trust domain only. Nothing of a key is in an error. What is missing, or does
not fit, is a mistake: nothing is made in its place. AES-256-GCM (``sealing.py``).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from remit.drivers.key_files import read_key_file
from remit.drivers.sealing import Sealer
from remit.errors import Mistake, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES = 32
_TEXT_MAX = 1_024
_ENVIRONMENT, _CREDENTIALS = "env", "CREDENTIALS_DIRECTORY"
_SOURCES = {
    "file": re.compile(r"/[^\x00-\x1f\ud800-\udfff]{1,1000}"),
    _ENVIRONMENT: re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}", re.ASCII),
    "credential": re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}", re.ASCII),
    "aws-kms": re.compile(r"arn:(?:aws|aws-cn|aws-us-gov):kms:[a-z0-9-]{1,30}:\d{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}", re.ASCII),
}
SOURCE_HINT = "file:/PATH, env:NAME, credential:NAME or aws-kms:ARN (of a key or an alias)"


class KeyEncryption(Protocol):
    """Wraps a key, for one purpose and one trust domain."""

    def wrap(self, key: bytes) -> bytes:
        """The key, of no use to whoever has not the key-encryption key. Raises Mistake, Outage."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key again. Raises Mistake (another key-encryption key, purpose or trust domain; damaged), Outage."""


def check_source(source: str) -> None:
    """Whether this says where a key-encryption key is. Raises Mistake."""
    kind, _, rest = source.partition(":")
    if kind not in _SOURCES or not _SOURCES[kind].fullmatch(rest):
        raise Mistake("this names no key-encryption key", code="key_encryption", hint=SOURCE_HINT)


def withheld_variables(source: str) -> frozenset[str]:
    """Variables that lead to the key-encryption key: an agent's process does not get them."""
    kind, _, name = source.partition(":")
    return frozenset({_CREDENTIALS, name} if kind == _ENVIRONMENT else {_CREDENTIALS})


def open_key_encryption(source: str, folder: Path, context: Mapping[str, str]) -> KeyEncryption:
    """What wraps the keys of ``folder``; ``context``: what they are for, by name. Raises Mistake."""
    check_source(source)
    kind, _, name = source.partition(":")
    if kind == "aws-kms":
        from remit.drivers.key_encryption_aws import AwsKms

        return AwsKms(name, context)
    return _Local(_key(kind, name, folder), "\n".join(f"{key}={value}" for key, value in context.items()))


class _Local:
    """See KeyEncryption. Its key is in this process."""

    def __init__(self, key: bytes, context: str) -> None:
        self._sealer, self._context = Sealer(key), context

    def wrap(self, key: bytes) -> bytes:
        return self._sealer.seal(key, self._context).encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            return self._sealer.open(wrapped.decode("ascii"), self._context)
        except (Unauthenticated, UnicodeDecodeError):
            raise does_not_open() from None


def does_not_open() -> Mistake:
    """What wraps was not wrapped by this."""
    return Mistake(
        "the configured key-encryption key does not open it",
        code="key_encryption",
        hint="trust.key_encryption names another key than it was wrapped with, trust.domain was changed, or the file is damaged",
    )


def _key(kind: str, name: str, folder: Path) -> bytes:
    try:
        if kind == _ENVIRONMENT:
            data = os.fsencode(os.environ[name])
        elif kind == "credential":
            # Modes are systemd's business: an access list that lets its service in shows as the group's bits.
            with (Path(os.environ[_CREDENTIALS]) / name).open("rb") as file:
                data = file.read(_TEXT_MAX)
        else:
            data = read_key_file(Path(name))
            if Path(name).resolve().is_relative_to(folder.resolve()):
                raise Mistake("the key-encryption key lies among the keys that it is for", code="key_encryption", hint=SOURCE_HINT)
    except KeyError as error:
        raise Mistake(f"the environment has no {error.args[0]}", code="key_encryption", hint=f"it is needed by {kind}:{name}") from None
    except OSError as error:
        raise Mistake(f"{kind}:{name} cannot be read: {error.strerror}", code="key_encryption") from None
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        hint = f"openssl rand -base64 {KEY_BYTES}"
        raise Mistake(f"{kind}:{name} is not {KEY_BYTES} bytes in base64", code="key_encryption", hint=hint)
    return key

"""Files of keys: only their owner can read them, and each appears, or is replaced, whole or not at all.

Rules: a file that others can read is refused, not repaired. What was written is on the disk before anything that needs it is. Whoever
replaces or deletes a key holds the folder's lock (``alone``). Left out: what stands in them (``keys.py``, ``key_wrapping.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING

from remit.errors import Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = "tokens.lock"
_BYTES_MAX = 65_536


def read_key_file(path: Path) -> bytes:
    """What is in it. Raises Mistake for a file that cannot be trusted, OSError."""
    state = path.stat()
    if stat.S_IMODE(state.st_mode) & 0o077 or state.st_uid not in {os.geteuid(), 0}:
        raise Mistake(
            "other accounts can read this key",
            code="key_file",
            hint=f"chmod 600 {path}; if somebody may have read it, what it opens or signs has to be counted as known",
            place=Place(file=str(path)),
        )
    if not stat.S_ISREG(state.st_mode) or state.st_size > _BYTES_MAX:
        raise Mistake("not a file of a key", code="key_file", place=Place(file=str(path)))
    return path.read_bytes()


def write_key_file(path: Path, data: bytes) -> None:
    """A new file; where another process was first, its key is the key. Raises OSError."""
    fresh = _written(path, data)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return
    finally:
        fresh.unlink()
    _sync(path.parent)


def replace_key_file(path: Path, data: bytes) -> None:
    """The same file with other content, as old as it was (a key's age is its file's). Raises OSError."""
    state = path.stat()
    fresh = _written(path, data)
    try:
        os.utime(fresh, ns=(state.st_atime_ns, state.st_mtime_ns))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync(path.parent)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While it lasts, no other process replaces a key of this folder."""
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _written(path: Path, data: bytes) -> Path:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return fresh


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

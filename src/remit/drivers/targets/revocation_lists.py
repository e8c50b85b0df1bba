"""A list of what was revoked, in a file: how systems take back credentials that they know nothing of until one is shown (SSH, X.509).

Rules
* The file is its own memory: which marks were revoked, and when. It is read, added to and written whole, under another name, then
  renamed. An entry goes when no credential of its mark can be valid any more. What is no list of ours is not written over.
* A revocation counts when the operator's program (``apply``) has ended well: it is given the list on its standard input and the marks
  as its arguments, takes the list to the servers and ends what is open. It runs again for a mark that is on the list already.
* One writer at a time, program included: a lock beside the file holds between all nodes that share its folder. Revocations that
  come meanwhile are written together. A write goes on when nobody waits for it any more.
* The folder is never made here: where it is missing (not mounted, say) nothing is revoked, and so nothing is to be minted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from remit.drivers.targets.base import Finding
from remit.errors import Mistake, Outage, RemitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LEASE_SECONDS_MAX = 86_400  # no task is longer
_SKEW_SECONDS = 60
_KEPT_SECONDS = 3 * _LEASE_SECONDS_MAX  # longer than needed, so that a clock that runs ahead by less than two days takes none off early
_UNTIL_SECONDS = 2 * _LEASE_SECONDS_MAX + 7_200
_LOCK_SECONDS, _APPLY_SECONDS = 5.0, 15.0
_LOOK_SECONDS = 0.02
_LIST_BYTES_MAX = 64 * 1024 * 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a list says. ``entries``: when each mark was revoked, seconds since 1970. ``until``: when servers stop taking it; 0: never."""

    entries: Mapping[str, int]
    number: int
    until: int = 0


class Form(Protocol):
    """How a list is written."""

    def read(self, data: bytes) -> Listed:
        """Raises ValueError where it is not one of ours."""

    def write(self, listed: Listed) -> bytes:
        """The same, as servers read it."""


class RevocationList:
    """One target's list."""

    def __init__(self, name: str, file: str, apply: str) -> None:
        self._name, self._file, self._apply = name, Path(file), apply
        self._waiting: dict[str, Future[bool]] = {}
        self._guard = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"target-{name}")
        self._unapplied: set[str] = set()  # written, but the program has failed; "": a list with nothing new
        self._seen: tuple[object, Form, int] | None = None  # a file as it was last looked at, as what, and ``Listed.until``

    async def add(self, mark: str, form: Form) -> bool:
        """Revoke a mark; whether it was not revoked before. Raises Outage."""
        with self._guard:
            waiting = self._waiting.setdefault(mark, Future())
        self._thread.submit(self._take, form)
        return await asyncio.shield(asyncio.wrap_future(waiting))

    async def ready(self, form: Form, expires_at: datetime | None = None) -> None:
        """See that the list is there and will be taken by servers for as long as any lease. Before a mint; then nothing comes of it where
        this raises Outage, or Mistake (it would live longer than what was revoked stays on the list).
        """
        if expires_at is not None and (expires_at - datetime.now(UTC)).total_seconds() > _LEASE_SECONDS_MAX + _SKEW_SECONDS:
            raise Mistake(f"a credential of target {self._name} lives for a day at most", code="target_refused", hint="a nearer deadline")
        if not await asyncio.to_thread(self._in_order, form):
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._refreshed, form))

    async def findings(self) -> tuple[Finding, ...]:
        """What is wrong, as far as it can be told without changing anything."""
        folder, found = self._file.parent, list[Finding]()
        if not os.access(folder, os.W_OK | os.X_OK):
            found.append(Finding(good=False, text=f"remit cannot write into {folder}, where its list of revoked credentials lies"))
        try:
            state = os.stat(self._apply)
        except OSError:
            return (
                *found,
                Finding(good=False, text=f"apply = {self._apply} is not there: without it nothing is revoked, so nothing minted"),
            )
        if not stat.S_ISREG(state.st_mode) or not os.access(self._apply, os.X_OK):
            found.append(Finding(good=False, text=f"apply = {self._apply} is no program that remit may run"))
        if state.st_mode & 0o022:
            found.append(Finding(good=False, text=f"apply = {self._apply} can be changed by others: chmod go-w"))
        return tuple(found)

    def close(self) -> None:
        """Let go. Idempotent."""
        self._thread.shutdown(wait=False)  # what was asked for is still done

    def _take(self, form: Form) -> None:
        """All that waits, at once."""
        with self._guard:
            batch, self._waiting = self._waiting, {}
        if not batch:
            return
        try:
            new = self._revoked(sorted(batch), form)
        except Exception as error:
            told = error if isinstance(error, RemitError) else self._unwritten()
            for waiting in batch.values():
                waiting.set_exception(told)
            return
        for mark, waiting in batch.items():
            waiting.set_result(mark in new)

    def _revoked(self, marks: list[str], form: Form) -> set[str]:
        with self._locked():
            before = self._read(form)
            new = {mark for mark in marks if mark not in before.entries}
            self._write(before, new, form)
            self._unapplied |= new
            self._run(marks)
        new |= self._unapplied & set(marks)
        self._unapplied -= {*marks, ""}
        return new

    def _in_order(self, form: Form) -> bool:
        """Whether there is nothing to do. It waits for no lock, so that mints do not wait for revocations: a list is never half there."""
        if not os.access(self._file.parent, os.W_OK | os.X_OK):
            raise self._unwritten()
        try:
            state = os.stat(self._file)
        except OSError:
            return False
        file = state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size
        if self._seen is None or self._seen[0] != file or self._seen[1] is not form:
            listed = self._read(form)
            if listed.number == 0:
                return False
            self._seen = file, form, listed.until
        return "" not in self._unapplied and not _runs_out(self._seen[2])

    def _refreshed(self, form: Form) -> None:
        try:
            with self._locked():
                before = self._read(form)
                if before.number == 0 or _runs_out(before.until):
                    self._write(before, set(), form)
                    self._unapplied.add("")
                if "" in self._unapplied:
                    self._run([])
                    self._unapplied.discard("")
        except OSError:
            raise self._unwritten() from None

    def _read(self, form: Form) -> Listed:
        """What is there; number 0 where nothing is. An empty file is what an operator makes for a server that wants one."""
        try:
            with self._file.open("rb") as file:
                data = file.read(_LIST_BYTES_MAX + 1)
        except FileNotFoundError:
            data = b""
        if not data:
            return Listed(entries={}, number=0)
        try:
            if len(data) > _LIST_BYTES_MAX:
                raise ValueError
            return form.read(data)
        except ValueError:
            hint = "put back the list that was there; with a new authority, name a new list_file"
            text = f"{self._file} is no list of revoked credentials of target {self._name}"
            raise Outage(text, code="target_refused", hint=hint, unsent=True) from None

    def _write(self, before: Listed, new: set[str], form: Form) -> None:
        now = int(time.time())
        kept = {mark: at for mark, at in before.entries.items() if at + _KEPT_SECONDS > now}
        entries = kept | dict.fromkeys(new, now)
        data = form.write(Listed(entries=entries, number=before.number + 1, until=now + _UNTIL_SECONDS))
        descriptor, other = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)  # servers read it; it holds no secret
                os.fsync(descriptor)
            os.rename(other, self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(other)
            raise
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _run(self, marks: list[str]) -> None:
        """Raises Outage where the program does not end well. Its words are not kept: they may be anybody's."""
        try:
            with self._file.open("rb") as file:
                done = subprocess.run(
                    [self._apply, *marks],
                    stdin=file,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": _PATH},
                    cwd="/",
                    timeout=_APPLY_SECONDS,
                    check=False,
                )
        except OSError:
            raise Outage(f"the program of target {self._name} cannot be run", code="target_unavailable", hint="`remit doctor`") from None
        except subprocess.TimeoutExpired:
            raise Outage(
                f"the program of target {self._name} takes longer than {_APPLY_SECONDS:.0f} s", code="target_unavailable"
            ) from None
        if done.returncode:
            text = f"the program of target {self._name} ended with {done.returncode}"
            raise Outage(text, code="target_unavailable", hint=f"run {self._apply} by hand, with the list on its standard input")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises Outage, OSError."""
        ends = time.monotonic() + _LOCK_SECONDS
        descriptor = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends:
                        raise Outage(f"the list of target {self._name} is being written by others", code="target_unavailable") from None
                    time.sleep(_LOOK_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _unwritten(self) -> Outage:
        return Outage(f"the list of revoked credentials of target {self._name} cannot be written", code="target_unavailable", unsent=True)


def _runs_out(until: int) -> bool:
    """Whether a list has to be renewed, so that it holds longer than any lease that begins now."""
    return 0 < until < time.time() + _UNTIL_SECONDS / 2


def check_list_settings(values: Mapping[str, object]) -> None:
    """``list_file`` and ``apply``. Raises Mistake."""
    for key in ("list_file", "apply"):
        if not str(values[key]).startswith("/"):
            raise Mistake(f"{key} is no absolute path", code="target", hint=f'{key} = "/…"')

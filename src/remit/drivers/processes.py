"""What the Linux kernel says of the process at the other end of a Unix socket, so that a recycled process id cannot lie.

Rules
* The kernel names the peer as it was when it connected (SO_PEERCRED, unix(7)). A pidfd of exactly that process (SO_PEERPIDFD, Linux
  6.5; before that pidfd_open(2), which could name a successor of a peer that died between its connect and our accept) is held as long
  as the connection. What was read of ``/proc/PID`` counts only if that process still lives afterwards: then its id was never reused.
* The executable is what ``/proc/PID/exe`` leads to. Its path counts only if the same file stands at that path here: a process in a
  file system of its own can call its executable what it likes. The digest is of the file itself, remembered by device, inode, size
  and both times.
* The run is found by walking to the parents. A parent counts only if, after it was read, its child still names it.
* What cannot be read is empty. ``/proc/PID/exe`` of another account needs CAP_SYS_PTRACE (ptrace(2)).

Left out: what matches (``logic/attestation.py``). A process can connect, hand the socket on and become another program: path and digest
say which program a process is now, and are worth as much as its account.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import select
import socket
import stat
import struct
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from remit.errors import Outage, Unauthenticated
from remit.model.attestation import Process

if TYPE_CHECKING:
    from remit.model.attestation import Run

_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("3i")
_ANCESTORS_MAX = 64
_DIGESTS_MAX = 256
_EXECUTABLE_BYTES_MAX = 1 << 30
_CHUNK_BYTES = 1 << 20
_START_SECONDS = 10.0
_NOT_KNOWN = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_GONE = "the process is gone, or cannot be told from another"
_FileId = tuple[int, int, int, int, int]


class Peer:
    """The process that connected. To be closed."""

    def __init__(self, connection: socket.socket) -> None:
        """Raises Unauthenticated for a peer that is gone or that this machine's kernel does not show."""
        self.pid, self.uid, self.gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if self.pid <= 0:  # of another pid namespace
            raise Unauthenticated(_GONE)
        try:
            self._pidfd = _pidfd(connection, self.pid, self.uid)
        except OSError:
            raise Unauthenticated(_GONE) from None
        if not self.alive():
            self.close()
            raise Unauthenticated(_GONE)

    def alive(self) -> bool:
        """Whether the process still runs."""
        if self._pidfd < 0:
            return False
        watch = select.poll()
        watch.register(self._pidfd, select.POLLIN)
        return not watch.poll(0)

    def close(self) -> None:
        """Let go. Idempotent."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Processes:
    """Looks at processes. Knows which ones ``remit run`` has started."""

    def __init__(self) -> None:
        self._digests: OrderedDict[_FileId, str] = OrderedDict()
        self._digesting = threading.Lock()  # one file at a time: they are read in threads
        self._runs: dict[tuple[int, int], Run] = {}
        self._started = asyncio.Event()
        self._started.set()

    def begin_start(self) -> None:
        """A process of a run is about to be started: nobody is looked at before ``started``."""
        self._started.clear()

    def started(self, pid: int, run: Run) -> None:
        """A child of ours, not yet waited for, is the process of a run. One that has ended by now is not."""
        with contextlib.suppress(OSError, ValueError):
            parent, start = _parent(pid)
            if parent == os.getpid():
                self._runs[pid, start] = run
        self._started.set()

    async def look(self, peer: Peer, *, digest: bool) -> Process:
        """The process as it is now; ``digest``: of its executable too. Raises Unauthenticated where it is gone, Outage."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._started.wait()
        except TimeoutError:
            raise Outage("the run has not started yet", code="attestation") from None
        path = _path(peer.pid)
        sha256 = await asyncio.to_thread(self._digest, peer.pid) if digest else ""
        seen = Process(uid=peer.uid, gid=peer.gid, pid=peer.pid, path=path, sha256=sha256, run=self._run(peer.pid))
        if (digest and _path(peer.pid) != path) or not peer.alive():
            raise Unauthenticated(_GONE)
        return seen

    def _run(self, pid: int) -> Run | None:
        """The run whose process this is, or an ancestor of it."""
        if not self._runs:
            return None
        try:
            parent, start = _parent(pid)
            for _ in range(_ANCESTORS_MAX):
                if run := self._runs.get((pid, start)):
                    return run
                if parent <= 1:
                    return None
                above = _parent(parent)
                if _parent(pid) != (parent, start) or above[1] > start:
                    return None  # the parent has ended meanwhile, and what was read may be its successor
                pid, (parent, start) = parent, above
        except (OSError, ValueError):
            pass
        return None

    def _digest(self, pid: int) -> str:
        try:
            descriptor = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb", buffering=0) as file, self._digesting:
            before = _identity(os.fstat(descriptor))
            if known := self._digests.get(before):
                self._digests.move_to_end(before)
                return known
            size = before[2]
            if size > _EXECUTABLE_BYTES_MAX:
                return ""
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            if _identity(os.fstat(descriptor)) != before:
                return ""
            self._digests[before] = digest.hexdigest()
            if len(self._digests) > _DIGESTS_MAX:
                self._digests.popitem(last=False)
            return digest.hexdigest()


def _pidfd(connection: socket.socket, pid: int, uid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:  # the kernel is older than the option; any other error: the peer is gone
            raise
    descriptor = os.pidfd_open(pid)
    if os.stat(f"/proc/{pid}").st_uid != uid:
        os.close(descriptor)
        raise ProcessLookupError(pid)
    return descriptor


def _path(pid: int) -> str:
    """Where the executable stands; "" where that cannot be told, or another file stands there."""
    try:
        path = os.readlink(f"/proc/{pid}/exe")
        real, named = os.stat(f"/proc/{pid}/exe"), os.lstat(path)
    except (OSError, ValueError):
        return ""
    same = (real.st_dev, real.st_ino) == (named.st_dev, named.st_ino) and stat.S_ISREG(named.st_mode)
    return path if same and path.isprintable() else ""


def _parent(pid: int) -> tuple[int, int]:
    """Id of a process's parent, and its own start in ticks since boot (proc_pid_stat(5), fields 4 and 22)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read(4_096).rpartition(b")")[2].split()
    return int(fields[1]), int(fields[19])


def _identity(state: os.stat_result) -> _FileId:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns

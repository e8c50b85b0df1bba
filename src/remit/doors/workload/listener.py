"""The Unix socket of the Workload API: HTTP/2 by grpclib, bounded, and only where nobody else can put another socket in its place.

Rules
* The folder and all above it belong to us or to root, and nobody else may write there (but for sticky folders such as ``/tmp`` above it):
  whoever could replace the socket could give agents identities of their own making.
* A socket that answers is somebody's and stays; one that nobody listens at is replaced. It appears with its mode, whole.
* Bounds: connections in all and of one account, requests of a connection, bytes of a message, bytes not taken by the peer, and the time
  that a connection may stay without a request. An account that sends more than it may for long is read more slowly.

Left out: TLS. The peer is who the kernel says (SPIFFE Workload Endpoint §2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import h2.config
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Handler

from remit.doors.workload.api import Conversation, WorkloadApi
from remit.drivers.processes import Peer
from remit.errors import Mistake, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpclib.protocol import Stream

_PATH_BYTES_MAX = 107  # unix(7)
_BACKLOG = 128
_MESSAGE_BYTES_MAX = 65_536
_UNREAD_BYTES_MAX = 131_072
_CLOSE_SECONDS = 3.0
_BYTES_PER_SECOND, _BURST_BYTES = 131_072, 524_288  # of one account: frames cost us more than they cost whoever sends them
_ACCOUNTS_MAX = 1_000
_WINDOW_BYTES = 65_535
_H2 = h2.config.H2Configuration(client_side=False, header_encoding="ascii")
_GRPC = Configuration(http2_connection_window_size=_WINDOW_BYTES, http2_stream_window_size=_WINDOW_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """Bounds of one socket."""

    connections_max: int
    connections_of_account_max: int
    idle_seconds: float


class _Handler(Handler):
    """grpclib's, with a bound on what it reads into memory."""

    def accept(self, stream: Stream, headers: list[tuple[str, str]], release_stream: Callable[[], Any]) -> None:
        read = stream.recv_data

        async def bounded(size: int) -> bytes:
            if size > _MESSAGE_BYTES_MAX:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message may have {_MESSAGE_BYTES_MAX:,} bytes")
            return await read(size)

        stream.recv_data = bounded  # type: ignore[method-assign]  # grpclib reads whatever length a message claims
        super().accept(stream, headers, release_stream)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return all(task.done() for task in self._tasks.values())


class _Connection(H2Protocol):
    """One peer. Closed at once where it is nobody, one too many, or does not keep to the protocol."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._peer: Peer | None = None
        self._handler = _Handler({}, ProtoCodec(), None, _DispatchServerEvents())
        super().__init__(self._handler, _GRPC.__for_server__(), _H2)
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        try:
            peer = _peer(self._transport)
        except (Unauthenticated, OSError):
            self._transport.abort()
            return
        if not self._listener.admit(self, peer.uid):
            peer.close()
            self._transport.abort()
            return
        self._peer = peer
        self._handler.mapping = Conversation(self._listener.api, peer).methods()
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._peer is None or self._transport is None:
            return
        try:
            super().data_received(data)
        except Exception:  # frames that h2 or grpclib have no answer to
            self._transport.abort()
            return
        unfinished = len(self.connection._connection.incoming_buffer._data)  # h2 waits for 16 MiB before it calls a frame too large
        if unfinished > _MESSAGE_BYTES_MAX or self._transport.get_write_buffer_size() > _UNREAD_BYTES_MAX:  # asks on and never reads
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        if (seconds := self._listener.spend(self._peer.uid, len(data), loop.time())) > 0 and self._resume is None:
            self._transport.pause_reading()
            self._resume = loop.call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        self._resume = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self._peer is not None:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self._peer is not None:
            super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._idle, self._resume):
            if timer is not None:
                timer.cancel()
        if self._peer is None:
            return
        super().connection_lost(exc)
        self._listener.dismiss(self, self._peer.uid)
        self._peer.close()

    async def end(self) -> None:
        """Close, and wait for what is under way."""
        if self._transport is not None:
            self._transport.abort()
        self._handler.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._handler.wait_closed()

    def _watch(self) -> None:
        """Every now and then, see whether the connection is used."""
        loop = asyncio.get_running_loop()

        def look(was_idle: bool) -> None:
            idle = self._handler.idle
            if idle and was_idle and self._transport is not None:
                self._transport.abort()
                return
            self._idle = loop.call_later(self._listener.limits.idle_seconds / 2, look, idle)

        self._idle = loop.call_later(self._listener.limits.idle_seconds / 2, look, False)  # noqa: FBT003  # call_later passes by position


class _Listener:
    """The connections there are."""

    def __init__(self, api: WorkloadApi, limits: SocketLimits) -> None:
        self.api, self.limits = api, limits
        self._open: set[_Connection] = set()
        self._accounts: Counter[int] = Counter()
        self._left: dict[int, tuple[float, float]] = {}  # of an account: bytes it may send, and since when

    def admit(self, connection: _Connection, uid: int) -> bool:
        """Whether one more of this account may stay."""
        if len(self._open) >= self.limits.connections_max or self._accounts[uid] >= self.limits.connections_of_account_max:
            return False
        self._open.add(connection)
        self._accounts[uid] += 1
        return True

    def dismiss(self, connection: _Connection, uid: int) -> None:
        """It is gone."""
        self._open.discard(connection)
        self._accounts[uid] -= 1
        if not self._accounts[uid]:
            del self._accounts[uid]

    def spend(self, uid: int, size: int, now: float) -> float:
        """Count what an account sent; for how many seconds it is to be read no further."""
        left, since = self._left.get(uid, (float(_BURST_BYTES), now))
        left = min(left + (now - since) * _BYTES_PER_SECOND, _BURST_BYTES) - size
        if uid not in self._left and len(self._left) >= _ACCOUNTS_MAX:
            self._left = {one: it for one, it in self._left.items() if it[0] + (now - it[1]) * _BYTES_PER_SECOND < _BURST_BYTES}
        self._left[uid] = left, now
        return max(0.0, -left / _BYTES_PER_SECOND)

    async def end(self) -> None:
        """Close all."""
        await asyncio.gather(*(connection.end() for connection in list(self._open)))


@contextlib.asynccontextmanager
async def workload_socket(api: WorkloadApi, path: Path, mode: int, limits: SocketLimits) -> AsyncIterator[None]:
    """Serve the Workload API while the block runs. Raises Mistake for a place that is not safe or taken."""
    logging.getLogger("grpclib").setLevel(logging.CRITICAL)  # what peers do wrong is told to them, not to our log
    listener = _Listener(api, limits)
    sock, made = _bound(path, mode)
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(listener), sock=sock, backlog=_BACKLOG)
    try:
        yield
    finally:
        server.close()
        await listener.end()
        await server.wait_closed()
        with contextlib.suppress(OSError):
            if os.lstat(path).st_ino == made:
                os.unlink(path)


def _bound(path: Path, mode: int) -> tuple[socket.socket, int]:
    """A listening socket at a path, and its inode."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise _mistake(path, f"the path has more than {_PATH_BYTES_MAX} bytes", "a shorter one, such as /run/remit/workload.sock")
    check_folder(path)
    _check_free(path)
    fresh = path.with_name(f".{os.getpid()}.sock")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.fchmod(sock.fileno(), mode)  # before bind: the file is made with it
        sock.bind(str(fresh))
        os.chmod(fresh, mode)  # where a umask took something away
        sock.listen(_BACKLOG)
        inode = os.lstat(fresh).st_ino
        os.rename(fresh, path)
    except OSError as error:
        sock.close()
        raise _mistake(path, f"cannot listen here: {error.strerror}", "see the folder's owner and mode") from None
    return sock, inode


def check_folder(path: Path) -> None:
    """Whether nobody else can put a socket at the path. Makes the folder where there is none. Raises Mistake."""
    folder = path.parent
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder = folder.resolve(strict=True)
        for place in (folder, *folder.parents):
            state = place.stat()
            others = state.st_mode & 0o022
            if others and (place == folder or not state.st_mode & stat.S_ISVTX):
                raise _mistake(path, f"other accounts may write in {place}", f"chmod go-w {place}, or a folder of its own")
            if state.st_uid not in {os.geteuid(), 0}:
                raise _mistake(path, f"{place} belongs to another account", "a folder of remit's own")
    except OSError as error:
        raise _mistake(path, f"its folder cannot be used: {error.strerror}", "see what stands there") from None


def _check_free(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _mistake(path, "something else than a socket stands there", "remove it, or another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CLOSE_SECONDS)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            try:
                probe.connect(str(path))
            except (PermissionError, TimeoutError):
                pass
            raise _mistake(path, "somebody listens there already", "another remit may run here; stop it, or another path")


def _peer(transport: asyncio.Transport) -> Peer:
    """Who connected: uvloop and asyncio show their socket in forms of their own."""
    shown = transport.get_extra_info("socket")
    with socket.socket(fileno=os.dup(shown.fileno())) as own:
        return Peer(own)


def _mistake(path: Path, what: str, hint: str) -> Mistake:
    return Mistake(f"spiffe.socket {path}: {what}", code="spiffe_socket", hint=hint)

"""What the engines share: appends that are gathered into groups, one writer, reader threads.

Rules: one durable transaction carries all appends that wait; nobody waits for a batch to fill. A group is what was appended in
one turn of the event loop. An engine that can commit at once does so in
the loop (two changes of threads cost more than the commit); whenever it cannot, and always for an engine that is far away, the
writer's thread commits, and what comes meanwhile lines up behind it. An engine says how a batch is written and how a connection
is made; everything about order, stale appends and waiting is here, once. One store belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from remit.errors import Mistake, Outage, RemitError
from remit.logic.merkle import completed, leaf_hash, root_of
from remit.store.changes import Changes
from remit.store.database import ENTRY_BYTES_MAX, Append, Entry, Given, Head, MarkRow, Row, StaleTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remit.store.database import CheckpointSigner

T = TypeVar("T")
C = TypeVar("C")
_READERS = 2
_BATCH_MAX = 512
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class Waiting:
    """An append that waits for its transaction."""

    append: Append
    leaf: bytes
    done: asyncio.Future[Entry]


class ThreadedStore(ABC, Generic[C]):
    """A store whose engine is driven from threads. ``C`` is the engine's connection."""

    broken: tuple[type[Exception], ...] = ()  # what the engine raises when it is away, locked or full

    def __init__(self, signer: CheckpointSigner, queue_limit: int) -> None:
        self._signer, self._queue_limit = signer, queue_limit
        self.on_append: Callable[[float], None] | None = None
        self._gathered: list[Waiting] = []
        self._flushing: asyncio.Handle | None = None
        self._queue: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        self._handed = 0  # appends that the writer's thread holds
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="remit-read")
        self._connections: list[C] = []
        self._closed = False
        self._changes = Changes(self.change_mark, self._rest, self._rested)
        self._loop: asyncio.AbstractEventLoop
        self._writer = threading.Thread(target=self._write_batches, name="remit-write", daemon=True)

    @abstractmethod
    def _connect(self) -> C:
        """A new connection for the calling thread. Raises Outage."""

    @abstractmethod
    def _disconnect(self, connection: C) -> None:
        """Close a connection; never raises."""

    @abstractmethod
    def _write(self, batch: list[Waiting]) -> list[Entry | RemitError]:
        """Write a batch in one durable transaction; one result each. Never raises."""

    @abstractmethod
    def _head(self, connection: C) -> Head:
        """The head as it is durable."""

    def _write_now(self, batch: list[Waiting]) -> list[Entry | RemitError] | None:
        """Write a batch from the event loop, without waiting for anybody; ``None`` where that cannot be done now. Never raises.

        Called only while the writer's thread holds nothing.
        """
        del batch
        return None

    async def append(self, append: Append) -> Entry:
        """See Store."""
        for one in (append, *append.also):
            if not 0 < len(one.body) <= ENTRY_BYTES_MAX:
                raise Mistake(f"an entry of {len(one.body):,} bytes", code="record_too_large")
        if self._closed:
            raise Outage("the store is closed", code="store_closed")
        if self.waiting() >= self._queue_limit:
            raise Outage("too many records wait to be written", code="overload")
        loop = asyncio.get_running_loop()
        waiting = Waiting(append, leaf_hash(append.body), loop.create_future())
        self._gathered.append(waiting)
        if self._flushing is None:
            self._flushing = loop.call_soon(self._flush, loop)
        began = loop.time()
        entry = await waiting.done
        if self.on_append is not None:
            self.on_append(loop.time() - began)
        return entry

    def waiting(self) -> int:
        """See Store."""
        return len(self._gathered) + self._handed

    async def head(self) -> Head:
        """See Store."""
        return await self._read(self._head)

    async def change_mark(self) -> int:
        """See Store."""
        return (await self.head()).size

    async def wait_for_change(self, mark: int, timeout_seconds: float) -> int:
        """See Store."""
        return await self._changes.wait(mark, timeout_seconds)

    async def _rest(self) -> None:
        """Return when something may have changed. Of an engine that tells nobody: a moment later."""
        await asyncio.sleep(_POLL_SECONDS)

    async def _rested(self) -> None:
        """Nobody waits for changes any more."""

    async def close(self) -> None:
        """See Store."""
        if self._closed:
            return
        self._closed = True
        await self._changes.close()
        loop = asyncio.get_running_loop()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush(loop)
        await loop.run_in_executor(None, self._stop)

    def _stop(self) -> None:
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        for connection in self._connections:
            self._disconnect(connection)

    async def _read(self, work: Callable[[C], T]) -> T:
        def run() -> T:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                self._connections.append(connection)
            try:
                return work(connection)
            except self.broken as error:
                self._local.connection = None  # the next read begins afresh
                self._disconnect(connection)
                raise Outage(f"the store cannot be read: {error}", code="store_unavailable") from error

        if self._closed:
            raise Outage("the store is closed", code="store_closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have what was gathered written: here and now, or by the writer's thread."""
        batch, self._gathered, self._flushing = self._gathered, [], None
        results = None if self._handed else self._write_now(batch)
        if results is not None:
            _resolve(batch, results)
            return
        self._handed += len(batch)
        self._loop = loop
        self._queue.put(batch)

    def _write_batches(self) -> None:
        while True:
            batch: list[Waiting] = []
            item = self._queue.get()
            while item is not None:
                batch += item
                if len(batch) >= _BATCH_MAX:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._settle(batch, self._write(batch))
            if item is None:
                return

    def _place(
        self,
        head: tuple[int, tuple[bytes, ...]],
        batch: list[Waiting],
        last: Callable[[str], tuple[int, bytes]],
        mark: Callable[[str], int],
    ) -> tuple[list[Entry | RemitError], list[tuple[Entry, bytes, tuple[Row, ...]]], tuple[int, tuple[bytes, ...]]]:
        """Give each append its place in the tree, or refuse it: results, entries to insert with their hashes, and the new head.

        ``last``: seq and leaf of a task's latest entry as the transaction sees it; asked once a task. ``mark``: the number of a mark
        likewise.
        """
        size, frontier = head
        results: list[Entry | RemitError] = []
        entries = []
        seen = _Seen(last, mark)
        for waiting in batch:
            stale = seen.refuses(waiting)
            if stale is not None:
                results.append(stale)
                continue
            first = size
            for append, leaf in seen.taken(waiting):
                frontier, hashes = completed(frontier, size, leaf)
                entry = Entry(index=size, body=append.body, leaf=leaf, task=append.task, seq=append.seq)
                entries.append((entry, b"".join(hashes), append.rows))
                if size == first:
                    results.append(entry)
                size += 1
        return results, entries, (size, frontier)

    def _note(self, head: tuple[int, tuple[bytes, ...]]) -> str:
        return self._signer(head[0], root_of(head[1]))

    def _settle(self, batch: list[Waiting], results: list[Entry | RemitError]) -> None:
        """Bring the writer's results to the loop."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settled, batch, results)

    def _settled(self, batch: list[Waiting], results: list[Entry | RemitError]) -> None:
        self._handed -= len(batch)
        _resolve(batch, results)


class _Seen:
    """What a transaction has seen of tasks and marks, with what it is about to write itself."""

    def __init__(self, last: Callable[[str], tuple[int, bytes]], mark: Callable[[str], int]) -> None:
        self._last, self._mark = last, mark
        self._tasks: dict[str, tuple[int, bytes]] = {}
        self._marks: dict[str, int] = {}

    def refuses(self, waiting: Waiting) -> StaleTask | None:
        """Why an append, or one that goes with it, cannot be written; ``None``: it can."""
        append = waiting.append
        if append.given and any(self._number(given) != given.number for given in append.given):
            return StaleTask("what it was decided on has moved on", code="stale_mark")
        if not append.also:
            return self._stale(append, {})
        own: dict[str, tuple[int, bytes]] = {}
        for one in (append, *append.also):
            stale = self._stale(one, own)
            if stale is not None:
                return stale
            if one.task is not None:
                own[one.task] = (one.seq, leaf_hash(one.body))
        return None

    def taken(self, waiting: Waiting) -> Iterator[tuple[Append, bytes]]:
        """An append that is not refused and those with it, each with its leaf; from here on they count as written."""
        for append in (waiting.append, *waiting.append.also):
            leaf = waiting.leaf if append is waiting.append else leaf_hash(append.body)
            if append.task is not None:
                self._tasks[append.task] = (append.seq, leaf)
            for row in append.rows:
                if isinstance(row, MarkRow):
                    self._marks[row.name] = max(row.number, self._number(Given(name=row.name, number=0)))
            yield append, leaf

    def _stale(self, append: Append, own: dict[str, tuple[int, bytes]]) -> StaleTask | None:
        if append.task is None:
            return None
        latest = own.get(append.task) or self._tasks.get(append.task)
        if latest is None:
            latest = self._tasks[append.task] = self._last(append.task)
        return StaleTask(f"task {append.task} has moved on") if (append.seq, append.after) != (latest[0] + 1, latest[1]) else None

    def _number(self, given: Given) -> int:
        known = self._marks.get(given.name)
        if known is None:
            known = self._marks[given.name] = self._mark(given.name)
        return known


def _resolve(batch: list[Waiting], results: list[Entry | RemitError]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.done.done():
            continue
        if isinstance(result, Entry):
            waiting.done.set_result(result)
        else:
            waiting.done.set_exception(result)

"""What the engines share: one writer thread that commits in groups, reader threads, and how rows become values.

Rules: one durable transaction carries all appends that wait; nobody waits for a batch to fill. An engine says how a batch is
written and how a connection is made; everything about order, stale appends and waiting is here, once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from remit.errors import Mistake, Outage, RemitError
from remit.logic.merkle import HASH_BYTES, completed, leaf_hash, root_of
from remit.store.database import ENTRY_BYTES_MAX, Append, ApprovalRow, Entry, Head, StaleTask, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable

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
    loop: asyncio.AbstractEventLoop


class ThreadedStore(ABC, Generic[C]):
    """A store whose engine is driven from threads. ``C`` is the engine's connection."""

    broken: tuple[type[Exception], ...] = ()  # what the engine raises when it is away, locked or full

    def __init__(self, signer: CheckpointSigner, queue_limit: int) -> None:
        self._signer = signer
        self._queue: queue.Queue[Waiting | None] = queue.Queue(queue_limit)
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="remit-read")
        self._connections: list[C] = []
        self._closed = False
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

    async def append(self, append: Append) -> Entry:
        """See Store."""
        if not 0 < len(append.body) <= ENTRY_BYTES_MAX:
            raise Mistake(f"an entry of {len(append.body):,} bytes", code="record_too_large")
        loop = asyncio.get_running_loop()
        waiting = Waiting(append, leaf_hash(append.body), loop.create_future(), loop)
        if self._closed:
            raise Outage("the store is closed", code="store_closed")
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Outage("too many records wait to be written", code="overload") from None
        return await waiting.done

    async def head(self) -> Head:
        """See Store."""
        return await self._read(self._head)

    async def change_mark(self) -> int:
        """See Store."""
        return (await self.head()).size

    async def wait_for_change(self, mark: int, timeout_seconds: float) -> int:
        """See Store."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while (now := await self.change_mark()) == mark and loop.time() < end:
            await asyncio.sleep(min(_POLL_SECONDS, max(end - loop.time(), 0)))
        return now

    async def close(self) -> None:
        """See Store."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._stop)

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

    def _write_batches(self) -> None:
        while True:
            batch: list[Waiting] = []
            item = self._queue.get()
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH_MAX:
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
        self, head: tuple[int, tuple[bytes, ...]], batch: list[Waiting], last: Callable[[str], tuple[int, bytes]]
    ) -> tuple[list[Entry | RemitError], list[tuple[Entry, bytes, tuple[TaskRow | ApprovalRow, ...]]], tuple[int, tuple[bytes, ...]]]:
        """Give each append its place in the tree, or refuse it: results, entries to insert with their hashes, and the new head.

        ``last``: seq and leaf of a task's latest entry as the transaction sees it; asked once a task.
        """
        size, frontier = head
        results: list[Entry | RemitError] = []
        entries = []
        known: dict[str, tuple[int, bytes]] = {}
        for waiting in batch:
            append = waiting.append
            if append.task is not None:
                latest = known.get(append.task) or last(append.task)
                known[append.task] = latest
                if (append.seq, append.after) != (latest[0] + 1, latest[1]):
                    results.append(StaleTask(f"task {append.task} has moved on"))
                    continue
                known[append.task] = (append.seq, waiting.leaf)
            frontier, hashes = completed(frontier, size, waiting.leaf)
            entry = Entry(index=size, body=append.body, leaf=waiting.leaf, task=append.task, seq=append.seq)
            entries.append((entry, b"".join(hashes), append.rows))
            results.append(entry)
            size += 1
        return results, entries, (size, frontier)

    def _note(self, head: tuple[int, tuple[bytes, ...]]) -> str:
        return self._signer(head[0], root_of(head[1]))

    @staticmethod
    def _settle(batch: list[Waiting], results: list[Entry | RemitError]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Entry], Entry | RemitError]]] = {}
        for waiting, result in zip(batch, results, strict=True):
            by_loop.setdefault(waiting.loop, []).append((waiting.done, result))
        for loop, outcomes in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, outcomes)
            except RuntimeError:  # the loop has closed: nobody waits any more
                continue


def _resolve(outcomes: list[tuple[asyncio.Future[Entry], Entry | RemitError]]) -> None:
    for future, result in outcomes:
        if future.done():
            continue
        if isinstance(result, Entry):
            future.set_result(result)
        else:
            future.set_exception(result)


def unpacked(packed: bytes) -> tuple[bytes, ...]:
    """A frontier from its bytes."""
    return tuple(packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES))


def row_values(row: TaskRow | ApprovalRow) -> tuple[str, ...]:
    """A projection row as its columns, times as text that sorts."""
    if isinstance(row, TaskRow):
        return (row.task, row.type, row.agent, row.on_behalf_of, row.state, moment(row.opened_at), moment(row.deadline))
    return (row.approval, row.task, row.state, moment(row.asked_at), moment(row.expires_at))


def moment(time: datetime) -> str:
    """A time as text that sorts."""
    return time.isoformat(timespec="microseconds")


def entry_of(row: tuple[Any, ...]) -> Entry:
    """An entry from its columns."""
    position, task, seq, leaf, body = row
    return Entry(index=position, task=task, seq=seq, leaf=bytes(leaf), body=bytes(body))


def task_row_of(row: tuple[Any, ...]) -> TaskRow:
    """A task's row from its columns."""
    task, kind, agent, on_behalf_of, state, opened_at, deadline = row
    return TaskRow(
        task=task,
        type=kind,
        agent=agent,
        on_behalf_of=on_behalf_of,
        state=state,
        opened_at=datetime.fromisoformat(opened_at),
        deadline=datetime.fromisoformat(deadline),
    )


def approval_row_of(row: tuple[Any, ...]) -> ApprovalRow:
    """An approval's row from its columns."""
    approval, task, state, asked_at, expires_at = row
    return ApprovalRow(
        approval=approval,
        task=task,
        state=state,
        asked_at=datetime.fromisoformat(asked_at),
        expires_at=datetime.fromisoformat(expires_at),
    )

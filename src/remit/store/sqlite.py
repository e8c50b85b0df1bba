"""The store in one SQLite file: WAL, ``synchronous=FULL``, one writer thread a process, several processes a file.

Rules: one durable transaction carries all appends that wait (group commit); nobody waits for a batch to fill. The head
is read inside each transaction, because another process may have appended. Readers have connections of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from remit.errors import Mistake, Outage, RemitError
from remit.logic.merkle import HASH_BYTES, completed, leaf_hash, root_of
from remit.store.database import (
    ENTRY_BYTES_MAX,
    Append,
    ApprovalRow,
    Entry,
    Head,
    StaleTask,
    TaskRow,
)
from remit.store.sql import migrations, queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from remit.store.database import CheckpointSigner

T = TypeVar("T")
_SQL = queries("sqlite")
_BUSY_SECONDS = 10.0
_READERS = 2
_BATCH_MAX = 512
_POLL_SECONDS = 0.1
_LAST = ("\uffff", "\uffff")


@dataclass(slots=True)
class _Waiting:
    append: Append
    leaf: bytes
    done: asyncio.Future[Entry]
    loop: asyncio.AbstractEventLoop


class SqliteStore:
    """See ``store/database.py`` for the duties."""

    def __init__(self, path: Path, signer: CheckpointSigner, queue_limit: int = 10_000) -> None:
        """Open or make the file (0600). Raises Outage, or Mistake for a file that is no store of remit."""
        self._path, self._signer = path, signer
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(queue_limit)
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="remit-read")
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._writer_connection = self._prepare()
        self._writer = threading.Thread(target=self._write_batches, name="remit-write", daemon=True)
        self._writer.start()

    async def append(self, append: Append) -> Entry:
        """See Store."""
        if not 0 < len(append.body) <= ENTRY_BYTES_MAX:
            raise Mistake(f"an entry of {len(append.body):,} bytes", code="record_too_large")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(append, leaf_hash(append.body), loop.create_future(), loop)
        if self._closed:
            raise Outage("the store is closed", code="store_closed")
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Outage("too many records wait to be written", code="overload") from None
        return await waiting.done

    async def task_entries(self, task: str) -> tuple[Entry, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["entries_of_task"], (task,)).fetchall())
        return tuple(_entry(row) for row in rows)

    async def entries(self, start: int, limit: int) -> tuple[Entry, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["entries"], (start, limit)).fetchall())
        return tuple(_entry(row) for row in rows)

    async def hashes(self, indexes: Sequence[int]) -> dict[int, bytes]:
        """See Store."""

        def read(db: sqlite3.Connection) -> dict[int, bytes]:
            found = {}
            for index in indexes:
                row = db.execute(_SQL["hashes"], (index,)).fetchone()
                if row is not None:
                    found[index] = bytes(row[0])
            return found

        return await self._read(read)

    async def head(self) -> Head:
        """See Store."""
        return await self._read(_head)

    async def publish_checkpoint(self) -> str:
        """See Store."""

        def publish(db: sqlite3.Connection) -> str:
            head = _head(db)
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_SQL["publish"], (head.size, head.checkpoint))
            return head.checkpoint

        return await self._read(publish)

    async def checkpoints(self, after_size: int, limit: int) -> tuple[str, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["checkpoints"], (after_size, limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def tasks(self, *, states: Sequence[str], after: str, limit: int) -> tuple[TaskRow, ...]:
        """See Store."""
        wanted = json.dumps(list(states))

        def read(db: sqlite3.Connection) -> list[Any]:
            place = _LAST
            if after:
                row = db.execute(_SQL["opened_at"], (after,)).fetchone()
                place = (row[0], after) if row else ("", "")
            return db.execute(_SQL["tasks"], (wanted, wanted, *place, limit)).fetchall()

        return tuple(_task_row(row) for row in await self._read(read))

    async def due_tasks(self, now: datetime, limit: int) -> tuple[str, ...]:
        """See Store."""
        due = (now.isoformat(timespec="microseconds"), limit)
        rows = await self._read(lambda db: db.execute(_SQL["due_tasks"], due).fetchall())
        return tuple(row[0] for row in rows)

    async def approvals(self, *, states: Sequence[str], limit: int) -> tuple[ApprovalRow, ...]:
        """See Store."""
        wanted = json.dumps(list(states))
        rows = await self._read(lambda db: db.execute(_SQL["approvals"], (wanted, limit)).fetchall())
        return tuple(_approval_row(row) for row in rows)

    async def approval(self, approval: str) -> ApprovalRow | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["approval"], (approval,)).fetchone())
        return _approval_row(row) if row else None

    async def put_document(self, digest: str, text: str) -> None:
        """See Store."""

        def put(db: sqlite3.Connection) -> None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_SQL["put_document"], (digest, text))

        await self._read(put)

    async def document(self, digest: str) -> str | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["document"], (digest,)).fetchone())
        return row[0] if row else None

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
            connection.close()

    # --- connections -------------------------------------------------------------------------------------------------

    def _prepare(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for number, script in migrations("sqlite"):
                if number > version:
                    for statement in script.split(";\n"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute(_SQL["first_head"], (self._signer(0, root_of(())),))
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Outage(f"the store {self._path} cannot be opened: {error}", code="store_unavailable") from error
        except sqlite3.DatabaseError as error:
            raise Mistake(f"{self._path} is not a store of remit: {error}", code="store_file") from error
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise Outage(f"the store {self._path} cannot be opened: {error}", code="store_unavailable") from error
        self._connections.append(connection)
        return connection

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
            try:
                return work(connection)
            except sqlite3.Error as error:
                raise Outage(f"the store cannot be read: {error}", code="store_unavailable") from error

        if self._closed:
            raise Outage("the store is closed", code="store_closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    # --- the writer's thread -----------------------------------------------------------------------------------------

    def _write_batches(self) -> None:
        while True:
            batch: list[_Waiting] = []
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

    def _write(self, batch: list[_Waiting]) -> list[Entry | RemitError]:
        db = self._writer_connection
        try:
            db.execute("BEGIN IMMEDIATE")
            results = self._write_inside(db, batch)
            db.execute("COMMIT")
        except Exception as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            outage = Outage(f"the store cannot be written: {error}", code="store_unavailable")
            return [outage] * len(batch)
        return results

    def _write_inside(self, db: sqlite3.Connection, batch: list[_Waiting]) -> list[Entry | RemitError]:
        size, packed, _ = db.execute(_SQL["head"]).fetchone()
        frontier = _unpacked(packed)
        first = size
        results: list[Entry | RemitError] = []
        for waiting in batch:
            append = waiting.append
            if append.task is not None and not self._follows(db, append):
                results.append(StaleTask(f"task {append.task} has moved on"))
                continue
            frontier, hashes = completed(frontier, size, waiting.leaf)
            db.execute(_SQL["add_entry"], (size, append.task, append.seq, b"".join(hashes), append.body))
            for row in append.rows:
                _put(db, row)
            results.append(Entry(index=size, body=append.body, leaf=waiting.leaf, task=append.task, seq=append.seq))
            size += 1
        if size > first:
            note = self._signer(size, root_of(frontier))
            db.execute(_SQL["set_head"], (size, b"".join(frontier), note))
        return results

    @staticmethod
    def _follows(db: sqlite3.Connection, append: Append) -> bool:
        row = db.execute(_SQL["last_of_task"], (append.task,)).fetchone()
        seq, leaf = (row[0], bytes(row[1])) if row else (0, b"")
        return append.seq == seq + 1 and append.after == leaf

    @staticmethod
    def _settle(batch: list[_Waiting], results: list[Entry | RemitError]) -> None:
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


def _head(db: sqlite3.Connection) -> Head:
    size, packed, checkpoint = db.execute(_SQL["head"]).fetchone()
    return Head(size=size, frontier=_unpacked(packed), checkpoint=checkpoint)


def _unpacked(packed: bytes) -> tuple[bytes, ...]:
    return tuple(packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES))


def _put(db: sqlite3.Connection, row: TaskRow | ApprovalRow) -> None:
    if isinstance(row, TaskRow):
        times = (row.opened_at.isoformat(timespec="microseconds"), row.deadline.isoformat(timespec="microseconds"))
        db.execute(_SQL["put_task"], (row.task, row.type, row.agent, row.on_behalf_of, row.state, *times))
    else:
        times = (row.asked_at.isoformat(timespec="microseconds"), row.expires_at.isoformat(timespec="microseconds"))
        db.execute(_SQL["put_approval"], (row.approval, row.task, row.state, *times))


def _entry(row: tuple[Any, ...]) -> Entry:
    position, task, seq, leaf, body = row
    return Entry(index=position, task=task, seq=seq, leaf=bytes(leaf), body=bytes(body))


def _task_row(row: tuple[Any, ...]) -> TaskRow:
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


def _approval_row(row: tuple[Any, ...]) -> ApprovalRow:
    approval, task, state, asked_at, expires_at = row
    return ApprovalRow(
        approval=approval,
        task=task,
        state=state,
        asked_at=datetime.fromisoformat(asked_at),
        expires_at=datetime.fromisoformat(expires_at),
    )

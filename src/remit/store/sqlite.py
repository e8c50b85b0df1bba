"""The store in one SQLite file: WAL, ``synchronous=FULL``, several processes a file.

Rules: the head is read inside each transaction, because another process may have appended. Readers have connections of
their own, and so has the event loop, which commits small groups itself while the disk is quick: it never waits for another
process's lock (the writer's thread does), and leaves moving the log into the file (checkpoints of the WAL) to the thread as well.
A task's latest entry that this process wrote is not read again while the head, as the transaction sees it, is the one it left.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, TypeVar

from remit.errors import Mistake, Outage, RemitError
from remit.logic.merkle import root_of
from remit.store.database import ALWAYS, ApprovalRow, Entry, Head, LeaseRow, MarkRow, SightingRow, TaskRow, Unsettled
from remit.store.rows import PUT, approval_row_of, entry_of, lease_row_of, moment, newest_tasks, row_values, unpacked, unsettled_of
from remit.store.sql import migrations, queries
from remit.store.threaded import ThreadedStore, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from remit.store.database import CheckpointSigner

T = TypeVar("T")
_SQL = queries("sqlite")
_BUSY_SECONDS = 10.0
_AT_ONCE_MAX = 64  # appends of a group that the loop writes itself
_LOOKED_UP_AT_ONCE_MAX = 16  # keys of an index that the loop looks up itself: a change of threads costs more
_COUNTED_AT_ONCE_MAX = 1_000  # rows of an index that the loop counts itself (some tens of microseconds)
_QUICK_SECONDS = 0.003  # a commit that takes longer belongs into the thread
_TURNS_MAX = 200  # commits of the loop before the thread takes one, and with it the checkpoint
_FADING = 0.9
_AGAIN_SECONDS = 0.005
_LATEST_MAX = 10_000  # tasks whose latest entry is remembered
_LAST = ("\uffff", "\uffff")


class SqliteStore(ThreadedStore[sqlite3.Connection]):
    """See ``store/database.py`` for the duties."""

    broken = (sqlite3.Error,)

    def __init__(self, path: Path, signer: CheckpointSigner, queue_limit: int = 10_000) -> None:
        """Open or make the file (0600). Raises Outage, or Mistake for a file that is no store of remit."""
        super().__init__(signer, queue_limit)
        self._path = path
        self._writing = self._prepare()
        self._at_once = self._connect(busy_seconds=0.0)
        self._connections.append(self._at_once)
        self._at_once.execute("PRAGMA wal_autocheckpoint = 0")
        self._commit_seconds = 0.0
        self._turns = 0
        self._latest: dict[str, tuple[int, bytes]] = {}  # of tasks, as they are in a tree of ``_latest_size``
        self._latest_size = 0
        self._writer.start()

    async def task_entries(self, task: str, after: int = 0, limit: int | None = None) -> tuple[Entry, ...]:
        """See Store."""
        wanted = (task, after, -1 if limit is None else limit)  # -1: all of them
        rows = await self._read(lambda db: db.execute(_SQL["entries_of_task"], wanted).fetchall())
        return tuple(entry_of(row) for row in rows)

    async def entries(self, start: int, limit: int) -> tuple[Entry, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["entries"], (start, limit)).fetchall())
        return tuple(entry_of(row) for row in rows)

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

    async def publish_checkpoint(self) -> str:
        """See Store."""

        def publish(db: sqlite3.Connection) -> str:
            head = self._head(db)
            db.execute(_SQL["publish"], (head.size, head.checkpoint))
            return head.checkpoint

        return await self._read(publish)

    async def keep_cosigned(self, size: int, note: str, cosignatures: int) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["keep_cosigned"], (note, cosignatures, size, cosignatures)))

    async def cosigned(self) -> str | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["cosigned"]).fetchone())
        return row[0] if row else None

    async def checkpoints(self, after_size: int, limit: int) -> tuple[str, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["checkpoints"], (after_size, limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def tasks(self, *, states: Sequence[str], after: str, limit: int) -> tuple[TaskRow, ...]:
        """See Store."""

        def read(db: sqlite3.Connection) -> list[Any]:
            place = _LAST
            if after:
                row = db.execute(_SQL["opened_at"], (after,)).fetchone()
                place = (row[0], after) if row else ("", "")
            if not states:
                return db.execute(_SQL["tasks"], (*place, limit)).fetchall()
            return [row for state in set(states) for row in db.execute(_SQL["tasks_in_state"], (state, *place, limit)).fetchall()]

        return newest_tasks(await self._read(read), limit)

    async def due_tasks(self, now: datetime, limit: int) -> tuple[str, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["due_tasks"], (moment(now), limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def approvals(self, *, states: Sequence[str], limit: int, alive_at: datetime = ALWAYS) -> tuple[ApprovalRow, ...]:
        """See Store."""
        wanted = json.dumps(list(states))
        rows = await self._read(lambda db: db.execute(_SQL["approvals"], (wanted, moment(alive_at), limit)).fetchall())
        return tuple(approval_row_of(row) for row in rows)

    async def approval(self, approval: str) -> ApprovalRow | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["approval"], (approval,)).fetchone())
        return approval_row_of(row) if row else None

    async def sightings(self, task: str, after: int) -> tuple[SightingRow, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["sightings"], (task, after)).fetchall())
        return tuple(SightingRow(task=task, number=number, data=bytes(data)) for number, data in rows)

    async def drop_sightings(self, task: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["drop_sightings"], (task,)))

    async def tainted(self, server: str, keys: Sequence[bytes]) -> frozenset[bytes]:
        """See Store."""

        def read(db: sqlite3.Connection) -> frozenset[bytes]:
            if db.execute(_SQL["any_taint"], (server,)).fetchone() is None:
                return frozenset()
            return frozenset(key for key in keys if db.execute(_SQL["tainted"], (server, key)).fetchone() is not None)

        return await (self._looked_up(read) if len(keys) <= _LOOKED_UP_AT_ONCE_MAX else self._read(read))

    async def put_document(self, digest: str, text: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["put_document"], (digest, text)))

    async def document(self, digest: str) -> str | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["document"], (digest,)).fetchone())
        return row[0] if row else None

    async def drop_values(self, decisions: Sequence[str]) -> None:
        """See Store."""
        wanted = json.dumps(list(decisions))
        await self._read(lambda db: db.execute(_SQL["drop_values"], (wanted,)))

    async def values(self, decisions: Sequence[str]) -> dict[str, bytes]:
        """See Store."""
        wanted = json.dumps(list(decisions))
        rows = await self._read(lambda db: db.execute(_SQL["values"], (wanted,)).fetchall())
        return {decision: bytes(sealed) for decision, sealed in rows}

    async def lease(self, lease: str) -> LeaseRow | None:
        """See Store."""
        row = await self._looked_up(lambda db: db.execute(_SQL["lease"], (lease,)).fetchone())
        return lease_row_of(row) if row else None

    async def live_leases(self, target: str, after: str, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["live_leases"], (target, target, after, limit)).fetchall())
        return tuple(lease_row_of(row) for row in rows)

    async def due_leases(self, target: str, now: datetime, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["due_leases"], (target, moment(now), limit)).fetchall())
        return tuple(lease_row_of(row) for row in rows)

    async def claim_lease(self, lease: str, due_at: datetime, until: datetime) -> bool:
        """See Store."""
        return await self._read(lambda db: db.execute(_SQL["claim_lease"], (moment(until), lease, moment(due_at))).rowcount == 1)

    async def lease_counts(self, agent: str, target: str, most: int) -> tuple[int, int]:
        """See Store."""
        look = self._looked_up if most <= _COUNTED_AT_ONCE_MAX else self._read
        of_agent, of_target = await look(lambda db: db.execute(_SQL["lease_counts"], (agent, most, target, most)).fetchone())
        return of_agent, of_target

    async def leases_below_suspended(self, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["leases_below_suspended"], (limit,)).fetchall())
        return tuple(lease_row_of(row) for row in rows)

    async def lease_targets(self) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._read(lambda db: db.execute(_SQL["lease_targets"]).fetchall()))

    async def mark(self, name: str) -> MarkRow | None:
        """See Store."""
        row = await self._read(lambda db: db.execute(_SQL["mark"], (name,)).fetchone())
        return MarkRow(name=name, number=row[0], text=row[1]) if row else None

    async def children(self, parent: str, limit: int) -> tuple[str, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["children"], (parent, limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def unsettled(self, limit: int) -> tuple[Unsettled, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["unsettled"], (limit,)).fetchall())
        return tuple(unsettled_of(row) for row in rows)

    async def living_tasks(self, agents: Sequence[str], limit: int) -> tuple[str, ...]:
        """See Store."""
        wanted = json.dumps(list(agents))
        rows = await self._read(lambda db: db.execute(_SQL["living_tasks"], (wanted, limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def document_keys(self, beginning: str, after: str, limit: int) -> tuple[str, ...]:
        """See Store."""
        rows = await self._read(lambda db: db.execute(_SQL["document_keys"], (after, beginning, limit)).fetchall())
        return tuple(row[0] for row in rows)

    async def drop_document(self, digest: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["drop_document"], (digest,)))

    async def _looked_up(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """What is a few keys of an index."""
        if not self._closed:
            with contextlib.suppress(sqlite3.Error):  # the reader's thread finds out what is wrong
                return read(self._at_once)
        return await self._read(read)

    def _head(self, connection: sqlite3.Connection) -> Head:
        size, packed, checkpoint = connection.execute(_SQL["head"]).fetchone()
        return Head(size=size, frontier=unpacked(packed), checkpoint=checkpoint)

    def _prepare(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = self._connect()
        self._connections.append(connection)
        try:
            _write_ahead(connection)
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

    def _connect(self, busy_seconds: float = _BUSY_SECONDS) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise Outage(f"the store {self._path} cannot be opened: {error}", code="store_unavailable") from error
        return connection

    def _disconnect(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()

    def _write(self, batch: list[Waiting]) -> list[Entry | RemitError]:
        self._turns = 0
        try:
            self._writing.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return _nothing_written(batch, error)
        return self._committed(self._writing, batch)

    def _write_now(self, batch: list[Waiting]) -> list[Entry | RemitError] | None:
        self._turns += 1
        if len(batch) > _AT_ONCE_MAX or self._turns > _TURNS_MAX or self._commit_seconds > _QUICK_SECONDS:
            return None
        try:
            self._at_once.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:  # another process writes, or worse: the thread finds out
            return None
        return self._committed(self._at_once, batch)

    def _committed(self, db: sqlite3.Connection, batch: list[Waiting]) -> list[Entry | RemitError]:
        """Write a batch in the transaction that was begun."""
        began = time.perf_counter()
        try:
            size, packed, _ = db.execute(_SQL["head"]).fetchone()
            if size != self._latest_size:  # another process has appended
                self._latest.clear()
            now = (size, unpacked(packed))
            results, entries, head = self._place(now, batch, lambda task: self._last(db, task), lambda name: _mark(db, name))
            for entry, hashes, rows in entries:
                db.execute(_SQL["add_entry"], (entry.index, entry.task, entry.seq, hashes, entry.body))
                for row in rows:
                    db.execute(_SQL[PUT[type(row)]], row_values(row))
            if entries:
                db.execute(_SQL["set_head"], (head[0], b"".join(head[1]), self._note(head)))
            db.execute("COMMIT")
        except Exception as error:  # whatever failed, nothing of the batch is durable, and the writer lives on
            if db.in_transaction:
                db.execute("ROLLBACK")
            return _nothing_written(batch, error)
        if len(self._latest) + len(entries) > _LATEST_MAX:
            self._latest.clear()
        self._latest.update((entry.task, (entry.seq, entry.leaf)) for entry, _, _ in entries if entry.task is not None)
        self._latest_size = head[0]
        self._commit_seconds = _FADING * self._commit_seconds + (1 - _FADING) * (time.perf_counter() - began)
        return results

    def _last(self, db: sqlite3.Connection, task: str) -> tuple[int, bytes]:
        known = self._latest.get(task)
        if known is None:
            row = db.execute(_SQL["last_of_task"], (task,)).fetchone()
            known = (row[0], bytes(row[1])) if row else (0, b"")
        return known


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch the file to WAL. Of two processes that do it for a new file at one time SQLite refuses one at once, whatever its timeout
    (each holds a read lock that the other waits for), so that one tries again.
    """
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _nothing_written(batch: list[Waiting], error: Exception) -> list[Entry | RemitError]:
    return [Outage(f"the store cannot be written: {error}", code="store_unavailable") for _ in batch]


def _mark(db: sqlite3.Connection, name: str) -> int:
    row = db.execute(_SQL["mark"], (name,)).fetchone()
    return row[0] if row else 0

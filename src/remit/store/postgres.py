"""The store in PostgreSQL, schema ``remit``: many nodes, each with one writer; the head's row orders them.

Rules: the head is locked first, so appends of all nodes have one order and a task's last entry cannot change under a batch.
``synchronous_commit`` is on whatever the server's default. A lost connection is made anew at the next use; what was not
acknowledged may or may not have become durable, and the caller looks again. ``NOTIFY`` wakes those who wait for changes; a look every
second stands behind it, as a pooler in between may swallow it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import psycopg

from remit.errors import Outage, RemitError
from remit.logic.merkle import root_of
from remit.store.database import ALWAYS, ApprovalRow, Entry, Head, LeaseRow, MarkRow, SightingRow, TaskRow, Unsettled
from remit.store.rows import PUT, approval_row_of, entry_of, lease_row_of, moment, newest_tasks, row_values, unpacked, unsettled_of
from remit.store.sql import migrations, queries
from remit.store.threaded import ThreadedStore, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remit.store.database import CheckpointSigner

_SQL = queries("postgres")
_CONNECT_SECONDS = 10
_STATEMENT_MS = 30_000
_TOLD_SECONDS = 1.0  # so long a notification is waited for before looking anyway
_GATHER_SECONDS = 0.02  # a busy ledger wakes not more often
_AWAY_SECONDS = 0.1  # between looks while there is no connection to be told by
_MIGRATION_LOCK = 7_411_001
_LAST = ("\uffff", "\uffff")
Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresStore(ThreadedStore[Connection]):
    """See ``store/database.py`` for the duties."""

    broken = (psycopg.Error,)

    def __init__(self, url: str, signer: CheckpointSigner, queue_limit: int = 10_000) -> None:
        """``url``: a libpq connection string. Makes the schema where it is missing. Raises Outage."""
        super().__init__(signer, queue_limit)
        self._url = url
        self._listening: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._writing: Connection | None = self._prepare()
        self._writer.start()

    async def task_entries(self, task: str, after: int = 0, limit: int | None = None) -> tuple[Entry, ...]:
        """See Store."""
        return tuple(entry_of(row) for row in await self._all("entries_of_task", task, after, limit))

    async def entries(self, start: int, limit: int) -> tuple[Entry, ...]:
        """See Store."""
        return tuple(entry_of(row) for row in await self._all("entries", start, limit))

    async def hashes(self, indexes: Sequence[int]) -> dict[int, bytes]:
        """See Store."""
        return {row[0]: bytes(row[1]) for row in await self._all("hashes", list(indexes))}

    async def publish_checkpoint(self) -> str:
        """See Store."""

        def publish(db: Connection) -> str:
            head = self._head(db)
            db.execute(_SQL["publish"], (head.size, head.checkpoint))
            return head.checkpoint

        return await self._read(publish)

    async def keep_cosigned(self, size: int, note: str, cosignatures: int) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["keep_cosigned"], (note, cosignatures, size, cosignatures)))

    async def cosigned(self) -> str | None:
        """See Store."""
        rows = await self._all("cosigned")
        return rows[0][0] if rows else None

    async def checkpoints(self, after_size: int, limit: int) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("checkpoints", after_size, limit))

    async def tasks(self, *, states: Sequence[str], after: str, limit: int) -> tuple[TaskRow, ...]:
        """See Store."""
        place = _LAST
        if after:
            found = await self._all("opened_at", after)
            place = (found[0][0], after) if found else ("", "")
        if not states:
            return newest_tasks(await self._all("tasks", *place, limit), limit)
        pages = [await self._all("tasks_in_state", state, *place, limit) for state in set(states)]
        return newest_tasks([row for page in pages for row in page], limit)

    async def due_tasks(self, now: datetime, limit: int) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("due_tasks", moment(now), limit))

    async def approvals(self, *, states: Sequence[str], limit: int, alive_at: datetime = ALWAYS) -> tuple[ApprovalRow, ...]:
        """See Store."""
        return tuple(approval_row_of(row) for row in await self._all("approvals", list(states), moment(alive_at), limit))

    async def approval(self, approval: str) -> ApprovalRow | None:
        """See Store."""
        rows = await self._all("approval", approval)
        return approval_row_of(rows[0]) if rows else None

    async def sightings(self, task: str, after: int) -> tuple[SightingRow, ...]:
        """See Store."""
        rows = await self._all("sightings", task, after)
        return tuple(SightingRow(task=task, number=number, data=bytes(data)) for number, data in rows)

    async def drop_sightings(self, task: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["drop_sightings"], (task,)))

    async def tainted(self, server: str, keys: Sequence[bytes]) -> frozenset[bytes]:
        """See Store."""
        return frozenset(bytes(row[0]) for row in await self._all("tainted", server, list(keys)))

    async def put_document(self, digest: str, text: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["put_document"], (digest, text)))

    async def document(self, digest: str) -> str | None:
        """See Store."""
        rows = await self._all("document", digest)
        return rows[0][0] if rows else None

    async def drop_values(self, decisions: Sequence[str]) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["drop_values"], (list(decisions),)))

    async def values(self, decisions: Sequence[str]) -> dict[str, bytes]:
        """See Store."""
        return {decision: bytes(sealed) for decision, sealed in await self._all("values", list(decisions))}

    async def lease(self, lease: str) -> LeaseRow | None:
        """See Store."""
        rows = await self._all("lease", lease)
        return lease_row_of(rows[0]) if rows else None

    async def live_leases(self, target: str, after: str, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        return tuple(lease_row_of(row) for row in await self._all("live_leases", target, target, after, limit))

    async def due_leases(self, target: str, now: datetime, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        return tuple(lease_row_of(row) for row in await self._all("due_leases", target, moment(now), limit))

    async def claim_lease(self, lease: str, due_at: datetime, until: datetime) -> bool:
        """See Store."""
        return await self._read(lambda db: db.execute(_SQL["claim_lease"], (moment(until), lease, moment(due_at))).rowcount == 1)

    async def lease_counts(self, agent: str, target: str, most: int) -> tuple[int, int]:
        """See Store."""
        ((of_agent, of_target),) = await self._all("lease_counts", agent, most, target, most)
        return of_agent, of_target

    async def leases_below_suspended(self, limit: int) -> tuple[LeaseRow, ...]:
        """See Store."""
        return tuple(lease_row_of(row) for row in await self._all("leases_below_suspended", limit))

    async def lease_targets(self) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("lease_targets"))

    async def mark(self, name: str) -> MarkRow | None:
        """See Store."""
        rows = await self._all("mark", name)
        return MarkRow(name=name, number=rows[0][0], text=rows[0][1]) if rows else None

    async def children(self, parent: str, limit: int) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("children", parent, limit))

    async def unsettled(self, limit: int) -> tuple[Unsettled, ...]:
        """See Store."""
        return tuple(unsettled_of(row) for row in await self._all("unsettled", limit))

    async def living_tasks(self, agents: Sequence[str], limit: int) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("living_tasks", list(agents), list(agents), limit))

    async def document_keys(self, beginning: str, after: str, limit: int) -> tuple[str, ...]:
        """See Store."""
        return tuple(row[0] for row in await self._all("document_keys", after, beginning, limit))

    async def drop_document(self, digest: str) -> None:
        """See Store."""
        await self._read(lambda db: db.execute(_SQL["drop_document"], (digest,)))

    async def _all(self, name: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._read(lambda db: db.execute(_SQL[name], values).fetchall())

    def _head(self, connection: Connection) -> Head:
        row = connection.execute(_SQL["head"]).fetchone()
        assert row is not None, "the schema was made with a head"
        return Head(size=row[0], frontier=unpacked(bytes(row[1])), checkpoint=row[2])

    def _prepare(self) -> Connection:
        connection = self._connect()
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
                connection.execute("CREATE SCHEMA IF NOT EXISTS remit")
                connection.execute("CREATE TABLE IF NOT EXISTS remit.migrations (version INTEGER PRIMARY KEY)")
                done = {row[0] for row in connection.execute("SELECT version FROM remit.migrations").fetchall()}
                for number, script in migrations("postgres"):
                    if number not in done:
                        connection.execute(script.encode())
                        connection.execute("INSERT INTO remit.migrations (version) VALUES (%s)", (number,))
                connection.execute(_SQL["first_head"], (self._signer(0, root_of(())),))
        except psycopg.Error as error:
            raise Outage(f"the store cannot be prepared: {error}", code="store_unavailable") from error
        return connection

    def _connect(self) -> Connection:
        options = f"-c statement_timeout={_STATEMENT_MS} -c synchronous_commit=on -c default_transaction_isolation=read\\ committed"
        try:
            return psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS, options=options)
        except psycopg.Error as error:
            raise Outage(f"the store cannot be reached: {type(error).__name__}", code="store_unavailable") from error

    def _disconnect(self, connection: Connection) -> None:
        with contextlib.suppress(psycopg.Error):
            connection.close()

    async def _rest(self) -> None:
        try:
            if self._listening is None:
                self._listening = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS)
                await self._listening.execute(_SQL["listen"])
                return  # what came before is seen by a look
            async for _ in self._listening.notifies(timeout=_TOLD_SECONDS, stop_after=1):
                pass  # how many there were is of no interest
            await asyncio.sleep(_GATHER_SECONDS)
        except psycopg.Error:
            await self._rested()
            await asyncio.sleep(_AWAY_SECONDS)

    async def _rested(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            with contextlib.suppress(psycopg.Error):
                await listening.close()

    def _stop(self) -> None:
        super()._stop()
        if self._writing is not None:
            self._disconnect(self._writing)

    def _write(self, batch: list[Waiting]) -> list[Entry | RemitError]:
        try:
            if self._writing is None:
                self._writing = self._connect()
            return self._write_to(self._writing, batch)
        except Exception as error:  # whatever failed, nothing of the batch is acknowledged, and the writer lives on
            if self._writing is not None:
                self._disconnect(self._writing)
                self._writing = None
            return [Outage(f"the store cannot be written: {error}", code="store_unavailable") for _ in batch]

    def _write_to(self, db: Connection, batch: list[Waiting]) -> list[Entry | RemitError]:
        def last(task: str) -> tuple[int, bytes]:
            row = db.execute(_SQL["last_of_task"], (task,)).fetchone()
            return (row[0], bytes(row[1])) if row else (0, b"")

        def mark(name: str) -> int:
            row = db.execute(_SQL["mark"], (name,)).fetchone()
            return row[0] if row else 0

        with db.transaction():
            held = db.execute(_SQL["lock_head"]).fetchone()
            assert held is not None, "the schema was made with a head"
            results, entries, head = self._place((held[0], unpacked(bytes(held[1]))), batch, last, mark)
            if entries:
                with db.cursor() as cursor:
                    inserted = [(entry.index, entry.task, entry.seq, hashes, entry.body) for entry, hashes, _ in entries]
                    cursor.executemany(_SQL["add_entry"], inserted)
                for row in (row for _, _, rows in entries for row in rows):
                    db.execute(_SQL[PUT[type(row)]], row_values(row))
                db.execute(_SQL["set_head"], (head[0], b"".join(head[1]), self._note(head)))
        return results

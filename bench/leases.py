"""Leases on a real PostgreSQL: what remit adds to the bare statements, several at once, and what the sweeper costs where many live.

Both sides talk to the same server over one open connection, in turns; both its disk and our store's are synced as in production.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.common import row
from remit.drivers.keys import load_or_make_keys
from remit.drivers.targets.base import TargetSettings
from remit.logic.checkpoint import Checkpoint, sign_checkpoint
from remit.model.lease_record import LeaseLine
from remit.model.record import TaskOpened
from remit.model.task import TaskState
from remit.node import new_id, utc_now
from remit.node_leases import LeaseParts, lease_parts
from remit.services.standing import Standing
from remit.services.tasks import Tasks
from remit.settings import Limits
from remit.store.database import Append, LeaseRow
from remit.store.sqlite import SqliteStore
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROUNDS = 80
_TOGETHER = 16
_LIVE = 10_000
_TABLE = '{"tables":[{"allow":["select"],"schema":"public","table":"orders"}]}'
_KEY = Ed25519PrivateKey.generate()


async def main() -> None:
    """Print the ratios."""
    print("leases on PostgreSQL 18 (p50, in turns)")
    with postgres_target(synced=True) as server, tempfile.TemporaryDirectory() as folder:
        async with _working(Path(folder), server) as (tasks, parts, store):
            await _one_by_one(server, tasks, parts)
            await _together(tasks, parts)
            await _sweeper(parts, store)


async def _one_by_one(server: PostgresTarget, tasks: Tasks, parts: LeaseParts) -> None:
    bare: list[float] = []
    ours: list[float] = []
    async with await psycopg.AsyncConnection.connect(server.url, password=server.password, autocommit=True) as db:
        for number in range(_ROUNDS):
            begin = time.perf_counter()
            await _bare(db, f"bare_{number}")
            bare.append(time.perf_counter() - begin)
            task = await _task(tasks)
            begin = time.perf_counter()
            await _leased(parts, task)
            ours.append(time.perf_counter() - begin)
            await tasks.end(task, TaskState.COMPLETED, by="bench")
    one, other = statistics.median(bare) * 1e3, statistics.median(ours) * 1e3
    row("mint and revoke by the bare statements", f"{one:.2f} ms")
    row("mint and revoke by remit: intent, issue and both revocation records durable", f"{other:.2f} ms")
    row("ratio", f"{other / one:.2f}", "≤ 1.3")


async def _bare(db: psycopg.AsyncConnection[tuple[object, ...]], role: str) -> None:
    """What somebody would write by hand for the same role and the same end of it, in the order that leaves nothing behind.

    In one thing it does less than remit: the server, and its log of statements, sees the password.
    """
    async with db.transaction():
        until = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        words = f"LOGIN PASSWORD 'a-password-of-some-length' VALID UNTIL '{until}' CONNECTION LIMIT 10"
        await db.execute(f"CREATE ROLE {role} {words}".encode())
        await db.execute(f"GRANT CONNECT ON DATABASE orders TO {role}".encode())
        await db.execute(f"GRANT USAGE ON SCHEMA public TO {role}".encode())
        await db.execute(f"GRANT SELECT ON TABLE orders TO {role}".encode())
    await db.execute(f"ALTER ROLE {role} NOLOGIN".encode())
    await db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
    await db.execute(f"DROP OWNED BY {role}".encode())
    await db.execute(f"DROP ROLE {role}".encode())


async def _leased(parts: LeaseParts, task: str) -> None:
    minted = await parts.leases.have(task, "orders")
    await parts.revocations.revoke(parts.targets.lease(minted.parts["user"]), "bench", "")


async def _together(tasks: Tasks, parts: LeaseParts) -> None:
    opened = [await _task(tasks) for _ in range(_TOGETHER * 4)]
    begin = time.perf_counter()
    for task in opened[:_TOGETHER]:
        await _leased(parts, task)
    alone = _TOGETHER / (time.perf_counter() - begin)
    begin = time.perf_counter()
    await asyncio.gather(*(_leased(parts, task) for task in opened[_TOGETHER:]))
    at_once = (len(opened) - _TOGETHER) / (time.perf_counter() - begin)
    row(f"mints and revocations a second: one after the other, {len(opened) - _TOGETHER} at once", f"{alone:.0f}, {at_once:.0f}")
    for task in opened:
        await tasks.end(task, TaskState.COMPLETED, by="bench")


async def _sweeper(parts: LeaseParts, store: SqliteStore) -> None:
    empty = await _sweep_us(parts)
    now = utc_now()
    for start in range(0, _LIVE, 500):
        rows = tuple(
            LeaseRow(
                lease=f"lease_{number:020}",
                task="task_none",
                agent="spiffe://bench.test/agent/a",
                target="orders",
                state="issued",
                expires_at=now + timedelta(hours=1),
                due_at=now + timedelta(hours=1),
            )
            for number in range(start, start + 500)
        )
        await store.append(Append(body=b"{}", rows=rows))
    full = await _sweep_us(parts)
    row("one look of the sweeper with no lease", f"{empty:.0f} µs")
    row(f"the same with {_LIVE:,} live leases of which none is due", f"{full:.0f} µs")
    row("ratio", f"{full / empty:.2f}", "flat")


async def _sweep_us(parts: LeaseParts) -> float:
    taken = []
    for _ in range(200):
        begin = time.perf_counter()
        await parts.revocations.sweep_once()
        while workers := list(parts.revocations._workers.values()):
            await asyncio.wait(workers)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6


@contextlib.asynccontextmanager
async def _working(folder: Path, server: PostgresTarget) -> AsyncIterator[tuple[Tasks, LeaseParts, SqliteStore]]:
    store = SqliteStore(folder / "remit.db", lambda size, root: sign_checkpoint(Checkpoint("bench.test/ledger", size, root), _KEY))
    tasks = Tasks(store, utc_now, new_id, 10_000, Standing(store, utc_now))
    settings = TargetSettings(
        name="orders", kind="postgresql", values={"url": server.url, "sessions": 10}, secret=server.password, connections=4
    )
    keys = load_or_make_keys(folder / "keys")
    configured = {"orders": settings}
    parts = lease_parts(store=store, tasks=tasks, keys=keys, clock=utc_now, configured=lambda: configured, limits=Limits())
    try:
        yield tasks, parts, store
    finally:
        await parts.close()
        await store.close()


async def _task(tasks: Tasks) -> str:
    opened = TaskOpened(
        type="look",
        agent="spiffe://bench.test/agent/a",
        on_behalf_of="bench",
        opened_by="bench",
        objective="Look",
        inputs={},
        grants=[],
        tools={},
        ceiling="internal",
        budget_calls=1,
        deadline=utc_now() + timedelta(minutes=5),
        leases=[LeaseLine(name="orders", target="orders", scope=_TABLE)],
    )
    return (await tasks.move((await tasks.open(opened)).id, TaskState.ACTIVE, by="bench")).id

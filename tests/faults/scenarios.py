"""The scenarios of the fault run. Each works with a folder of its own, makes trouble, mends it, and counts in the morning."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from remit.errors import RemitError
from remit.logic.records import decode
from remit.model.lease_record import LeaseRevoked
from remit.model.task import TaskState
from tests.faults.parts import NO_QUOTAS, Line, Wire, killed_often, morning, own_roles, tried
from tests.lease_nodes import SCOPE, Working, target, working

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from tests.servers.postgres import PostgresTarget

_TOGETHER = 8
_HALF = 0.5


async def kills(server: PostgresTarget, folder: Path, size: int) -> Line:
    """kill -9, three nodes side by side on one store."""
    return await killed_often(folder, target(server), SCOPE, size, own_roles(server, folder), 3)


async def down(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The target is killed while tasks end, and comes back."""
    standing = own_roles(server, folder)
    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        await _together(node.parts.leases.have(task.id, "orders") for task in tasks)
        with server.root() as root:
            root.execute("CHECKPOINT")  # these stand after a crash, and what comes now may be forgotten in it
        tasks.append(await node.open())
        await node.parts.leases.have(tasks[-1].id, "orders")
        ending = asyncio.gather(*(tried(node, task) for task in tasks[: size // 2]))
        await asyncio.to_thread(server.stop)
        await ending
        await asyncio.gather(*(tried(node, task) for task in tasks[size // 2 :]))
        await tried(node, await node.open())
        await asyncio.to_thread(server.start)
    stood = len(standing())
    return Line(
        what="the target goes down while tasks end",
        tried=f"{size} tasks",
        stood=stood,
        left=await morning(folder, target(server), standing),
    )


async def slow(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Each message takes its time, and the node stops in the middle of it."""
    standing = own_roles(server, folder)
    async with Wire(server.port, delay_seconds=0.05).open() as wire:
        url = server.url.replace(str(server.port), str(wire.port))
        async with working(folder, target(server, url=url)) as node:
            tasks = [await node.open() for _ in range(size)]
            working_on = [asyncio.create_task(tried(node, task)) for task in tasks]
            await asyncio.wait(working_on, timeout=0.5)
    stood = len(standing())
    return Line(
        what="a slow target, given up in the middle",
        tried=f"{size} tasks",
        stood=stood,
        left=await morning(folder, target(server), standing),
    )


async def cut(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The connection breaks after any byte, of what is asked or of what is answered."""
    standing, chance = own_roles(server, folder), random.Random(3)
    async with Wire(server.port, breaks_after=lambda: chance.randrange(400, 6_000)).open() as wire:
        url = server.url.replace(str(server.port), str(wire.port))
        async with working(folder, target(server, url=url)) as node:
            for _ in range(0, size, _TOGETHER):
                tasks = [await node.open() for _ in range(_TOGETHER)]
                await asyncio.gather(*(tried(node, task) for task in tasks))
    stood = len(standing())
    left = await morning(folder, target(server), standing)
    return Line(what="connections that break after any byte", tried=f"{size} tasks, {wire.broken} broke", stood=stood, left=left)


async def read_only(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The target takes no changes for a while."""
    standing = own_roles(server, folder)

    def reads_only(how: str) -> None:
        with server.root() as root:
            root.execute("SET default_transaction_read_only = off")
            root.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}".encode())
            root.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)

    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        await _together(node.parts.leases.have(task.id, "orders") for task in tasks)
        reads_only("on")
        try:
            await asyncio.gather(*(tried(node, task) for task in tasks))
            await tried(node, await node.open())
        finally:
            reads_only("off")
    stood = len(standing())
    return Line(what="a target that only reads", tried=f"{size} tasks", stood=stood, left=await morning(folder, target(server), standing))


async def no_connections(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Others hold all connections of the target."""
    standing = own_roles(server, folder)
    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        await _together(node.parts.leases.have(task.id, "orders") for task in tasks)
        await _disconnect(node)
        with contextlib.ExitStack() as held:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    held.enter_context(server.root())
            await asyncio.gather(*(tried(node, task) for task in tasks))
            await tried(node, await node.open())
            stood = len(await asyncio.to_thread(_roles_through, held, standing))
    left = await morning(folder, target(server), standing)
    return Line(what="a target without a free connection", tried=f"{size} tasks", stood=stood, left=left)


def _roles_through(held: contextlib.ExitStack, standing: Callable[[], set[str]]) -> set[str]:
    held.close()
    return standing()


async def restored(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The target's own files are put back to a state in which credentials stood that are gone since."""
    standing, backup = own_roles(server, folder), folder / "backup"
    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        await _together(node.parts.leases.have(task.id, "orders") for task in tasks)
        await _disconnect(node)
        await asyncio.to_thread(server.stop, mode="fast")
        subprocess.run(["cp", "-a", server.folder, str(backup)], check=True)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*(tried(node, task) for task in tasks))
        await node.settle()
        await _disconnect(node)
        assert standing() == set()
        await asyncio.to_thread(server.stop, mode="fast")
        shutil.rmtree(server.folder)
        subprocess.run(["cp", "-a", str(backup), server.folder], check=True)
        await asyncio.to_thread(server.start)
    stood = len(standing())
    left = await morning(folder, target(server), standing)
    return Line(what="the target is restored from an old backup", tried=f"{size} credentials back", stood=stood, left=left)


async def store_locked(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Another process holds the store's lock longer than anybody waits for it."""
    standing = own_roles(server, folder)
    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        await _together(node.parts.leases.have(task.id, "orders") for task in tasks[: size // 2])
        other = sqlite3.connect(folder / "remit.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        doing = asyncio.gather(*(tried(node, task) for task in tasks))
        await asyncio.sleep(0.2 if size < _TOGETHER else 11)
        other.execute("ROLLBACK")
        other.close()
        await doing
    stood = len(standing())
    return Line(what="the store is locked", tried=f"{size} tasks", stood=stood, left=await morning(folder, target(server), standing))


async def store_full(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The disk of the store is full: a process that may not make files any larger."""
    standing = own_roles(server, folder)
    process = multiprocessing.get_context("fork").Process(target=_work_on_a_full_disk, args=(folder, server, size))
    process.start()
    await asyncio.to_thread(process.join, 120)
    process.kill()
    stood = len(standing())
    left = await morning(folder, target(server), standing)
    return Line(what="the store's disk is full", tried=f"{size} tasks", stood=stood, left=left)


def _work_on_a_full_disk(folder: Path, server: PostgresTarget, size: int) -> None:
    async def work() -> None:
        async with working(folder, target(server)) as node:
            tasks = [await node.open() for _ in range(size)]
            await asyncio.gather(*(tried(node, task, ends=False) for task in tasks[: size // 2]))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            largest = max(path.stat().st_size for path in folder.glob("remit.db*"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 8_192, resource.RLIM_INFINITY))
            await asyncio.gather(*(tried(node, task) for task in tasks))

    asyncio.run(work())


async def clock_steps(server: PostgresTarget, folder: Path, size: int) -> Line:
    """The clock jumps both ways, by seconds and by hours, while credentials are made and go."""
    standing, chance = own_roles(server, folder), random.Random(5)
    async with working(folder, target(server)) as node:
        opened = [await node.open() for _ in range(_TOGETHER)]
        await _together(node.parts.leases.have(task.id, "orders") for task in opened)
        stood = len(standing())
        for _ in range(0, size, _TOGETHER):
            tasks = [await node.open() for _ in range(_TOGETHER)]
            opened += tasks
            doing = [asyncio.create_task(tried(node, task, ends=chance.random() < _HALF)) for task in tasks]
            for _ in range(4):
                node.ahead = timedelta(seconds=chance.choice((-7_200, -90, -5, 0, 5, 90, 7_200)))
                await asyncio.sleep(0.005)
                with contextlib.suppress(RemitError):
                    await node.parts.revocations.sweep_once()
            await asyncio.gather(*doing)
        node.ahead = timedelta(0)
        for task in opened:
            await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.reconciliation.target("orders")  # as a node does when its clock goes back
    left = await morning(folder, target(server), standing)
    return Line(what="the clock steps both ways", tried=f"{len(opened)} tasks", stood=stood, left=left)


async def two_nodes(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Two nodes on one PostgreSQL store race for each revocation: one record each, whoever was first."""
    standing = own_roles(server, folder)
    url = f"postgresql://postgres:{server.password}@127.0.0.1:{server.port}/other"  # the store beside the target, in another database
    async with working(folder, target(server), url=url) as one, working(folder, target(server), url=url) as two:
        tasks = [await one.open() for _ in range(size)]
        await _together(one.parts.leases.have(task.id, "orders") for task in tasks)
        stood = len(standing())
        for task in tasks:
            await one.tasks.end(task.id, TaskState.COMPLETED, by="alice")
            for node in (one, two):
                node.parts.revocations.begin(task.id, claim=node is two)
        await asyncio.gather(*(node.parts.revocations.catch_up(60) for node in (one, two)))
        async with asyncio.timeout(60):  # what one of them has claimed is its own to do
            while await one.store.live_leases("", "", 1):
                await asyncio.sleep(0.05)
        records = [decode(entry.body).body for start in range(0, 20 * size, 1_000) for entry in await one.store.entries(start, 1_000)]
        revoked = sum(isinstance(body, LeaseRevoked) for body in records)
    left = await morning(folder, target(server), standing, url=url) + abs(revoked - size)
    return Line(what="two nodes race for each revocation", tried=f"{size} leases, {revoked} records", stood=stood, left=left)


async def owners(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Roles that own tables, in two databases."""
    standing = own_roles(server, folder)
    with server.root() as root, server.root("other") as other:
        for db in (root, other):
            db.execute("CREATE SCHEMA IF NOT EXISTS theirs")
        async with working(folder, target(server)) as node:
            tasks = [await node.open() for _ in range(size)]
            for task in tasks:
                role = (await node.parts.leases.have(task.id, "orders")).parts["user"]
                for db in (root, other):
                    db.execute(f"CREATE TABLE theirs.{role} (id int)".encode())
                    db.execute(f"ALTER TABLE theirs.{role} OWNER TO {role}".encode())
            stood = len(standing())
            await asyncio.gather(*(tried(node, task) for task in tasks))
        left = await morning(folder, target(server), standing)
        for db in (root, other):
            found = db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'theirs'").fetchone()
            left += found[0] if found else 0
    return Line(what="roles that own tables in two databases", tried=f"{size} owners", stood=stood, left=left)


async def reconnecting(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Holders that log in again and again while their credential is revoked."""
    standing, stop, logins = own_roles(server, folder), threading.Event(), [0]

    def hold(url: str) -> None:
        while not stop.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as db:
                logins[0] += 1
                db.execute("SELECT pg_sleep(0.01)")

    async with working(folder, target(server)) as node:
        tasks = [await node.open() for _ in range(size)]
        minted = [await node.parts.leases.have(task.id, "orders") for task in tasks]
        holders = [threading.Thread(target=hold, args=(one.parts["url"],)) for one in minted for _ in range(2)]
        for holder in holders:
            holder.start()
        await asyncio.sleep(0.2)
        stood = len(standing())
        await asyncio.gather(*(tried(node, task) for task in tasks))
        await node.parts.revocations.catch_up(20)
        left = await morning(folder, target(server), standing)
        with server.root() as root:
            found = root.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = ANY (%s)", ([one.parts["user"] for one in minted],))
            left += found.fetchone()[0]  # type: ignore[index]  # a count has a row
        stop.set()
        for holder in holders:
            await asyncio.to_thread(holder.join)
    return Line(what="revoked holders that keep reconnecting", tried=f"{size} leases, {logins[0]} logins", stood=stood, left=left)


async def below(server: PostgresTarget, folder: Path, size: int) -> Line:
    """Many children of one task, which is suspended."""
    standing = own_roles(server, folder)
    async with working(folder, target(server, connections=8), limits=NO_QUOTAS) as node:
        root = await node.open()
        children = [await node.delegate(root) for _ in range(size)]
        await _together(node.parts.leases.have(child.id, "orders") for child in children)
        stood = len(standing())
        await node.tasks.move(root.id, TaskState.SUSPENDED, by="alice")
        began = time.perf_counter()
        await node.subtrees.follow()
        recorded = time.perf_counter() - began
        while standing():
            await node.parts.revocations.catch_up(60)
        gone = time.perf_counter() - began
        left = len(standing())
    words = f"{size} children, {recorded:.1f} s recorded, {gone:.1f} s gone"
    return Line(
        what="a task with many children is suspended", tried=words, stood=stood, left=left + await morning(folder, target(server), standing)
    )


async def _disconnect(node: Working) -> None:
    """Have every connection to the target made anew."""
    await node.parts.targets.close()  # opened again at the next use


async def _together(doing: Iterable[Awaitable[object]]) -> None:
    work = list(doing)
    for start in range(0, len(work), _TOGETHER):
        await asyncio.gather(*work[start : start + _TOGETHER])

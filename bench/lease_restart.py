"""A node starts where 10,000 leases live on a real PostgreSQL: how soon it is ready, and what it asks of the target when all are due."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import BANK, row, write_folder
from remit.node import Node, open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers
from tests.lease_nodes import fill
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Callable

_TASKS, _EACH = 1_000, 10
_STARTS = 5
_CONNECTIONS = 4
_LOOK_SECONDS = 0.05
_ACTING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remit'"


async def main() -> None:
    """Print the figures."""
    count = _TASKS * _EACH
    print(f"a start with {count:,} live leases on PostgreSQL, {_CONNECTIONS} connections configured")
    with postgres_target() as server, tempfile.TemporaryDirectory() as place:
        bare = await _ready_seconds(await _folder(Path(place) / "bare", server))
        living, due = await _folder(Path(place) / "living", server), await _folder(Path(place) / "due", server)
        hour = timedelta(hours=1)
        await _fill(living, server, datetime.now(UTC) + hour)
        full = await _ready_seconds(living)
        row("ready without a lease, and with none of them due", f"{bare * 1e3:.0f}, {full * 1e3:.0f} ms")
        await _fill(due, server, datetime.now(UTC) - hour)
        began = time.perf_counter()
        async with open_node(due, deciding=True) as node:
            node.start()
            ready = time.perf_counter() - began
            most, gone = await _watched(node, server)
        row("ready with all of them due", f"{ready:.2f} s", "seconds")
        row("the most connections that the target saw of remit", f"{most}", f"≤ {_CONNECTIONS}")
        row("until all were gone", f"{gone:.0f} s")


async def _ready_seconds(folder: Path) -> float:
    taken = []
    for _ in range(_STARTS):
        began = time.perf_counter()
        async with open_node(folder, deciding=True) as node:
            node.start()
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def _watched(node: Node, server: PostgresTarget) -> tuple[int, float]:
    """The most connections that were seen until no lease was left, and how long that took."""
    began, most = time.perf_counter(), 0
    with server.root() as root:
        while await node.store.live_leases("", "", 1):
            found = root.execute(_ACTING).fetchone()
            most = max(most, found[0] if found else 0)
            await asyncio.sleep(_LOOK_SECONDS)
    return most, time.perf_counter() - began


async def _fill(folder: Path, server: PostgresTarget, deadline: datetime) -> None:
    async with open_node(folder) as node:
        leases = await fill(node.store, _TASKS, _EACH, deadline)
        mark: Callable[[str], str] = node.leases.targets.mark
        with server.root() as root, root.transaction():
            for lease in leases:
                root.execute(f"CREATE ROLE {mark(lease)} LOGIN".encode())


async def _folder(folder: Path, server: PostgresTarget) -> Path:
    write_folder(folder, f'command = "{sys.executable}"\nargs = ["{BANK}", "--stdio"]')
    await pin_servers(load_configuration(folder), ["bank"], only_new=True)
    secret = folder / "root.secret"
    secret.write_text(server.password)
    secret.chmod(0o600)
    target = f'[targets.orders]\nkind = "postgresql"\nurl = "{server.url}"\nsecret_file = "{secret}"\nconnections = {_CONNECTIONS}\n'
    with (folder / "remit.toml").open("a") as file:
        file.write(target)
    return folder

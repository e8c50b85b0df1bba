"""Services of one process that hold leases, on a real store: what the tests, the fault run and the benchmark of leases work with."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from remit.drivers.keys import load_or_make_keys
from remit.drivers.targets.base import TargetSettings
from remit.logic.checkpoint import Checkpoint, sign_checkpoint
from remit.logic.life import fold
from remit.logic.records import encode, leaf_hash
from remit.model.delegation_record import PurseLine, TaskDelegated
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseLine
from remit.model.record import Body, Record, TaskMoved, TaskOpened
from remit.model.task import TaskState
from remit.node import new_id
from remit.node_leases import LeaseParts, lease_parts, new_lease
from remit.services.delegation import _opening
from remit.services.standing import Standing
from remit.services.subtrees import Subtrees
from remit.services.task_rows import lease_row, task_row
from remit.services.tasks import Tasks
from remit.settings import Limits
from remit.store.database import Append
from remit.store.postgres import PostgresStore
from remit.store.sqlite import SqliteStore
from tests.support import AGENT, ORIGIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from remit.model.task import Task
    from remit.store.database import Store
    from tests.servers.postgres import PostgresTarget

SCOPE = '{"tables":[{"allow":["select"],"schema":"public","table":"orders"}]}'
KEY = Ed25519PrivateKey.generate()
MINUTES = 5


@dataclass
class Working:
    """Services of one process. ``ahead``: how far its clock is. ``url``: of its store on PostgreSQL, instead of a file in the folder."""

    folder: Path
    targets: dict[str, TargetSettings]
    ahead: timedelta = timedelta(0)
    limits: Limits = field(default_factory=Limits)
    url: str = ""
    parts: LeaseParts = field(init=False)

    def __post_init__(self) -> None:
        self.store: Store = PostgresStore(self.url, _sign) if self.url else SqliteStore(self.folder / "remit.db", _sign)
        self.tasks = Tasks(self.store, self.clock, new_id, 1_000, Standing(self.store, self.clock))
        keys = load_or_make_keys(self.folder / "keys")
        configured = lambda: self.targets
        self.parts = lease_parts(store=self.store, tasks=self.tasks, keys=keys, clock=self.clock, configured=configured, limits=self.limits)
        self.subtrees = Subtrees(self.store, self.tasks)

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def _deadline(self) -> datetime:
        return self.clock() + timedelta(minutes=MINUTES)

    async def open(self, *targets: str, scope: str = SCOPE) -> Task:
        opened = _opened(targets or ("orders",), scope, self._deadline())
        return await self.tasks.move((await self.tasks.open(opened)).id, TaskState.ACTIVE, by="dispatcher")

    async def delegate(self, parent: Task, *targets: str) -> Task:
        """An active child with leases of its own, in the records that ``services/delegation.py`` makes."""
        child, ancestors = new_id("task"), [parent.id, *parent.ancestors]
        opened = replace(_opened(targets or ("orders",), SCOPE, self._deadline()), ancestors=ancestors, chain=[AGENT.text] * len(ancestors))
        body = TaskDelegated(child=child, agent=AGENT.text, request=child, by=AGENT.text, lent=PurseLine())
        await self.tasks.change(parent.id, lambda _task, _now: (body, None), beside=lambda _, now: _opening(child, opened, now))
        return await self.tasks.view(child)

    async def settle(self, sweeps: int = 20) -> None:
        for _ in range(sweeps):
            await self.parts.revocations.sweep_once()
            while self.parts.revocations._workers:
                await asyncio.wait(list(self.parts.revocations._workers.values()))
            if not await self.store.live_leases("", "", 1):
                return

    async def close(self) -> None:
        await self.parts.close()
        await self.store.close()


def target(server: PostgresTarget, name: str = "orders", **changes: Any) -> TargetSettings:
    values = {"url": changes.pop("url", server.url), "sessions": 10}
    return TargetSettings(name=name, kind="postgresql", values=values, secret=server.password, **changes)


@contextlib.asynccontextmanager
async def working(folder: Path, *targets: TargetSettings, **named: Any) -> AsyncIterator[Working]:
    made = Working(folder, {one.name: one for one in targets}, **named)
    try:
        yield made
    finally:
        await made.close()


def roles(server: PostgresTarget) -> set[str]:
    with server.root() as root:
        return {row[0] for row in root.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall()}


async def fill(store: Store, tasks: int, each: int, deadline: datetime) -> list[str]:
    """Tasks with leases in use, straight into a store; the leases. What stands on a target under their marks is the caller's to make."""
    at, leases = min(deadline, datetime.now(UTC)) - timedelta(minutes=MINUTES), []
    for _ in range(tasks):
        name, own = new_id("task"), [new_lease() for _ in range(each)]
        bodies: list[Body] = [_opened(("orders",), SCOPE, deadline), TaskMoved(to=TaskState.ACTIVE.value, by="dispatcher")]
        for lease in own:
            bodies += [LeaseIntended(lease=lease, name="orders", target="orders", mark="", expires_at=deadline), LeaseIssued(lease=lease)]
        appends: list[Append] = []
        task: Task | None = None
        for number, body in enumerate(bodies, 1):
            record = Record(at=at, body=body, task=name, seq=number)
            data = encode(record)
            after = task.leaf if task is not None else b""
            task = fold(task, record, leaf_hash(data))
            rows = [task_row(task), *(lease_row(task, lease) for lease in task.leases.values())] if number == len(bodies) else []
            appends.append(Append(body=data, task=name, seq=number, after=after, rows=tuple(rows)))
        await store.append(structs.replace(appends[0], also=tuple(appends[1:])))
        leases += own
    return leases


def _opened(targets: tuple[str, ...], scope: str, deadline: datetime) -> TaskOpened:
    return TaskOpened(
        type="look",
        agent=AGENT.text,
        on_behalf_of="alice",
        opened_by="dispatcher",
        objective="Look",
        inputs={},
        grants=[],
        tools={},
        ceiling="internal",
        budget_calls=1,
        deadline=deadline,
        leases=[LeaseLine(name=name, target=name, scope=scope) for name in targets],
    )


def _sign(size: int, root: bytes) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), KEY)

"""Leases from a seed: nodes on one store file, targets that fail in every way, crashes between any two steps; then quiet, and a count.

What is real: the store, ``Tasks``, ``Subtrees``, ``Leases``, ``LeaseRotation``, ``Revocations``, ``Reconciliation``. What is simulated:
the targets (all they keep is in ``SimulatedTarget.standing``), clocks, who goes next, and what goes wrong. A mint that was sent is on its
way whatever becomes of its sender: it arrives within ``MINT_SECONDS`` of the target's clock, or never.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from remit.drivers.sealing import Sealer
from remit.drivers.targets.base import MINT_SECONDS, Minted, Setting, TargetKind, TargetSettings
from remit.errors import Broken, Conflict, Mistake, Outage, RemitError
from remit.logic.leases import in_use
from remit.logic.records import decode
from remit.model.delegation_record import PurseLine, TaskDelegated
from remit.model.lease import LeaseState
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseLine, LeaseRevoked, LeaseRevoking, LeaseStuck, LeaseSwept
from remit.model.record import TaskMoved, TaskOpened
from remit.model.task import TaskState
from remit.services.delegation import _opening
from remit.services.lease_rotation import LeaseRotation
from remit.services.leases import Leases, Quotas, open_credential
from remit.services.reconciliation import Reconciliation
from remit.services.revocations import Revocations
from remit.services.standing import Standing
from remit.services.subtrees import Subtrees
from remit.services.target_secrets import TargetSecrets
from remit.services.targets import Targets
from remit.services.tasks import Tasks
from remit.store.sqlite import SqliteStore
from tests.simulation.checks import folded
from tests.simulation.schedule import Schedule, SimulatedLoop, spawn
from tests.simulation.store import Durable, Faults, SimulatedStore
from tests.simulation.world import sign
from tests.support import AGENT, Clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remit.model.record import Body
    from remit.model.task import Task
    from remit.store.database import Append

STEPS, TASKS_MAX, UNDER_WAY_MAX = 260, 8, 8
TARGETS = ("orders", "mail")
ROTATED_AFTER = timedelta(seconds=30)
_QUIET_STEPS_MAX = 20_000
_SWEEPS = 140
SECRET = "leased-secret-of-"
_SEALER = Sealer(b"s" * 32)


@dataclass
class SimulatedTarget:
    """One system that has credentials. ``standing``: its catalog."""

    name: str
    schedule: Schedule
    clock: Clock
    down: bool = False
    trouble: float = 0.0  # how often an answer is lost, from 0 to 1
    standing: dict[str, datetime] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    backup: dict[str, datetime] = field(default_factory=dict)
    double: list[str] = field(default_factory=list)

    async def mint(self, mark: str, scope: dict[str, Any], expires_at: datetime) -> Minted:
        """See Target. What is on its way is nobody's any more."""
        del scope
        sent = self.clock()
        if self.down:
            raise Outage("simulated: target is down", code="target_unavailable", unsent=True)
        delivery = asyncio.ensure_future(self._arrives(mark, sent, expires_at))
        delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(delivery)
        await self.schedule.gate(f"{self.name} answers a mint")
        if self.schedule.random.random() < self.trouble:
            raise Outage("simulated: minted, but who knows", code="target_unavailable")
        return Minted(parts={"password": SECRET + mark}, secret=frozenset({"password"}))

    async def _arrives(self, mark: str, sent: datetime, expires_at: datetime) -> None:
        await self.schedule.gate(f"a mint of {mark} arrives at {self.name}")
        if self.down or abs((self.clock() - sent).total_seconds()) > MINT_SECONDS:
            raise Outage("simulated: lost on the way", code="target_unavailable")
        if mark in self.ever:
            self.double.append(mark)
        if self.schedule.random.random() < self.trouble / 3:
            raise Mistake("simulated: refused", code="target_refused")
        self.standing[mark] = expires_at
        self.ever.add(mark)

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        if minted is not None:
            assert minted.parts["password"] == SECRET + mark
        await self.schedule.gate(f"{self.name} revokes {mark}")
        chance = self.schedule.random.random()
        if self.down or chance < self.trouble / 2:
            raise Outage("simulated: target is down", code="target_unavailable")
        if chance < self.trouble:
            raise Mistake("simulated: not this one, not now", code="target_refused")
        there = self.standing.pop(mark, None) is not None
        if self.schedule.random.random() < self.trouble:
            raise Outage("simulated: revoked, but who knows", code="target_unavailable")
        return there

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        await self.schedule.gate(f"{self.name} lists")
        if self.down:
            raise Outage("simulated: target is down", code="target_unavailable")
        listed = frozenset(mark for mark in self.standing if mark.startswith(prefix))
        await self.schedule.gate(f"{self.name} has listed")
        return listed

    async def check(self) -> tuple[Any, ...]:
        """See Target."""
        return ()

    async def close(self) -> None:
        """See Target."""


@dataclass(slots=True)
class LeaseParts:
    """What a run is built from; a mutant puts a worse one in its place."""

    leases: type[Leases] = Leases
    revocations: type[Revocations] = Revocations
    tasks: type[Tasks] = Tasks
    subtrees: type[Subtrees] = Subtrees
    sweeps: bool = True


@dataclass(slots=True, eq=False)
class LeaseNode:
    """One process. ``skew``: how far its clock is off."""

    name: str
    inner: SqliteStore
    store: SimulatedStore
    clock: Any
    tasks: Tasks
    targets: Targets
    leases: Leases
    revocations: Revocations
    reconciliation: Reconciliation
    rotation: LeaseRotation
    subtrees: Subtrees
    mark: int
    skew: list[float]
    doing: dict[asyncio.Task[Any], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a run showed."""

    seed: int
    wrong: tuple[str, ...]
    counts: Counter[str]
    trace: tuple[str, ...]

    def __str__(self) -> str:
        found = "\n".join(f"  - {line}" for line in self.wrong[:20])
        return f"seed {self.seed} of the leases shows:\n{found}\nlast steps:\n  " + "\n  ".join(self.trace[-80:])


def simulate_leases(seed: int, parts: LeaseParts | None = None, *, steps: int = STEPS) -> Count:
    """Run one seed in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(_simulated(seed, Path(folder) / "remit.db", parts or LeaseParts(), steps))


async def _simulated(seed: int, path: Path, parts: LeaseParts, steps: int) -> Count:
    run, loop = _Run(seed, path, parts, steps), cast("SimulatedLoop", asyncio.get_running_loop())
    loop.schedule = run.schedule
    try:
        return await run.run()
    finally:
        loop.schedule = None
        await run.close()


def simulate_late_mint() -> tuple[int, int]:
    """A node crashes when its mint is on its way, the task ends, another node revokes, and only then the mint arrives: how many
    credentials stand then, and how many are left in the end, by the sweeper alone.
    """

    async def late(path: Path) -> tuple[int, int]:
        run, loop = _Run(1, path, LeaseParts(), 0), cast("SimulatedLoop", asyncio.get_running_loop())
        loop.schedule = run.schedule
        try:
            return await run.late_mint()
        finally:
            loop.schedule = None
            await run.close()

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(late(Path(folder) / "remit.db"))


class _Run:
    def __init__(self, seed: int, path: Path, parts: LeaseParts, steps: int) -> None:
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.path, self.parts, self.steps = path, parts, steps
        self.clock, self.durable, self.faults = Clock(), Durable(), Faults()
        self.watching = SqliteStore(path, sign)
        self.targets = {name: SimulatedTarget(name, self.schedule, self.clock) for name in TARGETS}
        self.nodes: list[LeaseNode] = []
        self.opened: list[str] = []
        self.lasts = self.random.choice((timedelta(minutes=5), timedelta(hours=2)))
        self.sizes: dict[str, int] = {}  # by mark: how much of the ledger was durable when the target was first asked
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.restored = self.stepped = self.slow = False
        self.numbers, self.names = itertools.count(1), itertools.count(1)

    async def run(self) -> Count:
        for _ in range(self.random.randint(2, 3)):
            self._start()
        for _ in range(2):
            self._do(self.nodes[0], "opens", self._open(self.nodes[0]))
        await self._quiet()
        rate = self.random.choice((0.0, 0.03, 0.1))
        self.faults.before = self.faults.after = rate
        self.faults.read = rate / 3
        for target in self.targets.values():
            target.trouble = self.random.choice((0.0, 0.1, 0.4))
        self.slow = self.random.random() < 0.5
        for _ in range(self.steps):
            waiting = self.schedule.waiting
            busy = sum(len(node.doing) for node in self.nodes)
            if waiting and (busy >= UNDER_WAY_MAX or self.random.random() < 0.7):
                gate = self.random.choice(waiting)
                if self.slow and " arrives at " in gate.what and self.random.random() < 0.8:
                    gate = self.random.choice(waiting)
                await self.schedule.open(gate)
            else:
                await self._something()
                await self.schedule.settle()
        await self._calm()
        await self._judge()
        return Count(seed=self.schedule.seed, wrong=tuple(self.wrong), counts=self.counts, trace=tuple(self.schedule.trace))

    async def close(self) -> None:
        for node in list(self.nodes):
            await self._stop(node)
        await self.watching.close()

    async def late_mint(self) -> tuple[int, int]:
        """See ``simulate_late_mint``."""
        minting, other = self._start(), self._start()
        self._do(minting, "opens", self._open(minting))
        await self._quiet()
        (task,) = self.opened
        self._do(minting, "needs orders", self._have(minting, task, "orders"))
        await self._quiet(held="arrives")
        await self._stop(minting)
        self._do(other, "ends it", self._end(other, task, TaskState.REVOKED))
        for _ in range(3):
            await self._quiet(held="arrives")
            self.clock.pass_by(1)
            self._do(other, "sweeps", other.revocations.sweep_once())
        await self._quiet(held="arrives")
        await self._quiet()
        stood = len(self.targets["orders"].standing)
        for _ in range(3):
            self.clock.pass_by(60)
            self._do(other, "sweeps", other.revocations.sweep_once())
            await self._quiet()
        return stood, len(self.targets["orders"].standing)

    def _start(self) -> LeaseNode:
        name, skew = f"node {next(self.names)}", [self.random.choice((0.0, 0.0, 2.0, -3.0))]

        def clock() -> datetime:
            return self.clock() + timedelta(seconds=skew[0])

        inner = SqliteStore(self.path, sign)
        store: Any = SimulatedStore(inner, self.schedule, self.durable, self.faults, name)
        tasks = self.parts.tasks(store, clock, lambda prefix: f"{prefix}_{next(self.numbers)}", 100, Standing(store, clock))
        settings = TargetSettings(name="", kind="simulated", values={}, secret="x", connections=2, rotate_after=ROTATED_AFTER)
        configured = {one: replace(settings, name=one) for one in TARGETS}
        kind = TargetKind(
            name="simulated",
            settings={"url": Setting(kind=str)},
            blank={"password": ""},
            check_settings=lambda _: None,
            check_scope=lambda _: None,
            open=lambda settings, _: cast("Any", _Asked(self, self.targets[settings.name])),
        )
        targets = Targets(lambda: configured, {"simulated": kind}, TargetSecrets(store, _SEALER, clock), "abcde")
        revocations = self.parts.revocations(tasks, store, targets, partial(open_credential, _SEALER), clock)
        new_lease = partial(self._new_lease, name.replace(" ", ""))
        quotas = Quotas(task=8, agent=24, target=24)
        leases = self.parts.leases(tasks, store, targets, revocations, _SEALER, new_lease, quotas, clock)
        node = LeaseNode(
            name,
            inner,
            store,
            clock,
            tasks,
            targets,
            leases,
            revocations,
            Reconciliation(store, targets, revocations, clock),
            LeaseRotation(tasks, leases, targets, clock),
            self.parts.subtrees(store, tasks),
            self.durable.size,
            skew,
        )
        self.nodes.append(node)
        return node

    def _new_lease(self, name: str) -> str:
        return f"lease_{name}{next(self.numbers)}".ljust(26, "x")

    async def _stop(self, node: LeaseNode) -> None:
        """Kill a node between two steps."""
        self.nodes.remove(node)
        node.store.kill()
        inside = [*node.leases._making.values(), *node.revocations._working.values(), *node.revocations._workers.values()]
        inside += [*node.revocations._beginnings, *node.rotation._under_way.values()]
        for doing in (*node.doing, *sorted(inside, key=lambda one: int(one.get_name().removeprefix("Task-")))):  # in the same order always
            doing.cancel()
        await self.schedule.settle()
        await self.schedule.work(node.inner.close())

    def _do(self, node: LeaseNode, what: str, doing: Coroutine[Any, Any, Any]) -> None:
        self.counts[what.split(" ", maxsplit=1)[0]] += 1
        self.schedule.note(f"{node.name}: {what}")

        async def guarded() -> None:
            try:
                await doing
            except Broken as error:
                self.wrong.append(f"{what} on {node.name} broke: {error}")
            except RemitError as error:
                self.counts[f"refused: {error.code}"] += 1
            except Exception as error:
                self.wrong.append(f"{what} on {node.name} ended in {error!r}")

        task = spawn(guarded())
        node.doing[task] = what
        task.add_done_callback(lambda done: node.doing.pop(done, None))

    # what anybody does

    async def _something(self) -> None:
        node, task = self.random.choice(self.nodes), self.random.choice(self.opened or ["task_none"])
        wish = self.random.choices(list(_WISHES), list(_WISHES.values()))[0]
        if wish == "open" and len(self.opened) < TASKS_MAX:
            self._do(node, "opens", self._open(node))
        elif wish == "delegate" and self.opened and len(self.opened) < TASKS_MAX:
            self._do(node, f"delegates from {task}", self._delegate(node, task))
        elif wish == "use":
            self._do(node, f"uses the credentials of {task}", node.rotation.in_use(task))
        elif wish == "rotate":
            self._do(node, f"rotates a credential of {task}", self._rotate(node, task))
        elif wish == "take below":
            self._do(node, "follows ends downwards", node.subtrees.follow())
        elif wish == "have":
            name = self.random.choice(TARGETS)
            self._do(node, f"needs {name} for {task}", self._have(node, task, name))
        elif wish == "end":
            to = self.random.choice((TaskState.COMPLETED, TaskState.REVOKED))
            self._do(node, f"ends {task}", self._end(node, task, to))
        elif wish == "have and end":
            self._do(node, f"needs orders for {task}", self._have(node, task, "orders"))
            other = self.random.choice(self.nodes)
            self._do(other, f"ends {task}", self._end(other, task, TaskState.REVOKED))
        elif wish == "rotate and revoke":
            self._do(node, f"rotates a credential of {task}", self._rotate(node, task))
            other = self.random.choice(self.nodes)
            self._do(other, f"revokes one of {task}", self._revoke(other, task))
        elif wish == "suspend":
            to = self.random.choice((TaskState.SUSPENDED, TaskState.ACTIVE, TaskState.ACTIVE))
            self._do(node, f"moves {task} to {to}", self._move(node, task, to))
        elif wish == "sweep":
            self._do(node, "sweeps", node.revocations.sweep_once())
        elif wish == "expire":
            self._do(node, "expires", node.tasks.expire_due())
        elif wish == "feed":
            self._do(node, "follows", self._feed(node))
        elif wish == "reconcile":
            self._do(node, "reconciles", node.reconciliation.target(self.random.choice(TARGETS)))
        elif wish == "revoke":
            self._do(node, "revokes one", self._revoke(node, task))
        else:
            await self._blow(wish, node)

    async def _blow(self, wish: str, node: LeaseNode) -> None:
        target = self.random.choice(list(self.targets.values()))
        self.counts[wish] += 1
        if wish == "time":
            self.clock.pass_by(self.random.choice((0.5, 5, 40, 70)))
        elif wish == "clock" and self.schedule.seed % 3 == 1:
            self.stepped = True  # a clock that runs ahead believes that a mint's window has passed: reconciliation is for that
            node.skew[0] += self.random.choice((-3_600.0, -30.0, 30.0, 900.0))
        elif wish == "down":
            target.down = not target.down
        elif wish == "crash":
            self.schedule.note(f"{node.name} crashes")
            await self._stop(node)
            self._start()
        elif wish == "backup" and self.schedule.seed % 3 == 0:
            if not target.backup:
                target.backup = dict(target.standing)
            elif any(mark not in target.standing for mark in target.backup):
                target.standing, target.backup, self.restored = dict(target.backup), {}, True
                self.counts["restored"] += 1
        elif wish == "stranger" and target.standing and self.schedule.seed % 3 == 0:
            del target.standing[self.random.choice(sorted(target.standing))]

    async def _open(self, node: LeaseNode) -> None:
        task = await node.tasks.open(self._opened(node.clock() + self.lasts))
        self.opened.append(task.id)
        await node.tasks.move(task.id, TaskState.ACTIVE, by="dispatcher")

    async def _delegate(self, node: LeaseNode, above: str) -> None:
        """A child in the records of ``services/delegation.py``."""
        child = f"task_{next(self.numbers)}"

        def build(task: Task, _: datetime) -> tuple[Body, Task]:
            if task.state is not TaskState.ACTIVE:
                raise Conflict("simulated: not active", code="task_state")
            return TaskDelegated(child=child, agent=AGENT.text, request=child, by=AGENT.text, lent=PurseLine()), task

        def beside(task: Task, now: datetime) -> tuple[Append, ...]:
            above = [task.id, *task.ancestors]
            return _opening(child, replace(self._opened(task.deadline), ancestors=above, chain=[AGENT.text] * len(above)), now)

        await node.tasks.change(above, build, beside=beside)
        self.opened.append(child)

    async def _rotate(self, node: LeaseNode, task: str) -> None:
        leases = in_use(await node.tasks.view(task))
        if leases:
            await node.leases.rotate(self.random.choice(leases).id, "alice")
            self.counts["rotated"] += 1

    def _opened(self, deadline: datetime) -> TaskOpened:
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
            leases=[LeaseLine(name=name, target=name, scope="{}") for name in TARGETS],
        )

    async def _have(self, node: LeaseNode, task: str, name: str) -> None:
        minted = await node.leases.have(task, name)
        self.counts["given"] += 1
        mark = minted.parts["password"].removeprefix(SECRET)
        truth, _ = folded(await self.watching.task_entries(task))
        if truth is None or truth.leases[node.targets.lease(mark)].issued_at is None:
            self.wrong.append(f"{mark} was given to a server before its issue was durable")

    async def _end(self, node: LeaseNode, task: str, to: TaskState) -> None:
        await node.tasks.end(task, to, by="alice")
        node.revocations.begin(task)

    async def _move(self, node: LeaseNode, task: str, to: TaskState) -> None:
        await node.tasks.move(task, to, by="alice")
        node.revocations.begin(task)

    async def _revoke(self, node: LeaseNode, task: str) -> None:
        live = [lease.id for lease in (await node.tasks.view(task)).leases.values() if lease.live]
        if live:
            await node.revocations.revoke(self.random.choice(live), "alice", "")

    async def _feed(self, node: LeaseNode) -> None:
        entries = await node.store.entries(node.mark, 500)
        node.tasks.seen(entries)
        if entries:
            node.mark = entries[-1].index + 1
        for task in dict.fromkeys(entry.task for entry in entries if entry.task):
            node.revocations.begin(task, claim=True)

    # calm, and the count

    async def _quiet(self, held: str = "") -> None:
        """Open every gate until nobody stands at one. ``held``: gates that stay shut, by a word of theirs."""
        await self.schedule.settle()
        for _ in range(_QUIET_STEPS_MAX):
            waiting = [gate for gate in self.schedule.waiting if not held or held not in gate.what]
            if not waiting:
                return
            await self.schedule.open(self.random.choice(waiting))
        self.wrong.append("never comes to an end")

    async def _calm(self) -> None:
        self.faults.before = self.faults.after = self.faults.read = 0.0
        for target in self.targets.values():
            target.down, target.trouble = False, 0.0
        for node in list(self.nodes[1:]):
            await self._stop(node)
        node = self.nodes[0]
        if self.schedule.seed % 2:
            await self._stop(node)
            node = self._start()
        node.skew[0] = 0.0
        await self._quiet()
        if self.parts.sweeps and not self.restored and not self.stepped:
            await self._suspend_above(node)
            for _ in range(_SWEEPS):
                if not await self._overdue(node):
                    break
                await self._looked_after(node)
            self.wrong += await self._overdue(node)
        self.clock.pass_by(3_600 * 3)
        for number in range(_SWEEPS if self.parts.sweeps else 0):
            await self._looked_after(node)
            if number > _SWEEPS // 2 and not await self.watching.live_leases("", "", 1):
                break
        if not self.restored and not self.stepped:
            self._count_orphans("by the sweeper alone")
        if self.parts.sweeps:
            self._do(node, "reconciles", node.reconciliation.all_targets())
            await self._quiet()
        self._count_orphans("after reconciliation")

    async def _suspend_above(self, node: LeaseNode) -> None:
        """Whatever the storm has left of trees: credentials below, and then their roots are suspended."""
        below = [task for task in [await folded_task(self.watching, one) for one in self.opened] if task.ancestors and not task.over]
        for task in below:
            self._do(node, f"needs orders for {task.id}", self._have(node, task.id, "orders"))
        await self._quiet()
        for root in sorted({task.ancestors[-1] for task in below}):
            self._do(node, f"suspends {root}", self._move(node, root, TaskState.SUSPENDED))
        await self._quiet()

    async def _looked_after(self, node: LeaseNode) -> None:
        """What a node does each second."""
        self._do(node, "follows", self._feed(node))
        self._do(node, "expires", node.tasks.expire_due())
        self._do(node, "follows ends downwards", node.subtrees.follow())
        self._do(node, "sweeps", node.revocations.sweep_once())
        await self._quiet()
        self.clock.pass_by(1)

    async def _overdue(self, node: LeaseNode) -> list[str]:
        """Credentials that stand though a task above is not active any more, or another one has come in their place."""
        truths = {task: (await folded_task(self.watching, task)) for task in self.opened}
        wrong = []
        for task in truths.values():
            above = [truths[one] for one in task.ancestors]
            for lease in task.leases.values():
                if node.targets.mark(lease.id) not in self.targets[lease.target].standing:
                    continue
                if any(one.state is not TaskState.ACTIVE for one in (task, *above)):
                    wrong.append(f"3: {lease.id} of {task.id} stands below a task that is not active")
                if lease.replaced_at is not None:
                    wrong.append(f"2: {lease.id} of {task.id} stands though another one came in its place")
        return wrong

    def _count_orphans(self, when: str) -> None:
        for target in self.targets.values():
            self.counts[f"orphans {when}"] += len(target.standing)
            self.wrong += [f"2: orphan {mark} on {target.name} {when}" for mark in target.standing]
            self.wrong += [f"{mark} was minted twice" for mark in target.double]
            target.double.clear()

    async def _judge(self) -> None:
        ledger = b""
        start = 0
        states: dict[str | None, str] = {}
        above: dict[str | None, list[str]] = {}
        used: set[str] = set()  # leases that are issued and in use
        while entries := await self.watching.entries(start, 500):
            start += len(entries)
            for entry in entries:
                ledger += entry.body
                body = decode(entry.body).body
                if isinstance(body, TaskOpened):
                    above[entry.task] = body.ancestors
                elif isinstance(body, TaskMoved):
                    states[entry.task] = body.to
                elif isinstance(body, LeaseIntended | LeaseIssued) and any(states[one] != "active" for one in above[entry.task]):
                    self.wrong.append(f"3: {body} of {entry.task} came below a task that is not active")
                if isinstance(body, LeaseIntended) and body.replaces and body.replaces not in used:
                    self.wrong.append(f"2: {body.lease} is to replace {body.replaces}, which is not in use")
                used |= {body.lease} if isinstance(body, LeaseIssued) else set()
                used -= {body.lease} if isinstance(body, LeaseRevoking) else set()
                for kind in (LeaseIntended, LeaseIssued, LeaseRevoked, LeaseStuck, LeaseSwept):
                    self.counts[kind.__name__] += isinstance(body, kind)
                if isinstance(body, LeaseIntended) and entry.index >= self.sizes.get(body.mark, 1 << 60):
                    self.wrong.append(f"1: {body.mark} was on its way before its intent was durable")
        for task in self.opened:
            truth = await folded_task(self.watching, task)
            for lease in truth.leases.values():
                row = await self.watching.lease(lease.id)
                if lease.state is not LeaseState.REVOKED or row is None or row.state != "revoked" or row.sealed:
                    self.wrong.append(f"2: lease {lease.id} of {task} is {lease.state}, its row {row}")
        if SECRET.encode() in ledger or json.dumps(SECRET).encode() in ledger:
            self.wrong.append("7: a secret is in the ledger")


async def folded_task(store: SqliteStore, task: str) -> Task:
    """A task as it is on disk."""
    truth, broken = folded(await store.task_entries(task))
    assert truth is not None, broken
    return truth


class _Asked:
    """A target as a node asks it: what was durable when it did so is noted."""

    def __init__(self, run: _Run, target: SimulatedTarget) -> None:
        self._run, self._target = run, target

    async def mint(self, mark: str, scope: dict[str, Any], expires_at: datetime) -> Minted:
        self._run.sizes.setdefault(mark, self._run.durable.size)
        return await self._target.mint(mark, scope, expires_at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


_WISHES = {
    "open": 5,
    "delegate": 6,
    "use": 4,
    "rotate": 6,
    "rotate and revoke": 4,
    "take below": 3,
    "have": 30,
    "have and end": 4,
    "end": 2,
    "suspend": 4,
    "sweep": 10,
    "expire": 2,
    "feed": 8,
    "reconcile": 4,
    "revoke": 4,
    "time": 6,
    "clock": 2,
    "down": 4,
    "crash": 5,
    "backup": 12,
    "stranger": 1,
}

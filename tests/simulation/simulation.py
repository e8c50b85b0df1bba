"""One run from a seed: anything that may happen, in any order; then quiet, and what must be true then.

A run has three parts. *Storm*: agents, operators, approvers, clocks and faults as the seed has it. *Calm*: no more faults,
everything under way comes to its end, every node is told of the whole ledger. *Morning*: every node is killed and started anew, long
after the last deadline. What was seen is judged by ``checks.py``.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from remit.model.task import TaskState
from tests.simulation.checks import folded, judge
from tests.simulation.history import History
from tests.simulation.schedule import Schedule, SimulatedLoop
from tests.simulation.world import CALLS, ENDS, STRANGER, Node, Parts, World, rulebooks

NODES_MAX = 3
TASKS_MAX = 4
UNDER_WAY_MAX = 8
STEPS = 220
WEIGHTS = (6, 6, 3, 1, 1, 4, 2, 1)  # of CALLS
_QUIET_STEPS_MAX = 4_000
_NIGHT_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run showed: what is wrong (nothing, it is hoped), what was seen, and the last steps."""

    seed: int
    wrong: tuple[str, ...]
    history: History
    ledger: bytes
    trace: tuple[str, ...]

    def __str__(self) -> str:
        found = "\n".join(f"  - {line}" for line in self.wrong[:20])
        return f"REMIT_SIMULATION_SEED={self.seed} shows:\n{found}\nlast steps:\n  " + "\n  ".join(self.trace)


def simulate(seed: int, parts: Parts | None = None, *, steps: int = STEPS) -> Outcome:
    """Run one seed in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(_simulated(seed, Path(folder) / "remit.db", parts or Parts(), steps))


async def _simulated(seed: int, path: Path, parts: Parts, steps: int) -> Outcome:
    run, loop = _Run(seed, path, parts, steps), cast("SimulatedLoop", asyncio.get_running_loop())
    loop.schedule = run.schedule
    try:
        return await run.run()
    finally:
        loop.schedule = None


class _Run:
    def __init__(self, seed: int, path: Path, parts: Parts, steps: int) -> None:
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.world = World(path, self.schedule, parts)
        self.steps = steps
        self.wrong: list[str] = []
        self.impatient = False

    async def run(self) -> Outcome:
        try:
            await self._storm()
            await self._calm()
            await self._morning()
            history = self.world.history
            entries = [
                entry for start in range(0, self.world.durable.size, 1_000) for entry in await self.world.watching.entries(start, 1_000)
            ]
            self.wrong += [*history.strange, *await judge(history, self.world.ledger, entries)]
            ledger = b"\n".join(entry.body for entry in entries)
            return Outcome(
                seed=self.schedule.seed, wrong=tuple(self.wrong), history=history, ledger=ledger, trace=tuple(self.schedule.trace)
            )
        finally:
            await self.world.close()

    # storm

    async def _storm(self) -> None:
        world, random = self.world, self.random
        for _ in range(random.randint(2, NODES_MAX)):
            self._start()
        for _ in range(2):
            self._open()
        await self._quiet()
        rate = random.choice((0.0, 0.03, 0.1, 0.3))
        world.faults.before = world.faults.after = rate
        world.faults.read = rate / 3
        self.impatient = random.random() < 0.5
        for _ in range(self.steps):
            busy = sum(len(node.doing) for node in world.nodes)
            waiting = self.schedule.waiting
            if waiting and (busy >= UNDER_WAY_MAX or random.random() < 0.75):
                await self.schedule.open(random.choice(waiting))
            else:
                await self._something()
                await self.schedule.settle()

    async def _something(self) -> None:
        """A new wish of somebody, or a blow."""
        random = self.random
        wish = random.choices(list(_WISHES), [weight for weight, _ in _WISHES.values()])[0]
        await _WISHES[wish][1](self, random.choice(self.world.nodes))

    def _start(self) -> Node:
        return self.world.start(self.random.choice((0.0, 0.0, 1.5, -2.0)), self.random.choice(rulebooks()))

    def _open(self) -> None:
        random, node = self.random, self.random.choice(self.world.nodes)
        lasts = random.choice((60.0, 300.0, 600.0))
        self.world.do(node, "opens", self.world.open(node, budget=random.randint(3, 12), uses=random.randint(1, 4), lasts=lasts))

    async def _wish_open(self, _: Node) -> None:
        if len(self.world.history.opened) < TASKS_MAX:
            self._open()

    async def _wish_call(self, node: Node) -> None:
        """One call, or the same one several times at once through several nodes."""
        random, task = self.random, self._task()
        wanted = random.choices(CALLS, WEIGHTS)[0]
        asked = [told for told in self.world.history.told if told.outcome == "ask"]
        if asked and random.random() < 0.3:  # perhaps somebody has said yes meanwhile
            told = random.choice(asked[-6:])
            task, wanted = told.task, told.call
        agent = {"agent": STRANGER} if random.random() < 0.05 else {}
        for _ in range(random.choice((1, 1, 2, 3))):
            self.world.do(node, f"calls {wanted.id} for {task}", self.world.call(node, task, wanted, **agent))
            node = random.choice(self.world.nodes)

    async def _wish_call_by_token(self, node: Node) -> None:
        if self.world.tokens:
            task, token = self.random.choice(self.world.tokens)
            wanted = self.random.choices(CALLS, WEIGHTS)[0]
            self.world.do(node, f"calls by token {wanted.id} for {task}", self.world.call(node, task, wanted, token=token))

    async def _wish_answer(self, node: Node) -> None:
        """Somebody answers a question that an agent was told of; sometimes two do, or the agent itself."""
        random = self.random
        asked = [told for told in self.world.history.told if told.outcome == "ask"]
        if asked:
            told = random.choice(asked[-6:])
            for _ in range(random.choice((1, 1, 2))):
                by = random.choice(("carol", "dave", self.world.history.opened[told.task].agent))
                granted = random.random() < 0.8
                doing = self.world.answer(node, told.approval, told.task, granted=granted, by=by)
                self.world.do(node, f"answers {told.approval}: {granted} by {by}", doing)
                node = random.choice(self.world.nodes)
            for wanted in random.choice(((told.call,), (told.call, told.call), (CALLS[1], CALLS[2]))):  # once, twice, other arguments
                self.world.do(node, f"calls again {wanted.id}", self.world.call(node, told.task, wanted))
                node = random.choice(self.world.nodes)

    async def _wish_suspend(self, node: Node) -> None:
        task, to = self._task(), self.random.choice((TaskState.SUSPENDED, TaskState.ACTIVE, TaskState.ACTIVE))
        self.world.do(node, f"moves {task} to {to}", self.world.move(node, task, to))

    async def _wish_end(self, node: Node) -> None:
        task = self._task()
        for _ in range(self.random.choice((1, 1, 2))):
            to = self.random.choice(ENDS)
            self.world.do(node, f"ends {task} as {to}", self.world.end(node, task, to))
            node = self.random.choice([node, *self.world.nodes])

    async def _wish_token(self, node: Node) -> None:
        if self.world.tokens and self.random.random() < 0.6:
            task, token = self.random.choice(self.world.tokens)
            self.world.do(node, f"shows a token of {task}", self.world.show_token(node, task, token))
        else:
            task = self._task()
            self.world.do(node, f"takes a token for {task}", self.world.take_token(node, task))

    async def _wish_feed(self, node: Node) -> None:
        if "follows the ledger" not in node.doing.values():
            self.world.do(node, "follows the ledger", self.world.feed(node))

    async def _wish_expire(self, node: Node) -> None:
        self.world.do(node, "ends what is due", self.world.expire(node))

    async def _wish_activate(self, node: Node) -> None:
        self.world.do(node, "changes its policies", self.world.activate(node, self.random.choice(rulebooks())))

    async def _wish_time(self, _: Node) -> None:
        self.world.clock.pass_by(self.random.choice((0.5, 5, 40, 40)))

    async def _wish_cancel(self, node: Node) -> None:
        """Somebody does not wait for the answer."""
        if node.doing and self.impatient:
            chosen = self.random.choice(list(node.doing))
            self.schedule.note(f"{node.name}: nobody waits any more: {node.doing[chosen]}")
            self.world.history.counts["cancelled"] += 1
            chosen.cancel()

    async def _wish_crash(self, node: Node) -> None:
        self.schedule.note(f"{node.name} crashes")
        self.world.history.counts["crashed"] += 1
        await self.world.stop(node)
        self._start()

    def _task(self) -> str:
        return self.random.choice(list(self.world.history.opened) or ["task_none"])

    # calm and morning

    async def _calm(self) -> None:
        world = self.world
        world.faults.before = world.faults.after = world.faults.read = 0.0
        self.schedule.note("calm")
        await self._quiet()
        await self._tell_all()
        await self._show_all()
        await self._end_one()
        self.wrong += await self._views("in memory")

    async def _end_one(self) -> None:
        """Every node knows all tasks by now; one of them ends one, and the others must know that too."""
        first, *_ = self.world.nodes
        for task in self.world.history.opened:
            truth, _ = folded(await self.world.watching.task_entries(task))
            if truth and not truth.over:
                self.world.do(first, f"ends {task}", self.world.end(first, task, ENDS[0]))
                break
        await self._quiet()
        await self._tell_all()
        await self._show_all()

    async def _morning(self) -> None:
        world = self.world
        self.schedule.note("morning")
        for node in list(world.nodes):
            await world.stop(node)
        world.clock.pass_by(_NIGHT_SECONDS)
        nodes = [world.start(0.0, rulebooks()[0]) for _ in range(2)]
        await self._quiet()
        await self._tell_all()
        await self._show_all()
        for task in world.history.opened:
            world.do(nodes[0], f"calls for {task} in the morning", world.call(nodes[0], task, CALLS[5]))
        await self._quiet()
        await self._tell_all()
        self.wrong += await self._views("after a restart")

    async def _tell_all(self) -> None:
        for node in self.world.nodes:
            self.world.do(node, "follows the ledger", self.world.feed(node))
        await self._quiet()

    async def _show_all(self) -> None:
        for node in self.world.nodes:
            for task, token in self.world.tokens:
                self.world.do(node, f"shows a token of {task}", self.world.show_token(node, task, token))
        await self._quiet()

    async def _quiet(self) -> None:
        """Open every gate until nobody stands at one."""
        await self.schedule.settle()
        for _ in range(_QUIET_STEPS_MAX):
            if not self.schedule.waiting:
                break
            await self.schedule.open(self.random.choice(self.schedule.waiting))
        left = [what for node in self.world.nodes for what in node.doing.values()]
        if left or self.schedule.waiting:
            self.wrong.append(f"4: never comes to an end: {left}")

    async def _views(self, which: str) -> list[str]:
        """What each node holds of each task is what the ledger folds to."""
        wrong = []
        for task in self.world.history.opened:
            truth, _ = folded(await self.world.watching.task_entries(task))
            for node in self.world.nodes:
                viewing = asyncio.ensure_future(node.tasks.view(task))
                await self._quiet()
                seen = viewing.result() if viewing.done() and not viewing.exception() else None
                if seen != truth:
                    viewing.cancel()
                    numbers = f"{seen.seq if seen else 0} for {truth.seq if truth else 0}"
                    wrong.append(f"fold: {node.name} holds another {task} {which} than the ledger: record {numbers}")
        return wrong


_WISHES = {
    "call": (30, _Run._wish_call),
    "call by token": (8, _Run._wish_call_by_token),
    "answer": (14, _Run._wish_answer),
    "token": (8, _Run._wish_token),
    "suspend": (3, _Run._wish_suspend),
    "end": (2, _Run._wish_end),
    "feed": (8, _Run._wish_feed),
    "time": (4, _Run._wish_time),
    "expire": (3, _Run._wish_expire),
    "activate": (2, _Run._wish_activate),
    "open": (3, _Run._wish_open),
    "cancel": (4, _Run._wish_cancel),
    "crash": (3, _Run._wish_crash),
}

"""Nodes on one real store file, the tools behind them, and everybody who wants something: agents, operators, approvers.

A node is what one process keeps: its connection to the store, ``Tasks``, ``Mediation``, ``Tokens`` and their memories. When it
crashes all of that is dropped and made anew on the same file. The door here is the shortest one that is honest: decide,
forward what was decided, observe; a caller that goes away while its call is under way is observed as cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remit.drivers.signing import TokenSigner
from remit.errors import Broken, RemitError
from remit.logic.arguments import make_call
from remit.logic.checkpoint import Checkpoint, Verifier, sign_checkpoint
from remit.logic.records import encode
from remit.model.call import Call, Ending
from remit.model.identity import Bearer, SpiffeId
from remit.model.record import GrantLine, PolicyActivated, Record, TaskOpened
from remit.model.task import TaskState
from remit.services.behaviour import Behaviour
from remit.services.ledger import Ledger
from remit.services.mediation import Mediation, Ticket
from remit.services.sightings import Sightings
from remit.services.standing import Standing
from remit.services.tasks import Tasks
from remit.services.tokens import Tokens
from remit.store.database import Append
from remit.store.sqlite import SqliteStore
from tests.simulation.history import Claim, Effect, History, Opened, Told, Verified
from tests.simulation.schedule import Schedule, spawn
from tests.simulation.store import Durable, Faults, SimulatedStore
from tests.support import AGENT, ORIGIN, PAY, POLICY, READ, Clock, call, rulebook

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remit.logic.rulebook import Rulebook

STRANGER = SpiffeId.parse("spiffe://remit.test/agent/stranger")
CALLS = (
    call(to="bob", amount=5),
    call(to="bob", amount=50),
    call(to="bob", amount=51),
    call(to="mallory", amount=1),
    call(to="bob"),
    call("mail/read"),
    call("mail/read", folder="spam"),
    call("bank/steal", to="bob"),
)
APPROVALS_MAX = 5
RECORDS_MAX = 400
LONGEST = timedelta(minutes=10)
ENDS = (TaskState.COMPLETED, TaskState.REVOKED)
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_STRICTER = POLICY + '@id("quiet") forbid (principal, action == Action::"bank/pay", resource) when { context.arguments.amount == 51 };'
_PAGE = 3


@cache
def rulebooks() -> tuple[Rulebook, Rulebook]:
    """Two sets of policies that a node may change between while it runs."""
    return rulebook(), rulebook(_STRICTER)


@cache
def token_signer() -> TokenSigner:
    return TokenSigner(ec.generate_private_key(ec.SECP256R1()))


def sign(size: int, root: bytes) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), _KEY)


def verifier() -> Verifier:
    return Verifier.of(ORIGIN, _KEY)


@dataclass(slots=True)
class Parts:
    """What a run is built from; a mutant puts a worse one in its place."""

    store: type[SimulatedStore] = SimulatedStore
    mediation: type[Mediation] = Mediation
    swaps_arguments: bool = False
    tells_the_feed: bool = True
    recovers: bool = True

    @property
    def name(self) -> str:
        """What is wrong with them, for the name of a test."""
        odd = [part.__name__ for part in (self.store, self.mediation) if part not in {SimulatedStore, Mediation}]
        odd += ["swaps_arguments"] * self.swaps_arguments + ["deaf"] * (not self.tells_the_feed) + ["no_recovery"] * (not self.recovers)
        return " ".join(odd)


@dataclass(slots=True, eq=False)
class Node:
    """One process: services and what it has been told of the ledger so far (``mark``)."""

    name: str
    inner: SqliteStore
    store: SimulatedStore
    tasks: Tasks
    mediation: Mediation
    tokens: Tokens
    clock: Any
    rules: Rulebook
    mark: int = 0
    doing: dict[asyncio.Task[Any], str] = field(default_factory=dict)


class World:
    """The file, the nodes on it, and what everybody does."""

    def __init__(self, path: Path, schedule: Schedule, parts: Parts) -> None:
        self.path, self.schedule, self.parts = path, schedule, parts
        self.clock, self.durable, self.faults, self.history = Clock(), Durable(), Faults(), History()
        self.watching = SqliteStore(path, sign)  # reads what is durable, past all gates
        self.ledger = Ledger(self.watching, verifier())
        self.nodes: list[Node] = []
        self.tokens: list[tuple[str, str]] = []
        self._numbers, self._names = itertools.count(1), itertools.count(1)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers)}"

    # nodes

    def start(self, skew: float, rules: Rulebook) -> Node:
        """A node with an empty memory. ``skew``: how far its clock is off, in seconds."""
        name = f"node {next(self._names)}"

        def clock() -> datetime:
            return self.clock() + timedelta(seconds=skew)

        inner = SqliteStore(self.path, sign)
        store = self.parts.store(inner, self.schedule, self.durable, self.faults, name)
        tasks = Tasks(store, clock, self.new_id, self.schedule.random.choice((1, 2, 100)), Standing(store, clock))
        node = Node(
            name=name,
            inner=inner,
            store=store,
            tasks=tasks,
            mediation=self.parts.mediation(
                tasks,
                Sightings(store, b"k" * 32, values_max=40, values_in_memory_max=60, tasks_max=2),
                Behaviour(store),
                lambda: node.rules,
                self.new_id,
                approval_ttl=timedelta(minutes=5),
                approvals_max=APPROVALS_MAX,
                records_max=RECORDS_MAX,
            ),
            tokens=Tokens(tasks, token_signer(), clock, self.new_id, issuer="http://remit.test", token_ttl=LONGEST),
            clock=clock,
            rules=rules,
            mark=self.durable.size,
        )
        self.nodes.append(node)
        if self.parts.recovers:
            self.do(node, "recovers", self.expire(node))
        return node

    async def stop(self, node: Node) -> None:
        """Kill a node between two steps."""
        self.nodes.remove(node)
        node.store.kill()
        for doing in list(node.doing):
            doing.cancel()
        await self.schedule.settle()
        await self.schedule.work(node.inner.close())

    def do(self, node: Node, what: str, doing: Coroutine[Any, Any, None]) -> None:
        """Start something on a node; whatever it answers but what it may is strange."""
        self.history.counts[what.split(" ", maxsplit=1)[0]] += 1
        self.schedule.note(f"{node.name}: {what}")

        async def guarded() -> None:
            try:
                await doing
            except Broken as error:
                self.history.strange.append(f"4: {what} on {node.name} broke: {error}")
            except RemitError as error:
                self.history.counts[f"refused: {error.code}"] += 1
            except Exception as error:
                self.history.strange.append(f"4: {what} on {node.name} ended in {error!r}")

        task = spawn(guarded())
        node.doing[task] = what
        task.add_done_callback(lambda done: node.doing.pop(done, None))

    # what agents do

    async def open(self, node: Node, *, budget: int, uses: int, lasts: float) -> None:
        """A new task, active."""
        deadline = self.clock() + timedelta(seconds=lasts)
        opened = TaskOpened(
            type="pay",
            agent=AGENT.text,
            on_behalf_of="alice",
            opened_by="dispatcher",
            objective="Pay",
            inputs={},
            grants=[
                GrantLine(kind="tool", server="bank", name="pay", uses=uses),
                GrantLine(kind="tool", server="mail", name="read"),
            ],
            tools={PAY.id: PAY.digest, READ.id: READ.digest},
            ceiling="restricted",
            budget_calls=budget,
            deadline=deadline,
        )
        made = await node.tasks.open(opened)
        self.history.opened[made.id] = Opened(task=made.id, agent=AGENT.text, deadline=deadline, budget=budget, uses=uses)
        await self.move(node, made.id, TaskState.ACTIVE)
        await self.take_token(node, made.id)

    async def call(self, node: Node, task: str, wanted: Call, *, agent: SpiffeId = AGENT, token: str = "") -> None:
        """The road of one call: decided, forwarded, observed."""
        self.history.calls[wanted.id, wanted.digest] = wanted
        bearer = await node.tokens.bearer(token) if token else Bearer(agent=agent, task=task, proof="simulated")
        began = self.durable.size
        verdict = await node.mediation.authorize(bearer, wanted)
        allowed = isinstance(verdict, Ticket)
        approval = (verdict.decision.approval or "") if isinstance(verdict, Ticket) else (verdict.approval_id or "")
        told = Told(
            decision=verdict.decision_id,
            task=bearer.task,
            call=wanted,
            outcome=type(verdict.decision).__name__.lower(),
            approval=approval,
            began=began,
            size=self.durable.size,
        )
        self.history.told.append(told)
        self.history.counts[f"told {told.outcome}"] += 1
        if isinstance(verdict, Ticket) and allowed:
            await self._forward(node, verdict)

    async def _forward(self, node: Node, ticket: Ticket) -> None:
        try:
            await self.schedule.gate(f"{node.name} forwards {ticket.decision_id}")
            ending = self.schedule.random.choice((Ending.OK, Ending.OK, Ending.TOOL_ERROR, Ending.FAILED))
            if ending is not Ending.FAILED:
                self._perform(ticket)
            await self.schedule.gate(f"{node.name} has the answer of {ticket.decision_id}")
        except asyncio.CancelledError:
            if not node.store.dead:
                await node.mediation.observe(ticket, Ending.CANCELLED)
            raise
        result = {"seen": f"value-{self.schedule.random.randint(1, 30)}"} if ending is not Ending.FAILED else None
        await node.mediation.observe(ticket, ending, result)

    def _perform(self, ticket: Ticket) -> None:
        """The tool does it."""
        made = ticket.call
        arguments = {**made.arguments, "note": "swapped"} if self.parts.swaps_arguments else made.arguments
        reached = make_call(made.kind, made.server, made.name, arguments)
        self.schedule.note(f"effect of {ticket.decision_id}")
        effect = Effect(decision=ticket.decision_id, task=ticket.bearer.task, tool=made.id, digest=reached.digest, size=self.durable.size)
        self.history.effects.append(effect)

    async def take_token(self, node: Node, task: str) -> None:
        token, _ = await node.tokens.issue(task, "simulated")
        self.tokens.append((task, token))
        jti = str(token_signer().open(token)[1]["jti"])
        self.history.claims.append(Claim(kind="issued", task=task, what=(jti,), size=self.durable.size))

    async def show_token(self, node: Node, task: str, token: str) -> None:
        began, late = node.mark, node.clock() >= self.history.opened[task].deadline
        await node.tokens.bearer(token)
        self.history.verified.append(Verified(task=task, began=began, late=late))

    # what people and remit itself do

    async def move(self, node: Node, task: str, to: TaskState) -> None:
        await node.tasks.move(task, to, by="operator")
        self.history.claims.append(Claim(kind="moved", task=task, what=(to.value,), size=self.durable.size))

    async def end(self, node: Node, task: str, to: TaskState) -> None:
        await node.tasks.end(task, to, by="operator")
        ends = tuple(state.value for state in (*ENDS, TaskState.EXPIRED))
        self.history.claims.append(Claim(kind="moved", task=task, what=ends, size=self.durable.size))

    async def answer(self, node: Node, approval: str, task: str, *, granted: bool, by: str) -> None:
        await node.tasks.answer(approval, granted=granted, by=by)
        self.history.claims.append(Claim(kind="answered", task=task, what=(approval, by), size=self.durable.size))

    async def expire(self, node: Node) -> None:
        await node.tasks.expire_due()

    async def feed(self, node: Node) -> None:
        """Tell a node what others have appended, some pages at a time (``services/feed.py``)."""
        while entries := await node.store.entries(node.mark, _PAGE):
            if self.parts.tells_the_feed:
                node.tasks.seen(entries)
            node.mark = max(node.mark, entries[-1].index + 1)

    async def activate(self, node: Node, rules: Rulebook) -> None:
        """Other policies from here on, recorded first."""
        policies = rules.policies
        activated = PolicyActivated(policy_set=policies.digest, schema=policies.schema_digest, configuration="", policies=len(policies.ids))
        await node.store.append(Append(body=encode(Record(at=node.clock(), body=activated))))
        node.rules = rules

    async def close(self) -> None:
        for node in list(self.nodes):
            await self.stop(node)
        await self.watching.close()

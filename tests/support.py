"""Builders for tests: facts, tasks, rulebooks, and a working set of services on a real store with a clock of our own."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remit.drivers.sealing import Sealer
from remit.drivers.value_sealing import ValueSealer
from remit.logic.arguments import make_call
from remit.logic.checkpoint import Checkpoint, Verifier, sign_checkpoint
from remit.logic.consent import Consent
from remit.logic.policy import Policies
from remit.logic.rulebook import Catalog, CatalogEntry, Rulebook, ServerFacts
from remit.logic.rulebook_text import rulebook_text, rules_digest
from remit.model.budget import Budget
from remit.model.catalog import Effect, Kind, PinnedTool, Sends, Trust
from remit.model.facts import Facts
from remit.model.grant import Grant
from remit.model.identity import Bearer, SpiffeId
from remit.model.labels import DataClasses
from remit.model.record import GrantLine, TaskOpened
from remit.model.task import Task, TaskState, amended
from remit.services.approvals import Approvals
from remit.services.behaviour import Behaviour
from remit.services.delegation import Delegations
from remit.services.history import History
from remit.services.ledger import Ledger
from remit.services.mediation import Mediation
from remit.services.questions import Questions
from remit.services.rules import Rules
from remit.services.sightings import Sightings
from remit.services.standing import Standing
from remit.services.subtrees import Subtrees
from remit.services.tasks import Tasks
from remit.settings import Agent, Configuration, Settings
from remit.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from remit.model.call import Call

_BUDGETS = (
    "sums",
    "rate_calls",
    "rate_seconds",
    "bytes_read",
    "resources",
    "autonomy",
    "watched",
    "manifest",
    "drift",
    "delegable",
    "leases",
    "preauthorized_seconds",
)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AGENT = SpiffeId.parse("spiffe://remit.test/agent/tester")
ORIGIN = "remit.test/ledger"
CLASSES = DataClasses()
QUESTIONS = 5
AGENTS = ("tester", "reader", "payer", "clerk")

PAY = PinnedTool(
    server="bank",
    name="pay",
    digest="sha-256:pay",
    input_schema={
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["to", "amount"],
    },
)
READ = PinnedTool(
    server="mail",
    name="read",
    digest="sha-256:read",
    input_schema={"type": "object", "properties": {"folder": {"type": "string"}}},
)
STATED = {
    "bank/pay": CatalogEntry(effect=Effect.IRREVERSIBLE, data_class="internal", trust=Trust.TRUSTED, sends=Sends.EXTERNAL),
    "mail/read": CatalogEntry(effect=Effect.READ, data_class="confidential", trust=Trust.UNTRUSTED, sends=Sends.NOWHERE),
}
POLICY = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("small") permit (principal, action == Action::"bank/pay", resource) when { context.arguments.amount < 10 && !context.untrusted };
@id("approved") permit (principal, action == Action::"bank/pay", resource) when { context has approval };
@id("never") forbid (principal, action == Action::"bank/pay", resource) when { context.arguments.to == "mallory" };
"""


def rulebook(
    policy: str = POLICY,
    *,
    tools: tuple[PinnedTool, ...] = (PAY, READ),
    entries: dict[str, CatalogEntry] | None = None,
    consent: Consent | None = None,
) -> Rulebook:
    catalog = Catalog(servers={tool.server: ServerFacts() for tool in tools}, entries=STATED if entries is None else entries)
    known = []
    for tool in tools:
        facts = catalog.facts(Kind.TOOL, tool.server, tool.name, tool)
        assert facts is not None
        known.append((facts, tool))
    pinned = {tool.id: tool for tool in tools}
    policies = Policies({"main.cedar": policy}, known)
    made = Rulebook(policies=policies, catalog=catalog, pinned=pinned, classes=CLASSES, consent=consent or Consent())
    text = rulebook_text(made, QUESTIONS)
    return replace(made, kept=rules_digest(text), kept_text=text)


def agent_id(name: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://remit.test/agent/{name}")


def grant(tool: str = "bank/pay", arguments: str = "", uses: int | None = None, kind: Kind = Kind.TOOL) -> Grant:
    server, _, name = tool.partition("/")
    return Grant(kind=kind, server=server, name=name, arguments=arguments, uses=uses)


def task(*grants: Grant, **changes: Any) -> Task:
    lines = grants or (grant("bank/pay"), grant("mail/read"))
    made = Task(
        id="task_1",
        type="pay",
        agent=AGENT,
        on_behalf_of="alice",
        objective="Pay",
        inputs={},
        grants=lines,
        tools={"bank/pay": PAY.digest, "mail/read": READ.digest},
        ceiling="restricted",
        budget=Budget(calls=10),
        opened_at=NOW,
        deadline=NOW + timedelta(minutes=10),
        state=TaskState.ACTIVE,
        uses=(0,) * len(lines),
    )
    return amended(made, **changes)


def call(tool: str = "bank/pay", kind: Kind = Kind.TOOL, **arguments: Any) -> Call:
    server, _, name = tool.partition("/")
    return make_call(kind, server, name, arguments)


def facts(of: Task, wanted: Call, rules: Rulebook, **changes: Any) -> Facts:
    made = Facts(
        now=NOW,
        agent=AGENT,
        task=of,
        call=wanted,
        tool=rules.tool(wanted.kind, wanted.server, wanted.name),
        pinned=rules.pinned.get(wanted.id) if wanted.kind is Kind.TOOL else None,
        classes=CLASSES,
    )
    return replace(made, **changes)


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class World:
    """Services of one process on a real SQLite store. Several worlds may share a file: then they are several processes."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    rules: Rulebook = field(default_factory=rulebook)
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    approvals_max: int = QUESTIONS
    sealer: ValueSealer | None = None

    def __post_init__(self) -> None:
        self.store = self.make_store()
        self.tasks = Tasks(self.store, self.clock, self.new_id, 1_000, Standing(self.store, self.clock))
        self.sightings = Sightings(self.store, b"k" * 32, values_max=1_000, values_in_memory_max=10_000, tasks_max=100)
        self.behaviour = Behaviour(self.store)
        self.questions = Questions(self.store, Sealer(b"k" * 32), self.clock)
        self.approvals = Approvals(self.store, self.tasks, lambda: self.rules, self.questions, self.clock)
        self.mediation = Mediation(
            self.tasks,
            self.sightings,
            self.behaviour,
            lambda: self.rules,
            self.new_id,
            approval_ttl=timedelta(minutes=5),
            approvals_max=self.approvals_max,
            records_max=500,
            sealer=self.sealer,
            questions=self.questions,
        )
        self.ledger = Ledger(self.store, Verifier.of(ORIGIN, self.key))
        agents = {name: Agent(name=name, spiffe_id=agent_id(name)) for name in AGENTS}
        configuration = Configuration(
            settings=Settings(folder=self.path.parent),
            classes=CLASSES,
            agents=agents,
            servers={},
            python_servers={},
            catalog=self.rules.catalog,
            task_types={},
            policies={},
            digest="",
        )
        self.subtrees = Subtrees(self.store, self.tasks)
        rules = Rules(self.store, self.clock, configuration, self.rules)
        self.delegations = Delegations(self.tasks, self.sightings, rules, self.store, self.clock, self.new_id, records_max=500)

    def make_store(self) -> Any:
        return SqliteStore(self.path, lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), self.key))

    def beside(self) -> World:
        """Another process on the same file."""
        return World(self.path, self.clock, self.rules, self.key, self.numbers, self.approvals_max, self.sealer)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self.numbers)}"

    async def open(self, *grants: Grant, **changes: Any) -> Task:
        lines = grants or (grant("bank/pay"), grant("mail/read"))
        opened = TaskOpened(
            type="pay",
            agent=AGENT.text,
            on_behalf_of=changes.get("on_behalf_of", "alice"),
            opened_by=changes.get("opened_by", "dispatcher"),
            objective=changes.get("objective", "Pay"),
            inputs=changes.get("inputs", {}),
            grants=[
                GrantLine(
                    kind=line.kind.value,
                    server=line.server,
                    name=line.name,
                    arguments=line.arguments,
                    uses=line.uses,
                    approved_values=line.approved_values,
                )
                for line in lines
            ],
            tools=changes.get("tools", {"bank/pay": PAY.digest, "mail/read": READ.digest}),
            ceiling=changes.get("ceiling", "restricted"),
            budget_calls=changes.get("budget_calls", 10),
            deadline=self.clock() + changes.get("lasts", timedelta(minutes=10)),
            **{name: changes[name] for name in _BUDGETS if name in changes},
        )
        made = await self.tasks.open(opened)
        return await self.tasks.move(made.id, TaskState.ACTIVE, by="dispatcher")

    async def activate(self, policy: str = POLICY, *, tools: tuple[PinnedTool, ...] = (PAY, READ)) -> None:
        """Put rules in force and keep their texts, as ``services/rules.py`` does."""
        self.rules = rulebook(policy, tools=tools)
        await self.store.put_document(self.rules.policies.digest, json.dumps({"main.cedar": policy}))
        await self.store.put_document(self.rules.kept, self.rules.kept_text)

    def history(self) -> History:
        return History(self.store, Verifier.of(ORIGIN, self.key), self.sealer or ValueSealer(bytes(32)))

    def bearer(self, of: Task) -> Bearer:
        return Bearer(agent=of.agent, task=of.id, proof="test")

    async def close(self) -> None:
        await self.tasks.settle()
        await self.store.close()

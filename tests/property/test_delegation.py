"""Invariant 3: a child never exceeds any task above it. A machine that delegates, calls, narrows, suspends, ends, stops and crashes in two
processes on one store, against a model that counts by itself.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from remit.errors import Refusal, RemitError
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.delegation_record import DelegableLine
from remit.model.labels import Labels
from remit.model.record import SumLine
from remit.model.task import TaskState
from remit.services.family import narrow
from remit.services.history import Share
from remit.services.mediation import Refused, Ticket
from remit.services.replay import merged_verified, verify
from tests.support import World, agent_id, call, grant, rulebook

POLICY = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("pays") permit (principal, action == Action::"bank/pay", resource);
@id("hands on") permit (principal, action == Action::"task/delegate", resource);
@id("deep clerk") forbid (principal, action, resource)
when { context.task.depth > 1 && context.task.chain.contains("spiffe://remit.test/agent/clerk") };
"""
RECEIVERS = ("reader", "payer", "clerk")
AMOUNTS = (1, 20, 60)
TOOLS = ("bank/pay", "mail/read", "bank/steal")
CALLS, USES, SUM = 12, 6, Decimal(200)


@dataclass
class Line:
    """What a line lets through, as the model sees it. ``most``: largest amount (0: no payment line)."""

    tool: str
    most: int
    uses: int | None
    of: int = -1
    used: int = 0


@dataclass
class Node:
    """A task as the model sees it: what was granted, what was done in it and below."""

    id: str
    agent: str
    parent: Node | None
    lines: list[Line]
    calls: int
    sums: Decimal
    deadline: object
    state: str = "active"
    own_calls: int = 0
    below_calls: int = 0
    paid: Decimal = Decimal()
    labels: Labels = field(default_factory=Labels)
    lent_calls: int = 0

    def chain(self):
        node = self
        while node is not None:
            yield node
            node = node.parent


class Tree(RuleBasedStateMachine):
    """Two processes, some trees, anything that may happen."""

    tasks = Bundle("tasks")

    @initialize(target=tasks)
    def begin(self):
        """A root, a child that may do all of it, and a grandchild."""
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.worlds = self.run(self._worlds())
        self.nodes: list[Node] = []
        self.stopped: set[str] = set()
        self.requests = 0
        everything = [("bank/pay", 0), ("mail/read", 0)]
        root = self.opened(0, bounded=False)
        child = self.delegated(1, root, "payer", everything, None, 8, 150)
        return multiple(root, child, self.delegated(0, child, "reader", everything, None, 3, 30))

    async def _worlds(self):
        first = World(Path(self.folder.name) / "remit.db", rules=rulebook(POLICY))
        await first.activate(POLICY)
        return [first, first.beside()]

    def run(self, work):
        return self.loop.run_until_complete(work)

    @rule(target=tasks, which=st.integers(0, 1), bounded=st.booleans())
    def open(self, which, bounded):
        return self.opened(which, bounded=bounded)

    def opened(self, which, *, bounded):
        world = self.worlds[which]
        most = {"properties": {"amount": {"maximum": 50}}}
        uses = USES if bounded else None
        try:
            made = self.run(
                world.open(
                    grant(arguments=json.dumps(most), uses=uses),
                    grant("mail/read"),
                    budget_calls=CALLS,
                    sums=[SumLine(name="paid", tool="bank/pay", argument="/amount", maximum=str(SUM))],
                    delegable=DelegableLine(to=list(RECEIVERS), depth=3, fan_out=3, lifetime_seconds=300, cycles=True),
                )
            )
        except Refusal:
            assert agent_id("tester").text in self.stopped
            return multiple()
        assert agent_id("tester").text not in self.stopped
        lines = [Line("bank/pay", 50, uses), Line("mail/read", 0, None)]
        node = Node(made.id, made.agent.text, None, lines, CALLS, SUM, made.deadline)
        self.nodes.append(node)
        return node

    @rule(
        target=tasks,
        which=st.integers(0, 1),
        above=tasks,
        receiver=st.sampled_from(RECEIVERS),
        wanted=st.lists(
            st.tuples(st.sampled_from(["bank/pay", "mail/read", "bank/steal"]), st.sampled_from([0, 10, 1_000])), min_size=1, max_size=3
        ),
        uses=st.sampled_from([None, 1, 3, 9]),
        calls=st.sampled_from([1, 3, 8]),
        amount=st.sampled_from([0, 30, 150]),
    )
    def delegate(self, which, above, receiver, wanted, uses, calls, amount):
        return self.delegated(which, above, receiver, wanted, uses, calls, amount)

    def delegated(self, which, above, receiver, wanted, uses, calls, amount):
        world = self.worlds[which]
        self.requests += 1
        asked = Wanted(
            request=f"r{self.requests}",
            agent=receiver,
            objective="Help",
            lines=tuple(
                WantedLine(
                    kind=Kind.TOOL,
                    server=tool.partition("/")[0],
                    name=tool.partition("/")[2],
                    arguments={"properties": {"amount": {"maximum": most}}} if most and tool == "bank/pay" else {},
                    uses=uses,
                )
                for tool, most in wanted
            ),
            calls=calls,
            sums={"paid": Decimal(amount)},
            lifetime=timedelta(seconds=250),
        )
        parent = self.run(world.tasks.view(above.id))
        try:
            child = self.run(world.delegations.delegate(world.bearer(parent), asked, by=parent.agent))
        except RemitError:
            return multiple()
        assert self.alive(above), "something dead was delegated"
        assert agent_id(receiver).text not in self.stopped
        lines = []
        for tool, most in wanted:
            of = next(number for number, line in enumerate(above.lines) if line.tool == tool)
            lines.append(Line(tool, most or 1_000_000, uses, of))
        node = Node(child.id, child.agent.text, above, lines, calls, Decimal(amount), child.deadline, labels=above.labels)
        above.lent_calls += calls
        assert child.labels.covers(above.labels)
        assert child.deadline <= min(one.deadline for one in above.chain())
        self.nodes.append(node)
        return node

    def alive(self, node):
        now = self.worlds[0].clock()
        return all(one.state == "active" and now < one.deadline and one.agent not in self.stopped for one in node.chain())

    @rule(which=st.integers(0, 1), of=tasks, amounts=st.lists(st.sampled_from(AMOUNTS), min_size=1, max_size=3))
    def make_calls_by_turns(self, which, of, amounts):
        self.make_calls(which, of, amounts, read=False)
        if of.parent is not None:
            self.make_calls(1 - which, of.parent, amounts, read=False)

    @rule(which=st.integers(0, 1), of=tasks, amounts=st.lists(st.sampled_from(AMOUNTS), min_size=1, max_size=3), read=st.booleans())
    def make_calls(self, which, of, amounts, read):
        """Several at once."""
        world = self.worlds[which]
        wanted = [call(to="bob", amount=amount) for amount in amounts] + ([call("mail/read")] if read else [])

        async def together():
            bearer = world.bearer(await world.tasks.view(of.id))
            answers = await asyncio.gather(*(world.mediation.authorize(bearer, one) for one in wanted), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, Ticket):
                    await world.mediation.observe(answer, Ending.OK, {})
            await world.tasks.settle()
            return answers

        for answer in self.run(together()):
            assert isinstance(answer, Ticket | Refused | RemitError)
            if isinstance(answer, Ticket):
                self.count(of, answer)

    def count(self, of, ticket):
        """An allowed call: everybody above must have let it through."""
        assert self.alive(of), "a call below something that does not live"
        tool, amount = ticket.call.id, Decimal(ticket.call.arguments.get("amount", 0))
        line = of.lines[ticket.decision.spent.grant]
        for node in of.chain():
            assert line.tool == tool
            assert amount <= line.most or not line.most
            line.used += 1
            assert line.uses is None or line.used <= line.uses, "uses overspent"
            node.below_calls += 1
            assert node.below_calls <= node.calls, "calls overspent"
            node.paid += amount
            assert node.paid <= node.sums, "a sum overspent"
            if node.parent is not None:
                line = node.parent.lines[line.of]
        of.own_calls += 1
        if tool == "mail/read":
            for node in of.chain():
                node.labels = node.labels.join(Labels(2, untrusted=True))

    @rule(which=st.integers(0, 1), of=tasks)
    def an_honest_call_passes(self, which, of):
        """Not everything is refused: what is granted, lent and alive goes through."""
        line = next((line for line in of.lines if line.tool == "mail/read"), None)
        left = of.calls - of.own_calls - of.lent_calls
        if line is None or line.uses is not None or not self.alive(of) or left <= 0:
            return
        node, above = of, line
        while node.parent is not None:
            above = node.parent.lines[above.of]
            if above.uses is not None:
                return
            node = node.parent
        if len(list(of.chain())) > 2 and any(one.agent.endswith("clerk") for one in list(of.chain())[1:]):
            return  # policy forbids it
        self.make_and_expect(which, of)

    def make_and_expect(self, which, of):
        world = self.worlds[which]

        async def once():
            answer = await world.mediation.authorize(world.bearer(await world.tasks.view(of.id)), call("mail/read"))
            if isinstance(answer, Ticket):
                await world.mediation.observe(answer, Ending.OK, {})
            await world.tasks.settle()
            return answer

        answer = self.run(once())
        assert isinstance(answer, Ticket), answer
        self.count(of, answer)

    @rule(
        which=st.integers(0, 1),
        of=tasks,
        what=st.sampled_from(["suspend", "resume", "resume", "narrow", "end", "stop", "restore", "restore"]),
        line=st.integers(0, 2),
        uses=st.sampled_from([0, 1, 2]),
    )
    def trouble(self, which, of, what, line, uses):
        world = self.worlds[which]
        try:
            if what in {"suspend", "resume"}:
                to = TaskState.SUSPENDED if what == "suspend" else TaskState.ACTIVE
                self.run(world.tasks.move(of.id, to, by="operator"))
                of.state = to.value
            elif what == "narrow":
                self.run(narrow(world.tasks, of.id, {line: uses}, by="operator", reason=""))
                assert of.lines[line].uses is None or uses < of.lines[line].uses
                of.lines[line].uses = max(uses, of.lines[line].used)  # what was done is done; from here on no more than this
            elif what == "end":
                self.run(world.tasks.end(of.id, TaskState.REVOKED, by="operator"))
                of.state = "ended"
            elif what == "stop":
                self.run(world.tasks.standing.stop([of.agent], by="operator"))
                self.stopped |= {of.agent}
            else:
                self.run(world.tasks.standing.restore([*self.stopped], by="operator"))
                self.stopped = set()
        except RemitError:
            return

    @rule(which=st.integers(0, 1))
    def follow(self, which):
        """What follows behind: no living task below an ended one, or of a stopped agent, is left; and nothing is left unsettled."""
        world = self.worlds[which]
        self.run(world.subtrees.follow())
        for node in self.nodes:
            if any(one.state == "ended" or one.agent in self.stopped for one in node.chain()):
                node.state = "ended"
        known = {
            node.id: self.run(world.tasks.view_with(node.id, lambda task: task.over and not task.children))
            for node in self.nodes
            if node.state == "ended"
        }
        assert all(task.over and not task.children for task in known.values())
        for node in self.nodes:
            living = [one for one in self.nodes if one.parent is node and one.state != "ended"]
            gone = [one for one in self.nodes if one.parent is node and one.state == "ended"]
            node.lent_calls = sum(one.calls for one in living) + sum(one.below_calls for one in gone)

    @rule(seconds=st.sampled_from([1, 100]))
    def time_passes(self, seconds):
        world = self.worlds[0]
        world.clock.pass_by(seconds)
        self.run(world.tasks.expire_due())
        for node in self.nodes:
            if world.clock() >= node.deadline:
                node.state = "ended"

    @rule(which=st.integers(0, 1))
    def crash(self, which):
        """A process loses its memory; its store stays."""
        self.run(self.worlds[which].store.close())
        self.worlds[which] = self.run(self._beside(1 - which))

    async def _beside(self, which):
        return self.worlds[which].beside()

    @invariant()
    def labels_reach_all_above(self):
        for node in getattr(self, "nodes", []):
            if node.state == "active":
                task = self.run(self.worlds[0].tasks.view_with(node.id, lambda task, node=node: task.labels.covers(node.labels)))
                assert task.labels.covers(node.labels), "what a child has read does not count above"

    def teardown(self):
        if hasattr(self, "loop"):
            report = self.run(verify(self.worlds[0].history()))
            assert not report.differs, report.found
            shares = [self.run(verify(self.worlds[0].history(), Share(number=number, of=2))) for number in range(2)]
            assert merged_verified(shares) == report
            for world in self.worlds:
                self.run(world.close())
            self.loop.close()
            self.folder.cleanup()


Tree.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestTree = Tree.TestCase

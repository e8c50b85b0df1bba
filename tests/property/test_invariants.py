"""The invariants of a task's life, against a machine that does anything in any order, in two processes on one store.

1 record first · 2 nothing outlives its task · 4 unknown means no · 5 labels only rise, budgets hold · 6 an approval opens
one call, once · 8 replay agrees.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from remit.errors import RemitError
from remit.logic.authorize import authorize
from remit.logic.life import fold
from remit.logic.records import decode, leaf_hash
from remit.model.call import Ending
from remit.model.call_record import CallDecided
from remit.model.decision import Ask
from remit.model.labels import Labels
from remit.model.task import TaskState
from remit.services.mediation import Refused, Ticket
from tests.support import World, call, facts, grant

CALLS = [
    call(to="bob", amount=5),
    call(to="bob", amount=50),
    call(to="bob", amount=51),
    call(to="mallory", amount=1),
    call("mail/read"),
    call("bank/steal", to="bob"),
]
USES, BUDGET = 3, 6


@dataclass
class Watched:
    """What we saw of a task from outside."""

    ended: bool = False
    allowed_after_end: int = 0
    labels: Labels = field(default_factory=Labels)
    answered: dict[str, str] = field(default_factory=dict)
    opened_by_approval: dict[str, int] = field(default_factory=dict)


class Life(RuleBasedStateMachine):
    """Two processes, some tasks, anything that may happen."""

    tasks = Bundle("tasks")

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.worlds = self.run(self._worlds())
        self.watched: dict[str, Watched] = {}

    async def _worlds(self):
        first = World(Path(self.folder.name) / "remit.db")
        return [first, first.beside()]

    def run(self, work):
        return self.loop.run_until_complete(work)

    @rule(target=tasks, which=st.integers(0, 1))
    def open(self, which):
        made = self.run(self.worlds[which].open(grant(uses=USES), grant("mail/read"), budget_calls=BUDGET))
        self.watched[made.id] = Watched()
        return made

    @rule(which=st.integers(0, 1), of=tasks, wanted=st.lists(st.sampled_from(CALLS), min_size=1, max_size=4))
    def make_calls(self, which, of, wanted):
        """Several at once."""
        world, seen = self.worlds[which], self.watched[of.id]

        async def together():
            answers = await asyncio.gather(*(world.mediation.authorize(world.bearer(of), one) for one in wanted), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, Ticket):
                    await world.mediation.observe(answer, Ending.OK, {})
            await world.tasks.settle()
            return answers

        for answer in self.run(together()):
            assert isinstance(answer, Ticket | Refused | RemitError)
            if isinstance(answer, Ticket):
                seen.allowed_after_end += seen.ended
                if answer.decision.approval:
                    seen.opened_by_approval[answer.decision.approval] = seen.opened_by_approval.get(answer.decision.approval, 0) + 1
            elif isinstance(answer, Refused) and isinstance(answer.decision, Ask):
                seen.answered.setdefault(str(answer.approval_id), "")

    @rule(which=st.integers(0, 1), of=tasks, granted=st.booleans())
    def answer_all(self, which, of, granted):
        seen = self.watched[of.id]
        for approval, before in list(seen.answered.items()):
            try:
                self.run(self.worlds[which].tasks.answer(approval, granted=granted, by="carol"))
            except RemitError:
                continue
            assert not before, "a question was answered twice"
            seen.answered[approval] = "granted" if granted else "denied"

    @rule(which=st.integers(0, 1), of=tasks, to=st.sampled_from([TaskState.SUSPENDED, TaskState.ACTIVE]))
    def move(self, which, of, to):
        try:
            self.run(self.worlds[which].tasks.move(of.id, to, by="operator"))
        except RemitError:
            return

    @rule(which=st.integers(0, 1), of=tasks, to=st.sampled_from([TaskState.COMPLETED, TaskState.REVOKED]))
    def end(self, which, of, to):
        ended = self.run(self.worlds[which].tasks.end(of.id, to, by="operator"))
        assert ended.over
        self.watched[of.id].ended = True

    @rule(seconds=st.sampled_from([1, 200, 400]))
    def time_passes(self, seconds):
        self.worlds[0].clock.pass_by(seconds)
        self.run(self.worlds[0].tasks.expire_due())

    @rule(which=st.integers(0, 1))
    def crash(self, which):
        """A process loses its memory; its store stays."""
        self.run(self.worlds[which].store.close())
        self.worlds[which] = self.run(self._beside(1 - which))

    async def _beside(self, which):
        return self.worlds[which].beside()

    @invariant()
    def what_the_ledger_says_holds(self):
        for task_id, seen in getattr(self, "watched", {}).items():
            entries = self.run(self.worlds[0].store.task_entries(task_id))
            task, labels, opened = None, Labels(), {}
            for entry in entries:
                record = decode(entry.body)
                assert leaf_hash(entry.body) == entry.leaf
                if isinstance(record.body, CallDecided) and task is not None:
                    self.replay(task, record)
                    if record.body.outcome == "allow" and record.body.approval:
                        opened[record.body.approval] = opened.get(record.body.approval, 0) + 1
                task = fold(task, record, entry.leaf)
                assert task.labels.covers(labels), "labels fell"
                labels = task.labels
            assert task is not None
            assert task.calls <= BUDGET
            assert task.uses[0] <= USES
            assert seen.allowed_after_end == 0, "a call was allowed after the end"
            assert all(count == 1 for count in opened.values()), "an approval opened more than one call"
            assert seen.opened_by_approval.items() <= opened.items()
            assert all(seen.answered[approval] == "granted" for approval in opened)
            known = self.run(self.worlds[1].tasks.view(task_id))
            assert known.seq <= task.seq

    def replay(self, task, record):
        """The recorded decision is recomputed to the same answer from the facts of its moment."""
        body, rules = record.body, self.worlds[0].rules
        wanted = next(one for one in CALLS if one.digest == body.arguments_digest and one.id == f"{body.server}/{body.name}")
        again = authorize(facts(task, wanted, rules, now=record.at, approvals_max=5), rules.policies)
        assert type(again).__name__.lower() == body.outcome
        assert [reason.code.value for reason in again.reasons] == [line.code for line in body.reasons]
        assert rules.policies.digest == body.policy_set

    def teardown(self):
        if hasattr(self, "loop"):
            for world in self.worlds:
                self.run(world.close())
            self.loop.close()
            self.folder.cleanup()


Life.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase

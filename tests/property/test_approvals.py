"""An approval never opens more than was said: so many calls, until then, of this task and tool, with these arguments.

A machine that asks, answers with and without widening, by one or two persons, and calls from two processes at once; what the ledger
shows afterwards is judged by the values themselves, not by the digests that the code goes by.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from remit.errors import Mistake, NotFound
from remit.logic.approvals import Bounds, Wish
from remit.logic.consent import Consent
from remit.logic.records import decode
from remit.model.approver import Approver, Scope
from remit.model.call_record import ApprovalAnswered, CallDecided
from remit.services.approvals import Person
from tests.support import World, call, grant, rulebook

POLICY = '@id("asks") permit (principal, action, resource) when { context has approval };'
CALLS = [
    call(tool, **arguments)
    for tool in ("bank/pay",)
    for arguments in (
        {"to": "bob", "amount": 1},
        {"to": "bob", "amount": 2},
        {"to": "eve", "amount": 1},
        {"to": "eve", "amount": 2, "note": "x"},
        {"to": "bob", "amount": 1, "note": "x"},
    )
] + [call("mail/read", folder="in"), call("mail/read")]
BY_DIGEST = {(one.id, one.digest): one.arguments for one in CALLS}
NAMES = ("anna", "bert", "carol")
wishes = st.builds(
    Wish,
    calls=st.integers(1, 4),
    lasts=st.sampled_from([None, timedelta(seconds=30), timedelta(minutes=20)]),
    free=st.sampled_from([(), ("note",), ("amount",), ("amount", "note"), ("to",), ("*",)]),
)
answers = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5), wishes), min_size=1, max_size=4)


class Consents(RuleBasedStateMachine):
    """Two processes on one store, two tasks, three persons."""

    @initialize(needed=st.sampled_from([1, 2]))
    def begin(self, needed):
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        approvers = tuple(Approver(name=name, scope=Scope(tools=("*",))) for name in NAMES)
        self.consent = Consent(approvers=approvers, needed=needed, bounds=Bounds(calls_max=4, lasts_max=timedelta(minutes=20)))
        self.worlds = self.run(self.make())
        of = {"budget_calls": 1_000, "lasts": timedelta(minutes=30)}
        self.tasks = [self.run(self.worlds[0].open(grant("bank/pay"), grant("mail/read"), **of)) for _ in range(2)]
        self.said: dict[str, list[tuple[str, bool, Wish]]] = {}

    async def make(self):
        first = World(Path(self.folder.name) / "remit.db", rules=rulebook(POLICY, consent=self.consent), approvals_max=100)
        return [first, first.beside()]

    def run(self, work):
        return self.loop.run_until_complete(work)

    @rule(wanted=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from(CALLS)), min_size=1, max_size=5))
    def make_calls(self, wanted):
        """Several at once, in both processes."""

        async def together():
            asked = (self.worlds[which].mediation.authorize(self.worlds[which].bearer(self.tasks[of]), one) for which, of, one in wanted)
            return await asyncio.gather(*asked, return_exceptions=True)

        for answer in self.run(together()):
            assert not isinstance(answer, BaseException), answer

    @rule(
        which=st.integers(0, 1),
        of=st.integers(0, 1),
        one=st.sampled_from(CALLS),
        answers=answers,
        more=st.lists(st.sampled_from(CALLS), max_size=6),
    )
    def ask_and_use(self, which, of, one, answers, more):
        """A question, its answers, and calls that may or may not be meant."""
        self.make_calls([(which, of, one)])
        self.answer(1 - which, answers)
        self.make_calls([(number % 2, of, wanted) for number, wanted in enumerate([one, *more])])

    @rule(which=st.integers(0, 1), answers=answers)
    def answer(self, which, answers):
        """Several persons answer the oldest open question at once."""
        world = self.worlds[which]

        async def together():
            rows = await world.approvals.pending()
            if not rows:
                return "", []
            given = (
                world.approvals.answer(self.person(name), rows[0].approval, granted=no > 0, wish=wish if no else None)
                for name, no, wish in answers
            )
            return rows[0].approval, await asyncio.gather(*given, return_exceptions=True)

        approval, results = self.run(together())
        for (name, no, wish), result in zip(answers, results, strict=False):
            if isinstance(result, BaseException):
                assert isinstance(result, Mistake | NotFound), result
            else:
                self.said.setdefault(approval, []).append((name, no > 0, wish))

    def person(self, name):
        approver = self.consent.named(name)
        assert approver is not None
        return Person(name=name, via="test", approver=approver)

    @rule(seconds=st.sampled_from([1, 10, 25, 200]))
    def time_passes(self, seconds):
        self.worlds[0].clock.pass_by(seconds)

    @rule(which=st.integers(0, 1))
    def crash(self, which):
        """A process loses its memory; its store stays."""
        self.run(self.worlds[which].store.close())
        self.worlds[which] = self.run(self.beside(1 - which))

    async def beside(self, which):
        return self.worlds[which].beside()

    @invariant()
    def nothing_opens_more_than_was_said(self):
        for of in getattr(self, "tasks", ()):
            questions, answers, opened = {}, {}, Counter()
            for entry in self.run(self.worlds[0].store.task_entries(of.id)):
                record = decode(entry.body)
                body = record.body
                if isinstance(body, ApprovalAnswered):
                    answers.setdefault(body.approval, []).append((record.at, body))
                if not isinstance(body, CallDecided) or not body.approval:
                    continue
                if body.outcome == "ask":
                    questions.setdefault(body.approval, body)
                else:
                    opened[body.approval] += 1
                    self.judge(record.at, body, questions[body.approval], answers.get(body.approval, []), opened[body.approval])

    def judge(self, at, used, question, answers, count):
        said = self.said[used.approval]
        assert len({name for name, _, _ in said}) == len(said) == len(answers) == self.consent.needed
        assert all(granted for _, granted, _ in said)
        assert (used.server, used.name, used.tool_kind) == (question.server, question.name, question.tool_kind)
        asked = BY_DIGEST[f"{question.server}/{question.name}", question.arguments_digest]
        made = BY_DIGEST[f"{used.server}/{used.name}", used.arguments_digest]
        exact = any(wish.exact for _, _, wish in said)
        wishes_of = {name: wish for name, _, wish in said}
        for answered_at, answer in answers:
            wish = wishes_of[answer.by]
            assert count <= (1 if exact else wish.calls)
            until = answered_at + wish.lasts if wish.lasts and not exact else question.approval_expires_at
            assert at < until
            if exact:
                assert made == asked
            elif "*" not in wish.free:
                assert {key: value for key, value in made.items() if key not in wish.free} == {
                    key: value for key, value in asked.items() if key not in wish.free
                }

    def teardown(self):
        if hasattr(self, "loop"):
            for world in self.worlds:
                self.run(world.close())
            self.loop.close()
            self.folder.cleanup()


Consents.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestConsents = Consents.TestCase

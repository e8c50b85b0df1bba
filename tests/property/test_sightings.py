"""Origins hold whoever decides: two processes on one store, results in any order, crashes; against a model that counts by itself.

5 what was read is never forgotten for the better · 8 what a decision knew is in its record.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from remit.logic.labelling import FieldRule, ResultRules, Statement
from remit.logic.records import decode
from remit.logic.rulebook import CatalogEntry
from remit.logic.tracing import recorded_origins
from remit.model.call import Ending
from remit.model.call_record import CallDecided, CallFinished
from remit.model.catalog import Effect, Sends, Trust
from remit.services.mediation import Ticket
from tests.support import World, call, grant, rulebook

VALUES = st.sampled_from([f"value-{n}" for n in range(12)])
ALWAYS = "permit (principal, action, resource);"
ENTRIES = {
    "bank/pay": CatalogEntry(effect=Effect.IRREVERSIBLE, data_class="internal", trust=Trust.TRUSTED, sends=Sends.EXTERNAL),
    "mail/read": CatalogEntry(
        effect=Effect.READ,
        data_class="internal",
        trust=Trust.UNTRUSTED,
        sends=Sends.NOWHERE,
        result=ResultRules(fields=(FieldRule(pattern=("", "good"), states=Statement(trust=Trust.TRUSTED)),)),
    ),
}


class Origins(RuleBasedStateMachine):
    """One task, two processes."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.run(self._begin())
        self.first: dict[str, str] = {}
        self.untrusted = False

    async def _begin(self):
        rules = rulebook(ALWAYS, entries=ENTRIES)
        first = World(Path(self.folder.name) / "remit.db", rules=rules)
        self.worlds = [first, first.beside()]
        self.task = await first.open(grant("bank/pay"), grant("mail/read"), budget_calls=1_000)

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def _call(self, which, wanted):
        world = self.worlds[which]
        ticket = await world.mediation.authorize(world.bearer(self.task), wanted)
        assert isinstance(ticket, Ticket)
        return ticket

    @rule(which=st.integers(0, 1), good=st.lists(VALUES, max_size=3), bad=st.lists(VALUES, max_size=3), text=st.booleans())
    def read(self, which, good, bad, text):
        """A result with a trusted and an untrusted field."""
        result = {"good": good, "bad": " and ".join(bad) if text else bad}

        async def both():
            ticket = await self._call(which, call("mail/read", folder="in"))
            assert (await self.worlds[which].mediation.observe(ticket, Ending.OK, result)).released

        self.run(both())
        for value in good:
            self.first.setdefault(value, "mail/read")
        for value in bad:
            self.first.setdefault(value, "untrusted:mail/read")
        self.untrusted |= bool(bad)

    @rule(value=VALUES)
    def read_at_once(self, value):
        """Two processes learn at the same time: one of them was first, and all agree on which."""

        async def one(which, name):
            ticket = await self._call(which, call("mail/read", folder="in"))
            await self.worlds[which].mediation.observe(ticket, Ending.OK, {name: value})

        async def together():
            await asyncio.gather(one(0, "good"), one(1, "bad"))

        self.run(together())
        self.untrusted = True
        if value not in self.first:
            entries = self.run(self.worlds[0].store.task_entries(self.task.id))
            ends = [record.body for record in map(decode, [entry.body for entry in entries]) if isinstance(record.body, CallFinished)]
            learnt = [end for end in ends if end.learnt][-1]
            self.first[value] = "untrusted:mail/read" if learnt.untrusted else "mail/read"

    @rule(which=st.integers(0, 1), to=VALUES)
    def pay(self, which, to):
        """A decision knows the origin of its argument as the model does, and has it in its record."""
        self.run(self._call(which, call(to=to, amount=1)))
        entries = self.run(self.worlds[which].store.task_entries(self.task.id))
        decided = [record.body for record in map(decode, [entry.body for entry in entries]) if isinstance(record.body, CallDecided)][-1]
        by_pointer = {leaf.pointer: leaf.names for leaf in recorded_origins(decided)}
        assert by_pointer["/to"] == (self.first.get(to, "unknown"),)

    @rule(which=st.integers(0, 1))
    def crash(self, which):
        """A process loses its memory."""
        self.run(self.worlds[which].store.close())
        self.worlds[which] = self.run(self._beside(1 - which))

    async def _beside(self, which):
        return self.worlds[which].beside()

    @invariant()
    def labels_say_what_was_read(self):
        if hasattr(self, "task"):
            for world in self.worlds:
                self.run(world.tasks.settle())
            entries = self.run(self.worlds[0].store.task_entries(self.task.id))
            assert any(getattr(decode(entry.body).body, "untrusted", False) for entry in entries) is self.untrusted

    def teardown(self):
        if hasattr(self, "loop"):
            for world in self.worlds:
                self.run(world.close())
            self.loop.close()
            self.folder.cleanup()


Origins.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestOrigins = Origins.TestCase

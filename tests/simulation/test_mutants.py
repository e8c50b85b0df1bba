"""The simulator can fail: each part below is wrong in one way, and some seed shows it, by the number of the broken law."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from remit.errors import Outage
from remit.logic.authorize import authorize
from remit.logic.labelling import ResultRules
from remit.logic.records import decode, encode, leaf_hash
from remit.model.approval import ApprovalState
from remit.model.budget import Spent
from remit.model.call_record import CallDecided
from remit.model.catalog import ToolFacts
from remit.model.decision import Allow
from remit.services.mediation import Mediation, Ticket
from remit.store.database import Entry, StaleTask
from tests.simulation.schedule import spawn
from tests.simulation.simulation import simulate
from tests.simulation.store import SimulatedStore
from tests.simulation.world import Parts, rulebooks
from tests.support import facts

SEEDS = (17, *range(60))  # the first shows what is seen rarely


class LastWriterWins(SimulatedStore):
    """No compare and swap: a stale append is given the next place instead."""

    async def _put(self, append):
        try:
            return await super()._put(append)
        except StaleTask:
            latest = (await self.inner.task_entries(append.task))[-1]
            record = structs.replace(decode(append.body), seq=latest.seq + 1)
            return await super()._put(structs.replace(append, body=encode(record), seq=record.seq, after=latest.leaf))


class AnswersBeforeTheCommit(SimulatedStore):
    """Says that it is written, and then writes."""

    async def append(self, append):
        spawn(super().append(append))
        return Entry(index=self.durable.size, body=append.body, leaf=leaf_hash(append.body), task=append.task, seq=append.seq)


class ForgetsWhatWasRead(SimulatedStore):
    """Records allowed calls without their labels."""

    async def append(self, append):
        record = decode(append.body)
        if isinstance(record.body, CallDecided) and record.body.untrusted:
            body = replace(record.body, rank=0, untrusted=False)
            append = structs.replace(append, body=encode(structs.replace(record, body=body)))
        return await super().append(append)


class ForgetsTheApproval(SimulatedStore):
    """Records an approved call without the approval that it used up, which so opens another."""

    async def append(self, append):
        record = decode(append.body)
        if isinstance(record.body, CallDecided) and record.body.outcome == "allow" and record.body.approval:
            body = replace(record.body, approval="")
            append = structs.replace(append, body=encode(structs.replace(record, body=body)))
        return await super().append(append)


class ForwardsFirst(Mediation):
    """Decides well, lets the call pass, and records it meanwhile."""

    async def authorize(self, bearer, call, *, seen_digest=""):
        task, rules = await self._tasks.view(bearer.task), rulebooks()[0]
        decision = authorize(facts(task, call, rules, agent=bearer.agent), rules.policies)
        recording = super().authorize(bearer, call, seen_digest=seen_digest)
        if not isinstance(decision, Allow):
            return await recording
        spawn(recording)
        return forged(f"{task.id} {task.seq}", bearer, call, decision)


class OpensWhenInDoubt(Mediation):
    """Where nothing can be recorded, the call passes."""

    async def authorize(self, bearer, call, *, seen_digest=""):
        try:
            return await super().authorize(bearer, call, seen_digest=seen_digest)
        except Outage:
            return forged("none", bearer, call, Allow(reasons=(), policies=(), spent=Spent(grant=0)))


def forged(decision_id, bearer, call, decision):
    tool = rulebooks()[0].tool(call.kind, call.server, call.name) or ToolFacts(kind=call.kind, server=call.server, name=call.name)
    return Ticket(decision_id=decision_id, bearer=bearer, call=call, decision=decision, tool=tool, rules=ResultRules())


def any_approval(task, key, call, now):
    """A consent to one call that opens every call of that tool, for ever."""
    return next((one for one in task.approvals.values() if (one.state, one.call) == (ApprovalState.GRANTED, key)), None)


MUTANTS = [
    (Parts(store=LastWriterWins), ("after its end", "payments", "broke", "fold:", "8:")),
    (Parts(store=AnswersBeforeTheCommit), ("was told without its record", "entries on disk", "told as done")),
    (Parts(store=ForgetsWhatWasRead), ("does not carry the labels", "pays unasked")),
    (Parts(store=ForgetsTheApproval), ("8:",)),
    (Parts(mediation=ForwardsFirst), ("has no record", "effects of")),
    (Parts(mediation=OpensWhenInDoubt), ("has no record",)),
    (Parts(swaps_arguments=True), ("is not the call that was recorded",)),
    (Parts(tells_the_feed=False), ("was accepted after its end",)),
    (Parts(recovers=False), ("never ends",)),
]


@pytest.mark.parametrize(("parts", "words"), MUTANTS, ids=lambda value: value.name if isinstance(value, Parts) else "")
def test_what_is_wrong_is_found(parts, words):
    assert_found(words, parts)


def test_an_approval_that_opens_too_much_is_found(monkeypatch):
    monkeypatch.setattr("remit.logic.authorize.granted_approval", any_approval)
    assert_found(("which is for another call",), Parts())


def assert_found(words, parts):
    left = set(words)
    for seed in SEEDS:
        wrong = simulate(seed, parts).wrong
        left = {word for word in left if not any(word in line for line in wrong)}
        if not left:
            return
    pytest.fail(f"no seed shows: {sorted(left)}")

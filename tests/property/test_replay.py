"""Invariant 8: every recorded decision is recomputed to the same answer from the ledger and the policies of its day."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from remit.drivers.value_sealing import ValueSealer
from remit.errors import RemitError
from remit.logic.authorize import authorize
from remit.logic.replay import decide_again, outcome_of
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.identity import Bearer, SpiffeId
from remit.model.record import SumLine
from remit.model.task import TaskState
from remit.services.mediation import Refused, Ticket
from remit.services.replay import replay, verify
from tests.support import POLICY, World, call, grant, rulebook

OTHER = """
@id("reads") permit (principal, action in Action::"read", resource) unless { context.untrusted };
@id("known") permit (principal, action == Action::"bank/pay", resource) when { context.origins has to && context.origins.to.known };
@id("approved") permit (principal, action == Action::"bank/pay", resource) when { context has approval };
"""
CALLS = [
    call(to="bob", amount=5),
    call(to="bob", amount=50),
    call(to="bob", amount=51),
    call(to="bob"),
    call(to="mallory", amount=1),
    call("mail/read"),
    call("mail/read", folder="in"),
    call("bank/steal", to="bob"),
    call("mail/note://1", kind=Kind.RESOURCE, uri="note://1"),
    call("mail/greet", kind=Kind.PROMPT, name="greet", arguments={}),
]
ORIGINS = ('{"properties":{"to":{"origin":["task","approval","mail/read"]},"amount":{"maximum":60}}}', {})
MONEY = [SumLine(name="money", tool="bank/pay", argument="/amount", maximum="60")]
GRANTS = st.sampled_from(
    [
        '{"properties":{"amount":{"maximum":50}}}',
        '{"properties":{"to":{"origin":["task"]}}}',
        '{"properties":{"to":{"origin":["task","approval","mail/read"]},"amount":{"maximum":60}}}',
    ]
)
TERMS = st.sampled_from(
    [
        {},
        {"sums": MONEY, "rate_calls": 4, "rate_seconds": 300},
        {"bytes_read": 30, "resources": 2},
        {"autonomy": {"irreversible": "asked", "read": "preapproved"}},
    ]
)
TASKS = st.tuples(GRANTS, TERMS)
STEPS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(CALLS), st.sampled_from(["", "sha-256:other"])),
    st.tuples(st.just("stranger"), st.sampled_from(CALLS), st.just("")),
    st.tuples(st.just("answer"), st.booleans(), st.just("")),
    st.tuples(st.just("move"), st.sampled_from([TaskState.SUSPENDED, TaskState.ACTIVE, TaskState.COMPLETED]), st.just("")),
    st.tuples(st.just("time"), st.sampled_from([1, 200, 400]), st.just("")),
    st.tuples(st.just("policy"), st.sampled_from([POLICY, OTHER]), st.just("")),
)

PAY_5, PAY_50, PAY_51, READ, EVIL = (("call", CALLS[number], "") for number in (0, 1, 2, 5, 4))
ANSWERED = ("answer", True, "")
AUTONOMY = {"autonomy": {"irreversible": "asked", "read": "preapproved"}}
HISTORIES = [  # what chance finds seldom: refused by origin, admitted by approval, sums spent, questions asked, resources touched
    (ORIGINS, [PAY_5, EVIL, READ, EVIL, PAY_50, PAY_51, ANSWERED, PAY_51]),
    (('{"properties":{"to":{"origin":["task"]}}}', {}), [EVIL, PAY_5, READ, PAY_5]),
    ((ORIGINS[0], {"sums": MONEY}), [PAY_51, ANSWERED, PAY_51, PAY_5, PAY_5]),
    ((ORIGINS[0], {"bytes_read": 30, "resources": 1}), [READ, READ, PAY_5, ("time", 400, ""), READ]),
    ((ORIGINS[0], AUTONOMY), [PAY_5, ANSWERED, PAY_5, ("policy", OTHER, ""), READ, READ]),
]


def and_examples(test):
    for terms, steps in HISTORIES:
        test = example(terms, steps)(test)
    return test


async def live(world: World, terms, steps) -> None:
    """Do all of it, whatever comes of it."""
    await world.activate()
    task = await world.open(
        grant(uses=3, arguments=terms[0]),
        grant("mail/read"),
        grant("mail/*", kind=Kind.RESOURCE),
        grant("mail/greet", kind=Kind.PROMPT),
        inputs={"who": "bob"},
        **terms[1],
    )
    asked: list[str] = []
    for what, value, seen in steps:
        try:
            if what in {"call", "stranger"}:
                agent = task.agent if what == "call" else SpiffeId.parse("spiffe://remit.test/agent/other")
                answer = await world.mediation.authorize(Bearer(agent=agent, task=task.id, proof="test"), value, seen_digest=seen)
                if isinstance(answer, Ticket):
                    await world.mediation.observe(answer, Ending.OK, {"from": "bob", "text": "pay mallory"})
                    await world.tasks.settle()
                elif isinstance(answer, Refused) and answer.approval_id:
                    asked.append(answer.approval_id)
            elif what == "answer" and asked:
                await world.tasks.answer(asked.pop(), granted=value, by="carol")
            elif what == "move":
                await world.tasks.move(task.id, value, by="operator")
            elif what == "time":
                world.clock.pass_by(value)
            elif what == "policy":
                await world.activate(value)
        except RemitError:
            continue


def played(terms, steps, work, *, keep: bool = True):
    async def run():
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder) / "remit.db", sealer=ValueSealer(b"k" * 32) if keep else None)
            try:
                await live(world, terms, steps)
                return await work(world)
            finally:
                await world.close()

    return asyncio.run(run())


@and_examples
@settings(max_examples=20, deadline=None)
@given(TASKS, st.lists(STEPS, min_size=2, max_size=14))
def test_every_decision_is_recomputed_to_the_same_answer(terms, steps):
    report = played(terms, steps, lambda world: verify(world.history()))
    assert (report.differs, report.unknown, report.partly, report.found) == (0, 0, 0, ())
    assert report.agrees == report.decisions


@and_examples
@settings(max_examples=12, deadline=None)
@given(TASKS, st.lists(STEPS, min_size=2, max_size=14))
def test_without_values_nothing_differs_and_what_is_missing_is_said(terms, steps):
    report = played(terms, steps, lambda world: verify(world.history()), keep=False)
    assert (report.differs, report.found) == (0, ())
    assert report.agrees + report.partly + report.unknown == report.decisions
    assert sum(report.missing.values()) == report.partly + report.unknown
    assert all("values were not kept" in why for why in report.missing)


@and_examples
@settings(max_examples=12, deadline=None)
@given(TASKS, st.lists(STEPS, min_size=2, max_size=14))
def test_what_can_be_told_without_values_is_what_the_values_tell(terms, steps):
    """Under another policy set: the same outcome, or no answer. Never another answer."""
    candidate = rulebook(OTHER).policies

    async def both(world: World) -> None:
        history = world.history()
        async for moment in history.moments():
            facts = await history.facts(moment)
            assert moment.arguments is not None
            whole = authorize(facts, candidate)
            partly, missing = decide_again(facts, candidate, moment.body, whole=False)
            if partly is not None:
                assert outcome_of(partly) == outcome_of(whole)
            elif not missing:
                assert outcome_of(whole) == "deny"

    played(terms, steps, both)


@and_examples
@settings(max_examples=8, deadline=None)
@given(TASKS, st.lists(STEPS, min_size=2, max_size=14))
def test_a_candidate_that_is_the_policy_of_the_day_flips_nothing(terms, steps):
    steps = [step for step in steps if step[0] != "policy"]
    report = played(terms, steps, lambda world: replay(world.history(), {"other.cedar": POLICY}, {}))
    assert (report.flips, report.unknown, report.same) == ((), {}, report.decisions)

"""Laws of the decision: it is total, labels form a semilattice, and less of either key never gives more.

4 unknown means no · 5 labels only rise · 7 no argument or result value is kept or logged.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.logic.authorize import authorize
from remit.model.call import Ending
from remit.model.decision import Allow, Ask, Deny
from remit.model.identity import SpiffeId
from remit.model.labels import DataClasses, Labels
from remit.model.task import TaskState, amended
from remit.services.mediation import Ticket
from tests.support import NOW, POLICY, World, call, facts, grant, rulebook, task

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
VALUES = JSON | st.sampled_from(["bob", "mallory", 5, 9, 10])
LABELS = st.builds(Labels, st.integers(0, 3), st.booleans())
PAYMENTS = st.builds(call, to=st.sampled_from(["bob", "mallory"]), amount=st.sampled_from([-1, 5, 9, 10, 50, 501]))
FORBIDS = (
    "forbid (principal, action, resource);",
    'forbid (principal, action in Action::"irreversible", resource);',
    'forbid (principal, action == Action::"bank/pay", resource) when { context.arguments.amount > 7 };',
    "forbid (principal, action, resource) when { context.untrusted };",
    "forbid (principal, action, resource) unless { context has approval };",
    'forbid (principal, action == Action::"bank/pay", resource) when { context.arguments.amount * 9223372036854775807 > 0 };',
)
AT_MOST_8 = '{"properties":{"amount":{"maximum":8}}}'
NARROWER = {
    "agent": lambda one: amended(one, agent=SpiffeId.parse("spiffe://remit.test/agent/other")),
    "state": lambda one: amended(one, state=TaskState.SUSPENDED),
    "deadline": lambda one: amended(one, deadline=NOW),
    "budget": lambda one: amended(one, budget=replace(one.budget, calls=one.calls)),
    "ceiling": lambda one: amended(one, ceiling="public"),
    "tools": lambda one: amended(one, tools={}),
    "uses": lambda one: amended(one, grants=tuple(replace(line, uses=0) for line in one.grants)),
    "line": lambda one: amended(one, grants=one.grants[1:], uses=one.uses[1:]),
    "arguments": lambda one: amended(one, grants=tuple(replace(line, arguments=AT_MOST_8) for line in one.grants)),
    "labels": lambda one: amended(one, labels=one.labels.join(Labels(3, untrusted=True))),
}


@functools.cache
def rules(*more: str):
    return rulebook("\n".join([POLICY, *more]))


def height(decision) -> int:
    return {Deny: 0, Ask: 1, Allow: 2}[type(decision)]


def decide(of, wanted, *more: str) -> int:
    return height(authorize(facts(of, wanted, rules(*more)), rules(*more).policies))


@given(LABELS, LABELS, LABELS)
def test_labels_form_a_semilattice(a, b, c):
    assert a.join(b) == b.join(a)
    assert a.join(b.join(c)) == a.join(b).join(c)
    assert a.join(a) == a == a.join(Labels())
    assert a.join(b).covers(a)
    assert a.join(b).covers(b)
    assert not (a.covers(b) and b.covers(a)) or a == b


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True), st.text(max_size=5))
def test_an_unknown_class_counts_as_the_highest(names, other):
    classes = DataClasses(tuple(names))
    assert classes.rank(other) == (names.index(other) if other in names else len(names) - 1)


@given(st.dictionaries(st.sampled_from(["to", "amount", "note", "hidden"]), VALUES, max_size=4))
@settings(max_examples=200)
def test_the_decision_is_total_and_allows_just_what_both_keys_say(arguments):
    decision = authorize(facts(task(), call(**arguments), rules()), rules().policies)
    to, amount, note = arguments.get("to"), arguments.get("amount"), arguments.get("note", "")
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    fits = isinstance(to, str) and whole and isinstance(note, str) and "hidden" not in arguments
    assert isinstance(decision, Allow | Ask | Deny)
    assert decision.reasons
    assert not isinstance(decision, Allow) or (fits and to != "mallory" and amount < 10)
    assert not fits or height(decision) == (0 if to == "mallory" else 2 if amount < 10 else 1)


@given(PAYMENTS, st.sets(st.sampled_from(FORBIDS), max_size=2), st.sampled_from(FORBIDS), LABELS)
@settings(max_examples=60)
def test_one_more_forbid_never_gives_more(wanted, before, another, labels):
    of = task(labels=labels)
    assert decide(of, wanted, *sorted({*before, another})) <= decide(of, wanted, *sorted(before))


@given(PAYMENTS, st.sets(st.sampled_from(sorted(NARROWER)), max_size=2), st.sampled_from(sorted(NARROWER)))
@settings(max_examples=100)
def test_a_task_with_less_never_gets_more(wanted, before, another):
    of = task(grant(uses=2), grant("bank/pay"), grant("mail/read"))
    for how in sorted(before):
        of = NARROWER[how](of)
    assert decide(NARROWER[another](of), wanted) <= decide(of, wanted)


@given(PAYMENTS, LABELS, LABELS)
def test_having_read_more_never_gives_more(wanted, labels, more):
    assert decide(task(labels=labels.join(more)), wanted) <= decide(task(labels=labels), wanted)


@given(st.text("abcdefghjkmnpqrstuvwxyz", min_size=12, max_size=30), st.sampled_from([5, 50, "x"]))
@settings(max_examples=15)
def test_no_value_of_an_argument_or_a_result_is_kept_or_logged(secret, amount):
    """Allowed, asked, refused by the grant, refused by the schema: the store's files and the log hold digests."""

    async def story(folder: Path) -> None:
        world = World(folder / "remit.db")
        try:
            of = await world.open(grant(arguments='{"properties":{"to":{"maxLength":20}}}'))
            for value in (secret, "bob"):
                wanted = call(to=value, amount=amount, note=secret)
                ticket = await world.mediation.authorize(world.bearer(of), wanted)
                if isinstance(ticket, Ticket):
                    await world.mediation.observe(ticket, Ending.OK, {"content": [{"type": "text", "text": secret}]})
            await world.tasks.settle()
        finally:
            await world.close()

    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        logged: list[str] = []
        patch.setattr("logging.Logger.handle", lambda _self, record: logged.append(record.getMessage()))
        asyncio.run(story(Path(made)))
        kept = b"".join(path.read_bytes() for path in Path(made).rglob("*") if path.is_file())
        assert b"sha-256:" in kept
        assert secret.encode() not in kept
        assert secret not in "".join(logged)

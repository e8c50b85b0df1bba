"""Delegation in the small: where a child's inputs come from, what is taken out of which budget, who may answer, what a file may say."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from remit.errors import Mistake, Refusal
from remit.logic.approvals import excluded
from remit.logic.authorize import authorize
from remit.logic.claims import task_claims
from remit.logic.delegation import MISSION_CODES
from remit.logic.narrow import narrowed_tools, tool_digest
from remit.logic.policy_review import Known, review
from remit.logic.tracing import Inputs
from remit.model.call import Ending
from remit.model.catalog import Kind, Trust
from remit.model.decision import Allow, Ask, Deny
from remit.model.delegation import Purse, Wanted, WantedLine
from remit.model.delegation_record import DelegableLine
from remit.model.labels import Labels
from remit.model.origin import Traced
from remit.model.record import SumLine
from remit.model.task import TaskState, amended
from remit.services.configuration import load_configuration
from remit.services.mediation import Ticket
from remit.services.reading import Mistakes
from tests import support
from tests.support import NOW, World, agent_id, call, facts, grant, rulebook, task

pytestmark = pytest.mark.anyio
POLICY = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("pays") permit (principal, action == Action::"bank/pay", resource);
@id("hands on") permit (principal, action == Action::"task/delegate", resource) when { !context.untrusted };
"""
TERMS = DelegableLine(to=["reader", "payer", "tester"], depth=2, fan_out=5, lifetime_seconds=120)
PAY = WantedLine(kind=Kind.TOOL, server="bank", name="pay")
READ = WantedLine(kind=Kind.TOOL, server="mail", name="read")


def wanted(*lines: WantedLine, **changes) -> Wanted:
    made = Wanted(request="r1", agent="payer", objective="Help", lines=lines or (PAY, READ), calls=3)
    return replace(made, **changes)


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path / "remit.db", rules=rulebook(POLICY))
    yield made
    await made.close()


async def delegated(world, parent, asked=None, by=None):
    return await world.delegations.delegate(world.bearer(parent), asked or wanted(), by=by or parent.agent)


async def code_of(work) -> str:
    with pytest.raises(Refusal) as refused:
        await work
    assert refused.value.code in MISSION_CODES
    return refused.value.code


def lineage(**changes):
    """A root and a child of it that may do all the root may."""
    root = task(id="task_0", **changes.pop("root", {}))
    child = task(*(replace(line, of=number) for number, line in enumerate(root.grants)), id="task_1")
    child = amended(child, ancestors=(root.id,), chain=(root.agent.text,), **changes)
    return child, root


def decided(child, root, wanted_call, policy=POLICY, **changes):
    rules = rulebook(policy)
    return authorize(facts(child, wanted_call, rules, ancestors=(root,), **changes), rules.policies)


def test_every_ancestor_s_line_autonomy_ceiling_and_origin_counts():
    pay = call(to="bob", amount=5)
    child, root = lineage()
    assert isinstance(decided(child, root, pay), Allow)
    narrow = amended(root, grants=(grant(arguments='{"properties":{"amount":{"maximum":4}}}'), root.grants[1]))
    assert [reason.code for reason in decided(child, narrow, pay).reasons] == ["arguments_outside_grant"]
    asked = amended(root, autonomy={"irreversible": "asked"})
    assert isinstance(decided(child, asked, pay), Ask)
    assert isinstance(decided(amended(child, autonomy={"irreversible": "asked"}), root, pay), Ask)
    low = amended(root, ceiling="public")
    assert [reason.code for reason in decided(child, low, pay).reasons] == ["above_ceiling"]
    origin = amended(root, grants=(grant(arguments='{"properties":{"to":{"origin":["task"]}}}'), root.grants[1]))
    unknown = (Traced(pointer="/to"), Traced(pointer="/amount"))
    assert [reason.code for reason in decided(child, origin, pay, origins=unknown).reasons] == ["origin_unknown"]
    elsewhere = amended(child, grants=(replace(child.grants[0], of=1), child.grants[1]))
    assert [reason.code for reason in decided(elsewhere, root, pay).reasons] == ["not_granted"]


def test_a_child_is_shown_the_limits_of_all_above():
    child, root = lineage(root={"grants": (grant(arguments='{"properties":{"amount":{"maximum":4}}}'), grant("mail/read"))})
    child = amended(child, grants=(grant(arguments='{"properties":{"to":{"const":"bob"}}}'), child.grants[1]))
    child = amended(child, grants=tuple(replace(line, of=number) for number, line in enumerate(child.grants)))
    listed = {"name": "pay", "inputSchema": support.PAY.input_schema}
    pinned = {**child.tools, "bank/pay": tool_digest(listed)}
    (shown,) = narrowed_tools(amended(child, tools=pinned), "bank", [listed], (root,))
    assert shown["inputSchema"]["properties"]["amount"] == {"type": "integer", "maximum": 4}
    assert shown["inputSchema"]["properties"]["to"] == {"type": "string", "const": "bob"}


def test_a_lineage_that_is_not_known_refuses():
    child, _ = lineage()
    rules = rulebook(POLICY)
    answer = authorize(facts(child, call(to="bob", amount=5), rules), rules.policies)
    assert "ancestor_not_active" in {reason.code for reason in answer.reasons}


def test_policy_sees_the_chain():
    forbid = POLICY + '@id("alone") forbid (principal, action, resource) when { context.task.depth > 0 };'
    child, root = lineage()
    assert isinstance(decided(child, root, call(to="bob", amount=5), forbid), Deny)


def test_nobody_of_the_chain_answers_and_by_four_eyes_not_who_began_it():
    child, _ = lineage(begun_by="dora", opened_by="spiffe://remit.test/agent/tester")
    assert {"spiffe://remit.test/agent/tester", "task_0"} <= excluded(child, four_eyes=False)
    assert "dora" not in excluded(child, four_eyes=False)
    assert {"dora", "alice"} <= excluded(child, four_eyes=True)


def test_the_chain_in_a_token_newest_actor_outermost():
    child, _ = lineage()
    child = amended(child, agent=agent_id("payer"), chain=("spiffe://a/b", "spiffe://a/root"))
    act = task_claims(child, "i", "a", NOW, NOW, "j")["act"]
    root = {"iss": "i", "sub": "spiffe://a/root"}
    assert act == {"iss": "i", "sub": agent_id("payer").text, "act": {"iss": "i", "sub": "spiffe://a/b", "act": root}}
    assert "act" not in task_claims(task(), "i", "a", NOW, NOW, "j")


async def test_inputs_are_what_they_were_where_the_parent_saw_them(world):
    parent = await world.open(delegable=TERMS, inputs={"who": "bob@example.org"})
    inputs = {"to": "bob@example.org", "from": "eve@example.org", "whole": "bob@example.org, eve@example.org", "urgent": True}
    child = await delegated(world, parent, wanted(inputs=inputs))
    assert {name: source.id for name, source in child.origins.items()} == {"to": "task"}
    seen = Inputs(child)
    trusts = {value: source.trust for value in ("bob@example.org", "eve@example.org") if (source := seen.find(value)) is not None}
    assert trusts == {"bob@example.org": Trust.TRUSTED, "eve@example.org": Trust.UNTRUSTED}
    again = await delegated(world, child, wanted(inputs={"x": "bob@example.org", "y": "eve@example.org"}, agent="reader", calls=1))
    assert {name: source.id for name, source in again.origins.items()} == {"x": "task", "y": "untrusted:task"}


async def test_a_child_begins_with_what_its_parent_has_read_and_the_parent_has_read_what_its_child_has(world):
    parent = await world.open(delegable=TERMS)
    child = await delegated(world, parent)
    other = await delegated(world, parent, wanted(request="r2", agent="reader"))
    ticket = await world.mediation.authorize(world.bearer(child), call("mail/read"))
    assert isinstance(ticket, Ticket)
    read = Labels(2, untrusted=True)
    for told in (child, parent):
        assert (await world.tasks.view(told.id)).labels == read, "before anything was released"
    assert (await world.tasks.view(other.id)).labels == Labels(), "a sibling has read nothing of it"
    await world.mediation.observe(ticket, Ending.OK, {})
    assert await code_of(delegated(world, parent, wanted(request="r3"))) == "policy_denied", "policy sees the labels"


async def test_a_result_is_not_released_below_an_ancestor_that_has_ended(world):
    parent = await world.open(delegable=TERMS)
    child = await delegated(world, parent)
    ticket = await world.mediation.authorize(world.bearer(child), call("mail/read"))
    await world.tasks.end(parent.id, TaskState.REVOKED, by="operator")
    observed = await world.mediation.observe(ticket, Ending.OK, {"text": "secret"})
    assert not observed.released


async def test_a_result_is_not_released_to_an_agent_that_was_stopped_meanwhile(world):
    parent = await world.open(delegable=TERMS)
    child = await delegated(world, parent)
    tickets = [await world.mediation.authorize(world.bearer(one), call("mail/read")) for one in (parent, child)]
    await world.tasks.standing.stop([parent.agent.text], by="operator")
    for ticket in tickets:
        assert not (await world.mediation.observe(ticket, Ending.OK, {"text": "secret"})).released


async def test_what_was_stopped_is_ended_before_its_agent_works_again(world):
    parent = await world.open(delegable=TERMS)
    child = await delegated(world, parent)
    agents = [parent.agent.text]
    await world.tasks.standing.stop(agents, by="operator")
    await world.subtrees.restore(agents, by="operator")
    assert world.tasks.standing.stopped(agents) == ()
    assert [(await world.tasks.view(one.id)).state for one in (parent, child)] == [TaskState.REVOKED] * 2
    assert (await world.open()).state is TaskState.ACTIVE


async def test_what_is_lent_is_spent_and_what_was_not_used_comes_back(world):
    sums = [SumLine(name="paid", tool="bank/pay", argument="/amount", maximum="100")]
    parent = await world.open(
        grant(uses=5), grant("mail/read"), delegable=TERMS, sums=sums, rate_calls=6, rate_seconds=60, bytes_read=1_000
    )
    lend = {"sums": {"paid": Decimal(60)}, "rate_calls": 2, "bytes_read": 400}
    pay = replace(PAY, uses=3)
    for short in ({"bytes_read": 0}, {"rate_calls": 0}, {"sums": {"paid": Decimal(101)}}, {"calls": 11}, {"bytes_read": 1_001}):
        assert await code_of(delegated(world, parent, wanted(pay, READ, **{**lend, **short}))) == "budget_short"
    for lines in ((replace(PAY, uses=6),), (PAY,), (pay, replace(PAY, uses=3))):
        assert await code_of(delegated(world, parent, wanted(*lines, **lend))) == "budget_short"
    child = await delegated(world, parent, wanted(pay, READ, **lend))
    lent = (await world.tasks.view(parent.id)).lent
    assert lent == Purse(calls=3, uses={0: 3}, sums={"paid": Decimal(60)}, bytes_read=400, rate_calls=2)

    async def pays(of, amount):
        answer = await world.mediation.authorize(world.bearer(of), call(to="bob", amount=amount))
        return True if isinstance(answer, Ticket) else [reason.code.value for reason in answer.decision.reasons]

    assert await pays(parent, 41) == ["sum_exceeded"]
    assert await pays(child, 61) == ["sum_exceeded"]
    assert await pays(child, 50) is True
    await world.tasks.end(child.id, TaskState.COMPLETED, by="payer")
    await world.subtrees.follow()
    after = await world.tasks.view(parent.id)
    assert after.lent == Purse(calls=1, uses={0: 1}, sums={"paid": Decimal(50)})
    assert not after.children
    assert await pays(parent, 51) == ["sum_exceeded"]
    assert await pays(parent, 50) is True


async def test_who_what_and_how_long(world):
    parent = await world.open(delegable=TERMS, lasts=timedelta(seconds=100))
    child = await delegated(world, parent, wanted(ceiling="internal"))
    assert (child.deadline, child.ceiling, child.on_behalf_of) == (parent.deadline, "internal", "alice")
    asked = wanted(request="g", agent="reader", ceiling="restricted", lifetime=timedelta(seconds=9), calls=1)
    grandchild = await delegated(world, child, asked)
    assert (grandchild.deadline - world.clock(), grandchild.ceiling) == (timedelta(seconds=9), "internal")
    assert await code_of(delegated(world, grandchild, wanted(request="x", calls=1))) == "delegation_too_deep"
    assert await code_of(delegated(world, await world.open(), wanted(request="x"))) == "delegation_not_permitted"
    assert await code_of(delegated(world, parent, wanted(request="x"), by=agent_id("reader"))) == "wrong_actor"
    assert (await delegated(world, parent, wanted(request="x"), by=agent_id("payer"))).agent == agent_id("payer")
    await world.tasks.move(parent.id, TaskState.SUSPENDED, by="operator")
    assert await code_of(delegated(world, child, wanted(request="y", agent="reader", calls=1))) == "parent_not_active"


async def test_one_request_is_good_for_one_child_however_many_ask_at_once(world):
    parent = await world.open(delegable=TERMS)
    made = await asyncio.gather(*(delegated(world, parent) for _ in range(5)), return_exceptions=True)
    assert sorted(getattr(one, "code", "made") for one in made) == ["delegation_replayed"] * 4 + ["made"]


@pytest.mark.parametrize(
    "bad",
    [
        {"request": ""},
        {"request": "x" * 65},
        {"objective": ""},
        {"objective": "\x1b[31m"},
        {"calls": 0},
        {"lines": ()},
        {"lines": (PAY,) * 65},
        {"lines": (replace(PAY, uses=0),)},
        {"lines": (replace(PAY, arguments={"properties": {"to": {"pattern": "("}}}),)},
        {"inputs": {"x": {"y": 1}}},
        {"inputs": {"x": "y" * 5_000}},
        {"sums": {"nobody": Decimal(1)}},
        {"sums": {"paid": Decimal(-1)}},
        {"ceiling": "top"},
        {"lifetime": timedelta(0)},
        {"rate_calls": 1},
    ],
)
async def test_bad_input_is_a_mistake_and_lends_nothing(world, bad):
    parent = await world.open(delegable=TERMS)
    with pytest.raises(Mistake):
        await delegated(world, parent, wanted(**bad))
    assert (await world.tasks.view(parent.id)).lent == Purse()


def test_the_review_of_policies_knows_who_may_be_delegated_to():
    named = '@id("{}") permit (principal, action == Action::"task/delegate", resource == Delegate::"spiffe://remit.test/agent/{}");\n'
    rules = rulebook(named.format("known", "payer") + named.format("misspelt", "prayer"))
    known = Known(
        tools={tool: rules.tool(Kind.TOOL, *tool.split("/")) for tool in ("bank/pay", "mail/read")},
        servers=("bank", "mail"),
        pinned={"bank", "mail"},
        agents={agent_id("payer").text: ("pay",)},
        types=("pay",),
        classes=rules.classes.names,
    )
    assert [(found.policy, found.code) for found in review(rules.policies, known)] == [("misspelt", "unknown_name")]


def test_a_task_type_says_to_whom_how_deep_and_how_long(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "remit.toml").write_text(f'[agents.a]\ntasks = ["t"]\n[servers.s]\ncommand = {json.dumps("true")}\n')
    text = 'objective = "x"\n[[grant]]\ntool = "s/x"\n[delegation]\n'
    file = tmp_path / "tasks" / "t.toml"
    file.write_text(f'{text}to = ["a"]\ndepth = 2\nfan_out = 4\nlifetime = "3m"\ncycles = true\n')
    terms = load_configuration(tmp_path).task_types["t"].delegable
    assert terms is not None
    assert (terms.to, terms.depth, terms.fan_out, terms.lifetime, terms.cycles) == (("a",), 2, 4, timedelta(minutes=3), True)
    for wrong in (
        "",
        'to = ["b"]',
        'to = ["a"]\ndepth = 0',
        'to = ["a"]\ndepth = 16',
        'to = ["a"]\nlifetime = "25h"',
        'to = ["a"]\ndeep = 1',
    ):
        file.write_text(text + wrong)
        with pytest.raises(Mistakes, match=r"t\.toml"):
            load_configuration(tmp_path)
    file.write_text(text.replace("[delegation]\n", ""))
    assert load_configuration(tmp_path).task_types["t"].delegable is None

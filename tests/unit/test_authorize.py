"""The decision: two keys, and any doubt denies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from remit.logic.authorize import authorize
from remit.model.approval import Approval, ApprovalState
from remit.model.catalog import Kind
from remit.model.decision import Allow, Ask, Code, Deny
from remit.model.identity import SpiffeId
from remit.model.labels import Labels
from remit.model.task import TaskState
from tests.support import NOW, PAY, call, facts, grant, rulebook, task

RULES = rulebook()


def decide(of=None, wanted=None, rules=RULES, **changes):
    return authorize(facts(of or task(), wanted or call(to="bob", amount=5), rules, **changes), rules.policies)


def codes(decision):
    return {reason.code for reason in decision.reasons}


def test_both_keys_allow():
    decision = decide()
    assert isinstance(decision, Allow)
    assert decision.policies == ("small",)
    assert decision.spent.grant == 0


@pytest.mark.parametrize(
    ("of", "wanted", "changes", "code"),
    [
        (task(state=TaskState.SUSPENDED), None, {}, Code.TASK_NOT_ACTIVE),
        (task(state=TaskState.PENDING), None, {}, Code.TASK_NOT_ACTIVE),
        (task(state=TaskState.REVOKED), None, {}, Code.TASK_NOT_ACTIVE),
        (None, None, {"now": NOW + timedelta(minutes=10)}, Code.TASK_EXPIRED),
        (None, None, {"agent": SpiffeId.parse("spiffe://remit.test/agent/other")}, Code.WRONG_AGENT),
        (task(calls=10), None, {}, Code.BUDGET_EXHAUSTED),
        (task(grant("mail/read")), None, {}, Code.NOT_GRANTED),
        (task(grant(uses=1), uses=(1,)), None, {}, Code.USES_EXHAUSTED),
        (None, call("bank/steal", to="bob"), {}, Code.TOOL_UNKNOWN),
        (None, call("shop/buy"), {}, Code.TOOL_UNKNOWN),
        (task(ceiling="public"), None, {}, Code.ABOVE_CEILING),
        (None, call(to="bob"), {}, Code.ARGUMENTS_INVALID),
        (None, call(to="bob", amount="5"), {}, Code.ARGUMENTS_INVALID),
        (None, call(to="bob", amount=5, hidden=True), {}, Code.ARGUMENTS_INVALID),
        (task(grant(arguments='{"properties":{"amount":{"maximum":4}}}')), None, {}, Code.ARGUMENTS_OUTSIDE_GRANT),
        (task(grant(arguments='{"properties":{"note":{"const":"x"}}}')), None, {}, Code.ARGUMENTS_OUTSIDE_GRANT),
        (task(tools={"bank/pay": "sha-256:older"}), None, {}, Code.TOOL_CHANGED),
        (None, None, {"seen_digest": "sha-256:other"}, Code.TOOL_CHANGED),
        (None, None, {"seen_digest": "absent"}, Code.TOOL_CHANGED),
        (None, call(to="mallory", amount=1), {}, Code.POLICY_FORBIDS),
    ],
)
def test_each_doubt_denies_with_its_code(of, wanted, changes, code):
    decision = decide(of, wanted, **changes)
    assert isinstance(decision, Deny)
    assert code in codes(decision)


def test_ask_is_what_an_approval_would_allow():
    decision = decide(wanted=call(to="bob", amount=500))
    assert isinstance(decision, Ask)
    assert decision.policies == ("approved",)


def approved(state: ApprovalState, *, to: str = "bob", amount: int = 500):
    known = Approval(
        id="apr_1",
        call="tool bank/pay",
        digest=call(to=to, amount=amount).digest,
        state=state,
        expires_at=NOW + timedelta(minutes=1),
        by="carol",
    )
    return task(approvals={"apr_1": known})


def test_an_approval_opens_exactly_its_call():
    of = approved(ApprovalState.GRANTED)
    allowed = decide(of, call(to="bob", amount=500))
    assert isinstance(allowed, Allow)
    assert allowed.approval == "apr_1"
    assert isinstance(decide(of, call(to="bob", amount=501)), Ask)
    assert isinstance(decide(of, call(to="bob", amount=500, note="x")), Ask)


def test_used_expired_and_pending_approvals_open_nothing():
    wanted = call(to="bob", amount=500)
    assert isinstance(decide(approved(ApprovalState.USED), wanted), Ask)
    assert isinstance(decide(approved(ApprovalState.PENDING), wanted), Ask)
    assert isinstance(decide(approved(ApprovalState.GRANTED), wanted, now=NOW + timedelta(minutes=2)), Ask)


def test_a_refused_question_is_not_asked_again():
    decision = decide(approved(ApprovalState.DENIED), call(to="bob", amount=500))
    assert isinstance(decision, Deny)
    assert codes(decision) == {Code.APPROVAL_REFUSED}


def test_an_approval_never_opens_what_policy_forbids():
    of = approved(ApprovalState.GRANTED, to="mallory", amount=1)
    assert isinstance(decide(of, call(to="mallory", amount=1)), Deny)


def test_questions_are_bounded():
    decision = decide(wanted=call(to="bob", amount=500), approvals_max=0)
    assert codes(decision) == {Code.TOO_MANY_QUESTIONS}


def test_what_the_task_has_read_counts():
    of = task(labels=Labels(0, untrusted=True))
    assert isinstance(decide(of), Ask)  # "small" needs trusted context; an approval would do


def test_a_policy_that_errors_denies_though_a_permit_stands():
    rules = rulebook(
        """
        @id("all") permit (principal, action, resource);
        @id("broken") forbid (principal, action == Action::"bank/pay", resource)
        when { context.arguments.amount * 9223372036854775807 == 5 };
        """
    )
    assert isinstance(decide(wanted=call(to="bob", amount=1), rules=rules), Allow)
    decision = decide(wanted=call(to="bob", amount=3), rules=rules)
    assert isinstance(decision, Deny)
    assert codes(decision) == {Code.POLICY_ERROR}


def test_without_a_policy_nothing_is_permitted():
    decision = decide(rules=rulebook(""))
    assert codes(decision) == {Code.NO_POLICY_PERMITS}


def test_resources_and_prompts_are_decided_too():
    of = task(grant("mail/note://a/*", kind=Kind.RESOURCE), grant("mail/greet", kind=Kind.PROMPT))
    rules = replace(RULES, catalog=replace(RULES.catalog))
    assert isinstance(decide(of, call("mail/note://a/b", Kind.RESOURCE, uri="note://a/b"), rules), Allow)
    assert isinstance(decide(of, call("mail/note://b", Kind.RESOURCE, uri="note://b"), rules), Deny)
    for climbing in ("note://a/../b", "note://a/%2e%2e/b", "note://a/%252e%252e/b", "note://a/..\\b"):
        assert isinstance(decide(of, call(f"mail/{climbing}", Kind.RESOURCE, uri=climbing), rules), Deny)
    assert isinstance(decide(of, call("mail/greet", Kind.PROMPT, name="greet", arguments={}), rules), Allow)
    assert isinstance(decide(of, call("mail/other", Kind.PROMPT, name="other", arguments={}), rules), Deny)


def test_unknown_facts_are_the_worst():
    plain = rulebook()
    nobody = replace(plain.catalog, entries={})
    tool = nobody.facts(Kind.TOOL, "bank", "pay", PAY)
    assert tool is not None
    assert (tool.effect, tool.trust, tool.sends) == ("irreversible", "untrusted", "external")
    assert plain.classes.rank(tool.data_class) == len(plain.classes.names) - 1

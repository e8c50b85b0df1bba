"""What an approval opens, who may answer, how far several answers go, and what the digest binds to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.errors import Broken, Conflict, Mistake
from remit.logic.approvals import Bounds, Wish, agreed, check_answer, fixed_digest, granted_approval, vouches
from remit.logic.arguments import digest_json, make_call
from remit.logic.authorize import authorize
from remit.logic.consent import Consent
from remit.logic.life import fold
from remit.model.approval import Answer, Approval, ApprovalState, Widening
from remit.model.approver import ApprovalRule, Approver, Elicitation, Scope, Terms
from remit.model.call_record import ApprovalAnswered, CallDecided, QuestionTerms
from remit.model.catalog import Kind
from remit.model.decision import Ask, Code, Deny
from remit.model.labels import Labels
from remit.model.origin import Traced
from remit.model.record import Record
from remit.model.task import amended
from tests.support import AGENT, CLASSES, NOW, call, facts, grant, rulebook, task

BOUNDS = Bounds(calls_max=5, lasts_max=timedelta(minutes=30))
SOON = NOW + timedelta(minutes=5)


def question(**changes):
    made = {"id": "apr_1", "call": "tool bank/pay", "digest": call(to="bob", amount=50).digest, "state": ApprovalState.PENDING}
    return Approval(**{**made, "expires_at": SOON, **changes})


def test_the_digest_is_the_parameter_digest_of_the_mission_drafts():
    """Test vector of the Mission-Bound Authorization runtime profile (draft-mcguinness-oauth-mission, 2026-06-30)."""
    parameters = {"account": "****4417", "amount": "9000.00", "currency": "USD", "payee": "Acme Supply Co"}
    expected = "sha-256:e7GXd0GWwOK2ezlb0CfUeYhjYOF1DE68_Gg0ofbr7do"
    assert make_call(Kind.TOOL, "bank", "pay", parameters).digest == expected
    assert digest_json(dict(reversed(parameters.items()))) == expected
    assert digest_json({**parameters, "é": [1.5]}) != expected  # by the other way through JCS


def granted(**changes):
    approval = question(state=ApprovalState.GRANTED, by="anna", **changes)
    return task(approvals={approval.id: approval})


def test_a_class_opens_what_differs_only_where_it_was_freed():
    fixed = fixed_digest({"to": "bob", "amount": 50}, ["amount"])
    of = granted(widened=Widening(calls=2, until=SOON, free=("amount",), fixed=fixed))
    for wanted, opened in [
        (call(to="bob", amount=50), True),
        (call(to="bob", amount=99), True),
        (call(to="bob"), True),
        (call(to="eve", amount=99), False),
        (call(to="bob", amount=99, note="x"), False),
        (call("mail/read", to="bob", amount=99), False),
        (call(to="bob", amount=99, kind=Kind.PROMPT), False),
    ]:
        found = granted_approval(of, f"{wanted.kind} {wanted.id}", wanted, NOW)
        assert (found is not None) is opened, wanted
    assert granted_approval(of, "tool bank/pay", call(to="bob", amount=99), SOON) is None


def test_everything_free_still_needs_the_grant_and_the_policy():
    rules = rulebook()
    of = granted(widened=Widening(calls=2, until=SOON, free=("*",)))
    assert type(authorize(facts(of, call(to="eve", amount=99), rules), rules.policies)).__name__ == "Allow"
    assert isinstance(authorize(facts(of, call(to="mallory", amount=99), rules), rules.policies), Deny)
    assert isinstance(authorize(facts(of, call(to="eve", amount="99"), rules), rules.policies), Deny)


def test_what_was_left_free_was_seen_by_nobody():
    """A grant may let a person vouch for a value of unknown origin: only for values that this person saw."""
    of = task(grant(arguments='{"properties":{"to":{"origin":["task","approval"]}}}'), tools={"bank/pay": "sha-256:pay"}, approvals={})
    rules = rulebook()

    def decided(wanted, free):
        fixed = fixed_digest({"to": "bob", "amount": 50}, free)
        opened = question(state=ApprovalState.GRANTED, by="anna", widened=Widening(calls=2, until=SOON, free=free, fixed=fixed))
        known = amended(of, approvals={"apr_1": opened})
        origins = tuple(Traced(pointer=f"/{name}") for name in wanted.arguments)
        return type(authorize(facts(known, wanted, rules, origins=origins), rules.policies)).__name__

    assert decided(call(to="bob", amount=50), ("to",)) == "Allow"
    assert decided(call(to="bob", amount=60), ("amount",)) == "Allow"
    assert decided(call(to="eve", amount=50), ("to",)) == "Ask"
    assert decided(call(to="eve", amount=50), ("*",)) == "Ask"
    many = [f"/list/{number}" for number in range(5)]
    assert not vouches(question(widened=Widening(calls=1, until=SOON, free=("note",), fixed="x")), call(to="eve"), many, told_max=5)


def test_an_exact_approval_is_used_before_a_class():
    both = {
        "apr_2": question(id="apr_2", state=ApprovalState.GRANTED, widened=Widening(calls=2, until=SOON, free=("*",))),
        "apr_1": question(state=ApprovalState.GRANTED),
    }
    found = granted_approval(task(approvals=both), "tool bank/pay", call(to="bob", amount=50), NOW)
    assert found is not None
    assert found.id == "apr_1"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([AGENT.text], "self_approval"),
        (["task_1"], "self_approval"),
        (["alice"], "self_approval"),
        (["ＡＬＩＣＥ "], "self_approval"),
        (["anna", "dispatcher"], "self_approval"),
        (["bert"], "answered"),
        (["Bert"], "answered"),
    ],
)
def test_who_may_not_answer(names, code):
    asked = question(needed=2, four_eyes=True, answers=(Answer(by="bert", granted=True, at=NOW),))
    of = task(approvals={"apr_1": asked}, opened_by="dispatcher")
    with pytest.raises(Conflict) as caught:
        check_answer(of, "apr_1", names, NOW)
    assert caught.value.code == code
    assert check_answer(of, "apr_1", ["carol"], NOW) == asked


def test_four_eyes_are_asked_for_by_the_question():
    of = task(approvals={"apr_1": question()}, opened_by="dispatcher")
    assert check_answer(of, "apr_1", ["alice"], NOW).id == "apr_1"


@pytest.mark.parametrize(("changes", "now"), [({}, SOON), ({"state": ApprovalState.DENIED}, NOW), ({"state": ApprovalState.USED}, NOW)])
def test_what_is_over_cannot_be_answered(changes, now):
    with pytest.raises(Conflict):
        check_answer(task(approvals={"apr_1": question(**changes)}), "apr_1", ["carol"], now)


def test_several_approvers_widen_only_as_far_as_each_said():
    arguments, deadline = {"to": "bob", "amount": 50, "note": "x"}, NOW + timedelta(hours=1)
    first = agreed(question(), Wish(calls=4, lasts=timedelta(minutes=20), free=("amount", "note")), arguments, BOUNDS, NOW, deadline)
    assert first is not None
    asked = question(answers=(Answer(by="anna", granted=True, at=NOW),), widened=first)
    second = agreed(asked, Wish(calls=2, lasts=timedelta(minutes=10), free=("note", "to")), arguments, BOUNDS, NOW, deadline)
    assert second == Widening(calls=2, until=NOW + timedelta(minutes=10), free=("note",), fixed=digest_json({"to": "bob", "amount": 50}))
    assert agreed(asked, Wish(), arguments, BOUNDS, NOW, deadline) is None
    exact = question(answers=(Answer(by="anna", granted=True, at=NOW),))
    assert agreed(exact, Wish(calls=5, free=("*",)), arguments, BOUNDS, NOW, deadline) is None
    free = agreed(asked, Wish(calls=9 - 4, free=("*",)), arguments, BOUNDS, NOW, deadline)
    assert free is not None
    assert free.free == ("amount", "note")


@pytest.mark.parametrize(
    "wish",
    [
        Wish(calls=6),
        Wish(calls=0),
        Wish(calls=2, lasts=timedelta(hours=1)),
        Wish(lasts=timedelta(0)),
        Wish(free=("",)),
        Wish(free=tuple(map(str, range(33)))),
    ],
)
def test_a_wish_beyond_the_bounds_is_a_mistake(wish):
    with pytest.raises(Mistake):
        agreed(question(), wish, {}, BOUNDS, NOW, SOON)


def test_no_classes_where_the_configuration_admits_none():
    with pytest.raises(Mistake):
        agreed(question(), Wish(free=("note",)), {}, Bounds(calls_max=1, lasts_max=timedelta(hours=1)), NOW, SOON)
    assert agreed(question(), Wish(), None, Bounds(calls_max=1, lasts_max=timedelta(hours=1)), NOW, SOON) is None


def test_a_class_ends_with_its_task():
    found = agreed(question(), Wish(calls=2, lasts=timedelta(minutes=30)), {}, BOUNDS, NOW, NOW + timedelta(minutes=1))
    assert found is not None
    assert found.until == NOW + timedelta(minutes=1)


# ---- the fold


def folded(of, *bodies):
    for body in bodies:
        of = fold(of, Record(at=NOW, body=body, task=of.id, seq=of.seq + 1), b"leaf")
    return of


def asking(needed=2):
    return CallDecided(
        decision="d1",
        agent=AGENT.text,
        outcome="ask",
        tool_kind="tool",
        server="bank",
        name="pay",
        arguments_digest=call(to="bob", amount=50).digest,
        approval="apr_1",
        approval_expires_at=SOON,
        question=QuestionTerms(needed=needed, four_eyes=True, approvers=3),
    )


def yes(by, state="pending", **more):
    return ApprovalAnswered(approval="apr_1", state=state, by=by, **more)


def test_a_quorum_is_granted_by_the_last_yes_and_denied_by_one_no():
    of = folded(task(), asking(), yes("anna"))
    assert of.approvals["apr_1"].state is ApprovalState.PENDING
    both = folded(of, yes("bert", "granted")).approvals["apr_1"]
    assert (both.state, both.by, both.four_eyes, [one.by for one in both.answers]) == ("granted", "anna, bert", True, ["anna", "bert"])
    assert folded(of, yes("bert", "denied", reason="no")).approvals["apr_1"].state is ApprovalState.DENIED


@pytest.mark.parametrize(
    "bodies",
    [
        [yes("anna", "granted")],
        [yes("anna"), yes("anna", "granted")],
        [yes("anna"), yes("bert")],
        [yes("anna", "used")],
        [yes("anna"), yes("bert", "granted", until=SOON, calls=2)],
        [yes("anna", until=SOON, calls=2), yes("bert", "granted", until=SOON, calls=3)],
        [yes("anna", until=SOON, calls=2), yes("bert", "granted", until=SOON + timedelta(seconds=1), calls=2)],
        [yes("anna", "denied"), yes("bert", "granted")],
    ],
)
def test_a_ledger_that_grants_too_easily_is_broken(bodies):
    with pytest.raises(Broken):
        folded(task(), asking(), *bodies)


def test_old_records_mean_what_they_meant():
    old = CallDecided(
        decision="d1",
        agent=AGENT.text,
        outcome="ask",
        tool_kind="tool",
        server="bank",
        name="pay",
        arguments_digest="x",
        approval="apr_1",
        approval_expires_at=SOON,
    )
    answered = folded(task(), old, ApprovalAnswered(approval="apr_1", state="granted", by="carol"))
    assert answered.approvals["apr_1"].state is ApprovalState.GRANTED
    assert (answered.approvals["apr_1"].by, answered.approvals["apr_1"].needed) == ("carol", 1)


# ---- who is configured

ANNA = Approver(name="anna", scope=Scope(tools=("bank/*",)), aliases=("Anna@example.com",))
BERT = Approver(name="bert", scope=Scope(effects=("irreversible",)), accounts=("bert",))
CAROL = Approver(name="carol", scope=Scope(data_classes=("public", "internal")))


def terms(consent, of=None, wanted=None):
    rules = rulebook(consent=consent)
    wanted = wanted or call(to="bob", amount=50)
    tool = rules.tool(wanted.kind, wanted.server, wanted.name)
    assert tool is not None
    return consent.terms(tool, of or task(), CLASSES), [one.name for one in consent.who(tool, of or task(), CLASSES)]


def test_scopes_say_who_may_answer():
    consent = Consent(approvers=(ANNA, BERT, CAROL))
    assert terms(consent)[1] == ["anna", "bert", "carol"]
    assert terms(consent, task(labels=Labels(3, untrusted=True)))[1] == ["anna", "bert"]  # what was read counts, not only the tool
    assert terms(consent, wanted=call("mail/read"))[1] == []
    assert Scope().covers("bank/pay", "read", "public", "pay") is False


def test_four_eyes_leave_out_whom_the_task_is_about():
    consent = Consent(approvers=(ANNA, BERT))
    found, who = terms(consent, task(on_behalf_of="ANNA@example.com", opened_by="local:bert"))
    assert (found.four_eyes, found.approvers, who) == (True, 0, [])
    loose = Consent(approvers=(ANNA, BERT), four_eyes=False)
    assert terms(loose, task(on_behalf_of="anna", opened_by="local:bert"))[1] == ["anna", "bert"]


def test_of_several_rules_the_strictest_word_counts():
    rules = (
        ApprovalRule(scope=Scope(tools=("*",)), needed=1, four_eyes=False, elicitation=Elicitation.FORM),
        ApprovalRule(scope=Scope(effects=("irreversible",)), needed=2, elicitation=Elicitation.URL),
        ApprovalRule(scope=Scope(task_types=("other",)), needed=3, four_eyes=True, elicitation=Elicitation.OFF),
    )
    found, _ = terms(Consent(approvers=(ANNA,), rules=rules))
    assert (found.needed, found.four_eyes, found.elicitation) == (2, False, Elicitation.URL)


def test_a_form_is_never_for_what_cannot_be_undone():
    assert terms(Consent(elicitation=Elicitation.FORM))[0].elicitation is Elicitation.URL
    assert terms(Consent(elicitation=Elicitation.FORM), wanted=call("mail/read"))[0].elicitation is Elicitation.FORM


def test_a_question_that_nobody_could_answer_is_not_asked():
    rules = rulebook()
    wanted = facts(task(), call(to="bob", amount=50), rules, terms=Terms(needed=2, approvers=1))
    denied = authorize(wanted, rules.policies)
    assert isinstance(denied, Deny)
    assert [reason.code for reason in denied.reasons] == [Code.NO_APPROVER]
    nobody_configured = facts(task(), call(to="bob", amount=50), rules, terms=Terms(needed=1, approvers=-1))
    assert isinstance(authorize(nobody_configured, rules.policies), Ask)

"""A task's story tells what its records say, and reasons in the words of the documentation."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from remit.errors import Broken
from remit.logic.outline import Outline
from remit.logic.reason_words import MEANINGS, meaning
from remit.logic.records import encode, leaf_hash
from remit.logic.static_role import static_role
from remit.logic.timeline import Step, steps_of
from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished, LeafLine, QuestionTerms, ReasonLine, SourceLine
from remit.model.catalog import Effect, Kind, Sends, ToolFacts
from remit.model.decision import Code
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked
from remit.model.record import Body, GrantLine, Record, TaskMoved, TaskOpened
from remit.model.tripwire import SecretFound
from tests.support import NOW, task

OPENED = TaskOpened(
    type="pay",
    agent="spiffe://remit.test/agent/clerk",
    on_behalf_of="alice",
    opened_by="desk",
    objective="Pay",
    inputs={},
    grants=[GrantLine(kind="tool", server="bank", name="*")],
    tools={},
    ceiling="restricted",
    budget_calls=10,
    deadline=NOW + timedelta(minutes=10),
)


def told(*bodies: Body) -> tuple[Outline, list[Step]]:
    """The whole story, in one part."""
    records = [Record(at=NOW + timedelta(seconds=number), body=body, task="task_1", seq=number + 1) for number, body in enumerate(bodies)]
    outline = Outline()
    for record in records:
        outline.take(record, leaf_hash(encode(record)))
    return outline, steps_of(((number + 7, record) for number, record in enumerate(records)), (), outline)


def call(outcome: str, **more: object) -> CallDecided:
    plain = {
        "decision": "d_1",
        "agent": OPENED.agent,
        "tool_kind": "tool",
        "server": "bank",
        "name": "pay",
        "arguments_digest": "sha-256:x",
    }
    return CallDecided(outcome=outcome, **(plain | {"grant": 0} | more))  # type: ignore[arg-type]


def test_reasons_are_told_in_the_words_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \| .*\|$", text, re.MULTILINE))
    plain = {code: re.sub(r"[`*]", "", words).replace('"', "'") for code, words in rows.items()}
    assert {code.value: words for code, words in MEANINGS.items()} == plain
    assert set(MEANINGS) == set(Code)
    assert meaning("of_another_time") == ""


def test_a_call_and_its_end_are_one_step_and_labels_are_seen_to_rise():
    sources = [SourceLine(kind="result", name="mail/read", trusted=False, number=1), SourceLine(kind="input", name="bill", trusted=True)]
    body = call(
        "allow",
        rank=2,
        policies=["p"],
        sources=sources,
        leaves=[LeafLine(pointer="/amount", sources=[1]), LeafLine(pointer="/to", sources=[0]), LeafLine(pointer="/note")],
        reasons=[ReasonLine(code="permitted")],
    )
    outline, steps = told(
        OPENED, TaskMoved(to="active", by="desk"), body, CallFinished(decision="d_1", ending="ok", size=1234, untrusted=True)
    )
    assert [one.title for one in steps] == ["opened", "active", "bank/pay"]
    step = steps[2]
    assert (step.kind, step.raised, step.labels.rank, step.labels.untrusted, step.index) == ("allow", True, 2, True, 9)
    assert step.end == "ok, 1,234 bytes, after 1.0 s"
    assert [one.strange for one in step.origins] == [True, True, False], "what is strange stands first"
    assert "written by a stranger" in step.origins[0].text + step.origins[1].text
    assert step.why[0].means == MEANINGS[Code.PERMITTED]
    assert outline.used == {"bank/pay": 1}
    assert outline.task is not None
    assert (outline.task.calls, outline.seq) == (1, 4)


def test_every_kind_of_step_has_its_words():
    ask = call(
        "ask", approval="ap_1", approval_expires_at=NOW + timedelta(minutes=5), grant=-1, reasons=[ReasonLine(code="needs_approval")]
    )
    _, steps = told(
        OPENED,
        TaskMoved(to="active", by="desk"),
        ask,
        ApprovalAnswered(approval="ap_1", state="denied", by="ann", reason="no", via="console"),
        LeaseIntended(lease="lease_1", name="db", target="orders", mark="remit-x", expires_at=NOW + timedelta(minutes=5), stands=True),
        LeaseIssued(lease="lease_1"),
        SecretFound(names=["db"], leases=["lease_1"], place="the arguments of a call"),
        LeaseRevoked(lease="lease_1"),
        TaskMoved(to="revoked", by="ann", reason="it looks wrong"),
    )
    lines = [(one.kind, one.title, one.by, one.told) for one in steps[2:]]
    assert lines[0][:2] == ("ask", "bank/pay")
    assert lines[1] == ("approval", "denied", "ann", ("no", "by console"))
    assert lines[2][:2] == ("lease", "credential db on orders intended")
    assert "standing secret" in lines[2][3][1]
    assert lines[4][:2] == ("leak", "a leased secret was found and stopped")
    assert lines[6] == ("state", "revoked", "ann", ("it looks wrong",))
    assert steps[2].why[0].means == MEANINGS[Code.NEEDS_APPROVAL]


def test_a_yes_without_the_passkey_that_is_wanted_is_no_record_of_ours():
    terms = QuestionTerms(needed=1, four_eyes=False, approvers=1, passkey=True)
    ask = call("ask", approval="ap_1", approval_expires_at=NOW + timedelta(minutes=5), grant=-1, question=terms)
    before = (OPENED, TaskMoved(to="active", by="desk"), ask)
    with pytest.raises(Broken, match="without the passkey"):
        told(*before, ApprovalAnswered(approval="ap_1", state="granted", by="ann"))
    for answer in (
        ApprovalAnswered(approval="ap_1", state="denied", by="ann"),
        ApprovalAnswered(approval="ap_1", state="granted", by="ann", passkey="k"),
    ):
        outline, _ = told(*before, answer)
        assert outline.task is not None
        given = outline.task.approvals["ap_1"]
        assert given.state == answer.state
    assert (given.state, given.answers[0].passkey) == ("granted", "k")


def test_a_static_role_holds_every_tool_of_the_servers():
    def tool(name: str, effect: Effect, sends: Sends) -> ToolFacts:
        server, _, short = name.partition("/")
        return ToolFacts(kind=Kind.TOOL, server=server, name=short, effect=effect, sends=sends)

    known = [
        tool("bank/pay", Effect.IRREVERSIBLE, Sends.EXTERNAL),
        tool("bank/close", Effect.IRREVERSIBLE, Sends.INTERNAL),
        tool("mail/read", Effect.READ, Sends.NOWHERE),
        tool("git/push", Effect.WRITE, Sends.EXTERNAL),
    ]
    found = static_role(task(), {"mail/read": 3}, known, NOW + timedelta(minutes=99))
    assert found.servers == ("bank", "mail")
    counted = [(one.tools, one.irreversible, one.external) for one in (found.role, found.granted, found.used)]
    assert counted == [
        (3, 2, 1),
        (2, 1, 1),
        (1, 0, 0),
    ]
    assert (found.seconds, found.leases) == (600, 0), "a task is over with its deadline"

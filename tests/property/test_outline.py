"""A task's story told part by part, each from its own records, is the story told at once; and its labels are those of the folded task."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.logic.life import fold
from remit.logic.outline import Outline
from remit.logic.timeline import steps_of
from remit.model.call_record import CallDecided, CallFinished, LabelsLowered, LabelsRaised
from remit.model.record import GrantLine, Record, TaskMoved, TaskOpened
from remit.model.token_record import TokenIssued
from tests.support import AGENT, NOW


def decided(number: int, outcome: str, rank: int = 0, untrusted: bool = False) -> CallDecided:
    return CallDecided(
        decision=f"d{number}",
        agent=AGENT.text,
        outcome=outcome,
        tool_kind="tool",
        server="mail",
        name="read",
        arguments_digest="sha-256:a",
        rank=rank,
        untrusted=untrusted,
        grant=0 if outcome == "allow" else -1,
    )


WHAT = st.tuples(
    st.sampled_from(["allow", "allow", "deny", "finish", "finish", "raise", "lower", "token"]), st.integers(0, 3), st.booleans()
)


@st.composite
def stories(draw):
    """The records of a task that could be: calls end in any order, some never, and labels rise and are lowered."""
    opened = TaskOpened(
        type="t",
        agent=AGENT.text,
        on_behalf_of="alice",
        opened_by="test",
        objective="Read",
        inputs={},
        grants=[GrantLine(kind="tool", server="mail", name="read")],
        tools={},
        ceiling="restricted",
        budget_calls=1_000,
        deadline=NOW + timedelta(hours=1),
    )
    bodies, under_way = [opened, TaskMoved(to="active", by="test")], []
    for number, (what, rank, flag) in enumerate(draw(st.lists(WHAT, max_size=60))):
        if what in {"allow", "deny"}:
            bodies.append(decided(number, what, rank if what == "allow" and flag else 0, flag and what == "allow"))
            under_way += [f"d{number}"] if what == "allow" else []
        elif what == "finish" and under_way:
            done = under_way.pop(draw(st.integers(0, len(under_way) - 1)))
            bodies.append(
                CallFinished(decision=done, ending=["ok", "failed", "not_made", "ok"][rank], size=rank, rank=rank, untrusted=flag)
            )
        elif what == "raise":
            bodies.append(LabelsRaised(decision="d0", rank=rank, untrusted=flag))
        elif what == "lower":
            bodies.append(LabelsLowered(rank=rank, untrusted=flag, by="carol", reason="seen"))
        elif what == "token":
            use, until = ("x509-svid" if flag else "task"), NOW + timedelta(minutes=rank)
            bodies.append(TokenIssued(agent=AGENT.text, use=use, jti=f"j{number}", expires_at=until, subject_proof="endpoint"))
    if draw(st.booleans()):
        bodies.append(TaskMoved(to="completed", by="test"))
    return [Record(at=NOW + timedelta(seconds=n), body=body, task="task_1", seq=n) for n, body in enumerate(bodies, 1)]


def outline_of(records, steps_a_part):
    outline = Outline(steps_a_part=steps_a_part)
    for record in records:
        outline.take(record, b"leaf")
    return outline


def told(records, steps_a_part):
    """All parts, one behind the other."""
    outline, steps = outline_of(records, steps_a_part), []
    for part in range(-(-outline.steps // steps_a_part)):
        first, last, beyond = outline.records_of(part)
        assert all(seq > last for seq in beyond)
        own = [(record.seq * 10, record) for record in records[first - 1 : last]]
        found = steps_of(own, [records[seq - 1] for seq in beyond], outline)
        assert len(found) == min(steps_a_part, outline.steps - len(steps))
        steps += found
    return steps


@settings(max_examples=150)
@given(stories(), st.integers(1, 6))
def test_parts_make_the_whole(records, steps_a_part):
    whole = told(records, 1_000)
    assert told(records, steps_a_part) == whole
    task, expected, places = None, [], {}
    for record in records:
        before, task = task, fold(task, record, b"leaf")
        rose = before is not None and not before.labels.covers(task.labels)
        if isinstance(record.body, CallFinished):
            step = expected[places[record.body.decision]]
            step[1], step[2], step[3] = (task.labels if rose else step[1]), (step[2] or rose), True
            continue
        if isinstance(record.body, CallDecided):
            places[record.body.decision] = len(expected)
        expected.append([record.seq, task.labels, rose, False])
    assert [[step.seq, step.labels, step.raised, bool(step.end)] for step in whole] == expected
    outline = outline_of(records, steps_a_part)
    assert outline.task == task
    assert outline.used == ({"mail/read": task.calls + sum(step.end.startswith("not made") for step in whole)} if outline.used else {})
    assert outline.undetermined == (sum(step.kind == "allow" and not step.end for step in whole) if task.over else 0)

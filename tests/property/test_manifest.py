"""Drift: any change of any part, in any order, told by anybody, holds the task until a person accepts exactly what stands then.

The first laws are of the pure fold; then two processes on one store report, call, resume and crash in any order, under all the
invariants of a task's life (``test_invariants.py``, replay among them).
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from remit.errors import Broken, Conflict, Mistake, RemitError
from remit.logic.arguments import digest_bytes
from remit.logic.authorize import authorize
from remit.logic.life import check_move, fold
from remit.logic.manifest import (
    accepted,
    changes,
    check_acceptance,
    check_parts,
    current,
    drift_words,
    drifted,
    follows,
    held,
    manifest_digest,
    server_parts,
)
from remit.logic.records import decode, encode
from remit.model.decision import Code, Deny
from remit.model.manifest import Follows, ManifestAccepted, ManifestChanged, PartKind
from remit.model.record import Record, TaskMoved
from remit.model.task import Task, TaskState, amended
from remit.services.manifests import Manifests
from remit.services.mediation import Refused
from tests.property.test_invariants import BUDGET, USES, Life, Watched
from tests.support import NOW, call, facts, grant, rulebook, task

A, B, C = (digest_bytes(text) for text in (b"a", b"b", b"c"))
BOUND = {"model": A, "system_prompt": A, "tools/search": A, "data_sources/customers": A}
PARTS = st.sampled_from([*BOUND, "files/agent.py", "command", "servers/bank/pay"])
REPORTS = st.lists(st.dictionaries(PARTS, st.sampled_from([A, B, C, ""]), min_size=1, max_size=3), max_size=6)
RULES = st.dictionaries(st.sampled_from([kind.value for kind in PartKind]), st.sampled_from([one.value for one in Follows]))


def record(of: Task, body: ManifestChanged | ManifestAccepted | TaskMoved) -> Record:
    made = Record(at=NOW, body=body, task=of.id, seq=of.seq + 1)
    return decode(encode(made))


def told(of: Task, report: dict[str, str]) -> Task:
    """The task after a report, by way of its record."""
    news = changes(of, report)
    if not news:
        return of
    body = ManifestChanged(by="test", parts=list(news), follows=follows(of, [one.part for one in news]).value)
    return fold(of, record(of, body), b"leaf")


def bound(rules: dict[str, str]) -> Task:
    return task(manifest=BOUND, drift_rules=rules, seq=1)


def accepted_by(of: Task, manifest: str, by: str = "carol") -> Task:
    body = ManifestAccepted(manifest=manifest, parts=list(drifted(of)), by=by)
    return fold(of, record(of, body), b"leaf")


@given(REPORTS, RULES)
def test_no_change_leaves_the_task_active_unless_its_type_only_records_it(reports, rules):
    at = bound(rules)
    changed: set[str] = set()
    for report in reports:
        changed |= {one.part for one in changes(at, report)}
        at = told(at, report)
    strict = {part for part in changed if rules.get(part.partition("/")[0], "suspend") != "record"}
    assert set(at.drift) == changed, "going back is no way out"
    assert set(held(at)) == strict
    assert at.state is (TaskState.SUSPENDED if strict else TaskState.ACTIVE)
    assert {word for word in drift_words(at) if word in changed} == changed
    decision = authorize(facts(at, call(to="bob", amount=5), RULEBOOK), RULEBOOK.policies)
    if strict:
        assert isinstance(decision, Deny)
        assert Code.MANIFEST_CHANGED in {reason.code for reason in decision.reasons}
        with pytest.raises(Conflict):
            check_move(at, TaskState.ACTIVE)
        with pytest.raises(Broken):
            fold(at, record(at, TaskMoved(to="active", by="carol")), b"leaf")
    else:
        assert at.state is TaskState.ACTIVE


@given(st.dictionaries(PARTS, st.sampled_from([B, C, ""]), min_size=1), RULES, st.randoms())
def test_reports_that_come_in_another_order_come_to_the_same(parts, rules, random):
    together = told(bound(rules), parts)
    one_by_one = bound(rules)
    order = list(parts)
    random.shuffle(order)
    for part in order:
        one_by_one = told(one_by_one, {part: parts[part]})
    assert one_by_one.drift == together.drift
    assert one_by_one.state is together.state
    assert manifest_digest(one_by_one) == manifest_digest(together)


@given(REPORTS.filter(bool), RULES, st.dictionaries(PARTS, st.sampled_from([A, B, C, ""]), min_size=1, max_size=2))
def test_only_what_was_shown_is_accepted_and_then_it_is_what_is_bound(reports, rules, later):
    at = bound({kind: what for kind, what in rules.items() if what != "revoke"})
    for report in reports:
        at = told(at, report)
    if at.state is not TaskState.SUSPENDED:
        with pytest.raises(Conflict):
            check_acceptance(at, manifest_digest(at), "carol")
        return
    shown = manifest_digest(at)
    for own in (at.agent.text, at.id):
        with pytest.raises(Conflict):
            check_acceptance(at, shown, own)
        with pytest.raises(Broken):
            accepted_by(at, shown, own)
    resumed = accepted_by(at, shown)
    assert resumed.state is TaskState.ACTIVE
    assert not resumed.drift
    assert accepted(resumed) == current(resumed) == current(at)
    assert resumed.tools.get("bank/pay", "") == current(at).get("servers/bank/pay", "")
    moved = told(at, later)
    if manifest_digest(moved) != shown:
        with pytest.raises(Conflict):
            check_acceptance(moved, shown, "carol")
        with pytest.raises(Broken):
            accepted_by(moved, shown)


@given(PARTS, st.sampled_from([B, C]))
def test_what_is_to_be_revoked_is_never_accepted(part, digest):
    at = told(bound({part.partition("/")[0]: "revoke"}), {part: digest})
    assert at.state is TaskState.SUSPENDED
    with pytest.raises(Conflict):
        check_acceptance(at, manifest_digest(at), "carol")


@given(REPORTS)
def test_what_is_only_recorded_stays_with_the_policies(reports):
    at = bound({kind.value: "record" for kind in PartKind})
    for report in reports:
        at = told(at, report)
    rules = rulebook('permit (principal, action, resource) unless { context.drift.contains("model") };')
    decision = authorize(facts(at, call("mail/read"), rules), rules.policies)
    assert isinstance(decision, Deny) is ("model" in at.drift)


@given(st.dictionaries(st.sampled_from(["pay", "other"]), st.sampled_from([A, B])))
def test_a_list_of_tools_speaks_of_the_tools_of_the_grant_alone(listed):
    parts = server_parts(bound({}), "bank", listed)
    assert parts == {"servers/bank/pay": listed.get("pay", "")}


@given(st.text(max_size=30), st.text(max_size=60))
def test_a_part_is_told_in_its_form_or_not_at_all(part, digest):
    with pytest.raises(Mistake):
        check_parts({part: digest})


@pytest.mark.parametrize(
    "part", ["servers/bank/pay", "model/x", "tools/", "tools", "tools/\x1b[2J", "tools/a\u202eb", "tools/" + "x" * 101, "MODEL"]
)
def test_names_that_are_none(part):
    with pytest.raises(Mistake):
        check_parts({part: A})


def test_bounds_and_endings():
    with pytest.raises(Mistake):
        check_parts({f"tools/{number}": A for number in range(101)})
    with pytest.raises(Mistake):
        check_parts({"model": ""})
    assert check_parts({"model": ""}, gone=True) == {"model": ""}
    for state in (TaskState.PENDING, TaskState.COMPLETED, TaskState.REVOKED, TaskState.EXPIRED):
        at = amended(bound({}), state=state)
        with pytest.raises(Broken):
            told(at, {"model": B})


RULEBOOK = rulebook()


class Drifting(Life):
    """Reports, calls and resumes beside everything else that may happen to a task."""

    tasks = Life.tasks

    def manifests(self, which: int) -> Manifests:
        world = self.worlds[which]
        return Manifests(world.tasks, world.store, lambda: world.rules, drifts_max=50)

    @rule(target=tasks, which=st.integers(0, 1), rules=RULES)
    def open_bound(self, which, rules):
        granted = (grant(uses=USES), grant("mail/read"))
        made = self.run(self.worlds[which].open(*granted, budget_calls=BUDGET, manifest=BOUND, drift=rules))
        self.watched[made.id] = Watched()
        return made

    @rule(of=tasks, reports=st.lists(st.tuples(st.integers(0, 1), PARTS, st.sampled_from([A, B, ""])), min_size=1, max_size=4))
    def reports_and_calls_at_once(self, of, reports):
        async def together():
            calls = [world.mediation.authorize(world.bearer(of), call("mail/read")) for world in self.worlds]
            return await asyncio.gather(
                *(self.say(which, of, part, digest) for which, part, digest in reports), *calls, return_exceptions=True
            )

        answers = self.run(together())
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, RemitError)
        self.run(self.worlds[0].tasks.settle())
        self.held_everywhere(of)

    async def say(self, which, of, part, digest):
        if part.startswith("servers/"):
            await self.manifests(which).saw(of.id, part.partition("/")[2], digest)
        else:
            await self.manifests(which).report(of.id, {part: digest}, "agent")

    def held_everywhere(self, of):
        """As soon as a report has returned, no process allows a call of a task whose drift a person must see."""
        durable = self.run(self.worlds[0].tasks.view_with(of.id, lambda _: False))
        if held(durable):
            assert durable.state is not TaskState.ACTIVE
            for world in self.worlds:
                verdict = self.run(world.mediation.authorize(world.bearer(of), call("mail/read")))
                assert isinstance(verdict, Refused)

    @rule(which=st.integers(0, 1), of=tasks, stale=st.booleans())
    def resume(self, which, of, stale):
        manifest = self.run(self.manifests(1 - which).shown(of.id)).manifest
        if stale:
            try:
                self.run(self.say(which, of, "model", C))
            except RemitError:
                return
        durable = self.run(self.worlds[0].tasks.view_with(of.id, lambda _: False))
        try:
            after = self.run(self.manifests(which).accept(of.id, manifest, by="carol", reason="seen"))
        except RemitError:
            return
        assert manifest == manifest_digest(durable)
        assert after.state is TaskState.ACTIVE
        assert not after.drift


Drifting.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestDrifting = Drifting.TestCase

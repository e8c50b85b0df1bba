"""Reports: what a control is known as, from counts, drills and settings; nothing green that nobody exercised, no markup of strangers."""

from __future__ import annotations

import html.parser
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.logic.frameworks import FRAMEWORKS
from remit.logic.report import OLDER, control_of, item_of, make_report, seen_of
from remit.logic.report_html import report_html
from remit.logic.report_rules import BY_KEY, RULES
from remit.logic.report_text import escaped, report_markdown
from remit.logic.tally import ENTRIES_KEPT, NAMES_MAX, Count, Names, Tally
from remit.logic.tally_words import ACROSS, COUNTERS, counted
from remit.model.call_record import (
    ApprovalAnswered,
    CallDecided,
    CallFinished,
    LabelsLowered,
    LabelsRaised,
    LeafLine,
    ReasonLine,
    ValuesForgotten,
)
from remit.model.console import PasskeyAdded, PasskeyRemoved, PersonSignedIn, PersonSignedOut, SignInRefused
from remit.model.decision import Code
from remit.model.delegation_record import (
    AgentsRestored,
    AgentsStopped,
    DelegationRefused,
    PurseLine,
    TaskDelegated,
    TaskNarrowed,
    TaskReturned,
)
from remit.model.drill import DrillRan, Incident, Outcome
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseRevoking, LeaseStuck, LeaseSwept, TargetSecretSet
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.record import AccessDecided, GrantLine, PolicyActivated, Record, TaskMoved, TaskOpened
from remit.model.report import Coverage, Covered, Framework, Gap, InForce, ItemState, LiveSetting, Period, Read, State
from remit.model.signal import SignalFollowed, SignalReceived
from remit.model.task import TaskState
from remit.model.token_record import AuthorityMade, KeysRotated, TokenIssued, TokenRefused, TokenRevoked
from remit.model.tripwire import SecretFound
from tests.support import AGENT, NOW

LATER = NOW + timedelta(minutes=5)
READ = Read(source="store", origin="o", entries=1, root="00", checkpoint="o\n1\nx\n", in_period=1)


def decided(outcome: str = "deny", *codes: str, **changes: Any) -> CallDecided:
    made = CallDecided(
        decision="d_1",
        agent=AGENT.text,
        outcome=outcome,
        tool_kind="tool",
        server="bank",
        name="pay",
        arguments_digest="sha-256:x",
        reasons=[ReasonLine(code=code) for code in codes],
    )
    return replace(made, **changes)


def opened(**changes: Any) -> TaskOpened:
    made = TaskOpened(
        type="pay",
        agent=AGENT.text,
        on_behalf_of="alice",
        opened_by="alice",
        objective="Pay",
        inputs={},
        grants=[GrantLine(kind="tool", server="bank", name="pay")],
        tools={},
        ceiling="restricted",
        budget_calls=10,
        deadline=LATER,
    )
    return replace(made, **changes)


def ran(
    drill: str = "confused-deputy",
    outcome: str = "held",
    rulebook: str = "r",
    controls: tuple[str, ...] = (),
    configuration: str = "c",
) -> DrillRan:
    """A drill whose steps bear on some controls, all with the same outcome; on every control where none is named."""
    bears_on = list(controls or BY_KEY)
    return DrillRan(
        drill=drill,
        outcome=outcome,
        held=1,
        not_held=0,
        not_tried=0,
        by="ci",
        result_digest="x",
        rulebook=rulebook,
        configuration=configuration,
        controls_held=bears_on if outcome == "held" else [],
        controls_not_held=bears_on if outcome == "not_held" else [],
    )


SAMPLES: tuple[Any, ...] = (
    *(decided("deny", code.value) for code in Code),
    decided("allow", "permitted", rank=1, effect="irreversible", leaves=[LeafLine(pointer="/to")], signals=["new_tool"]),
    decided("ask", "needs_approval", effect="irreversible", approval="apr_1"),
    replace(decided("allow"), ancestors=[msgspec.json.decode(b'{"task":"t","seq":1}')]),
    CallFinished(decision="d_1", ending="ok"),
    opened(),
    opened(manifest={"model": "x"}, on_behalf_proof="id_token"),
    *(TaskMoved(to=state.value, by="x") for state in TaskState),
    TaskNarrowed(by="x", uses={}),
    TaskDelegated(child="t", agent="a", request="r", by="b", lent=PurseLine()),
    TaskReturned(child="t", spent=PurseLine()),
    DelegationRefused(parent="t", by="x", code="y", skipped=2),
    AgentsStopped(agents=["a"], by="x"),
    AgentsRestored(agents=["a"], by="x"),
    TokenIssued(agent="a", use="task-token", jti="j", expires_at=LATER, subject_proof="p"),
    TokenIssued(agent="a", use="task-token", jti="j", expires_at=LATER, subject_proof="p", bound="k"),
    TokenIssued(agent="a", use="jwt-svid", jti="j", expires_at=LATER, subject_proof="p"),
    TokenRefused(why="x", skipped=3),
    TokenRevoked(jti="j", by="x"),
    KeysRotated(retired="a", current="b", by="x"),
    AuthorityMade(number=1, fingerprint="x", begins_at=NOW, ends_at=LATER),
    AuthorityMade(number=2, fingerprint="x", begins_at=NOW, ends_at=LATER),
    LabelsRaised(decision="d", rank=1),
    LabelsLowered(rank=0, untrusted=False, by="x", reason="y"),
    ApprovalAnswered(approval="apr_1", state="granted", by="bob", shown=True),
    ApprovalAnswered(approval="apr_1", state="denied", by="bob"),
    ApprovalAnswered(approval="apr_1", state="granted", by="bob", passkey="sha-256:x"),
    PersonSignedIn(person="local:ann", via="link", session="s"),
    PersonSignedIn(person="bob@corp.example", via="oidc", session="s"),
    PersonSignedOut(person="bob@corp.example", by="local:ann"),
    SignInRefused(why="x", via="link", skipped=2),
    PasskeyAdded(person="bob@corp.example", passkey="sha-256:x"),
    PasskeyRemoved(person="bob@corp.example", passkey="sha-256:x", by="bob@corp.example"),
    PolicyActivated(policy_set="p", schema="s", configuration="c", policies=1, rulebook="r"),
    AccessDecided(
        decision="d",
        caller="c",
        application="a",
        subject_type="u",
        subject="x",
        action="y",
        resource_type="z",
        resource="w",
        outcome="deny",
    ),
    ManifestChanged(by="x", parts=[], follows="suspend"),
    ManifestChanged(by="x", parts=[], follows="record"),
    ManifestAccepted(manifest="m", parts=[], by="x"),
    SignalReceived(signal="s", transmitter="t", via="push", outcome="accepted"),
    SignalReceived(signal="s", transmitter="t", via="push", outcome="refused", skipped=1),
    SignalFollowed(signal="s", revoked=1, suspended=0),
    LeaseIntended(lease="l", name="db", target="t", mark="m", expires_at=LATER, stands=True),
    LeaseIssued(lease="l"),
    LeaseRevoked(lease="l"),
    LeaseStuck(lease="l"),
    LeaseSwept(target="t", mark="m"),
    TargetSecretSet(target="t", by="x"),
    TargetSecretSet(target="t", by="x", rotation="done"),
    SecretFound(names=["db"], leases=["l"], place="x"),
    ValuesForgotten(before=NOW, calls=1, by="x"),
    *(ran(drill.value, outcome.value) for drill in Incident for outcome in Outcome),
)


def tally_of(*bodies: Any, task: str | None = None, **period: Any) -> Tally:
    """Bodies one after the other, a second apart; with ``task`` all of one task."""
    tally = Tally(**period)
    for index, body in enumerate(bodies):
        tally.take(index, bytes(32), Record(at=NOW + timedelta(seconds=index), body=body, task=task, seq=index + 1 if task else 0))
    tally.finish()
    return tally


def known_as(key: str, *bodies: Any, live: dict[str, LiveSetting] | None = None, task: str | None = None) -> State:
    return control_of(BY_KEY[key], tally_of(*bodies, task=task), live).state


def test_every_counter_comes_from_some_record_and_every_rule_names_counters():
    found = {counter for body in SAMPLES for counter, _ in counted(body)}
    assert found | set(ACROSS) == COUNTERS
    for rule in RULES:
        assert {*rule.shows, *rule.tells, *rule.against} <= COUNTERS, rule.key
        assert rule.shows or rule.drills, rule.key  # a control that nothing could show is none


@pytest.mark.parametrize("rule", RULES, ids=[rule.key for rule in RULES])
def test_a_control_is_shown_by_what_shows_it_and_by_nothing_else(rule):
    assert control_of(rule, Tally(), None).state is State.NOT_SHOWN
    others = [body for body in SAMPLES if not {counter for counter, _ in counted(body)} & {*rule.shows, *rule.against}]
    quiet = [body for body in others if not isinstance(body, DrillRan)]
    tally = Tally()
    for body in quiet:
        for counter, number in counted(body):
            tally.counts.setdefault(counter, Count()).number += number
    assert control_of(rule, tally, None).state is State.NOT_SHOWN
    for counter in rule.shows:
        tally = Tally()
        tally.counts[counter] = Count(1)
        assert control_of(rule, tally, None).state is State.SHOWN
        for against in rule.against:
            tally.counts[against] = Count(1)
            assert control_of(rule, tally, None).state is State.CONTRADICTED
            del tally.counts[against]
    for drill in rule.drills:
        assert known_as(rule.key, ran(drill.value)) is (State.SHOWN if rule.whole_drills else State.DRILLED)
        assert known_as(rule.key, ran(drill.value), ran(drill.value, "not_held")) is State.CONTRADICTED
        assert known_as(rule.key, ran(drill.value, "not_tried")) is State.NOT_SHOWN
    for key in rule.settings:
        on, off = (LiveSetting(key=key, value="x", on=on) for on in (True, False))
        assert control_of(rule, Tally(), {key: on}).state is State.CONFIGURED
        assert control_of(rule, Tally(), {key: off}).state is State.NOT_SHOWN
    for key in rule.against_settings:
        assert control_of(rule, Tally(), {key: LiveSetting(key=key, value="x", on=True)}).state is State.CONTRADICTED


def test_a_drill_counts_by_its_latest_run_and_only_against_the_rules_in_force():
    assert known_as("drift", ran("prompt-change", "not_held"), ran("prompt-change")) is State.DRILLED
    in_force = PolicyActivated(policy_set="p", schema="s", configuration="c", policies=1, rulebook="newer")
    assert known_as("drift", ran("prompt-change"), in_force) is State.NOT_SHOWN
    control = control_of(BY_KEY["drift"], tally_of(ran("prompt-change"), in_force), None)
    assert control.drills == {"prompt-change": OLDER}
    assert known_as("drift", in_force, ran("prompt-change", rulebook="newer")) is State.DRILLED
    assert known_as("drift", ran("prompt-change", "not_held"), in_force) is State.CONTRADICTED  # what failed is not forgotten by a change
    assert known_as("drift", ran("prompt-change", rulebook="newer", configuration="older"), in_force) is State.NOT_SHOWN
    assert known_as("drills", ran("prompt-change"), in_force) is State.NOT_SHOWN


def test_what_is_made_or_handed_over_for_the_first_time_is_no_rotation():
    first, second = (AuthorityMade(number=number, fingerprint="x", begins_at=NOW, ends_at=LATER) for number in (1, 2))
    given, other = TargetSecretSet(target="db", by="ann"), TargetSecretSet(target="other", by="ann")
    assert known_as("rotation", first, given, other) is State.NOT_SHOWN
    assert known_as("rotation", TargetSecretSet(target="db", by="remit", rotation="begun")) is State.NOT_SHOWN
    assert known_as("rotation", first, second) is State.SHOWN
    assert known_as("rotation", given, other, given) is State.SHOWN
    assert known_as("rotation", TargetSecretSet(target="db", by="remit", rotation="done")) is State.SHOWN


def test_a_drill_counts_only_against_the_configuration_that_was_read():
    for read, state in (
        (InForce(rulebook="r", configuration="c"), State.DRILLED),
        (InForce(rulebook="r", configuration="weakened"), State.NOT_SHOWN),
        (InForce(rulebook="weakened", configuration="c"), State.NOT_SHOWN),
    ):
        assert control_of(BY_KEY["drift"], tally_of(ran("prompt-change")), None, read).state is state


def test_a_drill_speaks_for_the_controls_that_its_steps_bear_on_and_for_no_others():
    assert known_as("refused-proofs", ran("hijacked-key", controls=("bound-tokens",))) is State.NOT_SHOWN
    assert known_as("end", ran("hijacked-key", "not_held", controls=("bound-tokens",))) is State.NOT_SHOWN
    assert known_as("bound-tokens", ran("hijacked-key", "not_held", controls=("bound-tokens",))) is State.CONTRADICTED
    assert known_as("bound-tokens", ran("slow-exfiltration", controls=("bound-tokens",))) is State.NOT_SHOWN  # it is not about that
    mixed = replace(ran("hijacked-key", "not_held", controls=("bound-tokens",)), controls_held=["end"])
    assert known_as("end", mixed) is State.DRILLED
    assert known_as("drills", mixed) is State.CONTRADICTED


def test_a_call_that_was_allowed_outside_of_its_tasks_life_contradicts():
    life = (opened(), TaskMoved(to="active", by="x"), decided("allow", "permitted", grant=0))
    assert known_as("decided", *life, task="t") is State.SHOWN
    for forged in (
        (opened(), decided("allow", "permitted", grant=0)),
        (opened(), TaskMoved(to="active", by="x"), TaskMoved(to="suspended", by="x"), decided("allow", "permitted", grant=0)),
        (opened(), TaskMoved(to="active", by="x"), TaskMoved(to="completed", by="x"), decided("allow", "permitted", grant=0)),
        (opened(deadline=NOW), TaskMoved(to="active", by="x"), decided("allow", "permitted", grant=0)),
    ):
        assert known_as("decided", *forged, task="t") is State.CONTRADICTED


@pytest.mark.parametrize(("who", "stopped"), [(AGENT.text, True), ("*", True), ("spiffe://remit.test/agent/x", False)])
def test_a_call_that_was_allowed_while_its_agent_was_stopped_contradicts(who, stopped):
    tally = Tally()
    bodies = [(None, AgentsStopped(agents=[who], by="x")), ("t", opened()), ("t", TaskMoved(to="active", by="x"))]
    bodies += [("t", decided("allow", "permitted", grant=0)), (None, AgentsRestored(agents=[who], by="x"))]
    bodies += [("t", decided("allow", "permitted", grant=0, decision="d_2"))]
    seq = 0
    for index, (task, body) in enumerate(bodies):
        seq += task is not None
        tally.take(index, bytes(32), Record(at=NOW, body=body, task=task, seq=seq if task else 0))
    assert tally.number("calls.allowed_while_stopped") == int(stopped)
    assert control_of(BY_KEY["stop"], tally, None).state is (State.CONTRADICTED if stopped else State.SHOWN)


def test_credentials_are_followed_to_their_end():
    made = (opened(), TaskMoved(to="active", by="x"), LeaseIntended(lease="l", name="db", target="pg", mark="m", expires_at=LATER))
    stuck = (*made, LeaseIssued(lease="l"), TaskMoved(to="completed", by="x"), LeaseStuck(lease="l"))
    tally = tally_of(*stuck, task="t")
    assert (tally.number("leases.standing_now"), tally.number("leases.stuck_now"), tally.living) == (1, 1, 0)
    assert control_of(BY_KEY["leases"], tally, None).state is State.CONTRADICTED
    gone = tally_of(*stuck, LeaseRevoked(lease="l"), task="t")
    assert (gone.number("leases.standing_now"), gone.number("leases.stuck_now")) == (0, 0)
    assert control_of(BY_KEY["leases"], gone, None).state is State.SHOWN
    assert (gone.spans["lease"].longest_ms, gone.spans["revocation"].longest_ms) == (3_000, 2_000)
    assert gone.names["target"].seen == {"pg": 1}
    revoking = tally_of(*made, LeaseIssued(lease="l"), LeaseRevoking(lease="l", by="x"), task="t")
    assert revoking.number("leases.standing_now") == 1


def test_people_count_as_who_they_proved_to_be_and_refusals_with_those_that_were_not_recorded():
    signed_in = PersonSignedIn(person="x", via="oidc", session="s")
    answered = ApprovalAnswered(approval="a", state="granted", by="x", passkey="p")
    tally = tally_of(signed_in, replace(signed_in, via="link"), SignInRefused(why="x", via="link", skipped=2), answered)
    numbers = [tally.number(f"people.{what}") for what in ("signed_in", "signed_in_at_a_provider", "refused")]
    assert (numbers, tally.number("approvals.by_passkey")) == ([2, 1, 3], 1)
    assert known_as("people", answered) is State.NOT_SHOWN, "an answer by the command line is nobody's sign-in"
    for framework, id in (
        (Framework.OWASP_NHI, "NHI10:2025"),
        (Framework.NIST_AI_RMF, "GOVERN 2.1"),
        (Framework.NIST_AI_RMF, "GOVERN 3.2"),
    ):
        assert "people" in next(one for one in FRAMEWORKS[framework].items if one.id == id).controls


def test_what_does_not_fold_is_counted_and_contradicts_the_ledger():
    assert known_as("ledger", opened()) is State.SHOWN
    assert known_as("ledger", TaskMoved(to="active", by="x"), opened(), task="t") is State.CONTRADICTED


def test_only_what_lies_in_the_period_counts_but_everything_is_followed():
    bodies = (opened(), TaskMoved(to="active", by="x"), decided("deny", "not_granted"), decided("deny", "not_granted"))
    tally = tally_of(*bodies, task="t", begin=NOW + timedelta(seconds=2), end=NOW + timedelta(seconds=3))
    assert (tally.number("because.not_granted"), tally.number("tasks.opened"), tally.number("ledger.entries")) == (1, 0, 1)
    allowed = tally_of(opened(), TaskMoved(to="active", by="x"), decided("allow", grant=0), task="t", begin=NOW + timedelta(seconds=2))
    assert allowed.number("calls.allowed_outside_life") == 0  # the opening before the period is known


def test_memory_does_not_grow_with_the_ledger():
    tally = Tally()
    for index in range(3_000):
        task = f"t{index}"
        for seq, body in enumerate(
            (opened(), TaskMoved(to="active", by="x"), decided(name=f"n{index}"), TaskMoved(to="completed", by="x")), 1
        ):
            tally.take(index * 4 + seq, bytes(32), Record(at=NOW, body=body, task=task, seq=seq))
        tally.take(0, bytes(32), Record(at=NOW, body=ApprovalAnswered(approval=f"a{index}", state="granted", by="x"), task=task, seq=5))
    assert tally._tasks == {}
    assert tally._asked == {}
    assert len(tally.names["tool"].seen) == NAMES_MAX
    assert tally.names["tool"].unnamed == 1_000
    assert all(len(count.latest) <= ENTRIES_KEPT for count in tally.counts.values())


def test_an_item_is_green_only_where_all_of_its_controls_are():
    item = next(one for one in FRAMEWORKS[Framework.OWASP_AGENTIC].items if one.id == "ASI06:2026")

    def state(*states: State) -> ItemState:
        controls = {key: replace(control_of(BY_KEY[key], Tally(), None), state=one) for key, one in zip(item.keys, states, strict=True)}
        return item_of(item, controls).state

    assert item.keys == ("labels", "origins")
    assert state(State.SHOWN, State.SHOWN) is ItemState.SHOWN
    assert state(State.SHOWN, State.CONFIGURED) is ItemState.PARTLY
    assert state(State.DRILLED, State.DRILLED) is ItemState.PARTLY
    assert state(State.CONFIGURED, State.CONFIGURED) is ItemState.NOT_SHOWN
    assert state(State.SHOWN, State.CONTRADICTED) is ItemState.CONTRADICTED
    nothing = replace(item, controls="")
    assert item_of(nothing, {}).state is ItemState.NOT_SHOWN
    assert item_of(nothing, {}).note


def test_the_frameworks_are_whole():
    ids = {framework: [item.id for item in words.items] for framework, words in FRAMEWORKS.items()}
    assert set(ids) == set(Framework)
    assert ids[Framework.OWASP_AGENTIC] == [f"ASI{number:02}:2026" for number in range(1, 11)]
    assert ids[Framework.OWASP_NHI] == [f"NHI{number}:2025" for number in range(1, 11)]
    layers = [id.partition(".")[0] for id in ids[Framework.MAESTRO]]
    assert {layer: layers.count(layer) for layer in layers} == {"L7": 13, "L6": 7, "L5": 6, "L4": 6, "L3": 6, "L2": 5, "L1": 7, "X": 5}
    assert len(ids[Framework.NIST_AI_RMF]) == 31
    for words in FRAMEWORKS.values():
        assert len({item.id for item in words.items}) == len(words.items)
        assert all(item.cannot and set(item.keys) <= set(BY_KEY) for item in words.items)
    assert {key for words in FRAMEWORKS.values() for item in words.items for key in item.keys} >= set(BY_KEY) - {"answers"}


class Text(html.parser.HTMLParser):
    """What of a page is markup, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202egnp`|\n# [x](javascript:y) <img src=x onerror=z> http://evil.example www.evil.example'


def report_with(text: str) -> Any:
    tally = tally_of(decided(name=text, server="bank"), ran())
    seen, unused = seen_of(tally, {"tool": [f"other {text}"]})
    coverage = Coverage(
        configured=(Covered(kind="tool", known=2, under_policy=1, names=(text,)),),
        gaps=(Gap(what=text, where=text, mend=text),),
        seen=seen,
        unused=unused,
    )
    live = {"agents": LiveSetting(key="agents", value=text)}
    read = replace(READ, origin=text, checkpoint=f"{' '.join(text.splitlines())}\n1\n")
    return make_report(Framework.OWASP_AGENTIC, tally, live, coverage, period=Period(), read=read, read_from=InForce(configuration=text))


@given(st.text(st.characters(codec=None), max_size=60) | st.just(HOSTILE))
def test_nothing_of_strangers_becomes_markup(text):
    plain, hostile = Text(), Text()
    plain.feed(report_html(report_with("x")))
    page = report_html(report_with(text))
    hostile.feed(page)
    assert hostile.tags == plain.tags
    assert not {"\x1b", "\u202e", "\x00"} & set(page)
    page.encode("utf-8")
    lines = report_markdown(report_with(text)).splitlines()
    assert len(lines) == len(report_markdown(report_with("x")).splitlines())


def test_markdown_of_strangers_is_only_text():
    told = escaped(HOSTILE)
    assert not {"\n", "\x1b", "\u202e"} & set(told)
    for markup in ("<script", "[x](", "`", "http://", "www.evil"):
        position = told.find(markup)
        assert position < 0 or told[position - 1] == "\\", markup
    table = report_markdown(report_with("a|b")).splitlines()
    rows = [line.replace("\\|", "") for line in table if line.startswith("| ")]
    assert {row.count("|") for row in rows} <= {3, 4, 5}


def test_json_says_what_the_report_says():
    report = report_with(HOSTILE)
    told = msgspec.json.decode(msgspec.json.encode(report))
    assert told["schema"] == "remit-report/1"
    assert told["coverage"]["gaps"][0]["what"] == HOSTILE
    assert [item["id"] for item in told["items"]] == [item.id for item in report.items]
    figure = next(one for control in told["controls"] if control["key"] == "decided" for one in control["figures"])
    assert figure["number"] == 1
    assert figure["entries"] == [{"index": 0, "kind": "call.decided", "at": "2026-11-23T12:00:00+00:00", "leaf": "00" * 32}]


def test_resources_and_prompts_are_no_undeclared_tools():
    tally = tally_of(decided(), decided(tool_kind="resource", name="note://x"), decided(tool_kind="prompt", name="greet"))
    assert tally.names["tool"].seen == {"bank/pay": 1}


def test_names_beyond_the_bound_are_counted():
    names = Names()
    for number in range(NAMES_MAX + 5):
        names.add(str(number))
    assert (len(names.seen), names.unnamed) == (NAMES_MAX, 5)

"""A process is an agent only if everything that was demanded of it holds, and never two agents."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from remit.logic.attestation import attested, matches, overlap, told
from remit.model.attestation import Process, ProcessRule, Run

IDS, PATHS, DIGESTS = st.sampled_from([0, 1, 1_000]), st.sampled_from(["/a", "/b"]), st.sampled_from(["0" * 64, "f" * 64])
NAMES = st.sampled_from(["one", "two", "three"])
RULES = st.builds(
    ProcessRule, uid=st.none() | IDS, gid=st.none() | IDS, path=st.just("") | PATHS, sha256=st.just("") | DIGESTS, run=st.booleans()
)
PROCESSES = st.builds(
    Process,
    uid=IDS,
    gid=IDS,
    pid=st.integers(1, 99),
    path=st.just("") | PATHS,
    sha256=st.just("") | DIGESTS,
    run=st.none() | st.builds(Run, agent=NAMES, task=st.just("task_1")),
)
KEYS = ("uid", "gid", "path", "sha256")


@given(RULES, PROCESSES, NAMES)
@example(ProcessRule(), Process(uid=0, gid=0, pid=1), "one")
@example(ProcessRule(path="/a"), Process(uid=0, gid=0, pid=1, path="/a"), "one")
def test_all_that_is_demanded_holds_and_somebody_is_named(rule, process, name):
    if matches(rule, process, name):
        assert rule.uid is not None or rule.gid is not None or rule.run
        assert rule.uid in {None, process.uid}
        assert rule.gid in {None, process.gid}
        assert rule.path in {"", process.path}
        assert rule.sha256 in {"", process.sha256}
        assert rule.run == (process.run is not None)
        assert process.run is None or process.run.agent == name


@given(RULES, PROCESSES, NAMES, st.sampled_from(KEYS))
def test_whoever_differs_in_what_is_demanded_is_not_the_agent(rule, process, name, key):
    demanded = getattr(rule, key)
    if demanded not in {None, ""}:
        other = replace(process, **{key: demanded + 1 if isinstance(demanded, int) else ""})
        assert not matches(rule, other, name)


@given(RULES, RULES, PROCESSES, NAMES)
def test_one_more_demand_never_gives_more(rule, more, process, name):
    both = replace(
        rule,
        **{key: getattr(more, key) for key in KEYS if getattr(rule, key) in {None, ""}},
    )
    if rule.names_somebody and matches(both, process, name):
        assert matches(rule, process, name)


@given(st.dictionaries(NAMES, RULES, max_size=3), PROCESSES)
def test_agents_that_do_not_overlap_never_share_a_process(agents, process):
    found = [name for name, rule in agents.items() if matches(rule, process, name)]
    for one in found:
        for other in found:
            assert one == other or overlap(agents[one], agents[other])
    assert attested(agents, process) == (found[0] if len(found) == 1 else None)


@given(RULES, RULES)
def test_an_overlap_is_real(one, other):
    """What the configuration is refused for is a process that would be both."""
    assert overlap(one, other) == overlap(other, one)
    if overlap(one, other):
        values = {key: next((wanted for of in (one, other) if (wanted := getattr(of, key)) not in {None, ""}), "") for key in KEYS}
        both = Process(pid=1, **{**values, "uid": values["uid"] or 0, "gid": values["gid"] or 0})
        assert matches(one, both, "one")
        assert matches(other, both, "two")


@given(PROCESSES)
def test_what_is_recorded_is_one_line_with_all_that_was_seen(process):
    line = told(process)
    assert "\n" not in line
    assert f"uid={process.uid} gid={process.gid}" in line
    assert process.path in line
    assert process.sha256 in line


@given(st.text(min_size=1))
def test_no_path_can_look_like_the_rest_of_what_is_recorded(path):
    line = told(Process(uid=1, gid=2, pid=3, path=path))
    head, _, quoted = line.partition(" path=")
    assert head == "process pid=3 uid=1 gid=2"
    assert json.loads(quoted) == path[:512]

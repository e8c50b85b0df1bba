"""A process is an agent only if everything that was demanded of it holds, and never two agents."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from remit.logic.attestation import attested, matches, overlap, told
from remit.model.attestation import Process, Run, Selectors

IDS, PATHS, DIGESTS = st.sampled_from([0, 1, 1_000]), st.sampled_from(["/a", "/b"]), st.sampled_from(["0" * 64, "f" * 64])
NAMES = st.sampled_from(["one", "two", "three"])
SELECTORS = st.builds(
    Selectors, uid=st.none() | IDS, gid=st.none() | IDS, path=st.just("") | PATHS, sha256=st.just("") | DIGESTS, run=st.booleans()
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


@given(SELECTORS, PROCESSES, NAMES)
@example(Selectors(), Process(uid=0, gid=0, pid=1), "one")
@example(Selectors(path="/a"), Process(uid=0, gid=0, pid=1, path="/a"), "one")
def test_all_that_is_demanded_holds_and_somebody_is_named(selectors, process, name):
    if matches(selectors, process, name):
        assert selectors.uid is not None or selectors.gid is not None or selectors.run
        assert selectors.uid in {None, process.uid}
        assert selectors.gid in {None, process.gid}
        assert selectors.path in {"", process.path}
        assert selectors.sha256 in {"", process.sha256}
        assert not selectors.run or (process.run is not None and process.run.agent == name)


@given(SELECTORS, PROCESSES, NAMES, st.sampled_from(KEYS))
def test_whoever_differs_in_what_is_demanded_is_not_the_agent(selectors, process, name, key):
    demanded = getattr(selectors, key)
    if demanded not in {None, ""}:
        other = replace(process, **{key: demanded + 1 if isinstance(demanded, int) else ""})
        assert not matches(selectors, other, name)


@given(SELECTORS, SELECTORS, PROCESSES, NAMES)
def test_one_more_demand_never_gives_more(selectors, more, process, name):
    both = replace(
        selectors,
        run=selectors.run or more.run,
        **{key: getattr(more, key) for key in KEYS if getattr(selectors, key) in {None, ""}},
    )
    if selectors.names_somebody and matches(both, process, name):
        assert matches(selectors, process, name)


@given(st.dictionaries(NAMES, SELECTORS, max_size=3), PROCESSES)
def test_agents_that_do_not_overlap_never_share_a_process(agents, process):
    found = [name for name, selectors in agents.items() if matches(selectors, process, name)]
    for one in found:
        for other in found:
            assert one == other or overlap(agents[one], agents[other])
    assert attested(agents, process) == (found[0] if len(found) == 1 else None)


@given(SELECTORS, SELECTORS)
def test_an_overlap_is_real(one, other):
    """What the configuration is refused for is a process that would be both."""
    assert overlap(one, other) == overlap(other, one)
    if overlap(one, other):
        values = {key: next((wanted for of in (one, other) if (wanted := getattr(of, key)) not in {None, ""}), "") for key in KEYS}
        run = Run(agent="one" if one.run else "two", task="task_1")
        both = Process(pid=1, **{**values, "uid": values["uid"] or 0, "gid": values["gid"] or 0}, run=run)
        assert matches(one, both, "one")
        assert matches(other, both, "two")


@given(PROCESSES)
def test_what_is_recorded_is_one_line_with_all_that_was_seen(process):
    line = told(process)
    assert "\n" not in line
    assert f"uid={process.uid} gid={process.gid}" in line
    assert process.path in line
    assert process.sha256 in line

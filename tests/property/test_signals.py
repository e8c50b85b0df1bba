"""Laws of signals: reading is total, what is understood narrows, doubt never narrows, what was taken back stays so, and what is told
is told until it is acknowledged.

The last ones run on real stores, with another process whose memory is old.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.drivers.event_tokens import EventSigner
from remit.drivers.outward import Outward
from remit.drivers.sealing import Sealer
from remit.errors import Mistake
from remit.logic.records import decode
from remit.logic.signals import DEFAULTS, consequence, read_event_set
from remit.logic.subjects import concern_of, concerns, same_person
from remit.logic.telling import after_acks, subject_digests, told, wanted
from remit.model.record import Record, TaskMoved, TaskOpened
from remit.model.signal import SESSION_REVOKED, Clause, Concerns, Consequence, EventSet, ReceiverRule, SignalRules, Stream
from remit.model.task import TASK_MOVES, TaskState
from remit.services import taking_back
from remit.services.kept_state import KeptState
from remit.services.mediation import Refused, Ticket
from remit.services.streams import Streams, Wish
from remit.services.taking_back import TakingBack
from remit.services.telling import Telling
from tests.support import AGENT, NOW, World, call

SIGNER = EventSigner(generate_private_key(65_537, 2_048))
ISSUER, OURS = "https://idp.example", "https://remit.example"
ENDS = {Consequence.SUSPEND: "suspended", Consequence.REVOKE: "revoked"}
FORMS = ("{email}", "{sub}", "{id}")
names = st.sampled_from(["ann", "Ann", "bob@example.com", "BOB@example.com", "task_1", "task_2", AGENT.text, "spiffe://remit.test/other"])
simple = st.one_of(
    st.builds(lambda name: {"format": "email", "email": name}, names),
    st.builds(lambda name: {"format": "opaque", "id": name}, names),
    st.builds(lambda name: {"format": "iss_sub", "iss": ISSUER, "sub": name}, names),
    st.builds(lambda name: {"format": "uri", "uri": name}, names),
    st.builds(lambda name, iss: {"format": "jwt_id", "iss": iss, "jti": name}, names, st.sampled_from([OURS, ISSUER])),
    st.just({"format": "ip-addresses", "ip-addresses": ["10.0.0.1"]}),
    st.just({"format": "of-tomorrow", "x": 1}),
)
members = st.dictionaries(st.sampled_from(["user", "session", "application", "device", "tenant", "new"]), simple, min_size=1)
complexes = members.map(lambda found: {**found, "format": "complex"})
aliases = st.lists(simple, min_size=1, max_size=4).map(lambda found: {"format": "aliases", "identifiers": found})
subjects = st.one_of(simple, complexes, aliases)
rows = st.builds(
    lambda task, agent, person: {"task": task, "agent": agent, "on_behalf_of": person},
    st.sampled_from(["task_1", "task_2"]),
    st.sampled_from([AGENT.text, "spiffe://remit.test/other"]),
    st.sampled_from(["ann", "bob@example.com", "carol", ""]),
)
json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def read(subject, kinds=frozenset(Concerns)):
    """Its concern; nothing where it is refused, which it is with that one code."""
    try:
        return concern_of(subject, FORMS, kinds, OURS)
    except Mistake as mistake:
        return () if mistake.code == "invalid_request" else None


@given(st.one_of(subjects, st.dictionaries(st.sampled_from(["format", "user", "id", "identifiers"]), json)), rows)
def test_every_subject_is_read_or_refused_and_nothing_understood_concerns_nothing(subject, row):
    concern = read(subject)
    assert all(not clause.empty for clause in concern)
    if not concern:
        assert not concerns(concern, **row)


@given(complexes, rows)
def test_what_is_understood_narrows_and_what_is_not_narrows_nothing(subject, row):
    whole = concerns(read(subject), **row)
    kinds = {"user", "session", "application"}
    for name in [name for name in subject if name != "format"]:
        alone = read({"format": "complex", name: subject[name]})
        without = {other: member for other, member in subject.items() if other != name}
        if alone and whole:
            assert concerns(tuple(c for c in alone if not c.tokens), **row) or any(c.tokens for c in alone)
        if not alone and len(without) > 1:
            assert concerns(read(without), **row) == whole
        if name not in kinds:
            assert not alone


@given(st.lists(simple, min_size=1, max_size=4), st.randoms(use_true_random=False), rows)
def test_aliases_are_one_subject_in_any_order(identifiers, random, row):
    each = [concerns(read(one), **row) for one in identifiers]
    shuffled = random.sample(identifiers, len(identifiers))
    for order in (identifiers, shuffled):
        assert concerns(read({"format": "aliases", "identifiers": order}), **row) == any(each)


@given(subjects, st.sets(st.sampled_from(list(Concerns))), rows)
def test_who_may_speak_of_less_never_takes_back_more(subject, kinds, row):
    if concerns(read(subject, frozenset(kinds)), **row):
        assert concerns(read(subject), **row)
    assert read(subject, frozenset()) == ()


@given(json.filter(lambda value: isinstance(value, dict)), json.filter(lambda value: isinstance(value, dict)))
def test_every_token_is_read_or_refused_with_a_code_of_the_rfc(header, claims):
    codes = {"", "invalid_request", "invalid_issuer", "invalid_audience"}
    whole = {"iss": ISSUER, "aud": OURS, "jti": "1", "iat": int(NOW.timestamp()), "sub_id": {}, "events": {"e": {}}}
    for head, said in ((header, claims), ({"typ": "secevent+jwt"}, {**whole, **claims})):
        code = ""
        try:
            read_event_set(head, said, issuer=ISSUER, audience=OURS, now=NOW, age_max=timedelta(days=7))
        except Mistake as mistake:
            code = mistake.code
        assert code in codes


@given(
    st.sampled_from([*DEFAULTS, "https://example.com/unheard-of"]),
    st.dictionaries(st.sampled_from(["change_type", "change_direction", "current_status", "current_level"]), json),
)
def test_only_what_plainly_takes_nothing_away_is_harmless(event, claims):
    told_of = EventSet(jti="1", issued_at=0, event=event, claims=claims, subject={})
    what = consequence(told_of, {})
    plainly = {"create", "increase", "compliant", "LOW"} & {value for value in claims.values() if isinstance(value, str)}
    if event in DEFAULTS and not plainly:
        assert what is DEFAULTS[event]
    if event not in DEFAULTS:
        assert what is Consequence.RECORD


@given(st.lists(st.text("abc", min_size=1), unique=True, max_size=8), st.frozensets(st.text("abc", min_size=1)))
def test_acknowledgements_pass_nothing_that_was_not_acknowledged(outstanding, acked):
    done, left = after_acks(outstanding, acked)
    assert set(outstanding[:done]) <= acked
    assert left == acked & set(outstanding[done:])
    assert done == len(outstanding) or outstanding[done] not in acked


@given(st.sampled_from(list(TaskState)), st.booleans(), st.booleans(), st.sampled_from(["", "https://example.com/moved"]))
def test_every_end_is_told_and_nothing_but_ends_is_a_revoked_session(state, persons, everything, lifecycle):
    opened = TaskOpened(
        type="t",
        agent=AGENT.text,
        on_behalf_of="ann",
        opened_by="x",
        objective="secret goal",
        inputs={"key": "secret input"},
        grants=[],
        tools={},
        ceiling="public",
        budget_calls=1,
        deadline=NOW,
    )
    record = Record(at=NOW, body=TaskMoved(to=state.value, by="ann", reason="a private reason"), task="task_1", seq=7)
    events = told(record, opened, "active", issuer=OURS, lifecycle=lifecycle, persons=persons)
    assert [event.event for event in events].count(SESSION_REVOKED) == (not TASK_MOVES[state])
    assert len(events) == (not TASK_MOVES[state]) + bool(lifecycle)
    assert not any(word in str(events) for word in ("secret", "private"))
    assert ("ann" in str([event.subject for event in events])) == (persons and bool(events))
    stream = Stream(id="s", receiver="r", method="m", events=(SESSION_REVOKED,), everything=everything)
    for event in events:
        assert wanted(event, stream) == (everything and event.event == SESSION_REVOKED)
        for digest in subject_digests(event.subject):
            excepted = Stream(id="s", receiver="r", method="m", events=(event.event,), everything=everything, listed=(digest,))
            assert wanted(event, excepted) != everything


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ann", "ANN", "bob", "carol"]), st.sampled_from(["active", "suspended", "revoked"])),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(
        [Clause(persons=frozenset({"ann"})), Clause(agents=frozenset({AGENT.text})), Clause(persons=frozenset({"bob", "carol"})), None]
    ),
    st.sampled_from([Consequence.SUSPEND, Consequence.REVOKE]),
)
def test_what_is_taken_back_stays_so_in_every_process_and_nothing_else_is_touched(tasks, clause, what):
    """``None``: exactly the first task, by its id."""

    async def main(folder: Path) -> None:
        here = World(folder / "remit.db")
        there = here.beside()
        opened = []
        for person, state in tasks:
            one = await here.open(on_behalf_of=person)
            if state != "active":
                await here.tasks.move(one.id, TaskState(state), by="x")
            opened.append((one, person, state))
            await there.tasks.view(one.id)  # it remembers the task as it is now
        meant = clause or Clause(tasks=frozenset({opened[0][0].id}))
        await TakingBack(here.store, here.tasks, here.clock).take_back((meant,), what, by="signal:idp", reason="signal 1")
        for one, person, state in opened:
            concerned = one.id in meant.tasks or one.agent.text in meant.agents or same_person(person) in meant.persons
            decided = await there.mediation.authorize(there.bearer(one), call("mail/read", folder="in"))
            if concerned or state != "active":
                assert isinstance(decided, Refused)
            else:
                assert isinstance(decided, Ticket)
            after = [decode(entry.body).body for entry in await here.store.task_entries(one.id)]
            by_signal = [body for body in after if isinstance(body, TaskMoved) and body.by == "signal:idp"]
            changes = concerned and state != "revoked" and not (state == "suspended" and what is Consequence.SUSPEND)
            assert [body.to for body in by_signal] == ([ENDS[what]] if changes else [])
        await here.close()
        await there.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


def test_what_has_not_begun_cannot_wait(tmp_path):
    async def main() -> None:
        world = World(tmp_path / "remit.db")
        opened = decode((await world.store.task_entries((await world.open()).id))[0].body).body
        pending = await world.tasks.open(opened)
        meant = Clause(tasks=frozenset({pending.id}))
        await TakingBack(world.store, world.tasks, world.clock).take_back((meant,), Consequence.SUSPEND, by="signal:idp", reason="x")
        assert (await world.tasks.view(pending.id)).state is TaskState.REVOKED
        await world.close()

    asyncio.run(main())


def test_of_two_who_write_one_version_one_has_it(tmp_path):
    async def main() -> None:
        world = World(tmp_path / "remit.db")
        there = world.beside()
        one, other = KeptState(world.store, "x"), KeptState(there.store, "x")
        assert await one.read() == (0, "")
        wrote = await asyncio.gather(one.write(0, "a"), other.write(0, "b"))
        assert sorted(wrote) == [False, True]
        assert await one.read() == (1, "a" if wrote[0] else "b") == await other.read()
        assert await other.write(1, "c")
        assert not await one.write(0, "d")
        for version in range(2, 20):
            assert await one.write(version, f"at {version}")
            assert not await other.write(version - 1, "late")
        assert await other.read() == (20, "at 19")
        assert len(await world.store.document_keys("x/", "", 100)) <= 8
        await world.close()
        await there.close()

    asyncio.run(main())


steps = st.lists(
    st.tuples(st.sampled_from(["end", "poll", "restart"]), st.integers(0, 3), st.sets(st.integers(0, 5))), min_size=3, max_size=12
)


@settings(max_examples=15, deadline=None)
@given(steps)
def test_every_end_is_given_until_it_is_acknowledged_and_then_never_again(steps):
    """One receiver that polls so many and acknowledges some of what it got, in any order; processes come and go."""
    rule = ReceiverRule(name="siem", secret_digest=b"x", audience="a", events=(SESSION_REVOKED,))
    rules = SignalRules(receivers={"siem": rule}, lifecycle="")

    async def main(folder: Path) -> None:
        worlds = [World(folder / "remit.db")]

        def telling() -> tuple[Streams, Telling]:
            world = worlds[-1]
            streams = Streams(world.store, rules, Sealer(bytes(32)), world.clock, world.new_id)
            return streams, Telling(world.store, streams, SIGNER, Outward(), world.clock, issuer=OURS, node=world.new_id("node"))

        streams, teller = telling()
        stream = await streams.create(rule, Wish())
        ended: list[str] = []
        acked: set[str] = set()
        got: list[str] = []
        for what, number, chosen in [*steps, ("poll", 3, set()), ("poll", 0, set())]:
            if what == "end":
                for _ in range(number):
                    task = await worlds[-1].open()
                    await worlds[-1].tasks.end(task.id, TaskState.COMPLETED, by="x")
                    ended.append(task.id)
            elif what == "restart":
                worlds.append(worlds[-1].beside())
                streams, teller = telling()
            else:
                acks = frozenset(got[index] for index in chosen if index < len(got))
                acked |= acks
                polled = await teller.poll(rule, stream, sets_max=number, acks=acks, at_once=True)
                every = await teller.poll(rule, stream, sets_max=100, acks=frozenset(), at_once=True)
                got = list(every.sets)
                assert list(polled.sets) == got[:number]
                assert polled.more == (len(got) > number)
                assert not acked & set(got)
                assert len(got) == len(ended) - len(acked)
        for world in worlds:
            await world.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


def test_many_tasks_are_found_page_by_page(tmp_path, monkeypatch):
    monkeypatch.setattr(taking_back, "_PAGE", 2)
    monkeypatch.setattr(taking_back, "_AT_ONCE_MAX", 2)

    async def main() -> None:
        world = World(tmp_path / "remit.db")
        opened = [await world.open(on_behalf_of=person) for person in ("ann", "bob", "ann", "ann", "bob", "ann", "ann")]
        meant = Clause(persons=frozenset({"ann"}))
        done = await TakingBack(world.store, world.tasks, world.clock).take_back((meant,), Consequence.REVOKE, by="signal:idp", reason="x")
        assert sorted(done.revoked) == sorted(one.id for one in opened if one.on_behalf_of == "ann")
        assert {(await world.tasks.view(one.id)).state for one in opened if one.on_behalf_of == "bob"} == {TaskState.ACTIVE}
        await world.close()

    asyncio.run(main())

"""Signals from a transmitter made by hand, over real sockets: what counts, what follows, what is refused, what the ledger says of it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from joserfc import jwt

from remit.model.signal import CAEP, RISC, SSF, SignalFollowed
from remit.model.task import TaskState
from tests.integration.signal_nodes import ENVIRONMENT, SECRET, Idp, Remit, idp, new_key, remit, write_folder

PERSON = {"format": "email", "email": "ann@example.com"}
AGENT = {"format": "uri", "uri": "spiffe://remit.local/agent/payer"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def toml(provider: Idp, more: str = "", **changes: str) -> str:
    keys = {
        "issuer": json.dumps(provider.issuer),
        "audience": '"https://remit.example"',
        "push_secret": '"${PUSH_SECRET}"',
        "private": "true",
        **changes,
    }
    lines = "\n".join(f"{key} = {value}" for key, value in keys.items() if value)
    return f"[signals.transmitters.idp]\n{lines}\n{more}"


def run(story, tmp_path, more: str = "", **changes: str) -> None:
    async def main() -> None:
        async with idp() as provider:
            folder = write_folder(tmp_path, toml(provider, more, **changes))
            async with remit(folder) as place:
                await asyncio.wait_for(story(place, provider), 60)

    asyncio.run(main())


def test_from_the_202_on_no_call_of_what_it_concerns_is_allowed(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        (ann, ann_token), (bob, bob_token) = await place.open("Ann@Example.com"), await place.open("bob@example.com")
        assert [await place.call(ann_token), await place.call(bob_token)] == ["allow", "allow"]
        status, body = await place.push(provider.sign(provider.claims()))
        assert (status, body) == (202, b"")
        assert await place.call(ann_token) == "unauthenticated"
        assert await place.call(bob_token) == "allow"
        assert [await place.state(ann), await place.state(bob)] == ["revoked", "active"]
        (received,), (followed,) = await place.records("SignalReceived"), await place.records("SignalFollowed")
        assert (received.outcome, received.consequence, received.concerns) == ("accepted", "revoke", ["person"])
        assert (received.transmitter, received.via, received.event) == ("idp", "push", f"{CAEP}session-revoked")
        assert (followed.signal, followed.revoked, followed.suspended, followed.tasks) == (received.signal, 1, 0, [ann])
        moved = [body for body in await place.records("TaskMoved") if body.to == "revoked"]
        assert [(body.by, body.reason) for body in moved] == [("signal:idp", f"signal {received.signal}: session-revoked")]
        entries = [entry.body for entry in await place.node.store.entries(0, 1_000) if b'"kind":"signal.' in entry.body]
        assert entries
        assert not any(b"example.com" in entry for entry in entries)
        assert provider.fetched == ["metadata", "keys"]

    run(story, tmp_path)


EVENTS = [
    (f"{CAEP}credential-change", {"change_type": "revoke", "credential_type": "password"}, "revoked"),
    (f"{CAEP}credential-change", {"change_type": "create", "credential_type": "password"}, "active"),
    (f"{CAEP}token-claims-change", {"claims": {"role": "guest"}}, "suspended"),
    (f"{CAEP}assurance-level-change", {"change_direction": "decrease", "current_level": "1"}, "suspended"),
    (f"{CAEP}assurance-level-change", {"change_direction": "increase", "current_level": "3"}, "active"),
    (f"{CAEP}device-compliance-change", {"current_status": "not-compliant"}, "suspended"),
    (f"{CAEP}device-compliance-change", {"current_status": "compliant"}, "active"),
    (f"{CAEP}risk-level-change", {"current_level": "HIGH", "principal": "USER"}, "suspended"),
    (f"{CAEP}risk-level-change", {"current_level": "LOW", "principal": "USER"}, "active"),
    (f"{RISC}account-disabled", {"reason": "hijacking"}, "revoked"),
    (f"{RISC}credential-compromise", {"credential_type": "password"}, "revoked"),
    (f"{RISC}recovery-activated", {}, "active"),
    ("https://example.com/unheard-of", {}, "active"),
    (f"{SSF}verification", {"state": "x"}, "active"),
    (f"{CAEP}session-presented", {}, "active"),
]


def test_what_follows_from_each_event_by_default(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        for event, said, state in EVENTS:
            task, token = await place.open()
            assert (await place.push(provider.sign(provider.claims(event, said=said))))[0] == 202
            assert (event, said, await place.state(task)) == (event, said, state)
            assert await place.call(token) == {"active": "allow", "suspended": "deny", "revoked": "unauthenticated"}[state]
            if state != "revoked":
                await place.node.tasks.end(task, TaskState.REVOKED, by="test")
        received = await place.records("SignalReceived")
        assert [body.event for body in received] == [event for event, _, _ in EVENTS]

    run(story, tmp_path)


def test_what_follows_can_be_stated_and_a_transmitter_be_kept_to_persons(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        task, token = await place.open("acme|ann")
        claims = provider.claims(sub_id={"format": "iss_sub", "iss": "acme", "sub": "ann"})
        assert (await place.push(provider.sign(claims)))[0] == 202
        assert (await place.state(task), await place.call(token)) == ("suspended", "deny")
        await place.node.tasks.move(task, TaskState.ACTIVE, by="test")
        for said in (claims, provider.claims("https://example.com/mine", sub_id=AGENT)):  # once more, and what it may not speak of
            assert (await place.push(provider.sign(said)))[0] == 202
            assert await place.call(token) == "allow"
        mine = provider.claims("https://example.com/mine", sub_id=claims["sub_id"])
        assert (await place.push(provider.sign(mine)))[0] == 202
        assert await place.state(task) == "revoked"
        received = await place.records("SignalReceived")
        assert [(body.consequence, body.concerns) for body in received] == [("suspend", ["person"]), ("record", []), ("revoke", ["person"])]

    events = '{ "session-revoked" = "suspend", "https://example.com/mine" = "revoke" }'
    run(story, tmp_path, events=events, concerns='["person"]', persons='["{iss}|{sub}"]')


def test_each_kind_of_subject(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        issuer = place.node.configuration.settings.issuer

        async def taken(subject: dict) -> set[str]:
            """Of tasks of ann, of another one of ann, and of bob: which were revoked."""
            opened = {name: await place.open(f"{name[:3]}@example.com") for name in ("ann", "ann2", "bob")}
            ids = {name: task for name, (task, _) in opened.items()}
            issued = await place.records("TokenIssued")
            jti = issued[-1].jti  # bob's
            text = json.dumps(subject).replace("TASK", ids["ann2"]).replace("JTI", jti)
            assert (await place.push(provider.sign(provider.claims(sub_id=json.loads(text)))))[0] == 202
            found = {name for name, task in ids.items() if await place.state(task) == "revoked"}
            for task in ids.values():
                await place.node.tasks.end(task, TaskState.REVOKED, by="test")
            return found

        session = {"format": "opaque", "id": "TASK"}
        foreign = {"format": "opaque", "id": "task_000000"}
        assert await taken(PERSON) == {"ann", "ann2"}
        assert await taken({"format": "account", "uri": "acct:bob@example.com"}) == {"bob"}
        assert await taken({"format": "opaque", "id": "bob@example.com"}) == {"bob"}
        assert await taken(session) == {"ann2"}
        assert await taken(AGENT) == {"ann", "ann2", "bob"}
        assert await taken({"format": "jwt_id", "iss": issuer, "jti": "JTI"}) == set(), "the token is taken back, not its task"
        assert await taken({"format": "jwt_id", "iss": "https://elsewhere.example", "jti": "JTI"}) == set()
        assert await taken({"format": "aliases", "identifiers": [session, {"format": "email", "email": "bob@example.com"}]}) == {
            "ann2",
            "bob",
        }
        assert await taken({"format": "complex", "user": PERSON, "session": session}) == {"ann2"}
        assert await taken({"format": "complex", "user": PERSON, "session": foreign}) == set()
        assert await taken({"format": "complex", "user": PERSON, "session": {"format": "opaque", "id": "sid-of-the-idp"}}) == {
            "ann",
            "ann2",
        }
        assert await taken({"format": "complex", "user": PERSON, "device": {"format": "opaque", "id": "laptop"}}) == {"ann", "ann2"}
        assert await taken({"format": "complex", "tenant": {"format": "opaque", "id": "acme"}}) == set()
        assert await taken({"format": "email", "email": "nobody@example.com"}) == set()
        assert await taken({"format": "of-tomorrow", "what": 1}) == set()

    run(story, tmp_path)


def test_hostile_tokens_are_refused_with_the_codes_of_the_rfc_and_do_nothing(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        task, token = await place.open()
        now = int(datetime.now(UTC).timestamp())
        good = provider.claims()
        two = {**good["events"], f"{CAEP}credential-change": {}}
        for code, changes in (
            ("invalid_issuer", {"iss": "https://evil.example"}),
            ("invalid_audience", {"aud": "https://other.example"}),
            ("invalid_audience", {"aud": ["https://other.example"]}),
            ("invalid_audience", {"aud": None}),
            ("invalid_request", {"iat": now + 3_600}),
            ("invalid_request", {"iat": now - 8 * 86_400}),
            ("invalid_request", {"iat": None}),
            ("invalid_request", {"iat": True}),
            ("invalid_request", {"jti": None}),
            ("invalid_request", {"jti": "x" * 1_000}),
            ("invalid_request", {"sub": "ann"}),
            ("invalid_request", {"exp": now + 60}),
            ("invalid_request", {"events": two}),
            ("invalid_request", {"events": {}}),
            ("invalid_request", {"events": {"https://example.com/\u202e\n": {}}}),
            ("invalid_request", {"events": {f"{CAEP}session-revoked": []}}),
            ("invalid_request", {"events": None}),
            ("invalid_request", {"sub_id": None}),
            ("invalid_request", {"sub_id": {"format": "email"}}),
            ("invalid_request", {"sub_id": {"email": "ann@example.com"}}),
            ("invalid_request", {"sub_id": {"format": "uri", "uri": "spiffe://remit.local/../agent/payer"}}),
        ):
            assert (changes, await place.error(provider.sign(provider.claims(**changes)))) == (changes, code)
        assert await place.error(provider.sign(good, typ="JWT")) == "invalid_request"
        assert await place.error(provider.sign(good, kid="other")) == "invalid_key"
        assert (
            await place.error(jwt.encode({"alg": "RS256", "kid": "k1", "typ": "secevent+jwt"}, good, new_key())) == "authentication_failed"
        )
        unsigned = provider.sign(good).split(".")
        assert await place.error(f"eyJhbGciOiJub25lIiwidHlwIjoic2VjZXZlbnQrand0In0.{unsigned[1]}.") == "invalid_request"
        assert await place.error(provider.sign(good), kind="application/json") == "invalid_request"
        assert await place.error(b"x" * 500_000) == "invalid_request"
        assert await place.error(b"") == "invalid_request"
        assert await place.error(provider.sign(good), secret="wrong") == "authentication_failed"
        assert await place.error(provider.sign(good), name="nobody") == "authentication_failed"
        assert await place.call(token) == "allow"
        refused = await place.records("SignalReceived")
        assert {body.outcome for body in refused} == {"refused"}
        assert len(refused) == 30
        assert await place.state(task) == "active"

    run(story, tmp_path)


def test_a_token_counts_once_also_after_a_restart(tmp_path):
    async def main() -> None:
        async with idp() as provider:
            folder = write_folder(tmp_path, toml(provider))
            signed = provider.sign(provider.claims(f"{CAEP}risk-level-change", said={"current_level": "HIGH"}))
            async with remit(folder) as place:
                task, _ = await place.open()
                assert (await place.push(signed))[0] == 202
                assert await place.state(task) == "suspended"
                await place.node.tasks.move(task, TaskState.ACTIVE, by="operator")
                assert (await place.push(signed))[0] == 202
                assert await place.state(task) == "active"
            async with remit(folder) as place:
                assert (await place.push(signed))[0] == 202
                assert await place.state(task) == "active"
                assert len(await place.records("SignalReceived")) == 1
                await place.node.signals.signals.forget()
                assert (await place.push(signed))[0] == 202
                assert await place.state(task) == "active"

    asyncio.run(main())


def test_many_refusals_are_counted_and_bounded(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        for _ in range(80):
            assert await place.error(b"a.b.c") == "invalid_request"
        assert len(await place.records("SignalReceived")) == 60
        assert (await place.push(provider.sign(provider.claims())))[0] == 202
        assert (await place.records("SignalReceived"))[-1].skipped == 20

    run(story, tmp_path)


def test_what_a_crash_left_open_is_finished(tmp_path):
    """The process dies after the record and before any task was moved; nobody sends the signal again."""

    async def story(place: Remit, provider: Idp) -> None:
        task, token = await place.open()
        signals = place.node.signals.signals
        signals._taking_back.take_back, real = _dies, signals._taking_back.take_back
        assert (await place.push(provider.sign(provider.claims())))[0] == 500
        assert await place.call(token) == "allow"  # and nobody was told otherwise
        signals._taking_back.take_back = real
        signals._clock, clock = lambda: clock().replace(year=clock().year + 1), signals._clock
        await signals.finish()
        assert await place.state(task) == "revoked"
        (followed,) = await place.records("SignalFollowed")
        assert followed.tasks == [task]

    async def _dies(*_args, **_named):
        raise RuntimeError("killed")

    run(story, tmp_path)


def test_keys_are_replaced_and_an_unknown_one_is_looked_for_once(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        assert (await place.push(provider.sign(provider.claims())))[0] == 202
        keys = place.node.signals.signals._keys["idp"]
        keys._tried_at = 0.0  # half a minute later
        provider.key, provider.kid = new_key(), "k2"
        assert (await place.push(provider.sign(provider.claims())))[0] == 202
        assert provider.fetched.count("keys") == 2
        for _ in range(5):
            assert await place.error(provider.sign(provider.claims(), kid=secrets.token_hex(4))) == "invalid_key"
        assert provider.fetched.count("keys") == 2

    run(story, tmp_path)


@pytest.mark.parametrize("what", ["down", "other issuer"])
def test_without_keys_nothing_is_accepted_and_the_transmitter_is_asked_to_come_again(tmp_path, what):
    async def story(place: Remit, provider: Idp) -> None:
        task, _ = await place.open()
        if what == "down":
            provider.down = True
        else:
            provider.claims_issuer = "https://evil.example"
        status, body = await place.push(provider.sign(provider.claims()))
        assert (status, body) == (503, b"")
        assert await place.state(task) == "active"

    run(story, tmp_path)


def test_metadata_in_a_private_network_is_not_fetched_unless_that_is_said(tmp_path):
    async def main() -> None:
        async with idp() as provider:
            folder = write_folder(tmp_path, toml(provider, issuer='"https://localhost/tenant"', private=""))
            async with remit(folder) as place:
                assert (await place.push(provider.sign(provider.claims())))[0] == 503
        assert provider.fetched == []

    asyncio.run(main())


def test_polled_signals_are_taken_in_acknowledged_or_refused(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        (ann, _), (bob, _) = await place.open(), await place.open("bob@example.com")
        claims = [provider.claims(jti=f"jti-{number}", sub_id={"format": "email", "email": "nobody@example.com"}) for number in range(5)]
        claims += [provider.claims(jti="ann"), provider.claims(jti="bad", aud="https://other.example")]
        provider.waiting = {said["jti"]: provider.sign(said) for said in claims}
        rule = place.node.configuration.signals.transmitters["idp"]
        assert await place.node.signals.polls.poll_once(rule) == 7
        assert provider.waiting == {}
        assert [await place.state(ann), await place.state(bob)] == ["revoked", "active"]
        assert {jti: error["err"] for body in provider.polls for jti, error in body["setErrs"].items()} == {"bad": "invalid_audience"}
        assert all(body["returnImmediately"] for body in provider.polls)
        assert {body.via for body in await place.records("SignalReceived")} == {"poll"}
        assert await place.error(provider.sign(provider.claims())) == "authentication_failed"  # it may not push

    async def main() -> None:
        async with idp() as provider:
            poll = {"push_secret": "", "poll": json.dumps(f"http://127.0.0.1:{provider.port}/poll"), "poll_secret": '"${POLL_SECRET}"'}
            async with remit(write_folder(tmp_path, toml(provider, **poll))) as place:
                await asyncio.wait_for(story(place, provider), 60)

    asyncio.run(main())
    assert SECRET not in (tmp_path / "state" / "remit.db").read_bytes().decode("latin-1")


def test_doctor_says_whether_keys_can_be_had_and_the_list_what_came_in(tmp_path):
    """The commands as their users run them: processes of their own, beside a running node."""

    async def command(folder: Path, *words: str) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent / "src")}
        line = [sys.executable, "-m", "remit.cli.main", *words, "-C", str(folder)]
        done = await asyncio.to_thread(subprocess.run, line, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    async def main() -> None:
        async with idp() as provider:
            folder = write_folder(tmp_path, toml(provider))
            async with remit(folder) as place:
                await place.open()
                assert (await place.push(provider.sign(provider.claims())))[0] == 202
                assert await place.error(b"\x1b[2Ja.b.c") == "invalid_request"
                code, listed = await command(folder, "signals", "list")
                assert code == 0, listed
                refused, accepted = listed.splitlines()
                assert "refused: invalid_request" in refused
                assert "session-revoked, about person: 1 revoked, 0 suspended" in accepted
                _, told = await command(folder, "doctor")
                assert f"✓ transmitter idp: 1 keys of {provider.issuer}" in told
                provider.down = True
                code, told = await command(folder, "doctor")
                assert code == 1
                assert f"✗ transmitter idp: no keys of {provider.issuer}: the metadata answers 503" in told

    asyncio.run(main())


def test_a_signal_about_one_of_our_tokens_takes_back_that_token_alone(tmp_path):
    async def story(place: Remit, provider: Idp) -> None:
        issuer = place.node.configuration.settings.issuer
        token = {"format": "jwt_id", "iss": issuer}

        async def signalled(subject: dict, event: str = f"{CAEP}session-revoked") -> SignalFollowed:
            assert (await place.push(provider.sign(provider.claims(event, sub_id=subject))))[0] == 202
            return (await place.records("SignalFollowed"))[-1]

        task, first = await place.open()
        jti = (await place.records("TokenIssued"))[-1].jti
        second, _ = await place.node.tokens.issue(task, "test")
        other = (await place.records("TokenIssued"))[-1].jti
        followed = await signalled(token | {"jti": jti})
        assert (followed.tokens, followed.revoked, followed.tasks) == (1, 0, [])
        assert [await place.call(first), await place.call(second)] == ["unauthenticated", "allow"]
        assert [(one.jti, one.by) for one in await place.records("TokenRevoked")] == [(jti, "signal:idp")]
        bob = {"format": "complex", "user": {"format": "email", "email": "bob@example.com"}, "session": token | {"jti": other}}
        assert (await signalled(bob)).tokens == 0, "it is not a token of bob's"
        assert await place.call(second) == "allow"
        assert (await signalled(token | {"jti": other}, f"{CAEP}token-claims-change")).tokens == 1, "a token cannot wait"
        assert await place.call(second) == "unauthenticated"
        assert await place.state(task) == "active"
        assert (await signalled(token | {"jti": "nobody knows it"})).tokens == 0

    run(story, tmp_path)

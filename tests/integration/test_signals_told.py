"""What others are told: two remits, one telling the other by push and by poll; management of streams, restarts, receivers that fail."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.common import free_port
from remit.cli.server import serving
from remit.model.signal import ACCOUNT_DISABLED, ACCOUNT_ENABLED, LIFECYCLE, POLL, PUSH, SESSION_REVOKED, SSF
from remit.model.task import TaskState
from remit.services.telling import Telling
from tests.integration.signal_nodes import ENVIRONMENT, Remit, remit, write_folder

if TYPE_CHECKING:
    from pathlib import Path

AUDIENCE = "https://siem.example"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def teller(push: str = "", **more: str) -> str:
    keys = {"secret": '"${SIEM_SECRET}"', "audience": json.dumps(AUDIENCE), "private": "true", **more}
    if push:
        keys["push"] = json.dumps([push])
    return "[signals.receivers.siem]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items())


def hearer(issuer: str, **more: str) -> str:
    keys = {"issuer": json.dumps(issuer), "audience": json.dumps(AUDIENCE), "private": "true", **more}
    return "[signals.transmitters.other]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items())


class Siem:
    """A receiver made by hand: takes what is pushed, or fails as it is told."""

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[str] = []
        self.headers: list[str] = []
        self.fail: list[Response] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def app(self) -> Starlette:
        async def events(request: Any) -> Response:
            self.headers.append(request.headers.get("authorization", ""))
            assert request.headers["content-type"] == "application/secevent+jwt"
            body = (await request.body()).decode()
            if self.fail:
                return self.fail.pop(0)
            self.taken.append(body)
            return Response(status_code=202)

        return Starlette(routes=[Route("/events", events, methods=["POST"])])


async def until(true: Any) -> None:
    for _ in range(600):
        found = true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come")


async def claims_of(place: Remit, token: str) -> dict[str, Any]:
    """The claims of one of our tokens, checked as any receiver would: by our metadata and our published keys."""
    status, metadata = await place.ask("GET", "/.well-known/ssf-configuration", secret="")
    assert (status, metadata["issuer"], metadata["spec_version"]) == (200, place.url, "1_0")
    _, keys = await place.ask("GET", metadata["jwks_uri"].removeprefix(place.url), secret="")
    decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=["RS256"])
    assert decoded.header["typ"] == "secevent+jwt"
    assert not {"sub", "exp"} & set(decoded.claims)
    return dict(decoded.claims)


async def made(place: Remit, **said: Any) -> str:
    status, stream = await place.ask("POST", "/ssf/streams", said)
    assert status == 201, stream
    return stream["stream_id"]


def test_one_remit_tells_another_by_push_and_by_poll(tmp_path):
    """The second believes the first, and what ends there ends nothing here that it does not concern."""

    async def main(way: str) -> None:
        first_port = free_port()
        issuer = f"http://127.0.0.1:{first_port}"
        folder = write_folder(tmp_path / way / "second", "")
        toml = (folder / "remit.toml").read_text()
        second_port = int(toml.partition("port = ")[2].split()[0])
        poll = {"poll": json.dumps(f"{issuer}/ssf/poll"), "poll_secret": '"${SIEM_SECRET}"', "poll_every": '"1s"'}
        push = {"push_secret": '"${PUSH_SECRET}"'}
        (folder / "remit.toml").write_text(toml + hearer(issuer, **(poll if way == "poll" else push)))
        address = f"http://127.0.0.1:{second_port}/ssf/receive/other"
        first = write_folder(tmp_path / way / "first", teller(address))
        text = (first / "remit.toml").read_text()
        (first / "remit.toml").write_text(text.replace(text.partition("port = ")[2].split()[0], str(first_port), 1))
        async with remit(first, background=True) as telling, remit(folder, background=True) as hearing:
            delivery = {"method": PUSH, "endpoint_url": address, "authorization_header": f"Bearer {ENVIRONMENT['PUSH_SECRET']}"}
            await made(telling, delivery=delivery if way == "push" else {"method": POLL})
            own, _ = await hearing.open()  # of the same agent, for the same person
            task, _ = await telling.open()
            await telling.node.tasks.end(task, TaskState.REVOKED, by="local:root", reason="private")

            async def both() -> bool:
                return len(await hearing.records("SignalReceived")) == 3

            await until(both)
            received = await hearing.records("SignalReceived")
            assert [body.event for body in received] == [LIFECYCLE, SESSION_REVOKED, LIFECYCLE]
            assert {(body.outcome, body.via) for body in received} == {("accepted", way)}
            assert received[1].concerns == ["agent", "task"]
            assert (received[1].consequence, await hearing.state(own)) == ("revoke", "active")  # the other's task is not this one

    async def ways() -> None:
        for way in ("push", "poll"):
            (tmp_path / way).mkdir()
        await asyncio.gather(main("push"), main("poll"))

    asyncio.run(ways())


def test_a_restart_loses_nothing_and_a_receiver_that_fails_is_told_again(tmp_path):
    async def main() -> None:
        siem = Siem()
        folder = write_folder(tmp_path, teller(siem.url, events='["session-revoked"]'))
        async with remit(folder) as place:
            header = "Basic c2VjcmV0"
            await made(place, delivery={"method": PUSH, "endpoint_url": siem.url, "authorization_header": header})
            tasks = [(await place.open())[0] for _ in range(4)]
            for task in tasks[:3]:
                await place.node.tasks.end(task, TaskState.REVOKED, by="remit")
            telling, rule = place.node.signals.telling, place.node.configuration.signals.receivers["siem"]
            with pytest.raises(Exception, match="cannot be reached"):
                await telling.push_once(rule)
            async with serving(siem.app(), "127.0.0.1", siem.port):
                siem.fail = [Response(status_code=503, headers={"retry-after": "7"}), Response(status_code=401)]
                for seconds in (7, 0):
                    with pytest.raises(Exception, match="answers") as outage:
                        await telling.push_once(rule)
                    assert outage.value.retry_after_seconds == seconds
                assert await telling.push_once(rule)
        assert header.encode() not in b"".join(path.read_bytes() for path in (folder / "state").glob("remit.db*"))
        siem.fail = [JSONResponse({"err": "invalid_audience"}, 400)]
        async with serving(siem.app(), "127.0.0.1", siem.port), remit(folder, background=True) as place:
            await place.node.tasks.end(tasks[3], TaskState.COMPLETED, by="remit")
            await until(lambda: len(siem.taken) == 3)
            claims = [await claims_of(place, token) for token in siem.taken]
            assert [one["sub_id"]["session"]["id"] for one in claims] == [tasks[0], tasks[2], tasks[3]]
            assert set(siem.headers) == {header}
            (refused,) = await place.records("SignalRefused")
            assert (refused.receiver, refused.code) == ("siem", "invalid_audience")
            assert claims[0]["aud"] == AUDIENCE
            said = claims[0]["events"][SESSION_REVOKED]
            assert (said["initiating_entity"], said["reason_admin"]) == ("system", {"en": "the task is revoked"})
            assert "user" not in claims[0]["sub_id"]

    asyncio.run(main())


def test_what_is_polled_comes_until_it_is_acknowledged_once_and_in_order(tmp_path):
    async def main() -> None:
        folder = write_folder(tmp_path, teller(persons="true"))

        async def poll(place: Remit, **body: Any) -> tuple[list[str], bool, dict[str, str]]:
            status, said = await place.ask("POST", "/ssf/poll", {"returnImmediately": True, **body})
            assert status == 200, said
            return list(said["sets"]), said["moreAvailable"], said["sets"]

        async with remit(folder) as place:
            stream = await made(place, events_requested=[SESSION_REVOKED])
            for _ in range(5):
                await place.node.tasks.end((await place.open())[0], TaskState.COMPLETED, by="remit")
            first, more, sets = await poll(place, maxEvents=2)
            assert (len(first), more) == (2, True)
            assert (await poll(place, maxEvents=2))[0] == first
            every = (await poll(place))[0]
            assert (len(every), every[:2]) == (5, first)
            claims = await claims_of(place, sets[first[0]])
            assert claims["jti"] == first[0]
            assert claims["sub_id"]["user"] == {"format": "opaque", "id": "ann@example.com"}
            after, _, _ = await poll(place, ack=[every[1], every[3], "nobody.1.2"])  # out of order
            assert after == [every[0], every[2], every[4]]
        async with remit(folder) as place:
            assert (await poll(place))[0] == after
            assert (await poll(place, ack=[every[0]], setErrs={every[2]: {"err": "invalid_request", "description": "x"}}))[0] == [every[4]]
            assert await poll(place, ack=[every[4]]) == ([], False, {})
            assert (await poll(place, ack=every))[0] == []
            waiting = asyncio.create_task(poll(place, returnImmediately=False))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await place.node.tasks.end((await place.open())[0], TaskState.COMPLETED, by="remit")
            assert len((await waiting)[0]) == 1
            assert (await place.ask("POST", "/ssf/poll", {"ack": [str(number) for number in range(2_000)], "returnImmediately": True}))[
                0
            ] == 400
            status, _ = await place.ask("DELETE", f"/ssf/streams?stream_id={stream}")
            assert status == 204
            assert (await place.ask("POST", "/ssf/poll", {"returnImmediately": True}))[0] == 404

    asyncio.run(main())


def test_of_two_nodes_on_one_store_one_pushes_at_a_time(tmp_path):
    async def main() -> None:
        siem = Siem()
        folder = write_folder(tmp_path, teller(siem.url, events='["session-revoked"]'))
        other = write_folder(tmp_path / "other", teller(siem.url, events='["session-revoked"]'))
        with (other / "remit.toml").open("a") as toml:
            toml.write(f"\n[storage]\npath = {json.dumps(str(folder / 'state' / 'remit.db'))}\n")
            toml.write(f"[trust]\nkeys = {json.dumps(str(folder / 'state' / 'keys'))}\n")
        async with serving(siem.app(), "127.0.0.1", siem.port), remit(folder, background=True) as one:
            await made(one, delivery={"method": PUSH, "endpoint_url": siem.url})
            async with remit(other, background=True) as two:
                tasks = [(await place.open())[0] for place in (one, two, one, two)]
                for task in tasks[:2]:
                    await two.node.tasks.end(task, TaskState.REVOKED, by="remit")
                await until(lambda: len(siem.taken) == 2)
            for task in tasks[2:]:  # whoever had the turn
                await one.node.tasks.end(task, TaskState.REVOKED, by="remit")
            await until(lambda: len(siem.taken) == 4)
            claims = [await claims_of(one, token) for token in siem.taken]
        assert [said["sub_id"]["session"]["id"] for said in claims] == tasks

    asyncio.run(main())


def test_what_another_node_told_in_the_meantime_is_not_told_twice(tmp_path, monkeypatch):
    """The other node tells it, and hands its turn back, after this one has read how far the stream is and before its own turn."""

    async def main() -> None:
        siem = Siem()
        folder = write_folder(tmp_path, teller(siem.url, events='["session-revoked"]'))
        async with serving(siem.app(), "127.0.0.1", siem.port), remit(folder) as place:
            await made(place, delivery={"method": PUSH, "endpoint_url": siem.url})
            for _ in range(2):
                await place.node.tasks.end((await place.open())[0], TaskState.REVOKED, by="remit")
            rule = place.node.configuration.signals.receivers["siem"]
            one = place.node.signals.telling
            other = Telling(one._store, one._streams, one._signer, one._reach, one._clock, issuer=one._issuer, node="other")
            turn_of = one._turn

            class Late:
                """This node's turn, taken once the other one has told something and has given up its own."""

                def __init__(self, stream: Any) -> None:
                    self._stream = stream

                async def ours(self) -> bool:
                    monkeypatch.setattr(one, "_turn", turn_of)
                    assert await other.push_once(rule)
                    await other.close()
                    return await turn_of(self._stream).ours()

            monkeypatch.setattr(one, "_turn", Late)
            while await one.push_once(rule):
                pass
            claims = [await claims_of(place, token) for token in siem.taken]
        assert len({said["jti"] for said in claims}) == len(claims) == 2

    asyncio.run(main())


def test_streams_are_managed_by_whom_they_tell_and_go_where_the_configuration_says(tmp_path):
    async def main() -> None:
        async with remit(write_folder(tmp_path, teller("https://siem.example/events"))) as place:
            for method, path, body in (
                ("POST", "/ssf/streams", {}),
                ("GET", "/ssf/streams", None),
                ("PATCH", "/ssf/streams", {}),
                ("PUT", "/ssf/streams", {}),
                ("DELETE", "/ssf/streams?stream_id=x", None),
                ("GET", "/ssf/status?stream_id=x", None),
                ("POST", "/ssf/status", {}),
                ("POST", "/ssf/subjects/add", {}),
                ("POST", "/ssf/subjects/remove", {}),
                ("POST", "/ssf/verify", {}),
                ("POST", "/ssf/poll", {}),
            ):
                for secret in ("", "wrong-secret-of-nobody"):
                    assert (method, path, (await place.ask(method, path, body, secret))[0]) == (method, path, 401)
            for address in ("http://127.0.0.1:1/", "https://siem.example/other", "https://siem.example/events/../x", ""):
                assert (await place.ask("POST", "/ssf/streams", {"delivery": {"method": PUSH, "endpoint_url": address}}))[0] == 403
            assert (await place.ask("POST", "/ssf/streams", {"delivery": {"method": "carrier pigeon"}}))[0] == 400
            assert (await place.ask("GET", "/ssf/streams"))[1] == []
            stream = await made(place, events_requested=[SESSION_REVOKED, "https://example.com/unknown"], description="ours")
            assert (await place.ask("POST", "/ssf/streams", {}))[0] == 409
            _, shown = await place.ask("GET", f"/ssf/streams?stream_id={stream}")
            assert (shown["events_delivered"], shown["aud"], shown["iss"]) == ([SESSION_REVOKED], AUDIENCE, place.url)
            assert set(shown["events_supported"]) == {SESSION_REVOKED, ACCOUNT_DISABLED, ACCOUNT_ENABLED, LIFECYCLE}
            assert shown["delivery"] == {"method": POLL, "endpoint_url": f"{place.url}/ssf/poll"}
            delivery = {"method": PUSH, "endpoint_url": "https://siem.example/events", "authorization_header": "Bearer hidden"}
            status, shown = await place.ask("PATCH", "/ssf/streams", {"stream_id": stream, "delivery": delivery})
            assert (status, shown["delivery"], shown["description"]) == (
                200,
                {k: v for k, v in delivery.items() if "auth" not in k},
                "ours",
            )
            assert (await place.ask("PATCH", "/ssf/streams", {"stream_id": "other", "description": "x"}))[0] == 404
            status, shown = await place.ask("PUT", "/ssf/streams", {"stream_id": stream})
            assert (status, shown["delivery"]["method"], shown["description"]) == (200, POLL, "")
            assert (await place.ask("POST", "/ssf/status", {"stream_id": stream, "status": "asleep"}))[0] == 400
            assert (await place.ask("GET", "/ssf/streams?stream_id=other"))[0] == 404
            assert (await place.ask("DELETE", f"/ssf/streams?stream_id={stream}"))[0] == 204
            assert (await place.ask("DELETE", f"/ssf/streams?stream_id={stream}"))[0] == 404
            assert [body.what for body in await place.records("StreamChanged")] == ["created", "updated", "updated", "deleted"]

    asyncio.run(main())


def test_pause_disable_subjects_and_verification(tmp_path):
    async def main() -> None:
        async with remit(write_folder(tmp_path, teller())) as place:
            stream = await made(place, events_requested=[SESSION_REVOKED])

            async def told() -> list[str]:
                """Sessions that are told now, and acknowledge them."""
                _, said = await place.ask("POST", "/ssf/poll", {"returnImmediately": True})
                await place.ask("POST", "/ssf/poll", {"returnImmediately": True, "maxEvents": 0, "ack": list(said["sets"])})
                claims = [await claims_of(place, token) for token in said["sets"].values()]
                return [one["sub_id"].get("session", one["sub_id"])["id"] for one in claims]

            async def end(person: str = "ann") -> str:
                task, _ = await place.open(person)
                await place.node.tasks.end(task, TaskState.COMPLETED, by="remit")
                return task

            async def status(wanted: str) -> None:
                assert (await place.ask("POST", "/ssf/status", {"stream_id": stream, "status": wanted}))[1]["status"] == wanted

            await status("paused")
            paused = await end()
            assert await told() == []
            await status("enabled")
            assert await told() == [paused]
            await status("disabled")
            await end()
            assert await told() == []
            await status("enabled")
            later = await end()
            assert await told() == [later]
            session, _ = await place.open()
            for path, answer in (("remove", 204), ("add", 200)):
                subject = {"format": "opaque", "id": session}
                assert (await place.ask("POST", f"/ssf/subjects/{path}", {"stream_id": stream, "subject": subject}))[0] == answer
                if path == "remove":
                    await place.node.tasks.end(session, TaskState.COMPLETED, by="remit")
                    other = await end()
                    assert await told() == [other]
            assert (await place.ask("POST", "/ssf/verify", {"stream_id": stream, "state": "hello"}))[0] == 204
            assert (await place.ask("POST", "/ssf/verify", {"stream_id": stream, "state": "again"}))[0] == 429
            _, said = await place.ask("POST", "/ssf/poll", {"returnImmediately": True})
            (token,) = said["sets"].values()
            claims = await claims_of(place, token)
            assert claims["events"] == {f"{SSF}verification": {"state": "hello"}}
            assert claims["sub_id"] == {"format": "opaque", "id": stream}
            entries = await place.node.store.entries(0, 1_000)
            assert not any(b"hello" in entry.body for entry in entries)

    asyncio.run(main())


def test_every_move_is_told_in_the_words_of_the_mission_drafts_and_only_where_it_is_wanted(tmp_path):
    async def main() -> None:
        async with remit(write_folder(tmp_path, '[signals]\nlifecycle = "https://example.com/moved"\n' + teller())) as place:
            await made(place)
            task, _ = await place.open()
            for state in (TaskState.SUSPENDED, TaskState.ACTIVE):
                await place.node.tasks.move(task, state, by="local:ann", reason="private")
            await place.node.tasks.end(task, TaskState.REVOKED, by="signal:idp", reason="private")
            _, said = await place.ask("POST", "/ssf/poll", {"returnImmediately": True})
            claims = [await claims_of(place, token) for token in said["sets"].values()]
            moves = [one["events"]["https://example.com/moved"] for one in claims if "https://example.com/moved" in one["events"]]
            assert [(one["prior_state"], one["state"]) for one in moves] == [
                ("pending", "active"),
                ("active", "suspended"),
                ("suspended", "active"),
                ("active", "revoked"),
            ]
            assert [one["version"] for one in moves] == sorted({one["version"] for one in moves})
            assert {one["mission"] for one in moves} == {task}
            (ended,) = [one["events"][SESSION_REVOKED] for one in claims if SESSION_REVOKED in one["events"]]
            assert ended["initiating_entity"] == "policy"
            assert "private" not in json.dumps(claims)
            assert claims[-1]["txn"] == claims[-2]["txn"]

    asyncio.run(main())


def test_nothing_is_served_where_nobody_is_told(tmp_path):
    async def main() -> None:
        async with remit(write_folder(tmp_path, "")) as place:
            for path in ("/.well-known/ssf-configuration", "/ssf/jwks", "/ssf/streams"):
                async with place.http.get(f"{place.url}{path}") as answer:
                    assert answer.status == 404
            assert (await place.push(b"x"))[0] == 404
        assert not (tmp_path / "state" / "keys" / "signals.key").exists()

    asyncio.run(main())


def believing(folder: Path, port: int, *tables: str) -> None:
    """A folder of a remit at that port."""
    text = (write_folder(folder, "\n".join(tables)) / "remit.toml").read_text()
    (folder / "remit.toml").write_text(text.replace(text.partition("port = ")[2].split()[0], str(port), 1))


def test_a_kill_at_one_remit_ends_tasks_at_the_other_and_is_not_told_back(tmp_path):
    async def main() -> None:
        here, there = free_port(), free_port()
        places = {one: f"http://127.0.0.1:{one}" for one in (here, there)}
        heard = f"{places[there]}/ssf/receive/other"
        push = {"push_secret": '"${PUSH_SECRET}"'}
        believing(tmp_path / "here", here, teller(heard))
        believing(tmp_path / "there", there, hearer(places[here], **push), teller(transmitter='"other"'))
        async with remit(tmp_path / "here", background=True) as killing, remit(tmp_path / "there", background=True) as hearing:
            header = f"Bearer {ENVIRONMENT['PUSH_SECRET']}"
            await made(killing, delivery={"method": PUSH, "endpoint_url": heard, "authorization_header": header})
            await made(hearing)
            task, token = await hearing.open()
            ended, _ = await hearing.open()
            agent = (await hearing.node.tasks.view(task)).agent.text
            assert await hearing.call(token) == "allow"
            await hearing.node.tasks.end(ended, TaskState.COMPLETED, by=agent)
            await killing.node.tasks.standing.stop(["*"], by="local:root", declared=[agent])

            async def over() -> bool:
                return await hearing.state(task) == "revoked"

            await until(over)
            assert await hearing.call(token) == "unauthenticated"
            await killing.node.subtrees.restore(["*"], by="local:root", declared=[agent])

            async def heard_of(event: str) -> bool:
                return event in [body.event for body in await hearing.records("SignalReceived")]

            await until(lambda: heard_of(ACCOUNT_ENABLED))
            received = {body.event: body for body in await hearing.records("SignalReceived")}
            assert (received[ACCOUNT_DISABLED].consequence, received[ACCOUNT_DISABLED].concerns) == ("revoke", ["agent"])
            assert received[ACCOUNT_ENABLED].consequence == "record", "no signal gives anything back"
            _, polled = await hearing.ask("POST", "/ssf/poll", {"returnImmediately": True})
            told = [await claims_of(hearing, one) for one in polled["sets"].values()]
            assert {one["sub_id"]["session"]["id"] for one in told if SESSION_REVOKED in one["events"]} == {ended}
            moves = [one["events"][LIFECYCLE] for one in told if LIFECYCLE in one["events"]]
            assert [one["state"] for one in moves if one["mission"] == task] == ["active"], "what the other's signal did is not told it"

    asyncio.run(main())


def test_a_revoked_token_and_each_stopped_agent_are_told(tmp_path):
    async def main() -> None:
        async with remit(write_folder(tmp_path, teller())) as place:
            await made(place)
            task, token = await place.open()
            known, _ = await place.node.tokens.look(token)
            await place.node.tokens.revoke(known, "somebody")
            agent = (await place.node.tasks.view(task)).agent.text
            await place.node.tasks.standing.stop([agent, "spiffe://remit.local/agent/gone"], by="local:root", reason="private")
            _, polled = await place.ask("POST", "/ssf/poll", {"returnImmediately": True})
            told = [await claims_of(place, one) for one in polled["sets"].values()]
            assert "private" not in json.dumps(told)
            subjects = [(next(iter(one["events"])), one["sub_id"]) for one in told if LIFECYCLE not in one["events"]]
            subject = {"format": "iss_sub", "iss": place.url}
            assert subjects == [
                (SESSION_REVOKED, {"format": "jwt_id", "iss": place.url, "jti": known.bearer.token}),
                (ACCOUNT_DISABLED, subject | {"sub": "spiffe://remit.local/agent/gone"}),
                (ACCOUNT_DISABLED, subject | {"sub": agent}),
            ]

    asyncio.run(main())

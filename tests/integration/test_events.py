"""Events reach a file, a webhook and syslog: each once in ordinary running, none lost whatever fails, in order, and valid OCSF."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass, field

import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from remit.cli.server import serving
from remit.drivers.keys import load_or_make_keys
from remit.drivers.webhooks import signature
from remit.errors import Mistake, Outage
from remit.node import open_node
from remit.services import turns
from remit.services.configuration import load_configuration
from remit.services.events import Cursor, read_cursor
from remit.services.kept_state import KeptState
from remit.services.scaffold import write_folder
from remit.services.turns import Turn
from tests.certificates import Authority
from tests.e2e.gateway import until
from tests.e2e.inside import command
from tests.property.test_ocsf import check
from tests.servers.postgres import postgres

pytestmark = pytest.mark.anyio
SECRET = "a-signing-secret-of-tests"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def prepare(folder, events: str) -> None:
    write_folder(folder, None)
    with (folder / "remit.toml").open("a", encoding="utf-8") as file:
        file.write(events)


async def fill(node, number: int) -> None:
    for _ in range(number):
        await node.identities.issue_svid("assistant", attested="a test")


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(events: list[dict]) -> list[int]:
    return [event["metadata"]["sequence"] for event in events]


@dataclass
class Hook:
    """A webhook's receiver: checks signatures as its owner does; ``answers``: statuses before it takes anything."""

    answers: list[int] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    most: int = 10_000

    async def take(self, request) -> Response:
        body = await request.body()
        sent = request.headers
        assert sent["webhook-signature"] == signature(SECRET.encode(), sent["webhook-id"], int(sent["webhook-timestamp"]), body)
        assert sent["authorization"] == f"Bearer {SECRET}"
        batch = json.loads(body)
        self.batches.append(len(batch))
        status = self.answers.pop(0) if self.answers else 413 if len(batch) > self.most else 204
        if status < 300:
            self.events += batch
        return Response(b"", status, {"location": "/elsewhere"} if status == 302 else None)


@contextlib.asynccontextmanager
async def hook(**how):
    receiver = Hook(**how)
    app = Starlette(routes=[Route("/in", receiver.take, methods=["POST"])])
    async with serving(app, "127.0.0.1", 0) as port:
        signed = 'secret = "${SIEM_SECRET}"\nheaders = { Authorization = "Bearer ${SIEM_SECRET}" }\n'
        yield receiver, f'webhook = "http://127.0.0.1:{port}/in"\nprivate = true\n{signed}'


async def test_a_file_gets_every_entry_from_the_beginning_and_each_is_valid(tmp_path):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "state/events.jsonl"\nbeginning = true\n')
    path = tmp_path / "state" / "events.jsonl"
    async with open_node(tmp_path, deciding=True) as node:
        await fill(node, 3)
        node.start()
        end = await node.store.change_mark()
        await until(lambda: len(lines(path)) == end)
        await fill(node, 450)  # several batches
        end += 450
        await until(lambda: len(lines(path)) == end)
        assert numbers(lines(path)) == list(range(end))
        assert len({event["metadata"]["uid"] for event in lines(path)}) == end
        for event in lines(path)[:10]:
            check(event)
        assert path.stat().st_mode & 0o077 == 0
    async with open_node(tmp_path, deciding=True) as node:  # a restart tells nothing twice
        node.start()
        await fill(node, 1)
        end = await node.store.change_mark()
        await until(lambda: len(lines(path)) >= end)
        assert numbers(lines(path)) == list(range(end))


async def test_without_beginning_only_what_comes_is_told(tmp_path):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "events.jsonl"\n')
    async with open_node(tmp_path, deciding=True) as node:
        await fill(node, 3)
        begin = await node.store.change_mark()
        await node.events.events.tell_once("siem")
        await fill(node, 2)
        assert await node.events.events.tell_once("siem")
        assert not await node.events.events.tell_once("siem")
        assert numbers(lines(tmp_path / "events.jsonl")) == [begin, begin + 1]


async def test_a_crash_after_the_sink_and_before_the_cursor_tells_again_with_the_same_uid(tmp_path, monkeypatch):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "events.jsonl"\nbeginning = true\n')
    async with open_node(tmp_path, deciding=True) as node:
        await fill(node, 2)
        await node.events.events.tell_once("siem")  # where it begins
        real = KeptState.write

        async def away(self, version, text):
            if self._beginning.startswith("events/cursor"):
                raise Outage("the store is away")
            return await real(self, version, text)

        monkeypatch.setattr(KeptState, "write", away)
        with pytest.raises(Outage):
            await node.events.events.tell_once("siem")
        monkeypatch.undo()
        with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"half')  # and in the middle of a line
    async with open_node(tmp_path, deciding=True) as node:
        assert await node.events.events.tell_once("siem")
        told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines() if line != '{"half']
        uids = [event["metadata"]["uid"] for event in told]
        assert len(uids) > len(set(uids))
        assert sorted(set(numbers(told))) == list(range(await node.store.change_mark()))


async def test_a_webhook_that_fails_for_a_while_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SIEM_SECRET", SECRET)
    async with hook(answers=[500, 302, 429], most=20) as (receiver, text):
        prepare(tmp_path, f'[[events]]\nname = "siem"\nbeginning = true\n{text}')
        async with open_node(tmp_path, deciding=True) as node:
            monkeypatch.setattr("remit.services.events._FIRST_WAIT_SECONDS", 0.02)
            await fill(node, 60)
            end = await node.store.change_mark()
            assert node.events.events.states["siem"].why == ""
            node.start()
            await until(lambda: len(receiver.events) == end)
            assert numbers(receiver.events) == list(range(end))
            assert receiver.batches[:4] == [end] * 4, "what it refuses for a moment is told again as it was"
            assert max(receiver.batches[6:]) <= 20, "what it refuses as it is, is told in smaller pieces"
            await until(lambda: node.events.events.states["siem"].failing_since is None)


async def test_a_sink_that_is_away_is_shown_and_holds_up_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("remit.services.events._FIRST_WAIT_SECONDS", 0.02)
    there = '[[events]]\nname = "there"\nfile = "e.jsonl"\nbeginning = true\n'
    prepare(tmp_path, '[[events]]\nname = "gone"\nsyslog = "tcp://127.0.0.1:1"\nbeginning = true\n' + there)
    async with open_node(tmp_path, deciding=True) as node:
        node.start()
        await fill(node, 3)
        end = await node.store.change_mark()
        states = node.events.events.states
        await until(lambda: len(lines(tmp_path / "e.jsonl")) == end and states["gone"].failing_since)
        assert states["gone"].waiting >= end - 3
        assert "cannot be reached" in states["gone"].why
        assert node.events.events.failing_seconds("gone") >= 0
        assert node.events.events.failing_seconds("there") == 0
        sinks = {sink.name: sink for sink in node.events.sinks}
        version, cursor = await read_cursor(node.store, sinks["gone"])
        assert (bool(version), cursor.entry) == (True, 0)
        assert abs(cursor.at - time.time()) < 600, "a sink that never took anything has waited since it was begun"
        await KeptState(node.store, "events/cursor/gone").write(version, '{"entry":0,"at":1}')
    told = {one["what"]: one for one in json.loads(await asyncio.to_thread(doctor, tmp_path))}
    assert told["events there"]["finding"] == "told everything"
    assert told["events gone"]["state"] == "bad"
    assert "nothing is lost" in told["events gone"]["finding"]


def doctor(folder) -> str:
    return command("doctor", "-C", str(folder), "--json").stdout


async def test_a_turn_that_changes_hands_tells_nothing_twice(tmp_path, monkeypatch):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "e.jsonl"\nbeginning = true\n')
    async with open_node(tmp_path, deciding=True) as first, open_node(tmp_path, deciding=True) as second:
        await fill(first, 3)
        await first.events.events.tell_once("siem")
        turn, real = second.events.events._turns["siem"], Turn.ours

        async def after_the_other(self):
            if self is turn:  # the other one told what was waiting, and gave up its turn, meanwhile
                monkeypatch.undo()
                assert await first.events.events.tell_once("siem")
                await first.events.close()
            return await real(self)

        monkeypatch.setattr(Turn, "ours", after_the_other)
        await second.events.events.tell_once("siem")
        assert numbers(lines(tmp_path / "e.jsonl")) == list(range(await first.store.change_mark()))


async def test_two_nodes_on_one_store_tell_each_event_once_and_one_goes_on_when_the_other_ends(tmp_path):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "e.jsonl"\nbeginning = true\n')
    path = tmp_path / "e.jsonl"
    async with contextlib.AsyncExitStack() as stack:
        async with open_node(tmp_path, deciding=True) as first:
            second = await stack.enter_async_context(open_node(tmp_path, deciding=True))
            first.start()
            second.start()
            for _ in range(10):
                await asyncio.gather(fill(first, 5), fill(second, 5))
            end = await first.store.change_mark()
            await until(lambda: len(lines(path)) >= end)
            assert numbers(lines(path)) == list(range(end))
        await fill(second, 5)  # the first has ended, and given up its turn
        end = await second.store.change_mark()
        await until(lambda: len(lines(path)) >= end)
        assert numbers(lines(path)) == list(range(end))


@pytest.fixture(scope="module")
def database():
    with postgres() as url:
        yield url


async def anyhow(work):
    """Once more where the store was away."""
    for _ in range(9):
        with contextlib.suppress(Outage):
            return await work()
    return await work()


async def died(self: Turn) -> None:
    """What a node does that dies: its turn is still taken."""


async def test_two_nodes_of_one_postgresql_lose_nothing_while_connections_break_and_a_node_dies(database, tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER_URL", database)
    monkeypatch.setenv("SIEM_SECRET", SECRET)
    monkeypatch.setattr(turns, "TURN_SECONDS", 2.0)
    load_or_make_keys(tmp_path / "keys")
    shared = f'[server]\nissuer = "http://remit.example"\n[storage]\nurl = "${{LEDGER_URL}}"\n[trust]\nkeys = "{tmp_path / "keys"}"\n'
    async with contextlib.AsyncExitStack() as stack:
        receiver, sink = await stack.enter_async_context(hook(most=50))
        for name in ("one", "two"):
            prepare(tmp_path / name, f'{shared}[[events]]\nname = "siem"\nbeginning = true\n{sink}')
        second = await stack.enter_async_context(open_node(tmp_path / "two", deciding=True))
        async with open_node(tmp_path / "one", deciding=True) as first:
            first.start()
            second.start()
            for number in range(8):
                await asyncio.gather(*(anyhow(lambda node=node: fill(node, 1)) for node in (first, second) for _ in range(20)))
                if number == 4:  # every connection but this one is cut
                    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
                        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            monkeypatch.setattr(Turn, "give_up", died)
        end = await anyhow(second.store.change_mark)
        await until(lambda: {*numbers(receiver.events)} == set(range(end)))
        told = numbers(receiver.events)
        assert [number for place, number in enumerate(told) if number not in told[:place]] == list(range(end)), "in order, but for repeats"
        assert max(receiver.batches) <= 200


class Syslog:
    """Takes counted messages over TCP or TLS, as RFC 6587 and RFC 5425 frame them."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int(await reader.readuntil(b" "))
                self.messages.append(await reader.readexactly(length))


def served_by(authority: Authority, folder) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.svid(hosts=("127.0.0.1",)).write(folder, "server"))
    return context


_FORM = re.compile(rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) remit (\d+) ([!-~]{1,32}) - (\{.*\})", re.DOTALL)


def parsed(message: bytes) -> dict:
    found = _FORM.fullmatch(message)
    assert found, message[:200]
    assert int(found[1]) >> 3 == 13
    event = json.loads(found[6])
    assert event["metadata"]["event_code"].encode()[:32] == found[5]
    return event


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_syslog_over_a_stream_and_its_connection_breaks(tmp_path, kind):
    authority, receiver = Authority(), Syslog()
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    context = None
    if kind == "tls":
        context = served_by(authority, tmp_path)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    prepare(tmp_path, f'[[events]]\nname = "siem"\nsyslog = "{kind}://127.0.0.1:{port}"\nca_file = "ca.pem"\nbeginning = true\n')
    async with server, open_node(tmp_path, deciding=True) as node:
        events = node.events.events
        await events.tell_once("siem")
        assert await events.tell_once("siem")
        await until(lambda: receiver.messages)
        for writer in receiver.writers:
            writer.close()
        await asyncio.sleep(0.1)
        await fill(node, 3)
        assert await events.tell_once("siem"), "over a new connection"
        end = await node.store.change_mark()
        await until(lambda: len(receiver.messages) == end)
        assert numbers([parsed(message) for message in receiver.messages]) == list(range(end))
        for writer in receiver.writers:
            writer.close()


async def test_syslog_over_tls_wants_a_certificate_that_somebody_vouches_for(tmp_path):
    authority, receiver = Authority(), Syslog()
    (tmp_path / "other.pem").write_bytes(Authority().certificate.public_bytes(Encoding.PEM))
    context = served_by(authority, tmp_path)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    prepare(tmp_path, f'[[events]]\nname = "siem"\nsyslog = "tls://127.0.0.1:{port}"\nca_file = "other.pem"\nbeginning = true\n')
    async with server, open_node(tmp_path, deciding=True) as node:
        await node.events.events.tell_once("siem")
        with pytest.raises(Outage, match="cannot be reached"):
            await node.events.events.tell_once("siem")
        assert receiver.messages == []


async def test_syslog_over_a_unix_socket(tmp_path):
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(10)
        prepare(tmp_path, f'[[events]]\nname = "siem"\nsyslog = "unix://{path}"\nbeginning = true\n')
        async with open_node(tmp_path, deciding=True) as node:
            await node.events.events.tell_once("siem")
            assert await node.events.events.tell_once("siem")
            end = await node.store.change_mark()
            assert numbers([parsed(receiver.recv(1_000_000)) for _ in range(end)]) == list(range(end))


async def test_nothing_is_written_through_a_link_or_into_a_device(tmp_path):
    (tmp_path / "e.jsonl").symlink_to(tmp_path / "elsewhere")
    prepare(
        tmp_path,
        '[[events]]\nname = "siem"\nfile = "e.jsonl"\nbeginning = true\n[[events]]\nname = "null"\nfile = "/dev/null"\nbeginning = true\n',
    )
    async with open_node(tmp_path, deciding=True) as node:
        for name in ("siem", "null"):
            await node.events.events.tell_once(name)
            with pytest.raises(Outage, match="file"):
                await node.events.events.tell_once(name)
        assert not (tmp_path / "elsewhere").exists()


async def test_a_cursor_that_another_node_moved_is_left_alone(tmp_path):
    prepare(tmp_path, '[[events]]\nname = "siem"\nfile = "e.jsonl"\nbeginning = true\n')
    async with open_node(tmp_path, deciding=True) as node:
        await fill(node, 3)
        await node.events.events.tell_once("siem")
        kept = KeptState(node.store, "events/cursor/siem")
        version, _ = await kept.read()
        assert await kept.write(version, '{"entry":1}')
        assert await node.events.events.tell_once("siem")
        assert numbers(lines(tmp_path / "e.jsonl"))[0] == 1
        _, cursor = await read_cursor(node.store, node.events.sinks[0])
        assert cursor == Cursor(await node.store.change_mark(), cursor.at)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"', "one of file, webhook and syslog"),
        ('name = "a"\nfile = "x"\nsyslog = "tcp://h"', "one of file, webhook and syslog"),
        ('file = "x"', "name = ''"),
        ('name = "a"\nfile = "x"\n[[events]]\nname = "a"\nfile = "y"', "each sink has a name of its own"),
        ('name = "a"\nwebhook = "http://h/x"', "not an https address"),
        ('name = "a"\nwebhook = "https://h/x"\nsecret = "plain"', "a secret does not stand in remit.toml"),
        ('name = "a"\nwebhook = "https://h/x"\nheaders = { Authorization = "Bearer x" }', "a secret does not stand in remit.toml"),
        ('name = "a"\nfile = "x"\nsecret = "${SIEM_SECRET}"', "secret means nothing here"),
        ('name = "a"\nsyslog = "udp://h:514"', "is no address"),
        ('name = "a"\nsyslog = "tcp://u:p@h:514"', "is no address"),
        ('name = "a"\nsyslog = "tls://h"\nca_file = "none.pem"', "there is no file"),
        ('name = "a"\nfile = "x"\nfrom = "now"', "'from' is not known here"),
    ],
)
def test_wrong_sinks_are_named(tmp_path, monkeypatch, text, said):
    monkeypatch.setenv("SIEM_SECRET", SECRET)
    prepare(tmp_path, f"[[events]]\n{text}\n")
    with pytest.raises(Mistake, match=re.escape(said)) as told:
        load_configuration(tmp_path)
    assert SECRET not in str(told.value)

"""The contract of targets on a real RabbitMQ, and what is RabbitMQ's own."""

from __future__ import annotations

import asyncio
import gc
import shlex
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pika
import pytest
from aiohttp import web
from pika.exceptions import AMQPError, ChannelClosedByBroker
from yarl import URL

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.rabbitmq import RABBITMQ, RabbitmqTarget
from remit.errors import Mistake, Outage
from tests.certificates import Authority
from tests.contract.target_contract import Lacking, TargetContract, mark, refused, soon
from tests.servers.rabbitmq import RabbitmqServer, rabbitmq_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

# pika leaves a socket to the garbage collector where the broker cuts it while it logs in; they are collected with the broker's end
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]
SCOPE = {
    "vhost": "shop/eu",
    "resources": [
        {"name": "orders", "allow": ["read"]},
        {"prefix": "out.acme.", "allow": ["configure", "write", "read"]},
        {"name": "events", "allow": ["write"]},
    ],
    "topics": [{"exchange": "events", "prefix": "acme.", "allow": ["write"]}],
}


@dataclass
class Logged:
    """A blocking client in threads."""

    connection: pika.BlockingConnection

    async def alive(self) -> bool:
        try:
            await self.do(lambda channel: channel.basic_get("orders", auto_ack=False))
        except (AMQPError, OSError):
            return False
        return True

    async def do(self, work: Callable[[Any], Any]) -> Any:
        """On a channel of its own."""

        def run() -> Any:
            channel = self.connection.channel()
            answer = work(channel)
            channel.close()
            return answer

        return await asyncio.to_thread(run)

    async def denied(self, work: Callable[[Any], Any]) -> None:
        with pytest.raises(ChannelClosedByBroker) as caught:
            await self.do(work)
        assert caught.value.reply_code == 403, caught.value

    async def close(self) -> None:
        if self.connection.is_open:
            try:
                await asyncio.to_thread(self.connection.close)
            except (AMQPError, OSError):
                pass


def publish(exchange: str, key: str) -> Callable[[Any], Any]:
    def run(channel: Any) -> None:
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"hello")

    return run


@dataclass
class RabbitmqCase:
    server: RabbitmqServer
    target: RabbitmqTarget
    kind = RABBITMQ
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        parameters = pika.URLParameters(minted.parts["url"] + "?connection_attempts=1&socket_timeout=5")
        session = Logged(await asyncio.to_thread(pika.BlockingConnection, parameters))
        try:
            await session.do(lambda channel: channel.basic_get("orders", auto_ack=False))
        except BaseException:
            await session.close()
            raise
        return session

    async def beyond(self, session: Logged) -> None:
        for work in BEYOND:
            await session.denied(work)
        await session.do(publish("orders", "x"))

    async def leave_things(self, session: Logged) -> None:
        """A queue that goes with its connection, one that stays, as nobody's, and a message that was not acknowledged."""
        await session.do(lambda channel: channel.queue_declare("out.acme.exclusive", exclusive=True))
        await session.do(lambda channel: channel.queue_declare("out.acme.durable", durable=True))
        channel = await asyncio.to_thread(session.connection.channel)
        await asyncio.to_thread(channel.basic_consume, "orders", lambda *_: None)

    def bad_scopes(self) -> list[Any]:
        entry, topic = SCOPE["resources"][0], SCOPE["topics"][0]
        return [
            {},
            {"vhost": "shop/eu"},
            {"vhost": "shop/eu", "resources": []},
            {**SCOPE, "more": 1},
            *({**SCOPE, "vhost": vhost} for vhost in ("", 7, "a\n", "x" * 256)),
            {**SCOPE, "vhost": "no-such-place"},
            *({**SCOPE, "resources": [one]} for one in ({**entry, "allow": []}, {**entry, "allow": ["admin"]}, {**entry, "prefix": "x"})),
            *({**SCOPE, "resources": [{**entry, "name": name}]} for name in ("", 7, "a\n", "a\0", "x" * 256)),
            *({**SCOPE, "resources": [{"prefix": prefix, "allow": ["write"]}]} for prefix in ("a", "amq.", "amq.default", "")),
            {**SCOPE, "resources": [{"name": "amq.default", "allow": ["read", "write"]}]},
            {**SCOPE, "resources": "orders"},
            {**SCOPE, "resources": [entry] * 101},
            {**SCOPE, "topics": []},
            {**SCOPE, "topics": [{**topic, "allow": ["configure"]}]},
            {**SCOPE, "topics": [{**topic, "exchange": ""}]},
            {**SCOPE, "topics": [{"exchange": "events", "allow": ["write"]}]},
        ]

    def standing(self) -> set[str]:
        return {user["name"] for user in self.server.api("GET", "users") if user["name"].startswith("remit_")}

    def secrets_told(self, minted: Minted) -> list[str]:
        told = [*self.server.log.read_text(errors="replace").splitlines(), *map(str, self.server.api("GET", "users"))]
        return [line for line in told if minted.parts["password"] in line]

    async def lacking(self) -> Lacking:
        self.server.api("PUT", "users/watcher", {"password": "watcher-secret-1", "tags": "monitoring"})

        async def run(statement: str) -> None:
            program, command, *words = shlex.split(statement)
            assert (program, command, words[0]) == ("rabbitmqctl", "set_user_tags", "watcher")
            self.server.api("PUT", "users/watcher", {"password": "watcher-secret-1", "tags": words[1]})

        return Lacking(target=opened(self.server, "watcher-secret-1", "watcher"), says=("watcher", "administrator"), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()


BEYOND = (
    publish("orders", "x"),
    publish("", "salaries"),
    publish("", "orders"),
    publish("amq.topic", "acme.new"),
    publish("events", "globex.new"),
    publish("events", "acme"),
    lambda channel: channel.basic_get("salaries"),
    lambda channel: channel.queue_purge("salaries"),
    lambda channel: channel.queue_delete("orders"),
    lambda channel: channel.queue_bind("orders", "amq.topic", "#"),
    lambda channel: channel.queue_bind("out.acme.mine", "salary-news", "#"),
    lambda channel: channel.queue_declare("out.globex.mine"),
    lambda channel: channel.exchange_declare("mine", "fanout"),
    lambda channel: channel.queue_declare("out.acme.dead", arguments={"x-dead-letter-exchange": "salary-news"}),
)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture(scope="module")
def broker(authorities: Path) -> Iterator[RabbitmqServer]:
    authority = Authority()
    for name, one in (("ca", authority), ("stranger", Authority())):
        (authorities / name).write_text(ssl.DER_cert_to_PEM_cert(one.der))
    with rabbitmq_server(authority.svid(hosts=("127.0.0.1",)).write(authorities, "server")) as running:
        for name in ("orders", "salaries"):
            running.declare("queues", name)
        for name, kind in (("events", "topic"), ("salary-news", "fanout"), ("orders", "fanout")):
            running.declare("exchanges", name, type=kind)
        yield running
        gc.collect()


def opened(server: RabbitmqServer, password: str = "", user: str = "root", management: int = 0) -> RabbitmqTarget:
    async def secret() -> str:
        return password or server.password

    addresses = {"url": f"http://{user}@127.0.0.1:{management or server.management}", "amqp": f"amqp://127.0.0.1:{server.amqp}"}
    return RabbitmqTarget(TargetSettings(name="mq", kind="rabbitmq", values={**addresses, "sessions": 10, "ca_file": ""}), secret)


@pytest.fixture
async def case(broker: RabbitmqServer) -> AsyncIterator[RabbitmqCase]:
    made = RabbitmqCase(broker, opened(broker))
    yield made
    await made.target.close()


@asynccontextmanager
async def failing(server: RabbitmqServer, fails: dict[tuple[str, str], int]) -> AsyncIterator[int]:
    """A front before the management API: the first so many requests of a kind it answers 500, and passes all others on."""
    headers = {"Authorization": aiohttp.encode_basic_auth("root", server.password), "Accept": "*/*", "Content-Type": "application/json"}

    async def passed(request: web.Request) -> web.Response:
        kind = request.method, request.path.split("/")[2]
        if fails.get(kind, 0) > 0:
            fails[kind] -= 1
            return web.json_response({"error": "Internal Server Error"}, status=500)
        async with client.request(request.method, URL(request.raw_path, encoded=True), data=await request.read()) as answer:
            return web.Response(body=await answer.read(), status=answer.status)

    front = web.Application()
    front.router.add_route("*", "/api/{path:.*}", passed)
    runner = web.AppRunner(front)
    await runner.setup()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.management}", headers=headers) as client:
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


class TestRabbitmq(TargetContract):
    """The contract."""


async def seen(case: RabbitmqCase, mark: str) -> None:
    """The management plugin is told of a connection a little after it stands."""
    async with asyncio.timeout(60):
        while not case.server.api("GET", f"connections/username/{mark}"):
            await asyncio.sleep(0.02)


async def test_an_input_is_never_a_pattern(case):
    """What is special in a regular expression, or a variable of topics, is meant as it stands, whoever chose it."""
    odd = ["orders|salaries", ".*", "orders$|.*", "(?i)ORDERS", r"\Q", "order[s]", "{username}", "^", "a b", "žluť", "#", "x" * 255]
    for number, name in enumerate(odd):
        case.server.declare("queues", name)
        topic = {"exchange": "events", "prefix": name, "allow": ["write"]}
        scope = {"vhost": "shop/eu", "resources": [{"name": name, "allow": ["read"]}, {"name": "events", "allow": ["write"]}]}
        minted = await case.target.mint(mark(50 + number), {**scope, "topics": [topic]}, soon())
        session = Logged(await asyncio.to_thread(pika.BlockingConnection, pika.URLParameters(minted.parts["url"])))
        await session.do(lambda channel, name=name: channel.basic_get(name))
        await session.do(publish("events", name))
        for other in ("orders", "salaries"):
            await session.denied(lambda channel, other=other: channel.basic_get(other))
        await session.denied(publish("events", minted.parts["user"]))
        await session.close()
        await case.target.revoke(mark(50 + number), minted)


async def test_a_name_with_a_line_break_at_its_end_is_another_name(case):
    """``$`` would fit it."""
    case.server.declare("queues", "orders\n")
    minted = await case.target.mint(mark(70), SCOPE, soon())
    session = await case.login(minted)
    await session.denied(lambda channel: channel.basic_get("orders\n"))
    await session.close()
    await case.target.revoke(mark(70), minted)


async def test_a_lease_opens_no_other_virtual_host_and_not_the_management(case):
    minted = await case.target.mint(mark(71), SCOPE, soon())
    elsewhere = minted.parts["url"].replace("shop%2Feu", "%2F")
    with pytest.raises((AMQPError, OSError)):
        await asyncio.to_thread(pika.BlockingConnection, pika.URLParameters(elsewhere))
    holder = opened(case.server, minted.parts["password"], minted.parts["user"])
    with pytest.raises(Outage):
        await holder.list_ours("remit_")
    await holder.close()
    await case.target.revoke(mark(71), minted)


async def test_a_user_is_unusable_until_its_permissions_stand(case, monkeypatch):
    """Given up before the last request: there is a user, and nobody can do anything with it."""
    ask, opening = case.target._ask, asyncio.Event()

    async def stuck(method: str, path: str, body: Any = None) -> Any:
        if path.startswith("permissions/"):
            opening.set()
            await asyncio.sleep(60)
        return await ask(method, path, body)

    monkeypatch.setattr("remit.drivers.targets.rabbitmq.secrets.token_urlsafe", lambda _: "known-password")
    monkeypatch.setattr(case.target, "_ask", stuck)
    minting = asyncio.create_task(case.target.mint(mark(72), SCOPE, soon()))
    await opening.wait()
    minting.cancel()
    await asyncio.gather(minting, return_exceptions=True)
    assert case.standing() == {mark(72)}
    url = f"amqp://{mark(72)}:known-password@127.0.0.1:{case.server.amqp}/shop%2Feu"
    assert await refused(case, Minted(parts={"url": url}))
    assert await case.target.revoke(mark(72)) is True


async def test_a_wrong_root_password_is_an_outage_that_says_so(broker):
    wrong = opened(broker, "not-the-password")
    with pytest.raises(Outage) as caught:
        await wrong.mint(mark(73), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert [finding.good for finding in await wrong.check()] == [False]
    await wrong.close()


async def test_a_virtual_host_that_is_not_there_is_named(case):
    assert await case.target.may_give({"vhost": "shop/eu", "resources": []}) == ()
    (finding,) = await case.target.may_give({"vhost": "it's not there", "resources": []})
    assert finding.text == "there is no virtual host it's not there"
    assert shlex.split(finding.mend) == ["rabbitmqctl", "add_vhost", "it's not there"]


async def test_a_broker_that_does_not_prove_itself_is_told_nothing(broker, authorities):
    for ca_file, lets_in in (("ca", True), ("stranger", False), ("", False)):
        addresses = {"url": f"https://root@127.0.0.1:{broker.management_tls}", "amqp": f"amqp://127.0.0.1:{broker.amqp}"}

        async def secret() -> str:
            return broker.password

        values = {**addresses, "sessions": 10, "ca_file": str(authorities / ca_file) if ca_file else ""}
        target = RabbitmqTarget(TargetSettings(name="mq", kind="rabbitmq", values=values), secret)
        if lets_in:
            assert await target.list_ours("remit_") == frozenset()
        else:
            with pytest.raises(Outage, match="does not prove itself") as caught:
                await target.mint(mark(75), SCOPE, soon())
            assert caught.value.unsent
        await target.close()


async def test_a_broker_that_lets_guest_in_and_a_user_without_the_tag_are_found_out(case, broker):
    broker.api("PUT", "users/guest", {"password": "guest", "tags": ""})
    broker.api("PUT", "users/plain", {"password": "plain-password", "tags": "monitoring"})
    plain = opened(broker, "plain-password", "plain")
    try:
        assert next(finding.text for finding in await case.target.check() if not finding.good).startswith("user guest")
        broker.api("PUT", "users/guest", {"password": "another", "tags": ""})
        assert [finding.text for finding in await case.target.check() if not finding.good] == []
        assert "administrator" in (await plain.check())[0].text
    finally:
        await plain.close()
        for name in ("guest", "plain"):
            broker.api("DELETE", f"users/{name}")


async def test_more_connections_than_sessions_are_refused(broker):
    few = opened(broker)
    few._sessions_max = 1
    case = RabbitmqCase(broker, few)
    minted = await few.mint(mark(74), SCOPE, soon())
    session = await case.login(minted)
    assert await refused(case, minted)
    await session.close()
    await few.revoke(mark(74), minted)
    await few.close()


@pytest.mark.parametrize("kind", [("DELETE", "connections"), ("GET", "connections"), ("DELETE", "users")])
async def test_a_broker_that_fails_while_something_is_just_going_is_asked_again(case, kind):
    """The plugin answers 500 to what meets a connection, or a user, that is going at that moment. By a front: the broker does it rarely."""
    fails = {kind: 2}
    async with failing(case.server, fails) as management:
        target = opened(case.server, management=management)
        minted = await target.mint(mark(76), SCOPE, soon())
        session = await case.login(minted)
        await seen(case, mark(76))
        assert await target.revoke(mark(76), minted) is True
        await target.close()
    assert fails == {kind: 0}, "nothing has failed"
    assert not await session.alive()
    assert await refused(case, minted)
    assert case.standing() == set()
    await session.close()


@pytest.mark.parametrize("kind", [("DELETE", "connections"), ("GET", "connections"), ("DELETE", "users")])
async def test_a_broker_that_goes_on_failing_is_an_outage(case, monkeypatch, kind):
    monkeypatch.setattr("remit.drivers.targets.rabbitmq._SESSIONS_SECONDS", 0.5)
    async with failing(case.server, {kind: 1_000}) as management:
        target = opened(case.server, management=management)
        minted = await target.mint(mark(77), SCOPE, soon())
        session = await case.login(minted)
        await seen(case, mark(77))
        with pytest.raises(Outage) as caught:
            await target.revoke(mark(77), minted)
        assert caught.value.code == "target_unavailable"
        await target.close()
    await case.target.revoke(mark(77), minted)
    assert not await session.alive()
    await session.close()


@pytest.mark.parametrize(
    "values",
    [
        {"url": "nonsense"},
        {"url": "https://u:secret@h"},
        {"url": "https://h"},
        {"url": "http://u@mq.internal:15672"},
        {"url": "https://u@h:bad"},
        {"url": "https://u@h/?x=1"},
        {"amqp": "https://h"},
        {"amqp": "amqps://u@h"},
        {"amqp": "amqps://u:secret@h"},
        {"amqp": "amqps://h/vhost"},
        {"amqp": "amqps://:0"},
        {"ca_file": "relative.pem"},
        {"ca_file": "/dev/null"},
    ],
)
def test_addresses_that_will_not_do(values):
    good = {"url": "https://remit@mq.internal:15671", "amqp": "amqps://mq.internal:5671", "ca_file": ""}
    RABBITMQ.check_settings(good)
    with pytest.raises(Mistake):
        RABBITMQ.check_settings(good | values)

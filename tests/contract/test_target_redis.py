"""The contract of targets on a real Redis, and what is Redis's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError, RedisError

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.redis import REDIS, RedisTarget
from remit.errors import Mistake, Outage
from tests.contract.target_contract import Lacking, TargetContract, mark, soon
from tests.servers.redis import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"keys": [{"prefix": "orders:"}], "allow": ["read"]}
ALWAYS = ("+info", "+ping", "+hello", "+select", "+client|setname", "+client|setinfo")


@dataclass
class Logged:
    db: redis.asyncio.Redis

    async def alive(self) -> bool:
        try:
            await self.db.get("orders:1")
        except RedisError:
            return False
        return True

    async def close(self) -> None:
        await self.db.aclose()


@dataclass
class RedisCase:
    server: RedisServer
    target: RedisTarget
    kind = REDIS
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        db = redis.asyncio.Redis.from_url(minted.parts["url"], single_connection_client=True, decode_responses=True)
        try:
            assert await db.get("orders:1") == "ten"
        except BaseException:
            await db.aclose()
            raise
        return Logged(db)

    async def beyond(self, session: Logged) -> None:
        for words in BEYOND:
            with pytest.raises(NoPermissionError):
                await session.db.execute_command(*words)
        await session.db.set("orders:1", "mine")

    async def leave_things(self, session: Logged) -> None:
        """A user owns nothing in Redis; a blocked command and a transaction are what a session can leave open."""
        await session.db.execute_command("MULTI")

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"keys": [{"prefix": "orders:"}], "allow": ["admin"]},
            {"keys": [{"prefix": "orders:"}], "allow": []},
            {"keys": [{"prefix": ""}], "allow": ["read"]},
            {"keys": [{"prefix": "a b"}], "allow": ["read"]},
            {"keys": [{"pattern": "*"}], "allow": ["read"]},
            {"keys": [{"key": "x", "prefix": "y"}], "allow": ["read"]},
            {"keys": "*", "allow": ["read"]},
            {"keys": [], "allow": ["read"]},
            {**SCOPE, "more": 1},
        ]

    def standing(self) -> set[str]:
        with self.server.root() as root:
            return {name for name in root.acl_users() if name.startswith("remit_")}

    def secrets_told(self, minted: Minted) -> list[str]:
        with self.server.root() as root:
            kept = [*root.acl_list(), *root.acl_log(), *root.slowlog_get()]
        told = [*self.server.log.read_text().splitlines(), *map(str, kept)]
        return [line for line in told if minted.parts["password"] in line]

    async def lacking(self) -> Lacking:
        """A user that may look at users, and not make or remove them."""
        with self.server.root() as root:
            root.execute_command("ACL SETUSER", "looker", "reset", "on", ">looker-secret-1", "+acl|list", "+acl|whoami", *ALWAYS)

        async def run(statement: str) -> None:
            with self.server.root() as root:
                root.execute_command(*statement.split(" "))

        target = opened(self.server, "looker-secret-1", "looker")
        assert [one.good for one in await target.check()] == [True, True, False]
        return Lacking(target=target, says=("looker", "make and remove users"), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()


BEYOND = (
    ("GET", "salaries:1"),
    ("SET", "orders:1", "mine"),
    ("MGET", "orders:1", "salaries:1"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("EVAL", "return 1", "0"),
    ("SUBSCRIBE", "news"),
    ("PUBLISH", "news", "x"),
    ("SELECT", "1"),
    ("MONITOR",),
    ("SORT", "orders:list", "GET", "salaries:*"),
    ("DEBUG", "SLEEP", "0"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def opened(server: RedisServer, password: str = "", user: str = "default") -> RedisTarget:
    async def secret() -> str:
        return password or server.password

    return RedisTarget(TargetSettings(name="cache", kind="redis", values={"url": server.url.replace("//", f"//{user}@")}), secret)


@pytest.fixture
async def case(server: RedisServer) -> AsyncIterator[RedisCase]:
    with server.root() as root:
        root.set("orders:1", "ten")
        root.set("salaries:1", "a lot")
    made = RedisCase(server, opened(server))
    yield made
    await made.target.close()


class TestRedis(TargetContract):
    """The contract."""


async def test_an_input_is_never_a_wildcard(case, server):
    """What is special in a pattern is meant as it stands, whoever chose it."""
    with server.root() as root:
        root.mset({"orders:acme:1": "a", "orders:globex:1": "g", "orders:*:1": "star", "orders:[ag]:1": "set"})
    for customer, sees in (("*", "star"), ("[ag]", "set"), ("acme", "a")):
        scope = {"keys": [{"prefix": f"orders:{customer}:"}], "allow": ["read"]}
        minted = await case.target.mint(mark(50), scope, soon())
        async with redis.asyncio.Redis.from_url(minted.parts["url"], decode_responses=True) as db:
            assert await db.get(f"orders:{customer}:1") == sees
            with pytest.raises(NoPermissionError):
                await db.get("orders:globex:1")
        await case.target.revoke(mark(50), minted)
    minted = await case.target.mint(mark(51), {"keys": [{"key": "orders:acme:1"}], "allow": ["read", "write"]}, soon())
    async with redis.asyncio.Redis.from_url(minted.parts["url"], decode_responses=True) as db:
        await db.set("orders:acme:1", "b")
        with pytest.raises(NoPermissionError):
            await db.get("orders:acme:12")
        key = "orders:acme:1"
        for words in (("FLUSHDB",), ("SWAPDB", "0", "1"), ("MOVE", key, "1"), ("COPY", key, key, "DB", "1")):
            with pytest.raises(NoPermissionError):
                await db.execute_command(*words)
    await case.target.revoke(mark(51), minted)


async def test_words_of_the_acl_in_an_input_are_part_of_the_key(case):
    for prefix in ("x +@all", "x\n+@all", "x\0"):
        with pytest.raises(Mistake):
            await case.target.mint(mark(52), {"keys": [{"prefix": prefix}], "allow": ["read"]}, soon())
    minted = await case.target.mint(mark(52), {"keys": [{"prefix": "+@all"}, {"prefix": "nopass"}], "allow": ["read"]}, soon())
    async with redis.asyncio.Redis.from_url(minted.parts["url"], decode_responses=True) as db:
        with pytest.raises(NoPermissionError):
            await db.get("orders:1")
    await case.target.revoke(mark(52), minted)


async def test_a_wrong_root_password_is_an_outage_that_says_so(server):
    wrong = opened(server, "not-the-password")
    with pytest.raises(Outage) as caught:
        await wrong.mint(mark(53), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert [finding.good for finding in await wrong.check()] == [False]
    await wrong.close()


async def test_a_server_that_lets_anybody_in_is_found_out(case, server):
    with server.root() as root:
        root.execute_command("ACL SETUSER", "guest", "on", "nopass", "~*", "+@all")
    try:
        assert any("without a password" in finding.text for finding in await case.target.check() if not finding.good)
    finally:
        with server.root() as root:
            root.acl_deluser("guest")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "redis://u:secret@h/0",
        "http://h/0",
        "redis:///0",
        "redis://h/name",
        "redis://h/99",
        "redis://h:bad/0",
        "redis://h/0?x=1",
    ],
)
def test_addresses_that_will_not_do(url):
    with pytest.raises(Mistake):
        REDIS.check_settings({"url": url})

"""The contract of targets on MariaDB 10.11, and what is MariaDB's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.mariadb import MARIADB, MariadbTarget
from remit.errors import Mistake, Outage
from tests.certificates import Authority
from tests.contract.target_contract import Lacking, TargetContract, mark, refused, soon
from tests.servers.mariadb import MariadbServer, mariadb_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio
SCOPE = {"tables": [{"database": "orders", "table": "orders", "allow": ["select"]}]}
DENIED = (1044, 1142, 1143, 1227, 1370, 1410)


def connected(minted: Minted, **more: Any) -> pymysql.Connection[Any]:
    parts = minted.parts
    return pymysql.connect(
        host=parts["host"],
        port=int(parts["port"]),
        user=parts["user"],
        password=parts["password"],
        database=parts["database"],
        autocommit=True,
        connect_timeout=5,
        read_timeout=10,
        **more,
    )


def asked(db: pymysql.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    with db.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def code(db: pymysql.Connection[Any], statement: str) -> int:
    """The number of the error."""
    with pytest.raises(pymysql.Error) as caught:
        asked(db, statement)
    return int(caught.value.args[0])


@dataclass
class Logged:
    db: pymysql.Connection[Any]

    async def alive(self) -> bool:
        try:
            await asyncio.to_thread(asked, self.db, "SELECT COUNT(*) FROM orders")
        except (pymysql.Error, OSError):
            return False
        return True

    async def close(self) -> None:
        with contextlib.suppress(pymysql.Error):
            self.db.close()


@dataclass
class MariadbCase:
    server: MariadbServer
    target: MariadbTarget
    kind = MARIADB
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        session = Logged(await asyncio.to_thread(connected, minted))
        try:
            await asyncio.to_thread(asked, session.db, "SELECT COUNT(*) FROM orders")
        except BaseException:
            await session.close()
            raise
        return session

    async def beyond(self, session: Logged) -> None:
        for statement in BEYOND:
            assert code(session.db, statement) in DENIED, statement
        asked(session.db, "INSERT INTO orders VALUES (9, 'x', 1)")

    async def leave_things(self, session: Logged) -> None:
        """Of its own a user can make nothing here: what is left is an open transaction, locks, and a password that it has changed."""
        asked(session.db, "SELECT GET_LOCK('mine', 1)")
        asked(session.db, "BEGIN")
        asked(session.db, "SELECT * FROM orders LOCK IN SHARE MODE")
        asked(session.db, "SET PASSWORD = PASSWORD('of-my-own')")

    def bad_scopes(self) -> list[Any]:
        table = SCOPE["tables"][0]
        return [
            {},
            {"everything": True},
            {"tables": "orders"},
            {"tables": [{**table, "table": "no_such_table"}]},
            {"tables": [table, {**table, "columns": ["no_such_column"]}]},
            {"tables": [{**table, "allow": ["drop"]}]},
            {"tables": [{**table, "allow": []}]},
            {"tables": [{**table, "table": ""}]},
            {"tables": [{**table, "columns": []}]},
            {"tables": [{**table, "columns": ["id"], "allow": ["delete"]}]},
            {"tables": [{**table, "database": "MySQL", "table": "user"}]},
            {"databases": [{"database": "performance_schema", "allow": ["select"]}]},
            {"databases": [{"database": "orders", "allow": ["select"], "columns": ["id"]}]},
        ]

    def standing(self) -> set[str]:
        users = self.server.run("SELECT User FROM mysql.user WHERE User LIKE 'remit\\_%'")
        events = self.server.run("SELECT EVENT_NAME FROM information_schema.EVENTS")
        return {row[0] for row in (*users, *events)}

    def secrets_told(self, minted: Minted) -> list[str]:
        return [line for line in self.server.logs if minted.parts["password"] in line]

    async def lacking(self) -> Lacking:
        """A user that reads the whole database, and may hand on nothing."""
        self.server.run(
            "CREATE OR REPLACE USER 'rea''der'@'%' IDENTIFIED BY 'reader-secret-1'",
            "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'rea''der'@'%'",
            "GRANT SELECT ON mysql.user TO 'rea''der'@'%'",
            "GRANT SELECT ON mysql.db TO 'rea''der'@'%'",
            "GRANT EVENT, SELECT ON orders.* TO 'rea''der'@'%'",
        )

        async def run(statement: str) -> None:
            await asyncio.to_thread(self.server.run, statement)

        target = opened(self.server, "rea'der", "reader-secret-1")
        return Lacking(target=target, says=("rea'der", "SELECT", "`orders`.`orders`"), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()


BEYOND = (
    "SELECT * FROM salaries",
    "DELETE FROM orders",
    "CREATE TABLE mine (x int)",
    "CREATE TEMPORARY TABLE mine (x int)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE EVENT mine ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    "CREATE PROCEDURE mine() SELECT 1",
    "CREATE USER friend",
    "GRANT SELECT ON orders TO root@localhost",
    "ALTER USER CURRENT_USER() ACCOUNT UNLOCK",
    "SELECT * FROM mysql.user",
    "SELECT * FROM orders INTO OUTFILE '/tmp/remit-never'",
    "SET GLOBAL event_scheduler = OFF",
    "DROP TABLE orders",
)


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as running:
        yield running


def opened(server: MariadbServer, user: str = "root", password: str = "", **more: Any) -> MariadbTarget:
    async def secret() -> str:
        return password or server.password

    values = {"url": server.url.replace("root@", f"{user}@"), "sessions": 10, "tls": False, "ca_file": "", **more}
    return MariadbTarget(TargetSettings(name="orders", kind="mariadb", values=values), secret)


@pytest.fixture
async def case(server: MariadbServer) -> AsyncIterator[MariadbCase]:
    made = MariadbCase(server, opened(server))
    yield made
    await made.target.close()


class TestMariadb(TargetContract):
    """The contract."""


async def test_the_server_ends_a_lease_and_its_sessions_without_remit(case):
    """The event: no login any more, and who is logged in is cut; remit does nothing."""
    minted = await case.target.mint(mark(50), SCOPE, soon(3))
    session = await case.login(minted)
    for _ in range(200):
        if not await session.alive():
            break
        await asyncio.sleep(0.1)
    assert not await session.alive()
    assert await refused(case, minted)
    assert case.standing() == {mark(50)}, "what it was is still to be found"
    await case.target.revoke(mark(50), minted)
    await session.close()


async def test_without_the_event_scheduler_there_is_no_credential(case, server):
    server.run("SET GLOBAL event_scheduler = OFF")
    try:
        with pytest.raises(Mistake):
            await case.target.mint(mark(51), SCOPE, soon())
        assert case.standing() == set()
        assert any("event scheduler" in finding.text for finding in await case.target.check() if not finding.good)
    finally:
        server.run("SET GLOBAL event_scheduler = ON")


async def test_names_from_inputs_are_names(case, server):
    """An input that looks like SQL, a quote or another database is the name of a table that is not there."""
    server.run("CREATE TABLE IF NOT EXISTS `we``ird'; DROP TABLE orders -- %s` (x int)")
    for name in ("orders`; DROP TABLE orders; --", "orders.salaries", "salaries, orders", "*", "orders` TO root@localhost; --", "%s", "\\"):
        scope = {"tables": [{"database": "orders", "table": name, "allow": ["select"]}]}
        with pytest.raises(Mistake):
            await case.target.mint(mark(52), scope, soon())
        assert case.standing() == set()
    scope = {"tables": [{"database": "orders", "table": "we`ird'; DROP TABLE orders -- %s", "allow": ["select"]}]}
    minted = await case.target.mint(mark(52), scope, soon())
    with contextlib.closing(connected(minted)) as db:
        assert asked(db, "SELECT * FROM `we``ird'; DROP TABLE orders -- %s`") == []
        assert code(db, "SELECT * FROM orders") in DENIED
    assert server.run("SELECT COUNT(*) FROM orders") == [(3,)]
    await case.target.revoke(mark(52), minted)


async def test_an_input_is_no_wildcard_in_the_name_of_a_database(case, server):
    server.run("CREATE DATABASE IF NOT EXISTS shop_1", "CREATE DATABASE IF NOT EXISTS shopA1")
    server.run("CREATE TABLE IF NOT EXISTS shop_1.items (x int)", "CREATE TABLE IF NOT EXISTS shopA1.items (x int)")
    minted = await case.target.mint(mark(53), {"databases": [{"database": "shop_1", "allow": ["select", "insert"]}]}, soon())
    with contextlib.closing(connected(Minted(parts={**minted.parts, "database": "shop_1"}))) as db:
        asked(db, "INSERT INTO items VALUES (1)")
        assert code(db, "SELECT * FROM shopA1.items") in DENIED
        assert code(db, "DELETE FROM items") in DENIED
    await case.target.revoke(mark(53), minted)
    for name in ("%", "shop%", "\\%"):
        minted = await case.target.mint(mark(53), {"databases": [{"database": name, "allow": ["select"]}]}, soon())
        with contextlib.closing(connected(Minted(parts={**minted.parts, "database": None}))) as db:
            assert code(db, "SELECT * FROM shopA1.items") in DENIED
            assert code(db, "SELECT * FROM orders.salaries") in DENIED
        await case.target.revoke(mark(53), minted)


async def test_columns(case, server):
    scope = {"tables": [{"database": "orders", "table": "orders", "columns": ["id", "amount"], "allow": ["select"]}]}
    minted = await case.target.mint(mark(54), scope, soon())
    with contextlib.closing(connected(minted)) as db:
        assert len(asked(db, "SELECT id, amount FROM orders")) == 3
        assert code(db, "SELECT customer FROM orders") in DENIED
        assert code(db, "SELECT id FROM orders WHERE customer = 'acme'") in DENIED
    await case.target.revoke(mark(54), minted)


async def test_a_root_that_is_no_superuser_is_enough(case, server):
    server.run(
        "CREATE OR REPLACE USER clerk@'%' IDENTIFIED BY 'clerk-secret-1'",
        "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO clerk@'%'",
        "GRANT SELECT ON mysql.user TO clerk@'%'",
        "GRANT SELECT ON mysql.db TO clerk@'%'",
        "GRANT EVENT ON orders.* TO clerk@'%'",
        "GRANT SELECT ON orders.orders TO clerk@'%' WITH GRANT OPTION",
    )
    clerk = opened(server, "clerk", "clerk-secret-1")
    assert [finding.text for finding in await clerk.check() if not finding.good] == []
    minted = await clerk.mint(mark(55), SCOPE, soon(3))
    session = await case.login(minted)
    for _ in range(200):
        if not await session.alive():
            break
        await asyncio.sleep(0.1)
    assert not await session.alive(), "the event works with the clerk's rights"
    assert await clerk.list_ours("remit_abcde") == {mark(55)}
    assert await clerk.revoke(mark(55), minted) is True
    assert case.standing() == set()
    with pytest.raises(Mistake):
        await clerk.mint(mark(55), {"tables": [{"database": "orders", "table": "salaries", "allow": ["select"]}]}, soon())
    assert case.standing() == set()
    await clerk.close()


@pytest.mark.parametrize(
    ("grants", "entry"),
    [
        (["SELECT ON *.*", "INSERT ON orders.* {}"], {"allow": ["select"]}),
        (["SELECT ON orders.* {}"], {"allow": ["select"]}),
        (["SELECT ON orders.* {}"], {"allow": ["select", "update"]}),
        (["SELECT ON orders.*"], {"allow": ["select"]}),
        (["SELECT ON orders.orders {}"], {"allow": ["select"]}),
        (["SELECT (id, amount) ON orders.orders {}"], {"allow": ["select"], "columns": ["id", "amount"]}),
        (["SELECT (id, amount) ON orders.orders {}"], {"allow": ["select"]}),
        (["SELECT (id) ON orders.orders", "UPDATE ON orders.orders {}"], {"allow": ["select"], "columns": ["id"]}),
        (["SELECT ON `ord_rs`.* {}"], {"allow": ["select"]}),
    ],
)
async def test_what_the_check_says_a_mint_does(case, server, grants, entry):
    server.run("CREATE OR REPLACE USER sub@'%' IDENTIFIED BY 'sub-secret-11'")
    for grant in ["CREATE USER, PROCESS, CONNECTION ADMIN ON *.*", "SELECT ON mysql.user", "EVENT ON orders.*", *grants]:
        right, _, more = grant.partition(" {}")
        server.run(f"GRANT {right} TO sub@'%'" + (" WITH GRANT OPTION" if grant.endswith("{}") else "") + more)
    target = opened(server, "sub", "sub-secret-11")
    scope = {"tables": [{"database": "orders", "table": "orders", **entry}]}
    findings = await target.may_give(scope)
    if findings:
        with pytest.raises(Mistake):
            await target.mint(mark(58), scope, soon())
        server.run(*(one.mend for one in findings))
        assert await target.may_give(scope) == ()
    minted = await target.mint(mark(58), scope, soon())
    await target.revoke(mark(58), minted)
    await target.close()


async def test_whatever_bears_a_mark_is_found_and_goes(case, server):
    """From an old backup, say: another host, a name that looks like SQL, an event whose user is gone."""
    hostile = "remit_abcde'; DROP TABLE orders.orders; -- \\"
    for name, host in ((mark(60), "localhost"), (mark(60), "10.%"), (hostile, "%")):
        literal = name.replace("\\", "\\\\").replace("'", "''")
        server.run(f"CREATE USER '{literal}'@'{host}'")
    server.run(f"CREATE EVENT {mark(61)} ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    found = await case.target.list_ours("remit_abcde")
    assert found == {mark(60), mark(61), hostile}
    for name in found:
        await case.target.revoke(name)
    assert await case.target.list_ours("remit_abcde") == set()
    assert server.run("SELECT COUNT(*) FROM orders") == [(3,)]


async def test_a_transaction_under_way_is_cut_and_undone(case, server):
    minted = await case.target.mint(mark(56), {"tables": [{**SCOPE["tables"][0], "allow": ["select", "update"]}]}, soon())
    db = connected(minted)
    asked(db, "BEGIN")
    asked(db, "UPDATE orders SET amount = 0")
    await case.target.revoke(mark(56), minted)
    with pytest.raises(pymysql.Error):
        asked(db, "COMMIT")
    assert server.run("SELECT SUM(amount) FROM orders") == [(60,)]


async def test_a_wrong_root_password_is_an_outage_that_says_so(server):
    wrong = opened(server, password="not-the-password")
    with pytest.raises(Outage) as caught:
        await wrong.mint(mark(57), SCOPE, soon())
    assert (caught.value.code, caught.value.unsent) == ("target_refused", True)
    assert [finding.good for finding in await wrong.check()] == [False]
    await wrong.close()


async def test_what_is_open_to_everybody_is_found_out(case, server):
    server.run("CREATE USER ''@localhost", "INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', 'test', '', 'Y')")
    try:
        bad = [finding.text for finding in await case.target.check() if not finding.good]
        assert any("without a name" in text for text in bad)
        assert any("everybody" in text for text in bad)
    finally:
        server.run("DROP USER ''@localhost", "DELETE FROM mysql.db WHERE User = ''")


async def test_tls_is_proved_and_asked_of_the_holder_too(tmp_path: Path, server):
    """Who does not show a certificate of the authority is told nothing, nor is who offers no TLS at all."""
    authority, stranger = Authority(), Authority()
    certificate, key = authority.svid(hosts=("127.0.0.1",)).write(tmp_path, "server")
    for name, one in (("ca", authority), ("stranger", stranger)):
        (tmp_path / name).write_text(ssl.DER_cert_to_PEM_cert(one.der))
    with mariadb_server(f"--ssl-cert={certificate}", f"--ssl-key={key}") as secured:
        known = opened(secured, tls=True, ca_file=str(tmp_path / "ca"))
        minted = await known.mint(mark(58), SCOPE, soon())
        with contextlib.closing(connected(minted, ssl={"ca": minted.parts["ca_file"]})) as db:
            assert len(asked(db, "SELECT * FROM orders")) == 3
        with pytest.raises(pymysql.Error):
            connected(minted, ssl_disabled=True)
        await known.revoke(mark(58))
        await known.close()
        for ca_file in (str(tmp_path / "stranger"), ""):
            unknown = opened(secured, tls=True, ca_file=ca_file)
            with pytest.raises(Outage) as caught:
                await unknown.mint(mark(58), SCOPE, soon())
            assert caught.value.unsent
            await unknown.close()
    plain = opened(server, tls=True, ca_file=str(tmp_path / "ca"))
    with pytest.raises(Outage):
        await plain.mint(mark(58), SCOPE, soon())
    await plain.close()


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog"])
async def test_a_server_that_asks_for_the_password_itself_does_not_get_it(plugin: bytes):
    """Without TLS anybody may be that server: a stand-in that says no more than its greeting and the question."""
    heard = b""

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        greeting = b"\x0a10.11.0-MariaDB\0" + bytes(4) + b"12345678\0" + b"\xff\xf7\x2d\x02\0\xff\x81\x15" + bytes(10) + b"123456789012\0"
        for number, packet in ((0, greeting + b"mysql_native_password\0"), (2, b"\xfe" + plugin + b"\0\x04Password: ")):
            writer.write(len(packet).to_bytes(3, "little") + bytes([number]) + packet)
            await writer.drain()
            heard += await reader.read(4_096)
        writer.close()

    async with await asyncio.start_server(hostile, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]

        async def secret() -> str:
            return "the-root-password"

        values = {"url": f"mariadb://root@127.0.0.1:{port}/orders", "sessions": 1, "tls": False, "ca_file": ""}
        target = MariadbTarget(TargetSettings(name="orders", kind="mariadb", values=values), secret)
        with pytest.raises(Outage):
            await target.mint(mark(59), SCOPE, soon())
        await target.close()
    assert b"root" in heard
    assert b"the-root-password" not in heard


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mariadb://u:secret@h/d",
        "mariadb://h/d",
        "mariadb://u@h",
        "mariadb://u@h/",
        "mariadb://u@h:0/d",
        "mariadb://u@h/mysql",
        "mysql://u@h/d",
        "mariadb://u@h/d?x=1",
    ],
)
def test_addresses_that_will_not_do(url):
    with pytest.raises(Mistake):
        MARIADB.check_settings({"url": url, "ca_file": ""})


def test_authorities_that_cannot_be_read_will_not_do(tmp_path: Path):
    for file in (tmp_path / "missing", tmp_path, "ca.pem"):
        with pytest.raises(Mistake):
            MARIADB.check_settings({"url": "mariadb://u@h/d", "ca_file": str(file)})

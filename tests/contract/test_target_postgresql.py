"""The contract of targets on PostgreSQL 18, and what is PostgreSQL's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.postgresql import POSTGRESQL, PostgresqlTarget
from remit.errors import Mistake
from tests.contract.target_contract import Lacking, TargetContract, mark, soon
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"tables": [{"schema": "public", "table": "orders", "allow": ["select"]}]}


@dataclass
class Logged:
    db: psycopg.AsyncConnection[Any]

    async def alive(self) -> bool:
        try:
            await self.db.execute("SELECT count(*) FROM orders")
        except psycopg.Error:
            return False
        return True

    async def close(self) -> None:
        await self.db.close()


@dataclass
class PostgresCase:
    server: PostgresTarget
    target: PostgresqlTarget
    kind = POSTGRESQL
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        db = await psycopg.AsyncConnection.connect(minted.parts["url"], autocommit=True, connect_timeout=5)
        session = Logged(db)
        await db.execute("SELECT count(*) FROM orders")
        return session

    async def beyond(self, session: Logged) -> None:
        for statement in (b"SELECT * FROM salaries", b"DELETE FROM orders", b"CREATE TABLE mine (x int)", b"CREATE ROLE friend LOGIN"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await session.db.execute(statement)
        await session.db.execute("INSERT INTO orders VALUES (9, 'x', 1)")

    async def leave_things(self, session: Logged) -> None:
        await session.db.execute("SELECT lo_create(0)")
        await session.db.execute("CREATE TEMPORARY TABLE mine (x int)")
        await session.db.execute("ALTER ROLE CURRENT_USER SET work_mem = '1MB'")
        elsewhere = session.db.info.dsn.replace("dbname=orders", "dbname=other")
        async with await psycopg.AsyncConnection.connect(elsewhere, password=session.db.info.password, autocommit=True) as other:
            await other.execute("SELECT lo_create(0)")

    def bad_scopes(self) -> list[Any]:
        return [
            {"tables": [{"schema": "public", "table": "no_such_table", "allow": ["select"]}]},
            {"tables": [{"schema": "public", "table": "orders", "allow": ["drop"]}]},
            {"tables": [{"schema": "pg_catalog", "table": "pg_authid", "allow": ["select"]}]},
            {"tables": [{"schema": "public", "table": "", "allow": ["select"]}]},
            {"everything": True},
            {},
        ]

    def standing(self) -> set[str]:
        with self.server.root() as root:
            return {row[0] for row in root.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall()}

    def secrets_told(self, minted: Minted) -> list[str]:
        return [line for line in Path(self.server.folder, "log").read_text().splitlines() if minted.parts["password"] in line]

    async def lacking(self) -> Lacking:
        """A role that reads the table, and may not hand that on: PostgreSQL takes its GRANT with no more than a warning."""
        with self.server.root() as root:
            root.execute("DROP ROLE IF EXISTS reader")
            root.execute("CREATE ROLE reader LOGIN CREATEROLE PASSWORD 'reader-secret-1'")
            root.execute("GRANT SELECT ON orders TO reader")

        async def run(statement: str) -> None:
            with self.server.root() as root:
                root.execute(statement.encode())

        target = opened(self.server, self.server.url.replace("postgres@", "reader@"), "reader-secret-1")
        return Lacking(target=target, says=("reader", "SELECT", '"public"."orders"'), run=run)

    def down(self) -> None:
        with self.server.root() as root:
            root.execute("CHECKPOINT")  # a crash forgets nothing of what was minted before
        self.server.stop()

    def up(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        with running.root() as root:
            root.execute("ALTER SYSTEM SET log_statement = 'all'")
            root.execute("SELECT pg_reload_conf()")
        yield running


def opened(server: PostgresTarget, url: str = "", password: str = "") -> PostgresqlTarget:
    async def secret() -> str:
        return password or server.password

    values = {"url": url or server.url, "sessions": 10}
    return PostgresqlTarget(TargetSettings(name="orders", kind="postgresql", values=values), secret)


@pytest.fixture
async def case(server: PostgresTarget) -> AsyncIterator[PostgresCase]:
    made = PostgresCase(server, opened(server))
    yield made
    await made.target.close()


class TestPostgresql(TargetContract):
    """The contract."""


async def test_names_and_values_from_inputs_are_names_and_values(case, server):
    """An input that looks like SQL, a quote or another schema is the name of a table that is not there."""
    with server.root() as root:
        root.execute('CREATE TABLE "we""ird; DROP TABLE orders --" (x int)')
    for name in ('orders"; DROP TABLE orders; --', "public.salaries", "salaries, orders", "orders TO PUBLIC; --", "%s", "{}"):
        scope = {"tables": [{"schema": "public", "table": name, "allow": ["select"]}]}
        with pytest.raises(Mistake):
            await case.target.mint(mark(50), scope, soon())
    settings = {"customer": "'); DROP TABLE orders; --", "note": 'a"b\\c%s{}'}
    scope = {"tables": [{"schema": "public", "table": 'we"ird; DROP TABLE orders --', "allow": ["select"]}], "settings": settings}
    minted = await case.target.mint(mark(50), scope, soon())
    with server.root() as root:
        (comment,) = root.execute(
            "SELECT shobj_description(oid, 'pg_authid')::json FROM pg_roles WHERE rolname = %s", (mark(50),)
        ).fetchone()
        assert comment == settings
        assert root.execute("SELECT count(*) FROM orders").fetchone() == (3,)
    await case.target.revoke(mark(50), minted)


async def test_rows_are_scoped_by_a_setting_that_the_holder_cannot_change(case, server):
    with server.root() as root:
        root.execute(
            "CREATE OR REPLACE FUNCTION remit_setting(name text) RETURNS text LANGUAGE sql STABLE AS $$"
            " SELECT shobj_description(oid, 'pg_authid')::json ->> name FROM pg_roles WHERE rolname = session_user $$"
        )
        root.execute("CREATE TABLE invoices (customer text, amount int)")
        root.execute("INSERT INTO invoices VALUES ('acme', 1), ('globex', 2)")
        root.execute("ALTER TABLE invoices ENABLE ROW LEVEL SECURITY")
        root.execute("CREATE POLICY mine ON invoices USING (customer = remit_setting('customer'))")
    scope = {"tables": [{"schema": "public", "table": "invoices", "allow": ["select"]}], "settings": {"customer": "acme"}}
    minted = await case.target.mint(mark(51), scope, soon())
    async with await psycopg.AsyncConnection.connect(minted.parts["url"], autocommit=True) as db:
        assert await (await db.execute("SELECT customer FROM invoices")).fetchall() == [("acme",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.execute(f'COMMENT ON ROLE {mark(51)} IS \'{{"customer": "globex"}}\''.encode())
        assert await (await db.execute("SELECT customer FROM invoices")).fetchall() == [("acme",)]
    await case.target.revoke(mark(51), minted)


async def test_a_root_that_is_no_superuser_is_enough(case, server):
    with server.root() as root:
        root.execute("CREATE ROLE clerk LOGIN CREATEROLE PASSWORD 'clerk-secret-1'")
        root.execute("GRANT SELECT ON orders TO clerk WITH GRANT OPTION")
    clerk = opened(server, server.url.replace("postgres@", "clerk@"), "clerk-secret-1")
    assert [finding.text for finding in await clerk.check() if not finding.good] == []
    minted = await clerk.mint(mark(52), SCOPE, soon())
    session = await case.login(minted)
    await case.leave_things(session)
    assert await clerk.revoke(mark(52), minted) is True
    assert not await session.alive()
    assert case.standing() == set()
    await session.close()
    await clerk.close()


async def test_every_right_that_a_role_may_not_hand_on_is_named_with_what_mends_it(case, server):
    with server.root() as root:
        root.execute("CREATE SCHEMA depot")
        root.execute('CREATE TABLE depot.items (id serial, name text); CREATE TABLE depot."shelf; --" (x int)')
        root.execute(
            "CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper-secret-1'; GRANT SELECT ON depot.items TO keeper WITH GRANT OPTION"
        )
        root.execute("REVOKE CONNECT ON DATABASE orders FROM PUBLIC; GRANT CONNECT ON DATABASE orders TO keeper")
    keeper = opened(server, server.url.replace("postgres@", "keeper@"), "keeper-secret-1")
    scope = {
        "tables": [
            {"schema": "depot", "table": "items", "allow": ["select", "insert"]},
            {"schema": "depot", "table": "no_such", "allow": ["select"]},
            {"schema": "nowhere", "table": "items", "allow": ["select"]},
        ],
        "schemas": [{"schema": "depot", "allow": ["select"]}],
        "sequences": [{"schema": "depot", "sequence": "items_id_seq", "allow": ["usage"]}],
    }
    try:
        found = await keeper.may_give(scope)
        assert [(one.text, one.mend) for one in found] == [
            ('keeper may not hand on CONNECT on DATABASE "orders"', 'GRANT CONNECT ON DATABASE "orders" TO "keeper" WITH GRANT OPTION'),
            ('keeper may not hand on USAGE on SCHEMA "depot"', 'GRANT USAGE ON SCHEMA "depot" TO "keeper" WITH GRANT OPTION'),
            ("there is no schema nowhere in database orders", ""),
            (
                'keeper may not hand on INSERT on TABLE "depot"."items"',
                'GRANT INSERT ON TABLE "depot"."items" TO "keeper" WITH GRANT OPTION',
            ),
            ("there is no table no_such in schema depot", ""),
            ("there is no table items in schema nowhere", ""),
            (
                'keeper may not hand on SELECT on ALL TABLES IN SCHEMA "depot": shelf; --',
                'GRANT SELECT ON ALL TABLES IN SCHEMA "depot" TO "keeper" WITH GRANT OPTION',
            ),
            (
                'keeper may not hand on USAGE on SEQUENCE "depot"."items_id_seq"',
                'GRANT USAGE ON SEQUENCE "depot"."items_id_seq" TO "keeper" WITH GRANT OPTION',
            ),
        ]
        with server.root() as root:
            for one in found:
                root.execute(one.mend.encode() or b"SELECT 1")
        assert [one.mend for one in await keeper.may_give(scope) if one.mend] == []
    finally:
        with server.root() as root:
            root.execute("GRANT CONNECT ON DATABASE orders TO PUBLIC")
        await keeper.close()


async def test_all_tables_of_a_schema_and_a_sequence(case, server):
    with server.root() as root:
        root.execute("CREATE SCHEMA shop")
        root.execute("CREATE TABLE shop.items (id serial, name text)")
    scope = {
        "schemas": [{"schema": "shop", "allow": ["select", "insert"]}],
        "sequences": [{"schema": "shop", "sequence": "items_id_seq", "allow": ["usage"]}],
    }
    minted = await case.target.mint(mark(53), scope, soon())
    async with await psycopg.AsyncConnection.connect(minted.parts["url"], autocommit=True) as db:
        await db.execute("INSERT INTO shop.items (name) VALUES ('x')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.execute("SELECT * FROM orders")
    await case.target.revoke(mark(53), minted)


async def test_two_nodes_change_privileges_of_one_table_at_once(case, server):
    """PostgreSQL itself answers "tuple concurrently updated": neither node's caller hears of it."""
    other = opened(server)
    marks = [mark(number) for number in range(60, 84)]
    made = await asyncio.gather(*((case.target, other)[place % 2].mint(one, SCOPE, soon()) for place, one in enumerate(marks)))
    await asyncio.gather(
        *((other, case.target)[place % 2].revoke(one, minted) for place, (one, minted) in enumerate(zip(marks, made, strict=True)))
    )
    assert case.standing() == set()
    await other.close()


@pytest.mark.parametrize("url", ["nonsense", "postgresql://u:secret@h/d", "postgresql://h/d", "postgresql://u@h"])
def test_addresses_that_will_not_do(url):
    with pytest.raises(Mistake):
        POSTGRESQL.check_settings({"url": url})

"""PostgreSQL 14 and later: a lease is a role of its own that can log in until its time, with privileges on named tables.

Rules
* Names and values of a scope are quoted by psycopg, never put together by hand; the server is sent a SCRAM verifier, not the password.
* A mint is one message and so one transaction of the server's: nobody has to say COMMIT, and a client that is gone leaves all or nothing.
* Revocation: no login (committed), sessions terminated until none is left, what it owns and was granted dropped in every database that
  knows of it (``pg_shdepend``), the role dropped, sessions once more. Two messages, where it has no session and knows one database.
* Only the drop waits for the server's disk, and with it for what came before. A mint that the server forgets, because it crashes within
  some hundred milliseconds, has given what opens nothing. A crash ends our connections: then what was issued is looked for
  (``interrupted``).
* A role may change its own settings, so ``settings`` are no settings of PostgreSQL: they are the role's comment, which only its
  creator can write. ``docs/targets.md`` has the function by which a row-level policy reads them.
* ``VALID UNTIL`` keeps logins out, not sessions that are open: those end with remit's revocation.

Left out: privileges on columns, membership in other roles (``SET ROLE`` would make it the agent's choice).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.postgresql_rights import findings, lacking
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from remit.drivers.targets.base import Scope, TargetSettings

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_CONNECT_SECONDS = 5
_STATEMENT_MS = 10_000
_TRANSACTION_MS = 18_000  # below MINT_SECONDS
_SESSIONS_SECONDS = 5.0
_CONFLICTS_MAX = 8  # of one change of privileges with others' (PostgreSQL has no lock for that: "tuple concurrently updated")
_CONFLICT_SECONDS = 0.02
_AHEAD, _AHEAD_SECONDS = 8, 0.05
_NAME_BYTES_MAX = 63
_ENTRIES_MAX = 100
_SETTINGS_BYTES_MAX = 8_192
_PASSWORD_BYTES, _SALT_BYTES = 24, 16
_ITERATIONS = 4_096  # what every client takes (RFC 7677); with so random a password more of them keep nobody out
_SELF_GRANT_VERSION, _TRANSACTION_TIMEOUT_VERSION = 160_000, 170_000
_TABLE_WORDS = ("select", "insert", "update", "delete")
_SEQUENCE_WORDS = ("usage", "select")
_INTERNAL = psycopg.errors.InternalError_
_ABSENT = (psycopg.errors.UndefinedObject,)
_AWAY = (psycopg.OperationalError, psycopg.errors.QueryCanceled)

_SOON = "SET LOCAL synchronous_commit = off"  # seen by all at once; on its disk a moment later, or with the next that waits for the disk
_NO_LOGIN = sql.SQL("BEGIN; " + _SOON + "; ALTER ROLE {} NOLOGIN PASSWORD NULL; COMMIT; ")
_TERMINATE = sql.SQL("""
SELECT r.oid, (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = r.oid),
    EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
            AND s.dbid NOT IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())))
FROM pg_roles r WHERE r.rolname = {}
""")
_DATABASES = """
SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s AND d.datallowconn AND d.datname <> current_database()
"""
_DROP = sql.SQL("BEGIN; DROP OWNED BY {0} CASCADE; DROP ROLE {0}; COMMIT; ")
_TERMINATE_BY_OID = sql.SQL("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_get_activity(NULL) WHERE usesysid = {}")


@dataclass(frozen=True, slots=True)
class _Grant:
    """Privileges on one thing. ``on``: ``TABLE``, ``ALL TABLES IN SCHEMA``, ``SEQUENCE``."""

    on: str
    schema: str
    name: str
    words: tuple[str, ...]


class PostgresqlTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._url = settings.name, str(settings.values["url"])
        self._sessions_max = int(settings.values["sessions"])
        self._secret = secret
        self._free: list[Connection] = []
        self._open = asyncio.Semaphore(settings.connections)
        self._privileges = asyncio.Lock()
        self._closed = False
        self._ended = False  # a connection that was open
        self._ahead: list[tuple[str, str]] = []
        self._making: asyncio.Future[None] | None = None
        self._place = conninfo_to_dict(self._url)

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        grants, settings = _read_scope(scope)
        password, verifier = await self._new_password()
        role = sql.Identifier(mark)
        comment = sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(json.dumps(settings)))

        async def work(db: Connection) -> None:
            statements = [
                sql.SQL(_SOON),
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} VALID UNTIL {} CONNECTION LIMIT {}").format(
                    role, sql.Literal(verifier), sql.Literal(expires_at.isoformat()), sql.Literal(self._sessions_max)
                ),
                *((comment,) if settings else ()),
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(db.info.dbname), role),
                *(
                    sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role)
                    for schema in sorted({grant.schema for grant in grants})
                ),
                *(_granted(grant, role) for grant in grants),
            ]
            await self._change_privileges(db, sql.SQL("; ").join(statements))

        try:
            await self._work(work)
        except _AWAY:
            raise self._outage("did not answer in time") from None
        except psycopg.Error as error:
            raise self._refused(error) from None
        asyncio.get_running_loop().call_later(_AHEAD_SECONDS, self._make_ahead)
        return Minted(parts=self._parts(mark, password), secret=frozenset({"url", "password", "pgpass"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        del minted
        try:
            return await self._work(lambda db: self._revoke(db, mark))
        except _AWAY:
            raise self._outage("did not answer in time") from None
        except psycopg.Error as error:
            raise self._refused(error) from None

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""

        async def work(db: Connection) -> frozenset[str]:
            found = await (await db.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (prefix,))).fetchall()
            return frozenset(str(row[0]) for row in found)

        try:
            return await self._work(work)
        except psycopg.Error:
            raise self._outage("does not list its roles") from None

    async def set_own_secret(self, secret: str) -> None:
        """See SetsOwnSecret."""

        async def work(db: Connection) -> None:
            verifier = db.pgconn.encrypt_password(secret.encode(), db.info.user.encode(), b"scram-sha-256").decode()
            await self._again(db, sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(sql.Literal(verifier)))

        try:
            await self._work(work)
        except _AWAY:
            raise self._outage("did not answer in time") from None
        except psycopg.Error as error:
            raise self._refused(error) from None

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            return await self._work(findings)
        except Outage as error:
            return (Finding(good=False, text=error.message),)
        except psycopg.Error as error:
            return (Finding(good=False, text=f"refuses what doctor asks (SQLSTATE {error.sqlstate})"),)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive."""
        try:
            return await self._work(lambda db: lacking(db, scope))
        except _AWAY:
            raise self._outage("did not answer in time") from None
        except psycopg.Error as error:
            raise self._refused(error) from None

    async def interrupted(self) -> bool:
        """See ForgetsInCrashes."""
        ended = [db for db in self._free if _spoken_to(db)]
        self._free = [db for db in self._free if db not in ended]
        for db in ended:
            await self._drop(db)
        told, self._ended = self._ended, False
        return told or bool(ended)

    async def close(self) -> None:
        """See Target."""
        self._closed = True  # what is under way closes its own
        if self._making is not None:
            await asyncio.wait({self._making})
        free, self._free = self._free, []
        for db in free:
            with contextlib.suppress(psycopg.Error):
                await db.close()

    async def _new_password(self) -> tuple[str, str]:
        """A password and its verifier, made ahead where nobody waits: hashing takes as long as several statements. Each is used once."""
        return self._ahead.pop() if self._ahead else await asyncio.to_thread(_password)

    def _make_ahead(self) -> None:
        """The next passwords, several at once and when whoever has the last one is served: hashing takes a processor."""
        if self._making is None and len(self._ahead) <= _AHEAD // 2 and not self._closed:
            self._making = asyncio.ensure_future(self._made_ahead())

    async def _made_ahead(self) -> None:
        try:
            self._ahead += await asyncio.to_thread(lambda: [_password() for _ in range(_AHEAD - len(self._ahead))])
        finally:
            self._making = None

    async def _revoke(self, db: Connection, mark: str) -> bool:
        role = sql.Identifier(mark)
        sessions = _TERMINATE.format(sql.Literal(mark))
        try:
            row = await self._again(db, _NO_LOGIN.format(role) + sessions)
        except _ABSENT:
            return False
        number, elsewhere = await self._terminated(db, sessions, row)
        if number is None:
            return True  # somebody else was first
        if elsewhere:
            for (name,) in await (await db.execute(_DATABASES, (number,))).fetchall():
                await self._drop_owned_in(name, role)
        logging_in = _TERMINATE_BY_OID.format(sql.Literal(number))  # who was, while the login was taken away
        try:
            await self._change_privileges(db, _DROP.format(role) + logging_in)
        except _ABSENT:
            await db.execute(logging_in)
        return True

    async def _terminated(self, db: Connection, sessions: sql.Composed, row: tuple[Any, ...] | None) -> tuple[int | None, bool]:
        """End the sessions, until none is left: the role's number, and whether other databases know of it. ``row``: of a first look."""
        try:
            async with asyncio.timeout(_SESSIONS_SECONDS):
                while row is not None and row[1]:
                    await asyncio.sleep(_CONFLICT_SECONDS)
                    row = await (await db.execute(sessions)).fetchone()
        except TimeoutError:
            raise self._outage("does not end the sessions") from None
        return (row[0], bool(row[2])) if row is not None else (None, False)

    async def _drop_owned_in(self, database: str, role: sql.Identifier) -> None:
        db = await self._connect(database)
        try:
            with contextlib.suppress(*_ABSENT):
                await self._again(db, sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        finally:
            await db.close()

    async def _change_privileges(self, db: Connection, statements: sql.Composed) -> None:
        async with self._privileges:
            await self._again(db, statements)

    async def _again(self, db: Connection, statements: sql.Composed) -> tuple[Any, ...] | None:
        """One message, again where another node changed the same catalog row at the same moment; the row that its last statement gives."""
        for attempt in range(_CONFLICTS_MAX):
            try:
                return await _said(db, statements)
            except _INTERNAL:
                if attempt == _CONFLICTS_MAX - 1:
                    raise
                await asyncio.sleep(_CONFLICT_SECONDS * (attempt + 1) * (1 + secrets.randbelow(100) / 100))
        raise AssertionError("the last attempt leaves by its own error")

    async def _work(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """With a connection of our own that is put back whole, or closed."""
        async with self._open:
            db = await self._fresh()
            try:
                result = await work(db)
            except BaseException as error:
                if db.closed or not isinstance(error, psycopg.Error) or isinstance(error, _AWAY):
                    self._ended |= db.closed
                    await self._drop(db)
                else:
                    await self._put_back(db)
                raise
            await self._put_back(db)
            return result

    async def _put_back(self, db: Connection) -> None:
        if self._closed:
            await self._drop(db)
        else:
            self._free.append(db)

    async def _fresh(self) -> Connection:
        while self._free:
            db = self._free.pop()
            if not _spoken_to(db):
                return db
            try:
                await db.execute("")  # one that the server has closed meanwhile is found out before anything depends on it
            except psycopg.Error:
                self._ended = True
                await self._drop(db)
            except BaseException:
                await self._drop(db)
                raise
            else:
                return db
        return await self._connect()

    async def _drop(self, db: Connection) -> None:
        with contextlib.suppress(psycopg.Error):
            await db.close()

    async def _connect(self, database: str = "") -> Connection:
        where = {"dbname": database} if database else {}
        if password := await self._secret():
            where["password"] = password
        where |= {"connect_timeout": str(_CONNECT_SECONDS), "application_name": "remit", "options": f"-c statement_timeout={_STATEMENT_MS}"}
        try:
            address = make_conninfo(self._url, **where)
            db: Connection = await psycopg.AsyncConnection.connect(address, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            code = "target_refused" if "authentication" in str(error) else "target_unavailable"
            raise Outage(f"target {self._name} cannot be reached", code=code, unsent=True) from None
        try:
            if db.info.server_version >= _SELF_GRANT_VERSION:
                await db.execute("SET createrole_self_grant = 'set, inherit'")
            if db.info.server_version >= _TRANSACTION_TIMEOUT_VERSION:
                await db.execute(sql.SQL("SET transaction_timeout = {}").format(sql.Literal(_TRANSACTION_MS)))
        except BaseException:
            await db.close()
            raise
        return db

    def _parts(self, mark: str, password: str) -> dict[str, str]:
        known = dict(self._place)
        host, port, database = str(known.pop("host", "")), str(known.pop("port", "5432")), str(known.pop("dbname", mark))
        known.pop("user", None)
        place = f"[{host}]" if ":" in host else quote(host, safe="")
        more = f"?{urlencode(known)}" if known else ""
        return {
            "url": f"postgresql://{mark}:{quote(password)}@{place}:{port}/{quote(database)}{more}",
            "host": host,
            "port": port,
            "database": database,
            "user": mark,
            "password": password,
            "pgpass": ":".join(re.sub(r"([\\:])", r"\\\1", part) for part in (host, port, database, mark, password)) + "\n",
        }

    def _outage(self, what: str) -> Outage:
        return Outage(f"target {self._name} {what}", code="target_unavailable")

    def _refused(self, error: psycopg.Error) -> Mistake:
        return Mistake(
            f"target {self._name} refuses this (SQLSTATE {error.sqlstate})",
            code="target_refused",
            hint="remit doctor checks the rights; the scope may name what is not there",
        )


async def _said(db: Connection, statements: sql.Composed) -> tuple[Any, ...] | None:
    """Send statements as one message; the row of the last, where it gives one. What an error leaves begun is undone."""
    cursor = db.cursor()
    try:
        await cursor.execute(statements)
    except psycopg.Error:
        if not db.closed:
            await db.rollback()
        raise
    while cursor.nextset():
        pass
    return await cursor.fetchone() if cursor.description else None


def _password() -> tuple[str, str]:
    """A new password, and what PostgreSQL keeps of it (RFC 5803: SCRAM-SHA-256). It is plain ASCII, so SASLprep changes nothing."""
    password, salt = secrets.token_urlsafe(_PASSWORD_BYTES), secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    kept = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return password, f"SCRAM-SHA-256${_ITERATIONS}:{kept[0]}${kept[1]}:{kept[2]}"


def _spoken_to(db: Connection) -> bool:
    """Whether the server has said something while nobody asked: most likely that it is gone."""
    if db.closed:
        return True
    poll = select.poll()
    poll.register(db.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _granted(grant: _Grant, role: sql.Identifier) -> sql.Composed:
    what = sql.Identifier(grant.schema, grant.name) if grant.name else sql.Identifier(grant.schema)
    words = sql.SQL(", ".join(grant.words).upper())  # of a closed set
    return sql.SQL("GRANT {} ON {} {} TO {}").format(words, sql.SQL(grant.on), what, role)


def _read_scope(scope: Scope) -> tuple[tuple[_Grant, ...], dict[str, Any]]:
    """Grants and settings of a scope. Raises Mistake."""
    unknown = sorted(set(scope) - {"tables", "schemas", "sequences", "settings"})
    if unknown:
        raise _wrong(f"scope.{unknown[0][:40]} is not known", "tables, schemas, sequences, settings")
    grants = [
        *(_read_grant(entry, "TABLE", ("schema", "table"), _TABLE_WORDS) for entry in _entries(scope, "tables")),
        *(_read_grant(entry, "ALL TABLES IN SCHEMA", ("schema",), _TABLE_WORDS) for entry in _entries(scope, "schemas")),
        *(_read_grant(entry, "SEQUENCE", ("schema", "sequence"), _SEQUENCE_WORDS) for entry in _entries(scope, "sequences")),
    ]
    if not grants or len(grants) > _ENTRIES_MAX:
        raise _wrong(f"a scope has 1 to {_ENTRIES_MAX} entries of tables, schemas and sequences", _EXAMPLE)
    settings = scope.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(value, str | int | bool) for value in settings.values()):
        raise _wrong("scope.settings must be a table of texts, whole numbers, true and false", 'settings = { customer = "{customer}" }')
    if len(json.dumps(settings)) > _SETTINGS_BYTES_MAX or "\0" in json.dumps(settings, ensure_ascii=False):
        raise _wrong(f"scope.settings are longer than {_SETTINGS_BYTES_MAX:,} bytes or hold a NUL", "")
    return tuple(grants), settings


def _entries(scope: Scope, key: str) -> list[dict[str, Any]]:
    entries = scope.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _wrong(f"scope.{key} must be a list of tables", _EXAMPLE)
    return entries


def _read_grant(entry: dict[str, Any], on: str, names: tuple[str, ...], words: tuple[str, ...]) -> _Grant:
    known = {*names, "allow"}
    if set(entry) != known:
        raise _wrong(f"an entry of the scope has exactly: {', '.join(sorted(known))}", _EXAMPLE)
    for name in names:
        value = entry[name]
        if not isinstance(value, str) or not 0 < len(value.encode()) <= _NAME_BYTES_MAX or not value.isprintable():
            raise _wrong(f"{name} is no name in PostgreSQL", f"1 to {_NAME_BYTES_MAX} bytes, one name and not schema.name")
    if entry["schema"].startswith("pg_") or entry["schema"] == "information_schema":
        raise _wrong(f"schema {entry['schema']!r} belongs to PostgreSQL itself", "")
    allow = entry["allow"]
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in words for word in allow):
        raise _wrong("allow is a list of privileges", f"of: {', '.join(words)}")
    return _Grant(on=on, schema=entry["schema"], name=entry[names[1]] if len(names) > 1 else "", words=tuple(dict.fromkeys(allow)))


_EXAMPLE = 'tables = [{ schema = "public", table = "orders", allow = ["select"] }]'


def _wrong(what: str, hint: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=hint)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An address without a password. Raises Mistake."""
    try:
        known = conninfo_to_dict(values["url"])
    except psycopg.Error:
        raise Mistake("url is no PostgreSQL address", code="target", hint=_URL_HINT) from None
    if "password" in known:
        raise Mistake("a password stands in the url", code="target", hint='secret = "${NAME}", secret_file, or remit target set-secret')
    if not known.get("host") or not known.get("dbname") or not known.get("user"):
        raise Mistake("url must name user, host and database", code="target", hint=_URL_HINT)


_URL_HINT = 'url = "postgresql://remit@db.internal:5432/orders"'


POSTGRESQL = TargetKind(
    name="postgresql",
    settings={
        "url": Setting(kind=str, hint=_URL_HINT),
        "sessions": Setting(kind=int, default=10, most=1_000),
    },
    blank={
        "url": "postgresql://nobody@127.0.0.1:1/nothing",
        "host": "127.0.0.1",
        "port": "1",
        "database": "nothing",
        "user": "nobody",
        "password": "",
        "pgpass": "",
    },
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=PostgresqlTarget,
    divisible=frozenset({"schemas", "sequences", "tables"}),
)

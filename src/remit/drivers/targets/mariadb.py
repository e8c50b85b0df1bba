"""MariaDB 10.5 and later: a lease is a user of its own, with privileges on named tables, and an event that ends it.

Rules
* Users are not transactional here. A mint makes a locked user, then what ends it, then its privileges, and unlocks it last: whoever is
  gone in the middle leaves a user that nobody can log in with, under the mark.
* The event locks the user and kills its sessions at the time of the lease, by itself, again and again for an hour. Without the event
  scheduler there is no mint.
* Revocation: locked, sessions killed until none is left, dropped, killed once more (who was logging in meanwhile), the event dropped.
* Names and texts are quoted; ``_`` and ``%``, wildcards in the name of a database, are meant as they stand. The server is sent a digest
  of the password.

Left out: MySQL (no ``KILL USER``, other digests), roles, routines.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import time
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import pymysql
import pymysql.err

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.mariadb_connections import Connections, Session, quoted, refused, text
from remit.drivers.targets.mariadb_rights import findings, lacking
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from remit.drivers.targets.base import Scope, TargetSettings

_SESSIONS_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_NAME_MAX = 64
_ENTRIES_MAX = 100
_COLUMNS_MAX = 100
_PASSWORD_BYTES = 24
_WORDS = ("select", "insert", "update", "delete")
_COLUMN_WORDS = ("select", "insert", "update")
_OWN_DATABASES = frozenset({"mysql", "sys", "information_schema", "performance_schema"})
_EXAMPLE = 'tables = [{ database = "orders", table = "orders", allow = ["select"] }]'
_URL_HINT = 'url = "mariadb://remit@db.internal:3306/orders"'
_SESSIONS = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = %s"


@dataclass(frozen=True, slots=True)
class _Grant:
    """Privileges on a table, on columns of it, or on a whole database (``table`` is "")."""

    database: str
    table: str
    columns: tuple[str, ...]
    words: tuple[str, ...]


class MariadbTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._sessions_max = settings.name, int(settings.values["sessions"])
        self._connections = Connections(settings, secret)

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        grants = _read_scope(scope)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        await self._connections.work(lambda db: self._mint(db, mark, password, grants, expires_at))
        return Minted(parts=self._parts(mark, password), secret=frozenset({"url", "password"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        del minted
        return await self._connections.work(lambda db: self._revoke(db, mark))

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        question = (
            "SELECT User FROM mysql.user WHERE LEFT(User, %s) = %s"
            " UNION SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s AND LEFT(EVENT_NAME, %s) = %s"
        )
        values = (len(prefix), prefix, self._connections.database, len(prefix), prefix)
        try:
            rows = await self._connections.work(lambda db: db.run(question, values))
        except Mistake as error:
            raise Outage(error.message, code="target_unavailable") from None
        return frozenset(str(row[0]) for row in rows)

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            return await self._connections.work(findings)
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=error.message),)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive."""
        return await self._connections.work(lambda db: lacking(db, scope))

    async def close(self) -> None:
        """See Target."""
        self._connections.close()

    def _mint(self, db: Session, mark: str, password: str, grants: tuple[_Grant, ...], expires_at: datetime) -> None:
        ((scheduler, now),) = db.run("SELECT @@event_scheduler, UTC_TIMESTAMP(6)")
        if scheduler != "ON":
            raise Mistake(
                f"target {self._name} has its event scheduler off, so that nothing would end a lease there",
                code="target_refused",
                hint="SET GLOBAL event_scheduler = ON",
            )
        who, begins = _account(mark), expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        digest = "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - what it stores; 192 random bits
        require = "SSL" if self._connections.tls else "NONE"
        try:
            db.run(
                f"CREATE USER {who} IDENTIFIED VIA mysql_native_password USING {text(digest)}"
                f" REQUIRE {require} WITH MAX_USER_CONNECTIONS {self._sessions_max} ACCOUNT LOCK"
            )
            db.run(
                f"CREATE EVENT {self._event(mark)} ON SCHEDULE EVERY 5 SECOND STARTS '{begins}' ENDS '{begins}' + INTERVAL 1 HOUR"
                f" DO BEGIN ALTER USER IF EXISTS {who} ACCOUNT LOCK; KILL HARD USER {text(mark)}; END"
            )
            for grant in grants:
                db.run(f"GRANT {_privileges(grant)} ON {_place(grant)} TO {who}")
            if now.replace(tzinfo=UTC) < expires_at:
                db.run(f"ALTER USER {who} ACCOUNT UNLOCK")
        except pymysql.Error as error:
            if refused(error):
                self._revoke(db, mark)  # a Mistake says that nothing was made
            raise

    def _revoke(self, db: Session, mark: str) -> bool:
        hosts = {str(row[0]) for row in db.run("SELECT Host FROM mysql.user WHERE User = %s", (mark,))}
        accounts = [_account(mark, host) for host in sorted({"%", *hosts})]  # a backup may have been changed by hand
        for who in accounts:
            db.run(f"ALTER USER IF EXISTS {who} ACCOUNT LOCK")
        self._end_sessions(db, mark)
        for who in accounts:
            db.run(f"DROP USER IF EXISTS {who}")
        self._end_sessions(db, mark)
        db.run(f"DROP EVENT IF EXISTS {self._event(mark)}")
        return bool(hosts)

    def _end_sessions(self, db: Session, mark: str) -> None:
        until = time.monotonic() + _SESSIONS_SECONDS
        while True:
            db.run(f"KILL HARD USER {text(mark)}")
            if db.run(_SESSIONS, (mark,)) == ((0,),):
                return
            if time.monotonic() > until:
                raise Outage(f"target {self._name} does not end the sessions", code="target_unavailable")
            time.sleep(_LOOK_SECONDS)

    def _event(self, mark: str) -> str:
        return f"{quoted(self._connections.database)}.{quoted(mark)}"

    def _parts(self, mark: str, password: str) -> dict[str, str]:
        to = self._connections
        place = f"[{to.host}]" if ":" in to.host else to.host
        return {
            "url": f"mariadb://{mark}:{quote(password, safe='')}@{place}:{to.port}/{quote(to.database, safe='')}",
            "host": to.host,
            "port": str(to.port),
            "database": to.database,
            "user": mark,
            "password": password,
            "ca_file": to.authorities,
        }


def _account(mark: str, host: str = "%") -> str:
    return f"{text(mark)}@{text(host)}"


def _place(grant: _Grant) -> str:
    if grant.table:
        return f"{quoted(grant.database)}.{quoted(grant.table)}"
    return quoted(grant.database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")) + ".*"


def _privileges(grant: _Grant) -> str:
    columns = f" ({', '.join(map(quoted, grant.columns))})" if grant.columns else ""
    return ", ".join(word.upper() + columns for word in grant.words)


def _read_scope(scope: Scope) -> tuple[_Grant, ...]:
    """Raises Mistake."""
    unknown = sorted(set(scope) - {"tables", "databases"})
    if unknown:
        raise _wrong(f"{unknown[0]!r} is not part of a scope")
    found = [_read_grant(entry, word) for word in ("tables", "databases") for entry in _entries(scope, word)]
    if not found:
        raise _wrong("a scope names tables or databases")
    if len(found) > _ENTRIES_MAX:
        raise _wrong(f"a scope has at most {_ENTRIES_MAX} entries")
    return tuple(found)


def _entries(scope: Scope, key: str) -> list[dict[str, Any]]:
    entries = scope.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _wrong(f"scope.{key} must be a list of tables")
    return entries


def _read_grant(entry: dict[str, Any], kind: str) -> _Grant:
    names = ("database", "table") if kind == "tables" else ("database",)
    columns = entry.get("columns", [])
    if set(entry) - ({"columns"} if kind == "tables" else set()) != {*names, "allow"}:
        raise _wrong(
            f"an entry of {kind} has exactly: {', '.join(sorted((*names, 'allow')))}" + ("; columns if need be" * (kind == "tables"))
        )
    if not isinstance(columns, list) or len(columns) > _COLUMNS_MAX or ("columns" in entry and not columns):
        raise _wrong(f"columns is a list of 1 to {_COLUMNS_MAX} names")
    for name in (*(entry[word] for word in names), *columns):
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_MAX or not name.isprintable() or name != name.strip():
            raise _wrong(f"a name has 1 to {_NAME_MAX} characters, and is one name: not database.table")
        if any(ord(letter) > 0xFFFF for letter in name):
            raise _wrong("a name has no characters beyond the basic plane")
    if entry["database"].lower() in _OWN_DATABASES:
        raise _wrong(f"database {entry['database']!r} belongs to MariaDB itself")
    allow, words = entry["allow"], _COLUMN_WORDS if columns else _WORDS
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in words for word in allow):
        raise _wrong(f"allow is a list of: {', '.join(words)}")
    return _Grant(database=entry["database"], table=entry.get("table", ""), columns=tuple(columns), words=tuple(dict.fromkeys(allow)))


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An address without a password, and authorities that can be read. Raises Mistake."""
    try:
        known = urlsplit(values["url"])
        port = known.port
    except ValueError:
        raise Mistake("url is no address of MariaDB", code="target", hint=_URL_HINT) from None
    if known.password:
        raise Mistake("a password stands in the url", code="target", hint='secret = "${NAME}", secret_file, or remit target set-secret')
    database = unquote(known.path.removeprefix("/"))
    if known.scheme != "mariadb" or not known.hostname or not known.username or port == 0 or known.query or known.fragment:
        raise Mistake("url must name user, host and database", code="target", hint=_URL_HINT)
    if not 0 < len(database) <= _NAME_MAX or database.lower() in _OWN_DATABASES or not database.isprintable():
        raise Mistake("url must end in a database, which keeps the events that end leases", code="target", hint=_URL_HINT)
    if values["ca_file"]:
        if not Path(values["ca_file"]).is_absolute():
            raise Mistake("ca_file is no absolute path", code="target", hint='ca_file = "/etc/remit/db-ca.pem"')
        try:
            ssl.create_default_context(cafile=values["ca_file"])
        except (OSError, ssl.SSLError):
            raise Mistake("ca_file holds no certificates that can be read", code="target", hint="a file of PEM") from None


MARIADB = TargetKind(
    name="mariadb",
    settings={
        "url": Setting(kind=str, hint=_URL_HINT),
        "sessions": Setting(kind=int, default=10, most=1_000),
        "tls": Setting(kind=bool, default=True),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={
        "url": "mariadb://nobody@127.0.0.1:1/nothing",
        "host": "127.0.0.1",
        "port": "1",
        "database": "nothing",
        "user": "nobody",
        "password": "",
        "ca_file": "",
    },
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=MariadbTarget,
    divisible=frozenset({"databases", "tables"}),
)

"""What MariaDB lets remit's own user do: make users and what ends them, and hand on what scopes name. It is asked; nothing is made.

Rules: to hand on a right on something, a user holds the right and GRANT OPTION, each on it or on what it is in. What a role brings that
is in force by default counts. Tables are seen only by who may do something with them: one is missed only
where the rights are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from remit.drivers.targets.base import Finding
from remit.drivers.targets.mariadb_connections import quoted, text

if TYPE_CHECKING:
    from remit.drivers.targets.base import Scope
    from remit.drivers.targets.mariadb_connections import Session

_CLOCK_SECONDS_MAX = 5.0
_VERSION_MIN = (10, 5)
_NAME_MAX = 64
_WILD = re.compile(r"(?:\\.|[^%_\\])*", re.DOTALL)  # up to the first wildcard that is not escaped
_OF_SERVER = "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE IN (%s, %s)"
_OF_DATABASE = (
    "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES"
    " WHERE GRANTEE IN (%s, %s) AND %s LIKE TABLE_SCHEMA"
)
_OF_TABLE = (
    "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.TABLE_PRIVILEGES"
    " WHERE GRANTEE IN (%s, %s) AND TABLE_SCHEMA = %s AND TABLE_NAME = %s"
)
_OF_COLUMNS = (
    "SELECT COLUMN_NAME, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.COLUMN_PRIVILEGES"
    " WHERE GRANTEE IN (%s, %s) AND TABLE_SCHEMA = %s AND TABLE_NAME = %s"
)
_TABLE = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"


@dataclass(slots=True)
class _Held:
    """What remit's user has on something and on what that is in. ``columns``: by name, beside."""

    words: set[str] = field(default_factory=set)
    columns: dict[str, set[str]] = field(default_factory=dict)
    grantable: bool = False

    def add(self, rows: Any) -> None:
        """Rows of a right, and whether it comes with GRANT OPTION."""
        for word, grantable in rows:
            self.words.add(str(word).lower())
            self.grantable |= grantable == "YES"

    def lacks(self, word: str, columns: list[str]) -> bool:
        """Whether a right, or GRANT OPTION, is missing."""
        in_all = word in self.words or (bool(columns) and all(word in self.columns.get(name.lower(), ()) for name in columns))
        return not in_all or not self.grantable


def findings(db: Session) -> tuple[Finding, ...]:
    """Whether leases can be made here at all, and keep what they promise."""
    ((version, scheduler, now, me),) = db.run("SELECT VERSION(), @@event_scheduler, UTC_TIMESTAMP(6), CURRENT_USER()")
    numbers = tuple(int(part) for part in str(version).split("-")[0].split(".")[:2])
    good = numbers >= _VERSION_MIN and "MariaDB" in version
    found = [Finding(good=good, text=f"{str(version)[:60]}, as {me}" + ("" if good else ": MariaDB 10.5 or later is needed"))]
    if scheduler != "ON":
        found.append(Finding(good=False, text="the event scheduler is off, and nothing would end a lease: SET GLOBAL event_scheduler = ON"))
    skew = abs((datetime.now(UTC) - now.replace(tzinfo=UTC)).total_seconds())
    if skew > _CLOCK_SECONDS_MAX:
        found.append(Finding(good=False, text=f"its clock is {skew:.0f} s from ours: leases would end too early or too late there"))
    held = {str(row[0]) for row in db.run("SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES")}
    found += [
        Finding(good=False, text=f"{me} lacks {needed}, which leases need: GRANT {needed} ON *.* TO {me}")
        for needed in ("CREATE USER", "PROCESS", "CONNECTION ADMIN")
        if needed not in held
    ]
    if db.run("SELECT COUNT(*) FROM mysql.user WHERE User = ''") != ((0,),):
        words = "there is a user without a name, whom a lease is taken for when it logs in from the same host: DROP USER ''@…"
        found.append(Finding(good=False, text=words))
    open_to_all = db.run("SELECT Db FROM mysql.db WHERE User IN ('', 'PUBLIC') LIMIT 1")
    if open_to_all:
        words = f"everybody has privileges on database {str(open_to_all[0][0])[:_NAME_MAX]!r}, every lease too: look at mysql.db"
        found.append(Finding(good=False, text=words))
    return tuple(found)


def lacking(db: Session, scope: Scope) -> tuple[Finding, ...]:
    """What of a scope remit's user may not hand on."""
    ((me, role),) = db.run("SELECT CURRENT_USER(), CURRENT_ROLE()")
    name, _, host = str(me).rpartition("@")
    whom = f"'{name}'@'{host}'", f"'{role}'@''" if role else ""
    found = [_lacking_of(db, whom, entry) for key in ("tables", "databases") for entry in scope.get(key, [])]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _lacking_of(db: Session, whom: tuple[str, str], entry: dict[str, Any]) -> Finding | None:
    database, table, columns = str(entry["database"]), str(entry.get("table", "")), [str(one) for one in entry.get("columns", [])]
    held = _Held()
    held.add(db.run(_OF_SERVER, whom))
    held.add(_in_force(db.run(_OF_DATABASE, (*whom, database))))
    if table:
        held.add(db.run(_OF_TABLE, (*whom, database, table)))
    for column, word, grantable in db.run(_OF_COLUMNS, (*whom, database, table)) if columns else ():
        held.columns.setdefault(str(column).lower(), set()).add(str(word).lower())
        held.grantable |= grantable == "YES"
    words = [word for word in dict.fromkeys(entry["allow"]) if held.lacks(word, columns)]
    place = f"{quoted(database)}.{quoted(table) if table else '*'}"
    if words:
        rights = ", ".join(word.upper() + (f" ({', '.join(map(quoted, columns))})" if columns else "") for word in words)
        me = "@".join(text(part.strip("'")) for part in whom[0].rsplit("@", 1))
        lacks = f"{whom[0]} may not hand on {rights} on {place}"
        return Finding(good=False, text=lacks, mend=f"GRANT {rights} ON {place} TO {me} WITH GRANT OPTION")
    if table and db.run(_TABLE, (database, table)) == ((0,),):
        return Finding(good=False, text=f"there is no table {place}")
    return None


def _in_force(rows: Any) -> list[tuple[object, object]]:
    """Of rights on a database those that count: of each holder those of the pattern with most before its first wildcard."""
    says: dict[object, int] = {}
    for holder, pattern, _, _ in rows:
        says[holder] = max(says.get(holder, 0), _literal(str(pattern)))
    return [(word, grantable) for holder, pattern, word, grantable in rows if _literal(str(pattern)) == says[holder]]


def _literal(pattern: str) -> int:
    """How much of a pattern stands before its first wildcard; more than any, where it has none."""
    found = _WILD.match(pattern)
    assert found is not None, "it matches any text"
    return found.end() if found.end() < len(pattern) else _NAME_MAX * 3

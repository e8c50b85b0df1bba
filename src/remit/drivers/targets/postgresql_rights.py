"""What PostgreSQL lets remit's own role do: make roles, and hand on what scopes name. It is asked; nothing is made.

Rules
* Whether a right may be handed on is asked of PostgreSQL's own functions (``has_table_privilege`` … ``WITH GRANT OPTION``), which know
  of ownership, membership and superusers. What PUBLIC has, a lease has as well.
* It has to be asked: GRANT by whoever has a right and may not hand it on is a warning there, and the credential does nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from remit.drivers.targets.base import Finding

if TYPE_CHECKING:
    from remit.drivers.targets.base import Scope

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_CLOCK_SECONDS_MAX = 5.0
_VERSION_MIN = 14
_NAMED_MAX = 3
_TABLES = """
SELECT c.relname, w, has_table_privilege(current_user, c.oid, w || ' WITH GRANT OPTION') OR has_table_privilege('public', c.oid, w)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(%(words)s::text[]) WITH ORDINALITY AS t(w, place)
WHERE n.nspname = %(schema)s AND (%(name)s = '' OR c.relname = %(name)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname, place
"""
_SEQUENCES = _TABLES.replace("has_table_privilege", "has_sequence_privilege").replace("('r', 'p', 'v', 'm', 'f')", "('S')")
_SCHEMA = """
SELECT has_schema_privilege(current_user, oid, 'USAGE WITH GRANT OPTION') OR has_schema_privilege('public', oid, 'USAGE')
FROM pg_namespace WHERE nspname = %s
"""
_DATABASE = """
SELECT has_database_privilege(current_user, oid, 'CONNECT WITH GRANT OPTION') OR has_database_privilege('public', oid, 'CONNECT')
FROM pg_database WHERE datname = current_database()
"""


async def findings(db: Connection) -> tuple[Finding, ...]:
    """Whether leases can be made here at all, and keep what they promise."""
    version = db.info.server_version // 10_000
    found = [Finding(good=version >= _VERSION_MIN, text=f"PostgreSQL {version}, as {db.info.user}")]
    question = "SELECT rolsuper, rolcreaterole, now() FROM pg_roles WHERE rolname = current_user"
    row = await (await db.execute(question)).fetchone()
    assert row is not None, "whoever is logged in is a role"
    is_super, creates, there = row
    if not is_super and not creates:
        found.append(Finding(good=False, text=f"{db.info.user} may not make roles: ALTER ROLE … CREATEROLE"))
    skew = abs((datetime.now(UTC) - there).total_seconds())
    if skew > _CLOCK_SECONDS_MAX:
        found.append(Finding(good=False, text=f"its clock is {skew:.0f} s from ours: leases would end too early or too late there"))
    open_to_all = await (
        await db.execute("SELECT nspname FROM pg_namespace n WHERE has_schema_privilege('public', n.oid, 'CREATE')")
    ).fetchall()
    if open_to_all:
        text = f"everybody may make objects in schema {open_to_all[0][0]}: REVOKE CREATE ON SCHEMA {open_to_all[0][0]} FROM PUBLIC"
        found.append(Finding(good=False, text=text))
    if is_super:
        trusting = await (
            await db.execute("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust' AND type LIKE 'host%'")
        ).fetchone()
        if trusting is not None and trusting[0]:
            found.append(Finding(good=False, text="pg_hba.conf has a host line with trust: no password and no expiry counts there"))
    return tuple(found)


async def lacking(db: Connection, scope: Scope) -> tuple[Finding, ...]:
    """What of a scope remit's role may not hand on."""
    found: list[Finding] = []
    (connects,) = await (await db.execute(_DATABASE)).fetchone() or (False,)
    if not connects:
        found.append(_lacks(db, ["connect"], "DATABASE", sql.Identifier(db.info.dbname)))
    entries = [(key, entry) for key in ("tables", "schemas", "sequences") for entry in scope.get(key, [])]
    for schema in sorted({str(entry["schema"]) for _, entry in entries}):
        row = await (await db.execute(_SCHEMA, (schema,))).fetchone()
        if row is None:
            found.append(Finding(good=False, text=f"there is no schema {schema} in database {db.info.dbname}"))
        elif not row[0]:
            found.append(_lacks(db, ["usage"], "SCHEMA", sql.Identifier(schema)))
    for key, entry in entries:
        found += await _lacking_of(db, key, entry)
    return tuple(dict.fromkeys(found))


async def _lacking_of(db: Connection, key: str, entry: dict[str, Any]) -> list[Finding]:
    schema, name = str(entry["schema"]), str(entry.get("table", entry.get("sequence", "")))
    question = _SEQUENCES if key == "sequences" else _TABLES
    rows = await (await db.execute(question, {"schema": schema, "name": name, "words": list(entry["allow"])})).fetchall()
    what = {"tables": "TABLE", "schemas": "ALL TABLES IN SCHEMA", "sequences": "SEQUENCE"}[key]
    if not rows:
        there = f"{what.lower()} {name} in schema {schema}" if name else f"table in schema {schema}, so that a lease of it does nothing"
        return [Finding(good=False, text=f"there is no {there}")]
    words = list(dict.fromkeys(str(word) for _, word, may in rows if not may))
    if not words:
        return []
    tables = list(dict.fromkeys(str(table) for table, _, may in rows if not may))
    more = f": {', '.join(tables[:_NAMED_MAX])}{' and others' if len(tables) > _NAMED_MAX else ''}" if not name else ""
    return [_lacks(db, words, what, sql.Identifier(schema, name) if name else sql.Identifier(schema), more)]


def _lacks(db: Connection, words: list[str], what: str, on: sql.Identifier, more: str = "") -> Finding:
    rights, shown = ", ".join(words).upper(), f"{what} {on.as_string(db)}"
    me = sql.Identifier(db.info.user).as_string(db)
    text = f"{db.info.user} may not hand on {rights} on {shown}{more}"
    return Finding(good=False, text=text, mend=f"GRANT {rights} ON {shown} TO {me} WITH GRANT OPTION")

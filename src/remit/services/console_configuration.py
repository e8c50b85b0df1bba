"""Reads ``[console]`` and ``console/*.cedar``: who has which role in the console, and what roles may do.

Rules: as all of the configuration: every mistake at once, nothing guessed. Where nothing is stated, accounts of this machine that can make
a link (they can read remit's keys) have every role, and nobody else has any.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.console import CLAIM, ConsolePolicy
from remit.model.console import ConsoleRules, Role
from remit.services.reading import near, read_texts

if TYPE_CHECKING:
    from pathlib import Path

    from remit.services.reading import Reader

FOLDER = "console"
_LASTS_MAX = timedelta(hours=24)
_ENTRY_CHARACTERS_MAX = 254


def read_console(root: Reader, folder: Path) -> ConsoleRules:
    """The console's rules; what is wrong is noted."""
    table = root.table("console")
    defaults = ConsoleRules()
    idle, lasts = table.duration("idle", defaults.idle, _LASTS_MAX), table.duration("lasts", defaults.lasts, _LASTS_MAX)
    if idle > lasts:
        table.wrong(f"idle = {idle} is longer than lasts = {lasts}", "a session ends with the shorter of both", "idle")
    roles = defaults.roles
    if "roles" in table.data:
        given = table.table("roles")
        for unknown in [name for name in given.data if name not in set(Role)]:
            given.wrong(f"there is no role {unknown[:40]!r}", near(unknown, list(Role)), unknown)
        roles = {role: given.texts(role.value) for role in Role}
        for role, entries in roles.items():
            for entry in entries:
                _check_entry(given, role, entry)
    table.done("roles")
    texts = read_texts(folder, FOLDER, ".cedar", root.found)
    policies = {name: text for name, text in texts.items() if text is not None}
    try:
        ConsolePolicy(policies)
    except Mistake as mistake:
        root.found.append(mistake)
    return ConsoleRules(roles=roles, idle=idle, lasts=lasts, policies=policies)


def _check_entry(table: Reader, role: Role, entry: str) -> None:
    claim, equals, value = entry.partition(CLAIM)
    if not entry or len(entry) > _ENTRY_CHARACTERS_MAX or not entry.isprintable() or (equals and not (claim and value)):
        hint = '"local:ann", "*@corp.example", or "groups=platform"'
        table.wrong(f"{entry[:80]!r} names nobody", hint, role.value)

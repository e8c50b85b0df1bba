"""Writes the configuration that takes the place of what a scan found: the servers behind remit, their secrets as leases of targets.

Rules: as ``scaffold.py``: nothing that exists is overwritten, no secret is copied. A target is written where its kind takes the address
that was found; every other secret becomes one of kind ``static``, and it is said that it still stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from remit.drivers.targets.kinds import TARGET_KINDS
from remit.errors import Mistake
from remit.logic.secret_values import database_address, secret_kind
from remit.services.scaffold import Importing, Scaffolded, toml_value, write_files
from remit.services.scan import target_kind

if TYPE_CHECKING:
    from pathlib import Path

    from remit.model.scanning import ServerEntry
    from remit.services.scan import Scanned

_SCHEME = re.compile(r"([A-Za-z-]+\s+)(\S+)\Z")
_NAME = re.compile(r"[^a-z0-9_-]+")
_NAME_MAX = 48
_SCOPES = {  # to be made what the task needs; as they stand they name nothing that exists
    "postgresql": 'scope.tables = [{ schema = "public", table = "TABLE", allow = ["select"] }]\n',
    "mariadb": 'scope.tables = [{ database = "DATABASE", table = "TABLE", allow = ["select"] }]\n',
    "redis": 'scope.keys = [{ prefix = "PREFIX:" }]\nscope.allow = ["read"]\n',
}


def write_found(folder: Path, scanned: Scanned) -> Scaffolded:
    """Write it. Raises OSError."""
    leasing = _Leasing()
    importing = Importing(leasing.lease)
    tables: list[str] = []
    tasks: dict[str, str] = {}
    taken: set[str] = set()
    for _, entry in scanned.servers:
        plain = _plain(entry)
        if repr((entry.name, plain)) in taken:
            continue  # the same server in another client
        taken.add(repr((entry.name, plain)))
        before = set(importing.names)
        leasing.asked = []
        table = importing.table(entry.name, plain)
        if table:
            name = (importing.names - before).pop()
            tables.append(table)
            tasks[f"tasks/{name}.toml.sample"] = _task(name, leasing.asked)
    tables += [text for _, text in sorted(leasing.targets.items())]
    notices = [*importing.notices, *leasing.notices]
    source = "what was found" if tables else ""
    return write_files(folder, "\n".join(tables), notices, source, tasks)


class _Leasing:
    """Targets made so far. One a secret: the same value in two servers is one target."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}
        self.notices: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self._by_value: dict[str, tuple[str, str, str]] = {}

    def lease(self, server: str, name: str, value: str) -> str:
        """``{lease:…}`` for a value of a server's env or headers; "" where it is no secret that can be told."""
        kind = secret_kind(value, (name,))
        if not kind:
            return ""
        scheme = _SCHEME.match(value)
        before, secret = (scheme[1], scheme[2]) if scheme else ("", value)
        if secret not in self._by_value:
            self._by_value[secret] = self._target(server, name, secret, kind)
        target, word, part = self._by_value[secret]
        if (target, word) not in self.asked:
            self.asked.append((target, word))
        return f"{before}{{lease:{target}.{part}}}"

    def _target(self, server: str, name: str, secret: str, kind: str) -> tuple[str, str, str]:
        word, (_, _, address) = target_kind(secret, kind), database_address(secret)
        stem = _NAME.sub("-", f"{server}-{name}".lower()).strip("-_")[:_NAME_MAX] or "target"
        target, number = stem, 1
        while target in self.targets:
            number += 1
            target = f"{stem}-{number}"
        if word in {"postgresql", "mariadb", "redis"}:
            url = word + address[address.index(":") :] if word != "redis" else address
            try:
                known = TARGET_KINDS[word]
                known.check_settings({**{key: one.default for key, one in known.settings.items()}, "url": url})
            except Mistake as mistake:
                self.notices.append(f"target {target}: {word} cannot take its address ({mistake.message}), so it is static for now")
            else:
                self.targets[target] = (
                    f'\n[targets.{target}]\nkind = "{word}"\nurl = {toml_value(url)}  # better an account of remit\'s own\n'
                )
                self.notices.append(
                    f"target {target}: remit target set-secret {target}, then remit target rotate {target} where its kind can"
                )
                return target, word, "url"
        elif word != "static":
            self.notices.append(f"target {target}: one of kind {word} would mint for each task (docs/targets.md); static for now")
        self.targets[target] = f'\n[targets.{target}]\nkind = "static"  # the secret stands until it is replaced at its system\n'
        self.notices.append(f"target {target}: remit target set-secret {target}; then replace it at its system, for it has stood in a file")
        return target, "static", "password"


def _plain(entry: ServerEntry) -> dict[str, object]:
    """The entry in the one shape that ``Importing`` reads."""
    if entry.command:
        known: dict[str, object] = {"command": entry.command, "args": list(entry.args), "env": dict(entry.environment)}
        return {**known, **({"cwd": entry.raw["cwd"]} if isinstance(entry.raw.get("cwd"), str) else {})}
    return {"url": entry.url, "headers": dict(entry.headers), **({"type": "sse"} if entry.raw.get("type") == "sse" else {})}


def _task(server: str, targets: list[tuple[str, str]]) -> str:
    leases = "".join(f'\n[[lease]]\ntarget = "{target}"\n{_SCOPES.get(kind, "")}' for target, kind in targets)
    return f"""\
# Rename to {server}.toml, list "{server}" in [agents.assistant] tasks, and name the tools: remit pin {server} shows them.
objective = "Say what for, in a sentence"
data_ceiling = "internal"
deadline = "15m"
budget = {{ calls = 20 }}

[[grant]]
tool = "{server}/TOOL"
{leases}"""

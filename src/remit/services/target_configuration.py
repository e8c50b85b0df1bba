"""Reads ``[targets.NAME]`` of ``remit.toml``, the ``[[lease]]`` lines of task types, and what servers' environments ask for.

Rules: as ``services/reading.py``. A secret never stands in a file of the folder. What a scope means is its driver's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.drivers.base import StdioServer
from remit.drivers.targets.base import TargetSettings
from remit.errors import Mistake
from remit.logic.lease_parts import joined
from remit.logic.task_types import placeholders, sample_arguments
from remit.model.catalog import Kind
from remit.model.lease import ROTATION_GRACE, LeaseTemplate, PartTemplate
from remit.services.equipment import leases_of, unequipped
from remit.services.reading import NAME, VARIABLE, Reader, fill, near
from remit.services.task_types import DEADLINE_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from remit.drivers.base import HttpServer
    from remit.drivers.targets.base import TargetKind
    from remit.model.task_type import GrantTemplate, Input, TaskType

_CONNECTIONS, _CONNECTIONS_MAX = 4, 100
_LEASES_MAX = 20


def read_targets(root: Reader, folder: Path, kinds: Mapping[str, TargetKind]) -> dict[str, TargetSettings]:
    """All targets. Mistakes are noted."""
    found: dict[str, TargetSettings] = {}
    for name, table in root.tables("targets"):
        if not NAME.match(name):
            table.wrong(f"{name!r} cannot be the name of a target", "a-z, 0-9, '-', '_'")
            continue
        word = table.value("kind", str, "")
        kind = kinds.get(word)
        if kind is None:
            table.wrong(f"kind = {word[:40]!r}", near(word, kinds), "kind")
            continue
        read = _read_target(table, name, kind, folder)
        if read is not None:
            found[name] = read
    return found


def _read_target(table: Reader, name: str, kind: TargetKind, folder: Path) -> TargetSettings | None:
    values: dict[str, Any] = {}
    before = len(table.found)
    for key, setting in kind.settings.items():
        if key not in table.data and setting.default is None:
            table.wrong(f"{key} is missing", setting.hint, key)
        elif setting.kind is int and isinstance(setting.default, int):
            values[key] = table.number(key, setting.default, setting.most)
        else:
            value = table.value(key, setting.kind, setting.default if setting.default is not None else setting.kind())
            values[key] = fill(table, value, key) if isinstance(value, str) else value
    secret, file = table.value("secret", str, ""), table.value("secret_file", str, "")
    if secret and not VARIABLE.fullmatch(secret):
        table.wrong(
            "a secret stands in this file", 'secret = "${NAME}", secret_file = "…", or neither and remit target set-secret', "secret"
        )
    if secret and file:
        table.wrong("secret and secret_file: one of them", "", "secret_file")
    connections = table.number("connections", _CONNECTIONS, _CONNECTIONS_MAX)
    rotate_after = table.duration("rotate_after", timedelta(), DEADLINE_MAX)
    if rotate_after and (kind.stands or rotate_after < 2 * ROTATION_GRACE):
        hint = "nothing is minted there" if kind.stands else f"at least {2 * ROTATION_GRACE.total_seconds():.0f}s, or leave it out"
        table.wrong("rotate_after cannot be kept", hint, "rotate_after")
    table.done()
    if len(table.found) == before:
        try:
            kind.check_settings(values)
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint)
    if len(table.found) > before:
        return None
    return TargetSettings(
        name=name,
        kind=kind.name,
        values=values,
        secret=fill(table, secret, "secret"),
        secret_file=str(folder / file) if file else "",
        connections=connections,
        rotate_after=rotate_after or None,
    )


def read_leases(
    root: Reader, task_type: TaskType, targets: Mapping[str, TargetSettings], kinds: Mapping[str, TargetKind]
) -> tuple[LeaseTemplate, ...]:
    """The ``[[lease]]`` lines of a task type. Mistakes are noted."""
    inputs = task_type.inputs
    declared = {entry.name for entry in inputs}
    found: dict[str, LeaseTemplate] = {}
    for table in root.each("lease"):
        target, scope = table.value("target", str, ""), table.value("scope", dict, {})
        name = table.value("name", str, target)
        parts = tuple(_read_part(part, task_type.grants) for part in table.each("part"))
        table.done()
        if target not in targets:
            table.wrong(f"target = {target[:80]!r}", near(target, targets), "target")
            continue
        if not NAME.match(name) or name in found:
            table.wrong(f"name = {name[:80]!r}", "a-z, 0-9, '-', '_'; each lease of a task type has a name of its own", "name")
            continue
        unknown = sorted(placeholders([scope, *([part.scope, part.arguments] for part in parts)]) - declared)
        for word in unknown:
            table.wrong(f"{{{word}}} is not a declared input", near(word, declared), "scope")
        if not unknown:
            _check_scopes(table, kinds[targets[target].kind], scope, parts, inputs)
        found[name] = LeaseTemplate(name=name, target=target, scope=scope, parts=parts, place=table.toml.place(*table.path))
    if len(found) > _LEASES_MAX:
        root.wrong(f"more than {_LEASES_MAX} leases", "", "lease")
    return tuple(found.values())


def _read_part(table: Reader, grants: Collection[GrantTemplate]) -> PartTemplate:
    tools, scope, arguments = table.texts("tools"), table.value("scope", dict, {}), table.value("arguments", dict, {})
    table.done()
    if not tools or not all("/" in tool and "*" not in tool for tool in tools):
        table.wrong("tools names the tools that need this part", 'tools = ["server/tool"], each by its whole name', "tools")
    for tool in tools:
        if not any(_may_name(grant, tool) for grant in grants):
            table.wrong(f"no [[grant]] names the tool {tool[:80]!r}", near(tool, {f"{one.server}/{one.name}" for one in grants}), "tools")
    return PartTemplate(tools=tools, scope=scope, arguments=arguments)


def _may_name(grant: GrantTemplate, tool: str) -> bool:
    """Whether a line names a tool, as far as that can be said before the inputs are put in."""
    written = f"{grant.server}/{grant.name}"
    known = written.partition("{")[0].removesuffix("*")
    return grant.kind is Kind.TOOL and (tool == written if known == written else tool.startswith(known))


def _check_scopes(
    table: Reader, kind: TargetKind, scope: dict[str, Any], parts: tuple[PartTemplate, ...], inputs: tuple[Input, ...]
) -> None:
    """The scope as it is, or with each part alone and with all of them: a task may have any."""
    sample, others = sample_arguments(scope, inputs), []
    for number, part in enumerate(parts):
        more = sorted(set(part.scope) - kind.divisible)
        if more or not all(isinstance(entries, list) for entries in part.scope.values()):
            hint = (
                f"a part has lists of: {', '.join(sorted(kind.divisible)) or 'none, for this kind'}; the rest stands in the lease's scope"
            )
            what = f"scope.{more[0][:40]} cannot be divided" if more else "a part adds to lists"
            table.wrong(what, hint, "part", number, "scope")
            return
        others.append(sample_arguments(part.scope, inputs))
    for one in others:
        _check_scope(table, kind, joined(sample, [one]), "part")
    _check_scope(table, kind, joined(sample, others), "scope")


def _check_scope(table: Reader, kind: TargetKind, scope: dict[str, Any], key: str) -> None:
    try:
        kind.check_scope(scope)
    except Mistake as mistake:
        table.wrong(mistake.message, mistake.hint, key)


def check_asked(
    root: Reader,
    servers: Collection[StdioServer | HttpServer],
    task_types: Collection[TaskType],
    targets: Mapping[str, TargetSettings],
    kinds: Mapping[str, TargetKind],
    *,
    table: str = "servers",
) -> None:
    """Whether every task type that grants a server has the leases that the server's environment or headers ask for, with those parts.

    ``table``: where the servers stand.
    """
    for server in servers:
        asked = leases_of(server)
        for kind in task_types if asked else ():
            if any(grant.server == server.name for grant in kind.grants):
                terms = {one.name: one for one in kind.leases}
                key = "env" if isinstance(server, StdioServer) else "headers"
                for name, part in asked:
                    _check_part(root, (table, server.name, key), kind.name, name, part, terms, targets, kinds)


def _check_part(
    root: Reader,
    where: tuple[str, str, str],
    task_type: str,
    name: str,
    part: str,
    terms: Mapping[str, LeaseTemplate],
    targets: Mapping[str, TargetSettings],
    kinds: Mapping[str, TargetKind],
) -> None:
    if name not in terms:
        root.wrong(f"tasks/{task_type}.toml grants {where[1]} but has no lease {name!r}", f'[[lease]] name = "{name}"', *where)
    elif terms[name].target in targets:
        parts = kinds[targets[terms[name].target].kind].blank
        if part not in parts:
            root.wrong(f"a credential of target {terms[name].target} has no {part!r}", near(part, parts), *where)


def without_task(
    server: StdioServer | HttpServer,
    task_types: Collection[TaskType],
    targets: Mapping[str, TargetSettings],
    kinds: Mapping[str, TargetKind],
) -> StdioServer | HttpServer:
    """A server as it is started when no task is there, to list its tools: with parts that open nothing."""

    def blank(name: str) -> Mapping[str, str]:
        named = [one.target for kind in task_types for one in kind.leases if one.name == name] or [name]
        return kinds[targets[named[0]].kind].blank if named[0] in targets else {}

    return unequipped(server, blank)

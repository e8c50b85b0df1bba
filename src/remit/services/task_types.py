"""Reads task types: ``tasks/*.toml``, one file each.

Rules: as ``services/reading.py``. What a grant, a budget or an origin means is ``logic/``'s.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from remit.errors import RemitError
from remit.logic.grants import findings, validator
from remit.logic.schema_words import origins_named, out_of_type, unenforced
from remit.logic.task_types import placeholders, sample_arguments
from remit.model.budget import Budget, SumBudget
from remit.model.catalog import Effect, Kind
from remit.model.decision import Code
from remit.model.task_type import Autonomy, GrantTemplate, Input, TaskType
from remit.services.delegable import read_delegable
from remit.services.manifest_files import read_drift, read_required
from remit.services.reading import NAME, Reader, near

if TYPE_CHECKING:
    from collections.abc import Collection

    from remit.model.labels import DataClasses

DEADLINE_MAX = timedelta(hours=24)
_BEFOREHAND_MAX = timedelta(minutes=1)
_CALLS_MAX = 100_000
_RATE_CALLS_MAX = 1_000
_BYTES_MAX = 2**40
_SUMS_MAX = 20
_RATE = re.compile(r"(\d{1,4})/(?:(\d{1,5})s|(\d{1,4})m|(\d{1,2})h)\Z", re.ASCII)
_INPUT_WORDS = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_INPUT_TYPES = ("string", "integer", "boolean")


def read_task_type(root: Reader, name: str, classes: DataClasses, servers: Collection[str], agents: Collection[str] = ()) -> TaskType:
    """One task type. ``root``: the whole file; ``name``: its stem. ``agents``: declared ones."""
    if not NAME.match(name):
        root.wrong(f"{name!r} cannot be the name of a task type", "name the file with a-z, 0-9, '-', '_', then .toml")
    objective = root.value("objective", str, "")
    if not objective or not objective.isprintable():
        root.wrong(
            "objective is missing" if not objective else "objective holds control characters",
            "one sentence that says what the task is for",
            "objective",
        )
    ceiling = root.value("data_ceiling", str, classes.names[0])
    if ceiling not in classes.names:
        root.wrong(f"data_ceiling = {ceiling!r}", near(ceiling, classes.names), "data_ceiling")
    deadline = root.duration("deadline", timedelta(minutes=15), DEADLINE_MAX)
    budget = _budget(root.table("budget"), servers)
    autonomy = _autonomy(root.table("autonomy"))
    self_service = root.value("self_service", bool, default=False)
    watched = root.value("watched", bool, default=False)
    manifest = root.table("manifest")
    required = read_required(manifest)
    manifest.done()
    drift = read_drift(root.table("drift"))
    beforehand = root.duration("preauthorized_reads", _BEFOREHAND_MAX, _BEFOREHAND_MAX)
    delegable = read_delegable(root, agents) if "delegation" in root.data else None
    inputs = tuple(_input(table, key) for key, table in root.tables("inputs"))
    declared = {entry.name for entry in inputs}
    if not root.data.get("grant"):
        root.wrong("a task type needs at least one [[grant]]", '[[grant]]\n    tool = "server/tool"', "grant")
    templates = [_grant(table, inputs, servers) for table in root.each("grant")]
    grants = [template for template in templates if template is not None]
    for unknown in sorted(placeholders(objective) - declared):
        root.wrong(f"objective names an input {{{unknown}}} that is not declared", near(unknown, declared), "objective")
    root.done("lease")  # read by services/target_configuration.py
    return TaskType(
        name=name,
        objective=objective,
        inputs=inputs,
        grants=tuple(grants),
        data_ceiling=ceiling,
        deadline=deadline,
        budget=budget,
        autonomy=autonomy,
        self_service=self_service,
        watched=watched,
        required=required,
        drift=drift,
        preauthorized_reads=beforehand if "preauthorized_reads" in root.data else None,
        delegable=delegable,
    )


def _input(table: Reader, name: str) -> Input:
    kind = table.value("type", str, "string")
    if kind not in _INPUT_TYPES:
        table.wrong(f"type = {kind!r}", near(kind, _INPUT_TYPES), "type")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        table.wrong(f"{name!r} cannot be the name of an input", "a-z, 0-9, '_'")
    schema = {word: table.data[word] for word in _INPUT_WORDS if word in table.data} | {"type": kind}
    description, default = table.value("description", str, ""), table.data.get("default")
    for path, what, hint in out_of_type(schema):
        table.wrong(what, hint, *path)
    if _checked_schema(table, schema) and default is not None:
        for reason in findings(json.dumps(schema, sort_keys=True), default, Code.ARGUMENTS_INVALID, "this input"):
            table.wrong(f"default: {reason.text}", "", "default")
    table.done(*_INPUT_WORDS, "default")
    return Input(name=name, schema=schema, default=default, description=description)


def _grant(table: Reader, inputs: tuple[Input, ...], servers: Collection[str]) -> GrantTemplate | None:
    declared = {entry.name for entry in inputs}
    named = [kind for kind in Kind if kind.value in table.data]
    names = [table.value(kind.value, str, "") for kind in named]
    arguments, uses = table.value("arguments", dict, {}), table.data.get("uses")
    autonomy = table.choice("autonomy", Autonomy)
    approved_values = table.value("approved_values", bool, default=False)
    table.read.add("uses")
    if uses is not None:
        table.number("uses", 1, _CALLS_MAX)
    table.done(*(kind.value for kind in Kind))
    if len(named) != 1:
        table.wrong("a grant names exactly one of tool, resource or prompt", 'tool = "server/tool"')
        return None
    server, slash, name = names[0].partition("/")
    if server not in servers or not slash or not name or "*" in name[:-1]:
        hint = f'"server/name", a * only at the end, server one of: {", ".join(servers)}'
        table.wrong(f"{named[0].value} = {names[0]!r}", near(server, servers) if slash else hint, named[0].value)
        return None
    unknown = sorted((placeholders(arguments) | placeholders(name)) - declared)
    for word in unknown:
        table.wrong(f"{{{word}}} is not a declared input", near(word, declared), "arguments")
    for path, origin in origins_named(arguments):
        giver, slashed, _ = origin.partition("/")
        if slashed and giver not in servers:
            table.wrong(f"origin {origin!r} names no configured server", near(giver, servers), "arguments", *path)
    for path, what, hint in unenforced(arguments):
        table.wrong(what, hint, "arguments", *path)
    if not unknown:
        _checked_schema(table, {**sample_arguments(arguments, inputs), "type": "object"}, "arguments")
    return GrantTemplate(
        kind=named[0],
        server=server,
        name=name,
        arguments=arguments,
        uses=uses if isinstance(uses, int) else None,
        autonomy=autonomy.value if autonomy else "",
        approved_values=approved_values,
    )


def _checked_schema(table: Reader, schema: dict[str, Any], *keys: str) -> bool:
    try:
        validator(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, sort_keys=True))
    except (RemitError, TypeError) as error:
        table.wrong(str(error), "", *keys)
        return False
    return True


def _budget(table: Reader, servers: Collection[str]) -> Budget:
    calls = table.number("calls", 100, _CALLS_MAX)
    rate_calls = rate_seconds = 0
    text = table.value("rate", str, "")
    if "rate" in table.data:
        found = _RATE.match(text)
        seconds = (int(found[2] or 0) + 60 * int(found[3] or 0) + 3_600 * int(found[4] or 0)) if found else 0
        if found and 0 < int(found[1]) <= _RATE_CALLS_MAX and seconds:
            rate_calls, rate_seconds = int(found[1]), seconds
        else:
            table.wrong(f"rate = {text[:40]!r}", f'"10/1m": at most {_RATE_CALLS_MAX} calls in so many s, m or h', "rate")
    sums = tuple(_sum(inner, name, servers) for name, inner in table.tables("sums"))
    if len(sums) > _SUMS_MAX:
        table.wrong(f"more than {_SUMS_MAX} sums", "", "sums")
    budget = Budget(
        calls=calls,
        rate_calls=rate_calls,
        rate_seconds=rate_seconds,
        bytes_read=table.number("bytes_read", 1, _BYTES_MAX) if "bytes_read" in table.data else 0,
        resources=table.number("resources", 1, _CALLS_MAX) if "resources" in table.data else 0,
        sums=sums,
    )
    table.done()
    return budget


def _sum(table: Reader, name: str, servers: Collection[str]) -> SumBudget:
    tool, argument = table.value("tool", str, ""), table.value("argument", str, "")
    counted, text = table.value("count", bool, default=False), str(table.data.get("maximum", ""))
    table.done("maximum")
    server = tool.partition("/")[0]
    if server not in servers or "/" not in tool or "*" in tool[:-1]:
        table.wrong(f"tool = {tool!r}", f'"server/tool", a * only at the end, server one of: {", ".join(servers)}', "tool")
    if not argument.startswith("/"):
        table.wrong(f"argument = {argument!r} is not a JSON pointer", 'argument = "/amount"', "argument")
    try:
        maximum = Decimal(text)
    except InvalidOperation:
        maximum = Decimal("NaN")
    if not maximum.is_finite() or not 0 <= maximum < 10**24:
        table.wrong(f"maximum = {text[:40]!r} is no amount", "maximum = 500", "maximum")
        maximum = Decimal()
    return SumBudget(name=name, tool=tool, argument=argument, maximum=maximum, counted=counted)


def _autonomy(table: Reader) -> dict[str, str]:
    found = {}
    for effect in Effect:
        chosen = table.choice(effect.value, Autonomy)
        if chosen is Autonomy.PREAPPROVED and effect is Effect.IRREVERSIBLE:
            table.wrong("what cannot be undone is never approved beforehand", "decided, or asked", effect.value)
        elif chosen is not None:
            found[effect.value] = chosen.value
    table.done()
    return found

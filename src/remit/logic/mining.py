"""The narrowest grant that still covers recorded work: a JSON Schema for each tool, made of the arguments that were used. Pure.

Rules: what is mined covers every call it was mined from (``tests/property/test_mining.py``). A value that always was one of the task's
inputs becomes that input; else few values become ``const`` or ``enum``, numbers their bounds, paths the folder they lie in, addresses
their common domain; what remains is bounded by its type and length only. Calls with different sets of arguments make lines of their
own, so that an argument that was never used is closed. Never a guess: where a rule might not hold, a wider one is taken.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.logic.task_types import placeholders, within_pattern
from remit.model.catalog import Kind
from remit.model.task_type import GrantTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Json = dict[str, Any]
_ENUM_MAX = 5
_LINES_MAX = 4  # of one tool by the sets of its arguments; then one line that narrows what all have
_DEPTH_MAX = 6
_INTEGER_MAX = 2**53 - 1
_ADDRESS = re.compile(r"[^@\s\x00-\x1f]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One call of recorded work. ``arguments``: ``None`` where they are not known. ``inputs``: of its task."""

    task: str
    inputs: Mapping[str, Any]
    kind: Kind
    server: str
    name: str
    arguments: Json | None


def mined_grant(calls: Sequence[Used]) -> tuple[GrantTemplate, ...]:
    """Lines that cover the calls, whose arguments must be known, with as many uses as the task that used most."""
    lines: list[GrantTemplate] = []
    for key in sorted({(call.kind, call.server) for call in calls}):
        mine = [call for call in calls if (call.kind, call.server) == key]
        lines += _of_tools(mine) if key[0] is not Kind.RESOURCE else _of_resources(mine)
    return tuple(lines)


def _of_tools(calls: Sequence[Used]) -> list[GrantTemplate]:
    lines = []
    for name in sorted({call.name for call in calls}):
        same = [call for call in calls if call.name == name]
        sets = sorted({tuple(sorted(call.arguments or {})) for call in same})
        groups = [[call for call in same if tuple(sorted(call.arguments or {})) == keys] for keys in sets]
        if len(sets) > _LINES_MAX or any(placeholders(dict.fromkeys(keys, "")) for keys in sets):
            lines.append(_line(same, name, _common(same)))
        else:
            lines += [_line(group, name, _closed(group)) for group in groups]
    return lines


def _of_resources(calls: Sequence[Used]) -> list[GrantTemplate]:
    """A resource's name is its URI: one line for each, or what all begin with."""
    names = {_named(call) for call in calls}
    if len(names) > _ENUM_MAX:
        beginning = _folder([call.name for call in calls])
        return [_line(calls, f"{beginning}/*" if beginning else "*", {})]
    return [_line([call for call in calls if _named(call) == name], name, {}) for name in sorted(names)]


def _named(call: Used) -> str:
    for name, value in sorted(call.inputs.items()):
        if value == call.name:
            return f"{{{name}}}"
    return call.name if not placeholders(call.name) and not call.name.endswith("*") else "*"


def _line(calls: Sequence[Used], name: str, arguments: Json) -> GrantTemplate:
    most = max(Counter(call.task for call in calls).values())
    return GrantTemplate(kind=calls[0].kind, server=calls[0].server, name=name, arguments=arguments, uses=most)


def _closed(calls: Sequence[Used]) -> Json:
    """All have the same arguments: each is narrowed, and no other may be given."""
    keys = sorted(calls[0].arguments or {})
    properties = {key: _argument(key, calls) for key in keys}
    return {"properties": properties, "additionalProperties": False} if keys else {"additionalProperties": False}


def _common(calls: Sequence[Used]) -> Json:
    keys = set.intersection(*(set(call.arguments or {}) for call in calls))
    properties = {key: rule for key in sorted(keys) if not placeholders(key) and (rule := _argument(key, calls))}
    return {"properties": properties} if properties else {}


def _argument(key: str, calls: Sequence[Used]) -> Json:
    values = [(call.arguments or {})[key] for call in calls]
    for name in sorted(set.intersection(*(set(call.inputs) for call in calls))):
        if all(_same(call.inputs[name], value) for call, value in zip(calls, values, strict=True)):
            return {"const": f"{{{name}}}"}
    return _rule(values, _DEPTH_MAX)


def _rule(values: Sequence[Any], depth: int) -> Json:
    """A schema of all the values."""
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    if len(distinct) <= _ENUM_MAX and not placeholders(distinct) and all(map(_exact, distinct)):
        return {"const": distinct[0]} if len(distinct) == 1 and distinct[0] is not None else {"enum": distinct}
    kinds = {type(value) for value in distinct}
    for fits, make in _KINDS:
        if kinds <= fits:
            return make(distinct, depth)
    return {}


def _exact(value: object) -> bool:
    """Whether a value stands in a configuration file as it is: no null (TOML has none), no number another reader might round."""
    if isinstance(value, dict):
        return all(map(_exact, value.values()))
    if isinstance(value, list):
        return all(map(_exact, value))
    if isinstance(value, float):
        return False
    return value is not None and not (isinstance(value, int) and abs(value) > _INTEGER_MAX)


def _whole_numbers(values: Sequence[Any], _depth: int) -> Json:
    if any(abs(value) > _INTEGER_MAX for value in values):
        return {"type": "integer"}
    return {"type": "integer", "minimum": min(values), "maximum": max(values)}


def _numbers(values: Sequence[Any], _depth: int) -> Json:
    if any(abs(value) > _INTEGER_MAX for value in values):
        return {"type": "number"}
    least, most = min(values), max(values)
    return {"type": "number", "minimum": int(least // 1), "maximum": -int(-most // 1)}  # whole bounds around them


def _texts(values: Sequence[str], _depth: int) -> Json:
    folder = _folder(values)
    if folder and not placeholders(folder) and all(re.search(within_pattern(folder), value) and "\n" not in value for value in values):
        return {"within": folder}
    domains = {found.group(1) if (found := _ADDRESS.match(value)) else "" for value in values}
    if len(domains) == 1 and "" not in domains:
        return {"type": "string", "pattern": rf"^[^@\s]+@{re.escape(domains.pop())}$"}
    return {"type": "string", "maxLength": max(map(len, values))}


def _lists(values: Sequence[list[Any]], depth: int) -> Json:
    members = [member for value in values for member in value]
    items = _rule(members, depth - 1) if members and depth > 1 else {}
    return {"type": "array", "maxItems": max(map(len, values)), **({"items": items} if items else {})}


def _objects(values: Sequence[Json], depth: int) -> Json:
    keys = sorted(set().union(*values))
    if depth <= 1 or placeholders(dict.fromkeys(keys, "")):
        return {"type": "object"}
    properties = {key: _rule([value[key] for value in values if key in value], depth - 1) for key in keys}
    required = [key for key in keys if all(key in value for value in values)]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_KINDS: tuple[tuple[frozenset[type], Callable[[Sequence[Any], int], Json]], ...] = (
    (frozenset({bool}), lambda _values, _depth: {"type": "boolean"}),
    (frozenset({int}), _whole_numbers),
    (frozenset({int, float}), _numbers),
    (frozenset({str}), _texts),
    (frozenset({list}), _lists),
    (frozenset({dict}), _objects),
)


def _folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all, "" where there is none but the root."""
    if not all("/" in path for path in paths):
        return ""
    split = [path.split("/")[:-1] for path in paths]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)


def _same(first: object, second: object) -> bool:
    return type(first) is type(second) and first == second and isinstance(first, str | int)

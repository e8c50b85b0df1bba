"""What a credential may do on its target, in plain words and as data: its scope, and which parts of its terms that came from. Pure.

Rules: told is what the task's terms say, in the target's own words; a secret is no part of them. Words of strangers (inputs) stand as they
are: who shows them escapes them. Long lists are cut, and it is said how much is not shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.logic.lease_parts import scope_of

if TYPE_CHECKING:
    from remit.model.lease import Lease
    from remit.model.task import Task

_LINES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWords:
    """A part that a credential has: its number in the task type's file, beginning with 1, the tools it is for, and their arguments."""

    number: int
    tools: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MayDo:
    """``scope``: as the target reads it. ``words``: the same, a line for each thing. ``parts``: those it has of ``parts_all``, which is 0
    of terms that are not in parts: then the scope is the whole.
    """

    scope: dict[str, Any]
    words: tuple[str, ...]
    parts: tuple[PartWords, ...]
    parts_all: int


def may_do(task: Task, lease: Lease) -> MayDo:
    """What a lease of a task may do."""
    terms = next((one for one in task.terms if one.name == lease.name), None)
    if terms is None:
        return MayDo(scope={}, words=("its terms are not known",), parts=(), parts_all=0)
    held = [number for number in lease.parts if number < len(terms.parts)]
    scope = json.loads(scope_of(terms, held))
    parts = tuple(
        PartWords(number=number + 1, tools=terms.parts[number].tools, arguments=json.loads(terms.parts[number].arguments or "{}"))
        for number in held
    )
    words = _in_words(scope) or (("whatever the secret of its target may",) if lease.stands else ("nothing is named",))
    more = len(words) - _LINES_MAX
    if more > 0:
        words = (*words[:_LINES_MAX], f"and {more:,} more")
    return MayDo(scope=scope, words=words, parts=parts, parts_all=len(terms.parts))


def came_from(told: MayDo) -> str:
    """Which parts of the terms, in words."""
    if not told.parts_all:
        return ""
    return "; ".join(
        f"part {part.number} of {told.parts_all} (for {', '.join(part.tools)}{f' with {_plain(part.arguments)}' if part.arguments else ''})"
        for part in told.parts
    )


def _in_words(scope: dict[str, Any]) -> tuple[str, ...]:
    lines: list[str] = []
    for key, value in scope.items():
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            lines += [f"{key}: {_entry(entry)}" for entry in value]
        else:
            lines.append(f"{key}: {_plain(value)}")
    return tuple(lines)


def _entry(entry: dict[str, Any]) -> str:
    """One thing and what is allowed with it, the names first."""
    names = ", ".join(f"{key} {_plain(value)}" for key, value in sorted(entry.items(), key=_outside_first) if key != "allow")
    return f"{names}: {_plain(entry['allow'])}" if "allow" in entry else names


_OUTSIDE = ("group", "vhost", "database", "schema", "exchange", "bucket", "type")


def _outside_first(item: tuple[str, Any]) -> tuple[bool, str]:
    """A schema before its table: what others are in."""
    return item[0] not in _OUTSIDE, item[0]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, dict) and value:
        return ", ".join(f"{key} = {_plain(one)}" for key, one in value.items())
    return json.dumps(value, ensure_ascii=False)

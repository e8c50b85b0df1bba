"""What was mined as a patch: the task type's file with its grant replaced, policies without the permits that nothing used. Pure.

Rules: the patch is a proposal in unified diff form, for ``git apply`` after somebody has read it. Only ``[[grant]]`` tables are replaced;
inputs, words and comments elsewhere stay.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from remit.logic.cedar_text import statements

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from remit.logic.policy import Policies
    from remit.model.task_type import GrantTemplate

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_HEADER = re.compile(r"\s*\[")
_GRANT = re.compile(r"\s*\[\[?\s*grant\b")
_CEILING = re.compile(r'(?m)^(\s*data_ceiling\s*=\s*)"[^"]*"')
_CALLS = re.compile(r"(?m)^(\s*budget\s*=\s*\{\s*calls\s*=\s*|\s*budget\.calls\s*=\s*|\[budget\]\s*\ncalls\s*=\s*)\d+")


def grant_text(lines: Sequence[GrantTemplate]) -> str:
    """Lines of a grant as TOML."""
    return "\n".join("\n".join(_line(line)) + "\n" for line in lines)


def proposed_type(text: str, lines: Sequence[GrantTemplate], ceiling: str, calls: int) -> str:
    """A task type's file with another grant, ceiling and budget."""
    kept: list[str] = []
    at, inside = -1, False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = bool(_GRANT.match(line))
        if inside:
            at = len(kept) if at < 0 else at
        else:
            kept.append(line)
    at = len(kept) if at < 0 else at
    grant = grant_text(lines) + ("\n" if at < len(kept) else "")
    changed = "".join([*kept[:at], grant, *kept[at:]])
    changed = _CEILING.sub(lambda found: found.group(1) + _text(ceiling), changed)
    return _CALLS.sub(lambda found: f"{found.group(1)}{calls}", changed)


def proposed_policies(files: Mapping[str, str], policies: Policies, unused: Collection[str]) -> dict[str, str]:
    """Policy files without some policies."""
    proposed = {}
    for file, text in files.items():
        gone = {part.place.line for part in policies.parts if part.place.file == file and part.id in unused}
        kept = text
        for statement in statements(file, text):
            if statement.line in gone and text.count(statement.text) == 1:
                kept = re.sub(re.escape(statement.text) + r"\n?", "", kept, count=1)
        proposed[file] = kept
    return proposed


def patch(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff of files."""
    parts: list[str] = []
    for name in sorted(before):
        old, new = before[name].splitlines(keepends=True), after[name].splitlines(keepends=True)
        lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        parts += [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
    return "".join(parts)


def _line(line: GrantTemplate) -> list[str]:
    lines = ["[[grant]]", f"{line.kind.value} = {_text(f'{line.server}/{line.name}')}"]
    if line.uses is not None:
        lines.append(f"uses = {line.uses}")
    if line.autonomy:
        lines.append(f"autonomy = {_text(line.autonomy)}")
    if line.approved_values:
        lines.append("approved_values = true")
    for word, value in line.arguments.items():
        if word == "properties":
            lines += [f"arguments.properties.{_key(name)} = {_value(rule)}" for name, rule in value.items()]
        else:
            lines.append(f"arguments.{_key(word)} = {_value(value)}")
    return lines


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(member)}" for key, member in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _key(name: str) -> str:
    return name if _BARE.match(name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

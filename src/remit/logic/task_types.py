"""From a task type and inputs to a task's grant. Pure.

Rules: an input is a value, never a piece of schema: where a string is exactly ``{name}`` it becomes the input's typed value;
inside a longer string it is put in as text; inside ``pattern`` it is escaped; inside ``within`` it may not climb. ``within``
(ours: a path at or below a folder) becomes a ``pattern`` that the model can read and a linear-time engine enforces.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import rfc8785

from remit.errors import Mistake
from remit.logic.grants import findings
from remit.model.decision import Code
from remit.model.grant import Grant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.task_type import Input, TaskType

Json = dict[str, Any]
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_INPUT_CHARACTERS_MAX = 4_096
_SEGMENT = r"(?:[^/.\x00][^/\x00]*|\.[^/.\x00][^/\x00]*|\.\.[^/\x00]+)"


def checked_inputs(task_type: TaskType, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a task, with defaults. Raises Mistake naming the input."""
    declared = {entry.name for entry in task_type.inputs}
    unknown = sorted(set(given) - declared)
    if unknown:
        raise Mistake(
            f"task type {task_type.name} has no input {unknown[0][:80]!r}",
            code="input",
            hint=f"its inputs: {', '.join(sorted(declared)) or 'none'}",
        )
    values: dict[str, Any] = {}
    for entry in task_type.inputs:
        value = given.get(entry.name, entry.default)
        if value is None:
            raise Mistake(f"input {entry.name!r} is missing", code="input", hint=f"-i {entry.name}=… {entry.description}".strip())
        _check_text(entry.name, value)
        wrong = findings(json.dumps(entry.schema, sort_keys=True), value, Code.ARGUMENTS_INVALID, "the task type")
        if wrong:
            raise Mistake(f"input {entry.name!r}: {wrong[0].text}", code="input")
        values[entry.name] = value
    return values


def open_grant(task_type: TaskType, inputs: Mapping[str, Any]) -> tuple[Grant, ...]:
    """The grant of one task. Raises Mistake."""
    return tuple(
        Grant(
            kind=template.kind,
            server=template.server,
            name=str(_fill(template.name, inputs, "")),
            arguments=rfc8785.dumps(_fill(template.arguments, inputs, "")).decode() if template.arguments else "",
            uses=template.uses,
            autonomy=template.autonomy,
            approved_values=template.approved_values,
        )
        for template in task_type.grants
    )


def filled(template: Json, inputs: Mapping[str, Any]) -> Json:
    """A template with the inputs put in as values. Raises Mistake."""
    made: Json = _fill(template, inputs, "")
    return made


def sample_arguments(arguments: Json, inputs: tuple[Input, ...]) -> Json:
    """A narrowing schema with harmless values for its inputs: what can be checked before a task is opened."""
    samples = {"string": "x", "integer": 1, "boolean": True}
    filled: Json = _fill(arguments, {entry.name: samples.get(entry.schema["type"], "x") for entry in inputs}, "")
    return filled


def fill_objective(task_type: TaskType, inputs: Mapping[str, Any]) -> str:
    """The objective in words."""
    return str(_fill(task_type.objective, inputs, ""))


def placeholders(value: object) -> set[str]:
    """Names of inputs that a template speaks of."""
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    if isinstance(value, dict):
        return set().union(*(placeholders(member) | placeholders(key) for key, member in value.items()))
    if isinstance(value, list):
        return set().union(*map(placeholders, value))
    return set()


def within_pattern(folder: str) -> str:
    """A pattern for the folder itself and every path below it: no empty, ``.`` or ``..`` segment."""
    return f"^{re.escape(folder.rstrip('/'))}(?:/{_SEGMENT})*/?$"


def _fill(value: Any, inputs: Mapping[str, Any], word: str) -> Any:
    if isinstance(value, dict):
        filled = {key: _fill(member, inputs, key) for key, member in value.items()}
        if isinstance(filled.get("within"), str):
            pattern = within_pattern(filled.pop("within"))
            filled = {**filled, "type": "string", "pattern": pattern}
        return filled
    if isinstance(value, list):
        return [_fill(member, inputs, word) for member in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole and word not in {"pattern", "within"}:
        return inputs[whole.group(1)]
    return _PLACEHOLDER.sub(lambda found: _as_text(inputs[found.group(1)], word), value)


def _as_text(value: object, word: str) -> str:
    text = json.dumps(value) if isinstance(value, bool | int) else str(value)
    if word == "pattern":
        return re.escape(text)
    if word == "within" and any(part in {".", ".."} for part in text.split("/")):
        raise Mistake(f"{text[:80]!r} climbs out of its folder", code="input", hint="give a path without . and ..")
    return text


def _check_text(name: str, value: object) -> None:
    if isinstance(value, str) and (len(value) > _INPUT_CHARACTERS_MAX or any(ord(sign) < 32 or ord(sign) == 127 for sign in value)):
        raise Mistake(f"input {name!r} is longer than {_INPUT_CHARACTERS_MAX} characters or holds control characters", code="input")

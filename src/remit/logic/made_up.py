"""Values that fit a JSON Schema, for drills: a call needs arguments, and there is nobody to give them. Pure.

Rules: nothing is random; the same schema gives the same value. What is made is checked against the schema by whoever uses it: here only
the usual words are understood (const, enum, type, bounds, pattern by its shortest text), and what is not understood is left to that check.
Optional properties are left out, unless they are wanted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remit.logic.grants import findings
from remit.logic.made_up_text import matching
from remit.model.decision import Code

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Json = dict[str, Any]
WORD = "drill"
_GUESSES = (
    WORD,
    "1",
    "a",
    "/drill",
    "drill/a",
    "drill@example.com",
    "https://example.com/drill",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "EUR",
)
_DEPTH_MAX = 8


def made_up(schema: Any, known: Sequence[object] = (), depth: int = 0) -> Any:
    """A value for a schema. ``known``: values to be preferred where they fit, as those of the task's inputs."""
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return WORD
    if "const" in schema:
        return schema["const"]
    for value in known:
        if depth and "origin" in schema and fits({word: rule for word, rule in schema.items() if word != "origin"}, value):
            return value
    for word in ("enum", "examples"):
        if isinstance(schema.get(word), list) and schema[word]:
            return schema[word][0]
    if "default" in schema:
        return schema["default"]
    for word in ("allOf", "anyOf", "oneOf"):
        if isinstance(schema.get(word), list) and schema[word] and "properties" not in schema:
            return made_up(_joined(schema, word), known, depth + 1)
    return _of_type(schema, known, depth)


def arguments_for(schema: Json, known: Sequence[object] = (), wanted: Collection[str] = ()) -> Json:
    """Arguments for a tool by its input schema: what is required, and what is wanted besides."""
    return _object(schema, known, 0, {*wanted})


def fits(schema: Json, value: object) -> bool:
    """Whether a value fits a schema, as grants are enforced."""
    return not findings(json.dumps(schema, sort_keys=True), value, Code.ARGUMENTS_INVALID, WORD)


def _of_type(schema: Json, known: Sequence[object], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, known, depth, set())
    if kind == "array":
        return [made_up(schema.get("items", {}), known, depth + 1) for _ in range(min(int(schema.get("minItems", 1)), 100))]
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _text(schema)) if kind != "string" else _text(schema)


def _object(schema: Json, known: Sequence[object], depth: int, wanted: set[str]) -> Json:
    made: Json = {}
    parts = [schema, *(part for part in schema.get("allOf", []) if isinstance(part, dict))]
    parts += [alternatives[0] for part in list(parts) if (alternatives := part.get("anyOf")) and isinstance(alternatives[0], dict)]
    required = {name for part in parts for name in part.get("required", [])} | wanted
    for name in sorted(required):
        rules = [rule for part in parts if isinstance(rule := part.get("properties", {}).get(name), dict)]
        made[name] = made_up({"allOf": rules} if len(rules) > 1 else rules[0] if rules else {}, known, depth + 1)
    return made


def _joined(schema: Json, word: str) -> Json:
    """A schema with what it is put together from, as far as that can be said in one."""
    rest = {key: rule for key, rule in schema.items() if key != word}
    parts = schema[word] if word == "allOf" else schema[word][:1]
    for part in parts:
        rest.update(part if isinstance(part, dict) else {})
    return rest


def _number(schema: Json) -> int:
    low, high = (schema.get(word, schema.get(f"exclusive{word.capitalize()}")) for word in ("minimum", "maximum"))
    value = 1 if not isinstance(low, int | float) or low == 0 else int(low) + ("exclusiveMinimum" in schema or low != int(low))
    if isinstance(high, int | float) and value > high:
        value = int(high)
    step = schema.get("multipleOf")
    return -(-value // step) * step if isinstance(step, int) and step > 0 else value


def _text(schema: Json) -> str:
    pattern, least, most = schema.get("pattern"), schema.get("minLength", 0), schema.get("maxLength", 10_000)
    guesses: tuple[str, ...] = _GUESSES
    if isinstance(pattern, str):
        guesses = (matching(pattern), *_GUESSES)
    checked = {key: schema[key] for key in ("pattern", "minLength", "maxLength", "format") if key in schema} | {"type": "string"}
    fitting = (guess for guess in guesses if fits(checked, guess))
    return next(fitting, (WORD * (int(least) // len(WORD) + 1))[: max(int(least), min(len(WORD), int(most)))])

"""The words of a narrowing schema: each must be one that is enforced, where it stands and on what the tool takes. Pure.

JSON Schema (2020-12, Core §6.5) ignores a word it does not know, and one that does not apply to the value's type. In a schema
that describes this is harmless; in a grant it opens what its author meant to close: ``amount.maximun = 500`` and ``maximum``
on an amount that is a string both admit every amount. So both are mistakes here.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]
Problem = tuple[Path, str, str]  # where in the schema, what is wrong, how to mend it
_SCHEMA = frozenset(
    {"items", "contains", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else"}
)
_SCHEMAS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
_TYPED: dict[str, frozenset[str]] = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), frozenset({"number", "integer"})),
    **dict.fromkeys(("pattern", "minLength", "maxLength"), frozenset({"string"})),
    **dict.fromkeys(
        ("items", "prefixItems", "contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems"), frozenset({"array"})
    ),
    **dict.fromkeys(("properties", "patternProperties", "required", "minProperties", "maxProperties"), frozenset({"object"})),
}
_PLAIN = frozenset({"const", "enum", "type", "within", "origin", "additionalProperties", "dependentRequired", "propertyNames"})
_REMARKS = frozenset({"$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
_KNOWN = frozenset({*_SCHEMA, *_SCHEMAS, *_NAMED_SCHEMAS, *_TYPED, *_PLAIN, *_REMARKS, "$ref", "$anchor", "$schema"})
_ONLY_SAID = frozenset({"format", "contentEncoding", "contentMediaType", "contentSchema"})
_SETTLES_TYPE = frozenset({"type", "const", "enum", "within"})
_DEPTH_MAX = 64
_ORIGIN = re.compile(r"(?:task|trusted|approval|[a-z0-9][a-z0-9_-]{0,63}/(?:\*|[^\s#*]+(?:#/\S*)?))\Z")


def unenforced(schema: Any, path: Path = ()) -> Iterator[Problem]:
    """What of a narrowing schema would not be enforced as it is written. Shapes are left to the schema's own check."""
    if not isinstance(schema, dict):
        return
    if len(path) > _DEPTH_MAX:
        yield path, "nested too deep", f"at most {_DEPTH_MAX} levels"
        return
    for word, value in schema.items():
        here = (*path, word)
        if word in _ONLY_SAID:
            yield here, f"{word} only describes, it is not enforced", "use pattern, enum or const"
        elif word not in _KNOWN:
            yield here, f"{word!r} is no word of JSON Schema and would be ignored", _meant(word, value, top=not path)
        elif word == "within":
            yield from _within(schema, value, here)
        elif word == "origin":
            yield from _origin(value, here)
        elif word in _SCHEMA:
            yield from unenforced(value, here)
        elif word in _SCHEMAS and isinstance(value, list):
            for number, member in enumerate(value):
                yield from unenforced(member, (*here, number))
        elif word in _NAMED_SCHEMAS and isinstance(value, dict):
            for name, member in value.items():
                yield from unenforced(member, (*here, name))


def origins_named(schema: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every origin that a narrowing schema names, with where it stands."""
    if isinstance(schema, dict) and len(path) <= _DEPTH_MAX:
        origins = schema.get("origin")
        for origin in origins if isinstance(origins, list) else ():
            if isinstance(origin, str):
                yield (*path, "origin"), origin
        properties = schema.get("properties")
        for name, member in properties.items() if isinstance(properties, dict) else ():
            yield from origins_named(member, (*path, "properties", name))
        yield from origins_named(schema.get("items"), (*path, "items"))


def missing_its_mark(narrowing: Any, declared: Any, path: Path = ()) -> Iterator[Problem]:
    """Words for a type that the tool's value may not be of: they would not look at it.

    ``narrowing``: the grant's schema of a value. ``declared``: the tool's own of the same value.
    """
    if not isinstance(narrowing, dict) or len(path) > _DEPTH_MAX:
        return
    declared = declared if isinstance(declared, dict) else {}
    takes = _types(declared)
    for word, value in narrowing.items():
        here, fits = (*path, word), _TYPED.get(word)
        if fits is not None and not _SETTLES_TYPE & narrowing.keys() and (takes is None or not takes <= fits):
            what = "says no type" if takes is None else f"takes {' or '.join(sorted(takes))}"
            yield here, f"{word} does not hold for every value: the tool {what} here", f'state type = "{min(fits)}" beside it'
        if word == "properties" and isinstance(value, dict):
            inner = declared.get(word)
            for name, member in value.items():
                yield from missing_its_mark(member, inner.get(name) if isinstance(inner, dict) else None, (*here, name))
        elif word == "items":
            yield from missing_its_mark(value, declared.get(word), here)
        elif word in _SCHEMAS - {"prefixItems"} and isinstance(value, list) and not _SETTLES_TYPE & narrowing.keys():
            for number, member in enumerate(value):
                yield from missing_its_mark(member, declared, (*here, number))


def out_of_type(schema: Mapping[str, Any]) -> Iterator[Problem]:
    """Words of one plain schema that do not apply to the type it states itself."""
    for word in schema:
        fits = _TYPED.get(word)
        if fits is not None and schema.get("type") not in fits:
            yield (word,), f"{word} does not apply to type = {schema.get('type')!r}", f"{word} is for {' and '.join(sorted(fits))}"


def _within(schema: Mapping[str, Any], value: object, here: Path) -> Iterator[Problem]:
    if not isinstance(value, str) or not value:
        yield here, "within must be a folder", 'within = "/data"'
    others = sorted({"pattern", "type"} & schema.keys() - ({"type"} if schema.get("type") == "string" else set()))
    if others:
        yield here, f"within replaces {' and '.join(others)} beside it", "put one of them into allOf"


def _origin(value: object, here: Path) -> Iterator[Problem]:
    """An origin is enforced where properties and items alone lead to it, and each of its names must be one."""
    steps = list(here[:-1])
    while steps:
        step = steps.pop(0)
        if step == "properties" and steps:
            steps.pop(0)
        elif step != "items":
            yield here, f"origin is not enforced below {step}", "put it below properties or items alone"
            return
    hint = 'origin = ["task", "crm/get_customer"]; allowed: task, trusted, approval, server/tool, server/*, server/tool#/field'
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and _ORIGIN.match(name) for name in value):
        yield here, "origin must be a list of names", hint


def _meant(word: str, value: object, *, top: bool) -> str:
    if top and isinstance(value, dict):
        return f"an argument is narrowed under arguments.properties.{word}"
    close = get_close_matches(word, _KNOWN - _REMARKS, n=1)
    return f"did you mean {close[0]!r}?" if close else "see JSON Schema 2020-12; ours: within, origin"


def _types(declared: Mapping[str, Any]) -> frozenset[str] | None:
    """The types a tool's property may be of, but for null; ``None`` where it does not say."""
    for word in ("anyOf", "oneOf"):
        members = declared.get(word)
        if isinstance(members, list):
            found = [_types(member) if isinstance(member, dict) else None for member in members]
            known = [types for types in found if types is not None]
            return frozenset().union(*known) if len(known) == len(found) else None
    stated = declared.get("type")
    names = [stated] if isinstance(stated, str) else stated
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return frozenset(names) - {"null"}
    values = [declared["const"]] if "const" in declared else declared.get("enum")
    return frozenset(map(_type_of, values)) - {"null"} if isinstance(values, list) else None


def _type_of(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "null")

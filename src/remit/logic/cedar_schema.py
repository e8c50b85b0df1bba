"""The Cedar schema, generated from the catalog: what policies may look at, with types.

Model: ``principal is Agent``, ``action == Action::"server/tool"`` in its effect's group (``Action::"read"``, ``"write"``,
``"irreversible"``), ``resource is Tool|Resource|Prompt in Server``. ``Action::"resources/read"`` and
``Action::"prompts/get"`` serve resources and prompts; ``Action::"task/delegate"``, in no effect's group, is the delegation of a task to
``resource is Delegate``, the receiving agent.

Rules: a tool's arguments appear as far as Cedar has types for them: string, integer (Long), number (decimal, four
places), boolean, arrays of those (Set), objects with declared properties (records). What has no type does not appear,
so a policy that names it does not validate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.model.catalog import Effect, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.model.catalog import PinnedTool, ToolFacts

RESOURCES_READ = "resources/read"
PROMPTS_GET = "prompts/get"
DELEGATE = "task/delegate"
ENTITY_TYPES = {Kind.TOOL: "Tool", Kind.RESOURCE: "Resource", Kind.PROMPT: "Prompt"}
_DEPTH_MAX = 6
_NO_ARGUMENTS: dict[str, Any] = {"type": "Record", "attributes": {}}
_ORIGIN: dict[str, Any] = {
    "type": "Record",
    "attributes": {
        "known": {"type": "Boolean"},
        "trusted": {"type": "Boolean"},
        "sources": {"type": "Set", "element": {"type": "String"}},
    },
}
Json = dict[str, Any]


def action_id(kind: Kind, server: str, name: str) -> str:
    """The id of the action that a call is."""
    if kind is Kind.TOOL:
        return f"{server}/{name}"
    return RESOURCES_READ if kind is Kind.RESOURCE else PROMPTS_GET


def cedar_schema(tools: Iterable[tuple[ToolFacts, PinnedTool]]) -> Json:
    """The schema in Cedar's JSON form."""

    def shown(of: Json, names: Iterable[str]) -> Json:
        origin: Json = {"type": "Record", "attributes": {name: {**_ORIGIN, "required": False} for name in names}}
        return {"arguments": of, "origins": origin, "selectors": _ORIGIN, "references": _ORIGIN}

    actions: Json = {effect.value: {} for effect in Effect}
    for effect in Effect:  # a group without a member could not be named by any policy
        actions[f"any {effect.value}"] = _action(effect, ["Tool"], shown(_NO_ARGUMENTS, ()))
    for facts, pinned in tools:
        properties = pinned.input_schema.get("properties")
        names = properties if isinstance(properties, dict) else ()
        actions[facts.id] = _action(facts.effect, ["Tool"], shown(argument_type(pinned.input_schema), names))
    name = {"type": "Record", "attributes": {"name": {"type": "String"}}}
    uri = {"type": "Record", "attributes": {"uri": {"type": "String"}}}
    actions[RESOURCES_READ] = _action(Effect.READ, ["Resource"], shown(uri, ("uri",)))
    actions[PROMPTS_GET] = _action(Effect.READ, ["Prompt"], shown(name, ("name",)))
    count = {"type": "Long"}
    delegation: Json = {"type": "Record", "attributes": {"calls": count, "children": count, "seconds": count}}
    actions[DELEGATE] = _action(None, ["Delegate"], {**shown(_NO_ARGUMENTS, ()), "delegation": delegation})
    facts_shape = {key: {"type": "String"} for key in ("effect", "data_class", "trust", "sends", "name")}
    thing = {"memberOfTypes": ["Server"], "shape": {"type": "Record", "attributes": facts_shape}}
    agent = {"shape": {"type": "Record", "attributes": {"trust_domain": {"type": "String"}}}}
    entity_types: Json = {"Agent": agent, "Server": {}, "Tool": thing, "Resource": thing, "Prompt": thing, "Delegate": thing}
    return {"": {"commonTypes": {}, "entityTypes": entity_types, "actions": actions}}


def argument_type(schema: Json) -> Json:
    """The record type of a tool's arguments."""
    found = _type(schema, _DEPTH_MAX)
    if found is None or found["type"] != "Record":
        return _NO_ARGUMENTS
    return found


def cedar_value(value: object, kind: Json) -> object:
    """A JSON value as Cedar takes it for that type. Raises ValueError where Cedar cannot carry it."""
    name = kind["type"]
    if name == "Record" and isinstance(value, dict):
        attributes = kind["attributes"]
        return {key: cedar_value(member, attributes[key]) for key, member in value.items() if key in attributes and member is not None}
    if name == "Set" and isinstance(value, list):
        return [cedar_value(member, kind["element"]) for member in value]
    if name == "Long" and isinstance(value, int | float) and not isinstance(value, bool):
        return _long(value)
    if name == "Extension" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"__extn": {"fn": "decimal", "arg": _decimal(value)}}
    if (name == "String" and isinstance(value, str)) or (name == "Boolean" and isinstance(value, bool)):
        return value
    raise ValueError(f"{type(value).__name__} where the policy language expects {name}")


def _action(effect: Effect | None, resources: list[str], shown: Json) -> Json:
    text = {"type": "String"}
    depth, chain = {"type": "Long"}, {"type": "Set", "element": text}
    task = {"type": "Record", "attributes": {"id": text, "type": text, "on_behalf_of": text, "depth": depth, "chain": chain}}
    attributes: Json = {
        "task": task,
        "labels": {"type": "Set", "element": text},
        "data_class": text,
        "untrusted": {"type": "Boolean"},
        "sink": text,
        "signals": {"type": "Set", "element": text},
        "drift": {"type": "Set", "element": text},
        "now": {"type": "Extension", "name": "datetime"},
        "approval": {"type": "Record", "attributes": {"by": text}, "required": False},
        "preauthorized": {"type": "Record", "attributes": {"seconds": {"type": "Long"}}, "required": False},
        **shown,
    }
    context = {"type": "Record", "attributes": attributes}
    applies = {"principalTypes": ["Agent"], "resourceTypes": resources, "context": context}
    return {"memberOf": [{"id": effect.value}] if effect else [], "appliesTo": applies}


def _type(schema: object, depth: int) -> Json | None:
    if not isinstance(schema, dict) or depth == 0:
        return None
    chosen = _without_null(schema)
    kind = chosen.get("type")
    if kind == "object":
        return _record(chosen, depth)
    if kind == "array":
        element = _type(chosen.get("items"), depth - 1)
        return {"type": "Set", "element": element} if element else None
    if kind is None and chosen.get("enum") and all(isinstance(word, str) for word in chosen["enum"]):
        kind = "string"
    return _SCALARS.get(kind) if isinstance(kind, str) else None


def _record(schema: Json, depth: int) -> Json:
    required = schema.get("required", [])
    attributes: Json = {}
    properties = schema.get("properties", {})
    for key, member in properties.items() if isinstance(properties, dict) else ():
        found = _type(member, depth - 1)
        if found is not None:
            attributes[key] = found if key in required and not _nullable(member) else {**found, "required": False}
    return {"type": "Record", "attributes": attributes}


def _without_null(schema: Json) -> Json:
    """The one branch beside null of ``anyOf [X, null]`` or ``type [x, null]``: how optional values are declared."""
    branches = schema.get("anyOf")
    if isinstance(branches, list):
        real = [branch for branch in branches if branch != {"type": "null"}]
        return real[0] if len(real) == 1 and isinstance(real[0], dict) else {}
    kinds = schema.get("type")
    if isinstance(kinds, list):
        named = [kind for kind in kinds if kind != "null"]
        return {**schema, "type": named[0]} if len(named) == 1 else {}
    return schema


def _nullable(schema: object) -> bool:
    return isinstance(schema, dict) and _without_null(schema) is not schema


_SCALARS: dict[str, Json] = {
    "string": {"type": "String"},
    "integer": {"type": "Long"},
    "boolean": {"type": "Boolean"},
    "number": {"type": "Extension", "name": "decimal"},
}
_LONG_MAX = 2**63 - 1
_DECIMAL_PLACES = 4


def _long(value: float) -> int:
    whole = int(value)
    if whole != value or not -_LONG_MAX <= whole <= _LONG_MAX:
        raise ValueError("a number that is no 64-bit integer")
    return whole


def _decimal(value: float) -> str:
    text = f"{value:.{_DECIMAL_PLACES}f}"
    if float(text) != value or abs(value) > _LONG_MAX / 10**_DECIMAL_PLACES:
        raise ValueError("a number with more than four decimal places, or too large")
    return text

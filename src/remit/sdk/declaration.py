"""What a function is as a tool: its JSON Schema from its signature, and calls bound to it by name.

Rules: the schema is made from the annotations by msgspec, so a parameter without one, ``*args`` and ``**kwargs`` cannot be
declared. What a function is called with is what was decided on, made anew from the JSON: the decision and the call cannot differ.
The declaration has the form of an MCP tool, so that it is pinned and compared like one.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec

from remit.errors import Mistake
from remit.sdk.values import RESULT_BYTES_MAX, plain
from remit.wire import Json, declared_digest

_REFERENCE = "#/$defs/"
DECLARES = "__remit_tools__"
_NATIVE = (bytes, bytearray, memoryview)
_SELF = frozenset({"self", "cls"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a tool. ``required``: it has no default."""

    type: Any
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A tool as its program declares it. ``json`` has ``name``, ``description``, ``inputSchema``; ``digest`` is its pin."""

    tool: str
    json: Json = field(repr=False)
    digest: str

    @property
    def exported(self) -> tuple[tuple[str, Json], ...]:
        """What ``remit pin`` finds under ``__remit_tools__``."""
        return ((self.tool, self.json),)


def declare(tool: str, parameters: Mapping[str, Parameter], description: str) -> Declaration:
    """Raises Mistake for a name that is none and for types that JSON Schema cannot describe."""
    server, slash, name = tool.partition("/")
    if not server or not slash or not name:
        raise Mistake(f"{tool[:80]!r} is no name of a tool", code="guard", hint='"server/name", as in remit.toml')
    try:
        schemas, components = msgspec.json.schema_components(
            [each.type for each in parameters.values()], ref_template=_REFERENCE + "{name}"
        )
    except Exception as error:  # msgspec names the type that it cannot describe
        first = str(error).splitlines()[-1][:200]
        hint = "plain types, dataclasses, TypedDict, Literal, Enum, msgspec types"
        raise Mistake(f"{tool}: no JSON Schema can be made of its parameters: {first}", code="guard", hint=hint) from None
    properties = {name: _inlined(schema, components, ()) for name, schema in zip(parameters, schemas, strict=True)}
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [each for each, parameter in parameters.items() if parameter.required]
    if required:
        schema["required"] = required
    if _REFERENCE in json.dumps(schema):  # of a type that holds itself
        schema["$defs"] = components
    declared: Json = {"name": name, "inputSchema": schema}
    if description:
        declared["description"] = description
    return Declaration(tool=tool, json=declared, digest=declared_digest(declared))


def _inlined(schema: Any, components: Json, within: tuple[str, ...]) -> Any:
    """A schema with its references put in: policies and grants speak of members by their place. A type that holds itself stays one."""
    if isinstance(schema, list):
        return [_inlined(member, components, within) for member in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix(_REFERENCE)
    if name in components and name not in within:
        beside = {word: value for word, value in schema.items() if word != "$ref"}
        return {**_inlined(components[name], components, (*within, name)), **beside}
    return {word: _inlined(member, components, within) for word, member in schema.items()}


class Bound:
    """A function and the tool it is."""

    def __init__(self, tool: str, function: Callable[..., Any]) -> None:
        """Raises Mistake where the function cannot be a tool."""
        self._function = function
        name = getattr(function, "__qualname__", repr(function))
        if not inspect.isroutine(function) or inspect.isbuiltin(function):
            raise Mistake(f"{name} is no plain function", code="guard", hint="put @remit.guard nearest to the def")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise Mistake(
                f"{name} gives its result in pieces; it could be seen before it is observed", code="guard", hint="return it whole"
            )
        signature = inspect.signature(function)
        named = list(signature.parameters.values())
        self._skips_self = bool(named) and named[0].name in _SELF and named[0].annotation is inspect.Parameter.empty
        self._signature = signature.replace(parameters=named[1:] if self._skips_self else named)
        self.parameters = _parameters(name, function, self._signature)
        self.declaration = declare(tool, self.parameters, inspect.getdoc(function) or "")

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Json:
        """The call's arguments as JSON, defaults put in. What does not fit the signature is left as it is, for the decision to
        refuse. Raises Mistake for what is no JSON and for arguments too many to have a name.
        """
        own = args[1:] if self._skips_self else args
        try:
            bound = self._signature.bind(*own, **kwargs)
        except TypeError as error:
            if own:
                raise Mistake(f"{self.declaration.tool}: {error}", code="arguments") from None
            named: dict[str, Any] = kwargs
        else:
            bound.apply_defaults()
            named = bound.arguments
        copied = plain({name: self._json(name, value) for name, value in named.items()})
        assert isinstance(copied, dict)
        return copied

    def call(self, args: tuple[Any, ...], decided: Json) -> Any:
        """Call the function with what was decided on. Raises Mistake where it does not fit the signature after all."""
        try:
            values = {name: msgspec.convert(value, self.parameters[name].type) for name, value in decided.items()}
            bound = self._signature.bind_partial()
            bound.arguments.update((name, values[name]) for name in self._signature.parameters if name in values)
            missing = [name for name, each in self.parameters.items() if each.required and name not in values]
        except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
            raise Mistake(f"{self.declaration.tool}: {str(error)[:200]}", code="arguments") from None
        if missing:
            raise Mistake(f"{self.declaration.tool}: {', '.join(missing)} is missing", code="arguments")
        return self._function(*(args[:1] if self._skips_self else ()), *bound.args, **bound.kwargs)

    def _json(self, name: str, value: Any) -> Any:
        parameter = self.parameters.get(name)
        try:
            if parameter is not None and parameter.type is not Any:  # for Any nothing is known that could be made of it
                kept = () if parameter.type in _NATIVE else _NATIVE  # bytes are base64 where they are declared, and nowhere else
                return msgspec.to_builtins(msgspec.convert(value, parameter.type), builtin_types=kept)
        except (msgspec.ValidationError, TypeError, ValueError, OverflowError, RecursionError):
            pass  # the tool's schema refuses it too, and that is recorded
        return value


def json_result(value: Any) -> Any:
    """A function's result as JSON. Raises Mistake for what is none."""
    try:
        made = msgspec.to_builtins(value, builtin_types=_NATIVE)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        hint = "return JSON values, dataclasses or msgspec types, or say how: @remit.guard(…, result=…)"
        raise Mistake(f"the result cannot be JSON: {str(error)[:100]}", code="result", hint=hint) from None
    return plain(made, what="result", bytes_max=RESULT_BYTES_MAX)


def _parameters(name: str, function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Parameter]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # a name that is imported for type checkers only, and the like
        raise Mistake(f"the annotations of {name} cannot be read: {error}", code="guard") from None
    found: dict[str, Parameter] = {}
    for each in signature.parameters.values():
        if each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            raise Mistake(f"{name} takes {each}: what it is given could not be declared", code="guard", hint="name its parameters")
        if each.name not in hints:
            raise Mistake(f"parameter {each.name} of {name} has no type", code="guard", hint="annotate it; Any admits every JSON value")
        found[each.name] = Parameter(hints[each.name], each.default is each.empty)
    return found

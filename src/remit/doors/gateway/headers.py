"""Arguments that a tool mirrors into HTTP headers (``x-mcp-header``, MCP 2026-07-28). Pure.

Rules: the body decides. Towards the agent, headers must agree with the body; towards the server, they are made anew from the
arguments that were decided on. A tool whose annotations break the rules of the revision has no such headers at all.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "mcp-param-"
HeaderParameters = tuple[tuple[tuple[str, ...], str, str], ...]  # path of properties, header token, JSON type

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}\Z")  # RFC 9110 §5.6.2
_TYPES = frozenset({"string", "integer", "boolean"})
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.0{1,40})?\Z")
_DEPTH_MAX = 16
_PARAMETERS_MAX = 100


def header_parameters(schema: object) -> HeaderParameters:
    """The properties of an input schema that are mirrored; none where an annotation is malformed or doubled."""
    found = []
    for path, declared in _properties(schema, ()):
        if "x-mcp-header" not in declared:
            continue
        token, kind = declared["x-mcp-header"], declared.get("type")
        if not isinstance(token, str) or not _TOKEN.match(token) or kind not in _TYPES:
            return ()
        found.append((path, token, kind))
    if len(found) > _PARAMETERS_MAX or len({token.lower() for _, token, _ in found}) != len(found):
        return ()
    return tuple(found)


def parameter_headers(parameters: HeaderParameters, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a call: present where the argument is."""
    headers = {}
    for path, token, _ in parameters:
        text = _text(_value(arguments, path))
        if text is not None:
            headers[f"Mcp-Param-{token}"] = encoded(text)
    return headers


def header_mismatch(parameters: HeaderParameters, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """What is wrong with an agent's headers, in a few words; "" where they agree with the body."""
    for path, token, kind in parameters:
        sent = headers.get(PREFIX + token.lower())
        value = _value(arguments, path)
        text = _text(value)
        name = f"Mcp-Param-{token}"
        if text is None:
            if sent is not None:
                return f"the header {name} is sent, but the body has no such argument"
            continue
        if sent is None:
            return f"the header {name} is missing"
        plain = decoded(sent)
        same = plain == text
        if kind == "integer" and plain is not None and not isinstance(value, bool | str) and _DECIMAL.match(plain):
            same = int(plain.partition(".")[0]) == value
        if not same:
            return f"the header {name} does not match the body"
    return ""


def encoded(text: str) -> str:
    """A value as a header carries it; what a header cannot carry travels as ``=?base64?…?=``."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?")
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def decoded(value: str | None) -> str | None:
    """The value of a header; ``None`` where it is absent or its encoding is broken."""
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        data = base64.b64decode(value[9:-2], validate=True)
        return data.decode("utf-8") if base64.b64encode(data).decode() == value[9:-2] else None
    except (binascii.Error, ValueError):
        return None


def _properties(schema: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every schema that is reached through ``properties`` alone."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or len(path) >= _DEPTH_MAX:
        return
    for name, inner in properties.items():
        if isinstance(inner, dict):
            yield (*path, name), inner
            yield from _properties(inner, (*path, name))


def _value(arguments: Mapping[str, Any], path: tuple[str, ...]) -> object:
    value: Any = arguments
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None

"""From an HTTP request to a call, strictly: which operation it is, and with which arguments. Pure.

    method, path, query, body → operation → arguments, each of its declared type → what is decided on, and later sent (``egress_sent.py``)

Rules
* What two readers could understand differently is refused, never put right: escapes of a slash, dots that lead elsewhere, empty segments,
  ``;``, backslashes, an escape inside of an escape, letters that become one of these (NFKC), doubled keys, keys without a value.
* What is not declared is refused, as is what is declared and not of its type. Nothing is guessed, nothing is left out.
* An operation whose path names a segment goes before one that has a parameter there; two of one shape are a mistake of the file.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from remit.errors import Mistake
from remit.logic.arguments import INTEGER_MAX, digest_bytes, parse_json
from remit.logic.narrow import tool_digest
from remit.model.catalog import PinnedTool
from remit.model.egress import BODY, Content, Operation, is_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.egress import Egress

Json = dict[str, Any]
SEGMENTS_MAX, PATH_CHARACTERS_MAX, QUERY_CHARACTERS_MAX, PAIRS_MAX = 64, 8_192, 16_384, 1_000
MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}\Z", re.ASCII)  # RFC 6838 §4.2
_ESCAPED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_SIGNS = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@%/-]*\Z", re.ASCII)  # RFC 3986 §3.3, without ';'
_QUERY_SIGNS = re.compile(r"[A-Za-z0-9._~!$'()*+,:@%/?&=\[\]-]*\Z", re.ASCII)
_FORM_SIGNS = re.compile(r"[\x21-\x7e]*\Z", re.ASCII)
_LEADS_ELSEWHERE = frozenset("/\\;%?#")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\Z", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,17})?\Z", re.ASCII)
_OPEN = frozenset(
    {"additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "if", "$ref", "dependentSchemas"}
)
_BYTES_SCHEMA: Json = {
    "type": "object",
    "properties": {"digest": {"type": "string"}, "size": {"type": "integer"}, "media_type": {"type": "string"}},
    "required": ["digest", "media_type", "size"],
    "additionalProperties": False,
}


def path_segments(raw: str) -> tuple[str, ...]:
    """The decoded segments of a path as it came (``/a/b%20c``). Raises Mistake (code ``path``) for one that is not plain."""
    if not raw.startswith("/") or len(raw) > PATH_CHARACTERS_MAX:
        raise _path(f"it begins with a slash, and has at most {PATH_CHARACTERS_MAX:,} characters")
    if not _PATH_SIGNS.match(raw) or _ESCAPED.search(raw):
        raise _path("it holds what a path does not have as it is (';', '\\', spaces, an incomplete escape)")
    parts = raw[1:].split("/")
    if len(parts) > SEGMENTS_MAX:
        raise _path(f"it has more than {SEGMENTS_MAX} segments")
    if "" in parts[:-1]:
        raise _path("it has an empty segment ('//')")
    segments = tuple(_text(part, "path") for part in parts)
    for segment in segments[:-1] if segments[-1] == "" else segments:
        _check_segment(segment)
    return segments


def _check_segment(segment: str) -> None:
    for form in (segment, unicodedata.normalize("NFKC", segment)):
        if not form.strip(". "):
            raise _path("a segment of dots leads elsewhere")
        if not _LEADS_ELSEWHERE.isdisjoint(form):
            raise _path("a segment holds an escaped '/', '\\', ';', '%', '?' or '#'")


def find_operation(egress: Egress, method: str, segments: tuple[str, ...]) -> tuple[Operation, dict[str, str]] | None:
    """The operation of a request, and the texts of its path's parameters; ``None`` where nobody declared one."""
    fitting = [operation for operation in egress.operations.values() if operation.method == method and _fits(operation.path, segments)]
    if not fitting:
        return None
    best = max(fitting, key=lambda operation: [not is_parameter(segment) for segment in operation.path])
    return best, {name[1:-1]: text for name, text in zip(best.path, segments, strict=True) if is_parameter(name)}


def _fits(path: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(path) == len(segments) and all(
        bool(text) if is_parameter(declared) else declared == text for declared, text in zip(path, segments, strict=True)
    )


def read_pairs(text: str, where: str) -> dict[str, str]:
    """Keys and values of a query or a form (``a=1&b=x+y``). Raises Mistake (code ``where``) for doubled keys and what is no pair."""
    pairs: dict[str, str] = {}
    if not text:
        return pairs
    if _ESCAPED.search(text):
        raise Mistake(f"the {where} holds an incomplete escape", code=where)
    pieces = text.split("&", PAIRS_MAX)
    if len(pieces) > PAIRS_MAX:
        raise Mistake(f"the {where} has more than {PAIRS_MAX} pairs", code=where)
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not key or not equals or "=" in value:
            raise Mistake(f"the {where} holds what is no pair", code=where, hint="key=value, with '=' and '&' in values escaped")
        name = _text(key.replace("+", " "), where)
        if name in pairs:
            raise Mistake(f"the {where} has {name[:60]!r} twice", code=where, hint="two readers could believe different ones")
        pairs[name] = _text(value.replace("+", " "), where)
    return pairs


def read_query(text: str) -> dict[str, str]:
    """A query as it came, without ``?``. Raises Mistake (code ``query``)."""
    if len(text) > QUERY_CHARACTERS_MAX or not _QUERY_SIGNS.match(text):
        raise Mistake(
            f"the query has more than {QUERY_CHARACTERS_MAX:,} characters, or signs that a query does not have as they are", code="query"
        )
    return read_pairs(text, "query")


def read_arguments(
    operation: Operation, texts: Mapping[str, str], query: Mapping[str, str], media_type: str, body: bytes, *, depth_max: int = 64
) -> Json:
    """The arguments of a call. ``texts``: of the path's parameters; ``media_type``: in lower case. Raises Mistake (codes ``parameter``,
    ``content_type``, ``body``, ``json``).
    """
    unknown = sorted(query.keys() - operation.parameters.keys() | query.keys() & texts.keys())
    if unknown:
        known = ", ".join(sorted(operation.parameters.keys() - texts.keys())) or "none"
        raise Mistake(f"{operation.name} has no query parameter {unknown[0][:60]!r}", code="parameter", hint=f"it has: {known}")
    missing = sorted(set(operation.required) - query.keys())
    if missing:
        raise Mistake(f"the query parameter {missing[0]!r} is missing", code="parameter")
    given = {**texts, **query}
    arguments = {name: typed(text, operation.parameters.get(name, {}), name) for name, text in given.items()}
    if operation.content is Content.NONE:
        if body:
            raise Mistake(f"{operation.name} takes no body", code="body")
        return arguments
    return {**arguments, BODY: _read_body(operation, media_type, body, depth_max)}


def typed(text: str, schema: Mapping[str, Any], name: str) -> Any:
    """A text as its parameter's type has it, in the one spelling that the type allows. Raises Mistake (code ``parameter``)."""
    kind = schema.get("type", "string")
    if kind == "integer" and _INTEGER.match(text) and text != "-0" and abs(int(text)) <= INTEGER_MAX:
        return int(text)
    if kind == "number" and _NUMBER.match(text) and (float(text) or text[0] != "-") and abs(float(text)) <= INTEGER_MAX:
        return float(text) if "." in text else int(text)
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    if kind == "string":
        return text
    raise Mistake(f"{name[:60]!r} is no {kind}", code="parameter", hint="true or false; numbers in plain digits, without leading zeros")


def input_schema(operation: Operation) -> Json:
    """JSON Schema of an operation's arguments (2020-12), as a server of MCP would declare it."""
    properties: Json = {name: {"type": "string", **schema} for name, schema in operation.parameters.items()}
    required = {segment[1:-1] for segment in operation.path if is_parameter(segment)} | set(operation.required)
    if operation.content is not Content.NONE:
        properties[BODY] = _body_schema(operation)
        required.add(BODY)
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


def _body_schema(operation: Operation) -> Json:
    if operation.content is not Content.BYTES:
        return closed(operation.body)
    media = {"type": "string", "enum": list(operation.media_types)}
    return {**_BYTES_SCHEMA, "properties": {**_BYTES_SCHEMA["properties"], "media_type": media}}


def closed(schema: Mapping[str, Any]) -> Json:
    """A schema whose objects take what it names and nothing else, wherever it names something and does not say what else they take."""
    made = dict(schema)
    if isinstance(properties := made.get("properties"), dict):
        made.setdefault("type", "object")
        made["properties"] = {name: closed(inner) if isinstance(inner, dict) else inner for name, inner in properties.items()}
        if _OPEN.isdisjoint(made):
            made["additionalProperties"] = False
    if isinstance(made.get("items"), dict):
        made["items"] = closed(made["items"])
    return made


def declared(egress: Egress, operation: Operation) -> Json:
    """An operation as a server of MCP would list it. What it asks, and of whom, is part of what it is: a change of that is a drift."""
    told: Json = {"request": operation.request, "url": egress.url, "content": operation.content.value, "stream": operation.stream}
    shown: Json = {"name": operation.name, "inputSchema": input_schema(operation), "annotations": told}
    return {**shown, "description": operation.description} if operation.description else shown


def pinned_operations(egresses: Mapping[str, Egress]) -> dict[str, PinnedTool]:
    """All operations as tools, by ``server/name``: the configuration is where a person accepted them."""
    found = {}
    for egress in egresses.values():
        for operation in egress.operations.values():
            tool = declared(egress, operation)
            pinned = PinnedTool(
                server=egress.name,
                name=operation.name,
                digest=tool_digest(tool),
                input_schema=tool["inputSchema"],
                description=operation.description,
                annotations=tool["annotations"],
            )
            found[pinned.id] = pinned
    return found


def _read_body(operation: Operation, media_type: str, body: bytes, depth_max: int) -> Any:
    if operation.content is Content.BYTES:
        if media_type not in operation.media_types:
            allowed = ", ".join(operation.media_types)
            raise Mistake(f"{operation.name} takes no {media_type[:80] or 'body without a type'}", code="content_type", hint=allowed)
        return {"digest": digest_bytes(body), "size": len(body), "media_type": media_type}
    wanted = "application/json" if operation.content is Content.JSON else "application/x-www-form-urlencoded"
    if media_type != wanted:
        raise Mistake(f"{operation.name} takes {wanted}", code="content_type")
    if operation.content is Content.JSON:
        return parse_json(body, depth_max=depth_max, bytes_max=len(body))
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        text = " "
    if not _FORM_SIGNS.match(text):
        raise Mistake("a form holds plain signs only, all others escaped", code="body")
    properties = operation.body.get("properties", {})
    return {name: typed(value, properties.get(name, {}), name) for name, value in read_pairs(text, BODY).items()}


def _text(escaped: str, where: str) -> str:
    """A piece without its escapes. Raises Mistake for what is no text, and for control characters."""
    try:
        text = unquote_to_bytes(escaped).decode("utf-8")
    except UnicodeDecodeError:
        raise Mistake(f"the {where} is not UTF-8", code=where) from None
    if any(unicodedata.category(sign) == "Cc" for sign in text) if where != BODY else "\0" in text:
        raise Mistake(f"the {where} holds control characters", code=where)
    return text


def _path(why: str) -> Mistake:
    return Mistake(f"the path is refused: {why}", code="path", hint="write it plainly; nothing in it is put right here")

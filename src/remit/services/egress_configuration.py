"""Reads ``[egress.NAME]`` of ``remit.toml``: an HTTP API, its address and credential, and the operations that may be asked of it.

Rules: as ``services/reading.py``. An operation says all that it takes; one that could be mistaken for another is a mistake. What an
operation does is stated under ``[tools."NAME/operation"]``, like that of any tool.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.errors import Mistake
from remit.logic.egress import MEDIA_TYPE, input_schema, path_segments
from remit.logic.egress_sent import PASSED
from remit.logic.grants import validator
from remit.model.egress import BODY, UNDECLARED, Content, Egress, Method, Operation, is_parameter
from remit.services.equipment import LEASED
from remit.services.reading import NAME, Reader, fill, near
from remit.services.trust_configuration import read_endpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from remit.model.trust import Network

OPERATIONS_MAX = 1_000
_OPERATION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}\Z", re.ASCII)
_QUERY_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_.:$\[\]-]{0,63}\Z", re.ASCII)
_BASE = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[a-z0-9.-]+)(?::[1-9]\d{0,4})?(?:/[^\s?#]*)?\Z", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z", re.ASCII)  # RFC 9110 §5.6.2
_NEVER = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
) | {"accept-encoding", "proxy-authorization"}
_TYPES = ("string", "integer", "number", "boolean")


def read_egresses(root: Reader, folder: Path, servers: Collection[str]) -> tuple[dict[str, Egress], dict[str, Reader]]:
    """All APIs, and their tables, where the catalog keys are still to be read. ``servers``: names that are taken. Mistakes are noted."""
    found: dict[str, Egress] = {}
    tables: dict[str, Reader] = {}
    for name, table in root.tables("egress"):
        if not NAME.match(name) or name in servers:
            table.wrong(f"{name!r} cannot be the name of an egress", "a-z, 0-9, '-', '_'; no server has it too")
            continue
        tables[name] = table
        egress = _egress(table, name, folder)
        if egress is not None:
            found[name] = egress
    return found, tables


def _egress(table: Reader, name: str, folder: Path) -> Egress | None:
    before = len(table.found)
    endpoint = read_endpoint(table, folder)
    url, networks = _base(table, endpoint.networks)
    headers = _headers(table)
    operations: dict[str, Operation] = {}
    shapes: dict[tuple[Method, tuple[str, ...]], str] = {}
    for key, inner in table.tables("operations"):
        operation = _operation(inner, key)
        if operation is None:
            continue
        twin = shapes.setdefault((operation.method, operation.shape), key)
        if twin != key:
            inner.wrong(f"{operation.request} is what {twin} asks as well", "one operation for one method and shape of path", "request")
        operations[key] = operation
    if not operations or len(operations) > OPERATIONS_MAX:
        hint = f'[egress.{name}.operations.get_customer]\n    request = "GET /customers/{{id}}"'
        table.wrong(f"an egress has from one to {OPERATIONS_MAX:,} operations", hint, "operations")
    if len(table.found) > before:
        return None
    return Egress(name=name, url=url, headers=headers, networks=networks, ca_file=endpoint.ca_file, operations=operations)


def _base(table: Reader, networks: tuple[Network, ...]) -> tuple[str, tuple[Network, ...]]:
    """The base, and the networks that it may lie in: an address that it names itself is one of them."""
    text = fill(table, table.value("url", str, ""), "url")
    plain = bool(_BASE.match(text))
    if plain:
        try:
            parts = urlsplit(text)
            plain = (parts.port or 1) <= 65_535
            if parts.path.strip("/"):
                path_segments(parts.path.rstrip("/"))
        except (Mistake, ValueError):
            plain = False
    if not plain:
        table.wrong(f"url = {text[:120]!r} is no base", "https://host, perhaps with a plain path; no query, no account in it", "url")
        return "", networks
    host = (urlsplit(text).hostname or "").rstrip(".")
    try:
        own = ipaddress.ip_network(host)
        networks = networks if own.is_global else (*networks, own)
    except ValueError:
        if host == "localhost":
            networks = (*networks, ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
    if text.startswith("http:") and not networks:
        table.wrong("url is not https", "https://…; http:// only to a private address, or with networks, and to these only", "url")
    return text.rstrip("/"), networks


def _headers(table: Reader) -> dict[str, str]:
    inner = table.table("headers")
    headers: dict[str, str] = {}
    for name in inner.data:
        headers[name] = value = fill(inner, inner.value(name, str, ""), name)
        if not _HEADER_NAME.match(name) or name.lower() in _NEVER | PASSED.keys() or any(sign in value for sign in "\0\r\n"):
            inner.wrong(f"{name!r} cannot be a header of every request", "a plain name that is not the connection's or the agent's", name)
        if len({one.lower() for one in headers}) < len(headers):
            inner.wrong(f"the header {name} stands twice", "", name)
        if any(found[1] == "lease-file" for found in LEASED.finditer(value)):
            inner.wrong("a file is no header", 'Authorization = "Bearer {lease:NAME.password}"', name)
    return headers


def _operation(table: Reader, name: str) -> Operation | None:
    before = len(table.found)
    if not _OPERATION.match(name) or name == UNDECLARED:
        table.wrong(f"{name[:80]!r} cannot be the name of an operation", "a letter, then letters, digits, '_', '.', '-'")
    method, path = _request(table)
    in_path = [segment[1:-1] for segment in path if is_parameter(segment)]
    stated, query = _schemas(table, "path"), _schemas(table, "query")
    for one in sorted(stated.keys() - set(in_path)):
        table.wrong(f"the path has no parameter {one!r}", f'request = "GET /…/{{{one}}}"', "path", one)
    parameters = {**{one: stated.get(one, {}) for one in in_path}, **query}
    for one in query:
        if one in in_path or one == BODY or not _QUERY_NAME.match(one):
            table.wrong(f"{one[:80]!r} cannot be a parameter of the query", "a name of its own, beside those of the path", "query", one)
    if BODY in in_path or len(set(in_path)) != len(in_path):
        table.wrong("parameters of the path need different names", f"not {BODY!r}", "request")
    required = table.texts("required")
    for one in sorted(set(required) - query.keys()):
        table.wrong(f"required names {one[:80]!r}", near(one, query), "required")
    content, body, media_types = _body(table, method)
    operation = Operation(
        name=name,
        method=method,
        path=path,
        description=table.value("description", str, ""),
        parameters=parameters,
        required=required,
        content=content,
        body=body,
        media_types=media_types,
        stream=table.value("stream", bool, default=False),
    )
    table.done()
    if len(table.found) == before:
        try:
            validator(json.dumps(input_schema(operation)))
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint or "JSON Schema, in TOML")
        except TypeError:
            table.wrong("a schema holds what JSON does not have", "texts, numbers, booleans, lists, tables")
    return operation if len(table.found) == before else None


def _request(table: Reader) -> tuple[Method, tuple[str, ...]]:
    text = table.value("request", str, "")
    word, _, path = text.partition(" ")
    hint = '"GET /customers/{id}": a method, one space, a plain path; a parameter is a whole segment'
    try:
        method = Method(word)
        parts = tuple(path[1:].split("/"))
        path_segments("/" + "/".join("x" if _PARAMETER.match(part) else part for part in parts))
        if not path.startswith("/") or "%" in path or any("{" in part and not _PARAMETER.match(part) for part in parts):
            raise ValueError(path)
    except ValueError:
        table.wrong(f"request = {text[:120]!r}", hint, "request")
        return Method.GET, ()
    except Mistake as mistake:
        table.wrong(f"request = {text[:120]!r}: {mistake.message}", hint, "request")
        return Method.GET, ()
    return method, parts


def _schemas(table: Reader, key: str) -> dict[str, Mapping[str, Any]]:
    """Schemas of parameters by name: texts on the wire, so of one plain type each."""
    found: dict[str, Mapping[str, Any]] = {}
    inner = table.table(key)
    for name in inner.data:
        schema = inner.value(name, dict, {})
        if schema.get("type", "string") not in _TYPES:
            inner.wrong(f"{name!r} is of no type that a text has", ", ".join(_TYPES), name, "type")
        found[name] = schema
    return found


def _body(table: Reader, method: Method) -> tuple[Content, dict[str, Any], tuple[str, ...]]:
    stated = [key for key in ("body", "form", "media_types") if key in table.data]
    body, form, media_types = table.value("body", dict, {}), table.value("form", dict, {}), table.texts("media_types")
    if len(stated) > 1:
        table.wrong(f"{' and '.join(stated)}: an operation has one kind of body", "", stated[1])
    if stated and method in {Method.GET, Method.HEAD}:
        table.wrong(f"{method} takes no body", "", stated[0])
    if "form" in table.data:
        for name, schema in form.items():
            if not isinstance(schema, dict) or schema.get("type", "string") not in _TYPES:
                table.wrong(f"{name!r} of the form is of no type that a text has", ", ".join(_TYPES), "form", name)
        properties = {name: {"type": "string", **schema} for name, schema in form.items() if isinstance(schema, dict)}
        return Content.FORM, {"type": "object", "properties": properties, "additionalProperties": False}, ()
    if "media_types" in table.data:
        if not media_types or not all(MEDIA_TYPE.match(one) and one == one.lower() for one in media_types):
            table.wrong("media_types must name the types of the body", 'media_types = ["image/png"], in lower case', "media_types")
        return Content.BYTES, {}, media_types
    return (Content.JSON, body, ()) if "body" in table.data else (Content.NONE, {}, ())

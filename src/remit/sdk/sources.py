"""Where the arguments of a tool stand in an HTTP request, and how they are read from it.

Rules: what two readers could understand differently is refused: a parameter that stands twice, a body that is not strict JSON or
says another type. What is absent is left out and what has the wrong type stays as it is: the decision refuses it, and records that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from remit.errors import Mistake
from remit.sdk.declaration import Parameter, declare
from remit.wire import read_json

ABSENT: Any = object()
_WHERE = ("path", "query", "body")


@dataclass(frozen=True, slots=True)
class Source:
    """Where an argument stands in a request: ``path``, ``query`` or ``body`` (a member of the JSON object), and its type."""

    where: str
    type: Any
    name: str = ""
    default: Any = ABSENT


def path(type: Any = str, *, name: str = "") -> Source:
    """A part of the path, ``{name}`` in its pattern."""
    return Source("path", type, name)


def query(type: Any = str, *, name: str = "", default: Any = ABSENT) -> Source:
    """A parameter of the query string."""
    return Source("query", type, name, default)


def body(type: Any, *, name: str = "", default: Any = ABSENT) -> Source:
    """A member of the body, which is a JSON object. ``name="*"`` is the whole body."""
    return Source("body", type, name, default)


class Tool:
    """A tool and where its arguments stand."""

    def __init__(self, tool: str, arguments: Mapping[str, Source], description: str = "") -> None:
        """Raises Mistake for what cannot be declared."""
        self.tool, self.arguments = tool, dict(arguments)
        parameters = {name: Parameter(source.type, source.default is ABSENT) for name, source in self.arguments.items()}
        self.declaration = declare(tool, parameters, description)
        self.reads_body = any(source.where == "body" for source in self.arguments.values())

    async def arguments_of(self, request: Request) -> dict[str, Any]:
        """What the request says. What is absent is left out, for the decision to refuse. Raises Mistake."""
        whole = await _json_body(request) if self.reads_body else None
        found = self._unnamed(request, whole)
        for name, source in self.arguments.items():
            value = _found(source, source.name or name, request, whole)
            value = source.default if value is ABSENT else value
            if value is not ABSENT:
                if name in found:
                    raise Mistake(f"{name[:80]} stands in two places of the request", code="arguments")
                found[name] = value
        return found

    def _unnamed(self, request: Request, whole: Any) -> dict[str, Any]:
        """What else the request says is an argument too: the application would see it, so the decision must."""
        named = {where: {source.name or name for name, source in self.arguments.items() if source.where == where} for where in _WHERE}
        found: dict[str, Any] = {name: value for name, value in request.query_params.multi_items() if name not in named["query"]}
        if isinstance(whole, dict) and "*" not in named["body"]:
            found |= {name: value for name, value in whole.items() if name not in named["body"]}
        return found


async def _json_body(request: Request) -> Any:
    kind = request.headers.getlist("content-type")
    if len(kind) != 1 or kind[0].partition(";")[0].strip().lower() != "application/json":
        raise Mistake("the body must be application/json", code="content_type")
    return read_json(await request.body())


def _found(source: Source, name: str, request: Request, whole: Any) -> Any:
    """The value where it stands, or ``ABSENT``. Raises Mistake for what two readers could read differently."""
    if source.where == "path":
        return _typed(request.path_params.get(name, ABSENT), source.type)
    if source.where == "query":
        values = request.query_params.getlist(name)
        if len(values) > 1:
            raise Mistake(f"{name[:80]} stands {len(values)} times in the query", code="arguments")
        return _typed(values[0], source.type) if values else ABSENT
    if name == "*":
        return whole
    if not isinstance(whole, dict):
        raise Mistake("the body must be a JSON object", code="arguments")
    return whole.get(name, ABSENT)


def _typed(value: Any, kind: Any) -> Any:
    """Text of an address as the type that is declared; as text where it is none, for the decision to refuse."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=False))
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError):
        return value

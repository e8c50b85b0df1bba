"""What may be asked of an HTTP API through the egress: its address, and each operation of it that somebody declared.

Rules: an operation is a tool of the catalog (``server/name``), declared in ``remit.toml`` as an MCP server declares its own. What of a
request is no part of its operation is refused; what no operation speaks of does not exist. Left out: what an operation does to the
world (``catalog.py``), and its credential (``lease.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.trust import Network

UNDECLARED = "undeclared"  # the name under which a request that fits no operation is decided, and refused
BODY = "body"  # the argument that a request's body is


class Method(StrEnum):
    """Methods that an operation may have (RFC 9110 §9, RFC 5789)."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class Content(StrEnum):
    """What a request's body is. ``bytes``: not looked into; its digest, size and media type are what is decided on."""

    NONE = "none"
    JSON = "json"
    FORM = "form"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one shape of path.

    ``path``: segments; one in braces is a parameter, an empty last one is a slash at the end. ``parameters``: JSON Schema of each
    parameter of path and query; ``required``: of the query, those that must be there. ``body``: its JSON Schema; ``media_types``: of a
    body of bytes. ``stream``: an answer that is an event stream goes back event by event.
    """

    name: str
    method: Method
    path: tuple[str, ...]
    description: str = ""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    content: Content = Content.NONE
    body: Mapping[str, Any] = field(default_factory=dict)
    media_types: tuple[str, ...] = ()
    stream: bool = False

    @property
    def request(self) -> str:
        """As it is declared: ``GET /customers/{id}``."""
        return f"{self.method} /{'/'.join(self.path)}"

    @property
    def shape(self) -> tuple[str, ...]:
        """The path without the names of its parameters: two operations of one method and shape could not be told apart."""
        return tuple("{}" if is_parameter(segment) else segment for segment in self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """One API. ``url``: its base, without a slash at the end. ``headers`` may hold secrets and names of leases: never printed.

    ``networks``: addresses that are reached although they are not public; ``ca_file``: authorities in place of the public ones ("" :
    those). ``operations`` by name.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    networks: tuple[Network, ...] = ()
    ca_file: str = ""
    operations: Mapping[str, Operation] = field(default_factory=dict)


def is_parameter(segment: str) -> bool:
    """Whether a segment of a declared path stands for a value."""
    return segment.startswith("{")

"""What an egress sends, made anew from what was decided on, and what of an answer goes back. Pure.

Rules
* Nothing of the agent's request is forwarded as it came, but a body of bytes: address and body are written from the call's arguments.
* Of the agent's headers a few go on that negotiate an answer or guard against doing a thing twice; credentials and what belongs to a
  connection never. Of an answer's headers a few come back; cookies, challenges and everything else never.
* A redirect is not followed. Where it leads within the base it is given back as an address of the egress; elsewhere it is not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from remit.errors import Mistake
from remit.logic.arguments import parse_json
from remit.logic.egress import MEDIA_TYPE, path_segments
from remit.model.egress import BODY, Content, is_parameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remit.model.egress import Egress, Operation

EVENT_STREAM = "text/event-stream"
_LINE_ENDS = re.compile(r"\r\n|\n|\r")
_DATE = r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"
_TAG = r"""(?:W/)?"[A-Za-z0-9+/=_.:-]{0,128}\""""
_TAGS = re.compile(rf"(?:\*|{_TAG}(?:, ?{_TAG}){{0,3}})\Z", re.ASCII)
PASSED = {
    "accept": re.compile(r"[A-Za-z0-9!#$&^_.+*/;=, -]{1,256}\Z", re.ASCII),
    "accept-language": re.compile(r"[A-Za-z0-9*;=., -]{1,128}\Z", re.ASCII),
    "idempotency-key": re.compile(r"""[A-Za-z0-9._:"-]{1,128}\Z""", re.ASCII),
    "if-match": _TAGS,
    "if-modified-since": re.compile(_DATE + r"\Z", re.ASCII),
    "if-none-match": _TAGS,
    "if-unmodified-since": re.compile(_DATE + r"\Z", re.ASCII),
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z", re.ASCII),
}
"""Headers of a request that go on, in the forms that machines write: they are no arguments, so they hold no words."""
RETURNED = {
    "allow": re.compile(r"[A-Z]{1,20}(?:, ?[A-Z]{1,20}){0,20}\Z", re.ASCII),
    "content-language": re.compile(r"[A-Za-z0-9-]{1,35}(?:, ?[A-Za-z0-9-]{1,35}){0,5}\Z", re.ASCII),
    "etag": re.compile(_TAG + r"\Z", re.ASCII),
    "last-modified": re.compile(_DATE + r"\Z", re.ASCII),
    "retry-after": re.compile(rf"(?:\d{{1,9}}|{_DATE})\Z", re.ASCII),
}
"""Headers of an answer that come back, in such forms as well; others are left out."""
HEADER_CHARACTERS_MAX = 2_048
_CHARSET = re.compile(r"""[; ]charset="?(utf-8|us-ascii|iso-8859-1)"?(?:[; ]|\Z)""", re.IGNORECASE)
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_PARAMETERS = re.compile(
    r"""(?:[ \t]*;[ \t]*[A-Za-z0-9-]{1,40}=(?:[A-Za-z0-9!#$&'*+.^_`|~-]{1,200}|"[A-Za-z0-9 '()+_,./:=?-]{0,200}"))*\Z"""
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request. ``headers`` without any credential. ``opaque``: the body, where nobody has looked into it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)
    opaque: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One answer, whole. ``headers`` in lower case. ``told``: how much of the body has gone back already, as events of a stream."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    told: int = 0


def passed_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What of an agent's headers (names in lower case) goes on. Raises Mistake (``header``) for one that stands twice or is not plain."""
    passed: dict[str, str] = {}
    for name, value in headers:
        if name in PASSED or name == "content-type":
            if name in passed:
                raise Mistake(f"the header {name} stands twice", code="header")
            if len(value) > HEADER_CHARACTERS_MAX or not PASSED.get(name, _PLAIN).match(value):
                raise Mistake(f"the header {name} does not have the form that goes on", code="header", hint="leave it out")
            passed[name] = value
        elif name == "content-encoding" and value.strip().lower() not in {"", "identity"}:
            raise Mistake("a body comes as it is, not packed", code="content_type")
    return passed


def media_type_of(header: str) -> str:
    """The media type of a Content-Type header in lower case; "" where there is none. Raises Mistake (code ``content_type``)."""
    kind, semicolon, rest = header.partition(";")
    kind = kind.strip().lower()
    if header and (not MEDIA_TYPE.match(kind) or not _PARAMETERS.match(semicolon + rest)):
        raise Mistake("Content-Type is none", code="content_type")
    return kind


def outgoing(egress: Egress, operation: Operation, arguments: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Outgoing:
    """The request that was decided on. ``headers``: ``passed_headers``; ``raw``: a body of bytes."""
    in_path = {segment[1:-1] for segment in operation.path if is_parameter(segment)}
    path = "/".join(
        quote(_spelt(arguments[segment[1:-1]]), safe="") if is_parameter(segment) else quote(segment, safe="") for segment in operation.path
    )
    query = _encoded({name: value for name, value in arguments.items() if name not in in_path and name != BODY})
    sent = {name: value for name, value in headers.items() if name != "content-type"}
    body: bytes | None = None
    if operation.content is Content.JSON:
        body, sent["content-type"] = msgspec.json.encode(arguments[BODY]), "application/json"
    elif operation.content is Content.FORM:
        body, sent["content-type"] = _encoded(arguments[BODY]).encode(), "application/x-www-form-urlencoded"
    elif operation.content is Content.BYTES:
        body, sent["content-type"] = raw, headers["content-type"]
    opaque = raw if operation.content is Content.BYTES else b""
    url = f"{egress.url}/{path}{'?' if query else ''}{query}"
    return Outgoing(method=operation.method.value, url=url, headers=sent, body=body, opaque=opaque)


def read_result(answer: Incoming) -> Any:
    """What an answer teaches: JSON as a value, an event stream as the list of what its events say, everything else as text.

    A value is wrapped as the structured content of an MCP result (``labelling.views``), so that no word of it is taken for one of MCP.
    """
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    value: Any
    if media_type == EVENT_STREAM:
        value = _said(answer.body.decode("utf-8", "replace"))
    elif media_type == "application/json" or media_type.endswith("+json"):
        value = _value(answer.body)
    else:
        value = answer.body.decode("utf-8", "replace")
    return value if isinstance(value, str) else {"structuredContent": value}


def _value(data: bytes) -> Any:
    """JSON, or text where two readers could understand it differently: nobody gains by that, it gets the labels of the whole."""
    try:
        return parse_json(data, bytes_max=len(data))
    except Mistake:
        return data.decode("utf-8", "replace")


def _said(text: str) -> list[Any]:
    """Each event's data, and at the end what else stands there (HTML, parsing an event stream)."""
    data: list[list[str]] = [[]]
    rest: list[str] = []
    for line in _LINE_ENDS.split(text):
        if not line:
            data.append([])
        elif line.startswith("data:"):
            data[-1].append(line[5:].removeprefix(" "))
        else:
            rest.append(line)
    return [*(_value("\n".join(lines).encode()) for lines in data if lines), "\n".join(rest)]


def returned_headers(answer: Incoming) -> dict[str, str]:
    """What of an answer's headers goes back, but for a location. A content type that is none is bytes."""
    found = {name: value for name, form in RETURNED.items() if form.match(value := answer.headers.get(name, ""))}
    stated = answer.headers.get("content-type", "")
    kind, charset = stated.partition(";")[0].strip(), _CHARSET.search(stated)
    if kind:
        plain = kind.lower() if MEDIA_TYPE.match(kind) else "application/octet-stream"
        found["content-type"] = f"{plain}; charset={charset[1].lower()}" if charset else plain
    return found


def is_redirect(answer: Incoming) -> bool:
    """Whether an answer sends elsewhere."""
    return answer.status in _REDIRECTS


def within_base(egress: Egress, sent_url: str, location: str) -> str | None:
    """Where a location leads, as path and query below the base; ``None`` where it leads elsewhere, or could be read otherwise."""
    if not location or len(location) > HEADER_CHARACTERS_MAX or not _PLAIN.match(location):
        return None
    try:
        target, base = urlsplit(urljoin(sent_url, location)), urlsplit(egress.url)
        same = (target.scheme, target.hostname, _port(target)) == (base.scheme, base.hostname, _port(base))
    except ValueError:
        return None
    if not same or "@" in target.netloc or not target.path.startswith(f"{base.path}/"):
        return None
    below = target.path[len(base.path) :]
    try:
        path_segments(below)
    except Mistake:
        return None
    return f"{below}?{target.query}" if target.query else below


def _port(parts: Any) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _encoded(values: Mapping[str, Any]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(_spelt(value), safe='')}" for name, value in values.items())


def _spelt(value: Any) -> str:
    """A parameter's value in the spelling that it was read from."""
    return value if isinstance(value, str) else json.dumps(value)

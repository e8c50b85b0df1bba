"""A delegation in the words of the wire, wherever they come from: the control API's body, or ``authorization_details`` of an exchange.

    [{"type": "remit_task", "agent": "payer", "request": "…", "objective": "…", "grant": [{"tool": "bank/send_money"}], "calls": 2}]

Rules: what is not known is a mistake, never left out. Nothing is decided here.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from remit.errors import Mistake
from remit.logic.arguments import parse_json
from remit.logic.token_requests import DETAIL_TYPE
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.wire import DelegatedLine, DelegateTask

_LIFETIME_SECONDS_MAX = 86_400
_DIGITS_MAX = 24
_DEPTH_MAX, _BYTES_MAX = 32, 131_072


def delegation_wanted(details: str) -> tuple[Wanted, str] | None:
    """The delegation that ``authorization_details`` ask for and the parent they name ("" : none); ``None``: they ask for no delegation.

    Raises Mistake (invalid_authorization_details).
    """
    detail = _detail(details)
    if detail is None:
        return None
    parent = detail.pop("task", "")
    if not isinstance(parent, str) or "actor_token" in detail:
        raise _wrong("task is an id; an actor token has a parameter of its own")
    try:
        return wanted_of(msgspec.convert(detail, DelegateTask)), parent
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from None
    except Mistake as mistake:
        raise _wrong(mistake.message, mistake.hint) from None


def _detail(details: str) -> dict[str, Any] | None:
    """The members of the one detail, where it names an agent; what is no such list is told elsewhere."""
    try:
        found = parse_json(details.encode(), depth_max=_DEPTH_MAX, bytes_max=_BYTES_MAX) if details else None
    except (Mistake, UnicodeEncodeError):
        return None
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict) or "agent" not in found[0]:
        return None
    detail: dict[str, Any] = dict(found[0])
    return detail if detail.pop("type", None) == DETAIL_TYPE else None


def _wrong(what: str, hint: str = "") -> Mistake:
    return Mistake(what, code="invalid_authorization_details", hint=hint or "docs/delegation.md has the members")


def wanted_of(words: DelegateTask) -> Wanted:
    """What is asked for. Raises Mistake."""
    if not 0 <= words.lifetime <= _LIFETIME_SECONDS_MAX:
        raise Mistake("lifetime is in seconds, at most a day", code="body")
    return Wanted(
        request=words.request,
        agent=words.agent,
        objective=words.objective,
        lines=tuple(_line(line) for line in words.grant),
        calls=words.calls,
        inputs=words.inputs,
        ceiling=words.ceiling,
        lifetime=timedelta(seconds=words.lifetime) if words.lifetime else None,
        sums={name: _amount(name, text) for name, text in words.sums.items()},
        bytes_read=words.bytes_read,
        resources=words.resources,
        rate_calls=words.rate_calls,
        manifest=words.manifest,
    )


def _line(words: DelegatedLine) -> WantedLine:
    named = [(kind, name) for kind in Kind if (name := getattr(words, kind.value))]
    if len(named) != 1:
        raise Mistake("a line names exactly one of tool, resource or prompt", code="body", hint='{"tool": "server/name"}')
    kind, whole = named[0]
    server, slash, name = whole.partition("/")
    if not server or not slash or not name:
        raise Mistake(f"{whole[:80]!r} is no name of a {kind}", code="body", hint='"server/name"')
    return WantedLine(kind=kind, server=server, name=name, arguments=words.arguments, uses=words.uses, of=words.line)


def _amount(name: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0 or len(text) > _DIGITS_MAX:
        raise Mistake(f"sum {name[:80]!r} is no amount", code="body", hint='decimal digits in a text: "12.50"')
    return amount

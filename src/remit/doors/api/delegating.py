"""A delegation in the words of the wire: ``POST /v1/tasks/{task}/children`` and ``task.delegate`` in Python. Translates; decides nothing.

The parent's agent presents its task token. The agent that gets the child may ask itself: it presents the parent's task token and, as
``actor_token`` (RFC 8693 §2.1), its own JWT-SVID; then the answer holds the child's token. Otherwise that agent fetches its token with its
own proof (``POST /v1/tasks/{child}/token``): a parent never holds the token of its child.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.wire import OWN_TASK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.model.identity import Proof
    from remit.model.task import Task
    from remit.services.presenting import Presenting
    from remit.wire import DelegatedLine, DelegateTask

_LIFETIME_SECONDS_MAX = 86_400
_DIGITS_MAX = 24


async def delegate(
    presenting: Presenting, proof: Proof, task: str, read: Callable[[], Awaitable[DelegateTask]]
) -> tuple[Task, tuple[str, datetime] | None]:
    """The child, and its token where its own agent asked. ``task``: of the path. Raises Unauthenticated, Refusal, Mistake, Outage."""
    bearer = await presenting.subject(proof)
    words = await read()
    return await presenting.delegate(bearer, words.actor_token, wanted_of(words), parent="" if task == OWN_TASK else task)


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

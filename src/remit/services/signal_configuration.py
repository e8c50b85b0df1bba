"""Reads ``[signals]`` of ``remit.toml``: transmitters that we believe, receivers that we tell (OpenID Shared Signals Framework 1.0).

Rules: a transmitter that could reach us by no way is a mistake, as is an event nobody knows. Secrets come from the environment, never from
``remit.toml`` itself. Addresses are https, and lie in private networks only where their entry says so.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.drivers.event_tokens import read_key_set
from remit.drivers.outward import check_address
from remit.errors import Mistake
from remit.logic.signals import DEFAULTS, event_type, short
from remit.logic.subjects import FIELDS, unknown_fields
from remit.logic.telling import told_events
from remit.model.signal import ALGORITHMS, LIFECYCLE, Concerns, Consequence, ReceiverRule, SignalRules, TransmitterRule
from remit.services.reading import NAME, Reader, near, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")
_SECRET = re.compile(r"[\x21-\x7e]{16,1024}\Z")
_EVERY_MAX, _AGE_MAX = timedelta(hours=1), timedelta(days=90)


def read_signals(root: Reader, folder: Path, issuer: str) -> SignalRules:
    """The rules of a configuration; what is wrong is noted. ``issuer``: ours, the audience where none is named."""
    table = root.table("signals")
    lifecycle = table.value("lifecycle", str, LIFECYCLE)
    if lifecycle and "://" not in lifecycle:
        table.wrong(f"lifecycle = {lifecycle[:80]!r} is no event type", f'"{LIFECYCLE}", or "": not told', "lifecycle")
    transmitters = {name: _transmitter(name, one, folder, issuer) for name, one in table.tables("transmitters")}
    receivers = {name: _receiver(name, one, lifecycle, transmitters) for name, one in table.tables("receivers")}
    digests = [one.secret_digest for one in receivers.values() if one.secret_digest]
    if len(set(digests)) != len(digests):
        table.wrong("two receivers have the same secret", "one secret a receiver", "receivers")
    table.done()
    return SignalRules(transmitters=transmitters, receivers=receivers, lifecycle=lifecycle)


def _transmitter(name: str, table: Reader, folder: Path, ours: str) -> TransmitterRule:
    _check_name(name, table)
    defaults = TransmitterRule(name=name, issuer="", audience="")
    private = table.value("private", bool, default=False)
    issuer, jwks_uri, poll = (table.value(key, str, "") for key in ("issuer", "jwks_uri", "poll"))
    if not issuer:
        table.wrong(f"transmitter {name} has no issuer", 'issuer = "https://…", as its tokens say it', "issuer")
    push_secret, poll_secret = _secret(table, "push_secret"), _secret(table, "poll_secret")
    keys = _keys(table, folder)
    if jwks_uri and keys is not None:
        table.wrong("either jwks_file or jwks_uri", "", "jwks_uri")
    for key, address in (("jwks_uri", jwks_uri), ("poll", poll), ("issuer", "" if keys is not None or jwks_uri else issuer)):
        _check_address(table, key, address, private=private)
    if "push_secret" not in table.data and not poll:
        table.wrong(f"transmitter {name} can reach nobody", 'push_secret = "${VARIABLE}", or poll = "https://…"')
    if poll and "poll_secret" not in table.data:
        table.wrong("a poll endpoint wants a credential", 'poll_secret = "${VARIABLE}"', "poll")
    rule = TransmitterRule(
        name=name,
        issuer=issuer,
        audience=table.value("audience", str, ours),
        keys=keys,
        jwks_uri=jwks_uri,
        algorithms=_words(table, "algorithms", defaults.algorithms, ALGORITHMS),
        push_secret_digest=hashlib.sha256(push_secret.encode()).digest() if push_secret else b"",
        poll=poll,
        poll_secret=poll_secret,
        poll_every=table.duration("poll_every", defaults.poll_every, _EVERY_MAX),
        events=_events(table),
        concerns=frozenset(Concerns(word) for word in _words(table, "concerns", tuple(Concerns), tuple(Concerns))),
        persons=_persons(table, defaults.persons),
        age_max=table.duration("age_max", defaults.age_max, _AGE_MAX),
        private=private,
    )
    table.done()
    return rule


def _receiver(name: str, table: Reader, lifecycle: str, transmitters: Mapping[str, TransmitterRule]) -> ReceiverRule:
    _check_name(name, table)
    private = table.value("private", bool, default=False)
    secret, audience, push = _secret(table, "secret"), table.value("audience", str, ""), table.texts("push")
    if "secret" not in table.data:
        table.wrong(f"receiver {name} cannot prove who it is", 'secret = "${VARIABLE}"')
    if not audience:
        table.wrong(f"receiver {name} has no audience", 'audience = "https://…", as it wants to be named', "audience")
    for address in push:
        _check_address(table, "push", address, private=private)
    events, told = [], {short(event): event for event in told_events(lifecycle)}
    for word in table.texts("events"):
        event = told.get(short(word), "")
        if not event:
            table.wrong(f"nothing is told as {word[:80]!r}", near(word, told), "events")
        events.append(event)
    transmitter = table.value("transmitter", str, name if name in transmitters else "")
    if transmitter and transmitter not in transmitters:
        table.wrong(f"there is no transmitter {transmitter[:80]!r}", near(transmitter, transmitters), "transmitter")
    rule = ReceiverRule(
        name=name,
        secret_digest=hashlib.sha256(secret.encode()).digest() if secret else b"",
        audience=audience,
        push=push,
        events=tuple(events),
        persons=table.value("persons", bool, default=False),
        everything=table.value("everything", bool, default=True),
        private=private,
        transmitter=transmitter,
    )
    table.done()
    return rule


def _check_name(name: str, table: Reader) -> None:
    if not NAME.match(name):
        table.wrong(f"{name!r} cannot be a name here", "a-z, 0-9, '-', '_'")


def _check_address(table: Reader, key: str, address: str, *, private: bool) -> None:
    try:
        if address:
            check_address(address, private=private)
    except Mistake as mistake:
        table.wrong(f"{key} = {address[:200]!r}: {mistake.message}", mistake.hint, key)


def _secret(table: Reader, key: str) -> str:
    """A secret from the environment, in the clear for a moment; "" where there is none, or it is wrong."""
    written = table.value(key, str, "")
    if not written:
        return ""
    variable = _VARIABLE.match(written)
    if not variable:
        table.wrong("a secret does not stand in remit.toml", f'{key} = "${{VARIABLE}}"', key)
        return ""
    value = os.environ.get(variable.group(1), "")
    if not _SECRET.match(value):
        what = "is missing" if not value else "is no secret of 16 to 1,024 plain characters"
        table.wrong(f"{variable.group(1)} {what} in the environment", "openssl rand -base64 32", key)
        return ""
    return value


def _keys(table: Reader, folder: Path) -> Mapping[str, Any] | None:
    file = table.value("jwks_file", str, "")
    if not file:
        return None
    try:
        return read_key_set(read_text(folder / file, file))
    except Mistake as mistake:
        table.wrong(f"{file}: {mistake.message}", mistake.hint, "jwks_file")
        return {"keys": []}


def _events(table: Reader) -> dict[str, Consequence]:
    stated: dict[str, Consequence] = {}
    inner = table.table("events")
    for word in inner.data:
        event, what = event_type(word), inner.choice(word, Consequence)
        if not event:
            inner.wrong(f"there is no event {word[:80]!r}", near(word, [short(one) for one in DEFAULTS]), word)
        elif what is not None:
            stated[event] = what
    return stated


def _words(table: Reader, key: str, default: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    words = table.texts(key, default)
    for word in words:
        if word not in known:
            table.wrong(f"{word[:80]!r} is none of the {key}", near(word, known), key)
    if not words:
        table.wrong(f"{key} is empty", f"allowed: {', '.join(known)}", key)
    return tuple(word for word in words if word in known)


def _persons(table: Reader, default: tuple[str, ...]) -> tuple[str, ...]:
    forms = table.texts("persons", default)
    for form in forms:
        if unknown_fields(form):
            allowed = ", ".join(f"{{{field}}}" for field in sorted(FIELDS))
            table.wrong(f"{form[:80]!r} names no person", f"text with {allowed}", "persons")
    return forms

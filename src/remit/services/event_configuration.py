"""Reads ``[[events]]`` of ``remit.toml``: who is told of every entry of the ledger.

Rules: as ``services/reading.py``. A secret comes from the environment; a webhook is https and public unless its entry says otherwise, and
syslog goes without TLS only where that is written (``tcp://``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.drivers.outward import check_address
from remit.errors import Mistake
from remit.model.event import EventSink
from remit.services.reading import NAME, VARIABLE, fill

if TYPE_CHECKING:
    from pathlib import Path

    from remit.services.reading import Reader

_SINKS_MAX = 16
_PORTS = {"tls": 6514, "tcp": 601}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
_VALUE = re.compile(r"[\x20-\x7e]{0,4096}\Z")
_SECRET_BYTES_MIN = 16
_KINDS = ("file", "webhook", "syslog")


def read_events(root: Reader, folder: Path) -> tuple[EventSink, ...]:
    """The sinks of a configuration; what is wrong is noted."""
    found: dict[str, EventSink] = {}
    for table in root.each("events"):
        name = table.value("name", str, "")
        if not NAME.match(name) or name in found:
            table.wrong(f"name = {name[:80]!r}", "a-z, 0-9, '-', '_'; each sink has a name of its own, by which its place is kept", "name")
            name = f"{len(found)}"
        found[name] = _sink(table, name, folder)
    if len(found) > _SINKS_MAX:
        root.wrong(f"more than {_SINKS_MAX} sinks of events", "", "events")
    return tuple(found.values())


def _sink(table: Reader, name: str, folder: Path) -> EventSink:
    file, webhook, syslog = (table.value(key, str, "") for key in _KINDS)
    if sum(map(bool, (file, webhook, syslog))) != 1:
        table.wrong(
            "a sink is one of file, webhook and syslog", 'file = "state/events.jsonl", webhook = "https://…", syslog = "tls://host:6514"'
        )
    private, beginning = table.value("private", bool, default=False), table.value("beginning", bool, default=False)
    ca_file = table.value("ca_file", str, "")
    secret = _secret(table)
    headers = _headers(table)
    of_webhook = {"secret": secret, "headers": headers, "private": private}
    misplaced = [key for key, given in of_webhook.items() if given and not webhook] + (["ca_file"] if ca_file and not syslog else [])
    for key in misplaced:
        table.wrong(f"{key} means nothing here", "secret, headers and private go with webhook, ca_file with syslog", key)
    if webhook:
        try:
            check_address(webhook, private=private)
        except Mistake as mistake:
            table.wrong(f"webhook: {mistake.message}", mistake.hint, "webhook")
    syslog = _syslog(table, syslog)
    if ca_file and not (folder / ca_file).is_file():
        table.wrong(f"there is no file {ca_file[:200]!r}", "certificates of authorities, PEM", "ca_file")
    table.done()
    return EventSink(
        name=name,
        file=str(folder / file) if file else "",
        webhook=webhook,
        syslog=syslog,
        secret=secret,
        headers=headers,
        ca_file=str(folder / ca_file) if ca_file else "",
        private=private,
        beginning=beginning,
    )


def _syslog(table: Reader, text: str) -> str:
    """The address, with its port."""
    hint = '"tls://host:6514", "tcp://host:601" or "unix:///dev/log"'
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        table.wrong(f"syslog = {text[:80]!r} is no address", hint, "syslog")
        return text
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/") and len(parts.path) < 108:
        return text
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        table.wrong(f"syslog = {text[:80]!r} is no address", hint, "syslog")
        return text
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or _PORTS[parts.scheme]}"


def _secret(table: Reader) -> bytes:
    text = table.value("secret", str, "")
    if not text:
        return b""
    if not VARIABLE.fullmatch(text):
        table.wrong("a secret does not stand in remit.toml", 'secret = "${VARIABLE}"', "secret")
        return b""
    value = fill(table, text, "secret").encode()
    if len(value) < _SECRET_BYTES_MIN:
        table.wrong(f"the secret has fewer than {_SECRET_BYTES_MIN} bytes", "openssl rand -base64 32", "secret")
    return value


def _headers(table: Reader) -> dict[str, str]:
    inner = table.table("headers")
    headers: dict[str, str] = {}
    for name in inner.data:
        text = inner.value(name, str, "")
        headers[name.lower()] = fill(inner, text, name)
        if not _HEADER_NAME.match(name) or not _VALUE.match(headers[name.lower()]):
            inner.wrong(f"{name[:40]!r} cannot be sent as a header", "a plain name, a value of one line", name)
        elif not VARIABLE.search(text) and name.lower() in {"authorization", "x-api-key", "api-key"}:
            inner.wrong("a secret does not stand in remit.toml", f'{name} = "Bearer ${{VARIABLE}}"', name)
    return headers

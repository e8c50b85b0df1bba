"""Reads ``[ledger]``: whether values are kept, which witnesses cosign the log, who may read its entries over HTTP.

Rules: as all of the configuration: every mistake at once, nothing guessed. A secret is named, never written: ``${VARIABLE}``.
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.drivers.outward import check_address
from remit.errors import Mistake
from remit.logic.cosignature import Witness, WitnessKey
from remit.services.reading import NAME, VARIABLE
from remit.settings import LedgerSettings

if TYPE_CHECKING:
    from remit.services.reading import Reader

WITNESSES_MAX = 15  # beside the log's own signature: a note of sixteen is read by every implementation (C2SP signed-note)
_EVERY_MAX = timedelta(hours=24)
_SECRET_CHARACTERS_MIN = 16


def read_ledger(table: Reader) -> LedgerSettings:
    """The rules of a configuration; what is wrong is noted."""
    defaults = LedgerSettings()
    witnesses = [witness for name, one in table.tables("witnesses") if (witness := _witness(name, one)) is not None]
    for what, keys in (("key", {one.key.key for one in witnesses}), ("name", {one.key.name for one in witnesses})):
        if len(keys) != len(witnesses):
            table.wrong(f"two witnesses have the same {what}", "one key a witness: else one that signs would count as two", "witnesses")
    if len(witnesses) > WITNESSES_MAX:
        table.wrong(f"{len(witnesses)} witnesses", f"at most {WITNESSES_MAX}", "witnesses")
    readers = {name: _reader(name, one) for name, one in table.tables("readers")}
    if len(set(readers.values())) != len(readers):
        table.wrong("two readers have the same secret", "one secret a reader", "readers")
    found = LedgerSettings(
        keep_values=table.value("keep_values", bool, defaults.keep_values),
        witnesses=tuple(witnesses),
        witness_every=table.duration("witness_every", defaults.witness_every, _EVERY_MAX),
        readers=readers,
    )
    table.done()
    return found


def _witness(name: str, table: Reader) -> Witness | None:
    _check_name(name, table, "witness")
    url, private = table.value("url", str, ""), table.value("private", bool, default=False)
    try:
        check_address(url, private=private)
        if "?" in url:
            raise Mistake("add-checkpoint is asked below it", code="address", hint="https://host/path, without a question mark")
    except Mistake as mistake:
        table.wrong(f"url = {url[:120]!r}: {mistake.message}", mistake.hint, "url")
    key = None
    try:
        key = WitnessKey.parse(table.value("key", str, ""))
    except Mistake as mistake:
        table.wrong(mistake.message, mistake.hint or "the key that the witness publishes, of type 0x04", "key")
    table.done()
    return None if key is None else Witness(name=name, url=url.rstrip("/"), key=key, private=private)


def _reader(name: str, table: Reader) -> bytes:
    """The digest of a reader's secret."""
    _check_name(name, table, "reader")
    text = table.value("secret", str, "")
    variable = VARIABLE.fullmatch(text)
    secret = os.environ.get(variable.group(1), "") if variable else ""
    if not variable:
        table.wrong("secret must name a variable of the environment", 'secret = "${VARIABLE}"', "secret")
    elif len(secret) < _SECRET_CHARACTERS_MIN:
        what = "is missing" if not secret else f"is shorter than {_SECRET_CHARACTERS_MIN} characters"
        table.wrong(f"{variable.group(1)} {what} in the environment", "openssl rand -base64 32", "secret")
    table.done()
    return hashlib.sha256((secret or name).encode()).digest()


def _check_name(name: str, table: Reader, what: str) -> None:
    if not NAME.match(name):
        table.wrong(f"{name!r} cannot be the name of a {what}", "a-z, 0-9, '-', '_'")

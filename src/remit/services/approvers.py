"""Reads ``[approvals]`` and ``[approvers.NAME]`` of ``remit.toml``: who may answer questions, and under which rules.

Rules: an approver who may approve nothing is a mistake, as is a rule that covers nothing. Secrets come from the environment or
from a file that only its owner can read, never from ``remit.toml`` itself, and only their digests are kept. Webhooks go to
https, or to this machine.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.logic.approvals import Bounds, same_name
from remit.logic.consent import Consent
from remit.model.approver import ApprovalRule, Approver, Elicitation, Scope
from remit.model.catalog import Effect
from remit.services.reading import Reader, fill, near

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from remit.model.labels import DataClasses

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}\Z")
_SECRET_CHARACTERS_MIN = 16
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64  # Standard Webhooks, symmetric keys
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_WAIT_MAX, _LASTS_MAX, _LINK_MAX = timedelta(minutes=5), timedelta(hours=24), timedelta(hours=24)
_NEEDED_MAX, _CALLS_MAX = 10, 1_000
_SCOPE = 'say for what: tools = ["server/*"], effects, data_classes or task_types'


def read_consent(root: Reader, folder: Path, classes: DataClasses, servers: Collection[str], task_types: Collection[str]) -> Consent:
    """The consent rules of a configuration; what is wrong is noted. ``task_types``: names of those there are."""
    table = root.table("approvals")
    defaults = Consent()
    approvers: list[Approver] = []
    for name, one in root.tables("approvers"):
        approver = _approver(name, one, folder, classes, servers, task_types)
        _check_different(one, approver, approvers)
        approvers.append(approver)
    rules = []
    table.read.add("rules")
    lines = table.data.get("rules", [])
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        table.wrong("rules must be tables", "[[approvals.rules]]", "rules")
        lines = []
    for number, line in enumerate(lines):
        rules.append(_rule(Reader(root.toml, root.found, ("approvals", "rules", number), line), classes, servers, task_types))
    consent = Consent(
        approvers=tuple(approvers),
        rules=tuple(rules),
        needed=table.number("needed", defaults.needed, _NEEDED_MAX),
        four_eyes=_flag(table, "four_eyes"),
        passkey=table.value("passkey", bool, default=False),
        elicitation=table.choice("elicitation", Elicitation) or defaults.elicitation,
        wait=defaults.wait if table.value("wait", str, "") == "0s" else table.duration("wait", defaults.wait, _WAIT_MAX),
        link_ttl=table.duration("link_ttl", defaults.link_ttl, _LINK_MAX),
        bounds=Bounds(
            calls_max=table.number("calls_max", defaults.bounds.calls_max, _CALLS_MAX),
            lasts_max=table.duration("lasts_max", defaults.bounds.lasts_max, _LASTS_MAX),
        ),
    )
    table.done("ttl")
    return consent


def _approver(
    name: str, table: Reader, folder: Path, classes: DataClasses, servers: Collection[str], task_types: Collection[str]
) -> Approver:
    if not _NAME.match(name):
        table.wrong(f"{name!r} cannot be the name of an approver", "letters, digits, '.', '_', '@', '-'")
    scope = _scope(table, classes, servers, task_types)
    accounts = table.texts("accounts")
    secret = _secret(table, folder)
    if not secret and not accounts:
        table.wrong(f"approver {name} cannot prove who they are", 'secret = "${VARIABLE}", secret_file, or accounts of this machine')
    webhook = fill(table, table.value("webhook", str, ""), "webhook")
    key = _signing_key(table) if webhook or "signing_key" in table.data else b""
    if webhook and not _may_be_told(webhook):
        table.wrong("webhook is no https address", "https://…; http only to this machine itself", "webhook")
        webhook = ""
    approver = Approver(
        name=name,
        scope=scope,
        secret_digest=hashlib.sha256(secret.encode()).digest() if secret else b"",
        aliases=table.texts("aliases"),
        accounts=accounts,
        webhook=webhook,
        signing_key=key,
    )
    table.done()
    return approver


def _rule(table: Reader, classes: DataClasses, servers: Collection[str], task_types: Collection[str]) -> ApprovalRule:
    rule = ApprovalRule(
        scope=_scope(table, classes, servers, task_types),
        needed=table.number("needed", 1, _NEEDED_MAX) if "needed" in table.data else None,
        four_eyes=_flag(table, "four_eyes"),
        elicitation=table.choice("elicitation", Elicitation),
        passkey=_flag(table, "passkey"),
    )
    if rule.needed is None and rule.four_eyes is None and rule.elicitation is None and rule.passkey is None:
        table.wrong("a rule that says nothing", "needed, four_eyes, elicitation or passkey")
    table.done("needed")
    return rule


def _scope(table: Reader, classes: DataClasses, servers: Collection[str], task_types: Collection[str]) -> Scope:
    scope = Scope(
        tools=table.texts("tools"),
        effects=table.texts("effects"),
        data_classes=table.texts("data_classes"),
        task_types=table.texts("task_types"),
    )
    if scope.empty:
        table.wrong("this covers nothing, so nobody may approve by it", _SCOPE)
    for pattern in scope.tools:
        server, slash, _ = pattern.partition("/")
        if pattern != "*" and not (slash and server in servers):
            table.wrong(f"{pattern!r} names no tool of a configured server", near(server, servers), "tools")
    known = (("effects", [effect.value for effect in Effect]), ("data_classes", classes.names), ("task_types", task_types))
    for key, words in known:
        for word in getattr(scope, key):
            if word not in words and not (key == "task_types" and word.endswith("*")):
                table.wrong(f"{word!r} is none of the {key.replace('_', ' ')}", near(word, words), key)
    return scope


def _flag(table: Reader, key: str) -> bool | None:
    return table.value(key, bool, default=False) if key in table.data else None


def _secret(table: Reader, folder: Path) -> str:
    """The secret, in the clear for a moment. "" where there is none, or it is wrong."""
    written, file = table.value("secret", str, ""), table.value("secret_file", str, "")
    if written and file:
        table.wrong("either secret or secret_file", "", "secret_file")
    if written and not _VARIABLE.match(written):
        table.wrong("a secret does not stand in remit.toml", 'secret = "${VARIABLE}", or secret_file = "…"', "secret")
        return ""
    text = fill(table, written, "secret") if written else _from_file(table, folder, file) if file else ""
    if (written or file) and 0 < len(text) < _SECRET_CHARACTERS_MIN:
        table.wrong(
            f"the secret is shorter than {_SECRET_CHARACTERS_MIN} characters",
            "openssl rand -base64 24",
            "secret" if written else "secret_file",
        )
        return ""
    return text


def _from_file(table: Reader, folder: Path, file: str) -> str:
    path = folder / file
    try:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            table.wrong("other accounts can read this secret", f"chmod 600 {file}", "secret_file")
            return ""
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        table.wrong(f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}", "one line of text", "secret_file")
        return ""
    if not text:
        table.wrong("the file holds no secret", "one line of text", "secret_file")
    return text


def _signing_key(table: Reader) -> bytes:
    """``whsec_`` and base64, as Standard Webhooks writes symmetric keys."""
    written = table.value("signing_key", str, "")
    if not _VARIABLE.match(written):
        table.wrong("a webhook is signed with a key from the environment", 'signing_key = "${VARIABLE}", whsec_ and base64', "signing_key")
        return b""
    text = fill(table, written, "signing_key")
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if text and not (text.startswith("whsec_") and _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX):
        hint = f"whsec_ and {_KEY_BYTES_MIN} to {_KEY_BYTES_MAX} bytes in base64"
        table.wrong("this is no signing key", hint, "signing_key")
        return b""
    return key


def _may_be_told(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _check_different(table: Reader, approver: Approver, others: list[Approver]) -> None:
    """Two approvers are two persons: four eyes and quorums count on it."""
    for other in others:
        if approver.secret_digest and approver.secret_digest == other.secret_digest:
            table.wrong(f"{approver.name} has the same secret as {other.name}", "a secret of their own for each", "secret")
        shared = {same_name(name) for name in approver.names} & {same_name(name) for name in other.names}
        if shared:
            table.wrong(f"{approver.name} and {other.name} are both {', '.join(sorted(shared))}", "one approver a person")

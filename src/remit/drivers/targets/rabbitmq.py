"""RabbitMQ 3.10 and later: a lease is a user without tags, with permissions in one virtual host, by the management plugin's HTTP API.

Rules
* Permissions of RabbitMQ are regular expressions. Each is made here from escaped names, anchored at both ends, so an input is never a
  pattern. What a scope does not name gets an expression that fits nothing.
* The broker is given a salted digest of the password. A mint opens last: until its permissions stand, nobody can use the user.
* Revocation: the user goes first, then its connections, until two looks in a row find none: one that was logging in meanwhile is seen
  by the second. The management plugin fails (500) where what it is about is just going: so long as there is time, it is asked again.
* The default exchange reaches every queue of a virtual host by its name, so writing to it is never given.
* **RabbitMQ ends no user by itself** (``ends_by_itself``): should remit die, its users stay until it is back.

Left out: what a holder declares or binds, which belongs to nobody there and stays; OAuth and LDAP backends; making virtual hosts.
RabbitMQ, "Access Control", "Passwords", HTTP API.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.http import Answered, HttpClient, check_authorities
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from remit.drivers.targets.base import Scope, TargetSettings

_ANSWER_BYTES_MAX = 16_777_216
_SESSIONS_SECONDS = 8.0
_LOOK_SECONDS = 0.1
_LOOKS = 2
_PASSWORD_BYTES = 24
_SALT_BYTES = 4  # by RabbitMQ
_ENTRIES_MAX = 100
_NAME_BYTES_MAX = 255
_VERSION_MIN = (3, 10)
_SHA256 = "rabbit_password_hashing_sha256"
_WORDS = ("configure", "read", "write")
_NOTHING = "^$"
_DEFAULT_EXCHANGE = "amq.default"
_OK, _NO_CONTENT, _CREATED, _UNAUTHORIZED, _NOT_FOUND, _SERVER_ERROR = 200, 204, 201, 401, 404, 500
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
_EXAMPLE = 'vhost = "/", resources = [{ name = "orders.{customer}", allow = ["read"] }]'
_URL_HINT = 'url = "https://remit@mq.internal:15671", the management API; http only on this machine'
_KEPT_HINT = 'secret = "${NAME}", secret_file, or remit target set-secret'
_AMQP_HINT = 'amqp = "amqps://mq.internal:5671", where holders connect'


@dataclass(frozen=True, slots=True)
class _Permissions:
    """Regular expressions by word: of resources, and of routing keys of each topic exchange."""

    vhost: str
    resources: Mapping[str, str]
    topics: Mapping[str, Mapping[str, str]]


class _Failed(Outage):
    """The broker answers, and fails: 500 or more."""


class RabbitmqTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        values = settings.values
        known = urlsplit(str(values["url"]))
        self._name, self._secret = settings.name, secret
        self._user = unquote(known.username or "")
        self._base = f"{known.scheme}://{known.netloc.rpartition('@')[2]}{known.path.rstrip('/')}/api"
        self._amqp = urlsplit(str(values["amqp"]))
        self._sessions_max, self._ca_file = int(values["sessions"]), str(values["ca_file"])
        self._http = HttpClient(settings.name, connections=settings.connections, ca_file=self._ca_file, bytes_max=_ANSWER_BYTES_MAX)

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target. ``expires_at`` is remit's to keep."""
        del expires_at
        permissions = _read_scope(scope)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        vhost = quote(permissions.vhost, safe="")
        try:
            user = {"password_hash": _digest(password, secrets.token_bytes(_SALT_BYTES)), "hashing_algorithm": _SHA256, "tags": ""}
            await self._ask("PUT", f"users/{mark}", user)
            await self._ask("PUT", f"user-limits/{mark}/max-connections", {"value": self._sessions_max})
            for exchange, keys in permissions.topics.items():
                await self._ask("PUT", f"topic-permissions/{vhost}/{mark}", {"exchange": exchange, **keys})
            await self._ask("PUT", f"permissions/{vhost}/{mark}", permissions.resources)
        except Mistake:
            await self._remove(mark)  # a Mistake says that nothing was made
            raise
        return Minted(parts=self._parts(mark, password, permissions.vhost), secret=frozenset({"url", "password"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        del minted
        was_there = await self._remove(mark)
        quiet, until = 0, time.monotonic() + _SESSIONS_SECONDS
        while quiet < _LOOKS:
            quiet = quiet + 1 if await self._none_seen(mark, until) else 0
            if time.monotonic() > until:
                raise Outage(f"target {self._name} does not end the connections", code="target_unavailable")
            await asyncio.sleep(_LOOK_SECONDS)
        return was_there

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        try:
            users = _names((await self._ask("GET", "users?columns=name")).data)
        except Mistake as error:
            raise Outage(error.message, code="target_unavailable") from None
        if not users:
            raise Outage(f"target {self._name} lists no users, not even remit's own", code="target_unavailable")
        return frozenset(name for name in users if name.startswith(prefix))

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            me = (await self._ask("GET", "whoami")).data
            tags = me.get("tags", []) if isinstance(me, dict) else []
            if "administrator" not in tags:
                text = f"{self._user} may not manage users: rabbitmqctl set_user_tags {self._user} administrator"
                return (Finding(good=False, text=text),)
            overview = (await self._ask("GET", "overview?columns=rabbitmq_version")).data
            users = (await self._ask("GET", "users")).data
            connections = await self._ask("GET", "connections/username/remit_nobody")
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=error.message),)
        version = str(overview.get("rabbitmq_version", "")) if isinstance(overview, dict) else ""
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        good = numbers >= _VERSION_MIN and connections.status == _OK
        found = [
            Finding(good=good, text=f"RabbitMQ {version[:20]}" + ("" if good else ": 3.10 or later is needed")),
            Finding(good=True, text="RabbitMQ ends no user by itself: leases end when remit says so"),
        ]
        if isinstance(users, list) and any(_is_guest(user) for user in users):
            text = "user guest has the password that everybody knows, so that a lease limits nobody: rabbitmqctl delete_user guest"
            found.append(Finding(good=False, text=text))
        return tuple(found)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive. An administrator hands on everything, in a virtual host that is there."""
        me = (await self._ask("GET", "whoami")).data
        if not isinstance(me, dict) or "administrator" not in me.get("tags", []):
            text = f"{self._user} may not give permissions: it has no tag administrator"
            return (Finding(good=False, text=text, mend=f"rabbitmqctl set_user_tags {shlex.quote(self._user)} administrator"),)
        vhost = str(scope.get("vhost", ""))
        if vhost and (await self._ask("GET", f"vhosts/{quote(vhost, safe='')}")).status == _NOT_FOUND:
            return (Finding(good=False, text=f"there is no virtual host {vhost}", mend=f"rabbitmqctl add_vhost {shlex.quote(vhost)}"),)
        return ()

    async def close(self) -> None:
        """See Target."""
        await self._http.close()

    async def _remove(self, mark: str) -> bool:
        """The user, whether it was there. Raises Outage, Mistake."""
        failed, until = False, time.monotonic() + _SESSIONS_SECONDS
        while True:
            try:
                return (await self._ask("DELETE", f"users/{mark}")).status != _NOT_FOUND or failed
            except _Failed:  # as it does at the second of two that come at once: it is there, or has just gone
                failed = True
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK_SECONDS)

    async def _none_seen(self, mark: str, until: float) -> bool:
        """Whether a look finds no connection; those that it finds are ended. Raises Outage, Mistake."""
        try:
            there = (await self._ask("GET", f"connections/username/{mark}")).data
            if there:
                await self._ask("DELETE", f"connections/username/{mark}")
        except _Failed:  # as it does at a connection that is just going: the next look tells
            if time.monotonic() > until:
                raise
            return False
        return not there

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answered:
        """One request. What is not there is an answer to GET and DELETE. Raises Outage, Mistake."""
        account = aiohttp.encode_basic_auth(self._user, await self._secret(), encoding="utf-8")
        headers = {"Authorization": account, "Accept": "*/*"}  # limits of users are given to nobody who asks for JSON
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else msgspec.json.encode(body)
        answer = await self._http.ask(method, f"{self._base}/{path}", headers, data)
        if answer.status == _OK and method == "GET" and answer.data is None:
            raise Outage(f"target {self._name} does not answer in JSON", code="target_unavailable")
        if answer.status in {_OK, _CREATED, _NO_CONTENT} or (answer.status == _NOT_FOUND and method != "PUT"):
            return answer
        if answer.status == _UNAUTHORIZED:
            raise Outage(
                f"target {self._name} does not let remit in, or not manage users (tag administrator)", code="target_refused", unsent=True
            )
        if answer.status < _SERVER_ERROR:
            raise Mistake(
                f"target {self._name} refuses this ({answer.status})", code="target_refused", hint="the vhost must be there; remit doctor"
            )
        raise _Failed(f"target {self._name} cannot do it now ({answer.status})", code="target_unavailable")

    def _parts(self, mark: str, password: str, vhost: str) -> dict[str, str]:
        to = self._amqp
        port = to.port or (5671 if to.scheme == "amqps" else 5672)
        place = f"[{to.hostname}]" if ":" in (to.hostname or "") else to.hostname
        return {
            "url": f"{to.scheme}://{mark}:{quote(password, safe='')}@{place}:{port}/{quote(vhost, safe='')}",
            "host": to.hostname or "",
            "port": str(port),
            "vhost": vhost,
            "user": mark,
            "password": password,
            "ca_file": self._ca_file,
        }


def _digest(password: str, salt: bytes) -> str:
    """As RabbitMQ keeps it: base64 of the salt, and SHA-256 of both. 192 random bits need no slow digest."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _is_guest(user: object) -> bool:
    if not isinstance(user, dict) or user.get("name") != "guest" or user.get("hashing_algorithm") != _SHA256:
        return False
    kept = str(user.get("password_hash", ""))
    try:
        salt = base64.b64decode(kept)[:_SALT_BYTES]
    except ValueError:
        return False
    return hmac.compare_digest(_digest("guest", salt).encode(), kept.encode())


def _names(users: object) -> frozenset[str]:
    return frozenset(str(user.get("name")) for user in users if isinstance(user, dict)) if isinstance(users, list) else frozenset()


def _read_scope(scope: Scope) -> _Permissions:
    """Raises Mistake."""
    if not {"vhost", "resources"} <= set(scope) <= {"vhost", "resources", "topics"}:
        raise _wrong("a scope has vhost and resources, and topics if need be")
    resources = [_read_entry(entry, frozenset({"name", "prefix"}), frozenset({"allow"}), _WORDS) for entry in _entries(scope, "resources")]
    if any("write" in allow and _fits(what, _DEFAULT_EXCHANGE) for what, allow, _ in resources):
        raise _wrong(f"writing to {_DEFAULT_EXCHANGE}, by name or prefix, would reach every queue: publish to an exchange of your own")
    keys: dict[str, list[tuple[tuple[str, str], list[str]]]] = {}
    for entry in _entries(scope, "topics") if "topics" in scope else []:
        what, allow, table = _read_entry(entry, frozenset({"key", "prefix"}), frozenset({"allow", "exchange"}), _WORDS[1:])
        keys.setdefault(_literal(table["exchange"], "exchange"), []).append((what, allow))
    return _Permissions(
        vhost=_literal(scope["vhost"], "vhost"),
        resources={word: _expression([what for what, allow, _ in resources if word in allow]) for word in _WORDS},
        topics={
            exchange: {word: _expression([what for what, allow in found if word in allow]) for word in _WORDS[1:]}
            for exchange, found in keys.items()
        },
    )


def _entries(scope: Scope, key: str) -> list[Any]:
    entries = scope[key]
    if not isinstance(entries, list) or not 0 < len(entries) <= _ENTRIES_MAX:
        raise _wrong(f"{key} is a list of 1 to {_ENTRIES_MAX} tables")
    return entries


def _read_entry(
    entry: Any, one_of: frozenset[str], rest: frozenset[str], words: tuple[str, ...]
) -> tuple[tuple[str, str], list[str], dict[str, Any]]:
    """Which names it means, what is allowed, and the table itself. Raises Mistake."""
    kinds = one_of & set(entry) if isinstance(entry, dict) else frozenset()
    if len(kinds) != 1 or set(entry) - kinds != rest:
        raise _wrong(f"an entry has exactly: {', '.join(sorted(rest))}, and {' or '.join(sorted(one_of))}")
    (kind,) = kinds
    allow = entry["allow"]
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in words for word in allow):
        raise _wrong(f"allow is a list of: {', '.join(words)}")
    return (kind, _literal(entry[kind], kind)), allow, entry


def _literal(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _NAME_BYTES_MAX or not value.isprintable():
        raise _wrong(f"a {what} has 1 to {_NAME_BYTES_MAX} bytes and no control characters")
    return value


def _fits(what: tuple[str, str], name: str) -> bool:
    kind, text = what
    return name.startswith(text) if kind == "prefix" else name == text


def _expression(names: list[tuple[str, str]]) -> str:
    r"""Fits exactly these. ``\z`` and not ``$``, which also fits before a line break; escaped braces are no variables of topics."""
    if not names:
        return _NOTHING
    return rf"\A(?:{'|'.join(re.escape(text) + ('' if kind == 'prefix' else chr(92) + 'z') for kind, text in names)})"


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """Two addresses without a password, and authorities that can be read. Raises Mistake."""
    for key, schemes, hint in (("url", {"https", "http"}, _URL_HINT), ("amqp", {"amqps", "amqp"}, _AMQP_HINT)):
        try:
            known = urlsplit(values[key])
            port = known.port
        except ValueError:
            raise Mistake(f"{key} is no address", code="target", hint=hint) from None
        if known.password:
            raise Mistake(
                "a password stands in an address", code="target", hint='secret = "${NAME}", secret_file, or remit target set-secret'
            )
        if known.scheme not in schemes or not known.hostname or port == 0 or known.query or known.fragment:
            raise Mistake(f"{key} is no address of RabbitMQ", code="target", hint=hint)
        if key == "url" and (not known.username or (known.scheme == "http" and known.hostname not in _LOCAL)):
            raise Mistake("url must name a user, and be https", code="target", hint=hint)
        if key == "amqp" and (known.username or known.path.strip("/")):
            raise Mistake("amqp names a host and a port, nothing else: user and vhost are the lease's", code="target", hint=hint)
    check_authorities(values["ca_file"])


RABBITMQ = TargetKind(
    name="rabbitmq",
    settings={
        "url": Setting(kind=str, hint=_URL_HINT),
        "amqp": Setting(kind=str, hint=_AMQP_HINT),
        "sessions": Setting(kind=int, default=10, most=1_000),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={
        "url": "amqp://nobody@127.0.0.1:1/nothing",
        "host": "127.0.0.1",
        "port": "1",
        "vhost": "nothing",
        "user": "nobody",
        "password": "",
        "ca_file": "",
    },
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=RabbitmqTarget,
    ends_by_itself=False,
    divisible=frozenset({"resources"}),
)

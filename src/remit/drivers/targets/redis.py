"""Redis 6.2 and later, and Valkey: a lease is a user of the ACL, with commands and keys of its own.

Rules
* Keys are named by a prefix or whole; what is special in a pattern of Redis is escaped, so an input is never a wildcard.
* The server is given the SHA-256 of the password. A mint and a revocation are one command each; ``DELUSER`` ends the sessions itself.
* What looks past the keys is never given, whatever its category: SCAN, KEYS, RANDOMKEY, DBSIZE, scripts, admin, ``@dangerous``.
* **Redis ends no user by itself** (``ends_by_itself``): should remit die, its users stay until it is back, or Redis restarts.

Left out: channels, functions, clusters (an ACL belongs to one server and is not copied to replicas).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from remit.drivers.targets.base import Scope, TargetSettings

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_PASSWORD_BYTES = 24
_KEYS_MAX = 100
_KEY_BYTES_MAX = 512
_VERSION_MIN = (6, 2)
_DATABASE_MAX = 15
_SPECIAL = re.compile(r"([\\*?\[\]^-])")
_WORDS = {"read": "+@read", "write": "+@write"}
_ALWAYS = ("+@transaction", "+auth", "+hello", "+ping", "+client|setname", "+client|setinfo", "+client|id")
_NEVER = ("-@dangerous", "-@admin", "-@scripting", "-@pubsub", "-scan", "-keys", "-randomkey", "-dbsize", "-swapdb", "-move", "-copy")
_AWAY = (BusyLoadingError, OutOfMemoryError, ReadOnlyError)
_EXAMPLE = 'keys = [{ prefix = "orders:{customer}:" }], allow = ["read"]'
_URL_HINT = 'url = "redis://remit@cache.internal:6379/0", or rediss:// for TLS'


class _Secret(CredentialProvider):
    """Asked for every connection, so that a new secret is taken up at once."""

    def __init__(self, user: str, secret: Callable[[], Awaitable[str]]) -> None:
        self._user, self._secret = user, secret

    async def get_credentials_async(self) -> tuple[str, str]:
        """Who remit is there."""
        return self._user, await self._secret()


class RedisTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name = settings.name
        known = urlsplit(str(settings.values["url"]))
        self._user = unquote(known.username or "default")
        self._scheme, self._host, self._port = known.scheme, known.hostname or "", known.port or 6379
        self._database = int(known.path.strip("/") or 0)
        tls: dict[str, Any] = {"connection_class": redis.asyncio.SSLConnection} if self._scheme == "rediss" else {}
        pool = redis.asyncio.BlockingConnectionPool(
            host=self._host,
            port=self._port,
            credential_provider=_Secret(self._user, secret),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            timeout=_ANSWER_SECONDS,
            max_connections=settings.connections,
            retry=Retry(NoBackoff(), 1),  # a connection that the server has closed meanwhile; every command here may be sent twice
            client_name="remit",
            decode_responses=True,
            **tls,
        )
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target. ``expires_at`` is remit's to keep."""
        del expires_at
        rules = _read_scope(scope)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        digest = hashlib.sha256(password.encode()).hexdigest()
        select = f"+select|{self._database}"
        await self._ask("ACL SETUSER", mark, "reset", "resetchannels", "-@all", *rules, *_NEVER, *_ALWAYS, select, f"#{digest}", "on")
        return Minted(parts=self._parts(mark, password), secret=frozenset({"url", "password"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        del minted
        return bool(await self._ask("ACL DELUSER", mark))

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        return frozenset(str(user) for user in await self._ask("ACL USERS") if str(user).startswith(prefix))

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            server = await self._client.info("server")
            users = await self._ask("ACL LIST")
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=error.message),)
        except RedisError as error:
            return (Finding(good=False, text=self._told(error).message),)
        version = tuple(int(part) for part in str(server["redis_version"]).split(".")[:2])
        found = [
            Finding(good=version >= _VERSION_MIN, text=f"Redis {server['redis_version']}"),
            Finding(good=True, text="Redis ends no user by itself: leases end when remit says so, or Redis restarts"),
        ]
        try:
            found += await self.may_give({})
        except (Mistake, Outage) as error:
            found.append(Finding(good=False, text=error.message))
        if any(" nopass " in f"{line} " and " on " in f"{line} " for line in users):
            text = "somebody may log in without a password, so that a lease limits nobody: ACL SETUSER default off, or requirepass"
            found.append(Finding(good=False, text=text))
        return tuple(found)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive. Who may change users may give them anything: the scope makes no difference."""
        del scope
        try:
            me = str(await self._client.execute_command("ACL WHOAMI"))  # type: ignore[no-untyped-call]  # the library leaves it open
            await self._client.execute_command("ACL SETUSER", me)  # type: ignore[no-untyped-call]  # no rule: nothing changes
            await self._client.execute_command("ACL DELUSER", "remit_nobody")  # type: ignore[no-untyped-call]  # not there
        except NoPermissionError:
            user = self._user
            text = f"{user} may not make and remove users, so it may hand on nothing"
            return (Finding(good=False, text=text, mend=f"ACL SETUSER {user} +@admin"),)
        except (RedisError, OSError) as error:
            raise self._told(error) from None
        return ()

    async def close(self) -> None:
        """See Target."""
        await self._client.aclose(close_connection_pool=True)

    async def _ask(self, *words: str) -> Any:
        """One command. Raises Outage, Mistake."""
        try:
            return await self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # the library leaves it open
        except (RedisError, OSError) as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> Mistake | Outage:
        """An error in our words: those of the server may hold secrets."""
        if isinstance(error, AuthenticationError):
            return Outage(f"target {self._name} does not let remit in", code="target_refused", unsent=True)
        if isinstance(error, NoPermissionError):
            return Mistake(
                f"target {self._name} does not let remit manage users", code="target_refused", hint="+@admin for remit's own user"
            )
        if isinstance(error, ResponseError) and not isinstance(error, _AWAY):
            return Mistake(f"target {self._name} refuses this", code="target_refused", hint="remit doctor checks the rights")
        return Outage(f"target {self._name} cannot be reached", code="target_unavailable")

    def _parts(self, mark: str, password: str) -> dict[str, str]:
        place = f"[{self._host}]" if ":" in self._host else self._host
        return {
            "url": f"{self._scheme}://{mark}:{quote(password, safe='')}@{place}:{self._port}/{self._database}",
            "host": self._host,
            "port": str(self._port),
            "database": str(self._database),
            "user": mark,
            "password": password,
        }


def _read_scope(scope: Scope) -> tuple[str, ...]:
    """The rules of an ACL. Raises Mistake."""
    if set(scope) != {"keys", "allow"}:
        raise _wrong("a scope has exactly: allow, keys")
    allow, keys = scope["allow"], scope["keys"]
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in _WORDS for word in allow):
        raise _wrong(f"allow is a list of: {', '.join(_WORDS)}")
    if not isinstance(keys, list) or not 0 < len(keys) <= _KEYS_MAX:
        raise _wrong(f"keys is a list of 1 to {_KEYS_MAX} entries")
    return (*(_WORDS[word] for word in dict.fromkeys(allow)), *(_pattern(entry) for entry in keys))


def _pattern(entry: object) -> str:
    if not isinstance(entry, dict) or len(entry) != 1 or not set(entry) <= {"prefix", "key"}:
        raise _wrong("an entry of keys has a prefix, or a key")
    ((word, value),) = entry.items()
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _KEY_BYTES_MAX or not value.isprintable() or " " in value:
        raise _wrong(f"a {word} has 1 to {_KEY_BYTES_MAX} bytes, no spaces and no control characters")
    return "~" + _SPECIAL.sub(r"\\\1", value) + ("*" if word == "prefix" else "")


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An address without a password. Raises Mistake."""
    try:
        known = urlsplit(values["url"])
        port, database = known.port, known.path.strip("/") or "0"
    except ValueError:
        raise Mistake("url is no address of Redis", code="target", hint=_URL_HINT) from None
    if known.password:
        raise Mistake("a password stands in the url", code="target", hint='secret = "${NAME}", secret_file, or remit target set-secret')
    if known.scheme not in {"redis", "rediss"} or not known.hostname or port == 0 or known.query or known.fragment:
        raise Mistake("url is no address of Redis", code="target", hint=_URL_HINT)
    if not database.isdecimal() or int(database) > _DATABASE_MAX:
        raise Mistake(f"url must end in the number of a database, 0 to {_DATABASE_MAX}", code="target", hint=_URL_HINT)


REDIS = TargetKind(
    name="redis",
    settings={"url": Setting(kind=str, hint=_URL_HINT)},
    blank={"url": "redis://nobody@127.0.0.1:1/0", "host": "127.0.0.1", "port": "1", "database": "0", "user": "nobody", "password": ""},
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=RedisTarget,
    ends_by_itself=False,
    divisible=frozenset({"allow", "keys"}),
)

"""NATS with operators and a full resolver: a lease is a user's JWT, signed with the account's key, for named subjects and a time.

Rules
* The holder's key is derived from the mark, so revocation needs nothing else. The server ends a session at the token's own time.
* Subjects are given in tokens; each is one literal token, so an input is never a wildcard and never two tokens. Who may not publish is
  denied everything: to NATS an empty list allows all.
* A revocation stands in the account's own token, until the lease would have ended. That token is read, checked to be the operator's, and
  written back whole. NATS has no way to write only if nobody else has: so it is written at most ``_READ_SECONDS`` after it was read,
  and read again once everybody who had read the old one has written.
* NATS keeps no list of what was signed (``TargetKind.lists``).

Left out: scoped signing keys, JetStream's own limits, auth callout, resolvers that are not told (memory, URL).
NATS, "JWT Authentication", "Resolver"; nats-io/jwt v2.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.drivers.targets.base import MARK_PREFIX, Finding, Minted, Setting, TargetKind
from remit.drivers.targets.http import check_authorities
from remit.drivers.targets.nats_connection import NatsConversation, conversation
from remit.drivers.targets.nats_tokens import Claims, KeyPair, find_secrets, is_public, read_seed, read_token
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from remit.drivers.targets.base import Scope, TargetSettings

_READ_SECONDS, _SETTLE_SECONDS = 0.1, 0.25
_LEASE_SECONDS_MAX = 86_400
_SLACK_SECONDS = 120  # a mint that is under way while its mark is revoked, and clocks
_TRIES = 10
_BATCH_MAX = 50
_DENIED_MANY = 2_000  # about 4,000 fit into a message of a megabyte
_CLOCK_SECONDS_MAX = 5.0
_ENTRIES_MAX, _TOKENS_MAX, _SUBJECT_BYTES_MAX = 100, 16, 255
_URL_HINT = 'url = "tls://nats.internal:4222"'
_ACCOUNT_HINT = 'account = "A…", the public key; operator = "eyJ…", the token: nsc describe operator --raw'
_KEYS_HINT = (
    "the seeds of a signing key of the operator (SO…) and of the account (SA…), and a creds file of the system account, in one text"
)
_SIGNER = "nsc edit account --sk generate, and nsc push"
_EXAMPLE = 'publish = [{ subject = ["orders", "{customer}", "new"] }]'
_CREDS = """-----BEGIN NATS USER JWT-----
{token}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


class NatsTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        values = settings.values
        self._name, self._secret = settings.name, secret
        self._url, self._account, self._operators = str(values["url"]), str(values["account"]), _operators(str(values["operator"]))
        self._ca_file = str(values["ca_file"])
        self._tls = ssl.create_default_context(cafile=self._ca_file or None) if self._url.startswith("tls:") else None
        self._connections = asyncio.Semaphore(settings.connections)
        self._writing = asyncio.Lock()
        self._waiting: dict[str, int] = {}  # users to deny, and until when: whoever writes next writes them all

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        permissions = _read_scope(scope, mark)
        now = time.time()
        if expires_at.timestamp() - now > _LEASE_SECONDS_MAX:
            hint = "a deadline that is nearer"
            raise Mistake(f"leases of target {self._name} last {_LEASE_SECONDS_MAX} s at most", code="target_refused", hint=hint)
        keys, token = await self._keys()
        signer, user = keys["A"], keys["A"].derived("U", mark)
        async with self._talking(keys, token) as talk:
            found = await self._read(talk)
        if not self._signs(found, signer):
            hint = f"a signing key without a scope: {_SIGNER}"
            raise Mistake(f"target {self._name} does not know the account's signing key", code="target_refused", hint=hint)
        claims: Claims = {
            "iat": int(now),
            "exp": int(expires_at.timestamp()),
            "name": mark,
            "sub": user.public,
            "nats": {**permissions, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2},
        }
        if signer.public != self._account:
            claims["nats"]["issuer_account"] = self._account
        signed = signer.signed(claims)
        parts = {
            "url": self._url,
            "creds": _CREDS.format(token=signed, seed=user.seed),
            "jwt": signed,
            "seed": user.seed,
            "inbox_prefix": f"_INBOX.{mark}",
            "ca_file": self._ca_file,
        }
        return Minted(parts=parts, secret=frozenset({"creds", "seed"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Whether there was anything nobody can tell: true when it was not denied before."""
        keys, token = await self._keys()
        user, ends = keys["A"].derived("U", mark).public, int(time.time()) + _LEASE_SECONDS_MAX + _SLACK_SECONDS
        if minted is not None:  # signed with a key that is another by now, perhaps; and its time is known
            try:
                user, ends = read_seed(minted.parts["seed"]).public, int(read_token(minted.parts["jwt"])["exp"]) + _SLACK_SECONDS
            except (KeyError, TypeError, ValueError):
                raise Mistake(f"the credential of target {self._name} cannot be read", code="target_refused") from None
        self._waiting[user] = ends
        async with self._writing:
            if user not in self._waiting:
                return True  # together with another's
            batch = dict([(user, ends), *self._waiting.items()][: _BATCH_MAX + 1])
            async with self._talking(keys, token) as talk:
                fresh = await self._deny(talk, keys, batch)
            for one in batch:
                self._waiting.pop(one, None)
            return user in fresh

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. Raises Outage where it is away."""
        del prefix
        try:
            keys, token = await self._keys()
            async with self._talking(keys, token) as talk:
                await self._read(talk)
        except Mistake as error:
            raise Outage(error.message, code="target_unavailable") from None
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            keys, token = await self._keys()
            async with self._talking(keys, token) as talk:
                claims = await self._read(talk)
                servers = await talk.connections(self._account, ["nobody"], _SETTLE_SECONDS)
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if isinstance(error, Mistake) else ''}"),)
        found = [
            Finding(good=True, text=f"NATS {servers[0].version}, {len(servers)} of its servers answered"),
            Finding(good=True, text="NATS keeps no list of users: what this installation's keys do not know ends by its own time"),
        ]
        skew = max(abs((datetime.now(UTC) - one.time).total_seconds()) for one in servers)
        if skew > _CLOCK_SECONDS_MAX:
            found.append(Finding(good=False, text=f"its clock is {skew:.0f} s from ours: leases would end too early or too late there"))
        denied = len(_denied(claims))
        if denied > _DENIED_MANY:
            found.append(
                Finding(good=False, text=f"{denied} users are denied in the account's token, and about 4,000 fit: shorter deadlines")
            )
        return tuple(found)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive. A signing key without a scope signs for every subject of the account: the scope makes no difference."""
        del scope
        keys, token = await self._keys()
        async with self._talking(keys, token) as talk:
            claims = await self._read(talk)
        if self._signs(claims, keys["A"]):
            return ()
        text = f"{keys['A'].public} is no signing key without a scope of account {self._account}, so that nothing it signs counts"
        return (Finding(good=False, text=text, mend=_SIGNER),)

    async def close(self) -> None:
        """See Target: no connection outlives what it was made for."""

    async def _deny(self, talk: NatsConversation, keys: Mapping[str, KeyPair], users: Mapping[str, int]) -> frozenset[str]:
        """Returns those that were not denied before, when all are, and none of them has a connection. Raises Outage."""
        fresh: frozenset[str] = frozenset()
        for _ in range(_TRIES):
            claims, read_at = await self._read(talk), time.monotonic()
            revoked = claims["nats"].get("revocations") or {}
            missing = {user: ends for user, ends in users.items() if revoked.get(user, 0) < ends}
            if missing:
                fresh |= {user for user in missing if user not in revoked}
                written = keys["O"].signed(_with_denials(claims, missing, int(time.time())))
                if time.monotonic() - read_at < _READ_SECONDS:
                    await talk.update(written)
            seen = await talk.connections(self._account, list(users), _SETTLE_SECONDS)
            if not missing and not any(one.connections for one in seen):
                return fresh
        raise Outage(f"target {self._name} does not keep what is written, or does not end sessions", code="target_unavailable")

    def _signs(self, claims: Claims, signer: KeyPair) -> bool:
        return signer.public == self._account or signer.public in claims["nats"].get("signing_keys", [])

    async def _read(self, talk: NatsConversation) -> Claims:
        """The account's own claims, which we may sign again: nobody but the operator has said them. Raises Outage, Mistake."""
        told = await talk.account(self._account)
        try:
            claims = read_token(told)
        except ValueError:
            raise Outage(f"target {self._name} does not know the account, or its token is broken", code="target_unavailable") from None
        if claims["iss"] not in self._operators or claims.get("sub") != self._account:
            hint = "operator = the token of the operator who signed it; nsc describe operator --raw"
            raise Mistake(f"the account's token on target {self._name} is not this operator's", code="target_refused", hint=hint)
        if not isinstance(claims.get("nats"), dict):
            raise Outage(f"the account's token on target {self._name} says nothing", code="target_unavailable")
        return claims

    @contextlib.asynccontextmanager
    async def _talking(self, keys: Mapping[str, KeyPair], token: str) -> AsyncIterator[NatsConversation]:
        async with self._connections, conversation(self._name, self._url, self._tls, keys["U"], token) as talk:
            yield talk

    async def _keys(self) -> tuple[dict[str, KeyPair], str]:
        """Keys by their kinds, and the token of the system account's user. Raises Mistake."""
        try:
            keys, token = find_secrets(await self._secret())
        except ValueError:
            keys, token = {}, ""
        if set(keys) != {"O", "A", "U"}:
            raise Mistake(f"the secret of target {self._name} is not what it must be", code="target_refused", hint=_KEYS_HINT)
        if keys["O"].public not in self._operators:  # a server keeps what such a key signs, and heeds it no more
            raise Mistake(f"target {self._name} has the seed of another operator", code="target_refused", hint=_ACCOUNT_HINT)
        return keys, token


def _operators(token: str) -> frozenset[str]:
    """The keys that the operator signs with, by its own token. Raises ValueError."""
    claims = read_token(token)
    said, signed = claims.get("nats"), claims.get("sub")
    if not isinstance(signed, str) or signed != claims["iss"] or not is_public(signed, "O") or not isinstance(said, dict):
        raise ValueError("this is no token of an operator")
    return frozenset({signed, *(one for one in said.get("signing_keys") or [] if isinstance(one, str))})


def _denied(claims: Claims) -> dict[str, str]:
    """Users that remit denied, by the tags that say so."""
    tags = claims["nats"].get("tags") or []
    return {tag.removeprefix(MARK_PREFIX).upper(): tag for tag in tags if isinstance(tag, str) and tag.startswith(MARK_PREFIX)}


def _with_denials(claims: Claims, users: Mapping[str, int], now: int) -> Claims:
    """The same account, with these users denied until their time, and without those of ours whose time is over."""
    nats = dict(claims["nats"])
    revoked, ours = dict(nats.get("revocations") or {}), _denied(claims)
    over = {user for user in ours if revoked.get(user, 0) < now}
    tags = [tag for tag in nats.get("tags") or [] if tag not in {ours[user] for user in over}]
    tags += [MARK_PREFIX + user.lower() for user in users if user not in ours or user in over]
    nats |= {"tags": tags, "revocations": {user: ends for user, ends in revoked.items() if user not in over} | dict(users)}
    return {**claims, "iat": now, "nats": nats}


def _read_scope(scope: Scope, mark: str) -> Claims:
    """Permissions as a user's token has them. Raises Mistake."""
    if not scope or set(scope) - {"publish", "subscribe"}:
        raise _wrong("a scope has publish, subscribe, or both")
    publish, subscribe = (_subjects(scope, word) for word in ("publish", "subscribe"))
    return {
        "pub": {"allow": publish} if publish else {"deny": [">"]},
        "sub": {"allow": [*subscribe, f"_INBOX.{mark}.>"]},
    }


def _subjects(scope: Scope, word: str) -> list[str]:
    if word not in scope:
        return []
    entries = scope[word]
    if not isinstance(entries, list) or not 0 < len(entries) <= _ENTRIES_MAX:
        raise _wrong(f"{word} is a list of 1 to {_ENTRIES_MAX} tables")
    return [_subject(entry) for entry in entries]


def _subject(entry: object) -> str:
    if not isinstance(entry, dict) or len(entry) != 1 or not set(entry) <= {"subject", "prefix"}:
        raise _wrong("an entry has a subject, or a prefix")
    ((kind, tokens),) = entry.items()
    if not isinstance(tokens, list) or not 0 < len(tokens) <= _TOKENS_MAX:
        raise _wrong(f"a {kind} is a list of 1 to {_TOKENS_MAX} tokens")
    for token in tokens:
        if not isinstance(token, str) or not token or not token.isprintable() or set(token) & set(".*> "):
            raise _wrong("a token is a text without dots, spaces, * and >, which NATS reads as more than one word")
    subject = ".".join(tokens)
    if len(subject.encode()) > _SUBJECT_BYTES_MAX or tokens[0] == "$SYS" or tokens[0].startswith("_INBOX"):
        raise _wrong(f"a subject has at most {_SUBJECT_BYTES_MAX} bytes, and is none of the server's own or of another's answers")
    return f"{subject}.>" if kind == "prefix" else subject


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An address and two public keys. Raises Mistake."""
    try:
        known = urlsplit(values["url"])
        port = known.port
    except ValueError:
        raise Mistake("url is no address of NATS", code="target", hint=_URL_HINT) from None
    if known.scheme not in {"tls", "nats"} or not known.hostname or port == 0 or known.username or known.path.strip("/") or known.query:
        raise Mistake("url names a server of NATS, and nobody", code="target", hint=_URL_HINT)
    if not is_public(values["account"], "A"):
        raise Mistake("account is no public key of an account", code="target", hint=_ACCOUNT_HINT)
    try:
        _operators(values["operator"])
    except ValueError:
        raise Mistake("operator is no token of an operator", code="target", hint=_ACCOUNT_HINT) from None
    check_authorities(values["ca_file"])


NATS = TargetKind(
    name="nats",
    settings={
        "url": Setting(kind=str, hint=_URL_HINT),
        "account": Setting(kind=str, hint=_ACCOUNT_HINT),
        "operator": Setting(kind=str, hint=_ACCOUNT_HINT),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={"url": "nats://127.0.0.1:1", "creds": "", "jwt": "", "seed": "", "inbox_prefix": "_INBOX.nobody", "ca_file": ""},
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope, MARK_PREFIX), None)[1],
    open=NatsTarget,
    lists=False,
    divisible=frozenset({"publish", "subscribe"}),
)

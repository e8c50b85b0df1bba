"""OAuth 2.0: a lease is an access token, by client credentials or token exchange, for the scope, resources and details of the task.

Rules
* What is asked for is always named, and what comes back is compared with it: more than was asked for, a refresh token, a token that is
  bound to a key, or one that says no end is given back at once.
* The provider says how long a token lives. One that would outlive its lease by more than ``late_seconds`` of the target is given back; one
  that ends before its lease is, too, unless ``rotate_after`` replaces it in time.
* A provider ends a token for whoever shows it, and lists none (``by_mark``, ``lists``). So a mint goes on when nobody waits for it any
  more, and its token is kept until its mark is revoked. What a crash takes with it nobody was given.
* Addresses are checked as in ``fetching.py``: public ones, and ``networks``. Where introspection is configured, a revocation is over when
  the token is seen to be inactive.

Left out: refresh tokens, DPoP and mTLS at the provider, discovery. RFC 6749 §4.4, 7009, 7523, 7662, 8693, 8707, 9396.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.http import Answered, HttpClient
from remit.drivers.targets.oauth_scope import (
    EXCHANGE_HINT,
    GRANTS,
    URL_HINT,
    check_settings,
    no_more,
    read_networks,
    read_scope,
)
from remit.drivers.targets.under_way import UnderWay
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.drivers.targets.base import Scope, TargetSettings

_ANSWER_BYTES_MAX = 262_144
_TOKEN_CHARACTERS_MAX = 65_536
_LATE_SECONDS_MAX = 3_600
_ASSERTION_SECONDS = 60
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_OK, _BAD, _UNAUTHORIZED, _TOO_MANY, _SERVER_ERROR = 200, 400, 401, 429, 500


class OauthTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._secret, self._values = settings.name, secret, settings.values
        self._rotate_seconds = settings.rotate_after.total_seconds() if settings.rotate_after else 0.0
        self._http = HttpClient(
            settings.name,
            connections=settings.connections,
            ca_file=str(settings.values["ca_file"]),
            bytes_max=_ANSWER_BYTES_MAX,
            networks=read_networks(str(settings.values["networks"])),
        )
        self._under_way = UnderWay()

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        read_scope(scope)
        return await self._under_way.mint(mark, self._made(scope, expires_at.timestamp()))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Without the token, of a mint that this process began and nobody has waited for; else nobody can tell: true."""
        return await self._under_way.revoke(mark, minted, lambda one: self._ended(one.parts["token"]))

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. Raises Outage where it is away."""
        del prefix
        try:
            await self._end("remit-asks-whether-somebody-is-there")
        except Mistake as error:
            raise Outage(error.message, code="target_unavailable") from None
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target. A token that nobody has is given back: who may do that is let in."""
        try:
            await self._end("remit-asks-whether-somebody-is-there")
            if self._values["introspection_url"] and await self._active("remit-asks-whether-somebody-is-there"):
                return (Finding(good=False, text="introspection_url calls a token active that nobody gave out"),)
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)
        late = self._values["late_seconds"]
        told = f"; should remit die, they live up to {late} s longer than their leases" if late else ""
        return (
            Finding(good=True, text=f"the provider lets {self._values['client_id']} in"),
            Finding(good=True, text=f"a provider keeps no list of tokens that remit could compare{told}"),
        )

    async def close(self) -> None:
        """See Target."""
        await self._http.close()

    async def _made(self, scope: Scope, ends: float) -> Minted:
        form = [("grant_type", GRANTS[self._values["grant"]]), *read_scope(scope)]
        if self._values["grant"] == "token_exchange":
            subject = await asyncio.to_thread(_subject, str(self._values["subject_token_file"]))
            form += [("subject_token", subject), ("subject_token_type", str(self._values["subject_token_type"]))]
            form.append(("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"))
        answer = await self._post("token_url", form)
        told = answer.data if isinstance(answer.data, dict) else {}
        token = told.get("access_token")
        if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_CHARACTERS_MAX or not token.isprintable():
            raise Outage(f"target {self._name} does not answer as OAuth does", code="target_unavailable")
        if (wrong := self._wrong(told, scope, ends)) is not None:
            try:
                await self._ended(token)
                if isinstance(told.get("refresh_token"), str):
                    await self._end(told["refresh_token"])
            except Outage as error:
                raise Outage(error.message, code=error.code) from None  # a token was made, whatever could be sent afterwards
            raise wrong
        return Minted(parts={"token": token}, secret=frozenset({"token"}))

    def _wrong(self, told: dict[str, Any], scope: Scope, ends: float) -> Mistake | None:
        """Why a token is not taken."""
        lasts, now = told.get("expires_in"), time.time()
        why, hint = "", ""
        if not no_more(told, scope):
            why, hint = "gives more than was asked for", "ask for what the client may have, by name: scope, authorization_details"
        elif str(told.get("token_type")).lower() != "bearer":
            why, hint = "gives tokens that are bound to a key", "a client of its own for remit, for bearer tokens"
        elif not isinstance(lasts, int) or isinstance(lasts, bool) or lasts <= 0:
            why, hint = "does not say how long a token lives", "expires_in, at the provider"
        elif now + lasts > ends + int(self._values["late_seconds"]) + 1:
            why, hint = f"gives tokens of {lasts} s, longer than the lease", "shorter ones at the provider, or late_seconds in the target"
        elif now + lasts + 1 < ends and not 0 < self._rotate_seconds < lasts:
            why, hint = f"gives tokens of {lasts} s, shorter than the lease", "rotate_after in the target, or a nearer deadline"
        return Mistake(f"target {self._name} {why}", code="target_refused", hint=hint) if why else None

    async def _ended(self, token: str) -> bool:
        """End it; whether it was there, which only introspection can tell."""
        asks = bool(self._values["introspection_url"])
        was_there = await self._active(token) if asks else True
        await self._end(token)
        if asks and await self._active(token):
            raise Outage(f"target {self._name} took a token back and calls it active still", code="target_unavailable")
        return was_there

    async def _end(self, token: str) -> None:
        await self._post("revocation_url", [("token", token)])  # RFC 7009 §2.2: 200 also for one that it does not know

    async def _active(self, token: str) -> bool:
        answer = await self._post("introspection_url", [("token", token)])
        active = answer.data.get("active") if isinstance(answer.data, dict) else None
        if not isinstance(active, bool):
            raise Outage(f"target {self._name} does not say whether a token is active", code="target_unavailable")
        return active

    async def _post(self, where: str, form: list[tuple[str, str]]) -> Answered:
        """A form, as the client that remit is there. Raises Outage, Mistake."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = [*form, *await self._client(headers)]
        answer = await self._http.ask("POST", str(self._values[where]), headers, urlencode(body).encode())
        if answer.status == _OK:
            return answer
        error = answer.data.get("error") if isinstance(answer.data, dict) else None
        if answer.status == _UNAUTHORIZED or error == "invalid_client":
            raise Outage(f"target {self._name} does not let remit in", code="target_refused", unsent=True)
        if not _BAD <= answer.status < _SERVER_ERROR or answer.status == _TOO_MANY:
            raise Outage(f"target {self._name} cannot do it now ({answer.status})", code="target_unavailable")
        what = error if error in _ERRORS else str(answer.status)
        raise Mistake(f"target {self._name} refuses this ({what})", code="target_refused", hint="what the client may have, at the provider")

    async def _client(self, headers: dict[str, str]) -> list[tuple[str, str]]:
        """Proof of who remit is, in the form or in a header. Raises Mistake."""
        client, how = str(self._values["client_id"]), self._values["authentication"]
        secret = await self._secret()
        if how == "secret_basic":  # RFC 6749 §2.3.1: both in the encoding of a form first
            headers["Authorization"] = aiohttp.encode_basic_auth(quote_plus(client), quote_plus(secret))
            return []
        if how == "secret_post":
            return [("client_id", client), ("client_secret", secret)]
        now = int(time.time())
        audience = str(self._values["assertion_audience"] or self._values["token_url"])
        claims = {
            "iss": client,
            "sub": client,
            "aud": audience,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        try:
            key, algorithm = await asyncio.to_thread(_private_key, secret)
            key_id = {"kid": str(self._values["key_id"])} if self._values["key_id"] else {}
            signed = jwt.encode({"alg": algorithm, "typ": "JWT", **key_id}, claims, key)
        except (JoseError, ValueError, TypeError):
            hint = "a private key in PEM: RSA of 2,048 bits or more, or P-256"
            raise Mistake(f"the secret of target {self._name} is no private key", code="target_secret", hint=hint) from None
        return [("client_id", client), ("client_assertion_type", _ASSERTION), ("client_assertion", signed)]


_ERRORS = frozenset(
    {"access_denied", "invalid_authorization_details", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target"}
    | {"unauthorized_client", "unsupported_grant_type", "unsupported_token_type"}
)


def _private_key(pem: str) -> tuple[RSAKey | ECKey, str]:
    """A key and its algorithm. Raises ValueError, JoseError."""
    try:
        ec = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError):
        rsa = RSAKey.import_key(pem)
        if not rsa.is_private:
            raise ValueError("not a private key") from None
        return rsa, "RS256"
    if not ec.is_private or ec.curve_name != "P-256":
        raise ValueError("not a private key of P-256")
    return ec, "ES256"


def _subject(file: str) -> str:
    """What stands for remit's workload, read anew each time: others renew it. Raises Outage."""
    try:
        with Path(file).open(encoding="ascii") as opened:
            token = opened.read(_TOKEN_CHARACTERS_MAX + 1).strip()
    except (OSError, ValueError):
        token = ""
    if not 0 < len(token) <= _TOKEN_CHARACTERS_MAX:
        raise Outage("subject_token_file holds no token that can be read", code="target_unavailable", unsent=True)
    return token


OAUTH = TargetKind(
    name="oauth",
    settings={
        "token_url": Setting(kind=str, hint=URL_HINT),
        "revocation_url": Setting(kind=str, hint='revocation_url = "https://id.example/revoke", RFC 7009'),
        "introspection_url": Setting(kind=str, default=""),
        "client_id": Setting(kind=str, hint='client_id = "remit"'),
        "authentication": Setting(kind=str, default="secret_basic"),
        "assertion_audience": Setting(kind=str, default=""),
        "key_id": Setting(kind=str, default=""),
        "grant": Setting(kind=str, default="client_credentials"),
        "subject_token_file": Setting(kind=str, default="", hint=EXCHANGE_HINT),
        "subject_token_type": Setting(kind=str, default="urn:ietf:params:oauth:token-type:jwt"),
        "late_seconds": Setting(kind=int, default=0, most=_LATE_SECONDS_MAX),
        "networks": Setting(kind=str, default=""),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={"token": ""},
    check_settings=check_settings,
    check_scope=lambda scope: (read_scope(scope), None)[1],
    open=OauthTarget,
    lists=False,
    by_mark=False,
    late_seconds=_LATE_SECONDS_MAX,
    divisible=frozenset({"scope"}),
)

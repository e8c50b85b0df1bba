"""How people prove to the console who they are: by a one-time link of this machine, or at the provider of ``[sign_in]``.

Rules
* A link is made by whoever can read remit's keys on this machine. It is sealed, names its account, holds for a minute, for this server
  and for connections of this machine only, and is used up by the first press of its button, whatever comes of it.
* What a browser carries to the provider and back is sealed and belongs to that browser (RFC 6749 §10.12); PKCE and a nonce as at the
  front channel. Nothing is kept here between the steps.
* Who has no role gets no session. Every refusal is recorded; outside it is told in a few plain words.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

import msgspec

from remit.errors import Refusal, RemitError, Unauthenticated
from remit.logic.console import claims_of_interest, held, roles_of
from remit.logic.front_channel import named_by
from remit.logic.records import encode
from remit.logic.token_requests import one
from remit.model.console import SignInRefused, Via, Visitor
from remit.model.record import Record
from remit.services.sparing import Sparing
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.provider import Provider
    from remit.drivers.sealing import Sealer
    from remit.logic.token_requests import Form
    from remit.model.console import ConsoleRules
    from remit.model.front_channel import SignIn
    from remit.services.console_sessions import Sessions
    from remit.services.replays import Replays
    from remit.store.database import Store

T = TypeVar("T", bound=msgspec.Struct)
LINK = "/console/sign-in/link/"
RETURN = "/console/sign-in/return"
LINK_TTL = timedelta(minutes=1)
_BROWSER_TTL = timedelta(minutes=10)
_SEALED_CHARACTERS_MAX = 2_048
_WHY_MAX = 200
_AGAIN = "`remit console` prints a new link"


class _Link(msgspec.Struct, frozen=True):
    """What a link holds. ``until``: seconds since 1970; ``server``: whose it is."""

    account: str
    server: str
    use: str
    until: int


class _Begun(msgspec.Struct, frozen=True):
    """A browser was sent to the provider."""

    browser: str
    nonce: str
    verifier: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Where a browser goes, and the cookie that it carries there and back."""

    to: str
    cookie: str = field(repr=False)


def sign_in_link(sealer: Sealer, server: str, account: str, now: datetime) -> str:
    """The path of a one-time link. ``server``: our issuer. ``account``: as ``local:NAME``."""
    link = _Link(account=account, server=server, use=secrets.token_urlsafe(16), until=int((now + LINK_TTL).timestamp()))
    return LINK + sealer.seal(msgspec.json.encode(link), "link to the console")


class ConsoleSignIn:
    """Sign-in to the console of one node."""

    def __init__(
        self,
        sessions: Sessions,
        sealer: Sealer,
        replays: Replays,
        store: Store,
        clock: Callable[[], datetime],
        rules: Callable[[], ConsoleRules],
        *,
        issuer: str,
        sign_in: SignIn | None = None,
        provider: Provider | None = None,
    ) -> None:
        """``issuer``: our URL. ``sign_in``, ``provider``: ``None`` where nobody signs in elsewhere."""
        self._sessions, self._sealer, self._replays, self._store, self._clock = sessions, sealer, replays, store, clock
        self._rules, self._issuer, self._sign_in, self._provider = rules, issuer, sign_in, provider
        self._sparing = Sparing()

    @property
    def elsewhere(self) -> str:
        """The provider at which people sign in ("" : none)."""
        return self._sign_in.issuer if self._sign_in and self._provider else ""

    async def look(self, token: str, peer: str) -> str:
        """The account of a link that stands, unused as far as can be told; it is not used by that. Raises Refusal."""
        try:
            return self._link(token, peer).account
        except Refusal as refusal:
            await self._refused(refusal, Via.LINK)
            raise

    async def by_link(self, token: str, peer: str) -> str:
        """Use a link: the cookie of a new session. ``peer``: the address it comes from. Raises Refusal, Outage."""
        try:
            link = self._link(token, peer)
            try:
                await self._replays.take(f"console link {link.use}", _moment(link.until))
            except Unauthenticated:
                raise Refusal("this link was used before", code="link_used", hint=_AGAIN) from None
            return await self._begin(Visitor(name=link.account, via=Via.LINK))
        except Refusal as refusal:
            await self._refused(refusal, Via.LINK)
            raise

    async def begin(self) -> Sent:
        """Send a browser to the provider. Raises Refusal where there is none, Outage."""
        if self._provider is None:
            raise Refusal("people sign in here by a link only", code="sign_in", hint=_AGAIN)
        verifier, browser, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        until = int((self._clock() + _BROWSER_TTL).timestamp())
        begun = _Begun(browser=browser, nonce=nonce, verifier=verifier, until=until)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        to = await self._provider.address(state=_state(browser), nonce=nonce, challenge=challenge)
        return Sent(to=to, cookie=self._sealer.seal(msgspec.json.encode(begun), "sign-in to the console"))

    async def returned(self, form: Form, cookie: str) -> str:
        """A browser comes back from the provider: the cookie of a new session. Raises Refusal, Outage."""
        try:
            return await self._begin(await self._proved(form, cookie))
        except (Refusal, Unauthenticated) as refusal:
            await self._refused(refusal, Via.OIDC)
            if refusal.code in {"no_role", "sign_in"}:
                raise
            raise Refusal("the provider's answer does not hold", code="sign_in", hint="begin again") from None

    async def _proved(self, form: Form, cookie: str) -> Visitor:
        if self._provider is None or self._sign_in is None:
            raise Refusal("people sign in here by a link only", code="sign_in", hint=_AGAIN)
        begun = self._begun(cookie)
        if not secrets.compare_digest(one(form, "state").encode(), _state(begun.browser).encode()):
            raise Refusal("this sign-in was begun in another browser", code="sign_in", hint="begin again")
        if not await self._provider.answers(one(form, "iss")):
            raise Refusal("this answer is of another provider", code="sign_in", hint="begin again")
        if one(form, "error") or not one(form, "code"):
            raise Refusal("nobody signed in at the provider", code="sign_in", hint="begin again")
        now = self._clock()
        claims = await self._provider.signed_in(one(form, "code"), verifier=begun.verifier, nonce=begun.nonce, now=now)
        name = named_by(claims, self._sign_in)
        return Visitor(name=name, via=Via.OIDC, holds=held(claims, claims_of_interest(self._rules())))

    async def _begin(self, visitor: Visitor) -> str:
        roles = roles_of(visitor, self._rules())
        if not roles:
            hint = "[console.roles] in remit.toml says who has which role"
            raise Refusal(f"{visitor.name} has no role in this console", code="no_role", hint=hint)
        return await self._sessions.begin(visitor, roles)

    def _link(self, token: str, peer: str) -> _Link:
        if not _is_loopback(peer):
            raise Refusal("a link opens the console on the machine it was made on, and nowhere else", code="link_elsewhere", hint=_AGAIN)
        link = self._opened(token, "link to the console", _Link)
        if link is None:
            raise Refusal("this is no link of this console", code="link_invalid", hint=_AGAIN)
        if link.server != self._issuer:
            raise Refusal("this link is for another server", code="link_invalid", hint=_AGAIN)
        if self._clock() >= _moment(link.until):
            raise Refusal("this link is too old: it holds for a minute", code="link_expired", hint=_AGAIN)
        return link

    def _begun(self, cookie: str) -> _Begun:
        begun = self._opened(cookie, "sign-in to the console", _Begun)
        if begun is None or self._clock() >= _moment(begun.until):
            raise Refusal("this sign-in was begun in another browser, or long ago", code="sign_in", hint="begin again")
        return begun

    def _opened(self, text: str, purpose: str, kind: type[T]) -> T | None:
        if not 0 < len(text) <= _SEALED_CHARACTERS_MAX:
            return None
        try:
            return msgspec.json.decode(self._sealer.open(text, purpose), type=kind)
        except (RemitError, msgspec.MsgspecError):
            return None

    async def _refused(self, refusal: RemitError, via: Via) -> None:
        now = self._clock()
        skipped = self._sparing.admit("", now)
        if skipped is None:
            return
        body = SignInRefused(why=refusal.message[:_WHY_MAX], via=via.value, code=refusal.code, skipped=skipped)
        await self._store.append(Append(body=encode(Record(at=now, body=body))))


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False


def _state(browser: str) -> str:
    """What the provider carries of a browser: it does not open the cookie."""
    return hashlib.sha256(f"console\0{browser}".encode()).hexdigest()


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

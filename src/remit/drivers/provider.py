"""The OIDC provider at which people sign in: OpenID Connect Core 1.0, authorization code with PKCE; remit is its client.

Rules: only what the configured issuer's own discovery document names is asked, over checked addresses (``fetching.py``). An ID token
counts when the provider signed it, for us alone, now, and for the sign-in that was begun here (nonce); one that an agent presents, when it
is for a client that is configured. Nothing else of the provider's answer is used or kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from remit.drivers.assertions import unproved
from remit.drivers.issuers import Issuer
from remit.drivers.key_sets import read_object
from remit.drivers.refreshing import Refreshing
from remit.errors import Outage, Unauthenticated
from remit.logic.claims import LIFETIME_MAX
from remit.logic.id_tokens import check_header, check_signed_in, use_of
from remit.model.trust import IssuerRule

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.fetching import Fetcher
    from remit.model.front_channel import SignIn

_DISCOVERY = "/.well-known/openid-configuration"
_SCOPES = {"email": "openid email", "preferred_username": "openid profile"}
_TOKEN_CHARACTERS_MAX = 65_536
Claims = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoints:
    authorization: str
    token: str
    posts_secret: bool
    names_itself: bool


class Provider:
    """One provider."""

    def __init__(self, rule: SignIn, fetcher: Fetcher, clock: Callable[[], float], *, returns_to: str) -> None:
        """``clock``: as of ``Refreshing``. ``returns_to``: the address that people come back to."""
        self._rule, self._fetcher, self._returns_to = rule, fetcher, returns_to
        issuer = IssuerRule(
            name="sign_in",
            issuer=rule.issuer,
            audience=rule.client_id,
            identities=(),
            algorithms=rule.algorithms,
            jwks_uri=rule.jwks_uri,
            endpoint=rule.endpoint,
        )
        self._keys = Issuer(issuer, fetcher, clock)
        self._endpoints = Refreshing(self._discover, rule.endpoint.age_max.total_seconds(), clock)

    async def address(self, *, state: str, nonce: str, challenge: str) -> str:
        """Where a person is sent to sign in. Raises Outage."""
        endpoints = await self._endpoints.current()
        asked = {
            "response_type": "code",
            "client_id": self._rule.client_id,
            "redirect_uri": self._returns_to,
            "scope": _SCOPES.get(self._rule.claim, "openid"),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joined = "&" if urlsplit(endpoints.authorization).query else "?"
        return f"{endpoints.authorization}{joined}{urlencode(asked)}"

    async def answers(self, issuer: str) -> bool:
        """Whether an answer that says this of its issuer ("" : nothing) is the provider's (RFC 9207 §2.4). Raises Outage."""
        return issuer == self._rule.issuer or (not issuer and not (await self._endpoints.current()).names_itself)

    async def signed_in(self, code: str, *, verifier: str, nonce: str, now: datetime) -> Claims:
        """Claims of the person who comes back with a code. Raises Unauthenticated (its sentence is for the ledger), Outage."""
        endpoints = await self._endpoints.current()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._returns_to, "code_verifier": verifier}
        account: tuple[str, str] | None = (self._rule.client_id, self._rule.secret)
        if endpoints.posts_secret:
            form |= {"client_id": self._rule.client_id, "client_secret": self._rule.secret}
            account = None
        try:
            answered = await self._fetcher.post(endpoints.token, self._rule.endpoint, form, account)
        except Outage as error:
            raise Unauthenticated(f"the provider did not take the code: {error.message}") from None
        token = read_object(answered.data, "the provider's answer").get("id_token")
        if not isinstance(token, str) or len(token) > _TOKEN_CHARACTERS_MAX:
            raise Unauthenticated("the provider sent no ID token")
        claims, _ = await self._checked(token, (self._rule.client_id,), now)
        if claims.get("nonce") != nonce:
            raise Unauthenticated("the ID token is of another sign-in")
        return claims

    async def presented(self, token: str, now: datetime) -> tuple[Claims, str, datetime]:
        """Claims of the person who signed in elsewhere, by the ID token that an agent presents; what is the same whenever it comes again,
        and until when. Raises Unauthenticated (its sentence is for the ledger), Outage.
        """
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise Unauthenticated("the ID token is too long")
        claims, until = await self._checked(token, (self._rule.client_id, *self._rule.audiences), now)
        return claims, use_of(token, claims), until

    async def _checked(self, token: str, audiences: tuple[str, ...], now: datetime) -> tuple[Claims, datetime]:
        header, claims = unproved(token)
        check_header(header)
        until = check_signed_in(claims, self._rule.issuer, audiences, now, LIFETIME_MAX * 24)
        try:
            await self._keys.check_signature(token, header)
        except Outage as error:
            raise Unauthenticated(f"the provider's keys cannot be had: {error.message}") from None
        return claims, until

    async def _discover(self) -> tuple[_Endpoints, float | None]:
        found = await self._fetcher.get(self._rule.issuer.rstrip("/") + _DISCOVERY, self._rule.endpoint)
        told = read_object(found.data, "the discovery document")
        if told.get("issuer") != self._rule.issuer:
            raise Outage("the discovery document is of another issuer", code="trust_fetch")
        where = [told.get("authorization_endpoint"), told.get("token_endpoint")]
        plain = self._rule.issuer.startswith("http://")
        if not all(isinstance(one, str) and one.startswith(("https://", "http://") if plain else "https://") for one in where):
            raise Outage("the discovery document names no endpoints", code="trust_fetch")
        methods = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        posts = isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods
        names = told.get("authorization_response_iss_parameter_supported", False) is not False  # what is neither yes nor no counts as yes
        endpoints = _Endpoints(authorization=str(where[0]), token=str(where[1]), posts_secret=posts, names_itself=names)
        return endpoints, found.max_age_seconds

"""The keys of one OIDC issuer: found by discovery (OpenID Connect Discovery 1.0, or RFC 8414), or at the configured ``jwks_uri``.

Rules: the document must name exactly the configured issuer, and keys at the issuer's own origin; keys elsewhere are configured. Only
what the configuration names is ever asked: nothing in a token leads anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.drivers.fetching import Absent
from remit.drivers.key_sets import PublicKey, UnknownKey, check_signature, read_keys, read_object
from remit.drivers.refreshing import Refreshing
from remit.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from remit.drivers.fetching import Fetcher
    from remit.model.trust import IssuerRule

_OPENID, _OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"


class Issuer:
    """One issuer and its keys."""

    def __init__(self, rule: IssuerRule, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        """``clock``: as of ``Refreshing``."""
        self.rule, self._fetcher = rule, fetcher
        self._keys = Refreshing(self._fetch, rule.endpoint.age_max.total_seconds(), clock)

    async def check_signature(self, token: str, header: dict[str, Any]) -> None:
        """Whether the issuer signed a token. A key that is not known is looked for once more. Raises Unauthenticated, Outage."""
        try:
            check_signature(token, header, await self._keys.current(), self.rule.algorithms)
        except UnknownKey:
            check_signature(token, header, await self._keys.newer(), self.rule.algorithms)

    async def keys(self) -> tuple[PublicKey, ...]:
        """Its keys that we can use. Raises Outage."""
        return await self._keys.current()

    async def _fetch(self) -> tuple[tuple[PublicKey, ...], float | None]:
        where = self.rule.jwks_uri or await self._discovered()
        found = await self._fetcher.get(where, self.rule.endpoint)
        return read_keys(read_object(found.data, "the key set"), "sig"), found.max_age_seconds

    async def _discovered(self) -> str:
        issuer = self.rule.issuer
        split = urlsplit(issuer)
        try:
            found = await self._fetcher.get(issuer.rstrip("/") + _OPENID, self.rule.endpoint)
        except Absent:  # RFC 8414 §3.1: between host and path
            found = await self._fetcher.get(f"{split.scheme}://{split.netloc}{_OAUTH}{split.path.rstrip('/')}", self.rule.endpoint)
        told = read_object(found.data, "the discovery document")
        if told.get("issuer") != issuer:
            raise Outage("the discovery document is of another issuer", code="trust_fetch")
        where = told.get("jwks_uri")
        if not isinstance(where, str) or not where.startswith(f"{split.scheme}://{split.netloc}/"):
            raise Outage("the issuer keeps its keys at another origin, and jwks_uri does not name it", code="trust_fetch")
        return where

"""Proofs of those we trust beside ourselves: tokens of OIDC issuers, JWT-SVIDs and X.509-SVIDs of foreign SPIFFE trust domains.

Rules: who has to vouch is chosen first, by the exact ``iss`` or the trust domain of the subject, and only then a key, of that one's
(RFC 8725 §3.8). Keys that cannot be had vouch for nobody. Left out: whether the workload is declared (``identities.py``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from remit.drivers.bundles import Domain, bundle_source
from remit.drivers.certificates import check_chain
from remit.drivers.fetching import Fetcher
from remit.drivers.issuers import Issuer
from remit.errors import Outage, Unauthenticated
from remit.logic.claims import check_svid
from remit.logic.id_tokens import check_header, check_id_token, use_of
from remit.model.identity import Workload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate

    from remit.model.identity import SpiffeId
    from remit.model.trust import TrustRules
    from remit.services.replays import Replays

T = TypeVar("T")
Claims = dict[str, Any]


class Proofs:
    """All issuers and domains that are trusted, with their keys."""

    def __init__(self, issuers: Mapping[str, Issuer], domains: Mapping[str, Domain], replays: Replays, *, audience: str) -> None:
        """``issuers`` by URL, ``domains`` by name. ``audience``: who we are to JWT-SVIDs."""
        self._issuers, self._domains, self._replays, self._audience = issuers, domains, replays, audience

    async def token(self, token: str, header: Claims, claims: Claims, now: datetime, *, once: bool) -> Workload | None:
        """Whom a token proves; ``None`` where none of these has to vouch for it. ``header`` and ``claims`` are its own, unverified.
        ``once``: what an issuer made is used up. Raises Unauthenticated, Outage (of the store).
        """
        named, subject = claims.get("iss"), claims.get("sub")
        if isinstance(named, str) and named in self._issuers:
            return await self._id_token(self._issuers[named], token, header, claims, now, once=once)
        if isinstance(subject, str) and (domain := self._domains.get(subject.removeprefix("spiffe://").partition("/")[0])) is not None:
            return await self._svid(domain, token, header, claims, now)
        return None

    async def certificate(self, agent: SpiffeId, certificates: Sequence[Certificate], now: datetime) -> Workload:
        """Whom a chain proves that names a workload of a foreign domain. Raises Unauthenticated."""
        domain = self._domains.get(agent.trust_domain)
        if domain is None:
            raise Unauthenticated("the certificate is of a trust domain that is not trusted")
        bundle = await _vouched(domain.bundle(), f"trust domain {domain.rule.domain}")
        check_chain(certificates, bundle.authorities, now)
        return Workload(agent=agent, proof="x509-svid")

    async def authorities(self) -> list[Certificate]:
        """What certificates may lead to, of all domains whose bundles can be had: enough for a handshake, and for nothing else."""
        found: list[Certificate] = []
        for domain in self._domains.values():
            try:
                found += (await domain.bundle()).authorities
            except Outage:  # tried again when a certificate comes, and at the next look
                continue
        return found

    async def _id_token(self, issuer: Issuer, token: str, header: Claims, claims: Claims, now: datetime, *, once: bool) -> Workload:
        check_header(header)
        workload, expires_at = check_id_token(claims, issuer.rule, now)  # asks nobody: what cannot count needs no key
        await _vouched(issuer.check_signature(token, header), f"issuer {issuer.rule.name}")
        if once:
            await self._replays.take(use_of(token, claims), expires_at)
        return workload

    async def _svid(self, domain: Domain, token: str, header: Claims, claims: Claims, now: datetime) -> Workload:
        workload = check_svid(header, claims, domain.rule.domain, self._audience, now, dated=False)
        await _vouched(domain.check_signature(token, header), f"trust domain {domain.rule.domain}")
        return workload


async def _vouched(asking: Awaitable[T], whose: str) -> T:
    """The answer of somebody's keys; where they cannot be had the proof is refused, and the ledger says why."""
    try:
        return await asking
    except Outage as error:
        raise Unauthenticated(f"the keys of {whose} cannot be had: {error.message}") from None


def _drivers(
    rules: TrustRules, document_bytes_max: int, fetch_seconds_max: float, clock: Callable[[], float]
) -> tuple[dict[str, Issuer], dict[str, Domain]]:
    fetcher = Fetcher(bytes_max=document_bytes_max, seconds_max=fetch_seconds_max)
    issuers = {url: Issuer(rule, fetcher, clock) for url, rule in rules.issuers.items()}
    return issuers, {name: Domain(rule, bundle_source(rule, fetcher), clock) for name, rule in rules.domains.items()}


async def examine(rules: TrustRules, *, document_bytes_max: int, fetch_seconds_max: float) -> list[tuple[str, str, bool]]:
    """Of each that is configured: who, what its keys are or why they cannot be had, and whether they can. For ``remit doctor``."""
    found = []
    issuers, domains = _drivers(rules, document_bytes_max, fetch_seconds_max, time.monotonic)
    for issuer in issuers.values():
        try:
            keys = len(await issuer.keys())
            found.append((f"issuer {issuer.rule.name}", f"{keys} keys", keys > 0))
        except Outage as error:
            found.append((f"issuer {issuer.rule.name}", error.message, False))
    for name, domain in domains.items():
        try:
            bundle = await domain.bundle()
            held = (len(bundle.jwt_keys), len(bundle.authorities))
            found.append((f"trust domain {name}", "{} keys for JWT-SVIDs, {} authorities for X.509-SVIDs".format(*held), any(held)))
        except Outage as error:
            found.append((f"trust domain {name}", error.message, False))
    return found


def make_proofs(
    rules: TrustRules,
    replays: Replays,
    *,
    audience: str,
    document_bytes_max: int,
    fetch_seconds_max: float,
    clock: Callable[[], float] = time.monotonic,
) -> Proofs:
    """Who is configured, with drivers for their keys. ``clock``: seconds that only grow."""
    issuers, domains = _drivers(rules, document_bytes_max, fetch_seconds_max, clock)
    return Proofs(issuers, domains, replays, audience=audience)

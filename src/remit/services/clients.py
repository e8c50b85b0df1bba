"""Which agent speaks at the token service: by a key that is declared for it, by its JWT-SVID, or by the token of a trusted issuer.

Rules: there are no shared secrets. An assertion of a declared key is used once. Why one does not hold is in the ledger; outside it
is always the same refusal. Left out: what a proved agent may have (``services/exchange.py``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from remit.drivers.assertions import proved, unproved
from remit.errors import Unauthenticated
from remit.logic.assertions import check_client_assertion
from remit.model.identity import Workload
from remit.model.token import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.services.declared import Declared
    from remit.services.identities import Identities
    from remit.services.replays import Replays
    from remit.settings import Agent

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
PRIVATE_KEY_JWT = "private_key_jwt"


class Clients:
    """Authenticates the token service's clients."""

    def __init__(
        self,
        identities: Identities,
        agents: Declared,
        replays: Replays,
        clock: Callable[[], datetime],
        *,
        audiences: tuple[str, ...],
    ) -> None:
        """``agents``: as declared now. ``audiences``: what an assertion may call us."""
        self._identities, self._agents, self._replays, self._clock = identities, agents, replays, clock
        self._audiences = audiences

    async def client(self, assertion_type: str, assertion: str, client_id: str = "") -> Client:
        """The agent that an assertion proves (RFC 7521 §4.2); ``client_id`` ("" : not sent) must then be its.

        Raises Unauthenticated, Outage.
        """
        if not assertion or not assertion_type:
            raise Unauthenticated("no client assertion was sent", code="invalid_client")
        if assertion_type == JWT_SPIFFE:
            client = await self.workload(assertion)
        elif assertion_type == JWT_BEARER:
            client = await self._asserted(assertion)
        else:
            raise Unauthenticated("an unknown kind of client assertion", code="invalid_client")
        if client_id not in {"", client.name, client.agent.text}:
            raise Unauthenticated("the client assertion is of another client", code="invalid_client")
        return client

    async def workload(self, token: str) -> Client:
        """The declared agent that a JWT-SVID or a token of a trusted issuer proves. Raises Unauthenticated, Outage."""
        try:
            name, workload = await self._identities.verify_svid(token, once=True)
        except Unauthenticated as refusal:
            raise Unauthenticated(refusal.message, code="invalid_client") from None
        return Client(name=name, workload=workload)

    async def _asserted(self, assertion: str) -> Client:
        """By its own declared key where it speaks for itself, otherwise by whoever vouches for it."""
        try:
            _, claims = unproved(assertion)
        except Unauthenticated:
            return await self.workload(assertion)  # may hold more than an assertion of ours; refused there, with its reason
        issuer = claims.get("iss")
        declared = self._declared(issuer) if isinstance(issuer, str) and issuer == claims.get("sub") else None
        if declared is None:
            return await self.workload(assertion)
        try:
            header, claims = proved(assertion, declared.keys)
            once = check_client_assertion(header, claims, (declared.name, declared.spiffe_id.text), self._audiences, self._clock())
        except Unauthenticated as refusal:
            raise Unauthenticated(refusal.message, code="invalid_client") from None
        use = hashlib.sha256(f"assertion\0{declared.spiffe_id}\0{once.id}".encode("utf-8", "surrogatepass")).hexdigest()
        try:
            await self._replays.take(use, once.until)
        except Unauthenticated:
            raise Unauthenticated("the client assertion was used before", code="invalid_client") from None
        return Client(name=declared.name, workload=Workload(agent=declared.spiffe_id, proof=PRIVATE_KEY_JWT))

    def _declared(self, name: str) -> Agent | None:
        return self._agents.identified(name) or self._agents.named(name)

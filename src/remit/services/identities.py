"""The embedded trust domain: gives declared agents their JWT-SVIDs, and tells who presents one.

Rules: an agent that is not declared gets nothing and is nobody. Every exchange, given or refused, is in the ledger
before its answer leaves. Outside, a refusal never says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import NotFound, Unauthenticated
from remit.logic.claims import SVID_TYPE, check_svid, svid_claims
from remit.logic.records import encode
from remit.model.record import Record, TokenIssued, TokenRefused
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from remit.drivers.signing import TokenSigner
    from remit.model.identity import SpiffeId, Workload
    from remit.store.database import Store


class Identities:
    """One SPIFFE trust domain."""

    def __init__(
        self,
        store: Store,
        signer: TokenSigner,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        trust_domain: str,
        audience: str,
        svid_ttl: timedelta,
        agents: Callable[[], Mapping[str, SpiffeId]],
    ) -> None:
        """``agents``: declared names and their SPIFFE IDs, as configured now. ``audience``: who we are to a presenter."""
        self._store, self._signer, self._clock, self._new_id = store, signer, clock, new_id
        self._trust_domain, self._audience, self._svid_ttl, self._agents = trust_domain, audience, svid_ttl, agents

    async def issue_svid(self, agent: str, *, audience: str = "", attested: str) -> str:
        """A JWT-SVID for a declared agent. ``attested``: what vouched for the asker. Raises NotFound, Outage."""
        spiffe_id = self._agents().get(agent)
        if spiffe_id is None:
            known = ", ".join(sorted(self._agents())) or "none"
            raise NotFound(f"no agent {agent[:80]!r} is declared", hint=f"declared in remit.toml: {known}")
        now, jti = self._clock(), self._new_id("svid")
        claims = svid_claims(spiffe_id, audience or self._audience, now, self._svid_ttl, jti)
        issued = TokenIssued(agent=spiffe_id.text, use="jwt-svid", jti=jti, expires_at=now + self._svid_ttl, subject_proof=attested)
        await self._store.append(Append(body=encode(Record(at=now, body=issued))))
        return self._signer.sign(claims, SVID_TYPE)

    async def verify_svid(self, token: str) -> tuple[str, Workload]:
        """Name and identity of the declared agent that a JWT-SVID proves. Raises Unauthenticated, Outage."""
        now = self._clock()
        try:
            header, claims = self._signer.open(token)
            workload = check_svid(header, claims, self._trust_domain, self._audience, now)
            for name, spiffe_id in self._agents().items():
                if spiffe_id == workload.agent:
                    return name, workload
            raise Unauthenticated(f"{workload.agent} is not declared")
        except Unauthenticated as refusal:
            await self._store.append(Append(body=encode(Record(at=now, body=TokenRefused(why=refusal.message)))))
            raise

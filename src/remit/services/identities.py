"""The embedded trust domain: gives declared agents their JWT-SVIDs, and tells who presents one, or another proof that is trusted.

Rules: an agent that is not declared gets nothing and is nobody. Every exchange, given or refused, is in the ledger
before its answer leaves; of very many refusals the rest is counted. Outside, a refusal never says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.drivers.certificates import check_chain, read_chain
from remit.drivers.key_sets import peek
from remit.errors import NotFound, Unauthenticated
from remit.logic.claims import SVID_TYPE, check_svid, svid_claims
from remit.logic.records import encode
from remit.model.identity import PeerCertificate, Workload
from remit.model.record import Record
from remit.model.token_record import TokenIssued, TokenRefused
from remit.services.sparing import Sparing
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from cryptography.x509 import Certificate

    from remit.drivers.signing import TokenSigner
    from remit.model.identity import Proof
    from remit.services.declared import Declared
    from remit.services.proofs import Proofs
    from remit.services.standing import Standing
    from remit.store.database import Store

_CLAIMED_CHARACTERS_MAX, _WHY_CHARACTERS_MAX = 200, 500


async def _nobody() -> Sequence[Certificate]:
    """A domain that gives no X.509-SVIDs."""
    return ()


class Identities:
    """One SPIFFE trust domain."""

    def __init__(
        self,
        standing: Standing,
        store: Store,
        signer: TokenSigner,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        trust_domain: str,
        audience: str,
        svid_ttl: timedelta,
        agents: Declared,
        proofs: Proofs,
        authorities: Callable[[], Awaitable[Sequence[Certificate]]] = _nobody,
    ) -> None:
        """``agents``: as declared now. ``audience``: who we are to a presenter. ``proofs``: of
        others that are trusted. ``authorities``: what X.509-SVIDs of our own domain lead to.
        """
        self._proofs, self._own_authorities = proofs, authorities
        self._standing, self._refusals = standing, Sparing()
        self._store, self._signer, self._clock, self._new_id = store, signer, clock, new_id
        self._trust_domain, self._audience, self._svid_ttl, self._agents = trust_domain, audience, svid_ttl, agents

    async def issue_svid(self, agent: str, *, audience: str = "", attested: str) -> str:
        """A JWT-SVID for a declared agent. ``attested``: what vouched for the asker. Raises NotFound, Refusal (it is stopped), Outage."""
        declared = self._agents.named(agent)
        if declared is None:
            known = ", ".join(self._agents.names()) or "none"
            raise NotFound(f"no agent {agent[:80]!r} is declared", hint=f"declared in remit.toml: {known}")
        spiffe_id, jti = declared.spiffe_id, self._new_id("svid")

        def issued(now: datetime) -> TokenIssued:
            return TokenIssued(agent=spiffe_id.text, use="jwt-svid", jti=jti, expires_at=now + self._svid_ttl, subject_proof=attested)

        now = await self._standing.append(spiffe_id.text, issued)
        return self._signer.sign(svid_claims(spiffe_id, audience or self._audience, now, self._svid_ttl, jti), SVID_TYPE)

    async def verify_svid(self, proof: Proof, *, once: bool = False) -> tuple[str, Workload]:
        """Name and identity of the declared agent that a trusted proof shows: a JWT-SVID or X.509-SVID, an OIDC issuer's token.

        ``once``: it is to open something, so a token of an issuer is used up. Raises Unauthenticated, Outage.
        """
        now = self._clock()
        try:
            workload = await (self._certified(proof, now) if isinstance(proof, PeerCertificate) else self._told(proof, now, once=once))
            declared = self._agents.identified(workload.agent.text)
            if declared is None:
                raise Unauthenticated(f"{workload.agent} is not declared")
        except Unauthenticated as refusal:
            skipped = self._refusals.admit("", now)
            if skipped is not None:
                refused = TokenRefused(why=refusal.message[:_WHY_CHARACTERS_MAX], claimed=_claimed(proof), skipped=skipped)
                await self._store.append(Append(body=encode(Record(at=now, body=refused))))
            raise
        return declared.name, workload

    async def authorities(self) -> list[Certificate]:
        """What certificates may lead to, of our domain and of those that are trusted: enough for a handshake, and for nothing else."""
        return [*await self._own_authorities(), *await self._proofs.authorities()]

    async def _told(self, token: str, now: datetime, *, once: bool) -> Workload:
        own = self._signer.remembered(token)
        if own is not None:  # our own key has signed it: nobody else has to be found who vouches
            return check_svid(*own, self._trust_domain, self._audience, now)
        header, claims = peek(token)
        foreign = await self._proofs.token(token, header, claims, now, once=once)
        if foreign is not None:
            return foreign
        return check_svid(*self._signer.open(token), self._trust_domain, self._audience, now)

    async def _certified(self, peer: PeerCertificate, now: datetime) -> Workload:
        agent, certificates = read_chain(peer.chain)
        if agent.trust_domain != self._trust_domain:
            return await self._proofs.certificate(agent, certificates, now)
        check_chain(certificates, await self._own_authorities(), now)
        return Workload(agent=agent, proof="x509-svid")


def _claimed(proof: Proof) -> str:
    """What a refused proof said it was: unverified, cut short, nothing that a terminal would obey, and never the proof itself."""
    try:
        if isinstance(proof, PeerCertificate):
            words = str(read_chain(proof.chain)[0])
        else:
            claims = peek(proof)[1]
            words = " ".join(f"{name}={claims[name]}" for name in ("iss", "sub") if isinstance(claims.get(name), str))
    except Unauthenticated:
        return ""
    return ascii(words)[1:-1][:_CLAIMED_CHARACTERS_MAX]

"""Proofs of possession: which key or certificate whoever sends a request has shown to hold (RFC 9449, RFC 8705).

Rules: a DPoP proof counts once. It needs a nonce of ours, so it is enough to remember proofs for a nonce's life: where a task token is
presented in this process, bounded, and what does not fit is refused; where there are other nodes, and always where a token is given, in the
store, which says who was first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.drivers.assertions import dpop_proof
from remit.errors import Outage, Unauthenticated
from remit.logic.dpop import NONCE_TTL, check_proof, make_nonce
from remit.model.token import NOTHING, Possession

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.logic.dpop import Proof
    from remit.model.token import Credential
    from remit.services.replays import Replays

_REMEMBERED_MAX = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a request shows, and the DPoP proof that it shows it by, which counts once."""

    possession: Possession
    proof: Proof | None = None


_NOTHING_HELD = Held(possession=NOTHING)


class Possessions:
    """Checks proofs of possession."""

    def __init__(self, nonce_key: bytes, replays: Replays, clock: Callable[[], datetime], *, alone: bool = True) -> None:
        """``nonce_key``: 32 bytes, the same on all nodes. ``alone``: there is one process, whose memory is enough."""
        self._key, self._replays, self._clock, self._alone = nonce_key, replays, clock, alone
        self._seen: OrderedDict[bytes, datetime] = OrderedDict()

    def nonce(self) -> str:
        """A fresh nonce."""
        return make_nonce(self._key, self._clock())

    def shown(self, credential: Credential) -> Held:
        """What a request shows, not yet used up. At the token service there is no token yet. Raises Unauthenticated.

        A proof beside a token under ``Bearer`` counts for nothing: a bound token is presented as such (RFC 9449 §7.1).
        """
        if credential.scheme != "dpop" if credential.token else not credential.proof:
            return Held(possession=Possession(certificate=credential.certificate)) if credential.certificate else _NOTHING_HELD
        claims, key = dpop_proof(credential.proof)
        proof = check_proof(
            claims,
            key=key,
            method=credential.method,
            url=credential.url,
            token=credential.token,
            nonce_key=self._key,
            now=self._clock(),
        )
        return Held(possession=Possession(key=key, certificate=credential.certificate), proof=proof)

    async def spend(self, held: Held) -> None:
        """Use a proof up, for a token that is presented. Only holders of live tokens get here: strangers cannot fill what is remembered.

        Raises Unauthenticated, Outage.
        """
        proof, now = held.proof, self._clock()
        if proof is None:
            return
        if not self._alone:
            await self.spend_for_all(held)
            return
        while self._seen and next(iter(self._seen.values())) < now - NONCE_TTL * 2:
            self._seen.popitem(last=False)
        digest = _digest(proof)
        if digest in self._seen:
            raise Unauthenticated("the DPoP proof was used before", code="invalid_dpop_proof")
        if len(self._seen) >= _REMEMBERED_MAX:
            raise Outage("too many DPoP proofs are remembered", code="overload")
        self._seen[digest] = now

    async def spend_for_all(self, held: Held) -> None:
        """Use a proof up on every node, for a token that is given. Raises Unauthenticated, Outage."""
        proof = held.proof
        if proof is None:
            return
        try:
            await self._replays.take(_digest(proof).hex(), proof.until)
        except Unauthenticated:
            raise Unauthenticated("the DPoP proof was used before", code="invalid_dpop_proof") from None


def _digest(proof: Proof) -> bytes:
    return hashlib.sha256(f"proof\0{proof.key}\0{proof.id}".encode("utf-8", "surrogatepass")).digest()

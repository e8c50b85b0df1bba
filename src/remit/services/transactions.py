"""Transaction tokens for calls that leave the gateway inward, to servers of our own domain that are told of them.

Rules: only where the server's table says ``txn_token = true``; a fresh one for each call, signed after the decision is durable, with a
key that signs nothing else. The decision is its record: ``txn`` is the decision's id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.transactions import TRANSACTION_TYPE, transaction_claims

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime, timedelta

    from remit.drivers.signing import TokenSigner
    from remit.services.mediation import Ticket
    from remit.services.tasks import Tasks

HEADER = "Txn-Token"


class Transactions:
    """Makes them."""

    def __init__(
        self,
        signer: TokenSigner,
        tasks: Tasks,
        clock: Callable[[], datetime],
        *,
        issuer: str,
        trust_domain: str,
        ttl: timedelta,
        servers: Callable[[], Collection[str]],
    ) -> None:
        """``servers``: those that are told, now. ``ttl``: as long as a call may take."""
        self._signer, self._tasks, self._clock = signer, tasks, clock
        self._issuer, self._trust_domain, self._ttl, self._servers = issuer, trust_domain, ttl, servers

    async def headers(self, ticket: Ticket) -> dict[str, str]:
        """What goes with an allowed call; nothing for most servers. Raises Outage, NotFound."""
        if ticket.call.server not in self._servers():
            return {}
        task = await self._tasks.view(ticket.bearer.task)
        claims = transaction_claims(
            task,
            ticket.call,
            ticket.decision_id,
            issuer=self._issuer,
            trust_domain=self._trust_domain,
            now=self._clock(),
            ttl=self._ttl,
        )
        return {HEADER: self._signer.sign(claims, TRANSACTION_TYPE)}

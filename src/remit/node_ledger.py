"""Assembles what a node does with its ledger beside writing it: reading it, showing it over HTTP, having witnesses cosign it.

Left out: the store (``node.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.api.ledger import LedgerDoor
from remit.drivers.outward import Outward
from remit.services.ledger import Ledger
from remit.services.witnesses import Witnesses

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from starlette.routing import Route

    from remit.logic.checkpoint import Verifier
    from remit.settings import LedgerSettings
    from remit.store.database import Store


@dataclass(slots=True, kw_only=True)
class LedgerParts:
    """What there is of it on this node."""

    ledger: Ledger
    witnesses: Witnesses
    reach: Outward
    doors: list[Route]

    def work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the calls, until cancelled."""
        return (self.witnesses.run(),) if self.witnesses.witnesses else ()

    async def close(self) -> None:
        """Let go of connections."""
        await self.reach.close()


def ledger_parts(store: Store, verifier: Verifier, settings: LedgerSettings) -> LedgerParts:
    """Assemble it."""
    ledger, reach = Ledger(store, verifier, witnessed=bool(settings.witnesses)), Outward()
    return LedgerParts(
        ledger=ledger,
        witnesses=Witnesses(ledger, reach, settings.witnesses, settings.witness_every),
        reach=reach,
        doors=LedgerDoor(ledger=ledger, readers=settings.readers).routes(),
    )

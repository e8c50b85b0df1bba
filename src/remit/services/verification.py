"""Reads the ledger again, from its beginning, and holds it against its signed head: so that a change of the past is noticed by itself.

Rules: constant memory, a page at a time with a pause between; once round a day it begins anew. What does not fit is logged as an error and
stays told until the process ends: who mends it must look. Left out: naming what exactly was changed, and a check that trusts nobody's
process (``remit ledger verify`` on an export).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage
from remit.logic.checkpoint import open_checkpoint
from remit.logic.merkle import completed, leaf_hash, root_of

if TYPE_CHECKING:
    from remit.logic.checkpoint import Verifier
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_PAGE, _PAUSE_SECONDS, _LOOK_SECONDS, _AGAIN_SECONDS = 500, 0.05, 15.0, 86_400.0


class Verification:
    """One reading. ``verified``: entries that are what a signed head says; ``size``: of the latest head; ``broken``: what did not fit
    ("" : all did).
    """

    def __init__(self, store: Store, verifier: Verifier) -> None:
        self._store, self._verifier = store, verifier
        self._frontier: tuple[bytes, ...] = ()
        self._read = self.verified = self.size = 0
        self.broken = ""

    async def run(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                await self.look()
            except Outage:
                pass  # looked at again a moment later
            if loop.time() - began >= _AGAIN_SECONDS and self.verified == self.size:
                began, self._frontier, self._read = loop.time(), (), 0
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Read on to the head as it is now. Raises Outage."""
        try:
            head = open_checkpoint((await self._store.head()).checkpoint, self._verifier)
        except Mistake as mistake:
            self._found(f"the signed head does not hold: {mistake.message}")
            return
        self.size = head.size
        if head.size < self._read:
            self._found(f"the signed head names {head.size:,} entries, {self._read:,} were there: the store was set back")
            return
        while self._read < head.size:
            entries = await self._store.entries(self._read, min(_PAGE, head.size - self._read))
            if not entries:
                self._found(f"entry {self._read} is missing")
                return
            for entry in entries:
                leaf = leaf_hash(entry.body)
                if entry.index != self._read or leaf != entry.leaf:
                    self._found(f"entry {self._read} was changed, removed or moved")
                    return
                self._frontier, _ = completed(self._frontier, self._read, leaf)
                self._read += 1
            await asyncio.sleep(_PAUSE_SECONDS if head.size - self._read > _PAGE else 0)
        if root_of(self._frontier) != head.root:
            self._found(f"the {head.size:,} entries do not lead to the signed root")
            return
        self.verified = head.size

    def _found(self, what: str) -> None:
        if self.broken != what:
            self.broken = what
            _LOG.error("THE LEDGER DOES NOT VERIFY: %s. Export it (remit ledger export), verify the export, keep the store as it is", what)

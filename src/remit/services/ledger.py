"""The ledger for those who check it: heads, proofs, the export that is verified elsewhere."""

from __future__ import annotations

import base64
from typing import IO, TYPE_CHECKING

from remit.logic.audit import EXPORT_HEADER, export_line
from remit.logic.checkpoint import Verifier, open_checkpoint
from remit.logic.merkle import HASH_BYTES, consistency_plan, inclusion_plan, kept_at, proof

if TYPE_CHECKING:
    from remit.logic.checkpoint import Checkpoint
    from remit.logic.merkle import Node
    from remit.store.database import Entry, Store

_PAGE = 1_000


class Ledger:
    """Reads a store's log."""

    def __init__(self, store: Store, verifier: Verifier) -> None:
        """``verifier``: the log's public key under its origin."""
        self._store, self.verifier = store, verifier

    async def checkpoint(self) -> tuple[Checkpoint, str]:
        """The latest head, and its signed note."""
        note = (await self._store.head()).checkpoint
        return open_checkpoint(note, self.verifier), note

    async def publish(self) -> str:
        """Keep and return the latest signed note; from now on exports must agree with it."""
        return await self._store.publish_checkpoint()

    async def entries(self, start: int, limit: int) -> tuple[Entry, ...]:
        """Entries in order."""
        return await self._store.entries(start, min(limit, _PAGE))

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Audit path of an entry in the tree of ``size``. Raises Mistake."""
        return await self._proof(inclusion_plan(index, size))

    async def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Proof that the tree of ``size`` continues the one of ``old``. Raises Mistake."""
        return await self._proof(consistency_plan(old, size))

    async def proof_file(self, index: int) -> str:
        """A ``.tlog-proof`` (C2SP tlog-proof) for one entry under the latest head."""
        head, note = await self.checkpoint()
        path = await self.inclusion(index, head.size)
        lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *(base64.b64encode(part).decode() for part in path)]
        await self.publish()
        return "\n".join(lines) + f"\n\n{note}"

    async def export(self, file: IO[str]) -> int:
        """Write the whole log as ``logic/audit.py`` verifies it; returns the number of entries. Publishes the head."""
        note = await self.publish()
        size = open_checkpoint(note, self.verifier).size
        file.write(EXPORT_HEADER + "\n")
        published = [(open_checkpoint(kept, self.verifier).size, kept) for kept in await self._all_checkpoints(size)]
        written = 0
        while written < size:
            for entry in await self._store.entries(written, min(_PAGE, size - written)):
                while published and published[0][0] <= written:
                    file.write(export_line("checkpoint", published.pop(0)[1].encode()) + "\n")
                file.write(export_line("leaf", entry.leaf) + "\n")
                file.write(export_line("entry", entry.body) + "\n")
                written += 1
        for _, kept in published:
            file.write(export_line("checkpoint", kept.encode()) + "\n")
        return written

    async def _all_checkpoints(self, size: int) -> list[str]:
        found: list[str] = []
        after = 0
        while page := await self._store.checkpoints(after, _PAGE):
            found += page
            after = open_checkpoint(page[-1], self.verifier).size
            if after >= size:
                break
        return found

    async def _proof(self, plan: tuple[tuple[Node, ...], ...]) -> tuple[bytes, ...]:
        nodes = {node for part in plan for node in part}
        rows = await self._store.hashes(sorted({kept_at(node)[0] for node in nodes}))
        found: dict[Node, bytes] = {}
        for node in nodes:
            index, offset = kept_at(node)
            value = rows.get(index, b"")[offset : offset + HASH_BYTES]
            if len(value) == HASH_BYTES:
                found[node] = value
        return proof(plan, found)

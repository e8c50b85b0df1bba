"""The ledger for those who check it: heads, tiles, proofs, the export that is verified elsewhere.

Rules: a proof or a tile costs the hashes that it is made of, whatever the log's size; only ``export`` reads all of it.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import IO, TYPE_CHECKING

from remit.errors import NotFound
from remit.logic.audit import EXPORT_HEADER, export_line
from remit.logic.checkpoint import Verifier, open_checkpoint
from remit.logic.merkle import HASH_BYTES, consistency_plan, inclusion_plan, kept_at, proof
from remit.logic.tiles import TILE_WIDTH, bundled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from remit.logic.checkpoint import Checkpoint
    from remit.logic.merkle import Node
    from remit.logic.tiles import Tile
    from remit.store.database import Entry, Store

_PAGE = 1_000


class Ledger:
    """Reads a store's log."""

    def __init__(self, store: Store, verifier: Verifier, *, witnessed: bool = False) -> None:
        """``verifier``: the log's public key under its origin. ``witnessed``: what is shown waits for a witness, once one has cosigned."""
        self._store, self.verifier, self._witnessed = store, verifier, witnessed

    async def checkpoint(self) -> tuple[Checkpoint, str]:
        """The latest head, and its signed note."""
        note = (await self._store.head()).checkpoint
        return open_checkpoint(note, self.verifier), note

    async def publish(self) -> str:
        """Keep and return the latest signed note; from now on exports must agree with it."""
        return await self._store.publish_checkpoint()

    async def served(self) -> str:
        """The signed note that this log shows: the latest that a witness cosigned, or else the latest."""
        return (await self._store.cosigned() if self._witnessed else None) or await self.publish()

    async def serve(self, note: str) -> None:
        """Show a published note with its cosignatures from now on."""
        signatures = len(note.rpartition("\n\n")[2].splitlines())
        await self._store.keep_cosigned(self.opened(note).size, note, signatures - 1)  # the first is the log's own

    def opened(self, note: str) -> Checkpoint:
        """The checkpoint of a note of this log. Raises Mistake."""
        return open_checkpoint(note, self.verifier)

    async def tile(self, tile: Tile) -> bytes:
        """A tile's hashes (C2SP tlog-tiles); costs what it holds. Raises NotFound where the tree does not have all of it."""
        nodes = tile.nodes()
        await self._check(tile)
        found = await self._hashes(nodes)
        return b"".join(proof(tuple((node,) for node in nodes), found))

    async def bundle(self, tile: Tile) -> bytes:
        """The entries below a tile of level 0. Raises NotFound where the log does not have them all."""
        await self._check(tile)
        entries = await self._store.entries(tile.number * TILE_WIDTH, tile.width)
        return bundled(entry.body for entry in entries)

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
        """A ``.tlog-proof`` (C2SP tlog-proof) for one entry, under the note that is shown, or under the latest where that is too old."""
        note = await self.served()
        if index >= self.opened(note).size:
            note = await self.publish()
        path = await self.inclusion(index, self.opened(note).size)
        lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *(base64.b64encode(part).decode() for part in path)]
        return "\n".join(lines) + f"\n\n{note}"

    async def export(self, file: IO[str]) -> int:
        """Write the whole log as ``logic/audit.py`` verifies it; returns the number of entries. Publishes the head."""
        entries = 0
        async for text, written in self.exported():
            file.write(text)
            entries = written
        return entries

    async def exported(self) -> AsyncIterator[tuple[str, int]]:
        """The whole log piece by piece, each with the number of entries so far. Publishes the head."""
        note = await self.publish()
        size = open_checkpoint(note, self.verifier).size
        published = deque((open_checkpoint(kept, self.verifier).size, kept) for kept in await self._all_checkpoints(size))
        lines, written = [EXPORT_HEADER], 0
        while written < size:
            for entry in await self._store.entries(written, min(_PAGE, size - written)):
                while published and published[0][0] <= written:
                    lines.append(export_line("checkpoint", published.popleft()[1].encode()))
                lines += [export_line("leaf", entry.leaf), export_line("entry", entry.body)]
                written += 1
            yield "\n".join(lines) + "\n", written
            lines = []
        lines += [export_line("checkpoint", kept.encode()) for _, kept in published]
        yield "\n".join(lines) + "\n", written

    async def _all_checkpoints(self, size: int) -> list[str]:
        found: list[str] = []
        after = 0
        while page := await self._store.checkpoints(after, _PAGE):
            found += page
            after = open_checkpoint(page[-1], self.verifier).size
            if after >= size:
                break
        return found

    async def _check(self, tile: Tile) -> None:
        size = (await self._store.head()).size
        if not tile.within(size):
            raise NotFound(f"a log of {size} entries does not have that tile", hint="the widths follow from the checkpoint's size")

    async def _proof(self, plan: tuple[tuple[Node, ...], ...]) -> tuple[bytes, ...]:
        return proof(plan, await self._hashes({node for part in plan for node in part}))

    async def _hashes(self, nodes: Collection[Node]) -> dict[Node, bytes]:
        rows = await self._store.hashes(sorted({kept_at(node)[0] for node in nodes}))
        found: dict[Node, bytes] = {}
        for node in nodes:
            index, offset = kept_at(node)
            value = rows.get(index, b"")[offset : offset + HASH_BYTES]
            if len(value) == HASH_BYTES:
                found[node] = value
        return found

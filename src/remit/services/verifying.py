"""Verifies an exported ledger file (``logic/audit.py``), with as many processes as there are processors where the file is large.

Rules: constant memory: a block a process is under way, and as many wait. The first thing that does not fit ends it. A process decodes and
hashes blocks and knows nothing of what stands before them; what they lead to is put together here, in the order of the file.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice
from typing import IO, TYPE_CHECKING

from remit.logic.audit import Audit
from remit.logic.audit_blocks import LINE_BYTES_MAX, digested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.logic.audit import Tampered, Verified
    from remit.logic.audit_blocks import Piece
    from remit.logic.checkpoint import Verifier

_BLOCK_BYTES = 131_072  # larger ones no longer lie in the processor's memory
_BLOCKS_AT_ONCE = 8  # so many are a process's errand
_BLOCKS_ALONE_MAX = 64  # so many are verified before another process would have begun
_PROCESSES_MAX = 8  # what one process puts together is not more


def verify_file(file: IO[bytes], verifier: Verifier, processes: int = 0) -> Verified | Tampered:
    """Check a whole export. Never raises for its content. ``processes``: 0 is one a processor."""
    audit, blocks = Audit(verifier), _blocks(file)
    found = audit.begin(file.readline(LINE_BYTES_MAX))
    if found is not None:
        return found
    for block in islice(blocks, _BLOCKS_ALONE_MAX):
        found = audit.take(digested(block))
        if found is not None:
            return found
    for pieces in _digested(blocks, processes or min(os.cpu_count() or 1, _PROCESSES_MAX)):
        found = audit.take(pieces)
        if found is not None:
            return found
    return audit.end()


def _digested(blocks: Iterator[bytes], processes: int) -> Iterator[list[Piece]]:
    """What is in the blocks, in their order."""
    errands = iter(lambda: list(islice(blocks, _BLOCKS_AT_ONCE)), [])
    first = next(errands, None)
    if first is None or processes < 2:
        yield from map(digested, chain(first or (), blocks))
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            under_way = deque(pool.submit(_errand, blocks) for blocks in chain([first], islice(errands, 2 * processes)))
            while under_way:
                pieces = under_way.popleft().result()
                under_way += [pool.submit(_errand, blocks) for blocks in islice(errands, 1)]
                yield pieces
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _errand(blocks: list[bytes]) -> list[Piece]:
    """In a process of its own."""
    return [piece for block in blocks for piece in digested(block)]


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, each behind an entry or a checkpoint. What has no line ends is cut all the same, and is a fault."""
    while block := file.read(_BLOCK_BYTES):
        line = b"" if block.endswith(b"\n") else file.readline(LINE_BYTES_MAX + 1)
        last = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] + line
        yield block + line + (file.readline(LINE_BYTES_MAX + 1) if last.startswith(b"leaf ") else b"")

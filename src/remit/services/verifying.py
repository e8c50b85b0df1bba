"""Verifies an exported ledger file (``logic/audit.py``), with as many processes as there are processors where the file is large.

Rules: constant memory: of each process a few stretches are under way. The first thing that does not fit ends it. Other processes
(``verifying_errands.py``) only ever say that a stretch fits, and what it comes to. From the first that does not fit, and for all that is no
file on a disk, everything is gone through here, block by block: so what is found, and its name, are the same however many work at it.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from contextlib import ExitStack
from itertools import cycle, islice
from typing import IO, TYPE_CHECKING

from remit.logic.audit import Audit
from remit.logic.audit_blocks import LINE_BYTES_MAX, digested
from remit.services.verifying_errands import Helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.logic.audit import Tampered, Verified
    from remit.logic.checkpoint import Verifier

_BLOCK_BYTES = 98_304  # larger ones no longer lie in the processor's memory
_BLOCKS_AT_ONCE = 16  # so many are a stretch
_STRETCHES_AHEAD = 3  # so many of a process are under way
_BLOCKS_ALONE_MAX = 64  # so many are verified before another process would have begun
_PROCESSES_MAX = 8  # what one process puts together is not more
_NEAR_BYTES = 4_096


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
    many = processes or min(os.cpu_count() or 1, _PROCESSES_MAX)
    if many > 1 and _lies_on_a_disk(file):
        file.seek(_helped(audit, file.fileno(), file.tell(), many))
    for block in blocks:
        found = audit.take(digested(block))
        if found is not None:
            return found
    return audit.end()


def _helped(audit: Audit, file: int, begin: int, processes: int) -> int:
    """Take stretch after stretch, as far as all fit; where that ends."""
    stretches = _stretches(file, begin)
    first = next(stretches, None)
    if first is None:
        return begin
    with ExitStack() as stack:
        try:
            helpers = [stack.enter_context(Helper(file)) for _ in range(processes)]
        except OSError:
            return begin
        turns, under_way = cycle(helpers), deque[tuple[Helper, int, list[int]]]()

        def ask(start: int, lengths: list[int]) -> None:
            helper = next(turns)
            helper.ask(start, lengths)
            under_way.append((helper, start, lengths))

        ask(*first)
        for start, lengths in islice(stretches, processes * _STRETCHES_AHEAD - 1):
            ask(start, lengths)
        while under_way:
            helper, start, lengths = under_way.popleft()
            stretch = helper.answer()
            if stretch is None or not audit.fits(stretch):
                return start
            begin = start + sum(lengths)
            for more in islice(stretches, 1):
                ask(*more)
    return begin


def _stretches(file: int, begin: int) -> Iterator[tuple[int, list[int]]]:
    """Where each stretch begins, and how long its blocks are, up to the end of the file or to where it has no lines."""
    lengths: list[int] = []
    start = begin
    while length := _block_bytes(file, begin):
        lengths.append(length)
        begin += length
        if len(lengths) == _BLOCKS_AT_ONCE:
            yield start, lengths
            start, lengths = begin, []
    if lengths:
        yield start, lengths


def _block_bytes(file: int, begin: int) -> int:
    """The length of a block that ends where another may begin; 0: there is none."""
    for reach in (_NEAR_BYTES, 2 * LINE_BYTES_MAX):
        window = os.pread(file, reach, begin + _BLOCK_BYTES)
        ends = [end for word in (b"\nleaf ", b"\ncheckpoint ") if (end := window.find(word)) >= 0]
        if ends:
            return _BLOCK_BYTES + min(ends) + 1
    return 0


def _lies_on_a_disk(file: IO[bytes]) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # what lies in memory has no number
        return False


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, each behind an entry or a checkpoint. What has no line ends is cut all the same, and is a fault."""
    while block := file.read(_BLOCK_BYTES):
        line = b"" if block.endswith(b"\n") else file.readline(LINE_BYTES_MAX + 1)
        last = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] + line
        yield block + line + (file.readline(LINE_BYTES_MAX + 1) if last.startswith(b"leaf ") else b"")

"""Replays a large ledger with a process for each processor, and shows on standard error how far it is.

Rules: what is answered is the same however many work at it. Each process opens the folder for itself and decides again what its share of
the tasks asked; the first of them also holds the ledger against its signature. When one fails, all stop and its error is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import click

from remit.node import open_node
from remit.services.history import Share
from remit.services.replay import merged, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableSequence
    from datetime import datetime
    from pathlib import Path

    from remit.services.replay import Replayed

_ALONE_MAX = 5_000  # entries that are gone through before another process would have begun
_PROCESSES_MAX = 64
_LOOK_SECONDS = 0.5
_LOOKED: list[MutableSequence[int]] = []  # of a process: where it tells the others how far it is


async def replayed(folder: Path, candidate: Mapping[str, str], *, since: datetime | None, task_type: str, processes: int = 0) -> Replayed:
    """What a candidate would have changed. ``processes``: 0 is one a processor. Raises as ``replay``."""
    async with open_node(folder) as node:
        history = node.history()
        size = await history.size()
        many = processes or min(os.cpu_count() or 1, _PROCESSES_MAX)
        if size <= _ALONE_MAX or many < 2:
            with progress(size) as history.looked:
                return await replay(history, candidate, node.rules.rulebook.pinned, since=since, task_type=task_type)
    spawn = multiprocessing.get_context("spawn")
    looked = spawn.RawArray("q", many)
    with ProcessPoolExecutor(many, mp_context=spawn, initializer=_LOOKED.append, initargs=(looked,)) as pool, progress(size) as told:
        loop = asyncio.get_running_loop()
        parts = [
            loop.run_in_executor(pool, _share, folder, dict(candidate), since, task_type, Share(number=number, of=many))
            for number in range(many)
        ]
        whole = asyncio.gather(*parts)
        try:
            while not (await asyncio.wait([whole], timeout=_LOOK_SECONDS))[0]:
                told(min(looked))
            parts_done = await whole
            told(size)
            return merged(parts_done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _share(folder: Path, candidate: Mapping[str, str], since: datetime | None, task_type: str, share: Share) -> Replayed:
    """In a process of its own."""

    async def work() -> Replayed:
        def told(entries: int) -> None:
            if _LOOKED:
                _LOOKED[0][share.number] = entries

        async with open_node(folder) as node:
            history = node.history()
            history.looked = told
            return await replay(history, candidate, node.rules.rulebook.pinned, since=since, task_type=task_type, share=share)

    return asyncio.run(work())


@contextlib.contextmanager
def progress(size: int) -> Iterator[Callable[[int], None]]:
    """Tell on standard error how many of so many entries are done: in one line at a terminal, else a line each tenth. Of few nothing."""
    at_terminal, last = sys.stderr.isatty(), [0]

    def told(entries: int) -> None:
        tenth = entries * 10 // max(size, 1)
        if size <= _ALONE_MAX or (not at_terminal and tenth <= last[0]):
            return
        last[0] = tenth
        click.echo(f"{entries:,} of {size:,} entries replayed{chr(13) if at_terminal else chr(10)}", err=True, nl=False)

    yield told
    if at_terminal and last[0]:
        click.echo(err=True)

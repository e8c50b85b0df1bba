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
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from remit.node import open_node
from remit.services.history import WHOLE, Share
from remit.services.replay import Replayed, Verified, merged, merged_verified, replay, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableSequence
    from datetime import datetime
    from pathlib import Path

    from remit.node import Node
    from remit.services.history import History

T = TypeVar("T")
_ALONE_MAX = 20_000  # entries that are gone through before another process would have begun
_PROCESSES_MAX = 64
_LOOK_SECONDS = 0.5
_LOOKED: list[MutableSequence[int]] = []  # of a process: where it tells the others how far it is; behind all of them, whether to stop


class _Stopped(Exception):
    """Another process failed: nobody waits for this one any more."""


async def replayed(folder: Path, candidate: Mapping[str, str], *, since: datetime | None, task_type: str, processes: int = 0) -> Replayed:
    """What a candidate would have changed. ``processes``: 0 is one a processor. Raises as ``replay``."""
    return merged(await _shared_out(folder, partial(_by_candidate, dict(candidate), since, task_type), processes))


async def verified(folder: Path, *, processes: int = 0) -> Verified:
    """The whole ledger decided again under the rules of its days. ``processes``: 0 is one a processor. Raises as ``verify``."""
    return merged_verified(await _shared_out(folder, _by_its_day, processes))


async def _by_candidate(
    candidate: Mapping[str, str], since: datetime | None, task_type: str, node: Node, history: History, share: Share
) -> Replayed:
    return await replay(history, candidate, node.rules.rulebook.pinned, since=since, task_type=task_type, share=share)


async def _by_its_day(_: Node, history: History, share: Share) -> Verified:
    return await verify(history, share)


async def _shared_out(folder: Path, work: Callable[[Node, History, Share], Coroutine[Any, Any, T]], processes: int) -> list[T]:
    """What each share comes to. ``work`` goes to other processes."""
    async with open_node(folder) as node:
        history = node.history()
        size = await history.size()
        many = processes or min(os.cpu_count() or 1, _PROCESSES_MAX)
        if size <= _ALONE_MAX or many < 2:
            with progress(size) as history.looked:
                return [await work(node, history, WHOLE)]
    os.environ["PYTHONSAFEPATH"] = "1"  # else the processes would look for their first modules in the folder that somebody stands in
    spawn = multiprocessing.get_context("spawn")
    looked = spawn.RawArray("q", many + 1)
    with ProcessPoolExecutor(many, mp_context=spawn, initializer=_begin, initargs=(looked,)) as pool, progress(size) as told:
        loop = asyncio.get_running_loop()
        shares = [Share(number=number, of=many) for number in range(many)]
        whole = asyncio.gather(*(loop.run_in_executor(pool, _part, folder, work, share) for share in shares))
        try:
            while not (await asyncio.wait([whole], timeout=_LOOK_SECONDS))[0]:
                told(min(looked[:many]))
            parts = await whole
            told(min(looked[:many]))
            return parts
        finally:
            looked[many] = 1
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(looked: MutableSequence[int]) -> None:
    """In a process of its own, at its beginning."""
    _LOOKED.append(looked)


def _part(folder: Path, work: Callable[[Node, History, Share], Coroutine[Any, Any, T]], share: Share) -> T:
    """In a process of its own."""

    def told(entries: int) -> None:
        if _LOOKED[0][share.of]:
            raise _Stopped
        _LOOKED[0][share.number] = entries

    async def done() -> T:
        async with open_node(folder) as node:
            history = node.history()
            history.looked = told
            return await work(node, history, share)

    return asyncio.run(done())


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

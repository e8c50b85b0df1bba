"""``make faults``: the fault run in full size. Prints a line for each kind of trouble; fails where a credential is left."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import scenarios
from tests.faults.parts import Line, seed
from tests.servers.postgres import postgres_target

KILLS = int(os.environ.get("REMIT_LEASE_KILLS", "1000"))
SEEDS = int(os.environ.get("REMIT_LEASE_SEEDS", "2000"))
FULL = (
    (scenarios.kills, KILLS),
    (scenarios.down, 40),
    (scenarios.slow, 40),
    (scenarios.cut, 400),
    (scenarios.read_only, 40),
    (scenarios.no_connections, 40),
    (scenarios.restored, 40),
    (scenarios.store_locked, 40),
    (scenarios.store_full, 100),
    (scenarios.clock_steps, 400),
    (scenarios.owners, 20),
    (scenarios.reconnecting, 10),
    (scenarios.two_nodes, 100),
    (scenarios.below, 2_000),
)


def main() -> int:
    """How many credentials were left."""
    logging.disable(logging.CRITICAL)  # alarms by the hundred are what is wanted here
    left = 0
    with postgres_target() as server, tempfile.TemporaryDirectory() as place:
        for scenario, size in FULL:
            left += _told(asyncio.run(scenario(server, _folder(place, scenario.__name__), size)))
    left += _told(_seeds())
    print(f"orphaned credentials in all: {left}")
    return left


def _seeds() -> Line:
    """The simulator: targets, stores, clocks and crashes from a seed."""
    seen: Counter[str] = Counter()
    wrong = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for counts, lines in pool.imap_unordered(seed, range(SEEDS), 8):
            seen += counts
            wrong += len(lines)
            for line in lines[:3]:
                print(line)
    tried = f"{SEEDS} seeds, {seen['crash']} crashes, {seen['rotated']} rotated"
    return Line(what="the simulator", tried=tried, stood=seen["LeaseIntended"], left=wrong + seen["orphans after reconciliation"])


def _folder(place: str, name: str) -> Path:
    folder = Path(place) / name
    folder.mkdir()
    return folder


_began = time.monotonic()


def _told(line: Line) -> int:
    print(f"{line}  {time.monotonic() - _began:6.0f} s", flush=True)
    return line.left


if __name__ == "__main__":
    sys.exit(1 if main() else 0)

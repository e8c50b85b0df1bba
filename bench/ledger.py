"""The ledger at length: verification against bare SHA-256 over the same entries, proofs, tiles and first pages of lists, short and long."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.common import row
from remit.logic.checkpoint import Checkpoint, Verifier, sign_checkpoint
from remit.logic.merkle import leaf_hash
from remit.logic.tiles import Tile
from remit.services.ledger import Ledger
from remit.services.ledger_search import LedgerSearch, Wanted
from remit.services.verifying import verify_file
from remit.store.database import ALWAYS, Append, ApprovalRow, TaskRow
from remit.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ENTRIES = int(os.environ.get("REMIT_BENCH_ENTRIES", "1000000"))
_SHORT, _AT_ONCE, _RECORDS_A_TASK, _TIMES, _ROUNDS = 1_000, 500, 10, 9, 3
_ORIGIN = "bench.example/ledger"
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


async def main() -> None:
    """Print the figures."""
    print(f"A ledger of {ENTRIES:,} entries against one of {_SHORT:,}, on {os.cpu_count()} processors")
    folder = Path(tempfile.mkdtemp(prefix="remit-bench-"))
    key = Ed25519PrivateKey.generate()
    try:
        short, long = [await _filled(folder / f"{size}.db", key, size) for size in (_SHORT, ENTRIES)]
        await _lists(short, long, Verifier.of(_ORIGIN, key))
        await _verified(folder / "export.txt", long, Verifier.of(_ORIGIN, key))
        await short.close()
        await long.close()
    finally:
        shutil.rmtree(folder)


async def _filled(path: Path, key: Ed25519PrivateKey, size: int) -> SqliteStore:
    store = SqliteStore(path, lambda count, root: sign_checkpoint(Checkpoint(_ORIGIN, count, root), key))
    after = b""
    for begin in range(0, size, _AT_ONCE):
        appends = []
        for number in range(begin, min(begin + _AT_ONCE, size)):
            appends.append(_entry(number, after))
            after = leaf_hash(appends[-1].body) if (number + 1) % _RECORDS_A_TASK else b""
        await asyncio.gather(*map(store.append, appends))
    return store


def _entry(number: int, after: bytes) -> Append:
    """A decision as large as they are; each tenth begins a task that has ended since, and asks a question that has expired."""
    task, seq, at = f"task_{number // _RECORDS_A_TASK:030x}", number % _RECORDS_A_TASK + 1, _BEGIN + timedelta(seconds=number)
    decided = {"decision": f"d_{number:030x}", "agent": "spiffe://remit.local/agent/payer", "outcome": "allow", "tool_kind": "tool"}
    named = {"server": "files", "name": "read_file", "arguments_digest": "sha-256:" + "a" * 43, "effect": "read", "policies": ["reads"]}
    digests = dict.fromkeys(("policy_set", "rulebook", "tool_digest", "resource"), "sha-256:" + "b" * 43)
    told: dict[str, Any] = {**decided, **named, **digests, "sources": [{"kind": "task", "name": "bill", "trusted": True}] * 2}
    record = {"at": at.isoformat().replace("+00:00", "Z"), "body": told, "kind": "call.decided", "seq": seq, "task": task, "v": 1}
    rows: tuple[Any, ...] = ()
    if seq == 1:
        state = "active" if number < _SHORT // 2 else "completed"
        opened = TaskRow(task=task, type="t", agent="a", on_behalf_of="p", state=state, opened_at=at, deadline=at + timedelta(hours=1))
        rows = (opened, ApprovalRow(approval=f"apr_{number:030x}", task=task, state="pending", asked_at=at, expires_at=at))
    body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return Append(body=body, task=task, seq=seq, after=after, rows=rows)


async def _lists(short: SqliteStore, long: SqliteStore, verifier: Verifier) -> None:
    def work(store: SqliteStore) -> dict[str, Callable[[], Awaitable[Any]]]:
        ledger, size = Ledger(store, verifier), _SHORT if store is short else ENTRIES
        return {
            "first page of tasks": lambda: store.tasks(states=(), after="", limit=50),
            "first page of running tasks": lambda: store.tasks(states=("active", "suspended", "pending"), after="", limit=50),
            "first page of open questions": lambda: store.approvals(states=("pending",), limit=50, alive_at=datetime.now(UTC)),
            "first page of the ledger": lambda: LedgerSearch(store).find(Wanted()),
            "an inclusion proof": lambda: ledger.inclusion(size // 3, size),
            "a tile of hashes": lambda: ledger.tile(Tile(level=0, number=1)),
        }

    assert ALWAYS < _BEGIN
    for name, one in work(short).items():
        other = work(long)[name]
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(_TIMES):  # in turns, so that both have the same neighbours
            for call, into in zip((one, other), taken, strict=True):
                begin = time.perf_counter()
                await call()
                into.append(time.perf_counter() - begin)
        first, last = (min(times) * 1e3 for times in taken)
        row(f"{name}: {first:.2f} ms, {last:.2f} ms", f"{last / first:.2f} ×", "≤ 1.50 ×" if name.startswith("first") else "")


async def _verified(path: Path, store: SqliteStore, verifier: Verifier) -> None:
    with path.open("w", encoding="utf-8") as file:
        await Ledger(store, verifier).export(file)
    bare = verifying = processors = float("inf")
    for _ in range(_ROUNDS):  # in turns, so that both have the same neighbours
        bare = min(bare, await _bare(store))
        begin, begin_processors = time.perf_counter(), sum(os.times()[:4])
        with path.open("rb") as lines:
            outcome = verify_file(lines, verifier)
        verifying, processors = min(verifying, time.perf_counter() - begin), min(processors, sum(os.times()[:4]) - begin_processors)
        assert getattr(outcome, "entries", 0) == ENTRIES, outcome
    row("bare SHA-256 over the entries, on one processor", f"{ENTRIES / bare:,.0f}/s")
    row("remit ledger verify", f"{ENTRIES / verifying:,.0f}/s")
    row("verify / bare", f"{bare / verifying:.2f} ×", "≥ 0.30 ×")
    row("of the time that its processors worked", f"{bare / processors:.2f} ×")
    row("most memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


async def _bare(store: SqliteStore) -> float:
    """Seconds to hash every entry, and nothing else."""
    taken, sha256 = 0.0, hashlib.sha256
    for start in range(0, ENTRIES, 1_000):
        bodies = [entry.body for entry in await store.entries(start, 1_000)]
        begin = time.perf_counter()
        for body in bodies:
            sha256(body).digest()
        taken += time.perf_counter() - begin
    return taken

"""What every store must do (``store/database.py``), on SQLite and on PostgreSQL 18. Nothing above may lean on one of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from remit.errors import Mistake, Outage
from remit.logic.checkpoint import Checkpoint, Verifier, open_checkpoint, sign_checkpoint
from remit.logic.merkle import EMPTY_ROOT, kept_at, leaf_hash, root_of, verify_consistency, verify_inclusion
from remit.services.ledger import Ledger
from remit.store.database import (
    Append,
    ApprovalRow,
    ChildRow,
    Given,
    LeaseRow,
    MarkRow,
    SightingRow,
    StaleTask,
    TaintRow,
    TaskRow,
    ValueRow,
)
from remit.store.postgres import PostgresStore
from remit.store.sqlite import SqliteStore
from tests.servers.postgres import postgres
from tests.support import NOW, ORIGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
OPENERS, NEW_FILES = 4, 100
KEY = Ed25519PrivateKey.generate()


def sign(size: int, root: bytes) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), KEY)


@dataclass
class Engine:
    """How to open the same store again and again, as another process or node would."""

    kind: str
    open: Any


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield Engine("sqlite", lambda **options: SqliteStore(tmp_path / "s" / "remit.db", sign, **options))
        return
    url = request.getfixturevalue("server")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP SCHEMA IF EXISTS remit CASCADE")
    yield Engine("postgres", lambda **options: PostgresStore(url, sign, **options))


@contextlib.asynccontextmanager
async def opened(engine: Engine, **options: Any):
    store = engine.open(**options)
    try:
        yield store
    finally:
        await store.close()


def body(number: int) -> bytes:
    return b'{"n":%d}' % number


async def test_an_empty_store_has_an_empty_signed_tree(engine):
    async with opened(engine) as store:
        head = await store.head()
        assert (head.size, head.frontier) == (0, ())
        assert open_checkpoint(head.checkpoint, Verifier.of(ORIGIN, KEY)) == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
        assert await store.entries(0, 10) == ()
        assert await store.task_entries("nobody") == ()
        assert await store.document("sha-256:x") is None
        assert await store.approval("nobody") is None


def test_processes_that_open_a_new_sqlite_file_at_one_time_all_open_it(tmp_path):
    """SQLite refuses one of two that switch a file to WAL at one time, whatever its timeout."""
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(OPENERS)
    openers = [fork.Process(target=_open_new_files, args=(tmp_path, together)) for _ in range(OPENERS)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * OPENERS


def _open_new_files(folder: Path, together: Any) -> None:
    for number in range(NEW_FILES):
        together.wait(60)
        store = SqliteStore(folder / f"{number}.db", sign)
        store._stop()


async def test_entries_keep_their_order_and_bytes(engine):
    async with opened(engine) as store:
        written = [await store.append(Append(body=body(number))) for number in range(20)]
        assert [entry.index for entry in written] == list(range(20))
        assert await store.entries(5, 3) == tuple(written[5:8])
        assert (await store.head()).size == await store.change_mark() == 20
    async with opened(engine) as again:
        assert await again.entries(0, 100) == tuple(written)


@pytest.mark.parametrize("bad", [b"", b"x" * 65_536])
async def test_bodies_are_bounded(engine, bad):
    async with opened(engine) as store:
        with pytest.raises(Mistake):
            await store.append(Append(body=bad))
        await store.append(Append(body=b"x" * 65_535))


async def test_every_checkpoint_signs_what_is_there_and_proofs_hold(engine):
    async with opened(engine) as store:
        ledger = Ledger(store, Verifier.of(ORIGIN, KEY))
        roots = {}
        for number in range(33):
            await store.append(Append(body=body(number)))
            head, _ = await ledger.checkpoint()
            assert head.size == number + 1
            assert head.root == root_of((await store.head()).frontier)
            roots[head.size] = head.root
        for size, index in itertools.product((1, 2, 7, 8, 31, 33), range(33)):
            if index < size:
                path = await ledger.inclusion(index, size)
                assert verify_inclusion(index, size, leaf_hash(body(index)), path, roots[size])
        for old, size in itertools.combinations((1, 2, 3, 8, 21, 32, 33), 2):
            assert verify_consistency(old, size, roots[old], roots[size], await ledger.consistency(old, size))
        index, offset = kept_at((3, 1))
        assert index == 15
        assert len((await store.hashes([index]))[index]) >= offset + 32


async def test_compare_and_swap_on_a_task(engine):
    async with opened(engine) as store:
        first = await store.append(Append(body=body(1), task="t", seq=1))
        second = await store.append(Append(body=body(2), task="t", seq=2, after=first.leaf))
        for stale in (
            Append(body=body(3), task="t", seq=2, after=first.leaf),
            Append(body=body(3), task="t", seq=3, after=first.leaf),
            Append(body=body(3), task="t", seq=4, after=second.leaf),
            Append(body=body(3), task="t", seq=1),
            Append(body=body(3), task="new", seq=2, after=second.leaf),
        ):
            with pytest.raises(StaleTask):
                await store.append(stale)
        assert await store.task_entries("t") == (first, second)
        assert (await store.head()).size == 2


async def test_what_another_process_appended_counts_however_often_one_has_written_oneself(engine):
    async with opened(engine) as one, opened(engine) as two:
        first = await one.append(Append(body=body(1), task="t", seq=1))
        await one.append(Append(body=body(2), task="other", seq=1))
        second = await two.append(Append(body=body(3), task="t", seq=2, after=first.leaf))
        for stale in (Append(body=body(4), task="t", seq=2, after=first.leaf), Append(body=body(4), task="t", seq=3, after=first.leaf)):
            with pytest.raises(StaleTask):
                await one.append(stale)
        third = await one.append(Append(body=body(4), task="t", seq=3, after=second.leaf))
        with pytest.raises(StaleTask):
            await two.append(Append(body=body(5), task="t", seq=3, after=second.leaf))
        fourth = await two.append(Append(body=body(5), task="t", seq=4, after=third.leaf))
        assert await one.task_entries("t") == (first, second, third, fourth)


async def test_what_was_not_committed_counts_for_nothing(tmp_path):
    refusing = False

    def unsteady(size: int, root: bytes) -> str:
        if refusing:
            raise RuntimeError("no checkpoint")
        return sign(size, root)

    async with opened(Engine("sqlite", lambda **options: SqliteStore(tmp_path / "remit.db", unsteady, **options))) as store:
        first = await store.append(Append(body=body(1), task="t", seq=1))
        refusing = True
        with pytest.raises(Outage):
            await store.append(Append(body=body(2), task="t", seq=2, after=first.leaf))
        refusing = False
        with pytest.raises(StaleTask):
            await store.append(Append(body=body(3), task="t", seq=3, after=leaf_hash(body(2))))
        second = await store.append(Append(body=body(4), task="t", seq=2, after=first.leaf))
        assert await store.task_entries("t") == (first, second)


async def test_one_stale_append_leaves_its_neighbours_alone(engine):
    async with opened(engine) as store:
        first = await store.append(Append(body=body(0), task="t", seq=1))
        appends = [Append(body=body(number)) for number in range(10)]
        appends.insert(5, Append(body=body(99), task="t", seq=9, after=first.leaf))
        results = await asyncio.gather(*(store.append(append) for append in appends), return_exceptions=True)
        assert [isinstance(result, StaleTask) for result in results] == [False] * 5 + [True] + [False] * 5
        assert (await store.head()).size == 11


async def test_a_chain_in_one_batch_follows_and_falls_together(engine):
    async with opened(engine) as store:
        leaves = [leaf_hash(body(number)) for number in range(4)]
        chain = [Append(body=body(n), task="t", seq=n + 1, after=leaves[n - 1] if n else b"") for n in range(4)]
        await asyncio.gather(*(store.append(append) for append in chain))
        assert [entry.seq for entry in await store.task_entries("t")] == [1, 2, 3, 4]
        assert [entry.seq for entry in await store.task_entries("t", 1, 2)] == [2, 3]
        assert [entry.seq for entry in await store.task_entries("t", after=2)] == [3, 4]
        ghost = leaf_hash(b"ghost")
        broken = [Append(body=b"a", task="t", seq=5, after=ghost), Append(body=b"b", task="t", seq=6, after=leaf_hash(b"a"))]
        results = await asyncio.gather(*(store.append(append) for append in broken), return_exceptions=True)
        assert all(isinstance(result, StaleTask) for result in results)


async def test_two_nodes_share_one_order(engine):
    async with opened(engine) as one, opened(engine) as two:

        async def write(store, name):
            latest, refused = b"", 0
            for seq in range(1, 26):
                await store.append(Append(body=body(seq)))
                entry = await store.append(Append(body=f"{name}{seq}".encode(), task=name, seq=seq, after=latest))
                latest = entry.leaf
            return refused

        await asyncio.gather(write(one, "a"), write(two, "b"))
        entries = await one.entries(0, 1_000)
        assert [entry.index for entry in entries] == list(range(100))
        assert await two.entries(0, 1_000) == entries
        ledger = Ledger(two, Verifier.of(ORIGIN, KEY))
        head, _ = await ledger.checkpoint()
        assert verify_inclusion(50, 100, entries[50].leaf, await ledger.inclusion(50, 100), head.root)


async def test_two_nodes_race_for_one_task_and_one_wins(engine):
    async with opened(engine) as one, opened(engine) as two:
        first = await one.append(Append(body=b"first", task="t", seq=1))
        rivals = [store.append(Append(body=name, task="t", seq=2, after=first.leaf)) for store, name in ((one, b"1"), (two, b"2"))]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        assert sum(isinstance(result, StaleTask) for result in results) == 1
        assert len(await one.task_entries("t")) == 2


def task_row(number: int, state: str = "active", lasts: int = 60) -> TaskRow:
    opened_at = NOW + timedelta(seconds=number)
    deadline = opened_at + timedelta(seconds=lasts)
    return TaskRow(
        task=f"t{number}", type="pay", agent="spiffe://a/b", on_behalf_of="é", state=state, opened_at=opened_at, deadline=deadline
    )


async def test_projections_follow_their_entries(engine):
    async with opened(engine) as store:
        for number in range(5):
            await store.append(Append(body=body(number), task=f"t{number}", seq=1, rows=(task_row(number),)))
        with pytest.raises(StaleTask):
            await store.append(Append(body=body(9), task="t0", seq=1, rows=(task_row(0, "revoked"),)))
        await store.append(Append(body=body(7), task="t1", seq=2, after=leaf_hash(body(1)), rows=(task_row(1, "completed"),)))
        assert [row.task for row in await store.tasks(states=(), after="", limit=3)] == ["t4", "t3", "t2"]
        assert [row.task for row in await store.tasks(states=(), after="t2", limit=9)] == ["t1", "t0"]
        assert [row.task for row in await store.tasks(states=("active",), after="", limit=9)] == ["t4", "t3", "t2", "t0"]
        assert (await store.tasks(states=("completed",), after="", limit=9)) == (task_row(1, "completed"),)
        assert await store.due_tasks(NOW + timedelta(seconds=62), 9) == ("t0", "t2")
        question = ApprovalRow(approval="apr", task="t0", state="pending", asked_at=NOW, expires_at=NOW + timedelta(minutes=1))
        await store.append(Append(body=body(8), rows=(question,)))
        assert await store.approvals(states=("pending",), limit=9) == (question,)
        assert await store.approval("apr") == question


async def test_documents_and_published_checkpoints(engine):
    async with opened(engine) as store:
        await store.put_document("sha-256:a", "text")
        await store.put_document("sha-256:a", "another text")
        assert await store.document("sha-256:a") == "text"
        notes = []
        for number in range(3):
            await store.append(Append(body=body(number)))
            notes.append(await store.publish_checkpoint())
            await store.publish_checkpoint()
        assert await store.checkpoints(0, 9) == tuple(notes)
        assert await store.checkpoints(1, 1) == (notes[1],)


async def test_sealed_values_and_marks_follow_their_entries(engine):
    async with opened(engine) as store:
        first = await store.append(Append(body=body(1), task="t", seq=1, rows=(ValueRow(decision="d1", sealed=b"\x00one"),)))
        stale = Append(body=body(2), task="t", seq=1, rows=(ValueRow(decision="d2", sealed=b"two"), MarkRow(name="m", number=9, text="x")))
        with pytest.raises(StaleTask):
            await store.append(stale)
        assert await store.values(["d1", "d2", "d3"]) == {"d1": b"\x00one"}
        assert await store.values([]) == {}
        await store.drop_values(["d1", "d9"])
        await store.drop_values([])
        assert await store.values(["d1", "d2"]) == {}
        assert await store.mark("m") is None
        marks = [MarkRow(name="m", number=number, text=f"at {number}") for number in (2, 5, 3, 5)]
        for number, mark in enumerate(marks):
            row = replace(mark, text="a second five") if number == 3 else mark
            await store.append(Append(body=body(number), rows=(row,)))
        assert await store.mark("m") == MarkRow(name="m", number=5, text="at 5")
        await store.append(Append(body=body(3), task="t", seq=2, after=first.leaf, rows=(ValueRow(decision="d2", sealed=b"two"),)))
    async with opened(engine) as again:
        assert (await again.values(["d2"]), await again.mark("m")) == ({"d2": b"two"}, MarkRow(name="m", number=5, text="at 5"))


async def test_a_change_wakes_who_waits_and_a_wait_ends(engine):
    async with opened(engine) as one, opened(engine) as two:
        mark = await one.change_mark()
        assert await one.wait_for_change(mark, 0.2) == mark
        waiting = asyncio.create_task(one.wait_for_change(mark, 20))
        await two.append(Append(body=b"x"))
        assert await waiting == mark + 1


async def test_one_looks_for_all_who_wait(engine, monkeypatch):
    async with opened(engine) as one, opened(engine) as two:
        mark, reads, read = await one.change_mark(), 0, one._read
        waits = [asyncio.create_task(one.wait_for_change(mark, 20)) for _ in range(50)]
        given_up = asyncio.create_task(one.wait_for_change(mark, 20))
        while len(one._changes._waiting) < 51:
            await asyncio.sleep(0)
        assert await one.wait_for_change(mark, 0.2) == mark  # by now each of them has looked
        given_up.cancel()

        async def counted(work):
            nonlocal reads
            reads += 1
            return await read(work)

        monkeypatch.setattr(one, "_read", counted)
        await two.append(Append(body=b"x"))
        assert await asyncio.gather(*waits) == [mark + 1] * 50
        assert reads <= 10
        assert not one._changes._waiting


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_postgresql_wakes_who_waits(engine):
    """With the connection that listens cut, and while it is away, the look that stands behind it still finds the change."""
    async with opened(engine) as one, opened(engine) as two:
        with psycopg.connect(one._url, autocommit=True) as other:
            other.execute("LISTEN remit_ledger")
            await two.append(Append(body=b"x"))
            assert [told.payload for told in other.notifies(timeout=20, stop_after=1)] == ["1"]
            waiting = asyncio.create_task(one.wait_for_change(1, 20))
            while one._listening is None:
                await asyncio.sleep(0.01)
            other.execute("SELECT pg_terminate_backend(%s)", (one._listening.info.backend_pid,))
            await two.append(Append(body=b"y"))
            assert await waiting == 2
    assert one._listening is None


async def test_a_full_queue_is_an_outage_and_a_closed_store_too(engine):
    async with opened(engine, queue_limit=2) as store:
        results = await asyncio.gather(*(store.append(Append(body=body(n))) for n in range(200)), return_exceptions=True)
        assert any(isinstance(result, Outage) for result in results)
        written = sum(not isinstance(result, Exception) for result in results)
        assert (await store.head()).size == written
    with pytest.raises(Outage):
        await store.append(Append(body=b"x"))
    with pytest.raises(Outage):
        await store.head()
    await store.close()


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_store_goes_on_after_its_connections_were_cut(engine):
    async with opened(engine) as store:
        await store.append(Append(body=b"before"))
        with psycopg.connect(store._url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        with contextlib.suppress(Outage):
            await store.append(Append(body=b"during"))
        for _ in range(3):
            with contextlib.suppress(Outage):
                await store.head()
        await store.append(Append(body=b"after"))
        entries = await store.entries(0, 10)
        assert entries[0].body == b"before"
        assert entries[-1].body == b"after"


async def test_documents_under_keys_are_listed_and_forgotten(engine):
    async with opened(engine) as store:
        for key in ("question/b", "question/a", "question/a/told/x", "sha-256:q", "Question/z"):
            await store.put_document(key, key)
        assert await store.document_keys("question/", "", 9) == ("question/a", "question/a/told/x", "question/b")
        assert await store.document_keys("question/", "question/a", 1) == ("question/a/told/x",)
        await store.drop_document("question/a")
        await store.drop_document("question/a")
        assert await store.document("question/a") is None
        assert await store.document("sha-256:q") == "sha-256:q"


async def test_approvals_that_have_expired_do_not_hide_those_that_wait(engine):
    async with opened(engine) as store:
        rows = [
            ApprovalRow(approval=f"apr{number}", task="t0", state="pending", asked_at=NOW, expires_at=NOW + timedelta(minutes=number))
            for number in range(3)
        ]
        await store.append(Append(body=body(1), rows=tuple(rows)))
        assert await store.approvals(states=("pending",), limit=1, alive_at=NOW + timedelta(minutes=1)) == (rows[2],)
        longer = ApprovalRow(approval="apr0", task="t0", state="granted", asked_at=NOW, expires_at=NOW + timedelta(hours=1))
        await store.append(Append(body=body(2), rows=(longer,)))
        assert await store.approval("apr0") == longer


async def test_sightings_and_marks_come_with_their_entry_or_not_at_all(engine):
    async with opened(engine) as store, opened(engine) as other:
        first = await store.append(
            Append(
                body=body(1),
                task="t",
                seq=1,
                rows=(SightingRow(task="t", number=1, data=b"\x00one"), TaintRow(server="s", key=b"k" * 8, task="t")),
            )
        )
        lost = Append(
            body=body(2),
            task="t",
            seq=2,
            after=b"x" * 32,
            rows=(SightingRow(task="t", number=2, data=b"lost"), TaintRow(server="s", key=b"l" * 8, task="t")),
        )
        with pytest.raises(StaleTask):
            await other.append(lost)
        again = TaintRow(server="s", key=b"k" * 8, task="t")
        rows = (SightingRow(task="t", number=2, data=b"two"), again)
        await other.append(Append(body=body(3), task="t", seq=2, after=first.leaf, rows=rows))
        assert [(row.number, row.data) for row in await store.sightings("t", 0)] == [(1, b"\x00one"), (2, b"two")]
        assert [row.number for row in await store.sightings("t", 1)] == [2]
        assert await store.sightings("unknown", 0) == ()
        assert await store.tainted("s", [b"k" * 8, b"l" * 8]) == {b"k" * 8}
        assert await store.tainted("s", []) == frozenset()
        assert await store.tainted("elsewhere", [b"k" * 8]) == frozenset()
        for _ in range(2):
            await store.drop_sightings("t")
        assert await other.sightings("t", 0) == ()
        assert await other.tainted("s", [b"k" * 8]) == {b"k" * 8}, "a mark outlives the task that left it"


def lease_row(number: int, **changes: Any) -> LeaseRow:
    made = LeaseRow(
        lease=f"lease_{number}",
        task="t",
        agent="a",
        target="orders",
        state="issued",
        expires_at=NOW + timedelta(minutes=5),
        due_at=NOW + timedelta(seconds=number),
        sealed=f"sealed {number}",
    )
    return replace(made, **changes)


async def test_leases_are_found_when_they_are_due_and_only_then(engine):
    async with opened(engine) as store:
        rows = tuple(lease_row(number, target="orders" if number % 2 else "mail") for number in range(6))
        await store.append(Append(body=body(1), rows=rows))
        later = NOW + timedelta(seconds=3)
        assert await store.due_leases("orders", later, 9) == (rows[1], rows[3])
        assert await store.due_leases("orders", later, 1) == (rows[1],)
        assert await store.due_leases("nowhere", later, 9) == ()
        assert await store.live_leases("", "lease_3", 9) == rows[4:]
        assert await store.live_leases("mail", "", 2) == (rows[0], rows[2])
        assert await store.lease_targets() == ("mail", "orders")
        assert await store.lease_counts("a", "mail", 9) == (6, 3)
        assert await store.lease_counts("a", "mail", 2) == (2, 2)
        gone = tuple(lease_row(number, target="mail", state="revoked", sealed="") for number in (0, 2, 4))
        await store.append(Append(body=body(2), rows=gone))
        assert await store.lease_targets() == ("orders",)
        assert await store.lease_counts("a", "mail", 9) == (3, 0)
        assert await store.live_leases("", "", 9) == (rows[1], rows[3], rows[5])
        assert await store.lease("lease_0") == gone[0]
        assert await store.lease("lease_9") is None


async def test_a_credential_stays_sealed_with_its_lease_until_that_is_revoked(engine):
    async with opened(engine) as store:
        for number, (state, sealed) in enumerate(
            (("intended", ""), ("issued", "one"), ("revoking", ""), ("stuck", ""), ("revoked", "two"))
        ):
            await store.append(Append(body=body(number), rows=(lease_row(1, state=state, sealed=sealed),)))
            row = await store.lease("lease_1")
            assert row is not None
            assert (row.state, row.sealed) == (state, {"intended": "", "revoked": ""}.get(state, "one"))
        assert "a credential" not in repr(lease_row(1, sealed="a credential"))


async def test_of_several_who_claim_a_lease_one_gets_it(engine):
    async with opened(engine) as one, opened(engine) as two:
        row = lease_row(1)
        await one.append(Append(body=body(1), rows=(row,)))
        until = NOW + timedelta(minutes=1)
        tries = await asyncio.gather(*(store.claim_lease("lease_1", row.due_at, until) for store in (one, two) for _ in range(4)))
        assert sum(tries) == 1
        assert await one.due_leases("orders", NOW + timedelta(seconds=30), 9) == ()
        assert await two.claim_lease("lease_1", until, NOW) is True
        assert await two.claim_lease("lease_2", until, NOW) is False
        await one.append(Append(body=body(2), rows=(replace(row, state="revoked"),)))
        assert await one.claim_lease("lease_1", row.due_at, until) is False


async def test_an_append_holds_only_while_its_marks_are_as_they_were_seen(engine):
    async with opened(engine) as one, opened(engine) as two:
        await one.append(Append(body=body(1), given=(Given(name="m", number=0),), rows=(MarkRow(name="m", number=3, text="x"),)))
        for number in (0, 2, 4):
            with pytest.raises(StaleTask) as stale:
                await two.append(Append(body=body(2), task="t", seq=1, given=(Given(name="n", number=0), Given(name="m", number=number))))
            assert stale.value.code == "stale_mark"
        await two.append(Append(body=body(3), task="t", seq=1, given=(Given(name="n", number=0), Given(name="m", number=3))))
        assert (await one.head()).size == 2


async def test_a_mark_that_is_raised_in_the_same_batch_counts_at_once(engine):
    async with opened(engine) as store:
        given = (Given(name="m", number=1),)
        await store.append(Append(body=body(0), rows=(MarkRow(name="m", number=1, text=""),)))
        appends = [
            Append(body=body(1), given=given),
            Append(body=body(2), given=given, rows=(MarkRow(name="m", number=2, text=""),)),
            Append(body=body(3), given=given),
            Append(body=body(4), given=(Given(name="m", number=2),)),
        ]
        results = await asyncio.gather(*(store.append(append) for append in appends), return_exceptions=True)
        assert [isinstance(result, StaleTask) for result in results] == [False, False, True, False]


async def test_a_mark_raised_on_one_node_stops_the_other_s_appends(engine):
    """Whatever the order: of the appends that stand before the mark all hold, after it none."""
    async with opened(engine) as one, opened(engine) as two:

        async def decide(number):
            with contextlib.suppress(StaleTask):
                return (await two.append(Append(body=body(number), given=(Given(name="m", number=0),)))).index
            return None

        async def stop():
            await asyncio.sleep(0.01)
            return (await one.append(Append(body=b"stop", rows=(MarkRow(name="m", number=1, text=""),)))).index

        async def decide_on():
            return [await decide(number) for number in range(60)]

        stopped, indexes = await asyncio.gather(stop(), decide_on())
        assert all(index < stopped for index in indexes if index is not None)
        assert indexes[-1] is None or stopped > indexes[-1]
        assert await decide(99) is None


async def test_appends_that_go_together_are_written_together_or_not_at_all(engine):
    async with opened(engine) as store:
        first = await store.append(Append(body=body(1), task="t", seq=1))
        leaf = leaf_hash(body(3))
        also = (
            Append(body=body(3), task="child", seq=1, rows=(ChildRow(task="child", parent="t"),)),
            Append(body=body(4), task="child", seq=2, after=leaf),
        )
        together = Append(body=body(2), task="t", seq=2, after=first.leaf, also=also)
        broken = structs.replace(together, also=(*also[:1], Append(body=body(4), task="child", seq=2, after=b"?" * 32)))
        for refused in (broken, structs.replace(together, after=b"?" * 32), structs.replace(together, given=(Given(name="m", number=1),))):
            with pytest.raises(StaleTask):
                await store.append(refused)
        with pytest.raises(Mistake):
            await store.append(structs.replace(together, also=(Append(body=b""),)))
        assert await store.children("t", 10) == ()
        results = await asyncio.gather(store.append(together), store.append(together), return_exceptions=True)
        assert isinstance(results[1], StaleTask)
        assert [entry.seq for entry in await store.task_entries("child")] == [1, 2]
        assert [entry.index for entry in await store.task_entries("t")] == [0, 1]
        assert (await store.head()).size == 4
        ledger = Ledger(store, Verifier.of(ORIGIN, KEY))
        head, _ = await ledger.checkpoint()
        for index, number in enumerate((1, 2, 3, 4)):
            assert verify_inclusion(index, 4, leaf_hash(body(number)), await ledger.inclusion(index, 4), head.root)


async def test_a_checkpoint_keeps_the_note_with_the_most_cosignatures(engine):
    async with opened(engine) as store:
        assert await store.cosigned() is None
        await store.append(Append(body=body(1)))
        first = await store.publish_checkpoint()
        await store.keep_cosigned(1, first + "two\n", 2)
        await store.keep_cosigned(1, first + "one\n", 1)
        await store.keep_cosigned(7, "never published\n", 3)
        assert await store.cosigned() == first + "two\n"
        await store.append(Append(body=body(2)))
        second = await store.publish_checkpoint()
        assert await store.cosigned() == first + "two\n", "the latest that a witness cosigned"
        await store.keep_cosigned(2, second + "one\n", 1)
        assert await store.cosigned() == second + "one\n"
        assert await store.checkpoints(0, 10) == (first + "two\n", second + "one\n")


async def test_what_is_left_to_do_below_an_end(engine):
    async with opened(engine) as store:
        states = {"root": "active", "a": "active", "b": "active", "below": "active"}
        above = {"a": "root", "b": "root", "below": "a"}

        async def put(*names):
            for name in names:
                row = replace(task_row(1, states[name]), task=name, agent=f"spiffe://a/{name}")
                child = (ChildRow(task=name, parent=above[name]),) if name in above else ()
                await store.append(Append(body=name.encode(), rows=(row, *child)))

        async def left():
            return [
                (one.task, one.parent, one.ended, one.parent_ended) for one in sorted(await store.unsettled(10), key=lambda one: one.task)
            ]

        await put(*states)
        assert await left() == []
        assert await store.children("root", 10) == ("a", "b")
        assert sorted(await store.living_tasks(["spiffe://a/a", "spiffe://a/root"], 10)) == ["a", "root"]
        assert len(await store.living_tasks(["*"], 10)) == 4
        states["a"] = "active"
        for name in states:
            await store.append(Append(body=b"lease", rows=(lease_row(1, lease=f"lease_{name}", task=name),)))
        assert await store.leases_below_suspended(10) == ()
        states["root"] = "suspended"
        await put("root")
        assert {row.task for row in await store.leases_below_suspended(10)} == {"a", "b", "below"}, "at whatever distance, and not its own"
        assert len(await store.leases_below_suspended(2)) == 2
        for state, name in (("revoking", "a"), ("revoked", "b")):
            await store.append(Append(body=b"lease", rows=(lease_row(1, lease=f"lease_{name}", task=name, state=state),)))
        assert [row.lease for row in await store.leases_below_suspended(10)] == ["lease_below"], "what goes already is left alone"
        states["root"] = "active"
        await put("root")
        assert await store.leases_below_suspended(10) == ()
        states["a"] = "completed"
        await put("a")
        assert await left() == [("below", "a", False, True)], "what is below first"
        states["below"] = "revoked"
        await put("below")
        assert await left() == [("below", "a", True, True)]
        await store.append(Append(body=b"settled", rows=(ChildRow(task="below", parent="a", settled=True),)))
        assert await left() == [("a", "root", True, False)]
        await put("below")
        assert await left() == [("a", "root", True, False)], "settled stays settled"
        assert await store.living_tasks(["spiffe://a/a"], 10) == ()

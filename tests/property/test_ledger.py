"""The ledger's tree, its signed heads, and what verification finds in an export that somebody changed."""

from __future__ import annotations

import base64
import hashlib
import io

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.errors import Mistake
from remit.logic import audit
from remit.logic.audit import Tampered, Verified, verify_export
from remit.logic.checkpoint import Checkpoint, Verifier, open_checkpoint, open_note, sign_checkpoint
from remit.logic.merkle import (
    completed,
    consistency_plan,
    extended,
    inclusion_plan,
    kept_at,
    leaf_hash,
    leaf_hashes,
    node_hash,
    proof,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from remit.services import verifying
from remit.services.verifying import verify_file
from tests.support import World, call, grant

VECTORS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def grown(bodies):
    """The tree as the store grows it: frontier after each entry, and all kept hashes by row."""
    frontier, rows = (), {}
    for size, data in enumerate(bodies):
        frontier, hashes = completed(frontier, size, leaf_hash(data))
        rows[size] = b"".join(hashes)
    return frontier, rows


def naive_root(bodies):
    """RFC 6962 §2.1 as it is written."""
    if not bodies:
        return hashlib.sha256(b"").digest()
    if len(bodies) == 1:
        return leaf_hash(bodies[0])
    half = 1 << ((len(bodies) - 1).bit_length() - 1)
    return node_hash(naive_root(bodies[:half]), naive_root(bodies[half:]))


@pytest.mark.parametrize("size", ROOTS)
def test_published_roots(size):
    frontier, _ = grown([bytes.fromhex(text) for text in VECTORS[:size]])
    assert root_of(frontier).hex() == ROOTS[size]


def prove(plan, rows):
    nodes = {}
    for node in {node for part in plan for node in part}:
        row, offset = kept_at(node)
        nodes[node] = rows[row][offset : offset + 32]
    return proof(plan, nodes)


@settings(max_examples=60)
@given(st.integers(1, 90), st.data())
def test_proofs_hold_and_nothing_else_does(size, data):
    bodies = [b"%d" % number for number in range(size)]
    frontier, rows = grown(bodies)
    root = root_of(frontier)
    assert root == naive_root(bodies)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = prove(inclusion_plan(index, size), rows)
    assert len(path) <= (size - 1).bit_length()
    assert verify_inclusion(index, size, leaf_hash(bodies[index]), path, root)
    old_root = naive_root(bodies[:old])
    step = prove(consistency_plan(old, size), rows)
    assert verify_consistency(old, size, old_root, root, step)
    other = hashlib.sha256(b"other").digest()
    assert not verify_inclusion(index, size, other, path, root)
    assert not verify_inclusion(index, size, leaf_hash(bodies[index]), (*path, other), root)
    assert not verify_consistency(old, size, other, root, step)
    assert not verify_consistency(old, size, old_root, root, (*step, other))
    for position in range(len(path)):
        assert not verify_inclusion(index, size, leaf_hash(bodies[index]), (*path[:position], other, *path[position + 1 :]), root)


def test_the_published_signed_note():
    verifier = Verifier.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    signature = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
    note = f"This is an example message.\n\n— example.com/foo {signature}\n"
    assert open_note(note, verifier) == "This is an example message.\n"
    assert str(verifier) == "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


def test_the_worked_checkpoint():
    """Seed 00..1f, three entries: the note of the worked example, a foreign witness's line passed over."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    frontier, _ = grown([b"entry-0", b"entry-1", b"entry-2"])
    note = sign_checkpoint(Checkpoint("log.example/audit", 3, root_of(frontier)), key)
    assert "pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs=" in note
    assert "hmF9NqfY30ofoVQb3muJ9vwpa+1huPE1sxLgElXqwTfofGS8H7b1HrESvKhs8ik1O/+rdkOgbboqaWsDzEypLXdXsw0=" in note
    verifier = Verifier.parse("log.example/audit+86617d36+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4")
    witness = (
        "— witness.example/w1 IDJKvgAAAABpVbkAZS3WrOmmcB7OqDh+5PQsAqV+9QNwtYO9I9ihzjR6y2ohH2G0IBTvEH7ieaUm2l26V9rAY6dNU1o6Brer1xq+DA==\n"
    )
    assert open_checkpoint(note + witness, verifier) == Checkpoint("log.example/audit", 3, root_of(frontier))


KEY = Ed25519PrivateKey.generate()
VERIFIER = Verifier.of("o", KEY)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: note.replace("\n5\n", "\n05\n"),
        lambda note: note.replace("\n5\n", "\n6\n"),
        lambda note: note.replace("o\n5", "p\n5"),
        lambda note: note[:-2] + "\n",
        lambda note: note.rstrip("\n"),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note + "x\n",
        lambda note: "\x00" + note,
        lambda note: note * 500,
        lambda _: "",
    ],
)
def test_a_spoilt_checkpoint_is_refused(spoil):
    note = sign_checkpoint(Checkpoint("o", 5, b"r" * 32), KEY)
    with pytest.raises(Mistake):
        open_checkpoint(spoil(note), VERIFIER)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A real ledger: tasks, decisions, several published heads."""

    async def make():
        world = World(tmp_path_factory.mktemp("ledger") / "remit.db")
        for _ in range(4):
            task = await world.open(grant(), grant("mail/read"))
            for wanted in (call(to="bob", amount=5), call(to="bob", amount=50), call("mail/read")):
                await world.mediation.authorize(world.bearer(task), wanted)
            await world.ledger.publish()
        file = io.StringIO()
        await world.ledger.export(file)
        await world.close()
        return file.getvalue().splitlines(), world.ledger.verifier

    return anyio.run(make)


def entry_lines(lines):
    return [number for number, line in enumerate(lines) if line.startswith("entry ")]


def test_an_export_verifies(exported):
    lines, verifier = exported
    outcome = verify_export(lines, verifier)
    assert isinstance(outcome, Verified)
    assert (outcome.entries, outcome.checkpoints) == (20, 4)


def rewritten(body: bytes) -> list[str]:
    """Leaf and entry lines as somebody without the key would forge them."""
    return [f"leaf {base64.b64encode(leaf_hash(body)).decode()}", f"entry {base64.b64encode(body).decode()}"]


@settings(max_examples=60)
@given(st.data())
def test_a_changed_entry_is_named(exported, data):
    lines, verifier = exported
    index = data.draw(st.integers(0, 19))
    number = entry_lines(lines)[index]
    body = bytearray(base64.b64decode(lines[number].split()[1]))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    found = verify_export([*lines[:number], rewritten(bytes(body))[1], *lines[number + 1 :]], verifier)
    assert isinstance(found, Tampered)
    assert found.first == found.last == index


@pytest.mark.parametrize("index", range(20))
def test_a_forged_entry_is_found_within_its_checkpoint(exported, index):
    """The attacker rewrites the leaf line as well: then only the signed head can tell, and its range is named."""
    lines, verifier = exported
    number = entry_lines(lines)[index]
    body = base64.b64decode(lines[number].split()[1]).replace(b'"v":1', b'"v":2')
    found = verify_export([*lines[: number - 1], *rewritten(body), *lines[number + 1 :]], verifier)
    assert isinstance(found, Tampered)
    assert found.first <= index <= found.last
    assert found.last - found.first < 5


@pytest.mark.parametrize("index", range(20))
def test_a_removed_an_inserted_and_a_swapped_entry_is_named(exported, index):
    lines, verifier = exported
    number = entry_lines(lines)[index]
    removed = verify_export([*lines[: number - 1], *lines[number + 1 :]], verifier)
    doubled = verify_export([*lines[: number + 1], *lines[number - 1 :]], verifier)
    for found in (removed, doubled):
        assert isinstance(found, Tampered)
        assert found.first <= index + 1
        assert index <= found.last + 1
    if index < 19 and lines[number + 1].startswith("leaf"):
        swapped = verify_export(
            [*lines[: number - 1], *lines[number + 1 : number + 3], *lines[number - 1 : number + 1], *lines[number + 3 :]], verifier
        )
        assert isinstance(swapped, Tampered)
        assert swapped.first in {index, index + 1}


def carried(line: bytes) -> object:
    """What a line says: base64 has spare bits at its end, which say nothing."""
    kind, _, encoded = line.partition(b" ")
    try:
        return kind, base64.b64decode(encoded, validate=True)
    except ValueError:
        return line


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_is_verified_in_blocks_to_the_same_end(exported, monkeypatch, data):
    """Whatever one byte of it becomes, wherever it is cut into blocks; and line by line it is the same."""
    lines, verifier = exported
    text = bytearray(("\n".join(lines) + "\n").encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(0, 255))
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", data.draw(st.sampled_from([1, 50, 700, 3_000, 1_000_000])))
    whole = verify_file(io.BytesIO(bytes(text)), verifier, processes=1)
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", 1 << 30)
    assert whole == verify_file(io.BytesIO(bytes(text)), verifier, processes=1)
    said = [carried(line) for line in bytes(text).rstrip(b"\n").split(b"\n")]
    assert isinstance(whole, Verified) == (said == [carried(line.encode()) for line in lines])


def test_several_processes_verify_a_file_to_the_same_end(exported, monkeypatch):
    lines, verifier = exported
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", 700)
    monkeypatch.setattr(verifying, "_BLOCKS_ALONE_MAX", 1)
    monkeypatch.setattr(verifying, "_BLOCKS_AT_ONCE", 2)
    text = ("\n".join(lines) + "\n").encode()
    assert verify_file(io.BytesIO(text), verifier, processes=2) == verify_export(lines, verifier)
    number = entry_lines(lines)[17]
    broken = "\n".join([*lines[:number], lines[number].replace("A", "B"), *lines[number + 1 :]]).encode()
    found = verify_file(io.BytesIO(broken), verifier, processes=2)
    assert isinstance(found, Tampered)
    assert found.first == found.last == 17


@pytest.mark.parametrize(
    "text", [b"", b"x" * 3_000_000, b"remit-ledger/1\n" + b"leaf " + b"A" * 3_000_000, b"remit-ledger/1\n" + b"\n" * 1_000_000]
)
def test_a_file_that_is_none_is_refused_soon(exported, text):
    file = io.BytesIO(text)
    assert isinstance(verify_file(file, exported[1], processes=1), Tampered)
    assert file.tell() < 1_000_000


def test_of_a_sea_of_tasks_the_oldest_are_no_longer_counted(exported, monkeypatch):
    lines, verifier = exported
    monkeypatch.setattr(audit, "_TASKS_MAX", 1)
    monkeypatch.setattr(audit, "_LINES_AT_ONCE", 2)
    assert isinstance(verify_export(lines, verifier), Verified)


@given(st.lists(st.binary(max_size=3), max_size=70), st.integers(0, 70))
def test_many_leaves_at_once_are_the_same_tree(entries, cut):
    frontier, _ = grown(entries)
    first, _ = grown(entries[:cut])
    size = len(entries[:cut])
    assert extended(first, size, b"".join(leaf_hashes(entries[cut:]))) == frontier


def test_a_cut_end_and_other_damage(exported):
    lines, verifier = exported
    assert isinstance(verify_export(lines[:-1], verifier), Tampered)
    assert isinstance(verify_export([], verifier), Tampered)
    assert isinstance(verify_export(["something else"], verifier), Tampered)
    assert isinstance(verify_export([*lines, "leaf AAAA"], verifier), Tampered)
    assert isinstance(verify_export([*lines, "rubbish"], verifier), Tampered)
    assert isinstance(verify_export(lines, Verifier.of(verifier.name, KEY)), Tampered)
    # cut behind an older checkpoint: only who kept a later one can tell (SECURITY.md)
    second = [number for number, line in enumerate(lines) if line.startswith("checkpoint ")][1]
    shorter = verify_export(lines[: second + 1], verifier)
    assert isinstance(shorter, Verified)
    assert shorter.entries == 10

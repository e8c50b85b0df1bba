"""The log as C2SP tlog-tiles and tlog-cosignature show it, held against another implementation of the tree (pymerkle) and the specs."""

from __future__ import annotations

import base64

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InclusionProof, InmemoryTree, verify_inclusion
from pymerkle.core import _inclusion_path_layout

from remit.errors import Mistake, NotFound
from remit.logic.checkpoint import Checkpoint, Verifier, open_checkpoint, sign_checkpoint
from remit.logic.cosignature import WitnessKey, cosignatures, cosigned, cosigned_message, known_size
from remit.logic.merkle import leaf_hash, node_hash, root_of, verify_consistency
from remit.logic.tiles import TILE_WIDTH, Tile, bundled, parse_bundle, parse_tile
from remit.services.ledger import Ledger
from remit.store.database import Append
from remit.store.sqlite import SqliteStore
from tests.support import ORIGIN

KEY, WITNESS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
VKEY = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
LINE = "— witness.example/w1 IDJKvgAAAABpVbkAZS3WrOmmcB7OqDh+5PQsAqV+9QNwtYO9I9ihzjR6y2ohH2G0IBTvEH7ieaUm2l26V9rAY6dNU1o6Brer1xq+DA=="
HEAD = "log.example/audit\n3\npkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs=\n"
SIZE = 600  # two full tiles and a part


class Counting(SqliteStore):
    """A store that counts what is read of it."""

    hashes_read = entries_read = 0

    async def hashes(self, indexes):
        self.hashes_read += len(indexes)
        return await super().hashes(indexes)

    async def entries(self, start, limit):
        self.entries_read += limit
        return await super().entries(start, limit)


def bodies(size=SIZE):
    return [b"entry %d" % number for number in range(size)]


async def filled(path):
    store = Counting(path, lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), KEY))
    for body in bodies():
        await store.append(Append(body=body))
    return store, Ledger(store, Verifier.of(ORIGIN, KEY))


def with_log(folder, work):
    """Run something on one log of SIZE entries, made once a module."""

    async def run():
        store = Counting(folder / "remit.db", lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), KEY))
        try:
            return await work(store, Ledger(store, Verifier.of(ORIGIN, KEY)))
        finally:
            await store.close()

    return anyio.run(run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("log")

    async def fill():
        store, _ = await filled(made / "remit.db")
        await store.close()

    anyio.run(fill)
    return made


@pytest.fixture(scope="module")
def other():
    """The same log as another implementation grows it."""
    tree = InmemoryTree(algorithm="sha256")
    for body in bodies():
        tree.append_entry(body)
    return tree


def test_the_whole_log_is_rebuilt_from_its_tiles_as_another_implementation_has_it(folder, other):
    async def work(store, ledger):
        hashes, found = [], []
        for number, width in ((0, 256), (1, 256), (2, SIZE % TILE_WIDTH)):
            data = await ledger.tile(Tile(level=0, number=number, width=width))
            hashes += [data[place : place + 32] for place in range(0, len(data), 32)]
            bundle = await ledger.bundle(Tile(level=0, number=number, width=width))
            while bundle:
                length = int.from_bytes(bundle[:2], "big")
                found.append(bundle[2 : 2 + length])
                bundle = bundle[2 + length :]
        above = await ledger.tile(parse_tile("1/000.p/2"))
        head, _ = await ledger.checkpoint()
        return hashes, found, above, head

    hashes, found, above, head = with_log(folder, work)
    assert found == bodies()
    assert hashes == [leaf_hash(body) for body in bodies()]
    assert head.root == other.get_root()
    assert above == other.get_root(256) + root_of([_perfect(hashes[256:512])])


def _perfect(hashes):
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_our_proofs_hold_for_another_implementation_and_cost_the_logarithm(folder, other, data):
    size = data.draw(st.integers(1, SIZE))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))

    async def work(store, ledger):
        path = await ledger.inclusion(index, size)
        read = store.hashes_read
        step = await ledger.consistency(old, size)
        return path, read, step, store.hashes_read - read, store.entries_read

    path, read, step, more, entries = with_log(folder, work)
    levels = size.bit_length()
    assert read <= 2 * levels, "each sibling is one subtree, but the last may be made of several"
    assert more <= 2 * levels
    assert entries == 0
    rule, _ = _inclusion_path_layout(index + 1, size)
    leaf = leaf_hash(bodies()[index])
    proof = InclusionProof("sha256", True, size, index + 1, rule, [leaf, *path])
    verify_inclusion(leaf, other.get_root(size), proof, index=index + 1, size=size)
    assert list(path) == other.prove_inclusion(index + 1, size).path[1:]
    assert verify_consistency(old, size, other.get_root(old), other.get_root(size), step)


def test_what_the_log_does_not_have_is_not_there(folder):
    async def work(store, ledger):
        gone = [
            Tile(level=0, number=2),
            Tile(level=0, number=2, width=SIZE % TILE_WIDTH + 1),
            Tile(level=0, number=3, width=1),
            Tile(level=1, number=0, width=3),
            Tile(level=2, number=0, width=1),
            Tile(level=63, number=0, width=1),
            Tile(level=0, number=10**17, width=1),
        ]
        for tile in gone:
            with pytest.raises(NotFound):
                await ledger.tile(tile)
        with pytest.raises(NotFound):
            await ledger.bundle(gone[1])
        return store.hashes_read + store.entries_read

    assert with_log(folder, work) == 0


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("0/000", Tile(level=0, number=0)),
        ("0/005", Tile(level=0, number=5)),
        ("1/x001/x234/067", Tile(level=1, number=1_234_067)),
        ("63/x001/000.p/255", Tile(level=63, number=1_000, width=255)),
        ("0/273.p/112", Tile(level=0, number=273, width=112)),
    ],
)
def test_paths_as_the_specification_writes_them(path, tile):
    assert parse_tile(path) == tile
    if tile.level == 0:
        assert parse_bundle(path.partition("/")[2]) == tile


@pytest.mark.parametrize(
    "path",
    [
        *("", "0", "0/", "0/5", "0/0005", "00/000", "64/000", "-1/000", "0/x000/005", "0/001/002", "0/x01/002", "a/000", "0/000/"),
        *("0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p/1/", "0/000.p/999", "0/٠٠٠", "entries/000", "0/000\n"),
        "0/" + "x001/" * 6 + "000",
        "0/" + "x001/" * 50_000 + "000",
    ],
)
def test_other_paths_name_no_tile(path):
    with pytest.raises(NotFound):
        parse_tile(path)


def test_a_bundle_is_what_the_worked_example_says():
    assert bundled([b"entry-0", b"entry-1", b"entry-2"]).hex() == "0007656e7472792d300007656e7472792d310007656e7472792d32"


def test_the_worked_cosignature():
    witness = WitnessKey.parse(VKEY)
    assert str(witness) == VKEY
    assert witness.time_of(HEAD, LINE) == 1_767_225_600
    note = HEAD + "\n— log.example/audit hmF9NqfY\n"
    assert cosignatures(cosigned(note, witness, f"— other AAAAAAAA\n{LINE}\n"), [witness]) == {"witness.example/w1": 1_767_225_600}


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_other_cosignature_counts(place, change):
    witness = WitnessKey.parse(VKEY)
    name, encoded = LINE.split(" ")[1:]
    blob = bytearray(base64.b64decode(encoded))
    blob[place % len(blob)] ^= change
    assert witness.time_of(HEAD, f"— {name} {base64.b64encode(bytes(blob)).decode()}") is None
    assert witness.time_of(HEAD.replace("\n3\n", "\n4\n"), LINE) is None
    assert witness.time_of(HEAD, LINE.replace("w1", "w2")) is None


@pytest.mark.parametrize("answer", ["", LINE[:-4], "— witness.example/w1 !!!", LINE.replace("— ", "- "), "x" * 10_000, "\n\n\n"])
def test_an_answer_without_a_cosignature_is_none(answer):
    with pytest.raises(Mistake):
        cosigned(HEAD + "\n— a b\n", WitnessKey.parse(VKEY), answer)


def test_a_witness_key_is_whole_and_for_cosignatures():
    assert cosigned_message(HEAD, 7) == b"cosignature/v1\ntime 7\n" + HEAD.encode()
    log = str(Verifier.of("log.example/audit", KEY))  # of type 0x01: it signs heads, and does not witness them
    for text in ("", "a+b", VKEY[:-4], VKEY.replace("20324abe", "20324abf"), log, VKEY.replace("w1", "w2"), "+" * 5):
        with pytest.raises(Mistake):
            WitnessKey.parse(text)
    for size in (b"", b"-1", b"1" * 20, b"x", "١".encode(), b"7\n\n"):
        with pytest.raises(Mistake):
            known_size(size)
    assert known_size(b"12\n") == 12


def test_the_log_s_own_signature_stays_first_and_alone_opens_a_cosigned_note():
    head = Checkpoint("log.example/audit", 3, b"r" * 32)
    note = sign_checkpoint(head, KEY)
    time = (1_800_000_000).to_bytes(8, "big")
    witness = WitnessKey.parse(VKEY)
    signature = witness.id + time + WITNESS.sign(cosigned_message(head.text(), 1_800_000_000))
    whole = cosigned(note, witness, f"— {witness.name} {base64.b64encode(signature).decode()}\n")
    assert whole.startswith(note)
    assert open_checkpoint(whole, Verifier.of("log.example/audit", KEY)) == head

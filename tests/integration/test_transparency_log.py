"""The transparency log over HTTP, and its witnesses. The witness is made by hand, by C2SP tlog-witness: none can be had as a package;
it checks our proofs with pymerkle's roots, not with ours.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.common import free_port
from remit.application import application
from remit.cli.server import serving
from remit.logic.checkpoint import open_checkpoint, open_note
from remit.logic.cosignature import WitnessKey, cosignatures, cosigned_message
from remit.logic.merkle import leaf_hash, verify_consistency, verify_inclusion
from remit.node import Node, open_node
from remit.services.configuration import load_configuration
from remit.services.reading import Mistakes
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

pytestmark = pytest.mark.anyio
SECRET = "a-reader-secret-of-tests"
READER = '[ledger.readers.auditor]\nsecret = "${AUDITOR}"\n'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Witness:
    """Remembers one head of one log, and says so under its key. ``odd``: what it does in place of that."""

    log: Any = None
    name: str = "witness.example/w1"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    size: int = 0
    root: bytes = b""
    asked: list[tuple[int, int]] = field(default_factory=list)
    odd: str = ""
    port: int = field(default_factory=free_port)

    @property
    def vkey(self) -> str:
        return str(WitnessKey(self.name, self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)))

    def toml(self, name: str = "w1") -> str:
        return f'[ledger.witnesses.{name}]\nurl = "http://127.0.0.1:{self.port}/w"\nkey = "{self.vkey}"\nprivate = true\n'

    async def add(self, request: Request) -> Response:
        first, _, note = (await request.body()).decode().partition("\n\n")
        old_line, *proof = first.splitlines()
        old = int(old_line.removeprefix("old "))
        text = open_note(note, self.log)
        head = open_checkpoint(note, self.log)
        self.asked.append((old, head.size))
        if self.odd == "away":
            return PlainTextResponse("no", 503)
        if self.odd == "rubbish":
            return PlainTextResponse("— a b\n" * 100)
        if self.odd == "endless":
            return PlainTextResponse("x" * 1_000_000)
        if old != self.size:
            return PlainTextResponse(f"{self.size}\n", 409, media_type="text/x.tlog.size")
        path = tuple(base64.b64decode(line) for line in proof)
        if old and not verify_consistency(old, head.size, self.root, head.root, path):
            return PlainTextResponse("no", 422)
        self.size, self.root = head.size, head.root
        blob = WitnessKey.parse(self.vkey).id + (1_800_000_000).to_bytes(8, "big") + self.key.sign(cosigned_message(text, 1_800_000_000))
        return PlainTextResponse(f"— {self.name} {base64.b64encode(blob).decode()}\n")


@contextlib.asynccontextmanager
async def node_with(folder: Path, toml: str, *witnesses: Witness) -> AsyncIterator[tuple[Node, str]]:
    for name in ("tasks", "policies"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "policies" / "main.cedar").write_text('@id("all") permit (principal, action, resource);')
    (folder / "remit.toml").write_text(toml)
    async with contextlib.AsyncExitStack() as stack:
        for witness in witnesses:
            app = Starlette(routes=[Route("/w/add-checkpoint", witness.add, methods=["POST"])])
            await stack.enter_async_context(serving(app, "127.0.0.1", witness.port))
        node = await stack.enter_async_context(open_node(folder))
        for witness in witnesses:
            witness.log = node.ledger.verifier
        port = await stack.enter_async_context(serving(application(node), "127.0.0.1", 0))
        yield node, f"http://127.0.0.1:{port}"


async def fill(node: Node, number: int) -> None:
    for _ in range(number):
        await node.store.append(Append(body=b'{"n":%d}' % await node.store.change_mark()))


async def get(url: str, secret: str = "") -> tuple[int, bytes, dict[str, str]]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
        return answer.status, await answer.read(), {name.lower(): value for name, value in answer.headers.items()}


async def test_the_log_is_followed_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITOR", SECRET)
    async with node_with(tmp_path, READER) as (node, base):
        await fill(node, 300)
        status, note, headers = await get(f"{base}/ledger/checkpoint")
        assert (status, headers["content-type"], headers["cache-control"]) == (200, "text/plain; charset=utf-8", "public, max-age=1")
        head = open_checkpoint(note.decode(), node.ledger.verifier)
        assert head.size == 300
        status, tile, headers = await get(f"{base}/ledger/tile/0/001.p/44")
        assert (status, len(tile), headers["content-type"]) == (200, 44 * 32, "application/octet-stream")
        assert "immutable" in headers["cache-control"]
        assert headers["cache-control"].startswith("public")
        assert (await get(f"{base}/ledger/tile/1/000.p/1"))[1] == _root(await all_hashes(base))

        status, proof, _ = await get(f"{base}/ledger/proof?index=271")
        lines = proof.decode().partition("\n\n")[0].splitlines()
        assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 271"]
        path = tuple(base64.b64decode(line) for line in lines[2:])
        assert verify_inclusion(271, 300, leaf_hash(b'{"n":271}'), path, head.root)
        assert proof.decode().partition("\n\n")[2] == note.decode()

        await fill(node, 20)
        told = json.loads((await get(f"{base}/ledger/proof?old=300"))[1])
        later = open_checkpoint((await get(f"{base}/ledger/checkpoint"))[1].decode(), node.ledger.verifier)
        hashes = tuple(base64.b64decode(one) for one in told["hashes"])
        assert told["size"] == later.size == 320
        assert verify_consistency(300, 320, head.root, later.root, hashes)
        told = json.loads((await get(f"{base}/ledger/proof?index=5&size=300"))[1])
        hashes = tuple(base64.b64decode(one) for one in told["hashes"])
        assert verify_inclusion(5, 300, leaf_hash(b'{"n":5}'), hashes, head.root)


async def all_hashes(base: str) -> list[bytes]:
    data = (await get(f"{base}/ledger/tile/0/000"))[1]
    return [data[place : place + 32] for place in range(0, len(data), 32)]


def _root(hashes: list[bytes]) -> bytes:
    from pymerkle.hasher import MerkleHasher

    pair = MerkleHasher("sha256", True).hash_pair
    while len(hashes) > 1:
        hashes = [pair(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


async def test_entries_are_for_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITOR", SECRET)
    async with node_with(tmp_path / "a", READER) as (node, base):
        await fill(node, 3)
        size = await node.store.change_mark()
        status, bundle, headers = await get(f"{base}/ledger/tile/entries/000.p/{size}", SECRET)
        assert (status, bundle[:9]) == (200, b'\x00\x07{"n":0}')
        assert headers["cache-control"].startswith("private")
        for wrong in ("", "x", SECRET[:-1], SECRET + "x", "é" * 20):
            assert (await get(f"{base}/ledger/tile/entries/000.p/{size}", wrong))[0] == 401
        assert (await get(f"{base}/ledger/tile/entries/000.p/{size + 1}", SECRET))[0] == 404
    async with node_with(tmp_path / "b", "") as (node, base):
        await fill(node, 3)
        assert (await get(f"{base}/ledger/tile/entries/000.p/1", ""))[0] == 401, "without a reader nobody reads"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "index=0&old=1",
        "index=-1",
        "index=x",
        "index=9999",
        "index=0&size=9999",
        "old=0",
        "old=9&size=3",
        "index=1e3",
        "index=" + "9" * 400,
    ],
)
async def test_questions_that_have_no_proof(tmp_path: Path, query: str) -> None:
    async with node_with(tmp_path, "") as (node, base):
        await fill(node, 5)
        status, told, _ = await get(f"{base}/ledger/proof?{query}")
        assert (status, b"Traceback" in told) == (400, False)


async def test_witnesses_cosign_what_is_shown(tmp_path: Path) -> None:
    one, two = Witness(), Witness(name="witness.example/w2", odd="away")
    async with node_with(tmp_path, one.toml() + two.toml("w2"), one, two) as (node, base):
        witnesses = node.transparency.witnesses
        keys = [witness.key for witness in witnesses.witnesses]
        await fill(node, 10)
        await witnesses.ask()
        shown = (await get(f"{base}/ledger/checkpoint"))[1].decode()
        assert set(cosignatures(shown, keys)) == {one.name}
        assert open_checkpoint(shown, node.ledger.verifier).size == 10
        await fill(node, 5)
        assert (await get(f"{base}/ledger/checkpoint"))[1].decode() == shown, "what nobody has cosigned is not shown"
        assert (await get(f"{base}/ledger/proof?index=3"))[1].decode().endswith(shown)
        assert (await get(f"{base}/ledger/proof?index=12"))[0] == 200, "under the latest head, as no cosigned one has it"
        two.odd = ""
        await witnesses.ask()
        shown = (await get(f"{base}/ledger/checkpoint"))[1].decode()
        assert set(cosignatures(shown, keys)) == {one.name, two.name}
        assert one.asked[-1] == (10, 15), "a proof from what it saw last"
        await witnesses.ask()
        assert len(one.asked) == 2, "who has cosigned this head is not asked again"
        assert (await node.ledger.proof_file(14)).endswith(shown)


async def test_a_node_that_starts_again_learns_what_its_witness_saw(tmp_path: Path) -> None:
    witness = Witness()
    for size in (4, 8):
        async with node_with(tmp_path, witness.toml(), witness) as (node, _):
            await fill(node, 4)
            note = await node.transparency.witnesses.ask()
            assert open_checkpoint(note, node.ledger.verifier).size == size
    assert witness.asked == [(0, 4), (0, 8), (4, 8)]


async def test_another_node_that_was_quicker_is_no_alarm(tmp_path: Path) -> None:
    witness = Witness()
    async with node_with(tmp_path, witness.toml(), witness) as (node, _), open_node(tmp_path) as other:
        await fill(node, 4)
        late = await node.ledger.publish()
        await fill(other, 4)
        await other.transparency.witnesses.ask()
        assert await node.transparency.witnesses._cosigned(node.transparency.witnesses.witnesses[0], late) == ""
        assert node.transparency.witnesses.alarms == 0
        assert open_checkpoint(await node.transparency.witnesses.ask(), node.ledger.verifier).size == 8


@pytest.mark.parametrize("odd", ["away", "rubbish", "endless"])
async def test_a_witness_that_does_not_do_its_work_costs_its_own_cosignature(tmp_path: Path, odd: str) -> None:
    witness = Witness(odd=odd)
    async with node_with(tmp_path, witness.toml(), witness) as (node, base):
        await fill(node, 4)
        await node.transparency.witnesses.ask()
        assert node.transparency.witnesses.alarms == 0
        note = (await get(f"{base}/ledger/checkpoint"))[1].decode()
        assert open_checkpoint(note, node.ledger.verifier).size == 4
        assert cosignatures(note, [WitnessKey.parse(witness.vkey)]) == {}


async def test_a_store_that_was_set_back_is_told_by_its_witness(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of the same key two histories: one that the witness saw, and a shorter one, then one of the same length."""
    witness = Witness()
    async with node_with(tmp_path, witness.toml(), witness) as (node, _):
        await fill(node, 6)
        await node.transparency.witnesses.ask()
    for file in (tmp_path / "state").glob("remit.db*"):
        file.unlink()
    async with node_with(tmp_path, witness.toml(), witness) as (node, _):
        with caplog.at_level(logging.ERROR, "remit"):
            await node.store.append(Append(body=b"another history"))
            await node.transparency.witnesses.ask()
            assert "was set back" in caplog.text
            await fill(node, 9)
            note = await node.transparency.witnesses.ask()
        assert "does not continue" in caplog.text
        assert node.transparency.witnesses.alarms == 2
        assert cosignatures(note, [WitnessKey.parse(witness.vkey)]) == {}


def test_wrong_configurations_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "x")
    monkeypatch.delenv("GONE", raising=False)
    good = Witness()
    twice = good.toml().replace("w1]", "w2]")
    wrong = {
        good.toml() + twice: "two witnesses have the same key",
        good.toml().replace("private = true", ""): "not an https address",
        good.toml().replace('/w"', '/w?a=1"'): "add-checkpoint is asked below it",
        good.toml().replace(good.vkey, "rubbish"): "not a witness's key",
        good.toml() + "quorum = 1\n": "'quorum' is not known here",
        '[ledger.readers.a]\nsecret = "plain"\n': "secret must name a variable",
        '[ledger.readers.a]\nsecret = "${SHORT}"\n': "shorter than 16 characters",
        '[ledger.readers.a]\nsecret = "${GONE}"\n': "is missing",
        '[ledger.readers."A B"]\nsecret = "${SHORT}"\n': "cannot be the name of a reader",
        '[ledger]\nwitness_every = "0s"\n': "witness_every",
    }
    for name in ("tasks", "policies"):
        (tmp_path / name).mkdir()
    for toml, told in wrong.items():
        (tmp_path / "remit.toml").write_text(toml)
        with pytest.raises(Mistakes) as mistakes:
            load_configuration(tmp_path)
        assert told in str(mistakes.value), toml

"""A task token at the gateway: near the bare signature check the first time, and next to nothing while it is remembered and alive."""

from __future__ import annotations

import base64
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from bench.common import row, write_folder
from remit.drivers.keys import load_or_make_keys
from remit.node import Node, open_node
from remit.services.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMES, _ROUNDS = 400, 9


async def main() -> None:
    """Print the ratios."""
    print("one task token (p50, alternating rounds)")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), 'url = "http://127.0.0.1:9/mcp"')
        Pins(Path(folder)).pin("bank", [{"name": "echo", "inputSchema": {"type": "object"}}])
        async with open_node(Path(folder)) as node:
            task = await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="bench", opened_by="bench")
            await _measured(node, [(await node.tokens.issue(task.id, "bench"))[0] for _ in range(_TIMES)])


async def _measured(node: Node, tokens: list[str]) -> None:
    public = load_or_make_keys(node.configuration.settings.keys).tokens.public_key()
    bare, first, again = [], [], []
    for _ in range(_ROUNDS):
        bare.append(_median([_bare(public, token) for token in tokens]))
        node.tokens._remembered.clear()
        node.signer._opened.clear()  # the ring remembers signatures besides
        for taken in (first, again):
            each = []
            for token in tokens:
                begin = time.perf_counter()
                await node.tokens.bearer(token)
                each.append(time.perf_counter() - begin)
            taken.append(statistics.median(each))
    signature, fresh, known = (statistics.median(taken) * 1e6 for taken in (bare, first, again))
    row("bare signature check (ECDSA P-256, cryptography)", f"{signature:.0f} µs")
    row("a token never seen before: signature, claims, task alive", f"{fresh:.0f} µs")
    row("first time / bare signature check", f"{fresh / signature:.2f} ×", "≤ 1.20 ×")
    row("a token seen before, its task alive", f"{known:.1f} µs", "≤ 10 µs")


def _bare(public: EllipticCurvePublicKey, token: str) -> Callable[[], None]:
    """The least that checks the signature of a token as it comes: cut in two, decoded, verified; nothing of what it says is read."""
    how = ECDSA(hashes.SHA256())

    def check() -> None:
        signed, _, text = token.rpartition(".")
        raw = base64.urlsafe_b64decode(text + "==")
        public.verify(encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])), signed.encode(), how)

    return check


def _median(checks: list[Callable[[], None]]) -> float:
    taken = []
    for check in checks:
        begin = time.perf_counter()
        check()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)

"""A token exchange against what it cannot do without: one signature and one durable insert. Alternating rounds on one disk.

Each exchange checks the subject token, finds the agent, checks the task, records the exchange and signs the task token. The agent shows
the same SVID for as long as it lives, so its signature is checked the first time only; what it says is checked each time.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import bank_over_http, row, write_folder
from remit.doors.oauth.service import TokenDoor
from remit.drivers.keys import token_key
from remit.drivers.signing import TokenSigner
from remit.model.token import Credential, TokenAnswer, TokenRequest
from remit.node import Node, open_node
from remit.node_tokens import token_doors
from remit.services.configuration import load_configuration
from remit.services.exchange import JWT, TOKEN_EXCHANGE
from remit.services.pinning import pin_servers
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


_AT_ONCE, _EACH, _ROUNDS = 64, 10, 7


async def main() -> None:
    """Print the ratio."""
    print(f"token exchange ({_AT_ONCE} at a time, p50 of {_ROUNDS} alternating rounds)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "folder"
        async with bank_over_http() as url:
            write_folder(folder, f'url = "{url}"')
            configuration = load_configuration(folder)
            await pin_servers(configuration, configuration.servers, only_new=True)
        async with open_node(folder, deciding=True) as node:
            exchange = await _exchange(node)
            bare = await _bare(node, folder, await exchange())
            taken: dict[str, list[float]] = {"exchange": [], "bare": []}
            for _ in range(_ROUNDS):
                taken["exchange"].append(await _rate(exchange))
                taken["bare"].append(await _rate(bare))
    found = {name: statistics.median(rates) for name, rates in taken.items()}
    row("exchanges a second", f"{found['exchange']:,.0f}")
    row("bare signatures with a durable insert a second", f"{found['bare']:,.0f}")
    row("exchange / bare", f"{found['exchange'] / found['bare']:.2f} ×", "≥ 0.50 ×")


async def _rate(work: Callable[[], Awaitable[object]]) -> float:
    """How often a second."""

    async def worker() -> None:
        for _ in range(_EACH):
            await work()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return _AT_ONCE * _EACH / (time.perf_counter() - begin)


async def _exchange(node: Node) -> Callable[[], Awaitable[TokenAnswer]]:
    """An exchange of an agent's SVID for a token of a task that lives; each of many tasks in turn, as many agents would."""
    door = _door(node)
    svid = await node.identities.issue_svid("bench", attested="bench")
    opened = [
        await node.dispatcher.open(agent="bench", task_type="work", inputs={}, on_behalf_of="", opened_by="bench") for _ in range(_AT_ONCE)
    ]
    asked = [
        TokenRequest(
            grant_type=TOKEN_EXCHANGE,
            subject_token=svid,
            subject_token_type=JWT,
            authorization_details=f'[{{"type":"remit_task","task":"{task.id}"}}]',
        )
        for task in opened
    ]
    turn = iter(range(10**9))

    async def work() -> TokenAnswer:
        given = await door.exchange.answer(asked[next(turn) % _AT_ONCE], Credential())
        assert given.access_token
        return given

    return work


async def _bare(node: Node, folder: Path, given: TokenAnswer) -> Callable[[], Awaitable[object]]:
    """The signature and the insert alone, of the very claims and the very record that an exchange makes."""
    signer = TokenSigner(token_key(folder / "bare.key"))
    _, claims = node.signer.open(given.access_token)
    *_, last = await node.store.task_entries(given.task)
    body = last.body

    async def work() -> None:
        await node.store.append(Append(body=body))
        assert signer.sign(claims, "at+jwt")

    return work


def _door(node: Node) -> TokenDoor:
    door, *_ = token_doors(
        node.token_parts,
        node.rules,
        node.identities,
        node.dispatcher,
        node.tasks,
        node.store,
        node.clock,
        node.door.end_task,
        node.door.presenting,
    )
    assert isinstance(door, TokenDoor), "the door of programs comes first"
    return door

"""``remit signals``: what came in from outside, and what followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from remit.cli.common import emit, folder_option, json_option, reports_errors, safe
from remit.logic.records import decode
from remit.logic.signals import short
from remit.model.signal import SignalFollowed, SignalReceived
from remit.node import Node, open_node

_LIST_MAX, _LOOKED_AT_MAX, _PAGE = 1_000, 200_000, 1_000
_UNFOLLOWED = {"record": "recorded"}
_SIGNAL = b'"kind":"signal.'


@click.group()
def signals() -> None:
    """Signals from outside: what identity providers and others took back."""


@signals.command("list")
@click.option("--lines", "-n", type=click.IntRange(1, _LIST_MAX), default=20, help="How many signals.")
@folder_option
@json_option
@reports_errors
async def signals_list(lines: int, folder: Path, as_json: bool) -> None:
    """The newest signals, refused ones too, and what followed from each."""
    async with open_node(folder.resolve()) as node:
        found = await _newest(node, lines)
    emit(found, "\n".join(_line(one) for one in found) or "no signal came in", as_json=as_json)


async def _newest(node: Node, lines: int) -> list[dict[str, Any]]:
    """The newest first; the ledger is read backwards, so far and no farther."""
    followed: dict[str, SignalFollowed] = {}
    found: list[dict[str, Any]] = []
    end = await node.store.change_mark()
    last = max(end - _LOOKED_AT_MAX, 0)
    while end > last and len(found) < lines:
        start = max(end - _PAGE, last)
        for entry in reversed(await node.store.entries(start, end - start)):
            if entry.task is not None or _SIGNAL not in entry.body:
                continue
            record = decode(entry.body)
            if isinstance(record.body, SignalFollowed):
                followed[record.body.signal] = record.body
            elif isinstance(record.body, SignalReceived):
                then = followed.get(record.body.signal)
                found.append({"index": entry.index, "at": record.at, "received": record.body, "followed": then})
        end = start
    return found[:lines]


def _line(one: dict[str, Any]) -> str:
    received: SignalReceived = one["received"]
    followed: SignalFollowed | None = one["followed"]
    who = received.transmitter or "(nobody known)"
    beginning = f"{one['index']:>7}  {one['at'].isoformat(timespec='seconds')}  {safe(who)}  "
    if received.outcome == "refused":
        return f"{beginning}refused: {safe(received.why)}"
    about = ", ".join(received.concerns) or "nothing known here"
    then = (
        f"{followed.revoked} revoked, {followed.suspended} suspended" + (f", {followed.tokens} tokens" if followed.tokens else "")
        if followed
        else _UNFOLLOWED.get(received.consequence, "not finished")
    )
    return f"{beginning}{safe(short(received.event))}, about {about}: {then}"

"""``remit keys``: what signs tokens, and replacing it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from remit.cli.common import emit, folder_option, json_option, operator, reports_errors
from remit.node import open_node


@click.group()
def keys() -> None:
    """Keys that sign task tokens and JWT-SVIDs."""


@keys.command("list")
@folder_option
@json_option
@reports_errors
async def keys_list(folder: Path, as_json: bool) -> None:
    """The key that signs, the next one, and those that still verify."""
    async with open_node(folder.resolve()) as node:
        states = node.signer.states()
    lines = [f"{state.id}  {state.use:<8} since {datetime.fromtimestamp(state.since, UTC).isoformat()}" for state in states]
    emit(states, "\n".join(lines), as_json=as_json)


@keys.command("rotate")
@click.option("--compromised", is_flag=True, help="Whatever the old keys signed is worth nothing at once.")
@folder_option
@json_option
@reports_errors
async def keys_rotate(compromised: bool, folder: Path, as_json: bool) -> None:
    """The next key signs from now on; the old one verifies until its last token has ended (an hour). Running nodes take it up."""
    async with open_node(folder.resolve()) as node:
        await node.token_parts.rotation.rotate(operator(), compromised=compromised)
        states = node.signer.states()
    emit(states, f"{states[0].id} signs from now on", as_json=as_json)

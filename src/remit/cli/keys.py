"""``remit keys``: what signs tokens, and replacing it; how the keys are kept, and keeping them under a key-encryption key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from remit.cli.common import emit, folder_option, json_option, operator, reports_errors
from remit.drivers.key_wrapping import kept_keys, rewrap_folder, wrap_folder
from remit.node import open_node
from remit.services.configuration import load_configuration


@click.group()
def keys() -> None:
    """Keys that sign task tokens and JWT-SVIDs, and how all of remit's keys are kept."""


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


@keys.command("show")
@folder_option
@json_option
@reports_errors
async def keys_show(folder: Path, as_json: bool) -> None:
    """How each key is kept: in clear, sealed, or wrapped and by what. Never a key."""
    kept = kept_keys(load_configuration(folder.resolve()).settings.keys)
    lines = [f"{key.name:<24} {f'wrapped by {key.source}' if key.source else key.kept}" for key in kept]
    emit(kept, "\n".join(lines) or "no keys yet", as_json=as_json)


@keys.command("wrap")
@folder_option
@json_option
@reports_errors
async def keys_wrap(folder: Path, as_json: bool) -> None:
    """Seal the keys that lie in clear, under trust.key_encryption. Nodes that started with that setting go on meanwhile."""
    settings = load_configuration(folder.resolve()).settings
    done = wrap_folder(settings.keys, settings.key_encryption, settings.trust_domain)
    emit({"sealed": done}, "\n".join(f"{name} is sealed" for name in done) or "nothing is left in clear", as_json=as_json)


@keys.command("rewrap")
@click.option("--to", "source", required=True, help="The next key-encryption key: file:/PATH, env:NAME, credential:NAME, aws-kms:ARN.")
@folder_option
@json_option
@reports_errors
async def keys_rewrap(source: str, folder: Path, as_json: bool) -> None:
    """Another key-encryption key. Running nodes go on; set trust.key_encryption to it before one starts anew."""
    settings = load_configuration(folder.resolve()).settings
    rewrap_folder(settings.keys, settings.key_encryption, source, settings.trust_domain)
    emit({"key_encryption": source}, f'wrapped anew; now in remit.toml: [trust] key_encryption = "{source}"', as_json=as_json)

"""``remit console``: a one-time link into the console of this machine, or the end of somebody's sessions there."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import click

from remit.cli.approvals import not_from_a_task
from remit.cli.common import emit, folder_option, json_option, operator, reports_errors, safe, say
from remit.errors import Refusal
from remit.node import open_node
from remit.services.console_sign_in import LINK_TTL

_LOOK_SECONDS = 1.0
_LOOPBACK = {"127.0.0.1": "localhost", "::1": "localhost", "localhost": "localhost"}


@click.command()
@click.option("--end", "person", default="", metavar="PERSON", help="End every session of this person instead.")
@click.option(
    "--forget-passkeys", "lost", default="", metavar="PERSON", help="Forget all passkeys of this person, who has lost them, instead."
)
@folder_option
@json_option
@reports_errors
async def console(person: str, lost: str, folder: Path, as_json: bool) -> None:
    """Print a link that opens the console in a browser on this machine, once, within a minute."""
    not_from_a_task()
    from remit.node_console import console_frame, console_link, console_passkeys  # takes a while to load, and no other command needs it

    async with open_node(folder.resolve()) as node:
        settings = node.configuration.settings
        if person:
            ended = await console_frame(node).sessions.end_all(person, by=operator())
            emit({"person": person, "ended": ended}, f"{ended} sessions of {safe(person)} are over", as_json=as_json)
            return
        if lost:
            forgotten = await console_passkeys(node).forget(lost, by=operator())
            emit({"person": lost, "forgotten": forgotten}, f"{forgotten} passkeys of {safe(lost)} are forgotten", as_json=as_json)
            return
        if settings.host not in _LOOPBACK:
            hint = "[sign_in] in remit.toml lets people sign in at your provider"
            raise Refusal(f"remit serves {settings.host}, and a link is for the machine itself", code="link_elsewhere", hint=hint)
        path = console_link(node, operator())
    scheme = urlsplit(settings.issuer).scheme
    link = f"{scheme}://{_LOOPBACK[settings.host]}:{settings.port}{path}"  # by name: passkeys know no addresses
    if not _serves(settings.host, settings.port):
        say(f"nobody serves {settings.host}:{settings.port} now; `remit serve` does")
    emit({"link": link, "seconds": int(LINK_TTL.total_seconds())}, link, as_json=as_json)


def _serves(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=_LOOK_SECONDS):
            return True
    except OSError:
        return False

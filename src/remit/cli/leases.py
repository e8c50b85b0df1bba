"""Commands on credentials: ``lease``, and the targets' own secrets: ``target``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import click

from remit.cli.approvals import not_from_a_task
from remit.cli.common import REFUSED, emit, folder_option, json_option, operator, reports_errors, safe
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.errors import Mistake, NotFound
from remit.logic.lease_words import came_from
from remit.node import open_node, utc_now
from remit.services.configuration import load_configuration
from remit.services.lease_views import LeaseView, lease_view, live_leases

_SECRET_CHARACTERS_MAX = 65_536
_WATCH_SECONDS = 1.0


@click.group()
def lease() -> None:
    """Leases: credentials on targets, each for one task."""


@lease.command("list")
@click.option("--target", default="", help="Only of this target.")
@click.option("--watch", is_flag=True, help="Show them every second as they are then, until Ctrl-C.")
@folder_option
@json_option
@reports_errors
async def lease_list(target: str, watch: bool, folder: Path, as_json: bool) -> None:
    """Leases that may stand on their targets, those in trouble first."""
    stop = asyncio.Event()
    if watch:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_node(folder.resolve()) as node:
        while True:
            views = await live_leases(node.store, node.tasks, node.leases.targets, target, utc_now())
            if watch and not as_json:
                click.clear()  # of a terminal; nothing, where it is none
            emit(views, "\n".join(_line(view) for view in views) or "no lease stands anywhere", as_json=as_json)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _WATCH_SECONDS if watch else 0)
            if stop.is_set() or not watch:
                return


@lease.command("show")
@click.argument("lease_id")
@folder_option
@json_option
@reports_errors
async def lease_show(lease_id: str, folder: Path, as_json: bool) -> None:
    """One lease: for whom, where, what it may do there, since when, and what becomes of it. Never its secret."""
    async with open_node(folder.resolve()) as node:
        view = await lease_view(node.store, node.tasks, node.leases.targets, lease_id, utc_now())
    emit(view, _story(view), as_json=as_json)


@lease.command("revoke")
@click.argument("lease_id")
@click.option("--reason", default="", help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def lease_revoke(lease_id: str, reason: str, folder: Path, as_json: bool) -> int:
    """Make a credential go now. Its task goes on and may get another; `remit task revoke` ends the task."""
    async with open_node(folder.resolve()) as node:
        await node.leases.revocations.revoke(lease_id, operator(), reason[:500])
        view = await lease_view(node.store, node.tasks, node.leases.targets, lease_id, utc_now())
    emit(view, _story(view), as_json=as_json)
    return 0 if view.state == "revoked" else REFUSED


@lease.command("rotate")
@click.argument("lease_id")
@folder_option
@json_option
@reports_errors
async def lease_rotate(lease_id: str, folder: Path, as_json: bool) -> None:
    """Put a new credential in the place of one in use, under a running task. The old one goes a minute later."""
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        made = await node.leases.leases.rotate(lease_id, operator())
        view = await lease_view(node.store, node.tasks, node.leases.targets, made.id, utc_now())
    emit(view, _story(view), as_json=as_json)


@click.group()
def target() -> None:
    """Targets: systems on which credentials are leased."""


@target.command("list")
@folder_option
@json_option
@reports_errors
async def target_list(folder: Path, as_json: bool) -> None:
    """Configured targets, their kinds, and where their own secret comes from."""
    targets = load_configuration(folder.resolve()).targets.values()
    data = [{"name": one.name, "kind": one.kind, "secret": _source(one.secret, one.secret_file)} for one in targets]
    human = "\n".join(f"{one['name']}  {one['kind']}  its secret: {one['secret']}" for one in data)
    hint = f"[targets.NAME] in remit.toml; kinds: {', '.join(TARGET_KINDS)}"
    emit(data, human or f"no target is configured: {hint}", as_json=as_json)


@target.command("set-secret")
@click.argument("name")
@folder_option
@json_option
@reports_errors
async def target_set_secret(name: str, folder: Path, as_json: bool) -> None:
    """Seal the secret by which remit manages target NAME, read from standard input. A running node takes it up at once."""
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        known = node.rules.configuration.targets
        if name not in known:
            raise NotFound(f"there is no target {name[:80]!r}", hint=f"configured: {', '.join(sorted(known)) or 'none'}")
        if known[name].secret or known[name].secret_file:
            raise Mistake(
                f"the secret of {name} comes from elsewhere", code="target_secret", hint="take secret and secret_file out of remit.toml"
            )
        if sys.stdin.isatty():
            secret = click.prompt("secret", hide_input=True, err=True)
        else:
            secret = sys.stdin.read(_SECRET_CHARACTERS_MAX + 1).rstrip("\r\n")
        await node.leases.secrets.replace(name, secret, operator())
    emit({"target": name, "secret": "sealed"}, f"the secret of {name} is sealed in the store", as_json=as_json)


@target.command("rotate")
@click.argument("name")
@folder_option
@json_option
@reports_errors
async def target_rotate(name: str, folder: Path, as_json: bool) -> None:
    """Give target NAME a new secret that only remit knows: set there, sealed here. Interrupted anywhere, it is run again."""
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        await node.leases.secret_rotation.rotate(name, operator())
    emit({"target": name, "secret": "rotated"}, f"target {safe(name)} has a new secret, which only remit knows", as_json=as_json)


def _source(secret: str, file: str) -> str:
    return "the environment" if secret else f"file {file}" if file else "sealed in the store"


def _line(view: LeaseView) -> str:
    left = f"{view.seconds_left:,} s left" if view.seconds_left > 0 else "its time is over"
    left += "  standing secret" if view.stands else ""
    return f"{view.lease}  {view.state:<8}  {safe(view.target)}  {view.task}  {view.agent}  {left}"


def _story(view: LeaseView) -> str:
    lines = [
        f"{view.lease} is {view.state}",
        f"  target    {safe(view.target)}, as {view.mark}",
        f"  for       {view.task}  {view.agent}",
        *(f"  {'' if number else 'may':<8}  {safe(line)}" for number, line in enumerate(view.may.words)),
        *((f"  by        {safe(came_from(view.may))}",) if view.may.parts else ()),
        f"  intended  {view.intended_at.isoformat()}",
        *((f"  issued    {view.issued_at.isoformat()}",) if view.issued_at else ()),
        f"  until     {view.expires_at.isoformat()}",
        *(("  standing  the secret of its target: it outlives the lease",) if view.stands else ()),
        *((f"  replaces  {view.replaces}",) if view.replaces else ()),
        *((f"  replaced  {view.replaced_at.isoformat()}",) if view.replaced_at else ()),
        *((f"  to go     since {view.ending_at.isoformat()}: {safe(view.why)}",) if view.ending_at else ()),
        *((f"  gone      {view.revoked_at.isoformat()}",) if view.revoked_at else ()),
    ]
    return "\n".join(lines)

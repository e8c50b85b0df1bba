"""Stopping agents: ``remit kill``, ``remit agent restore`` and ``remit agent show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.approvals import not_from_a_task
from remit.cli.common import emit, folder_option, json_option, operator, reports_errors, safe
from remit.cli.setup import agent
from remit.errors import Mistake, NotFound, RemitError
from remit.model.identity import SpiffeId
from remit.node import open_node, open_standing
from remit.services.standing import EVERY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.settings import Agent

_COUNTED_MAX = 100_000


@click.command()
@click.argument("agents", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every agent, also those that are declared later.")
@click.option("--reason", default="", help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def kill(agents: tuple[str, ...], everyone: bool, reason: str, folder: Path, as_json: bool) -> None:
    """Stop AGENTS at once: from the moment this returns no call of theirs, nor of what they delegated, is allowed at any door.

    They get no new task and no token until `remit agent restore`. Their tasks are ended by the nodes that serve, right behind.
    Works also while policies or task types do not hold together.
    """
    async with open_standing(folder.resolve()) as (declared, store, standing):
        names = _named(declared, agents, everyone=everyone)
        await standing.stop(names, by=operator(), reason=reason[:500], declared=[one.spiffe_id.text for one in declared.values()])
        living = len(await store.living_tasks(names, _COUNTED_MAX))
    who = "every agent" if everyone else ", ".join(safe(name) for name in names)
    human = f"{who}: stopped; {living} living tasks are refused and will be ended"
    emit({"stopped": names, "living_tasks": living}, human, as_json=as_json)


@agent.command("restore")
@click.argument("agents", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every agent that is stopped.")
@click.option("--reason", default="", help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def restore(agents: tuple[str, ...], everyone: bool, reason: str, folder: Path, as_json: bool) -> None:
    """Let stopped AGENTS be given tasks again. What has ended stays ended."""
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        names = _named(node.configuration.agents, agents, everyone=everyone)
        declared = [one.spiffe_id.text for one in node.configuration.agents.values()]
        await node.subtrees.restore(names, by=operator(), reason=reason[:500], declared=declared)
        stopped = sorted(node.tasks.standing.agents)
    emit({"restored": names, "stopped": stopped}, f"restored; stopped now: {', '.join(map(safe, stopped)) or 'nobody'}", as_json=as_json)


@agent.command("show")
@click.argument("name")
@folder_option
@json_option
@reports_errors
async def show(name: str, folder: Path, as_json: bool) -> None:
    """One agent: whether it is stopped, and its living tasks."""
    async with open_node(folder.resolve()) as node:
        (spiffe_id,) = _named(node.configuration.agents, (name,), everyone=False)
        stopped = bool(node.tasks.standing.stopped([spiffe_id]))
        living = await node.store.living_tasks([spiffe_id], _COUNTED_MAX)
    data = {"name": name, "spiffe_id": spiffe_id, "stopped": stopped, "living_tasks": living}
    emit(data, "\n".join([f"{spiffe_id}  {'stopped' if stopped else 'may work'}", *living]), as_json=as_json)


def _named(declared: Mapping[str, Agent], agents: tuple[str, ...], *, everyone: bool) -> list[str]:
    """SPIFFE IDs of agents by name, or by SPIFFE ID where one is no longer declared. Raises Mistake, NotFound."""
    if everyone == bool(agents):
        raise Mistake("name agents, or say --all", code="agent")
    if everyone:
        return [EVERY]
    found = []
    for name in agents:
        try:
            found.append(declared[name].spiffe_id.text if name in declared else SpiffeId.parse(name).text)
        except RemitError:
            known = ", ".join(sorted(declared)) or "none"
            raise NotFound(f"no agent {name[:80]!r} is declared", hint=f"declared in remit.toml: {known}; or a SPIFFE ID") from None
    return found

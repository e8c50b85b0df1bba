"""Commands that prepare and check: ``init``, ``pin``, ``agent``, ``doctor``."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import click
import psycopg

from remit.cli.common import REFUSED, emit, folder_option, json_option, operator, reports_errors, safe
from remit.cli.tls import ServerTls
from remit.doors.workload.listener import check_folder
from remit.drivers.base import HttpServer, StdioServer, UpstreamLimits
from remit.drivers.egress_http import EgressClient
from remit.drivers.key_wrapping import kept_keys
from remit.drivers.keys import load_or_make_keys
from remit.drivers.outward import Outward
from remit.drivers.upstream_http import http_session
from remit.drivers.upstreams import discover_tools
from remit.errors import Mistake, Outage, RemitError
from remit.logic.egress_sent import Outgoing
from remit.node import load_rules, open_node, open_standing, utc_now
from remit.services.configuration import load_configuration
from remit.services.events import read_cursor
from remit.services.lease_checks import check_targets
from remit.services.pinning import pin_servers, taskless
from remit.services.pins import Pins
from remit.services.proofs import examine
from remit.services.rules import unanswerable
from remit.services.scaffold import write_folder
from remit.services.signal_keys import TransmitterKeys
from remit.settings import Configuration, Settings

_CONNECT_SECONDS, _SILENT_SECONDS = 5, 600
_SIGNS = {"good": "✓", "warning": "!", "bad": "✗"}


@click.command()
@click.option(
    "--from",
    "mcp_json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take servers from this file (default: ./.mcp.json).",
)
@folder_option
@json_option
@reports_errors
async def init(mcp_json: Path | None, folder: Path, as_json: bool) -> None:
    """Write a working folder: remit.toml, policies and a sample task type. Overwrites nothing."""
    found = folder / ".mcp.json"
    done = write_folder(folder, mcp_json or (found if found.exists() else None))
    lines = [f"wrote  {name}" for name in done.written] + [f"kept   {name} (it was there)" for name in done.kept]
    lines += [f"note:  {safe(notice)}" for notice in done.notices]
    lines.append(
        "next:  say in remit.toml what runs and what its tools do; remit pin; write tasks/NAME.toml; remit policy check; remit doctor"
    )
    emit(done, "\n".join(lines), as_json=as_json)


@click.command()
@click.argument("servers", nargs=-1)
@folder_option
@json_option
@reports_errors
async def pin(servers: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """Accept the tools of SERVERS (default: all) as they are now, into tools.lock.json. Review the change like code."""
    configuration = load_configuration(folder.resolve())
    changes = await pin_servers(configuration, servers or (*configuration.servers, *configuration.python_servers), only_new=False)
    lines = []
    for change in changes:
        names = [*(f"+{name}" for name in change.added), *(f"-{name}" for name in change.removed), *(f"~{name}" for name in change.changed)]
        lines.append(f"{change.server}: {safe(' '.join(names))}")
    known = {*configuration.servers, *configuration.python_servers}
    nothing = "nothing has changed" if known else "no server is configured: [servers.NAME] in remit.toml"
    emit(changes, "\n".join(lines) or nothing, as_json=as_json)


@click.group()
def agent() -> None:
    """Declared agents and their identities."""


@agent.command("list")
@folder_option
@json_option
@reports_errors
async def agent_list(folder: Path, as_json: bool) -> None:
    """Declared agents, their SPIFFE IDs, the task types they may be given, and who is stopped."""
    agents = load_configuration(folder.resolve()).agents.values()
    async with open_standing(folder.resolve()) as (_, _, standing):
        await standing.load()
        stopped = {one.name for one in agents if standing.stopped([one.spiffe_id.text])}
    data = [
        {
            "name": one.name,
            "spiffe_id": one.spiffe_id.text,
            "tasks": one.tasks,
            "description": one.description,
            "stopped": one.name in stopped,
        }
        for one in agents
    ]
    lines = [
        f"{one.name}  {one.spiffe_id}  {', '.join(one.tasks) or '(no tasks)'}{'  STOPPED' if one.name in stopped else ''}  "
        f"{safe(one.description)}"
        for one in agents
    ]
    human = "\n".join(line.rstrip() for line in lines)
    emit(data, human or "no agent is declared: [agents.NAME] in remit.toml", as_json=as_json)


@agent.command("svid")
@click.argument("name")
@click.option("--audience", default="", help="Whom it is for (default: this remit; another one's server.issuer in a federation).")
@folder_option
@json_option
@reports_errors
async def agent_svid(name: str, audience: str, folder: Path, as_json: bool) -> None:
    """Print a JWT-SVID of minutes for agent NAME, to open a task at `remit serve`. Recorded in the ledger."""
    async with open_node(folder.resolve()) as node:
        token = await node.identities.issue_svid(name, audience=audience, attested=f"asked for by {operator()} at the command line")
    emit({"svid": token}, token, as_json=as_json)


@click.command()
@folder_option
@json_option
@reports_errors
async def doctor(folder: Path, as_json: bool) -> int:
    """Check that everything is in place: configuration, keys, store, whom we trust, and that every server answers with its pinned tools."""
    found: list[tuple[str, str, str]] = []
    folder = folder.resolve()
    try:
        configuration, rulebook = load_rules(folder)
        found.append(("good", "configuration", f"{len(configuration.task_types)} task types, {len(rulebook.policies.ids)} policies"))
        if not rulebook.policies.ids:
            found.append(("bad", "policies", "there is no policy, so nothing is permitted"))
        found += [("bad", "approvers", why) for why in unanswerable(configuration, rulebook)]
    except RemitError as error:
        found.append(("bad", "configuration", str(error)))
        return _diagnosis(found, as_json=as_json)
    settings = configuration.settings
    try:
        load_or_make_keys(settings.keys, settings.key_encryption, settings.trust_domain)
        found.append(_keys_state(settings))
    except (RemitError, OSError) as error:
        found.append(("bad", "keys", str(error)))
    found += await _trust_state(configuration)
    found.append(_database_state(settings.storage_url) if settings.storage_url else _store_state(settings.storage))
    if settings.workload.socket is not None:
        attested = [agent.name for agent in configuration.agents.values() if agent.attest.names_somebody]
        found.append(_socket_state(settings.workload.socket, attested))
    client = http_session()
    try:
        for server in configuration.servers.values():
            try:
                listed = await discover_tools(taskless(configuration, server), UpstreamLimits(start_seconds=30), client)
                change = Pins(folder).compare(server.name, listed)
                same = "as pinned" if change.nothing else f"not as pinned (remit pin {server.name} shows and accepts)"
                found.append(("good" if change.nothing else "bad", f"server {server.name}", f"{len(listed)} tools, {same}"))
            except RemitError as error:
                found.append(("bad", f"server {server.name}", error.message + _no_such_program(server)))
    finally:
        await client.close()
    found += await _egresses(configuration)
    found += await _transmitters(configuration)
    if configuration.targets:
        found += await _target_states(folder)
    if settings.events:
        found += await _event_states(folder)
    return _diagnosis(found, as_json=as_json)


async def _event_states(folder: Path) -> list[tuple[str, str, str]]:
    """How far each sink of events is behind the ledger, and since when it has not moved."""
    found: list[tuple[str, str, str]] = []
    try:
        async with open_node(folder) as node:
            end = await node.store.change_mark()
            for sink in node.events.sinks:
                version, cursor = await read_cursor(node.store, sink)
                behind, silent = end - cursor.entry, int(utc_now().timestamp()) - cursor.at
                what = f"{behind:,} entries behind" if behind else "told everything"
                if not version:
                    found.append(("good", f"events {sink.name}", "was never told anything: it begins when `remit serve` runs"))
                elif behind and silent > _SILENT_SECONDS:
                    found.append(("bad", f"events {sink.name}", f"{what}, and none taken for {silent:,} seconds; nothing is lost"))
                else:
                    found.append(("good", f"events {sink.name}", what))
    except RemitError as error:
        found.append(("bad", "events", str(error)))
    return found


async def _trust_state(configuration: Configuration) -> list[tuple[str, str, str]]:
    """Whether the keys of those we trust can be had, and the server's certificate be used."""
    settings, limits, found = configuration.settings, configuration.settings.limits, []
    if settings.tls is not None:
        try:
            ServerTls(*settings.tls)
            found.append(("good", "tls", str(settings.tls[0])))
        except Mistake as mistake:
            found.append(("bad", "tls", str(mistake)))
    examined = await examine(
        configuration.trust, document_bytes_max=limits.trust_document_bytes, fetch_seconds_max=limits.trust_fetch_seconds
    )
    return found + [("good" if good else "bad", who, what) for who, what, good in examined]


async def _egresses(configuration: Configuration) -> list[tuple[str, str, str]]:
    """Whether each API can be reached, and is who it should be. Nothing of a credential is sent."""
    found, client = [], EgressClient(bytes_max=configuration.settings.limits.result_bytes, seconds_max=_CONNECT_SECONDS)
    try:
        for egress in configuration.egresses.values():
            try:
                answer = await client.send(egress, Outgoing(method="HEAD", url=f"{egress.url}/", headers={}), {})
                found.append(("good", f"egress {egress.name}", f"{len(egress.operations)} operations; it answers ({answer.status})"))
            except Outage as error:
                found.append(("bad", f"egress {egress.name}", error.message))
    finally:
        await client.close()
    return found


async def _transmitters(configuration: Configuration) -> list[tuple[str, str, str]]:
    """Whether the keys of each transmitter of signals can be had: without them nothing of it is believed."""
    found, reach = [], Outward()
    try:
        for name, rule in configuration.signals.transmitters.items():
            try:
                number = await TransmitterKeys(rule, reach, utc_now).fetch()
                found.append(("good", f"transmitter {name}", f"{number} keys of {rule.issuer}"))
            except RemitError as error:
                found.append(("bad", f"transmitter {name}", f"no keys of {rule.issuer}: {error.message}"))
    finally:
        await reach.close()
    return found


async def _target_states(folder: Path) -> list[tuple[str, str, str]]:
    """Whether each target is reachable, and lets remit do what it must and hand on what leases name."""
    found: list[tuple[str, str, str]] = []
    try:
        async with open_node(folder) as node:
            for name, one in await check_targets(node.leases.targets, node.rules.configuration.task_types.values()):
                state = "good" if one.good else "bad" if one.known else "warning"
                found.append((state, f"target {name}", f"{one.text}: {one.mend}" if one.mend else one.text))
    except RemitError as error:
        found.append(("bad", "targets", str(error)))
    return found


def _no_such_program(server: StdioServer | HttpServer) -> str:
    if isinstance(server, HttpServer):
        return ""
    program = shutil.which(server.command[0], path=server.environment.get("PATH"))
    return "" if program else f": there is no program {server.command[0]!r} in PATH"


def _database_state(url: str) -> tuple[str, str, str]:
    """Whether PostgreSQL answers. An address that cannot be read is not repeated: it may hold a password."""
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS) as database:
            version = database.info.server_version // 10_000
    except psycopg.OperationalError as error:
        return "bad", "store", f"PostgreSQL cannot be reached: {str(error).splitlines()[0][:300]}"
    except psycopg.Error:
        return "bad", "store", "PostgreSQL: storage.url cannot be read as an address"
    return "good", "store", f"PostgreSQL {version}"


def _socket_state(path: Path, agents: list[str]) -> tuple[str, str, str]:
    """Whether the Workload API's socket stands where nobody else can put another one."""
    try:
        check_folder(path)
    except Mistake as mistake:
        return "bad", "workload api", str(mistake)
    return "good", "workload api", f"{path}, for processes of: {', '.join(agents) or 'nobody ([agents.NAME.attest] is nowhere)'}"


def _store_state(path: Path) -> tuple[str, str, str]:
    if not path.exists():
        return "good", "store", f"{path} will be made at the first start"
    if not path.is_file():
        return "bad", "store", f"{path} is not a file"
    if os.stat(path).st_mode & 0o077:
        return "bad", "store", f"other accounts can read {path}: chmod 600"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            return "bad", "store", f"{path}: {error}"
    return ("good" if answer == "ok" else "bad"), "store", f"{path}: {answer}"


def _keys_state(settings: Settings) -> tuple[str, str, str]:
    clear = [key.name for key in kept_keys(settings.keys) if key.kept == "clear"]
    if not clear:
        return "good", "keys", f"{settings.keys}: sealed, under {settings.key_encryption}"
    if settings.key_encryption:
        return "warning", "keys", f"{settings.keys}: still in clear: {', '.join(clear)} ({_mend(clear)})"
    if not settings.storage_url and settings.keys.resolve().is_relative_to(settings.storage.parent.resolve()):
        return "warning", "keys", f"{settings.keys}: in clear beside the store: who copies both reads both ([trust] key_encryption)"
    return "good", "keys", f"{settings.keys}: in clear"


def _mend(clear: list[str]) -> str:
    left = any(name.startswith(".") for name in clear)
    return f"remit keys wrap{'; a crash left those that begin with a dot: delete them' if left else ''}"


def _diagnosis(found: list[tuple[str, str, str]], *, as_json: bool) -> int:
    data = [{"state": state, "what": what, "finding": finding} for state, what, finding in found]
    lines = [f"{_SIGNS[state]} {what}: {_in_lines(finding)}" for state, what, finding in found]
    emit(data, "\n".join(lines), as_json=as_json)
    return REFUSED if any(state == "bad" for state, _, _ in found) else 0


def _in_lines(finding: str) -> str:
    return "\n  ".join(safe(line.strip()) for line in finding.splitlines())

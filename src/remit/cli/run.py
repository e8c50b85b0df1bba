"""``remit run``: opens a task, starts the agent's process, shows decisions as they fall, ends everything, prints the receipt.

Rules: the process gets the address of its own endpoint and no lasting secret; variables that servers take from the
environment are withheld from it. However it ends, the task ends with it. Exit code: the process's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.application import application
from remit.cli.common import emit, folder_option, json_option, operator, reports_errors, safe, say
from remit.cli.proof import VARIABLE, presented, proved, token_option
from remit.cli.run_manifest import manifest_files, manifest_options, watch_manifest
from remit.cli.server import serving
from remit.drivers.key_encryption import withheld_variables
from remit.errors import Mistake, NotFound
from remit.logic.records import decode
from remit.model.attestation import Run
from remit.model.call_record import ApprovalAnswered, CallDecided
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.record import TaskMoved
from remit.model.task import TaskState
from remit.model.tripwire import SecretFound
from remit.node import open_node, utc_now
from remit.services.configuration import environment_names, load_configuration
from remit.services.pinning import pin_servers
from remit.services.receipt import Receipt, describe_call, make_receipt

if TYPE_CHECKING:
    from remit.model.task import Task
    from remit.node import Node
    from remit.settings import Configuration

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_SIGNALLED = 128
_SHOW_SECONDS = 1.0
_EXIT_CODES = (
    "Exit codes: COMMAND's own (128 and the number of the signal that ended it); before it is started: "
    "1 refused, 2 wrong usage or configuration."
)
_FOLLOWS = {"record": "it is recorded", "suspend": "the task is suspended", "revoke": "the task ends"}
_MARKS = {"allow": ("✓ allow", "green"), "ask": ("? ask  ", "yellow"), "deny": ("✗ deny ", "red")}


@click.command(context_settings={"ignore_unknown_options": True}, epilog=_EXIT_CODES)
@click.argument("task_type")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--input", "-i", "inputs", multiple=True, metavar="KEY=VALUE", help="An input of the task.")
@click.option("--agent", help="The declared agent that runs (default: the only one that may be given this task type).")
@click.option("--on-behalf-of", help="The person or system the agent works for (default: you).")
@manifest_options
@click.option("--quiet", "-q", is_flag=True, help="Do not show decisions, only the receipt.")
@token_option
@folder_option
@json_option
@reports_errors
async def run(
    task_type: str,
    command: tuple[str, ...],
    inputs: tuple[str, ...],
    agent: str | None,
    on_behalf_of: str | None,
    quiet: bool,
    token_file: str | None,
    folder: Path,
    as_json: bool,
    **manifest: Any,
) -> int:
    """Run COMMAND as an agent on one task of TASK_TYPE, and end its authority when it ends.

    The process finds its MCP endpoint in REMIT_MCP_URL (and REMIT_MCP_URL_<SERVER>), a configuration for MCP clients in
    the file REMIT_MCP_CONFIG, its task token of minutes in REMIT_TASK_TOKEN, and with [spiffe] socket a SPIFFE Workload API
    of its own in SPIFFE_ENDPOINT_SOCKET.
    """
    folder = folder.resolve()
    configuration = load_configuration(folder)
    proof = presented(token_file)
    name = agent or ("" if proof else _only_agent(configuration, task_type))
    values = parse_inputs(configuration, task_type, inputs)
    for change in await pin_servers(configuration, configuration.servers, only_new=True):
        say(f"pinned {len(change.added)} tools of {change.server} in tools.lock.json: look at it, keep it in git")
    async with open_node(folder, deciding=True) as node:
        name, workload = await proved(node, proof, name, "started by {} through remit run")
        files = manifest_files(node.configuration.agents[name].manifest, command, **manifest)
        task = await node.dispatcher.open(
            agent=name,
            task_type=task_type,
            inputs=values,
            on_behalf_of=on_behalf_of or operator(),
            opened_by=operator(),
            manifest=files.parts(),
        )
        node.start()
        watching = asyncio.create_task(watch_manifest(node.manifests, task.id, files))
        try:
            code, reason = await _supervise(node, task, name, workload.proof, command, quiet=quiet)
        except BaseException:
            await node.tasks.end(task.id, TaskState.REVOKED, by="remit", reason="remit run was stopped")
            await node.leases.end_task(task.id)
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await node.tasks.end(task.id, TaskState.COMPLETED, by="remit", reason=reason)
        await node.end_task(task.id)
        await node.end_below()
        receipt = await make_receipt(node.store, node.ledger, node.rules.rulebook.classes.names, task.id, utc_now())
    if as_json:
        emit(receipt, "", as_json=True)
    else:
        say(receipt_text(receipt))
    return code


def parse_inputs(configuration: Configuration, task_type: str, given: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` words as typed values. Raises Mistake."""
    kind = configuration.task_types.get(task_type)
    types = {entry.name: entry.schema["type"] for entry in kind.inputs} if kind else {}
    values: dict[str, Any] = {}
    for word in given:
        key, equals, text = word.partition("=")
        if not equals:
            raise Mistake(f"{word[:80]!r} is not KEY=VALUE", code="input", hint="-i bill=/data/bill.txt")
        if key in values:
            raise Mistake(f"input {key!r} is given twice", code="input")
        values[key] = _typed(key, text, types.get(key, "string"))
    return values


def receipt_text(receipt: Receipt) -> str:
    """The receipt for people."""
    seen = receipt.data_class + (", from untrusted sources" if receipt.untrusted else "")
    open_ends = f", {receipt.undetermined} of unknown end" if receipt.undetermined else ""
    svids = ""
    if receipt.svids_expire_at is not None:
        until = f"{receipt.svids_expire_at:%H:%M:%S} UTC"
        svids = f"  SVIDs        {receipt.svids_issued} issued to its processes; they prove the agent until {until}\n"
    note = "\n".join(f"    {line}" for line in receipt.checkpoint.splitlines())
    return (
        f"\n── receipt ── {receipt.task} ({safe(receipt.type)}) is {receipt.state}: {safe(receipt.reason)}\n"
        f"  agent        {receipt.agent}, for {safe(receipt.on_behalf_of)}\n"
        f"  objective    {safe(receipt.objective)}\n"
        f"  calls        {receipt.allowed} allowed, {receipt.asked} asked, {receipt.denied} denied{open_ends}\n"
        f"  has read     {seen}\n"
        f"  credentials  {receipt.tokens_issued} task token issued, {receipt.tokens_alive} still opens anything\n"
        f"{_leases_text(receipt)}"
        f"{svids}"
        f"  exposure     {receipt.exposure_seconds:.1f} s\n"
        f"  ledger       {receipt.ledger_entries} entries under this checkpoint:\n{note}"
    )


def _leases_text(receipt: Receipt) -> str:
    if not receipt.leases_issued and not receipt.leases_standing:
        return ""
    gone = f"{receipt.leases_issued} issued, {receipt.leases_revoked} confirmed gone, exposed for {receipt.lease_seconds:.1f} s"
    standing = "".join(f"\n               {line}: still being revoked" for line in receipt.leases_standing)
    secrets = "".join(f"\n               {safe(name)}: a standing secret, it opens its system still" for name in receipt.standing_secrets)
    return f"  leases       {gone}{standing}{secrets}\n"


async def _supervise(node: Node, task: Task, agent: str, proof: str, command: tuple[str, ...], *, quiet: bool) -> tuple[int, str]:
    """Serve the task's endpoint while the process runs; its exit code, and how it ended in words."""
    host = node.configuration.settings.host
    with tempfile.TemporaryDirectory(prefix="remit-") as scratch:
        socket = Path(scratch) / "workload.sock" if node.configuration.settings.workload.socket else None
        async with serving(application(node), host, 0) as port, node.workload.serving(socket):
            secret = node.gateway.gate.open_endpoint(task.id)
            base = f"http://{host}:{port}/run/{secret}"
            token, _ = await node.tokens.issue(task.id, proof)
            environment = _environment(node.configuration, task, base, token, Path(scratch))
            if socket is not None:
                environment["SPIFFE_ENDPOINT_SOCKET"] = f"unix://{socket}"
            showing = asyncio.create_task(_show(node, task.id, quiet=quiet))
            say(f"task {task.id}: {safe(task.objective)}")
            try:
                code = await _child(node, task, agent, command, environment)
                await _shown(node)
            finally:
                showing.cancel()
    if code < 0:
        return _SIGNALLED - code, f"the process was ended by {signal.Signals(-code).name}"
    return code, f"the process ended with code {code}"


async def _child(node: Node, task: Task, agent: str, command: tuple[str, ...], environment: dict[str, str]) -> int:
    processes = node.workload.processes
    processes.begin_start()
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
    except OSError as error:
        raise Mistake(f"cannot start {command[0]!r}: {error.strerror}", code="command") from None
    processes.started(process.pid, Run(agent=agent, task=task.id))
    loop = asyncio.get_running_loop()
    for number in _FORWARDED:
        loop.add_signal_handler(number, _forward, process, number)
    try:
        return await process.wait()
    finally:
        for number in _FORWARDED:
            loop.remove_signal_handler(number)
        if process.returncode is None:
            process.kill()


def _forward(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Pass a signal on; an interrupt typed at the terminal has reached the process already."""
    if number is signal.SIGINT and sys.stdin.isatty():
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _environment(configuration: Configuration, task: Task, base: str, token: str, scratch: Path) -> dict[str, str]:
    settings = configuration.settings
    withheld = environment_names(settings.folder) | withheld_variables(settings.key_encryption) | {VARIABLE}
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    granted = {grant.server for grant in task.grants}
    servers = sorted(granted & set(configuration.servers))  # the others run in their own programs
    urls = {server: f"{base}/mcp/{server}" for server in servers}
    egresses = {name: f"{base}/egress/{name}" for name in sorted(granted & set(configuration.egresses))}
    config = scratch / "mcp.json"
    descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"mcpServers": {server: {"type": "http", "url": url} for server, url in urls.items()}}, file)
    environment |= {
        "REMIT_TASK": task.id,
        "REMIT_OBJECTIVE": task.objective,
        "REMIT_TASK_TOKEN": token,
        "REMIT_MCP_CONFIG": str(config),
    }
    if servers:
        environment["REMIT_MCP_URL"] = urls[servers[0]]
    if egresses:
        environment["REMIT_EGRESS_URL"] = next(iter(egresses.values()))
    environment |= {f"REMIT_MCP_URL_{server.upper().replace('-', '_')}": url for server, url in urls.items()}
    environment |= {f"REMIT_EGRESS_URL_{name.upper().replace('-', '_')}": url for name, url in egresses.items()}
    return environment


async def _show(node: Node, task_id: str, *, quiet: bool) -> None:
    async for entry in node.feed.watch():
        if entry.task != task_id or quiet:
            continue
        record = decode(entry.body)
        clock = record.at.astimezone().strftime("%H:%M:%S")
        body = record.body
        if isinstance(body, CallDecided):
            mark, colour = _MARKS[body.outcome]
            say(f"  {clock} {click.style(mark, fg=colour)} {safe(describe_call(body))}")
            if body.outcome == "ask":
                say(f"           answer with: remit approve {body.approval}   or: remit deny {body.approval}")
        elif isinstance(body, ApprovalAnswered):
            say(f"  {clock} {body.approval} was {body.state} by {safe(body.by)}")
        elif isinstance(body, ManifestChanged):
            say(f"  {clock} drift: {safe(', '.join(line.part for line in body.parts))} changed, so {_FOLLOWS[body.follows]}")
            say(f"           look at it with: remit task drift {task_id}")
        elif isinstance(body, ManifestAccepted):
            say(f"  {clock} {safe(body.by)} accepted the drift; the task goes on {safe(body.reason)}")
        elif isinstance(body, SecretFound):
            say(f"  {clock} a credential of lease {safe(', '.join(body.names))} was found in {body.place}; the task is suspended")
        elif isinstance(body, TaskMoved) and body.to != TaskState.ACTIVE:
            say(f"  {clock} the task is {body.to} by {safe(body.by)} {safe(body.reason)}")


async def _shown(node: Node) -> None:
    """Let what has happened reach the terminal before the receipt."""
    mark = await node.store.change_mark()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SHOW_SECONDS):
            while node.feed.mark < mark:
                await asyncio.sleep(0.02)
    await asyncio.sleep(0)


def _only_agent(configuration: Configuration, task_type: str) -> str:
    if task_type not in configuration.task_types:
        known = ", ".join(sorted(configuration.task_types)) or "none"
        raise NotFound(f"there is no task type {task_type[:80]!r}", hint=f"tasks/*.toml has: {known}")
    able = [agent.name for agent in configuration.agents.values() if task_type in agent.tasks]
    if len(able) == 1:
        return able[0]
    if not able:
        raise NotFound(f"no agent may be given {task_type[:80]!r}", hint="list it in [agents.NAME] tasks of remit.toml")
    raise Mistake(f"several agents may be given {task_type}", code="agent", hint=f"--agent {' | '.join(able)}")


def _typed(key: str, text: str, kind: str) -> Any:
    if kind == "integer":
        try:
            return int(text)
        except ValueError:
            raise Mistake(f"input {key}={text[:40]!r} is not a whole number", code="input") from None
    if kind == "boolean":
        if text not in {"true", "false"}:
            raise Mistake(f"input {key}={text[:40]!r} is neither true nor false", code="input")
        return text == "true"
    return text

"""Commands on running work: ``serve``, ``task``. Questions are in ``approvals.py``."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import click
import msgspec

from remit.cli.approvals import not_from_a_task
from remit.cli.common import emit, folder_option, json_option, operator, reports_errors, safe, say
from remit.cli.drift_text import drift_text
from remit.cli.proof import VARIABLE, presented, proved, token_option
from remit.cli.run import parse_inputs, receipt_text
from remit.cli.server import serving
from remit.cli.tls import ServerTls, trusting
from remit.errors import Mistake, Refusal
from remit.model.labels import Labels
from remit.model.task import TaskState
from remit.node import open_node, utc_now
from remit.services.configuration import load_configuration
from remit.services.family import Member, family, narrow
from remit.services.pinning import pin_servers
from remit.services.receipt import make_receipt
from remit.services.tasks import LIVE_STATES

_LIST_MAX = 200


@click.command()
@folder_option
@reports_errors
async def serve(folder: Path) -> None:
    """Serve the gateway and the control API until a signal stops it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder = folder.resolve()
    configuration = load_configuration(folder)
    for change in await pin_servers(configuration, configuration.servers, only_new=True):
        say(f"pinned {len(change.added)} tools of {change.server} in tools.lock.json: look at it, keep it in git")
    settings = configuration.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    from remit.node_console import consoled  # these take a while to load, and no other command needs them
    from remit.node_metrics import measured

    async with open_node(folder, deciding=True) as node:
        node.start()
        tls = ServerTls(*settings.tls) if settings.tls else None
        async with (
            trusting(tls, node.identities.authorities),
            measured(node) as counted,
            consoled(node, counted) as app,
            serving(app, settings.host, settings.port, tls) as port,
            node.workload.serving(settings.workload.socket),
        ):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            say(f"remit serves http{'s' if tls else ''}://{settings.host}:{port}/mcp/<server>, /mcp and the control API; Ctrl-C stops it")
            say("`remit console` prints a link to the console")
            await stop.wait()


@click.group()
def task() -> None:
    """Tasks: the units of authority."""


@task.command("open")
@click.argument("task_type")
@click.option("--input", "-i", "inputs", multiple=True, metavar="KEY=VALUE", help="An input of the task.")
@click.option("--agent", help="The declared agent that gets the task; not needed with a token.")
@click.option("--on-behalf-of", help="The person or system the agent works for (default: you).")
@token_option
@folder_option
@json_option
@reports_errors
async def task_open(
    task_type: str,
    inputs: tuple[str, ...],
    agent: str | None,
    on_behalf_of: str | None,
    token_file: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Open a task for an agent; prints its id and a task token of minutes for `remit serve`'s gateway."""
    async with open_node(folder.resolve()) as node:
        values, proof = parse_inputs(node.configuration, task_type, inputs), presented(token_file)
        if not agent and not proof:
            raise Mistake("which agent gets the task?", code="agent", hint=f"--agent NAME, or --token-file FILE, or {VARIABLE}")
        name, workload = await proved(node, proof, agent or "", "named by {} at the command line")
        opened = await node.dispatcher.open(
            agent=name, task_type=task_type, inputs=values, on_behalf_of=on_behalf_of or operator(), opened_by=operator()
        )
        token, expires_at = await node.tokens.issue(opened.id, workload.proof)
    data = {"task": opened.id, "access_token": token, "expires_at": expires_at}
    emit(data, f"task   {opened.id}\ntoken  {token}\nuntil  {expires_at.isoformat()}", as_json=as_json)


@task.command("list")
@click.option("--all", "everything", is_flag=True, help="Ended tasks too.")
@folder_option
@json_option
@reports_errors
async def task_list(everything: bool, folder: Path, as_json: bool) -> None:
    """Tasks, the newest first."""
    async with open_node(folder.resolve()) as node:
        rows = await node.tasks.rows(states=() if everything else LIVE_STATES, limit=_LIST_MAX)
    human = "\n".join(f"{row.task}  {row.state:<9}  {safe(row.type)}  {row.agent}  for {safe(row.on_behalf_of)}" for row in rows)
    emit(rows, human or "no task is open", as_json=as_json)


@task.command("show")
@click.argument("task_id")
@folder_option
@json_option
@reports_errors
async def task_show(task_id: str, folder: Path, as_json: bool) -> None:
    """One task: what it did, what it has read, its receipt so far."""
    async with open_node(folder.resolve()) as node:
        tree = await family(node.store, node.tasks, task_id, _LIST_MAX)
        receipt = await make_receipt(node.store, node.ledger, node.rules.rulebook.classes.names, task_id, utc_now())
        drift = drift_text(await node.manifests.shown(task_id))
    text = f"{receipt_text(receipt)}{drift}"
    if len(tree) == 1:
        emit(receipt, text, as_json=as_json)
        return
    lines = [_member(one, task_id) for one in tree]
    emit({**msgspec.to_builtins(receipt), "tree": tree}, "\n".join([text, *lines]), as_json=as_json)


def _member(one: Member, shown: str) -> str:
    """A task of a tree in a line."""
    mark = "→" if one.task == shown else " "
    lent = f" + {one.calls_lent} lent" if one.calls_lent else ""
    calls = f"{one.calls}{lent} of {one.budget_calls} calls"
    return f"{mark} {'  ' * one.depth}{one.task}  {one.state:<9}  {one.agent}  {calls}  {safe(one.objective)}"


@task.command("narrow")
@click.argument("task_id")
@click.option("--drop", "dropped", multiple=True, type=int, metavar="LINE", help="A line of the grant that is granted no more (from 0).")
@click.option("--uses", "fewer", multiple=True, metavar="LINE=USES", help="A line of the grant and how often it is granted from now on.")
@click.option("--reason", default="", help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def task_narrow(task_id: str, dropped: tuple[int, ...], fewer: tuple[str, ...], reason: str, folder: Path, as_json: bool) -> None:
    """Take something of a task's grant away; it holds at once, for all that it delegated as well."""
    uses = dict.fromkeys(dropped, 0)
    for word in fewer:
        line, _, count = word.partition("=")
        if not (line.isdecimal() and count.isdecimal()):
            raise Mistake(f"--uses {word[:80]!r}", code="uses", hint="--uses 1=3: line 1 three times")
        uses[int(line)] = int(count)
    if not uses:
        raise Mistake("say what is taken away", code="uses", hint="--drop LINE, --uses LINE=USES; `remit task show --json` names lines")
    async with open_node(folder.resolve()) as node:
        narrowed = await narrow(node.tasks, task_id, uses, by=operator(), reason=reason[:500])
        await node.narrow_below(task_id)
    lines = [{"line": index, "name": grant.id, "uses": grant.uses} for index, grant in enumerate(narrowed.grants)]
    human = "\n".join(f"{line['line']}  {safe(line['name'])}  {'any' if line['uses'] is None else line['uses']} uses" for line in lines)
    emit({"task": task_id, "grant": lines}, human, as_json=as_json)


def _mover(name: str, to: TaskState, words: str) -> None:
    """A command that moves a task."""

    @task.command(name, help=words)
    @click.argument("task_id")
    @click.option("--reason", default="", help="Why; it is recorded.")
    @folder_option
    @json_option
    @reports_errors
    async def move(task_id: str, reason: str, folder: Path, as_json: bool) -> None:
        async with open_node(folder.resolve()) as node:
            ending = to in {TaskState.COMPLETED, TaskState.REVOKED}
            change = node.tasks.end if ending else node.tasks.move
            moved = await change(task_id, to, operator(), reason[:500])
            await node.leases.end_task(task_id)  # a running node does it as well: whoever comes first
            if moved.requests:
                await node.end_below()
        if moved.state is not to:
            raise Refusal(f"task {task_id} had already ended: it is {moved.state}", code="task_state")
        emit({"task": moved.id, "state": moved.state}, f"{moved.id} is {moved.state}", as_json=as_json)


_mover("suspend", TaskState.SUSPENDED, "Stop a task for now: no call is allowed until it is resumed.")
_mover("complete", TaskState.COMPLETED, "End a task as done: nothing of it opens anything afterwards.")
_mover("revoke", TaskState.REVOKED, "End a task at once.")


@task.command("declassify")
@click.argument("task_id")
@click.option("--class", "data_class", help="The highest data class that it has read, as you see it (default: as it is).")
@click.option("--trusted", is_flag=True, help="What it has read may be trusted.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def task_declassify(task_id: str, data_class: str | None, trusted: bool, reason: str, folder: Path, as_json: bool) -> None:
    """Lower a task's labels: you answer for it that what it has read is of a lower class, or trustworthy. It is recorded."""
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        classes = node.rules.rulebook.classes
        if data_class is not None and data_class not in classes.names:
            raise Mistake(f"there is no data class {data_class[:80]!r}", code="data_class", hint=f"classes: {', '.join(classes.names)}")
        before = (await node.tasks.view(task_id)).labels
        rank = before.rank if data_class is None else classes.rank(data_class)
        lowered = Labels(rank, before.untrusted and not trusted)
        after = (await node.tasks.lower(task_id, lowered, by=operator(), reason=reason[:500])).labels
    name = classes.name(after.rank)
    human = f"{task_id} has read {name}, {'from strangers too' if after.untrusted else 'from trusted sources'}"
    emit({"task": task_id, "data_class": name, "untrusted": after.untrusted}, human, as_json=as_json)

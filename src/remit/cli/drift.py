"""``remit task drift`` and ``remit task resume``: a person looks at what changed of an agent, and answers for letting it go on.

Rules: what is accepted is the manifest that was shown, by its digest; if it has changed again meanwhile, nothing is accepted.
A process of a task accepts nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from remit.cli.approvals import not_from_a_task
from remit.cli.common import DONE, REFUSED, emit, folder_option, json_option, operator, reports_errors, safe, say
from remit.cli.drift_text import drift_text
from remit.cli.work import task
from remit.errors import Refusal
from remit.model.manifest import PartKind
from remit.model.task import TaskState
from remit.node import open_node

if TYPE_CHECKING:
    from pathlib import Path

    from remit.model.task import Task
    from remit.node import Node


@task.command("drift")
@click.argument("task_id")
@folder_option
@json_option
@reports_errors
async def task_drift(task_id: str, folder: Path, as_json: bool) -> int:
    """What of a task's agent changed since it was opened, part by part; of tools also line by line. Exit code 1: something did."""
    async with open_node(folder.resolve()) as node:
        drift = await node.manifests.shown(task_id)
    emit(drift, drift_text(drift).lstrip("\n") or f"the manifest of {task_id} is what it was", as_json=as_json)
    return REFUSED if drift.parts else DONE


@task.command("resume")
@click.argument("task_id")
@click.option("--manifest", "shown", metavar="DIGEST", default="", help="After a drift: the manifest that `remit task drift` showed you.")
@click.option("--reason", default="", help="Why; it is recorded.")
@folder_option
@json_option
@reports_errors
async def task_resume(task_id: str, shown: str, reason: str, folder: Path, as_json: bool) -> None:
    """Let a suspended task go on. After a drift you accept exactly the manifest that was shown to you; it is recorded.

    At a terminal the difference is shown and you are asked. A tool that has changed can be called in this task once it is accepted
    here and pinned (`remit pin SERVER`).
    """
    not_from_a_task()
    async with open_node(folder.resolve()) as node:
        before = await node.tasks.view(task_id)
        if before.drift:
            manifest = shown or await _seen(node, task_id)
            moved = await node.manifests.accept(task_id, manifest, by=operator(), reason=reason[:500])
            if unpinned := _unpinned(node, before, moved):
                say(f"accepted in this task, and still refused until they are pinned so (remit pin SERVER): {safe(', '.join(unpinned))}")
        else:
            moved = await node.tasks.move(task_id, TaskState.ACTIVE, operator(), reason[:500])
    emit({"task": moved.id, "state": moved.state}, f"{moved.id} is {moved.state}", as_json=as_json)


async def _seen(node: Node, task_id: str) -> str:
    """The digest of what was shown just now, if the person says yes. Raises Refusal where nobody can be asked."""
    drift = await node.manifests.shown(task_id)
    say(drift_text(drift).lstrip("\n"))
    if not sys.stdin.isatty():
        hint = f"look at it, then: remit task resume {task_id} --manifest {drift.manifest}"
        raise Refusal(f"the manifest of {task_id} changed, and nobody has accepted it", code="manifest_changed", hint=hint)
    if not click.confirm("Accept this manifest and let the task go on?", err=True):
        raise Refusal(f"the drift of {task_id} was not accepted; it stays suspended", code="manifest_changed")
    return drift.manifest


def _unpinned(node: Node, before: Task, after: Task) -> list[str]:
    """Tools that were accepted otherwise than they are pinned."""
    pinned = node.rules.rulebook.pinned
    changed = [part.partition("/")[2] for part in before.drift if part.startswith(f"{PartKind.SERVERS}/")]
    return sorted(tool for tool in changed if tool in after.tools and (tool not in pinned or pinned[tool].digest != after.tools[tool]))

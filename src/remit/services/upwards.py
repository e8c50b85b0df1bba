"""What a child reads counts for all that delegated: its labels are joined to theirs at once, before anything is released to it.

Why at once and not at its end: agents speak with each other where remit does not hear them, so whatever the child has read may be
with its parent the moment it has it. The values themselves have no origin above: nobody there saw them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.model.call_record import LabelsRaised
from remit.model.record import Body

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.task import Task
    from remit.services.tasks import Tasks


async def tell_above(tasks: Tasks, task_id: str, decision: str) -> str:
    """Join a child's labels to those of all above it, durably. Says why nothing may be released to it ("" : it may). Raises Outage."""
    task = await tasks.view(task_id)
    for ancestor in await tasks.ancestors(task):
        if ancestor.over:
            return f"task {ancestor.id}, which delegated, is {ancestor.state}"
        if ancestor.labels.covers(task.labels):
            continue

        def build(above: Task, _now: datetime) -> tuple[Body, None]:
            if above.over:
                raise _OverError
            labels = above.labels.join(task.labels)
            return LabelsRaised(decision=decision, rank=labels.rank, untrusted=labels.untrusted, child=task_id), None

        try:
            await tasks.change(ancestor.id, build)
        except _OverError:
            return f"task {ancestor.id}, which delegated, has ended"
    return ""


class _OverError(Exception):
    """Leaves a build: the task above has ended."""

"""What an operator does to a task: suspend, resume, revoke. Recorded as by whom, with the reason, before anything follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Conflict
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.model.task import Task
    from remit.services.tasks import Tasks

_REASON_CHARACTERS_MAX = 500


class TaskActs:
    """Acts on tasks of one store."""

    def __init__(self, tasks: Tasks, end_task: Callable[[str], Awaitable[None]], lost: Callable[[str], Awaitable[None]]) -> None:
        """``end_task``: lets go of all that hangs on an ended one; ``lost``: of what a suspended one may not keep."""
        self._tasks, self._end_task, self._lost = tasks, end_task, lost

    async def suspend(self, task_id: str, *, by: str, reason: str) -> Task:
        """No call is allowed from its return, until it is resumed; its credentials go. Raises NotFound, Conflict, Outage."""
        task = await self._tasks.move(task_id, TaskState.SUSPENDED, by=by, reason=reason[:_REASON_CHARACTERS_MAX])
        await self._lost(task_id)
        return task

    async def resume(self, task_id: str, *, by: str, reason: str) -> Task:
        """Let it go on. Raises NotFound, Conflict (it has ended, or its agent changed and nobody accepted that), Outage."""
        return await self._tasks.move(task_id, TaskState.ACTIVE, by=by, reason=reason[:_REASON_CHARACTERS_MAX])

    async def revoke(self, task_id: str, *, by: str, reason: str) -> Task:
        """End it at once. Raises NotFound, Conflict (it had ended otherwise), Outage."""
        task = await self._tasks.end(task_id, TaskState.REVOKED, by=by, reason=reason[:_REASON_CHARACTERS_MAX])
        await self._end_task(task_id)
        if task.state is not TaskState.REVOKED:
            raise Conflict(f"task {task_id} had already ended: it is {task.state}", code="task_state")
        return task

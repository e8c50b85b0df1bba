"""The page of one task, and an operator's buttons. Translates; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.console.frame import Page
from remit.errors import Mistake
from remit.model.console import Action
from remit.model.task import TASK_MOVES, TaskState

if TYPE_CHECKING:
    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.services.task_acts import TaskActs
    from remit.services.task_story import TaskStories

TASK = "/console/tasks/{task}"
_DIGITS_MAX = 9
_INPUTS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDoor:
    """Shows tasks, and moves them."""

    stories: TaskStories
    acts: TaskActs

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path=TASK, action=Action.LOOK, show=self._show, of_task=True),
            Page(method="POST", path=f"{TASK}/suspend", action=Action.SUSPEND, show=self._suspend, of_task=True),
            Page(method="POST", path=f"{TASK}/resume", action=Action.RESUME, show=self._resume, of_task=True),
            Page(method="POST", path=f"{TASK}/revoke", action=Action.REVOKE, show=self._revoke, of_task=True),
        ]

    async def _show(self, visit: Visit) -> Response:
        told = await self.stories.of(_id(visit), _first(visit.request.query_params.get("from", "")))
        moves = TASK_MOVES[told.task.state]
        buttons = {
            "suspend": TaskState.SUSPENDED in moves and visit.may(Action.SUSPEND),
            "resume": told.task.state is TaskState.SUSPENDED and visit.may(Action.RESUME),
            "revoke": TaskState.REVOKED in moves and visit.may(Action.REVOKE),
        }
        inputs = list(told.task.inputs.items())
        return visit.page(
            "task.html",
            told=told,
            task=told.task,
            inputs=inputs[:_INPUTS_MAX],
            more_inputs=max(len(inputs) - _INPUTS_MAX, 0),
            buttons=buttons,
            may_answer=visit.may(Action.ANSWER),
        )

    async def _suspend(self, visit: Visit) -> Response:
        await self.acts.suspend(_id(visit), by=visit.session.visitor.name, reason=_reason(visit))
        return self._back(visit)

    async def _resume(self, visit: Visit) -> Response:
        await self.acts.resume(_id(visit), by=visit.session.visitor.name, reason=_reason(visit))
        return self._back(visit)

    async def _revoke(self, visit: Visit) -> Response:
        await self.acts.revoke(_id(visit), by=visit.session.visitor.name, reason=_reason(visit))
        return self._back(visit)

    @staticmethod
    def _back(visit: Visit) -> Response:
        return visit.go(f"/console/tasks/{_id(visit)}")


def _id(visit: Visit) -> str:
    assert visit.task is not None, "the frame has loaded it"
    return visit.task.id


def _reason(visit: Visit) -> str:
    reason = visit.field("reason").strip()
    if not reason:
        raise Mistake("say why: it is recorded, and others will ask", code="reason", hint="go back, and write a reason")
    return reason


def _first(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None

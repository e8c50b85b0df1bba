"""Questions that wait for whoever is signed in: the exact call with its evidence, and the two answers. Translates; decides nothing.

Rules: a question is shown to those who may answer it, with its values; being an approver of the console is not enough. What is denied needs
no passkey. Of two who answer at once one answer holds, and the other is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remit.doors.console.frame import Page
from remit.errors import Conflict, Mistake, NotFound
from remit.model.approval import ApprovalState
from remit.model.console import Action
from remit.services.passkeys import act_of_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.responses import Response

    from remit.doors.console.frame import Visit
    from remit.model.task import Task
    from remit.services.approvals import Approvals, Person, Question
    from remit.services.passkeys import Passkeys, Site
    from remit.services.task_story import TaskStories

APPROVALS = "/console/approvals"
QUESTION = "/console/tasks/{task}/approvals/{approval}"
_SHOWN_MAX, _BEFORE_MAX = 50, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalsDoor:
    """``site``: where passkeys are known."""

    approvals: Approvals
    passkeys: Passkeys
    stories: TaskStories
    clock: Callable[[], datetime]
    site: Site

    def pages(self) -> list[Page]:
        """What is served here."""
        return [
            Page(method="GET", path=APPROVALS, action=Action.ANSWER, show=self._list),
            Page(method="GET", path=QUESTION, action=Action.ANSWER, show=self._look, of_task=True),
            Page(method="POST", path=QUESTION, action=Action.ANSWER, show=self._answer, of_task=True),
        ]

    async def _list(self, visit: Visit) -> Response:
        person, now = self.approvals.signed_in(visit.session.visitor), self.clock()
        waiting = await self.approvals.waiting(person)
        left = [(one, int((one.approval.expires_at - now).total_seconds())) for one in waiting[:_SHOWN_MAX]]
        return visit.page("approvals.html", waiting=left, more=max(len(waiting) - _SHOWN_MAX, 0), person_name=person.name)

    async def _look(self, visit: Visit) -> Response:
        person = self.approvals.signed_in(visit.session.visitor)
        question = await self._question(visit, person)
        asked, task = question.approval, question.task
        wants = self.approvals.wants_passkey(task, asked)
        act = act_of_answer(asked.id, asked.digest)
        challenge = await self.passkeys.to_prove(visit.session, self.site, act) if wants else None
        told = await self.stories.of(task.id)
        return visit.page(
            "question.html",
            question=question,
            asked=asked,
            task=task,
            evidence=question.details.evidence if question.details else None,
            seconds_left=max(int((asked.expires_at - self.clock()).total_seconds()), 0),
            open=asked.state is ApprovalState.PENDING and self.clock() < asked.expires_at and not task.over,
            before=[step for step in told.steps if step.approval != asked.id][-_BEFORE_MAX:],
            person_name=person.name,
            wants_passkey=wants,
            challenge=challenge,
            elsewhere="" if self.site.is_at(visit.request.headers.get("host", "")) else self.site.origin,
        )

    async def _answer(self, visit: Visit) -> Response:
        person, answer = self.approvals.signed_in(visit.session.visitor), visit.field("answer")
        if answer not in {"approve", "deny"}:
            raise Mistake("neither yes nor no", code="body")
        question = await self._question(visit, person)
        asked, granted = question.approval, answer == "approve"
        if granted and self.approvals.wants_passkey(question.task, asked) and visit.field("passkey"):
            act = act_of_answer(asked.id, asked.digest)
            proved = await self.passkeys.proved(visit.session, self.site, act, visit.field("state"), visit.field("passkey"))
            person = replace(person, passkey=proved)
        try:
            answered = await self.approvals.answer(person, asked.id, granted=granted, reason=visit.field("reason"))
        except Conflict as conflict:
            return _said(visit, question.task, "Your answer did not count", conflict.message, conflict.hint, 409)
        return _said(visit, question.task, *_told(answered.state, answered.needed - len(answered.answers)))

    async def _question(self, visit: Visit, person: Person) -> Question:
        """Raises NotFound where there is none, or none of theirs."""
        question = await self.approvals.shown(visit.request.path_params["approval"], person)
        if visit.task is None or question.task.id != visit.task.id:
            raise NotFound("this task has no such question")
        return question


def _said(visit: Visit, task: Task, title: str, said: str, hint: str = "", status: int = 200) -> Response:
    return visit.page("answered.html", status, title=title, said=said, hint=hint, task=task)


def _told(state: ApprovalState, more: int) -> tuple[str, str]:
    if state is ApprovalState.PENDING:
        return "Your yes is recorded", f"{more} more must agree before the call may be made."
    if state is ApprovalState.GRANTED:
        return "Approved", "The agent may make exactly this call, once."
    return "Denied", "The agent is told so, with your reason."

"""Questions and their answers: who asks for them, who may see and give them, and how long one waits for one.

Rules: who a person is was proved before anything here is called with it: by an approver's secret, by an account of this machine,
or, where the configuration says so, by being the one at the agent's client. Who may answer is judged on the task as it is when
the answer is recorded, by the configuration in force then.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remit.errors import Conflict, Mistake, NotFound, Refusal, Unauthenticated
from remit.logic.approvals import Wish, agreed, chain, check_answer, excluded, same_name
from remit.model.approval import EVERYTHING, Approval, ApprovalState, Widening
from remit.model.catalog import Kind, ToolFacts
from remit.model.console import Via

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.model.approver import Approver, Terms
    from remit.model.console import Visitor
    from remit.model.task import Task
    from remit.services.questions import Details, Questions
    from remit.services.tasks import Tasks
    from remit.store.database import ApprovalRow, Store

_LOOK_SECONDS = 0.1
_LIST_MAX = 200  # shown to one person at a time
_PENDING_MAX = 5_000  # looked at for it: a flood in one scope must not hide the questions of another
_REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who answers, proved. ``via``: cli, http, link, form, console. ``approver``: ``None`` where nobody is configured.

    ``passkey``: digest of the one they proved to have, for exactly this answer ("" : none). ``others_only``: they answer no question
    of a task that runs for them or that they opened, whatever the configuration says of four eyes.
    """

    name: str
    via: str
    approver: Approver | None = None
    passkey: str = ""
    others_only: bool = False

    @property
    def names(self) -> frozenset[str]:
        """All names of this person."""
        return self.approver.names | {self.name} if self.approver else frozenset({self.name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question as it stands, with what was kept of it."""

    approval: Approval
    task: Task
    asked_at: datetime
    details: Details | None


class Approvals:
    """The questions of one store."""

    def __init__(
        self, store: Store, tasks: Tasks, rulebook: Callable[[], Rulebook], questions: Questions, clock: Callable[[], datetime]
    ) -> None:
        self._store, self._tasks, self._rulebook, self._questions, self._clock = store, tasks, rulebook, questions, clock

    def at_terminal(self, operator: str) -> Person:
        """Who works at a terminal of this machine (``local:account``). Raises Refusal where others are configured."""
        consent = self._rulebook().consent
        if not consent.approvers:
            return Person(name=operator, via="cli")
        account = operator.removeprefix("local:")
        for approver in consent.approvers:
            if account in approver.accounts:
                return Person(name=approver.name, via="cli", approver=approver)
        raise Refusal(
            f"approvers are configured, and {operator} is none of them",
            code="not_an_approver",
            hint="--as NAME proves with a secret who you are; or list the account in approvers.NAME.accounts",
        )

    def by_secret(self, secret: str, via: str, name: str = "") -> Person:
        """Whose secret this is; with ``name``, only that approver's. All are compared, each in constant time. Raises Unauthenticated."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        found = None
        for approver in self._rulebook().consent.approvers:
            same = hmac.compare_digest(approver.secret_digest, digest)
            if same and (not name or approver.name == name):
                found = approver
        if found is None:
            raise Unauthenticated("this secret opens nothing here", hint="Authorization: Bearer <an approver's secret>")
        return Person(name=found.name, via=via, approver=found)

    def signed_in(self, visitor: Visitor) -> Person:
        """A person of the console. Raises Refusal where approvers are configured, and they are none of them."""
        consent = self._rulebook().consent
        if visitor.via is Via.LINK:
            return replace(self.at_terminal(visitor.name), via="console")
        if not consent.approvers:
            return Person(name=visitor.name, via="console", others_only=True)
        approver = consent.named(visitor.name)
        if approver is None:
            hint = "approvers.NAME.aliases in remit.toml: how the provider calls them"
            raise Refusal(f"approvers are configured, and {visitor.name} is none of them", code="not_an_approver", hint=hint)
        return Person(name=approver.name, via="console", approver=approver)

    def at_client(self, task: Task) -> Person | None:
        """The person at the agent's client, who is the one the task runs for: if such a one may answer at all.

        Not where the agent itself opened the task: then it chose that name, and would answer itself.
        """
        if not task.on_behalf_of or same_name(task.opened_by) in {same_name(name) for name in chain(task)}:
            return None
        consent = self._rulebook().consent
        if not consent.approvers:
            return Person(name=task.on_behalf_of, via="form")
        approver = consent.named(task.on_behalf_of)
        return Person(name=approver.name, via="form", approver=approver) if approver else None

    def person(self, approver: Approver, via: str) -> Person:
        """An approver who was proved in another way."""
        return Person(name=approver.name, via=via, approver=approver)

    def terms(self, task: Task, approval: Approval) -> Terms | None:
        """What the configuration says now of such questions; ``None`` where the tool is no longer known."""
        rules, tool = self._rulebook(), self._tool(approval)
        return rules.consent.terms(tool, task, rules.classes) if tool else None

    def who(self, task: Task, approval: Approval) -> tuple[Approver, ...]:
        """The configured approvers who may answer, and have not."""
        rules, tool = self._rulebook(), self._tool(approval)
        answered = {same_name(answer.by) for answer in approval.answers}
        if tool is None:
            return ()
        return tuple(one for one in rules.consent.who(tool, task, rules.classes) if same_name(one.name) not in answered)

    def may_answer(self, person: Person, task: Task, approval: Approval) -> bool:
        """Whether the configuration lets this person answer; four eyes and the question's state aside."""
        consent, tool = self._rulebook().consent, self._tool(approval)
        if person.others_only and {same_name(name) for name in person.names} & excluded(task, four_eyes=True):
            return False
        if person.approver is None:
            return not consent.approvers
        current = next((one for one in consent.approvers if one.name == person.name), None)  # as configured now
        return current is not None and tool is not None and current in consent.who(tool, task, self._rulebook().classes)

    def wants_passkey(self, task: Task, approval: Approval) -> bool:
        """Whether a yes is given with a passkey: as it was when it was asked, or as it is configured now, whichever is stricter."""
        terms = self.terms(task, approval)
        return approval.passkey or (terms is not None and terms.passkey)

    async def pending(self, limit: int = _PENDING_MAX) -> tuple[ApprovalRow, ...]:
        """Rows of open questions, oldest first."""
        return await self._store.approvals(states=(ApprovalState.PENDING,), limit=limit, alive_at=self._clock())

    async def waiting(self, person: Person) -> list[Question]:
        """Open questions that this person may answer, the oldest first."""
        found: list[Question] = []
        for row in await self.pending():
            task = await self._tasks.view(row.task)
            approval = task.approvals.get(row.approval)
            if approval is None or task.over or not self.may_answer(person, task, approval):
                continue
            details = await self._questions.details(row.approval)
            found.append(Question(approval=approval, task=task, asked_at=row.asked_at, details=details))
            if len(found) == _LIST_MAX:
                break
        return found

    async def shown(self, approval: str, person: Person) -> Question:
        """One question, open or not. Raises NotFound where there is none, or it is none of this person's."""
        row = await self._store.approval(approval)
        question = await self._question(row) if row else None
        if question is None or not self.may_answer(person, question.task, question.approval):
            raise NotFound(f"there is no approval {approval[:80]} for you", hint="`remit approvals` lists what waits")
        return question

    async def read(self, task_id: str, approval: str) -> Question | None:
        """A question for remit itself, whoever may see it. Raises NotFound, Outage."""
        row = await self._store.approval(approval)
        return await self._question(row) if row and row.task == task_id else None

    async def answer(self, person: Person, approval: str, *, granted: bool, reason: str = "", wish: Wish | None = None) -> Approval:
        """Record an answer. ``wish``: how far to widen. Raises NotFound, Conflict, Refusal, Mistake, Outage."""
        question = await self.shown(approval, person)
        wish = wish if wish is not None and granted else Wish()
        if not wish.exact:
            self._check_names(question, wish)
        arguments = question.details.arguments if question.details else None
        bounds = self._rulebook().consent.bounds

        def judge(task: Task, asked: Approval, now: datetime) -> Widening | None:
            if not self.may_answer(person, task, asked):
                raise Refusal(
                    f"{person.name} may not answer {approval}", code="not_an_approver", hint="approvers in remit.toml say who may"
                )
            if granted and not person.passkey and self.wants_passkey(task, asked):
                hint = "in the console: `remit console` prints a link; registering one is under your name there"
                raise Refusal("a yes to this question is given with a passkey", code="passkey_needed", hint=hint)
            return agreed(asked, wish, arguments, bounds, now, task.deadline) if granted else None

        task = await self._tasks.answer(
            approval,
            granted=granted,
            by=person.name,
            reason=reason[:_REASON_CHARACTERS_MAX],
            via=person.via,
            names=person.names,
            shown=question.details is not None,
            passkey=person.passkey,
            judge=judge,
        )
        return task.approvals[approval]

    async def wait(self, task_id: str, approval: str, seconds: float) -> None:
        """Wait until a question is open no longer, its task has ended, or the time is up. Raises NotFound, Outage."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            task = await self._tasks.view(task_id)
            question = task.approvals.get(approval)
            if question is None or task.over or question.state is not ApprovalState.PENDING or self._clock() >= question.expires_at:
                return
            await asyncio.sleep(min(_LOOK_SECONDS, max(end - loop.time(), 0)))

    async def _question(self, row: ApprovalRow) -> Question | None:
        task = await self._tasks.view(row.task)
        approval = task.approvals.get(row.approval)
        if approval is None:  # a view from before the question
            return None
        details = await self._questions.details(row.approval)
        return Question(approval=approval, task=task, asked_at=row.asked_at, details=details)

    def _tool(self, approval: Approval) -> ToolFacts | None:
        kind, _, whole = approval.call.partition(" ")
        server, _, name = whole.partition("/")
        return self._rulebook().tool(Kind(kind), server, name)

    def _check_names(self, question: Question, wish: Wish) -> None:
        """A misspelt name would hold fast what the approver meant to free. Raises Mistake, Conflict."""
        if not wish.free or EVERYTHING in wish.free:
            return
        if question.details is None or question.details.arguments is None:
            raise Conflict(
                "the arguments of this call are not kept, so no class of calls can be described by them",
                code="details_gone",
                hint="approve exactly this call",
            )
        _, _, whole = question.approval.call.partition(" ")
        pinned = self._rulebook().pinned.get(whole)
        known = {*question.details.arguments, *(pinned.input_schema.get("properties", {}) if pinned else ())}
        for name in wish.free:
            if name not in known:
                raise Mistake(f"{whole} has no argument {name[:80]!r}", code="class", hint=f"it has: {', '.join(sorted(known)) or 'none'}")


def may_ask_client(approvals: Approvals, task: Task, approval: Approval) -> Person | None:
    """The person at the agent's client, if they may answer this question."""
    person = approvals.at_client(task)
    if person is None or not approvals.may_answer(person, task, approval):
        return None
    try:
        check_answer(task, approval.id, person.names, task.opened_at)  # state, chain, four eyes; time is judged when it is answered
    except (Conflict, NotFound):
        return None
    return person

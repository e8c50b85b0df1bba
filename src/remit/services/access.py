"""The decision API's questions: those about a task's calls go the one road, those about an application's resources to its policies.

Rules
* A call of a task is decided and recorded as any other (``services/mediation.py``): a permit is used up when it is given. To the
  task's own agent it is answered, and to an enforcement point that may ask about tasks; to others the task does not exist.
* Every other answer is recorded (``access.decided``) before it leaves. So is a search, as that it was made.
* An agent acts only within tasks: as the subject of a question without one it gets nothing.
* What is wrong with one question of many is told at that one; alone it is an error.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import rfc8785

from remit.errors import Mistake, NotFound, Refusal
from remit.logic.access_answers import Answer, answer_of_call, answer_of_error, answer_of_verdict
from remit.logic.arguments import digest_json
from remit.logic.records import encode
from remit.logic.replay_answers import properties_of
from remit.logic.task_questions import TASK_BOUND, is_call, named_agent, named_call, named_task
from remit.model.access import Caller, Entity, Question, Semantic, Verdict
from remit.model.call_record import ReasonLine
from remit.model.catalog import Kind
from remit.model.decision import Code, Reason
from remit.model.identity import Bearer, SpiffeId
from remit.model.record import AccessDecided, AccessSearched, Record
from remit.services.mediation import Ticket
from remit.store.database import Append, ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from remit.drivers.value_sealing import SealsValues
    from remit.logic.applications import Application
    from remit.logic.rulebook import Rulebook
    from remit.model.task import Task
    from remit.services.mediation import Mediation
    from remit.services.tasks import Tasks
    from remit.store.database import Store

Json = dict[str, Any]
_Told = tuple[AccessDecided, tuple[ValueRow, ...]]  # a record, and what is kept beside it
_AGENT_TYPES = frozenset({"agent", "workload"})  # whose id may be a declared name; a SPIFFE ID speaks for itself
_BREATH = 64  # decisions in a row before others get their turn


class Access:
    """Answers questions."""

    def __init__(
        self,
        mediation: Mediation,
        tasks: Tasks,
        store: Store,
        rulebook: Callable[[], Rulebook],
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        trust_domain: str,
        agents: Callable[[], Mapping[str, SpiffeId]],
        permit_ttl: timedelta,
        sealer: SealsValues | None = None,
    ) -> None:
        """``agents``: declared names and their SPIFFE IDs. ``permit_ttl``: how long after an answer a permitted call may begin.

        ``sealer``: keeps the properties of each question that has no task, sealed; ``None``: they are not kept.
        """
        self._mediation, self._tasks, self._store, self._rulebook = mediation, tasks, store, rulebook
        self._clock, self._new_id, self._agents, self._permit_ttl = clock, new_id, agents, permit_ttl
        self._sealer = sealer
        self._own = f"spiffe://{trust_domain}/"

    async def evaluate(self, caller: Caller, question: Question) -> Answer:
        """Answer one question, durably. Raises Refusal (the caller may not ask this), Mistake, Outage."""
        answer, told = await self._answer(caller, question)
        await self._record([told] if told else [])
        return answer

    async def evaluate_many(self, caller: Caller, questions: Sequence[Question | Mistake], semantic: Semantic) -> list[Answer]:
        """Answer questions in order, durably, up to and with the one that ``semantic`` stops at. Raises Outage."""
        answers: list[Answer] = []
        told: list[_Told] = []
        for number, question in enumerate(questions, 1):
            try:
                if isinstance(question, Mistake):
                    raise question
                answer, one = await self._answer(caller, question)
            except (Mistake, Refusal) as error:
                answer, one = answer_of_error(error), None
            answers.append(answer)
            told += [one] if one else []
            if semantic.stops(allowed=answer.decision):
                break
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        await self._record(told)
        return answers

    def application(self, caller: Caller, subject_type: str, resource_type: str) -> Application | None:
        """The application whose question it is; ``None`` where it is nobody's. Raises Refusal."""
        for application in self._rulebook().applications.values():
            if application.answers(subject_type, resource_type):
                if caller.applications is None or application.name in caller.applications:
                    return application
                raise Refusal(f"{caller.name} may not ask about {application.name}", code="caller")
        if caller.applications == ():
            raise Refusal(f"{caller.name} may ask about no application", code="caller")
        return None

    async def task(self, caller: Caller, context: Json) -> Task | None:
        """The task of a question, where the caller may speak of it. Raises Refusal, Mistake, Outage."""
        if caller.agent is None and not caller.tasks:
            raise Refusal(f"{caller.name} may not ask about tasks", code="caller")
        task_id = named_task(context) or caller.task
        if not task_id or (caller.task and task_id != caller.task):
            return None
        try:
            task = await self._tasks.view(task_id)
        except NotFound:
            return None
        return task if caller.tasks or caller.agent == task.agent else None

    def speaker(self, caller: Caller, question_subject: str, context: Json, task: Task) -> SpiffeId | None:
        """The agent that a question is about: its subject, or the one that acts for the person who is. ``None``: nobody we know."""
        if question_subject == task.on_behalf_of:
            named = named_agent(context)
            return self._agent(named) if named else caller.agent
        return self._agent(question_subject)

    def is_agent(self, subject: Entity) -> bool:
        """Whether a subject is a workload of our own trust domain."""
        return subject.id.startswith(self._own) or (subject.type in _AGENT_TYPES and subject.id in self._agents())

    async def searched(self, body: AccessSearched) -> None:
        """Record a search. Raises Outage."""
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))

    async def _answer(self, caller: Caller, question: Question) -> tuple[Answer, _Told | None]:
        if question.resource.type in TASK_BOUND:
            return await self._about_task(caller, question)
        application = self.application(caller, question.subject.type, question.resource.type)
        now = self._clock()
        if self.is_agent(question.subject):
            verdict = _refused(Code.NO_TASK, "an agent acts only within a task, and this question has none")
        elif application is None:
            types = f"subjects {question.subject.type[:60]!r} and resources {question.resource.type[:60]!r}"
            verdict = _refused(Code.TYPE_UNKNOWN, f"no application answers for {types}")
        else:
            verdict = application.evaluate(question, now)
        return self._told(caller, question, verdict, application, now)

    async def _about_task(self, caller: Caller, question: Question) -> tuple[Answer, _Told | None]:
        kind = Kind(question.resource.type)
        task = await self.task(caller, question.context)
        if task is None:
            return self._told(caller, question, _refused(Code.NO_TASK, "the question names no task that this caller may speak of"))
        call = named_call(question.resource, question.action_properties, question.context)
        if not is_call(kind, question.action):
            return self._told(
                caller, question, _refused(Code.ACTION_UNKNOWN, f"{question.action[:80]!r} is nothing that is done to a {kind}")
            )
        agent = self.speaker(caller, question.subject.id, question.context, task)
        if agent is None:
            return self._told(caller, question, _refused(Code.WRONG_AGENT, f"the subject is not the agent of task {task.id}"))
        try:
            verdict = await self._mediation.authorize(Bearer(agent=agent, task=task.id, proof="authzen"), call)
        except Refusal as refusal:  # the task can hold no further record, so this one is beside it
            return self._told(caller, question, _refused(Code.BUDGET_EXHAUSTED, refusal.message))
        if isinstance(verdict, Ticket):  # whoever forwards the call shows us no result to learn from: all that it may hold counts now
            await self._mediation.spoke(verdict)
        task, now = await self._tasks.view(task.id), self._clock()
        expires_at = min(task.deadline, now + self._permit_ttl) if isinstance(verdict, Ticket) else None
        approval = None if isinstance(verdict, Ticket) else task.approvals.get(verdict.approval_id or "")
        return answer_of_call(
            verdict.decision,
            decision_id=verdict.decision_id,
            call=call,
            task=task,
            classes=self._rulebook().classes,
            evaluated_at=now,
            expires_at=expires_at,
            approval=approval,
            message="" if isinstance(verdict, Ticket) else verdict.message,
        ), None

    def _agent(self, name: str) -> SpiffeId | None:
        declared = self._agents().get(name)
        if declared is not None:
            return declared
        try:
            return SpiffeId.parse(name)
        except Mistake:
            return None

    def _told(
        self, caller: Caller, question: Question, verdict: Verdict, application: Application | None = None, at: datetime | None = None
    ) -> tuple[Answer, _Told]:
        """``at``: the time that policies saw."""
        decision_id, now = self._new_id("d"), self._clock()
        properties = properties_of(question)
        body = AccessDecided(
            decision=decision_id,
            caller=caller.name,
            application=application.name if application else "",
            subject_type=question.subject.type,
            subject=question.subject.id,
            action=question.action,
            resource_type=question.resource.type,
            resource=question.resource.id,
            outcome="allow" if verdict.allowed else "deny",
            reasons=[ReasonLine(code=reason.code.value) for reason in verdict.reasons],
            policies=list(verdict.policies),
            policy_set=application.digest if application else "",
            properties_digest=digest_json(properties),
            evaluated_at=at or now,
        )
        sealed = self._sealer.seal(decision_id, rfc8785.dumps(properties)) if self._sealer else b""
        rows = (ValueRow(decision=decision_id, sealed=sealed),) if sealed else ()
        explain = application is None or application.explain
        expires_at = now + self._permit_ttl if verdict.allowed else None
        return answer_of_verdict(verdict, decision_id, now, expires_at, explain=explain), (body, rows)

    async def _record(self, told: Sequence[_Told]) -> None:
        now = self._clock()
        appends = [Append(body=encode(Record(at=now, body=body)), rows=rows) for body, rows in told]
        if len(appends) == 1:
            await self._store.append(appends[0])
        elif appends:  # told at once, they are written in few transactions
            await asyncio.gather(*(self._store.append(append) for append in appends))


def _refused(code: Code, text: str) -> Verdict:
    return Verdict(allowed=False, reasons=(Reason(code, text),))

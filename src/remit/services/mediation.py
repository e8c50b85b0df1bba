"""The road of one call, from top to bottom. Every door takes it, whole or its first half.

    Bearer, Call → Task → Facts → Decision → *recorded* → Ticket → (the door forwards) → Result → *recorded* → released

Rules: nothing is forwarded without a ``Ticket``, and only ``authorize`` makes one, after the decision is durable (``tickets.py``
makes one again from that record, to tell how a call ended). That record has
raised the task's labels by what the catalog says the tool returns, so nothing that comes back can be ahead of them. What a result
itself teaches (labels by field, where its values were seen) is durable before it is released; where it teaches nothing, how the
call ended is recorded behind it, without making the agent wait. What a crash leaves open is closed as *undetermined*.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import rfc8785

from remit.drivers.spans import SPANS_OFF
from remit.errors import Outage, Refusal
from remit.logic.approved_values import approved_values
from remit.logic.arguments import digest_bytes
from remit.logic.authorize import authorize, call_key
from remit.logic.behaviour import signals_of
from remit.logic.claims import check_bearer
from remit.logic.decided import decided
from remit.logic.explain import message_for_model
from remit.logic.labelling import ResultRules, for_call, whole
from remit.logic.laundering import marks
from remit.logic.life import pending_approval
from remit.logic.telemetry import DECIDE, OBSERVE, decision_attributes
from remit.logic.tracing import large, pointed, trace, trace_references
from remit.model.approver import Terms
from remit.model.call import Ending
from remit.model.call_record import CallFinished, LabelsRaised
from remit.model.decision import Allow, Ask, Decision, Deny
from remit.model.facts import Facts
from remit.model.labels import Labels
from remit.model.record import Body
from remit.model.tripwire import Place
from remit.services.sightings import Laundered
from remit.services.upwards import tell_above
from remit.store.database import SightingRow, TaintRow, ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from remit.drivers.spans import Spans
    from remit.drivers.value_sealing import SealsValues
    from remit.logic.policy import Policies
    from remit.logic.rulebook import Rulebook
    from remit.model.approval import Approval
    from remit.model.behaviour import Signal
    from remit.model.call import Call
    from remit.model.catalog import ToolFacts
    from remit.model.identity import Bearer
    from remit.model.origin import Traced
    from remit.model.task import Task
    from remit.services.behaviour import Behaviour
    from remit.services.objective import Objectives
    from remit.services.sightings import Learnt, Sightings
    from remit.services.tasks import Tasks
    from remit.services.tripwire import Look, Tripwires
    from remit.store.database import Row

_LARGE_BYTES = 32_768  # of a result that is taken apart beside the loop; characters of arguments in which references are looked for there
_ATTEMPTS = 64  # of one decision against results that other processes record meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An allowed, recorded call: what a door needs to forward it, once.

    ``tool`` and ``rules``: what the catalog says of the result. ``origins``: of the arguments.
    ``waiting``: labels that count once anything comes back. ``labels``: the task's with them, as they were when this was decided.
    """

    decision_id: str
    bearer: Bearer
    call: Call
    decision: Allow
    tool: ToolFacts
    rules: ResultRules
    origins: tuple[Traced, ...] = ()
    waiting: Labels = field(default_factory=Labels)
    labels: Labels = field(default_factory=Labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """What is known of a call before its task is looked at: what leads somewhere in it, and whether it is far from the objective."""

    points: tuple[tuple[str, str], ...] = ()
    far: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What became of a result. ``released``: whether it may go to the agent; else ``why`` not, in words. ``size`` in bytes."""

    size: int
    released: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A recorded refusal. ``message`` tells the model why and what it may do instead."""

    decision_id: str
    decision: Ask | Deny
    approval_id: str | None
    message: str


class Asked(Protocol):
    """Hears of decisions, for the sake of those who answer questions. Never raises."""

    async def told(self, facts: Facts, decision: Decision, approval: Approval | None) -> None:
        """A decision is durable; ``approval``: the question it asks, or the approval that it used."""

    def heard(self, task: str, decision: str, result: bytes) -> None:
        """A result goes to the agent, as JSON."""


class Mediation:
    """Decides calls and records what became of them."""

    def __init__(
        self,
        tasks: Tasks,
        sightings: Sightings,
        behaviour: Behaviour,
        rulebook: Callable[[], Rulebook],
        new_id: Callable[[str], str],
        *,
        approval_ttl: timedelta,
        approvals_max: int,
        records_max: int,
        sealer: SealsValues | None = None,
        questions: Asked | None = None,
        tripwires: Tripwires | None = None,
        objectives: Objectives | None = None,
        spans: Spans = SPANS_OFF,
    ) -> None:
        """``rulebook``: the policies and catalog in force now. ``records_max``: ledger records of one task.

        ``sealer``: keeps the arguments of each decided call, sealed; ``None``: they are not kept. ``questions``: told of what was
        asked and allowed, for those who answer. ``tripwires``: look for leased secrets in what is called and in what comes of it.
        ``objectives``: measures watched calls against them; ``None``: nobody does. ``spans``: traces what is done.
        """
        self._tasks, self._sightings, self._behaviour = tasks, sightings, behaviour
        self._rulebook, self._new_id = rulebook, new_id
        self._approval_ttl, self._approvals_max, self._records_max = approval_ttl, approvals_max, records_max
        self._sealer, self.sightings = sealer, sightings
        self._questions, self._objectives = questions, objectives
        self._tripwires, self._spans = tripwires, spans

    async def authorize(self, bearer: Bearer, call: Call, *, seen_digest: str = "") -> Ticket | Refused:
        """Decide one call and make the decision durable. ``seen_digest``: of the tool as its server declares it now.

        Raises Outage where the decision cannot be recorded (then there is none), NotFound, Refusal (task exhausted), Unauthenticated
        (the token was revoked, or opens another server).
        """
        if not self._spans.on:
            return await self._authorize(bearer, call, seen_digest)
        with self._spans.span(DECIDE) as span:
            verdict = await self._authorize(bearer, call, seen_digest)
            known = self._rulebook().tool(call.kind, call.server, call.name) is not None
            span.set(decision_attributes(call, verdict.decision, verdict.decision_id, known=known))
            return verdict

    async def _authorize(self, bearer: Bearer, call: Call, seen_digest: str) -> Ticket | Refused:
        decision_id = self._new_id("d")
        rules = self._rulebook()
        ahead = await self._ahead(rules, bearer.task, call)
        written: tuple[str, ...] = ()
        approved = b""
        look = self._tripwires.look([call.name, call.arguments]) if self._tripwires is not None else None

        def build(task: Task, now: datetime) -> tuple[Body, tuple[Facts, Decision, str]]:
            nonlocal written, approved
            if approved:  # was taken in for an append that failed
                approved = b""
                self._sightings.forget(task.id)
            if look is not None and look.behind(task):
                raise _BehindError
            if task.seq >= self._records_max:
                raise Refusal(f"task {task.id} has used up its {self._records_max} records", code="task_exhausted")
            check_bearer(bearer, task, call)
            facts = self._facts(rules, bearer, call, task, now, seen_digest, ahead, look)
            decision = authorize(facts, rules.policies)
            approved = self._approved(facts, decision, decision_id)
            body, approval = self._record(facts, decision, decision_id, rules, learnt=bool(approved))
            written = marks(call, facts.tool, facts.origins, task.labels) if isinstance(decision, Allow) and facts.tool else ()
            return body, (facts, decision, approval)

        values = self._values(decision_id, call)

        def rows(task: Task) -> tuple[Row, ...]:
            if look is not None and look.leaks:
                return ()  # nothing of such a call is kept, sealed or not
            taints = (TaintRow(server=call.server, key=self._sightings.key(form), task=bearer.task) for form in written)
            if not approved:
                return (*taints, *values)
            vouched = SightingRow(task=task.id, number=task.results, data=approved)
            self._sightings.learn(task.id, vouched)
            return (*taints, vouched, *values)

        try:
            task, (facts, decision, approval) = await self._changed(bearer.task, build, rows, look)
        except BaseException:
            if approved:
                self._sightings.forget(bearer.task)
            raise
        if self._questions is not None:
            await self._questions.told(facts, decision, task.approvals.get(approval))
        if isinstance(decision, Allow):
            if task.ancestors:
                await tell_above(self._tasks, task.id, decision_id)
            return self._ticket(rules, bearer, call, facts, decision, decision_id, task.labels)
        message = message_for_model(task, call, decision, approval)
        return Refused(decision_id=decision_id, decision=decision, approval_id=approval or None, message=message)

    async def look(self, bearer: Bearer, call: Call, task: Task, now: datetime) -> tuple[Facts, Policies]:
        """What a decision would be taken from, for a search: nothing is decided, recorded or used up. Raises Outage."""
        rules = self._rulebook()
        ahead = await self._ahead(rules, task.id, call)
        for _ in range(_ATTEMPTS):
            try:
                return self._facts(rules, bearer, call, task, now, "", ahead), rules.policies
            except _BehindError:
                await self._catch_up(task)
        raise Outage(f"task {task.id} is changed by too many at once", code="task_busy")

    async def observe(self, ticket: Ticket, ending: Ending, result: Any = None, *, late: bool = False) -> Observed:
        """Record how an allowed call ended and learn from its result (any JSON value; ``None``: there is none). ``late``: its permit had
        run out when it was told of.

        What the result teaches is durable when this returns; where nothing is learnt, the ending is recorded a moment later
        (``Tasks.settle`` waits). Raises Outage, and then the result must not be released.
        """
        with self._spans.span(OBSERVE):
            return await self._observe(ticket, ending, result, late=late)

    async def _observe(self, ticket: Ticket, ending: Ending, result: Any, *, late: bool) -> Observed:
        body = msgspec.json.encode(result) if result is not None else b""
        digest = digest_bytes(body) if result is not None else ""
        plain = CallFinished(decision=ticket.decision_id, ending=ending.value, result_digest=digest, size=len(body), late=late)
        if result is None:
            self._tasks.finish_soon(ticket.bearer.task, plain)
            return Observed(size=0)
        observed = await self._learn(ticket, plain, result)
        why = await tell_above(self._tasks, ticket.bearer.task, ticket.decision_id) if observed.released else ""
        if self._questions is not None and observed.released and not why:
            self._questions.heard(ticket.bearer.task, ticket.decision_id, body)
        return replace(observed, released=False, why=why) if why else observed

    async def spoke(self, ticket: Ticket) -> None:
        """Something of a call goes to the agent before its result: labels that waited for the result count now. Raises Outage."""
        task = await self._tasks.view(ticket.bearer.task)
        if task.labels.covers(ticket.waiting):
            return
        raised = LabelsRaised(decision=ticket.decision_id, rank=ticket.waiting.rank, untrusted=ticket.waiting.untrusted)
        await self._tasks.change(ticket.bearer.task, lambda _task, _now: (raised, None))
        await tell_above(self._tasks, ticket.bearer.task, ticket.decision_id)

    async def _learn(self, ticket: Ticket, plain: CallFinished, result: Any) -> Observed:
        """Between the last look at the task and the append nothing is waited for, so results of one process line up."""
        parts = (result, ticket.tool, ticket.rules, self._rulebook().classes)
        is_large = plain.size > _LARGE_BYTES  # what strangers wrote may be made to cost much: others are served meanwhile
        parsed = await asyncio.to_thread(self._sightings.parse, *parts) if is_large else self._sightings.parse(*parts)
        laundered: Laundered | None = None
        look = self._tripwires.look(result) if self._tripwires is not None else None
        for _ in range(_ATTEMPTS):
            task = await self._tasks.view(ticket.bearer.task)
            if task.over:
                return Observed(size=plain.size, released=False, why=f"the task is {task.state}")
            if ticket.bearer.token in task.revoked_tokens:
                return Observed(size=plain.size, released=False, why="its token was revoked")
            if self._tasks.standing.stopped([task.agent.text, *task.chain]):
                return Observed(size=plain.size, released=False, why="an agent of its chain was stopped")
            if look is not None and look.behind(task):
                await self._look_again(task, look, Place.RESULT, ticket.decision_id)
                continue
            if look is not None and look.leaks:
                self._tasks.finish_soon(task.id, replace(plain, size=0))
                return Observed(size=0, released=False, why="it carried a leased credential, and the task was suspended")
            seen = self._sightings.known(task)
            if seen is None:
                await self._sightings.load(task)
                continue
            if laundered is None and (fresh := parsed.fresh(seen)):
                laundered = await self._sightings.laundered(ticket.call, ticket.origins, parsed, fresh)
                continue  # what is fresh only becomes less
            learnt = self._sightings.learnt(seen, parsed, laundered or Laundered(), ticket.tool.id, ticket.decision_id)
            over = 0 < task.budget.bytes_read < task.bytes_read + task.lent.bytes_read + plain.size
            if not learnt.data and task.labels.covers(learnt.labels) and not task.budget.bytes_read:
                self._tasks.finish_soon(ticket.bearer.task, plain)
                return Observed(size=plain.size)
            if await self._finished(ticket, _taught(plain, learnt, released=not over), learnt, task.results):
                why = f"it has {plain.size:,} bytes, more than this task may still read" if over else ""
                return Observed(size=plain.size, released=not over, why=why)
        raise Outage(f"task {ticket.bearer.task} is changed by too many at once", code="task_busy")

    async def _finished(self, ticket: Ticket, body: CallFinished, learnt: Learnt, results: int) -> bool:
        """Record an ending with what it teaches; False where somebody else's result came first, so that it must be read again."""
        task_id, data = ticket.bearer.task, learnt.data if body.learnt else b""

        def check(task: Task) -> None:
            if task.results != results:
                raise _BehindError

        def rows(task: Task) -> tuple[Row, ...]:
            if not data:
                return ()
            row = SightingRow(task=task_id, number=task.results, data=data)
            self._sightings.learn(task_id, row)
            return (row,)

        try:
            await self._tasks.finish(task_id, body, check, rows)
        except BaseException as error:
            self._sightings.forget(task_id)  # what was taken in is not, or not there, in the store
            if isinstance(error, _BehindError):
                return False
            raise
        return True

    async def _changed(
        self,
        task_id: str,
        build: Callable[[Task, datetime], tuple[Body, tuple[Facts, Decision, str]]],
        also: Callable[[Task], tuple[Row, ...]],
        look: Look | None,
    ) -> tuple[Task, tuple[Facts, Decision, str]]:
        for _ in range(_ATTEMPTS):
            try:
                return await self._tasks.change(task_id, build, also)
            except _BehindError:
                await self._catch_up(task := await self._tasks.view(task_id))
                if look is not None and look.behind(task):
                    await self._look_again(task, look, Place.ARGUMENTS)
        raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

    async def _look_again(self, task: Task, look: Look, place: Place, decision: str = "") -> None:
        """Look for the secrets that there are now; what is found is recorded, and its task suspended, before anything else."""
        await look.again(task)
        if look.leaks and self._tripwires is not None:
            await self._tripwires.caught(task.id, look.leaks, place, decision)

    async def _catch_up(self, task: Task) -> None:
        """Read what a decision about the task needs to know."""
        await self._sightings.load(task)
        await self._tasks.ancestors(task)
        if task.watched:
            await self._behaviour.load(task.type)

    def _ticket(
        self, rules: Rulebook, bearer: Bearer, call: Call, facts: Facts, decision: Allow, decision_id: str, labels: Labels
    ) -> Ticket:
        assert facts.tool is not None, "what nobody declared is never allowed"
        waiting = whole(facts.tool, rules.classes)
        return Ticket(
            decision_id=decision_id,
            bearer=bearer,
            call=call,
            decision=decision,
            tool=facts.tool,
            rules=rules.catalog.result_rules(call.id),
            origins=facts.origins,
            waiting=waiting,
            labels=labels.join(waiting),
        )

    async def _ahead(self, rules: Rulebook, task_id: str, call: Call) -> _Ahead:
        """What would hold others up. Of the arguments the agent chooses the size: large ones are gone through beside the loop."""
        is_large = large(call.arguments, _LARGE_BYTES)
        points = await asyncio.to_thread(pointed, call.arguments) if is_large else pointed(call.arguments)
        if self._objectives is None:
            return _Ahead(points=points)
        pinned = rules.pinned.get(call.id) if call.kind == "tool" else None
        return _Ahead(points=points, far=await self._objectives.signals(await self._tasks.view(task_id), call, pinned))

    def _facts(
        self,
        rules: Rulebook,
        bearer: Bearer,
        call: Call,
        task: Task,
        now: datetime,
        seen_digest: str,
        ahead: _Ahead,
        look: Look | None = None,
    ) -> Facts:
        seen, profile = self._sightings.known(task), self._behaviour.known(task)
        above = self._tasks.lineage(task) if task.ancestors else ()
        if seen is None or profile is None or above is None:
            raise _BehindError
        tool = rules.tool(call.kind, call.server, call.name)
        pinned = rules.pinned.get(call.id) if call.kind == "tool" else None
        if tool is not None:
            tool = for_call(tool, rules.catalog.result_rules(call.id), call.arguments, rules.classes)
        facts = Facts(
            now=now,
            agent=bearer.agent,
            task=task,
            call=call,
            tool=tool,
            pinned=pinned,
            classes=rules.classes,
            seen_digest=seen_digest,
            approvals_max=self._approvals_max,
            origins=trace(call.arguments, pinned.input_schema if pinned else {}, seen),
            terms=rules.consent.terms(tool, task, rules.classes) if tool else Terms(),
            references=trace_references(ahead.points, seen),
            rulebook=rules.kept,
            ancestors=above,
            stopped=self._tasks.standing.stopped([bearer.agent.text, task.agent.text, *task.chain]),
            leaked=tuple(sorted({leak.name for leak in look.leaks})) if look is not None else (),
        )
        return replace(facts, signals=(*signals_of(facts, profile), *ahead.far)) if task.watched else facts

    def _values(self, decision_id: str, call: Call) -> tuple[Row, ...]:
        if self._sealer is None:
            return ()
        return (ValueRow(decision=decision_id, sealed=self._sealer.seal(decision_id, rfc8785.dumps(call.arguments))),)

    def _approved(self, facts: Facts, decision: Decision, decision_id: str) -> bytes:
        values = approved_values(facts, decision)
        seen = self._sightings.known(facts.task) if values else None
        return self._sightings.approved(seen, values, facts.call.id, decision_id) if seen is not None else b""

    def _record(self, facts: Facts, decision: Decision, decision_id: str, rules: Rulebook, *, learnt: bool) -> tuple[Body, str]:
        approval, expires_at = "", None
        if isinstance(decision, Allow):
            approval = decision.approval or ""
        elif isinstance(decision, Ask):
            standing = pending_approval(facts.task, call_key(facts), facts.call.digest, facts.now)
            approval = standing.id if standing else self._new_id("apr")
            expires_at = standing.expires_at if standing else facts.now + self._approval_ttl
        return decided(facts, decision, rules, decision_id, approval, expires_at, learnt=learnt), approval


class _BehindError(Exception):
    """Leaves a build that needs to know of results that this process has not read yet."""


def _taught(plain: CallFinished, learnt: Learnt, *, released: bool) -> CallFinished:
    if not released:
        return replace(plain, size=0)
    return replace(plain, rank=learnt.labels.rank, untrusted=learnt.labels.untrusted, learnt=bool(learnt.data))

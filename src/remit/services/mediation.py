"""The road of one call, from top to bottom. Every door takes it, whole or its first half.

    Bearer, Call → Task → Facts → Decision → *recorded* → Ticket → (the door forwards) → Result → *recorded* → released

Rules: nothing is forwarded without a ``Ticket``, and only ``authorize`` makes one, after the decision is durable. An
allowed call has raised the task's labels in that same record, so nothing that comes back can be ahead of them. How a call
ended is recorded behind its decision, without making the agent wait; what a crash leaves open is closed as
*undetermined*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Refusal
from remit.logic.arguments import digest_bytes
from remit.logic.authorize import authorize, call_key
from remit.logic.explain import message_for_model
from remit.logic.life import pending_approval
from remit.model.decision import Allow, Ask, Code, Decision, Deny
from remit.model.facts import Facts
from remit.model.record import Body, CallDecided, CallFinished, ReasonLine

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from remit.logic.policy import Policies
    from remit.logic.rulebook import Rulebook
    from remit.model.call import Call, Ending
    from remit.model.catalog import ToolFacts
    from remit.model.identity import Bearer
    from remit.model.task import Task
    from remit.services.tasks import Tasks

_POINTS_AT_INPUT = frozenset({Code.ARGUMENTS_INVALID, Code.ARGUMENTS_OUTSIDE_GRANT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An allowed, recorded call: what a door needs to forward it, once."""

    decision_id: str
    bearer: Bearer
    call: Call
    decision: Allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A recorded refusal. ``message`` tells the model why and what it may do instead."""

    decision_id: str
    decision: Ask | Deny
    approval_id: str | None
    message: str


class Mediation:
    """Decides calls and records what became of them."""

    def __init__(
        self,
        tasks: Tasks,
        rulebook: Callable[[], Rulebook],
        new_id: Callable[[str], str],
        *,
        approval_ttl: timedelta,
        approvals_max: int,
        records_max: int,
    ) -> None:
        """``rulebook``: the policies and catalog in force now. ``records_max``: ledger records of one task."""
        self._tasks, self._rulebook, self._new_id = tasks, rulebook, new_id
        self._approval_ttl, self._approvals_max, self._records_max = approval_ttl, approvals_max, records_max

    async def authorize(self, bearer: Bearer, call: Call, *, seen_digest: str = "") -> Ticket | Refused:
        """Decide one call and make the decision durable. ``seen_digest``: of the tool as its server declares it now.

        Raises Outage where the decision cannot be recorded (then there is none), NotFound, Refusal (task exhausted).
        """
        decision_id = self._new_id("d")
        rules = self._rulebook()

        def build(task: Task, now: datetime) -> tuple[Body, tuple[Decision, str]]:
            if task.seq >= self._records_max:
                raise Refusal(f"task {task.id} has used up its {self._records_max} records", code="task_exhausted")
            facts = self._facts(rules, bearer, call, task, now, seen_digest)
            decision = authorize(facts, rules.policies)
            return self._record(facts, decision, decision_id, rules.policies)

        task, (decision, approval) = await self._tasks.change(bearer.task, build)
        if isinstance(decision, Allow):
            return Ticket(decision_id=decision_id, bearer=bearer, call=call, decision=decision)
        message = message_for_model(task, call, decision, approval)
        return Refused(decision_id=decision_id, decision=decision, approval_id=approval or None, message=message)

    def observe(self, ticket: Ticket, ending: Ending, result: bytes | None) -> None:
        """Record how an allowed call ended: a moment later, not waited for (``Tasks.settle`` waits)."""
        digest = digest_bytes(result) if result is not None else ""
        body = CallFinished(decision=ticket.decision_id, ending=ending.value, result_digest=digest, size=len(result or b""))
        self._tasks.finish_soon(ticket.bearer.task, body)

    def _facts(self, rules: Rulebook, bearer: Bearer, call: Call, task: Task, now: datetime, seen_digest: str) -> Facts:
        return Facts(
            now=now,
            agent=bearer.agent,
            task=task,
            call=call,
            tool=rules.tool(call.kind, call.server, call.name),
            pinned=rules.pinned.get(call.id) if call.kind == "tool" else None,
            classes=rules.classes,
            seen_digest=seen_digest,
            approvals_max=self._approvals_max,
        )

    def _record(self, facts: Facts, decision: Decision, decision_id: str, policies: Policies) -> tuple[Body, tuple[Decision, str]]:
        call, tool = facts.call, facts.tool
        approval, expires_at = "", None
        if isinstance(decision, Allow):
            approval = decision.approval or ""
        elif isinstance(decision, Ask):
            standing = pending_approval(facts.task, call_key(facts), call.digest, facts.now)
            approval = standing.id if standing else self._new_id("apr")
            expires_at = standing.expires_at if standing else facts.now + self._approval_ttl
        body = CallDecided(
            decision=decision_id,
            agent=facts.agent.text,
            outcome=type(decision).__name__.lower(),
            tool_kind=call.kind.value,
            server=call.server,
            name=call.name,
            arguments_digest=call.digest,
            effect=tool.effect.value if tool else "",
            reasons=[ReasonLine(code=reason.code.value, where=_where(reason.code, reason.where)) for reason in decision.reasons],
            policies=list(decision.policies),
            policy_set=policies.digest,
            tool_digest=facts.seen_digest or (tool.digest if tool else ""),
            grant=decision.grant if isinstance(decision, Allow) else -1,
            rank=_rank(facts, tool) if isinstance(decision, Allow) else 0,
            untrusted=isinstance(decision, Allow) and (tool is None or tool.trust == "untrusted"),
            approval=approval,
            approval_expires_at=expires_at,
        )
        return body, (decision, approval)


def _rank(facts: Facts, tool: ToolFacts | None) -> int:
    return facts.classes.rank(tool.data_class if tool else "")


def _where(code: Code, where: str) -> str:
    """Pointers are recorded, values are not: an engine's message may quote one."""
    return where[:200] if code in _POINTS_AT_INPUT else ""

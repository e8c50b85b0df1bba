"""Allowed calls that programs make themselves: decided here, made elsewhere, and told of under the decision's id.

Rules: the end of a call is told once, by its own task, while the call is under way. A permit runs out; when the call began only the
program knows, so an end that is told later is recorded as late, and counts as any other: what was read is read. A ticket is kept in
memory, bounded; where this process does not have it (another node decided, a restart, too many) it is made again from the ledger's
record, for the arguments that were decided on and no others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Conflict, Mistake, Refusal
from remit.logic.arguments import make_call
from remit.logic.labelling import whole
from remit.logic.records import decode
from remit.logic.tracing import recorded_origins
from remit.model.budget import Spent
from remit.model.call_record import CallDecided
from remit.model.catalog import Kind, ToolFacts, Trust
from remit.model.decision import Allow, Code, Reason
from remit.services.mediation import Mediation, Observed, Refused, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime, timedelta

    from remit.logic.rulebook import Rulebook
    from remit.model.call import Call, Ending
    from remit.model.identity import Bearer
    from remit.services.manifests import Manifests
    from remit.services.tasks import Tasks
    from remit.store.database import Store

_Key = tuple[str, str]  # task, decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``expires_at``: of a ticket, until when the call may begin; of a question, until when it stands."""

    verdict: Ticket | Refused
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Permit:
    """A ticket, and until when its call may begin."""

    ticket: Ticket
    expires_at: datetime


class Tickets:
    """Decides calls for those who make them, and takes their ends."""

    def __init__(
        self,
        mediation: Mediation,
        tasks: Tasks,
        store: Store,
        clock: Callable[[], datetime],
        rulebook: Callable[[], Rulebook],
        python_servers: Callable[[], Collection[str]],
        *,
        permit_ttl: timedelta,
        kept_max: int,
        manifests: Manifests | None = None,
    ) -> None:
        """``python_servers``: whose tools are declared by the one who asks. ``kept_max``: tickets in memory. ``manifests``: told of
        such a tool before the call is decided.
        """
        self._mediation, self._tasks, self._store, self._clock = mediation, tasks, store, clock
        self._rulebook, self._python_servers, self._permit_ttl, self._kept_max = rulebook, python_servers, permit_ttl, kept_max
        self._manifests = manifests
        self._kept: OrderedDict[_Key, _Permit] = OrderedDict()
        self._told: OrderedDict[_Key, None] = OrderedDict()

    async def decide(self, bearer: Bearer, call: Call, *, seen_digest: str = "") -> Answer:
        """As ``Mediation.authorize``. What is said of the tool of an MCP server is not heard: the gateway looks for itself."""
        seen = seen_digest if call.kind is Kind.TOOL and call.server in self._python_servers() else ""
        if seen and self._manifests is not None:
            await self._manifests.saw(bearer.task, call.id, seen)
        verdict = await self._mediation.authorize(bearer, call, seen_digest=seen)
        task = await self._tasks.view(bearer.task)
        if isinstance(verdict, Ticket):
            expires_at = min(self._clock() + self._permit_ttl, task.deadline)
            self._keep(_Permit(verdict, expires_at))
            return Answer(verdict=verdict, expires_at=expires_at)
        question = task.approvals.get(verdict.approval_id or "")
        return Answer(verdict=verdict, expires_at=question.expires_at if question else None)

    async def observe(
        self, bearer: Bearer, decision_id: str, ending: Ending, result: Any = None, *, arguments: dict[str, Any] | None = None
    ) -> None:
        """Tell how an allowed call ended, and what came of it, before anybody is given the result.

        ``arguments`` are needed where this process does not remember the call. Raises Refusal (told, and the result must not be
        used), Conflict (not under way: told before, or the task has ended), Mistake, NotFound, Outage; after the last three the
        call may be told of again.
        """
        key = (bearer.task, decision_id)
        task = await self._tasks.view_with(bearer.task, lambda task: decision_id in task.in_flight)
        if key in self._told or decision_id not in task.in_flight:
            raise _not_under_way(decision_id)
        permit = self._kept.get(key) or await self._recalled(bearer, decision_id, arguments)
        late = self._clock() >= permit.expires_at
        _check_result(result)
        if key in self._told:  # told by another while the record was read
            raise _not_under_way(decision_id)
        self._told[key] = None
        try:
            observed = await self._observe(permit.ticket, ending, result, late=late)
        except BaseException:
            self._told.pop(key, None)
            raise
        self._kept.pop(key, None)
        if len(self._told) > self._kept_max:
            self._told.popitem(last=False)
        if not observed.released:
            raise Refusal(f"the result must not be used: {observed.why}. The call was made", code="withheld")

    async def _observe(self, ticket: Ticket, ending: Ending, result: Any, *, late: bool) -> Observed:
        if result is None:  # whatever came back is not shown to us, so it counts as what the catalog says of it
            await self._mediation.spoke(ticket)
        return await self._mediation.observe(ticket, ending, result, late=late)

    async def _recalled(self, bearer: Bearer, decision_id: str, arguments: dict[str, Any] | None) -> _Permit:
        at, decided = await self._record(bearer.task, decision_id)
        if arguments is None:
            raise Mistake("the call's arguments are needed: this node did not give the decision", code="arguments_needed")
        call = make_call(Kind(decided.tool_kind), decided.server, decided.name, arguments)
        if call.digest != decided.arguments_digest:
            raise Conflict(f"call {decision_id} was allowed with other arguments", code="arguments_differ")
        return _Permit(_ticket(self._rulebook(), bearer, call, decided), at + self._permit_ttl)

    async def _record(self, task_id: str, decision_id: str) -> tuple[datetime, CallDecided]:
        """An allowed call's record, and when it was made. Raises Conflict."""
        for entry in await self._store.task_entries(task_id):
            if decision_id.encode() in entry.body:
                record = decode(entry.body)
                if isinstance(record.body, CallDecided) and record.body.decision == decision_id and record.body.outcome == "allow":
                    return record.at, record.body
        raise _not_under_way(decision_id)

    def _keep(self, permit: _Permit) -> None:
        self._kept[permit.ticket.bearer.task, permit.ticket.decision_id] = permit
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)


def _not_under_way(decision_id: str) -> Conflict:
    hint = "its end was told before, or its task has ended"
    return Conflict(f"no call {decision_id[:80]!r} of this task is under way", code="not_under_way", hint=hint)


def _ticket(rules: Rulebook, bearer: Bearer, call: Call, decided: CallDecided) -> Ticket:
    """From an allowed call's record: what was decided on stands, whatever the catalog says of the tool now."""
    tool = rules.tool(call.kind, call.server, call.name) or ToolFacts(kind=call.kind, server=call.server, name=call.name)
    tool = replace(tool, data_class=decided.data_class, trust=Trust(decided.trust or Trust.UNTRUSTED))
    sums = {name: Decimal(amount) for name, amount in decided.sums.items()}
    allow = Allow(
        reasons=tuple(Reason(Code(reason.code), "", reason.where) for reason in decided.reasons),
        policies=tuple(decided.policies),
        spent=Spent(grant=decided.grant, sums=sums, resource=decided.resource),
        approval=decided.approval or None,
    )
    return Ticket(
        decision_id=decided.decision,
        bearer=bearer,
        call=call,
        decision=allow,
        tool=tool,
        rules=rules.catalog.result_rules(call.id),
        origins=recorded_origins(decided),
        waiting=whole(tool, rules.classes),
    )


def _check_result(result: Any) -> None:
    try:
        msgspec.json.encode(result)
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise Mistake(f"the result is no JSON that others can read: {str(error)[:100]}", code="json") from None

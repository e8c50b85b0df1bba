"""What is kept of open questions for those who answer them: evidence and arguments, sealed, as long as the question stands.

Rules: values are never in the ledger; here they rest sealed in the store, so that every node and a restarted one can show them,
and are deleted when the question is over. Losing them never opens anything: the question can still be denied, or exactly its
call approved. Earlier calls are remembered in this process only, bounded, and only to tell an approver what differs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Outage, RemitError
from remit.logic.authorize import call_key
from remit.logic.evidence import evidence_of
from remit.model.approval import ApprovalState
from remit.model.decision import Allow, Ask
from remit.model.evidence import Evidence
from remit.services.source_texts import SourceTexts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.sealing import Sealer
    from remit.model.approval import Approval
    from remit.model.call import Call
    from remit.model.decision import Decision
    from remit.model.facts import Facts
    from remit.model.task import Task
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
BEGINNING = "question/"
_ARGUMENTS_BYTES_MAX = 65_536  # kept whole with a question; beyond, only what is shown
_EARLIER_TASKS_MAX, _EARLIER_CALLS_MAX, _EARLIER_BYTES_MAX = 500, 32, 4_096
_PAGE = 500
_OPEN = frozenset({ApprovalState.PENDING.value, ApprovalState.GRANTED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What was kept of a question. ``arguments``: ``None`` where they were too large."""

    evidence: Evidence
    arguments: dict[str, Any] | None


class Questions:
    """Details of questions of one store."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], datetime]) -> None:
        """``on_question`` may be set to whoever tells approvers: it is called with task and question, each time it is asked."""
        self._store, self._sealer, self._clock = store, sealer, clock
        self._earlier: OrderedDict[str, deque[tuple[str, dict[str, Any]]]] = OrderedDict()
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._texts = SourceTexts()
        self.on_question: Callable[[Task, Approval], None] = _nobody

    async def told(self, facts: Facts, decision: Decision, approval: Approval | None) -> None:
        """Hear of a decision (``mediation.Asked``): keep what a question needs, remember what was allowed. Never raises."""
        try:
            if isinstance(decision, Allow):
                self._allowed(facts.task.id, facts.call)
            elif isinstance(decision, Ask) and approval is not None:
                await self._asked(facts, decision, approval)
                self.on_question(facts.task, approval)
        except Exception as error:  # the decision is recorded and stands; what is told of it is a help only
            _LOG.error("what is kept for approvers of task %s", facts.task.id, exc_info=error)

    def heard(self, task: str, decision: str, result: bytes) -> None:
        """Hear of a result that was released, as JSON (``mediation.Asked``)."""
        self._texts.remember(task, decision, result)

    def _allowed(self, task: str, call: Call) -> None:
        """Remember an allowed call, to compare later ones with."""
        if len(msgspec.json.encode(call.arguments)) > _EARLIER_BYTES_MAX:
            return
        calls = self._earlier.get(task)
        if calls is None:
            calls = self._earlier[task] = deque(maxlen=_EARLIER_CALLS_MAX)
            if len(self._earlier) > _EARLIER_TASKS_MAX:
                self._earlier.popitem(last=False)
        calls.append((f"{call.kind} {call.id}", call.arguments))

    def forget(self, task: str) -> None:
        """A task has ended."""
        self._earlier.pop(task, None)
        self._texts.forget(task)

    async def _asked(self, facts: Facts, decision: Ask, question: Approval) -> None:
        """Keep the details of a question that was recorded: without them it is a poorer question, not an open door."""
        approval = question.id
        if approval in self._kept:
            return
        key = call_key(facts)
        evidence = evidence_of(
            facts,
            approval=approval,
            expires_at=question.expires_at,
            policies=decision.policies,
            reasons=[reason.text for reason in decision.reasons],
            earlier=[arguments for known, arguments in self._earlier.get(facts.task.id, ()) if known == key],
            texts=lambda decision: self._texts.of(facts.task.id, decision),
        )
        encoded = msgspec.json.encode(facts.call.arguments)
        small = len(encoded) <= _ARGUMENTS_BYTES_MAX
        data = msgspec.json.encode({"evidence": evidence, "arguments": msgspec.Raw(encoded) if small else None})
        try:
            await self._store.put_document(BEGINNING + approval, self._sealer.seal(data, f"question {approval}"))
        except Outage as outage:
            _LOG.warning("the details of question %s are not kept: %s", approval, outage.message)
            return
        self._kept[approval] = None
        if len(self._kept) > _PAGE:
            self._kept.popitem(last=False)

    async def details(self, approval: str) -> Details | None:
        """What was kept; ``None`` where it was not, is over, or cannot be opened with this key. Raises Outage."""
        sealed = await self._store.document(BEGINNING + approval)
        if sealed is None:
            return None
        try:
            return _DETAILS.decode(self._sealer.open(sealed, f"question {approval}"))
        except (RemitError, msgspec.MsgspecError) as error:
            _LOG.warning("the details of question %s cannot be opened: %s", approval, error)
            return None

    async def sweep(self) -> int:
        """Delete what belongs to questions that are over; returns how many. Safe anywhere, any number of times. Raises Outage."""
        dropped, after, now = 0, "", self._clock()
        while keys := await self._store.document_keys(BEGINNING, after, _PAGE):
            for key in keys:
                row = await self._store.approval(key.split("/")[1])
                if row is None or row.state not in _OPEN or now >= row.expires_at:
                    await self._store.drop_document(key)
                    dropped += 1
            after = keys[-1]
        return dropped


def _nobody(_task: Task, _approval: Approval) -> None:
    """Nobody is told."""


_DETAILS = msgspec.json.Decoder(Details)

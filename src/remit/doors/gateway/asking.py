"""What the gateway does with a call that needs a person: ask at the agent's client where that is configured, and wait a little.

Rules: nothing here decides. After asking or waiting the call is authorized again, and the answer is then among the facts. The person
at the client is the one the task runs for, never the agent; a form is shown only where the configuration says that this person may
approve such calls, and a link passes the client by: opening it proves nothing, the page behind it asks for the approver's secret.
Waits and calls that wait are bounded; whoever does not wait reads "not yet" and makes the call again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from remit.doors.gateway.rounds import request_digest
from remit.doors.gateway.translate import can_answer
from remit.errors import RemitError, Unauthenticated
from remit.logic.evidence import evidence_lines, visible
from remit.model.approver import Elicitation
from remit.services.approvals import Person, Question, may_ask_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.base import Message
    from remit.drivers.sealing import Sealer
    from remit.logic.consent import Consent
    from remit.model.identity import Bearer
    from remit.services.approvals import Approvals
    from remit.services.invitations import Invitations
    from remit.services.mediation import Refused

STATE = "approval-"
_KEY = "approve"
_ROUND = "round of a question"
_HELD_MAX = 1_000
_SHOWN_MAX = 10_000
_MESSAGE_CHARACTERS_MAX = 4_000
_PROMPT_SECONDS = 60.0  # so long a person at the client has at least, whatever approvals.wait says
_ROUND_SECONDS = 900
_MAY_ASK = frozenset({"tools/call", "resources/read", "prompts/get"})  # MCP 2026-07-28, multi round-trip requests


class Client(Protocol):
    """The agent's client, as far as the person at it can be asked."""

    capabilities: Message

    async def ask(self, question: Message, seconds: float) -> Message | None:
        """Show an elicitation and give its result; ``None`` where there was none in time, or it can only be asked in rounds."""

    rounds: bool  # whether it is asked by an answer that it answers with another request


class _Round(msgspec.Struct, frozen=True):
    """What a round's state holds. ``until``: seconds since 1970."""

    task: str
    request: str
    approval: str
    mode: str
    until: int


class Asking:
    """Asks and waits for one node."""

    def __init__(
        self,
        approvals: Approvals,
        invitations: Invitations,
        sealer: Sealer,
        clock: Callable[[], datetime],
        consent: Callable[[], Consent],
    ) -> None:
        self._approvals, self._invitations, self._sealer, self._clock, self._consent = approvals, invitations, sealer, clock, consent
        self._held = 0
        self._shown: OrderedDict[str, None] = OrderedDict()

    async def settle(self, bearer: Bearer, refused: Refused, message: Message, client: Client | None) -> Message | bool:
        """Do what can be done about a question now: an answer that asks the client, or whether deciding again may help."""
        if refused.approval_id is None:
            return False
        wait = self._consent().wait.total_seconds()
        question = await self._approvals.read(bearer.task, refused.approval_id)
        if question is None:
            return False
        asked = self._elicitation(question, client)
        if client is not None and asked is not None:
            mode, person, params = asked
            if client.rounds:
                if message.get("method") in _MAY_ASK:
                    return self._input_required(bearer, question, message, mode, params)
            elif await self._ask_now(client, question, person, mode, params, wait):
                return True
        return await self._wait(bearer.task, refused.approval_id, wait)

    async def resumed(self, bearer: Bearer, message: Message) -> Message:
        """A stateless agent's request without the round that it answers; the answer was taken, if it holds.

        What is not ours passes unchanged. A state that does not hold is dropped, and the call is decided as if it were new.
        """
        params = message.get("params", {})
        state = params.get("requestState")
        if not isinstance(state, str) or not state.startswith(STATE):
            return message
        plain = {**message, "params": {key: value for key, value in params.items() if key not in {"requestState", "inputResponses"}}}
        this = self._round(bearer, state, plain)
        responses = params.get("inputResponses")
        reply = responses.get(_KEY) if isinstance(responses, dict) else None
        if this is not None and isinstance(reply, dict):
            question = await self._approvals.read(bearer.task, this.approval)
            person = may_ask_client(self._approvals, question.task, question.approval) if question else None
            if question is not None and person is not None:
                await self._take(question, person, Elicitation(this.mode), reply)
                if this.mode == Elicitation.URL and reply.get("action") == "accept":
                    await self._wait(bearer.task, this.approval, self._consent().wait.total_seconds())
        return plain

    def asked_already(self, message: Message) -> bool:
        """Whether this request answers a round of ours: then it is not asked once more."""
        return str(message.get("params", {}).get("requestState", "")).startswith(STATE)

    def made(self, state: object) -> bool:
        """Whether a round's state was made here, and by no server."""
        if not isinstance(state, str) or not state.startswith(STATE):
            return False
        try:
            self._sealer.open(state.removeprefix(STATE), _ROUND)
        except Unauthenticated:
            return False
        return True

    async def _ask_now(self, client: Client, question: Question, person: Person, mode: Elicitation, params: Message, wait: float) -> bool:
        """Ask on the agent's stream, unless somebody else answers first. True where deciding again may help."""
        seconds = max(wait, _PROMPT_SECONDS)
        asking = asyncio.ensure_future(client.ask({"method": "elicitation/create", "params": params}, seconds))
        answered = asyncio.ensure_future(self._approvals.wait(question.task.id, question.approval.id, seconds))
        try:
            await asyncio.wait({asking, answered}, return_when=asyncio.FIRST_COMPLETED)
            settled, reply = answered.done(), asking.result() if asking.done() else None
        finally:
            asking.cancel()
            answered.cancel()
            await asyncio.gather(asking, answered, return_exceptions=True)
        return await self._take(question, person, mode, reply) if reply is not None else settled

    async def _take(self, question: Question, person: Person, mode: Elicitation, reply: Message) -> bool:
        """Record what the person at the client said. A link that was opened has approved nothing yet."""
        action, content = reply.get("action"), reply.get("content")
        if action == "accept" and mode is Elicitation.URL:
            return False
        said = content if isinstance(content, dict) else {}
        if action not in {"accept", "decline"} or (action == "accept" and not isinstance(said.get(_KEY), bool)):
            return False
        granted = action == "accept" and said[_KEY] is True
        reason = said.get("reason") if isinstance(said.get("reason"), str) else ""
        with contextlib.suppress(RemitError):  # answered meanwhile, expired, no longer theirs: the next decision says so
            await self._approvals.answer(person, question.approval.id, granted=granted, reason=str(reason))
        return True

    async def _wait(self, task: str, approval: str, seconds: float) -> bool:
        """Hold the call for a while. True where it was held, so that the answer may be there."""
        if seconds <= 0 or self._held >= _HELD_MAX:
            return False
        self._held += 1
        try:
            await self._approvals.wait(task, approval, seconds)
        finally:
            self._held -= 1
        return True

    def _elicitation(self, question: Question, client: Client | None) -> tuple[Elicitation, Person, Message] | None:
        """How the person at the client is asked, if at all."""
        terms = self._approvals.terms(question.task, question.approval)
        if client is None or terms is None or terms.elicitation is Elicitation.OFF or question.approval.id in self._shown:
            return None  # each question is shown at the client once: an agent that calls again must not wear its person out
        person = may_ask_client(self._approvals, question.task, question.approval)
        if person is None:
            return None
        if terms.elicitation is Elicitation.FORM:
            params = _form(question)
        elif person.approver is not None and person.approver.secret_digest:
            params = {
                "mode": "url",
                "message": f"An agent asks you to approve {visible(question.approval.call)}. The page behind it asks for your secret.",
                "url": self._invitations.link(person.approver, question.approval),
            }
        else:
            return None
        if not can_answer(client.capabilities, {"method": "elicitation/create", "params": params}):
            return None
        self._shown[question.approval.id] = None
        if len(self._shown) > _SHOWN_MAX:
            self._shown.popitem(last=False)
        return terms.elicitation, person, params

    def _input_required(self, bearer: Bearer, question: Question, message: Message, mode: Elicitation, params: Message) -> Message:
        until = int(self._clock().astimezone(UTC).timestamp()) + _ROUND_SECONDS
        this = _Round(bearer.task, request_digest(message), question.approval.id, mode.value, until)
        state = STATE + self._sealer.seal(msgspec.json.encode(this), _ROUND)
        requests = {_KEY: {"method": "elicitation/create", "params": {"mode": "form", **params}}}
        result = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _round(self, bearer: Bearer, state: str, message: Message) -> _Round | None:
        """The round of a state, if it belongs to this task and this request and is not too old."""
        try:
            this = msgspec.json.decode(self._sealer.open(state.removeprefix(STATE), _ROUND), type=_Round)
        except (Unauthenticated, msgspec.MsgspecError):
            return None
        fresh = self._clock().astimezone(UTC).timestamp() < this.until
        return this if fresh and (this.task, this.request) == (bearer.task, request_digest(message)) else None


def _form(question: Question) -> dict[str, Any]:
    """A form for the person at the client (MCP elicitation, form mode: a flat object)."""
    details = question.details
    lines = evidence_lines(details.evidence) if details else [question.approval.call, "its arguments are no longer kept"]
    return {
        "message": ("An agent that works for you asks for your approval.\n" + "\n".join(lines))[:_MESSAGE_CHARACTERS_MAX],
        "requestedSchema": {
            "type": "object",
            "properties": {
                _KEY: {"type": "boolean", "title": "Approve exactly this call, once", "default": False},
                "reason": {"type": "string", "title": "Why", "maxLength": 500},
            },
            "required": [_KEY],
        },
    }

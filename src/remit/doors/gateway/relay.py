"""The way of one request of an agent, whatever its era: classify, have it decided, forward, observe, release.

Rules: nothing here decides. What may sway a decision goes to ``Mediation``; what is not known here is refused. What is
forwarded is what was decided on, encoded anew. A result is observed before it is released.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.headers import header_mismatch
from remit.doors.gateway.links import ABSENT, Link
from remit.doors.gateway.listening import listen
from remit.doors.gateway.requests import LISTS, SET_LEVEL, call_of
from remit.doors.gateway.traced import forwarding, tell_decision, tell_failure
from remit.doors.gateway.translate import LOG_LEVELS
from remit.doors.problems import (
    HEADER_MISMATCH,
    INTERNAL,
    INVALID_PARAMS,
    LEGACY_DENIED,
    METHOD_NOT_FOUND,
    MODERN_DENIED,
    rpc_error,
    tool_error,
)
from remit.drivers.spans import SPANS_OFF
from remit.errors import Mistake, Outage
from remit.logic.narrow import narrowed_tools, tool_digest, visible, visible_template
from remit.model.call import Call, Ending
from remit.model.catalog import Kind
from remit.services.mediation import Mediation, Refused, Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.doors.gateway.asking import Asking, Client
    from remit.drivers.base import Message
    from remit.drivers.spans import Spans
    from remit.model.identity import Bearer
    from remit.services.asides import Asides
    from remit.services.tasks import Tasks
    from remit.services.transactions import Transactions

    Sink = Callable[[Message], Awaitable[None]]
    Saw = Callable[[str, str, str], Awaitable[None]]
    Exchange = Callable[[Message, Sink, Mapping[str, str] | None], Awaitable[Message]]

_HELD_MAX = 1_000
_LISTED = {"resources": Kind.RESOURCE, "resourceTemplates": Kind.RESOURCE, "prompts": Kind.PROMPT}  # tools are pinned
_NAMED = {"resources": "uri", "resourceTemplates": "uriTemplate", "prompts": "name"}
_OF_A_LIST = ("resultType", "nextCursor", "ttlMs", "cacheScope")


class Relay:
    """Carries requests of agents to servers, by way of Mediation."""

    def __init__(
        self,
        mediation: Mediation,
        tasks: Tasks,
        result_bytes_max: int,
        asking: Asking | None = None,
        *,
        asides: Asides,
        saw: Saw | None = None,
        transactions: Transactions | None = None,
        spans: Spans = SPANS_OFF,
    ) -> None:
        """``result_bytes_max``: a larger result is not released. ``asking``: what is done about a call that needs a person.

        ``asides``: what it means that something passes beside calls. ``saw``: hears what a tool is at a call ("" : not listed), before it
        is decided. ``transactions``: tells servers of our own domain of each call. ``spans``: traces what is decided and forwarded.
        """
        self._spans = spans
        self._mediation, self._tasks, self._result_bytes_max = mediation, tasks, result_bytes_max
        self._held: OrderedDict[tuple[str, ...], Ticket] = OrderedDict()
        self._asking, self._asides, self._saw, self._transactions = asking, asides, saw, transactions

    async def request(
        self,
        bearer: Bearer,
        link: Link,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        *,
        modern: bool,
        headers: Mapping[str, str] | None = None,
        exchange: Exchange | None = None,
        client: Client | None = None,
    ) -> Message:
        """Answer one request. ``sink`` takes what comes before the answer. ``headers``: the agent's, where they must agree with
        the body. ``exchange`` carries it to a server of the other era. ``client``: where a person may be asked. Raises Outage where
        nothing could be recorded.
        """
        method, request_id = message["method"], message["id"]
        params = message.get("params", {})
        if not isinstance(params, dict):
            return rpc_error(request_id, INVALID_PARAMS, "params must be an object")
        if method == "ping":
            return {"jsonrpc": "2.0", "id": request_id, "result": {}}
        try:
            message = await link.plain(message)
        except Outage as error:
            return _failure(message, error)
        if method in LISTS:
            return await self._list(bearer, link, message, sink, exchange, modern=modern)
        if method == SET_LEVEL:
            if params.get("level") not in LOG_LEVELS:
                return rpc_error(request_id, INVALID_PARAMS, f"level must be one of: {', '.join(LOG_LEVELS)}")
            try:
                answer = await self._forward(link, message, _beside(link, sink), exchange)
            except Outage as error:
                return _failure(message, error)
            return _error_of(link.server, message, answer) or {"jsonrpc": "2.0", "id": request_id, "result": {}}
        if method == "subscriptions/listen" and modern:
            return await listen(self._mediation, self._tasks, bearer, link, message, sink)
        try:
            call = call_of(link.server, message)
        except Mistake as error:
            return rpc_error(request_id, INVALID_PARAMS, error.message)
        if call is None:
            return rpc_error(request_id, METHOD_NOT_FOUND, f"remit does not pass on {str(method)[:80]!r}")
        return await self._guarded(bearer, link, call, message, sink, modern=modern, headers=headers, exchange=exchange, client=client)

    async def _guarded(
        self,
        bearer: Bearer,
        link: Link,
        call: Call,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        *,
        modern: bool,
        headers: Mapping[str, str] | None,
        exchange: Exchange | None,
        client: Client | None,
    ) -> Message:
        request_id = message["id"]
        ticket = await self._continued(bearer, link, call, message)
        if ticket is None:
            try:
                seen = await self._seen(bearer, link, call)
            except Outage as error:
                if not error.code.startswith("upstream_"):  # remit itself is short: a change could not be recorded
                    raise
                return tool_error(request_id, f"{error.message}. Nothing was done.")
            if wrong := await self._mismatch(bearer, link, call, headers):
                return rpc_error(request_id, HEADER_MISMATCH, wrong)
            verdict = await self._mediation.authorize(bearer, call, seen_digest=seen)
            if isinstance(verdict, Refused) and self._asking is not None:
                settled = await self._asking.settle(bearer, verdict, message, client)
                if isinstance(settled, dict):
                    return settled
                if settled:  # time has passed: the tool is looked at again, and what was answered is now among the facts
                    seen = await self._seen(bearer, link, call)
                    verdict = await self._mediation.authorize(bearer, call, seen_digest=seen)
            tell_decision(self._spans, call, verdict, listed=seen not in {"", ABSENT})
            if isinstance(verdict, Refused):
                return _refusal(message, verdict, modern=modern)
            ticket = verdict
        return await self._carried(ticket, link, message, sink, exchange)

    async def _seen(self, bearer: Bearer, link: Link, call: Call) -> str:
        """Digest of a tool as its server lists it now ("" for what is no tool). Raises Outage."""
        if call.kind is not Kind.TOOL:
            return ""
        seen = await link.seen_digest(call.name)
        if self._saw is not None:
            await self._saw(bearer.task, call.id, "" if seen == ABSENT else seen)
        return seen

    async def _carried(
        self,
        ticket: Ticket,
        link: Link,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        exchange: Exchange | None,
    ) -> Message:
        """Forward an allowed call and record how it ended."""
        headers = link.headers_for(ticket.call.name, ticket.call.arguments) if ticket.call.kind is Kind.TOOL else None
        if self._transactions is not None and (told := await self._transactions.headers(ticket)):
            headers = {**(headers or {}), **told}

        async def speak() -> None:
            await self._mediation.spoke(ticket)

        async def still() -> bool:
            return await self._asides.unchanged(ticket)

        async def first(interim: Message) -> None:
            await speak()
            if "id" in interim:
                link.aside.asked(interim["id"], still)
            await sink(interim)

        try:
            with link.aside.call(speak, still):
                answer = await self._forward(link, message, first, exchange, headers)
        except Outage as error:
            tell_failure(self._spans, error)
            await self._mediation.observe(ticket, Ending.NOT_MADE if error.unsent else Ending.FAILED)
            return _failure(message, error)
        except asyncio.CancelledError:
            await self._mediation.observe(ticket, Ending.CANCELLED)
            raise
        except Exception:  # a fault of remit; the call was made all the same
            await self._mediation.observe(ticket, Ending.FAILED)
            raise
        result = answer.get("result")
        if isinstance(result, dict) and result.get("resultType") == "input_required" and link.upstream.era == "modern":
            await speak()
            self._hold(ticket, result)
            return answer
        failed = "error" in answer or (isinstance(result, dict) and result.get("isError") is True)
        tell_failure(self._spans, answer)
        ending = Ending.TOOL_ERROR if failed else Ending.OK
        observed = await self._mediation.observe(ticket, ending, _observed(answer))
        if observed.size > self._result_bytes_max:
            return _withheld(message, f"The result has {observed.size:,} bytes and was not passed on. The call was made.")
        if not observed.released:
            return _withheld(message, f"The result was not passed on: {observed.why}. The call was made.")
        return answer

    async def _mismatch(self, bearer: Bearer, link: Link, call: Call, headers: Mapping[str, str] | None) -> str:
        """What is wrong with headers that repeat arguments; nothing is told of tools that the task was not given."""
        parameters = link.header_parameters(call.name) if headers is not None and call.kind is Kind.TOOL else ()
        if not parameters or headers is None or not visible(await self._tasks.view(bearer.task), Kind.TOOL, link.server, call.name):
            return ""
        return header_mismatch(parameters, call.arguments, headers)

    async def _forward(
        self,
        link: Link,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        exchange: Exchange | None,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        async def noticed(interim: Message) -> None:
            link.notice(interim)
            await sink(interim)

        with forwarding(self._spans, link, message, headers) as (sent, carried):
            answer = await (exchange or link.exchange)(sent, noticed, carried)
            tell_failure(self._spans, answer)
            return answer

    async def _list(
        self,
        bearer: Bearer,
        link: Link,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        exchange: Exchange | None,
        *,
        modern: bool,
    ) -> Message:
        member, changes, cursor = LISTS[message["method"]], link.changes, message.get("params", {}).get("cursor")
        if cursor is not None and not link.gave(message["method"], cursor):
            return rpc_error(message["id"], INVALID_PARAMS, f"{link.server} gave no such cursor here; begin without one")
        try:
            answer = await self._forward(link, message, _beside(link, sink), exchange)
        except Outage as error:
            return _failure(message, error)
        result = answer.get("result")
        if not isinstance(result, dict) or not isinstance(result.get(member), list):
            return _error_of(link.server, message, answer) or rpc_error(message["id"], INTERNAL, f"{link.server} lists nothing")
        items = [item for item in result[member] if isinstance(item, dict) and (member != "tools" or _is_sound(item))]
        if member == "tools" and "nextCursor" not in result and not cursor:
            await link.learn(items, changes)
        link.gives(message["method"], result.get("nextCursor"))
        task = await self._tasks.view(bearer.task)
        server = link.server
        if member == "tools":
            shown = narrowed_tools(task, server, items, await self._tasks.ancestors(task), self._asides.pinned())
        elif member == "resources":
            shown = [item for item in items if visible(task, Kind.RESOURCE, server, str(item.get("uri")))]
        elif member == "prompts":
            shown = [item for item in items if visible(task, Kind.PROMPT, server, str(item.get("name")))]
        else:
            shown = [item for item in items if visible_template(task, server, str(item.get("uriTemplate")))]
        if kind := _LISTED.get(member):
            named = [(str(item.get(_NAMED[member])), item) for item in shown]
            admitted = await self._asides.listed(bearer.task, kind, server, [name for name, _ in named])
            shown = [item for name, item in named if name in admitted]
        narrowed = {**{name: result[name] for name in _OF_A_LIST if name in result}, member: shown}
        if modern:
            narrowed["cacheScope"] = "private"  # what one task sees is nobody else's
        return {**answer, "result": narrowed}

    async def _continued(self, bearer: Bearer, link: Link, call: Call, message: Message) -> Ticket | None:
        """The ticket of a call that waits for more input (MCP 2026-07-28, MRTR): the same call goes on, once. Where its task or its tool
        is no longer what it was, it is over, and what goes on is decided as a new call.
        """
        params = message.get("params", {})
        if "inputResponses" not in params and "requestState" not in params:
            return None
        ticket = self._held.pop((bearer.task, call.id, call.digest, str(params.get("requestState", ""))), None)
        if ticket is None:
            return None
        same = call.kind is not Kind.TOOL or await self._seen(bearer, link, call) == ticket.tool.digest
        if same and await self._asides.unchanged(ticket):
            return ticket
        await self._mediation.observe(ticket, Ending.CANCELLED)
        return None

    def _hold(self, ticket: Ticket, result: Message) -> None:
        call = ticket.call
        self._held[(ticket.bearer.task, call.id, call.digest, str(result.get("requestState", "")))] = ticket
        if len(self._held) > _HELD_MAX:
            self._held.popitem(last=False)


def _observed(answer: Message) -> Any:
    """What is looked at of an answer. An error has no fields of which the catalog could speak: it is text beside an empty result."""
    return answer["result"] if "result" in answer else {"content": [], "error": answer["error"]}


def _beside(link: Link, sink: Sink) -> Sink:
    """Takes what a server says during what is no call."""

    async def beside(said: Message) -> None:
        if (passed := await link.beside(said)) is not None:
            await sink(passed)

    return beside


def _is_sound(tool: dict[str, Any]) -> bool:
    """Whether what a server declares of a tool can be compared at all: one that cannot must not hide the others."""
    try:
        tool_digest(tool)
    except Mistake:
        return False
    return True


def _refusal(message: Message, refused: Refused, *, modern: bool) -> Message:
    decision: dict[str, Any] = {
        "outcome": type(refused.decision).__name__.lower(),
        "id": refused.decision_id,
        "reasons": [reason.code.value for reason in refused.decision.reasons],
        "policies": list(refused.decision.policies),
    }
    if refused.approval_id:
        decision["approval"] = refused.approval_id
    if message["method"] == "tools/call":
        return tool_error(message["id"], refused.message, decision)
    return rpc_error(message["id"], MODERN_DENIED if modern else LEGACY_DENIED, refused.message, decision)


def _error_of(server: str, message: Message, answer: Message) -> Message | None:
    """What the agent reads where a server answers with an error to what is no call: its code, for nobody has labelled its words."""
    error = answer.get("error")
    if error is None:
        return None
    return rpc_error(message["id"], error["code"], f"{server} answers {message['method']} with an error")


def unopened(message: Message, error: Outage) -> Message:
    """What the agent reads when no conversation with the server could be begun. Raises the outage where remit itself is short."""
    if not error.code.startswith("upstream_"):
        raise error
    text = f"{error.message}. Nothing was done."
    return tool_error(message["id"], text) if message["method"] == "tools/call" else rpc_error(message["id"], INTERNAL, text)


def _withheld(message: Message, text: str) -> Message:
    """What the agent reads in place of a result."""
    return tool_error(message["id"], text) if message["method"] == "tools/call" else rpc_error(message["id"], INTERNAL, text)


def _failure(message: Message, error: Outage) -> Message:
    """What the agent reads when the server failed it."""
    text = f"{error.message}. {'Nothing was done.' if error.unsent else 'Whether the call took effect is not known.'}"
    if message["method"] == "tools/call":
        return tool_error(message["id"], text)
    return rpc_error(message["id"], INTERNAL, error.message)

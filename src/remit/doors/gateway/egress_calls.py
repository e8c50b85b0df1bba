"""The way of one request through the egress: have it decided, add the credential, send it, observe the answer, release it.

Rules: nothing here decides. What is sent is what was decided on, written anew. The credential is in the configured headers only, fetched
after the decision. What of a request is no argument, and of an answer not its body, is looked through for leased secrets here; the others
are where they are decided and observed. An answer is observed whole before any of it is released.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.traced import tell_decision, tell_failure
from remit.drivers.spans import SPANS_OFF
from remit.errors import Because, Broken, Denied, NeedsApproval, NotFound, Outage, Refusal
from remit.logic.arguments import make_call
from remit.logic.egress import declared, find_operation, path_segments, read_arguments, read_query
from remit.logic.egress_sent import (
    Incoming,
    is_redirect,
    media_type_of,
    outgoing,
    passed_headers,
    read_result,
    returned_headers,
    within_base,
)
from remit.logic.narrow import narrowed_tools, tool_digest
from remit.logic.telemetry import SERVER, TRACEPARENT, TRACESTATE, TRANSPORT, egress_attributes, trace_context
from remit.model.call import Ending
from remit.model.catalog import Kind
from remit.model.decision import Ask
from remit.model.egress import UNDECLARED
from remit.model.task import TaskState
from remit.services.mediation import Refused, Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from remit.doors.gateway.asking import Asking
    from remit.drivers.base import HttpServer
    from remit.drivers.egress_http import EgressClient, Heard
    from remit.drivers.spans import Spans
    from remit.logic.egress_sent import Outgoing
    from remit.model.call import Call
    from remit.model.egress import Egress
    from remit.model.identity import Bearer
    from remit.services.mediation import Mediation
    from remit.services.tasks import Tasks

    Sink = Callable[["Given", bytes], Awaitable[None]]

_ERRORS = 400
_EQUIPPED_MAX = 10_000
_LARGE_BYTES = 65_536  # an answer that is parsed beside the loop
_OF_THE_API = frozenset({"egress_redirect"})
_PIECES_BYTES = 16_384  # of a stream that are looked through once more with what comes next
_UNKNOWN = "Whether the call took effect is not known."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came. ``path``, ``query``: with their escapes; ``headers``: names in lower case, each as often as it stood there."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer that may go to the agent. ``location``: path and query below the egress's own address; "" : none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    decision: str
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressBounds:
    """Requests under way: of one task on one API, and in all."""

    task: int
    all: int


class EgressCalls:
    """Requests to APIs of one node."""

    def __init__(
        self,
        mediation: Mediation,
        tasks: Tasks,
        client: EgressClient,
        asking: Asking,
        *,
        egresses: Callable[[], Mapping[str, Egress]],
        saw: Callable[[str, str, str], Awaitable[None]],
        equip: Callable[[str, Egress], Awaitable[HttpServer]],
        in_use: Callable[[str], Awaitable[Collection[str]]],
        passes: Callable[[str, Any], Awaitable[bool]],
        bounds: EgressBounds,
        depth_max: int,
        spans: Spans = SPANS_OFF,
    ) -> None:
        """``saw``: hears what an operation is, before a call is decided. ``equip``: headers with a task's credentials. ``in_use``: ids
        of the leases that these must be of. ``passes``: whether something beside a call holds no leased secret; else all is done about it.
        ``spans``: traces what is decided and sent.
        """
        self._mediation, self._tasks, self._client, self._asking = mediation, tasks, client, asking
        self._egresses, self._saw, self._equip, self._in_use, self._passes = egresses, saw, equip, in_use, passes
        self._bounds, self._depth_max, self._spans = bounds, depth_max, spans
        self._equipped: OrderedDict[tuple[str, str], tuple[Egress, HttpServer]] = OrderedDict()
        self._under_way: dict[asyncio.Task[Given], tuple[str, str]] = {}

    async def operations(self, bearer: Bearer, name: str) -> list[dict[str, Any]]:
        """What the task may ask of an API, narrowed to its grant. Raises NotFound, Outage."""
        egress = self._egress(name)
        task = await self._tasks.view(bearer.task)
        listed = [declared(egress, operation) for operation in egress.operations.values()]
        shown = narrowed_tools(task, name, listed, await self._tasks.ancestors(task))
        return [
            {
                "name": tool["name"],
                "request": tool["annotations"]["request"],
                "content": tool["annotations"]["content"],
                **({"description": tool["description"]} if "description" in tool else {}),
                "arguments": tool["inputSchema"],
            }
            for tool in shown
        ]

    async def ask(self, bearer: Bearer, name: str, asked: Asked, sink: Sink) -> Given:
        """The answer to a request. ``sink`` takes the events of a stream with the beginning of its answer; what is left is the answer's
        body then. Raises Mistake (it is none), Denied, NeedsApproval, Refusal (withheld), NotFound, Outage.
        """
        egress = self._egress(name)
        of_task = list(self._under_way.values()).count((bearer.task, name))
        if of_task >= self._bounds.task or len(self._under_way) >= self._bounds.all:
            raise Outage("too many requests are under way", code="overload")
        attributes, parent = egress_attributes(bearer.agent.text, bearer.task, name), trace_context(dict(asked.headers))
        with self._spans.span("egress", attributes, kind="server", parent=parent):
            work = asyncio.create_task(self._answered(bearer, egress, asked, sink))
            self._under_way[work] = bearer.task, name
            try:
                await asyncio.wait({work})
            finally:
                del self._under_way[work]
                if work.cancel():  # whoever waited has gone
                    await asyncio.gather(work, return_exceptions=True)
        if work.cancelled():
            raise Refusal("the task has ended, and with it what it had under way", code="task_over")
        return work.result()

    async def end_task(self, task_id: str) -> None:
        """Cut what a task has under way."""
        for key in [key for key in self._equipped if key[0] == task_id]:
            del self._equipped[key]
        cut = [work for work, (task, _) in self._under_way.items() if task == task_id]
        for work in cut:
            work.cancel()
        if cut:
            await asyncio.wait(cut)

    async def close(self) -> None:
        """Cut everything, and let go of connections."""
        for task_id in {task for task, _ in self._under_way.values()}:
            await self.end_task(task_id)
        await self._client.close()

    def _egress(self, name: str) -> Egress:
        found = self._egresses().get(name)
        if found is None:
            raise NotFound(f"there is no egress {name[:80]!r} here", hint="[egress.NAME] in remit.toml")
        return found

    async def _answered(self, bearer: Bearer, egress: Egress, asked: Asked, sink: Sink) -> Given:
        headers = passed_headers(asked.headers)
        segments, query = path_segments(asked.path), read_query(asked.query)
        found = find_operation(egress, asked.method, segments)
        if found is None:
            what = make_call(Kind.TOOL, egress.name, UNDECLARED, {"method": asked.method[:40], "path": asked.path, "query": asked.query})
            refused = await self._mediation.authorize(bearer, what)
            tell_decision(self._spans, what, refused, listed=False)
            why = f"nobody has declared {asked.method[:40]} of this path; GET /egress/{egress.name} lists what this task may ask"
            raise await self._refusal(bearer, refused, why)
        operation, texts = found
        media_type = media_type_of(headers.get("content-type", ""))
        arguments = read_arguments(operation, texts, query, media_type, asked.body, depth_max=self._depth_max)
        call = make_call(Kind.TOOL, egress.name, operation.name, arguments)
        verdict = await self._decided(bearer, call, tool_digest(declared(egress, operation)))
        tell_decision(self._spans, call, verdict, listed=True, method="egress")
        if isinstance(verdict, Refused):
            raise await self._refusal(bearer, verdict)
        request = outgoing(egress, operation, arguments, headers, asked.body)
        heard = functools.partial(self._heard, verdict, sink, bytearray()) if operation.stream else None
        return await self._carried(verdict, egress, request, heard)

    async def _decided(self, bearer: Bearer, call: Call, seen: str) -> Ticket | Refused:
        await self._saw(bearer.task, call.id, seen)
        verdict = await self._mediation.authorize(bearer, call, seen_digest=seen)
        if isinstance(verdict, Refused) and await self._asking.settle(bearer, verdict, {}, None):
            verdict = await self._mediation.authorize(bearer, call, seen_digest=seen)  # what was answered is now among the facts
        return verdict

    async def _carried(self, ticket: Ticket, egress: Egress, request: Outgoing, heard: Heard | None) -> Given:
        """Send an allowed request and record how it ended."""
        try:
            answer = await self._sent(ticket.bearer.task, egress, request, heard)
        except Outage as error:
            await self._mediation.observe(ticket, Ending.NOT_MADE if error.unsent else Ending.FAILED)
            raise Outage(f"{error.message}. {'Nothing was done.' if error.unsent else _UNKNOWN}", code=error.code) from None
        except asyncio.CancelledError:
            await self._mediation.observe(ticket, Ending.CANCELLED)
            raise
        except Exception:  # a fault of remit; the request may have been sent all the same
            await self._mediation.observe(ticket, Ending.FAILED)
            raise
        try:
            return await self._observed(ticket, egress, request, answer)
        except Outage as error:
            if error.code in _OF_THE_API:
                raise
            raise Outage(f"{error.message}. The call was made, and its answer was not passed on", code="egress_failed") from None

    async def _observed(self, ticket: Ticket, egress: Egress, request: Outgoing, answer: Incoming) -> Given:
        """Observe an answer, and then release it. Raises Refusal, Outage."""
        ending = Ending.OK if answer.status < _ERRORS else Ending.TOOL_ERROR
        result = await asyncio.to_thread(read_result, answer) if len(answer.body) > _LARGE_BYTES else read_result(answer)
        observed = await self._mediation.observe(ticket, ending, result)
        if not observed.released:
            raise Refusal(f"the answer was not passed on: {observed.why}. The call was made", code="withheld")
        released = await self._released(ticket, egress, request, answer)
        if released.location or not released.body:  # what of the answer was not observed counts as what the catalog says of the whole
            await self._mediation.spoke(ticket)
        return released

    async def _heard(self, ticket: Ticket, sink: Sink, before: bytearray, head: Incoming, events: bytes) -> bool:
        """Pass on events of a stream, whose labels count from here on. Raises Outage where they may not be, and then the stream ends.

        ``before``: what went out last; a secret may come in pieces, and its last piece stays here.

        Not passed on is what must be counted first, because a budget of bytes is left to keep.
        """
        task = await self._tasks.view(ticket.bearer.task)
        if any(one.budget.bytes_read for one in (task, *await self._tasks.ancestors(task))):
            return False
        if task.state is not TaskState.ACTIVE or ticket.bearer.token in task.revoked_tokens:
            raise Outage("what opened the stream was taken back", code="egress_over")
        headers = returned_headers(head)
        before += events
        if not await self._passes(task.id, [headers, _searched(events), read_result(replace(head, body=bytes(before)))]):
            raise Outage("what came next carried a leased credential, and was not passed on", code="egress_secret")
        await self._mediation.spoke(ticket)
        await sink(Given(status=head.status, headers=headers, body=b"", decision=ticket.decision_id), events)
        del before[:-_PIECES_BYTES]
        return True

    async def _sent(self, task_id: str, egress: Egress, request: Outgoing, heard: Heard | None) -> Incoming:
        """Raises Outage; ``unsent`` where nothing has left."""
        try:
            headers = await self._credential(task_id, egress)
            is_clean = await self._passes(task_id, [dict(request.headers), _searched(request.opaque)])
        except (NotFound, Refusal) as refused:
            raise Outage(f"{egress.name} gets no credential: {refused.message}", code="egress_credential", unsent=True) from None
        except Outage as error:
            raise Outage(error.message, code=error.code, unsent=True) from None
        if not is_clean:
            raise Outage("it carried a leased credential, and was not sent", code="egress_secret", unsent=True)
        with self._spans.span("egress", {SERVER: egress.name, TRANSPORT: "tcp"}, kind="client"):
            try:
                return await self._client.send(egress, self._carrying(request), headers, heard)
            except Outage as error:
                tell_failure(self._spans, error)
                raise

    def _carrying(self, request: Outgoing) -> Outgoing:
        """The request with the trace that goes on from here, where anybody traces."""
        own = self._spans.context()
        if own is None:
            return request
        return replace(request, headers={**request.headers, TRACEPARENT: own.parent, **({TRACESTATE: own.state} if own.state else {})})

    async def _released(self, ticket: Ticket, egress: Egress, request: Outgoing, answer: Incoming) -> Given:
        """What of an answer that was observed goes back."""
        headers, location = returned_headers(answer), answer.headers.get("location", "")
        below = within_base(egress, request.url, location) or ""
        beside: list[Any] = [headers, below]
        if b"\0" in answer.body:  # a text of wider letters looks like this
            beside.append(_searched(answer.body))
        if not await self._passes(ticket.bearer.task, beside):
            raise Refusal("the answer was not passed on: it carried a leased credential. The call was made", code="withheld")
        if is_redirect(answer) and not below:
            raise Outage(f"{egress.name} sends elsewhere, where the egress does not lead. The call was made", code="egress_redirect")
        rest = answer.body[answer.told :]
        return Given(status=answer.status, headers=headers, body=rest, decision=ticket.decision_id, location=below)

    async def _credential(self, task_id: str, egress: Egress) -> Mapping[str, str]:
        """The configured headers with the credentials that the task is to use now. Raises as ``Leases.have``."""
        key = task_id, egress.name
        known = self._equipped.get(key)
        if known is not None and known[0] is egress and (not known[1].held or known[1].held <= set(await self._in_use(task_id))):
            return known[1].headers
        equipped = await self._equip(task_id, egress)
        self._equipped[key] = egress, equipped
        if len(self._equipped) > _EQUIPPED_MAX:
            self._equipped.popitem(last=False)
        return equipped.headers

    async def _refusal(self, bearer: Bearer, verdict: Ticket | Refused, why: str = "") -> Denied:
        """A recorded refusal as an error. ``why``: in place of the words for a model."""
        if isinstance(verdict, Ticket):
            raise Broken("a request that fits no operation was not refused")
        question = (await self._tasks.view(bearer.task)).approvals.get(verdict.approval_id or "")
        kind = NeedsApproval if isinstance(verdict.decision, Ask) else Denied
        return kind(
            why or verdict.message,
            decision=verdict.decision_id,
            reasons=tuple(Because(reason.code.value, reason.text, reason.where) for reason in verdict.decision.reasons),
            policies=verdict.decision.policies,
            approval=verdict.approval_id or "",
            approval_expires_at=question.expires_at if question else None,
        )


def _searched(data: bytes) -> str:
    """Bytes as a text to be looked through; letters of two bytes as those of one."""
    return data.replace(b"\0", b"").decode("utf-8", "replace")

"""What both transports share: reading what a server says, numbering exchanges, routing, and ending them all at once.

Rules: what is no well-formed message of MCP goes no further than here, so that nothing behind has to doubt its shape. An
answer is given once, to the exchange that has its id.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.base import Message, UpstreamLimits

MODERN_VERSION = "2026-07-28"
_UNASKED_SECONDS = 60.0  # so many messages as one exchange may have before its answer may come unasked in this time
_OF_A_CALL = frozenset({"jsonrpc", "id", "method", "params"})  # nobody looks at other members of a message, so they end here
_OF_AN_ANSWER = frozenset({"jsonrpc", "id", "result", "error"})
_PARTS_MAX = 1_000_000  # objects and arrays of one message: three bytes of it can cost a hundred of memory
_CHANGES = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    }
)


@dataclass(slots=True)
class Exchange:
    """One request under way. ``token``: the agent's own progress token, put back on the way out (``None``: none given)."""

    sink: Callable[[Message], Awaitable[None]]
    answer: asyncio.Future[Message]
    token: object = None
    interim: int = 0

    def fail(self, error: Exception) -> None:
        """End it, unless it has ended."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Exchanges:
    """The requests under way on one conversation, by our own number."""

    def __init__(self, server: str, limits: UpstreamLimits) -> None:
        self.server, self.limits = server, limits
        self._open: dict[int, Exchange] = {}
        self._last = 0
        self._unasked, self._unasked_since = 0, 0.0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, message: Message, sink: Callable[[Message], Awaitable[None]]) -> tuple[int, Exchange, Message]:
        """Number a request; its id and progress token become ours. Raises Outage where too many are under way."""
        if len(self._open) >= self.limits.exchanges_max:
            raise Outage(f"too many calls to {self.server} are under way", code="overload", unsent=True)
        self._last += 1
        number = self._last
        numbered = {**message, "id": number}
        token = None
        params = message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        if isinstance(meta, dict) and meta.get("progressToken") is not None:
            token = meta["progressToken"]
            numbered["params"] = {**message["params"], "_meta": {**meta, "progressToken": number}}
        exchange = Exchange(sink, asyncio.get_running_loop().create_future(), token)
        self._open[number] = exchange
        return number, exchange, numbered

    def finish(self, number: int) -> None:
        """Forget an exchange."""
        self._open.pop(number, None)

    def answered(self, message: Message) -> None:
        """Hand a response to its exchange; an answer to nothing is dropped."""
        exchange = self._numbered(message)
        if exchange is not None and not exchange.answer.done():
            exchange.answer.set_result(message)

    def malformed(self, message: Message) -> None:
        """End the exchange that a malformed answer was meant for, if that can be told."""
        exchange = self._numbered(message) if "method" not in message else None
        if exchange is not None:
            exchange.fail(Outage(f"{self.server} answered what is no JSON-RPC", code="upstream_rubbish"))

    def unasked(self) -> None:
        """Count what the server says by itself. Raises Outage for a flood."""
        now = asyncio.get_running_loop().time()
        if now - self._unasked_since > _UNASKED_SECONDS:
            self._unasked, self._unasked_since = 0, now
        self._unasked += 1
        if self._unasked > self.limits.interim_messages_max:
            raise Outage(f"{self.server} floods its caller", code="upstream_rubbish")

    def of(self, message: Message) -> Exchange | None:
        """The exchange that a notification or a request of the server belongs to: by progress token or subscription, else the
        latest. Notices of change belong to none.
        """
        params = message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        number = meta.get("io.modelcontextprotocol/subscriptionId") if isinstance(meta, dict) else None
        if message.get("method") == "notifications/progress":
            number = params.get("progressToken") if isinstance(params, dict) else None
            return self._open.get(number) if isinstance(number, int) else None
        if number is not None or message.get("method") in _CHANGES:
            return self._open.get(number) if isinstance(number, int) else None
        return next(reversed(self._open.values()), None)

    async def deliver(self, exchange: Exchange, message: Message) -> None:
        """Give one interim message to an exchange's sink. Raises Outage for a flood."""
        exchange.interim += 1
        if exchange.interim > self.limits.interim_messages_max:
            raise Outage(f"{self.server} floods its caller", code="upstream_rubbish")
        if message.get("method") == "notifications/progress" and exchange.token is not None:
            message = {**message, "params": {**message["params"], "progressToken": exchange.token}}
        await exchange.sink(message)

    def fail_all(self, error: Outage) -> None:
        """End every exchange under way."""
        for exchange in self._open.values():
            exchange.fail(error)
        self._open.clear()

    def _numbered(self, message: Message) -> Exchange | None:
        number = message.get("id")
        return self._open.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


class MalformedMessageError(Mistake):
    """A JSON-RPC object that breaks the rules. ``found``: the object, to tell which exchange it was meant for."""

    def __init__(self, found: Message) -> None:
        super().__init__("not a well-formed JSON-RPC message", code="json")
        self.found = found


def read_message(data: bytes, limits: UpstreamLimits) -> Message:
    """One JSON-RPC message from an upstream server, in the shape that MCP prescribes. Raises Mistake, Outage."""
    if data.count(b"[") + data.count(b"{") > _PARTS_MAX:  # brackets in texts count as well: rather that than to parse first
        raise Outage("the server sent a message of too many parts", code="upstream_rubbish")
    message = parse_json(data, bytes_max=limits.message_bytes_max, depth_max=128)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Mistake("not a JSON-RPC message", code="json")
    calls = "method" in message
    if not (_is_call(message) if calls else _is_answer(message)):
        raise MalformedMessageError(message)
    known = _OF_A_CALL if calls else _OF_AN_ANSWER
    return message if message.keys() <= known else {name: member for name, member in message.items() if name in known}


def _is_call(message: Message) -> bool:
    """A request or a notification: JSON-RPC 2.0 §4, with params and their ``_meta`` as MCP narrows them."""
    params = message.get("params")
    if params is not None and not (isinstance(params, dict) and isinstance(params.get("_meta", {}), dict)):
        return False
    if "result" in message or "error" in message:
        return False
    return isinstance(message["method"], str) and ("id" not in message or _is_id(message["id"]))


def _is_answer(message: Message) -> bool:
    """A response: JSON-RPC 2.0 §5. Only an error may have no id."""
    if ("result" in message) == ("error" in message) or "id" not in message:
        return False
    if "result" in message:
        return _is_id(message["id"]) and isinstance(message["result"], dict)
    error = message["error"]
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    code = error.get("code")
    return isinstance(code, int) and not isinstance(code, bool) and (message["id"] is None or _is_id(message["id"]))


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_response(message: Message) -> bool:
    """Whether a message answers a request."""
    return "method" not in message and ("result" in message or "error" in message)

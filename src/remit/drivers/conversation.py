"""What both transports share: numbering exchanges, routing what the server sends, and ending them all at once."""

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


class Exchanges:
    """The requests under way on one conversation, by our own number."""

    def __init__(self, server: str, limits: UpstreamLimits) -> None:
        self.server, self.limits = server, limits
        self._open: dict[int, Exchange] = {}
        self._last = 0

    def begin(self, message: Message, sink: Callable[[Message], Awaitable[None]]) -> tuple[int, Exchange, Message]:
        """Number a request; its id and progress token become ours. Raises Outage where too many are under way."""
        if len(self._open) >= self.limits.exchanges_max:
            raise Outage(f"too many calls to {self.server} are under way", code="overload")
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
        number = message.get("id")
        exchange = self._open.get(number) if isinstance(number, int) else None
        if exchange is not None and not exchange.answer.done():
            exchange.answer.set_result(message)

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
            if not exchange.answer.done():
                exchange.answer.set_exception(error)
        self._open.clear()


def read_message(data: bytes, limits: UpstreamLimits) -> Message:
    """One JSON-RPC object from an upstream server. Raises Mistake."""
    message = parse_json(data, bytes_max=limits.message_bytes_max, depth_max=128)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Mistake("not a JSON-RPC message", code="json")
    return message


def is_response(message: Message) -> bool:
    """Whether a message answers a request."""
    return "method" not in message and ("result" in message or "error" in message)

"""What a conversation with an upstream MCP server must do, whatever carries it (stdio, Streamable HTTP; both eras).

Messages are JSON-RPC objects as plain dicts, relayed and never rebuilt. A driver knows transport, era and liveness;
it decides nothing and knows no task.

Duties of every implementation
* Order: what the server sends on behalf of one exchange reaches its ``sink`` in the order sent, the response last.
* Bounds: message size, number of exchanges under way, and every wait are limited; a flood ends the conversation.
* Absence: a server that crashes, hangs, closes or answers rubbish makes every exchange under way end with ``Outage``
  (``upstream_gone``, ``upstream_session``, ``upstream_timeout``, ``upstream_rubbish``), never with a hang and never with a made-up result.
* Ending: ``close`` ends the process (and its process group) or the session, within a bounded time. Idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioServer:
    """A server that remit starts: one process for a task. ``environment`` is all it gets beside a minimal PATH, HOME, LANG.

    ``leases``: names of the credentials it holds, ``held``: their ids; ``secrets``: their texts that no log may show. ``files``: made for
    this process, gone with it.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    folder: str | None = None
    leases: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    held: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """A server reached by Streamable HTTP. ``headers`` may hold secrets: never printed. ``txn_token``: it is told of each call.

    ``held``: ids of the credentials in its headers.
    """

    name: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    txn_token: bool = False
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonServer:
    """Guarded functions of Python programs, which run them themselves: nothing to connect to. ``modules``: where they are
    declared; only ``remit pin`` imports them, with ``folder`` first on the path.
    """

    name: str
    modules: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Bounds of one conversation."""

    message_bytes_max: int = 16_777_216
    exchanges_max: int = 64
    exchange_seconds: float = 300.0
    start_seconds: float = 60.0
    close_seconds: float = 3.0
    rubbish_lines_max: int = 100
    interim_messages_max: int = 10_000  # one exchange: more is a flood
    pages_max: int = 50
    resumptions_max: int = 100  # of one exchange's stream


class Upstream(Protocol):
    """One conversation with one MCP server.

    ``era`` is "legacy" (initialize, sessions) or "modern" (2026-07-28, stateless). For a legacy conversation
    ``opening`` is the server's own result of ``initialize``, for a modern one its result of ``server/discover``.
    """

    era: str
    protocol_version: str
    opening: Message

    async def exchange(self, message: Message, sink: Callable[[Message], Awaitable[None]]) -> Message:
        """Send one request under an id of the driver's own; give every notification and every request of the server
        that belongs to it to ``sink``; return the response with the caller's id put back. Raises Outage.
        Cancelling the awaiting task sends the cancellation of this era upstream.
        """

    async def send(self, message: Message) -> None:
        """Send a notification, or the answer to a request of the server. Raises Outage."""

    async def close(self) -> None:
        """End the conversation and what carries it."""

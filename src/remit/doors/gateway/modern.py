"""Agents of MCP 2026-07-28: stateless, one POST a request, everything about it in the body.

Rules: the body decides, headers must agree with it. Nothing is kept between requests but a conversation a task and server.
An agent that goes away cancels its request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from remit.doors.gateway.headers import PREFIX, decoded
from remit.doors.gateway.relay import unopened
from remit.doors.gateway.rounds import HANDLE, Round, Rounds
from remit.doors.gateway.translate import META, client_capabilities, known_capabilities, legacy_request, modern_opening, modern_result
from remit.doors.problems import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    rpc_error,
    rpc_status,
)
from remit.drivers.conversation import MODERN_VERSION
from remit.drivers.patience import within
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.doors.gateway.asking import Asking
    from remit.doors.gateway.exchange import HttpExchange
    from remit.doors.gateway.links import Link, Links
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_KEEP_ALIVE_SECONDS = 15.0
_UNWATCHED_SECONDS = 0.05
_ACCEPTED = 202
_METHODS = frozenset(
    {
        "server/discover",
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
    }
)


def is_modern(http: HttpExchange, message: Message) -> bool:
    """Whether a request speaks the stateless era: its ``_meta`` or its header names a version beyond the sessions'."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if isinstance(meta, dict) and f"{META}protocolVersion" in meta:
        return True
    return http.headers.get("mcp-protocol-version", "") >= MODERN_VERSION


class Asked(Protocol):
    """What a request came with, and where what comes before its answer goes."""

    headers: dict[str, str]

    async def interim(self, message: Message) -> None:
        """Send a message that comes before the answer."""


class ModernDoor:
    """Stateless requests."""

    def __init__(self, relay: Relay, links: Links, asking: Asking | None = None) -> None:
        self._relay, self._links, self._asking = relay, links, asking
        self._rounds = Rounds()

    async def post(self, http: HttpExchange, bearer: Bearer, server: str, message: Message) -> None:
        """Answer one POST."""
        if "id" not in message:
            await http.respond(_ACCEPTED)
            return
        wrong = _check(http, message)
        if wrong is not None:
            status = 400 if wrong["error"]["code"] == INVALID_PARAMS else rpc_status(wrong)
            await http.answer(wrong, status)
            return
        watch = _Watch(http, asyncio.current_task())
        try:
            answer = await self.served(http, bearer, server, message)
        except asyncio.CancelledError:
            if not watch.gone:
                raise
            return  # closing the response is how this era cancels
        finally:
            watch.end()
        await http.answer(answer, rpc_status(answer))

    async def served(self, http: Asked, bearer: Bearer, server: str, message: Message) -> Message:
        """The answer to a request that is well formed. Raises NotFound, and Outage where remit itself is short."""
        try:
            link = await self._links.get(bearer.task, server, "", None, client_capabilities(message))
        except Outage as outage:
            return _complete(unopened(message, outage))
        return _complete(await self._answer(http, bearer, link, message))

    async def _answer(self, http: Asked, bearer: Bearer, link: Link, message: Message) -> Message:
        if message["method"] == "server/discover":
            return {"jsonrpc": "2.0", "id": message["id"], "result": await link.opening(modern_opening(link.upstream))}
        headers = {name: value for name, value in http.headers.items() if name.startswith(PREFIX)}
        client: _AtClient | None = _AtClient(client_capabilities(message))
        if self._asking is not None and self._asking.asked_already(message):
            try:
                message, client = await self._asking.resumed(bearer, await link.plain(message)), None
            except Outage as outage:
                return unopened(message, outage)
        if link.upstream.era == "legacy":
            return await self._translated(bearer, link, message, http.interim, headers, client)
        return await self._relay.request(bearer, link, _plain(message), http.interim, modern=True, headers=headers, client=client)

    async def _translated(
        self,
        bearer: Bearer,
        link: Link,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        headers: Mapping[str, str],
        client: _AtClient | None,
    ) -> Message:
        """Carry a request to a legacy server, whose questions become rounds."""
        if str(message["params"].get("requestState", "")).startswith(HANDLE):
            try:
                return await self._rounds.resume(bearer.task, message, sink)
            except Mistake as mistake:
                return rpc_error(message["id"], INVALID_PARAMS, mistake.message)

        async def exchange(request: Message, said: Callable[[Message], Awaitable[None]], told: Mapping[str, str] | None) -> Message:
            return modern_result(request["method"], await link.exchange(legacy_request(request), said, told))

        this = Round(link, message, client_capabilities(message))

        async def work() -> Message:
            return await self._relay.request(
                bearer, link, message, this.said, modern=True, headers=headers, exchange=exchange, client=client
            )

        if message["method"] == "subscriptions/listen":
            return await self._relay.request(bearer, link, message, sink, modern=True)
        return await self._rounds.begin(bearer.task, this, work, sink)


def _complete(answer: Message) -> Message:
    """Every result of this era says what it is; those that remit makes itself are complete."""
    result = answer.get("result")
    return {**answer, "result": {"resultType": "complete", **result}} if isinstance(result, dict) else answer


class _AtClient:
    """The person at a stateless agent's client, asked by an answer that asks back (``asking.Client``)."""

    rounds = True

    def __init__(self, capabilities: Message) -> None:
        self.capabilities = capabilities

    async def ask(self, question: Message, seconds: float) -> Message | None:
        """See ``asking.Client``."""
        del question, seconds
        return None


class _Watch:
    """Looks after the connection while an answer is worked on: keeps it alive, and cancels the work when the agent goes away.

    It begins to look a moment later: most answers are there before, and cost nothing for it.
    """

    def __init__(self, http: HttpExchange, work: asyncio.Task[None] | None) -> None:
        self._http, self._work = http, work
        self._watching: asyncio.Task[None] | None = None
        self._beginning = asyncio.get_running_loop().call_later(_UNWATCHED_SECONDS, self._begin)
        self.gone = False

    def end(self) -> None:
        """Look no longer."""
        self._beginning.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._over())

    async def _over(self) -> None:
        while not self.gone:
            try:
                with within(_KEEP_ALIVE_SECONDS):
                    await self._http.disconnected()
                    self.gone = True
            except TimeoutError:
                await self._http.keep_alive()
        if self._work is not None:
            self._work.cancel()


def _plain(message: Message) -> Message:
    """A request without what this gateway does not pass on: nobody could fetch the result of one of MCP's own tasks."""
    declared = message["params"]["_meta"][f"{META}clientCapabilities"]
    known = known_capabilities(declared)
    if known == declared:
        return message
    meta = {**message["params"]["_meta"], f"{META}clientCapabilities": known}
    return {**message, "params": {**message["params"], "_meta": meta}}


def _check(http: HttpExchange, message: Message) -> Message | None:
    """The error for a request that is not well formed in this era, in the order of MCP 2026-07-28."""
    request_id, method = message["id"], message["method"]
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(meta, dict):
        return rpc_error(request_id, INVALID_PARAMS, "params._meta is missing")
    version = meta.get(f"{META}protocolVersion")
    if not isinstance(version, str):
        return rpc_error(request_id, INVALID_PARAMS, f"_meta is missing {META}protocolVersion")
    if http.headers.get("mcp-protocol-version") != version:
        return rpc_error(request_id, HEADER_MISMATCH, "the header MCP-Protocol-Version does not match the body")
    if version != MODERN_VERSION:
        data = {"supported": [MODERN_VERSION], "requested": version[:100]}
        return rpc_error(request_id, UNSUPPORTED_VERSION, "this protocol version is not spoken here", data)
    if not isinstance(meta.get(f"{META}clientCapabilities"), dict):
        return rpc_error(request_id, INVALID_PARAMS, f"_meta is missing {META}clientCapabilities")
    if decoded(http.headers.get("mcp-method")) != method:
        return rpc_error(request_id, HEADER_MISMATCH, "the header Mcp-Method does not match the body")
    if method not in _METHODS:
        return rpc_error(request_id, METHOD_NOT_FOUND, f"remit does not pass on {method[:80]!r}")
    if method in _NAMED and decoded(http.headers.get("mcp-name")) != params.get(_NAMED[method]):
        return rpc_error(request_id, HEADER_MISMATCH, "the header Mcp-Name does not match the body")
    return None

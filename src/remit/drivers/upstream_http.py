"""An MCP server over Streamable HTTP, legacy (sessions) and modern (2026-07-28, stateless).

Rules: only the configured URL is ever contacted; no redirects, no cookies, no proxies from the environment. Answers are
bounded. The two eras differ in headers and in how an exchange is cancelled, nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from remit.drivers.conversation import MODERN_VERSION, Exchange, Exchanges, is_response, read_message
from remit.drivers.sse import EventReader
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from remit.drivers.base import HttpServer, Message, UpstreamLimits

_JSON, _SSE = "application/json", "text/event-stream"
_ACCEPTED = 202
_NOT_FOUND = 404
_BAD_REQUEST = 400
_DRAIN_SECONDS, _DRAIN_BYTES = 0.5, 65_536  # what follows an answer is read for so long, to keep the connection
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def http_session() -> aiohttp.ClientSession:
    """The one client of this process: keep-alive, no cookies, nothing from the environment."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=256),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
    )


class HttpUpstream:
    """See ``drivers/base.py`` for the duties. ``era`` and ``opening`` are set by ``upstreams.open_upstream``."""

    def __init__(
        self,
        server: HttpServer,
        limits: UpstreamLimits,
        unsolicited: Callable[[Message], Awaitable[None]],
        client: aiohttp.ClientSession,
    ) -> None:
        """``client`` is shared and not closed here."""
        self.server, self._limits, self._unsolicited, self._client = server, limits, unsolicited, client
        self.era, self.protocol_version = "legacy", ""
        self.opening: Message = {}
        self._session = ""
        self._exchanges = Exchanges(server.name, limits)
        self._listener: asyncio.Task[None] | None = None
        self._closed = False
        self._carrying: set[asyncio.Task[None]] = set()

    async def exchange(
        self,
        message: Message,
        sink: Callable[[Message], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """See Upstream. ``headers``: the agent's ``Mcp-Param-*``, which the server compares with the body itself."""
        if self._closed:
            raise Outage(f"the conversation with {self.server.name} is over", code="upstream_gone")
        number, exchange, numbered = self._exchanges.begin(message, sink)
        carrying = asyncio.create_task(self._carry(number, exchange, numbered, headers or {}))
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)
        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                answer = await exchange.answer
        except (TimeoutError, Outage, asyncio.CancelledError) as error:
            carrying.cancel()
            if isinstance(error, asyncio.CancelledError) and self.era == "legacy" and not self._closed:
                note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                with contextlib.suppress(Outage):
                    await asyncio.shield(self.send(note))
            if not isinstance(error, TimeoutError):
                raise
            raise Outage(f"{self.server.name} did not answer in time", code="upstream_timeout") from None
        finally:
            self._exchanges.finish(number)
        return {**answer, "id": message.get("id")}

    async def send(self, message: Message) -> None:
        """See Upstream."""
        async with self._post(message, {}) as response:
            if response.status >= _BAD_REQUEST:
                raise Outage(f"{self.server.name} refused a message ({response.status})", code="upstream_rubbish")

    def listen(self) -> None:
        """Open the server's own stream (legacy GET), once; where it offers none, that is its right."""
        if self._listener is None and self.era == "legacy":
            self._listener = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """See Upstream: ends the session with DELETE."""
        if self._closed:
            return
        self._closed = True
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        self._exchanges.fail_all(Outage(f"the conversation with {self.server.name} was ended", code="upstream_gone"))
        for carrying in list(self._carrying):
            carrying.cancel()
        if self._session:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    asyncio.timeout(self._limits.close_seconds),
                    self._client.delete(self.server.url, headers=self._headers({}), allow_redirects=False),
                ):
                    pass

    async def _carry(self, number: int, exchange: Exchange, message: Message, headers: Mapping[str, str]) -> None:
        """Run one exchange beside the one who waits for it, so that ``close`` ends the wait, and a connection that has
        told its answer is read to its end and used again.
        """
        try:
            await self._answer(number, exchange, message, headers)
        except Exception as error:
            if not exchange.answer.done():
                exchange.answer.set_exception(error)

    async def _answer(self, number: int, exchange: Exchange, message: Message, headers: Mapping[str, str]) -> None:
        async with self._post(message, headers) as response:
            if session := response.headers.get("Mcp-Session-Id"):
                self._session = session
            reader = EventReader(self._limits.message_bytes_max)
            await self._until_answered(number, exchange, response, reader)
        for _ in range(self._limits.resumptions_max):
            if exchange.answer.done() or not reader.last_id or self.era != "legacy":
                break
            await asyncio.sleep(reader.retry_seconds)  # the server ends a stream early and is asked for the rest (SEP-1699)
            async with self._get({"Last-Event-ID": reader.last_id}) as response:
                await self._until_answered(number, exchange, response, reader)
        if not exchange.answer.done():
            raise Outage(f"{self.server.name} ended without an answer", code="upstream_gone")

    async def _until_answered(self, number: int, exchange: Exchange, response: aiohttp.ClientResponse, reader: EventReader) -> None:
        """Deliver what comes before the answer, then the answer, if the stream gets that far."""
        async for received in self._messages(response, reader):
            if not is_response(received):
                await self._exchanges.deliver(exchange, received)
            elif received.get("id") in {number, None} and not exchange.answer.done():
                exchange.answer.set_result(received)
                break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await response.content.read(_DRAIN_BYTES):
                    pass

    @contextlib.asynccontextmanager
    async def _post(self, message: Message, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {**self._headers(headers), **self._modern_headers(message)}
        try:
            async with self._client.post(
                self.server.url, data=msgspec.json.encode(message), headers=sent, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError):
            raise Outage(f"{self.server.name} cannot be reached", code="upstream_gone") from None

    @contextlib.asynccontextmanager
    async def _get(self, extra: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {**self._headers(extra), "Accept": _SSE}
        try:
            async with self._client.get(self.server.url, headers=headers, allow_redirects=False) as response:
                yield response
        except (aiohttp.ClientError, OSError):
            raise Outage(f"{self.server.name} cannot be reached", code="upstream_gone") from None

    async def _messages(self, response: aiohttp.ClientResponse, reader: EventReader) -> AsyncIterator[Message]:
        kind = response.content_type
        try:
            if kind == _JSON:
                body = await response.content.read(self._limits.message_bytes_max + 1)
                while piece := await response.content.read(self._limits.message_bytes_max + 1):
                    body += piece
                    if len(body) > self._limits.message_bytes_max:
                        raise Outage(f"{self.server.name} sent too much", code="upstream_rubbish")
                yield read_message(body, self._limits)
            elif kind == _SSE:
                async for piece in response.content.iter_any():
                    for data in reader.feed(piece):
                        yield read_message(data, self._limits)
            elif response.status == _NOT_FOUND and self._session:
                raise Outage(f"{self.server.name} has dropped the session", code="upstream_session")
            else:
                raise Outage(f"{self.server.name} answered {response.status} {kind}", code="upstream_rubbish")
        except Mistake:
            raise Outage(f"{self.server.name} answered what is no JSON-RPC", code="upstream_rubbish") from None

    async def _listen(self) -> None:
        reader = EventReader(self._limits.message_bytes_max)
        while not self._closed:
            try:
                async with self._get({"Last-Event-ID": reader.last_id} if reader.last_id else {}) as response:
                    if response.content_type != _SSE:
                        return
                    async for message in self._messages(response, reader):
                        await self._unsolicited(message)
            except Outage:
                pass  # listened to again a moment later
            await asyncio.sleep(reader.retry_seconds)

    def _headers(self, extra: Mapping[str, str]) -> dict[str, str]:
        headers = {**extra, "Content-Type": _JSON, "Accept": f"{_JSON}, {_SSE}", **self.server.headers}
        if self.protocol_version:
            headers["MCP-Protocol-Version"] = self.protocol_version
        if self._session:
            headers["Mcp-Session-Id"] = self._session
        return headers

    def _modern_headers(self, message: Message) -> dict[str, str]:
        if self.era != "modern":
            return {}
        method = message.get("method", "")
        headers = {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": _header_value(method)}
        if method in _NAMED:
            headers["Mcp-Name"] = _header_value(str(message["params"][_NAMED[method]]))
        return headers


def _header_value(text: str) -> str:
    """MCP 2026-07-28: values that a header cannot carry as they are travel as ``=?base64?…?=``."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?")
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="

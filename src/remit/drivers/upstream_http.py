"""An MCP server over Streamable HTTP, legacy (sessions) and modern (2026-07-28, stateless).

Rules: only the configured URL is ever contacted; no redirects, no cookies, no compression, no proxies from the environment.
Answers and waits are bounded. What a server says of itself goes into no error and, unchecked, into no header. The two eras
differ in headers and in how an exchange is cancelled, nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from remit.drivers.conversation import MODERN_VERSION, Exchange, Exchanges, is_response, read_message
from remit.drivers.patience import within
from remit.drivers.sse import EventReader
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from remit.drivers.base import HttpServer, Message, UpstreamLimits

_JSON, _SSE = "application/json", "text/event-stream"
_OK, _REDIRECTS, _BAD_REQUEST, _NOT_FOUND = 200, 300, 400, 404
_DRAIN_SECONDS, _DRAIN_BYTES = 0.5, 65_536  # what follows an answer is read for so long, to keep the connection
_SESSION = re.compile(r"[\x21-\x7e]{1,1024}")  # MCP 2025-11-25, session management
_LISTEN_SECONDS_MIN, _LISTEN_SECONDS_MAX = 0.5, 30.0  # between two streams of what the server says by itself
_LOG = logging.getLogger("remit")
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def http_session() -> aiohttp.ClientSession:
    """The one client of this process: keep-alive, no cookies, nothing from the environment, nothing unpacked."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
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
            raise Outage(f"the conversation with {self.server.name} is over", code="upstream_gone", unsent=True)
        number, exchange, numbered = self._exchanges.begin(message, sink)
        carrying = self._beside(self._carry(number, exchange, numbered, headers or {}))
        try:
            with within(self._limits.exchange_seconds):
                answer = await exchange.answer
        except (TimeoutError, Outage, asyncio.CancelledError) as error:
            carrying.cancel()
            if not isinstance(error, Outage) and self.era == "legacy" and not self._closed:
                self._beside(self._cancel(number))
            if not isinstance(error, TimeoutError):
                raise
            raise Outage(f"{self.server.name} did not answer in time", code="upstream_timeout") from None
        finally:
            self._exchanges.finish(number)
        return {**answer, "id": message.get("id")}

    async def send(self, message: Message) -> None:
        """See Upstream."""
        try:
            async with asyncio.timeout(self._limits.exchange_seconds), self._post(message, {}) as response:
                self._check_session(response)
                if response.status >= _REDIRECTS:
                    raise Outage(f"{self.server.name} refused a message ({response.status})", code="upstream_rubbish")
        except TimeoutError:
            raise Outage(f"{self.server.name} did not take a message in time", code="upstream_timeout") from None

    def listen(self, interrupted: Callable[[], None]) -> None:
        """Open the server's own stream (legacy GET), once; where it offers none, that is its right. ``interrupted`` is called
        when something may have been missed.
        """
        if self._listener is None and self.era == "legacy":
            self._listener = asyncio.create_task(self._listen(interrupted))

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
            with contextlib.suppress(aiohttp.ClientError, OSError):
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
            exchange.fail(error)

    async def _cancel(self, number: int) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        with contextlib.suppress(Outage, TimeoutError):
            async with asyncio.timeout(self._limits.close_seconds):
                await self.send(note)

    def _beside(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something that nobody waits for, until ``close``."""
        task = asyncio.create_task(work)
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        return task

    async def _answer(self, number: int, exchange: Exchange, message: Message, headers: Mapping[str, str]) -> None:
        async with self._post(message, headers) as response:
            self._check_session(response)
            if (session := response.headers.get("Mcp-Session-Id")) and not self._session and self.era == "legacy":
                if not _SESSION.fullmatch(session):
                    raise Outage(f"{self.server.name} names its session in a way that cannot be", code="upstream_rubbish")
                self._session = session
            reader = EventReader(self._limits.message_bytes_max)
            await self._until_answered(number, exchange, response, reader)
        for _ in range(self._limits.resumptions_max):
            if exchange.answer.done() or not reader.last_id or self.era != "legacy":
                break
            await asyncio.sleep(reader.retry_seconds)  # the server ends a stream early and is asked for the rest (SEP-1699)
            reader.restart()
            async with self._get({"Last-Event-ID": reader.last_id}) as response:
                await self._until_answered(number, exchange, response, reader)
        if not exchange.answer.done():
            raise Outage(f"{self.server.name} ended without an answer", code="upstream_gone")

    async def _until_answered(self, number: int, exchange: Exchange, response: aiohttp.ClientResponse, reader: EventReader) -> None:
        """Deliver what comes before the answer, then the answer, if the stream gets that far."""
        async for received in self._messages(response, reader):
            if not is_response(received):
                await self._exchanges.deliver(exchange, received)
            elif (received["id"] == number or (received["id"] is None and "error" in received)) and not exchange.answer.done():
                exchange.answer.set_result(received)
                break
        with contextlib.suppress(TimeoutError), within(_DRAIN_SECONDS):
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
        except aiohttp.ClientConnectorError:  # there was no connection to send anything on
            raise Outage(f"{self.server.name} cannot be reached", code="upstream_gone", unsent=True) from None
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
        kind, status = response.content_type, response.status
        no_message = Outage(f"{self.server.name} answered with HTTP status {status} and no message of MCP", code="upstream_rubbish")
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise Outage(f"{self.server.name} sent a compressed answer, which was not asked for", code="upstream_rubbish")
        try:
            if kind == _JSON and (status == _OK or status >= _BAD_REQUEST):
                message = read_message(await self._body(response), self._limits)
                if status != _OK and "error" not in message:
                    raise no_message
                yield message if status == _OK else {**message, "id": None}  # an error that refuses this request, whatever id it names
            elif kind == _SSE and status == _OK:
                async for piece in response.content.iter_any():
                    for data in reader.feed(piece):
                        yield read_message(data, self._limits)
            else:
                raise no_message
        except Mistake:
            if status != _OK:
                raise no_message from None
            raise Outage(f"{self.server.name} answered what is no JSON-RPC", code="upstream_rubbish") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._limits.message_bytes_max:
                raise Outage(f"{self.server.name} sent a message that is too large", code="upstream_rubbish")
        return bytes(body)

    def _check_session(self, response: aiohttp.ClientResponse) -> None:
        """MCP 2025-11-25: 404 says that the session is over, whatever else the answer says."""
        if response.status == _NOT_FOUND and self._session:
            raise Outage(f"{self.server.name} has dropped the session", code="upstream_session")

    async def _listen(self, interrupted: Callable[[], None]) -> None:
        reader, pause = EventReader(self._limits.message_bytes_max), _LISTEN_SECONDS_MIN
        while not self._closed:
            try:
                async with self._get({"Last-Event-ID": reader.last_id} if reader.last_id else {}) as response:
                    if response.status != _OK or response.content_type != _SSE:
                        return
                    reader.restart()
                    await self._hear(response, reader)
                pause = _LISTEN_SECONDS_MIN
            except Outage:  # listened to again a moment later
                pause = min(pause * 2, _LISTEN_SECONDS_MAX)
            interrupted()
            await asyncio.sleep(max(reader.retry_seconds, pause))
            interrupted()

    async def _hear(self, response: aiohttp.ClientResponse, reader: EventReader) -> None:
        """Pass on what the server says by itself; an answer is none of it, and is let go. Raises Outage."""
        async for message in self._messages(response, reader):
            if is_response(message):
                continue
            self._exchanges.unasked()
            try:
                await self._unsolicited(message)
            except Outage:
                raise
            except Exception as error:
                _LOG.error("what %s said by itself was lost to a fault of remit", self.server.name, exc_info=error)

    def _headers(self, extra: Mapping[str, str]) -> dict[str, str]:
        own = {"Content-Type": _JSON, "Accept": f"{_JSON}, {_SSE}", "Accept-Encoding": "identity"}
        headers = {**extra, **own, **self.server.headers}
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

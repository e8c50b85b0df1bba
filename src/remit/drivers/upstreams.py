"""Opens conversations with upstream MCP servers and settles the era; asks a server for its tools when they are pinned."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import msgspec

from remit.drivers.base import StdioServer, UpstreamLimits
from remit.drivers.conversation import MODERN_VERSION
from remit.drivers.upstream_http import HttpUpstream
from remit.drivers.upstream_stdio import StdioUpstream
from remit.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from remit.drivers.base import HttpServer, Message

LEGACY_VERSION = "2025-11-25"
METHOD_NOT_FOUND = -32601
_VERSION = re.compile(r"[0-9A-Za-z.-]{1,40}")  # it becomes a header
_META = "io.modelcontextprotocol/"
CLIENT_INFO = {"name": "remit", "version": "1"}
AnyUpstream = StdioUpstream | HttpUpstream


async def open_upstream(
    server: StdioServer | HttpServer,
    *,
    initialize: Message | None,
    capabilities: Message | None = None,
    limits: UpstreamLimits,
    unsolicited: Callable[[Message], Awaitable[None]],
    client: aiohttp.ClientSession,
) -> AnyUpstream:
    """Open a conversation. ``initialize``: the params of a legacy agent, passed on as they are; ``None`` for a modern agent,
    for whom the modern era is tried first. ``capabilities``: what such an agent declares, should its server have to be
    initialised. Raises Outage.
    """
    upstream: AnyUpstream
    if isinstance(server, StdioServer):
        upstream = process = StdioUpstream(server, limits, unsolicited)
        await process.start()
    else:
        upstream = HttpUpstream(server, limits, unsolicited, client)
    try:
        async with asyncio.timeout(limits.start_seconds):
            if initialize is not None:
                if not await _initialize(upstream, initialize):
                    await _discover(upstream, required=True)
            elif not await _discover(upstream, required=False):
                params = {"protocolVersion": LEGACY_VERSION, "capabilities": capabilities or {}, "clientInfo": CLIENT_INFO}
                if not await _initialize(upstream, params):
                    raise Outage(f"{server.name} speaks no MCP that remit knows", code="upstream_rubbish")
    except TimeoutError:
        await upstream.close()
        raise Outage(f"{server.name} did not answer in time", code="upstream_timeout") from None
    except BaseException:
        await upstream.close()
        raise
    return upstream


async def discover_tools(server: StdioServer | HttpServer, limits: UpstreamLimits, client: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """All tools a server lists now. Raises Outage."""
    params = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": CLIENT_INFO}
    upstream = await open_upstream(server, initialize=params, limits=limits, unsolicited=_ignore, client=client)
    try:
        return await list_all_tools(upstream, limits)
    finally:
        await upstream.close()


async def list_all_tools(upstream: AnyUpstream, limits: UpstreamLimits) -> list[dict[str, Any]]:
    """Every page of ``tools/list``, within the time of one call and the size of one message. Raises Outage."""
    try:
        async with asyncio.timeout(limits.exchange_seconds):
            return await _list_pages(upstream, limits)
    except TimeoutError:
        raise Outage(f"{upstream.server.name} did not list its tools in time", code="upstream_timeout") from None


async def _list_pages(upstream: AnyUpstream, limits: UpstreamLimits) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: str | None = None
    size = 0
    for _ in range(limits.pages_max):
        params: dict[str, Any] = {"cursor": cursor} if cursor is not None else {}
        if upstream.era == "modern":
            params["_meta"] = modern_meta()
        answer = await upstream.exchange({"jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": params}, _ignore)
        result = answer.get("result")
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            if "error" in answer and answer["error"]["code"] == METHOD_NOT_FOUND:
                return tools
            raise Outage(f"{upstream.server.name} does not list its tools", code="upstream_rubbish")
        size += len(msgspec.json.encode(result))
        if size > limits.message_bytes_max:  # of all pages together: they are kept side by side
            raise Outage(f"{upstream.server.name} lists too much", code="upstream_rubbish")
        tools += [tool for tool in result["tools"] if isinstance(tool, dict)]
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return tools
    raise Outage(f"{upstream.server.name} lists more than {limits.pages_max} pages of tools", code="upstream_rubbish")


def modern_meta() -> dict[str, Any]:
    """``_meta`` of a request that remit makes on its own behalf (MCP 2026-07-28)."""
    return {
        f"{_META}protocolVersion": MODERN_VERSION,
        f"{_META}clientInfo": CLIENT_INFO,
        f"{_META}clientCapabilities": {},
    }


async def _initialize(upstream: AnyUpstream, params: Message) -> bool:
    answer = await upstream.exchange({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, _ignore)
    result = answer.get("result")
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(version, str) or not _VERSION.fullmatch(version):
        return False
    upstream.era, upstream.opening, upstream.protocol_version = "legacy", result, version
    await upstream.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    return True


async def _discover(upstream: AnyUpstream, *, required: bool) -> bool:
    upstream.era, upstream.protocol_version = "modern", MODERN_VERSION
    message = {"jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": {"_meta": modern_meta()}}
    try:
        answer = await upstream.exchange(message, _ignore)
    except Outage:
        if required or isinstance(upstream, StdioUpstream):
            raise
        answer = {}
    result = answer.get("result")
    versions = result.get("supportedVersions") if isinstance(result, dict) else None
    if isinstance(result, dict) and isinstance(versions, list) and MODERN_VERSION in versions:
        upstream.opening = result
        return True
    upstream.era, upstream.protocol_version = "legacy", ""
    if required:
        raise Outage(f"{upstream.server.name} speaks no MCP that remit knows", code="upstream_rubbish")
    return False


async def _ignore(_message: Message) -> None:
    """Nobody waits for interim messages of a handshake."""

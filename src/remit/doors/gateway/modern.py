"""Agents of MCP 2026-07-28: stateless, one POST a request, everything about it in the body.

Rules: the body decides, headers must agree with it. Nothing is kept between requests but a conversation a task and server.
An agent that goes away cancels its request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from typing import TYPE_CHECKING, Any

from remit.doors.gateway.translate import legacy_request, modern_opening, modern_result
from remit.doors.problems import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    rpc_error,
    rpc_status,
)
from remit.drivers.conversation import MODERN_VERSION
from remit.drivers.upstream_http import HttpUpstream

if TYPE_CHECKING:
    from remit.doors.gateway.exchange import HttpExchange
    from remit.doors.gateway.links import Link, Links
    from remit.doors.gateway.relay import Relay
    from remit.drivers.base import Message
    from remit.model.identity import Bearer

META = "io.modelcontextprotocol/"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PARAM_HEADER = "mcp-param-"
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


class ModernDoor:
    """Stateless requests."""

    def __init__(self, relay: Relay, links: Links) -> None:
        self._relay, self._links = relay, links

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
        link = await self._links.get(bearer.task, server, "", None)
        work = asyncio.create_task(self._answer(http, bearer, link, message))
        gone = asyncio.create_task(http.disconnected())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()  # closing the response is how this era cancels
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                return
            answer = work.result()
            await http.answer(answer, rpc_status(answer))
        finally:
            gone.cancel()
            work.cancel()

    async def _answer(self, http: HttpExchange, bearer: Bearer, link: Link, message: Message) -> Message:
        async def sink(said: Message) -> None:
            await http.interim(said)

        upstream = link.upstream
        if message["method"] == "server/discover":
            return {"jsonrpc": "2.0", "id": message["id"], "result": {**modern_opening(upstream), "cacheScope": "private"}}
        if upstream.era == "legacy":
            answer = await self._relay.request(bearer, link, legacy_request(message), sink, modern=True)
            return modern_result(message["method"], answer)
        headers = None
        if isinstance(upstream, HttpUpstream):
            headers = {name: value for name, value in http.headers.items() if name.startswith(_PARAM_HEADER)} or None
        return await self._relay.request(bearer, link, message, sink, modern=True, headers=headers)


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
    if _decoded(http.headers.get("mcp-method")) != method:
        return rpc_error(request_id, HEADER_MISMATCH, "the header Mcp-Method does not match the body")
    if method not in _METHODS:
        return rpc_error(request_id, METHOD_NOT_FOUND, f"remit does not pass on {method[:80]!r}")
    if method in _NAMED and _decoded(http.headers.get("mcp-name")) != params.get(_NAMED[method]):
        return rpc_error(request_id, HEADER_MISMATCH, "the header Mcp-Name does not match the body")
    return None


def _decoded(value: str | None) -> Any:
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None

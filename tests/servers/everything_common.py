"""What the tools, resources and prompts of `everything.py` share: short names, content, capabilities, log levels.

Rules: nothing here knows a scenario of the conformance suite. Log levels are kept for each legacy session, for the
newest thousand of them.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Context: TypeAlias = ServerRequestContext[Any, Any]
Params: TypeAlias = types.CallToolRequestParams
Outcome: TypeAlias = types.CallToolResult | types.InputRequiredResult
Run: TypeAlias = Callable[[Context, Params], Awaitable[Outcome]]
Schema: TypeAlias = dict[str, Any]

LEVELS: tuple[types.LoggingLevel, ...] = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
SESSIONS_MAX = 1000


class ToolFailed(Exception):
    """The tool ran and failed: the caller gets the text as a result marked as an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One tool: what `tools/list` shows and what `tools/call` runs."""

    tool: types.Tool
    run: Run


def pixel() -> str:
    """A PNG of one red pixel, as base64 (PNG 1.2, sections 4.1 and 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00")) + chunk(b"IEND", b"")
    return base64.b64encode(image).decode("ascii")


def silence() -> str:
    """A WAV file of eight silent samples, 8 kHz, 8 bits, mono, as base64."""
    samples = b"\x80" * 8
    shape = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(shape)) + shape + b"data" + struct.pack("<I", len(samples)) + samples
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode("ascii")


PIXEL = pixel()
SILENCE = silence()


def is_modern(context: Context) -> bool:
    """Whether the request came in the era without a handshake (2026-07-28)."""
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def said(*texts: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text) for text in texts])


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def missing(**capabilities: Any) -> MCPError:
    """The error of a request that needs a capability its caller did not declare (-32021)."""
    return MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"this tool needs a client with: {', '.join(sorted(capabilities))}",
        {"requiredCapabilities": capabilities},
    )


def declared(context: Context) -> types.ClientCapabilities:
    return context.session.client_capabilities or types.ClientCapabilities()


class Levels:
    """The lowest level each legacy session wants to hear (logging/setLevel); every level until it says so."""

    def __init__(self) -> None:
        self._chosen: OrderedDict[str, types.LoggingLevel] = OrderedDict()

    def choose(self, context: Context, level: types.LoggingLevel) -> None:
        self._chosen[session_of(context)] = level
        while len(self._chosen) > SESSIONS_MAX:
            self._chosen.popitem(last=False)

    def let_through(self, context: Context, level: types.LoggingLevel) -> bool:
        # A modern request names its own level and the SDK filters by it, so only sessions are looked up here.
        return is_modern(context) or LEVELS.index(level) >= LEVELS.index(self._chosen.get(session_of(context), "debug"))


def session_of(context: Context) -> str:
    """The name of the legacy session; over stdio there is one, without a name."""
    return str(context.request.headers.get("mcp-session-id", "")) if context.request is not None else ""

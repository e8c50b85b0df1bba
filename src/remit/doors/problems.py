"""Errors in the forms of the protocols: JSON-RPC, gRPC, and HTTP problem details (RFC 9457; written in ``wire.py``, for both ends).

Rules: what leaves is the sentence, the code and the hint of a ``RemitError``; of anything else only that it happened. No
stack trace, no path of this machine, nothing of what a token or an upstream said.
"""

from __future__ import annotations

from typing import Any

from remit.errors import Broken, Mistake, Outage, RemitError, Unauthenticated
from remit.wire import http_status, problem, problem_headers

__all__ = ["grpc_status", "http_status", "problem", "problem_headers", "rpc_error", "rpc_status", "tool_error"]
Json = dict[str, Any]
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32020, -32021, -32022  # MCP 2026-07-28
LEGACY_DENIED = -32001  # AuthZEN COAZ-MCP; before 2026-07-28
MODERN_DENIED = 403  # own codes lie outside -32768…-32000 (MCP 2026-07-28)
RESOURCE_NOT_FOUND = -32002

GRPC_INVALID_ARGUMENT, GRPC_PERMISSION_DENIED, GRPC_RESOURCE_EXHAUSTED, GRPC_INTERNAL, GRPC_UNAVAILABLE = 3, 7, 8, 13, 14

_RPC_STATUS = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}


def rpc_error(request_id: object, code: int, message: str, data: object = None) -> Json:
    """A JSON-RPC error response."""
    error: Json = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def rpc_status(response: Json) -> int:
    """The HTTP status of a JSON-RPC response on Streamable HTTP."""
    error = response.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return _RPC_STATUS.get(code, 200) if isinstance(code, int) else 200


def tool_error(request_id: object, text: str, decision: Json | None = None) -> Json:
    """A tool result that says no in words a model can read. ``decision`` travels in ``_meta`` for programs."""
    result: Json = {"content": [{"type": "text", "text": text}], "isError": True}
    if decision is not None:
        result["_meta"] = {"dev.remit/decision": decision}
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def grpc_status(error: RemitError) -> tuple[int, str]:
    """A status code and a sentence (SPIFFE Workload API §4.4: refusals are PermissionDenied, and never say why)."""
    if isinstance(error, Mistake):
        return GRPC_INVALID_ARGUMENT, error.message
    if isinstance(error, Outage):
        return GRPC_RESOURCE_EXHAUSTED if error.code == "overload" else GRPC_UNAVAILABLE, error.message
    if isinstance(error, Broken):
        return GRPC_INTERNAL, "remit has a fault; its log says more"
    return GRPC_PERMISSION_DENIED, "no identity issued" if isinstance(error, Unauthenticated) else error.message

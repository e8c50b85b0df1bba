"""Errors in the forms of the protocols: HTTP problem details (RFC 9457) and JSON-RPC. Made here and nowhere else.

Rules: what leaves is the sentence, the code and the hint of a ``RemitError``; of anything else only that it happened. No
stack trace, no path of this machine, nothing of what a token or an upstream said.
"""

from __future__ import annotations

from typing import Any

from remit.errors import Conflict, Mistake, NotFound, Outage, Refusal, RemitError, Unauthenticated

Json = dict[str, Any]
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32020, -32021, -32022  # MCP 2026-07-28
LEGACY_DENIED = -32001  # AuthZEN COAZ-MCP; before 2026-07-28
MODERN_DENIED = 403  # own codes lie outside -32768…-32000 (MCP 2026-07-28)
RESOURCE_NOT_FOUND = -32002

_STATUS: tuple[tuple[type[RemitError], int], ...] = (
    (Unauthenticated, 401),
    (NotFound, 404),
    (Refusal, 403),
    (Conflict, 409),
    (Mistake, 400),
    (Outage, 503),
)
_RPC_STATUS = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
_STATUS_OF_CODE = {"too_large": 413, "content_type": 415, "too_slow": 408}


def http_status(error: RemitError) -> int:
    """The status an error is answered with."""
    if isinstance(error, Mistake) and error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: RemitError) -> Json:
    """An ``application/problem+json`` body (RFC 9457 §3)."""
    status = http_status(error)
    if status == 500:
        return {"type": "about:blank", "title": "remit has a fault; its log says more", "status": status, "code": "broken"}
    body: Json = {"type": "about:blank", "title": error.message, "status": status, "code": error.code}
    if error.hint:
        body["detail"] = error.hint
    return body


def problem_headers(error: RemitError) -> list[tuple[bytes, bytes]]:
    """Headers that go with it."""
    headers = [(b"content-type", b"application/problem+json")]
    if isinstance(error, Outage):
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


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

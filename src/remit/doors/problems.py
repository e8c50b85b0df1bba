"""Errors in the forms of the protocols: JSON-RPC, gRPC, OAuth (RFC 6749 §5.2), and HTTP problem details (RFC 9457; written in ``wire.py``,
for both ends).

Rules: what leaves is the sentence, the code and the hint of a ``RemitError``; of anything else only that it happened. No
stack trace, no path of this machine, nothing of what a token or an upstream said.
"""

from __future__ import annotations

from typing import Any

from remit.errors import Broken, Mistake, Outage, Refusal, RemitError, Unauthenticated
from remit.logic.delegation import MISSION_CODES
from remit.wire import http_status, problem, problem_headers

__all__ = [
    "grpc_status",
    "http_status",
    "oauth_error",
    "problem",
    "problem_headers",
    "rpc_error",
    "rpc_problem",
    "rpc_status",
    "tool_error",
]
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


_OAUTH = {
    "invalid_request": 400,
    "invalid_client": 401,
    "invalid_grant": 400,
    "invalid_scope": 400,
    "invalid_target": 400,
    "invalid_authorization_details": 400,
    "invalid_dpop_proof": 400,
    "use_dpop_nonce": 400,
    "unauthorized_client": 400,
    "unsupported_grant_type": 400,
    "access_denied": 400,
    "unsupported_response_type": 400,
    "request_not_supported": 400,
    "request_uri_not_supported": 400,
}
_OAUTH_OF_MISSION = {
    "parent_not_active": "invalid_grant",
    "parent_mismatch": "invalid_grant",
    "delegation_not_permitted": "invalid_request",
    "child_actor_not_allowed": "invalid_request",
    "not_strict_subset": "invalid_request",
    "fanout_exceeded": "invalid_request",
    "policy_denied": "access_denied",
}
"""What the mission drafts lay their reasons of a refused child upon (child delegation, denial reasons)."""
_OAUTH_OF_HTTP = {"too_large": 413, "too_slow": 408}
_OAUTH_OF_OUTAGE = {"too_many": 429}  # RFC 9126 §2.3
_UNPROVED = "the proof of identity does not hold"  # whatever was wrong with it


def oauth_error(error: RemitError) -> tuple[int, Json, dict[str, str]]:
    """Status, body and headers of a refusal of the token service. Of a proof that does not hold it says nothing more."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Outage):
        headers["Retry-After"] = str(error.retry_after_seconds)
        return _OAUTH_OF_OUTAGE.get(error.code, 503), {"error": "temporarily_unavailable", "error_description": "try again"}, headers
    if isinstance(error, Unauthenticated) and error.code not in {"use_dpop_nonce", "invalid_dpop_proof"}:
        return 401, {"error": "invalid_client", "error_description": _UNPROVED}, headers
    if not isinstance(error, Refusal | Mistake):
        return 500, {"error": "server_error", "error_description": "remit has a fault; its log says more"}, headers
    reason = MISSION_CODES.get(error.code, "") if isinstance(error, Refusal) else ""
    if reason:
        code = _OAUTH_OF_MISSION[reason]
        told = {"error_description": _printable(f"{error.code}: {error.message}"), "mission_denial_reason": reason}
        return _OAUTH[code], {"error": code, **told}, headers
    code = error.code if error.code in _OAUTH else "unauthorized_client" if isinstance(error, Refusal) else "invalid_request"
    said = error.message + (f" ({error.hint})" if error.hint else "")
    return _OAUTH_OF_HTTP.get(error.code, _OAUTH[code]), {"error": code, "error_description": _printable(said)}, headers


def _printable(said: str) -> str:
    """What may stand in an ``error_description`` (RFC 6749 §5.2)."""
    return "".join(sign if " " <= sign <= "~" and sign not in '"\\' else "'" for sign in said)


def rpc_error(request_id: object, code: int, message: str, data: object = None) -> Json:
    """A JSON-RPC error response."""
    error: Json = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def rpc_problem(request_id: object, error: RemitError) -> Json:
    """A request that fails when its answer is a stream already: the status has been sent, so that the error is its last message."""
    told = problem(error)
    return rpc_error(request_id, INTERNAL, told["title"], told)


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

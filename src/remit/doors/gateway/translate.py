"""Between the eras of MCP, where the agent's is not the server's. Pure.

Left out: what one era asks of the agent in the middle of a call. A stateless agent before a legacy server (and the
other way round) can list, call, read and get; a server's question in between is answered with "not supported".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.drivers.conversation import MODERN_VERSION

if TYPE_CHECKING:
    from remit.drivers.base import Message, Upstream

_META = "io.modelcontextprotocol/"
_CACHED = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"})
_TTL_MS = 1_000


def legacy_request(message: Message) -> Message:
    """A stateless request as a legacy server takes it: without the members of ``_meta`` that only that era knows."""
    params: dict[str, Any] = dict(message.get("params", {}))
    meta = {key: value for key, value in params.pop("_meta", {}).items() if not key.startswith(_META)}
    if meta:
        params["_meta"] = meta
    return {**message, "params": params}


def modern_result(method: str, answer: Message) -> Message:
    """A legacy server's answer as a stateless agent expects it."""
    result = answer.get("result")
    if not isinstance(result, dict):
        return answer
    completed = {"resultType": "complete", **result}
    if method in _CACHED:
        completed = {"ttlMs": _TTL_MS, "cacheScope": "private", **completed}
    return {**answer, "result": completed}


def modern_opening(upstream: Upstream) -> Message:
    """The result of ``server/discover``, the server's own or made from its ``initialize``."""
    if upstream.era == "modern":
        return upstream.opening
    opening = upstream.opening
    result = {
        "resultType": "complete",
        "supportedVersions": [MODERN_VERSION],
        "capabilities": {name: value for name, value in opening.get("capabilities", {}).items() if name != "logging"},
        "ttlMs": _TTL_MS,
        "cacheScope": "private",
        "_meta": {f"{_META}serverInfo": opening.get("serverInfo", {})},
    }
    if "instructions" in opening:
        result["instructions"] = opening["instructions"]
    return result

"""Between the eras of MCP, where the agent's is not the server's. Pure: messages in, messages out.

Rules: what one era only knows by another name is renamed; what it does not know is left out; nothing is made up. The
decision was made on the agent's message, and arguments pass through unchanged.
Left out: keeping anything (``sessions.py``, ``rounds.py``), and the tasks of MCP itself, which this gateway does not pass on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.doors.problems import INVALID_PARAMS, RESOURCE_NOT_FOUND
from remit.drivers.conversation import MODERN_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.drivers.base import Message, Upstream

META = "io.modelcontextprotocol/"
LEGACY_VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
_CACHED = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"})
_TTL_MS = 1_000
_QUESTIONS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_ROUND = frozenset({"inputResponses", "requestState"})
_TASKS = f"{META}tasks"


def known_capabilities(capabilities: object) -> Message:
    """What an agent or a server can do, without what this gateway does not pass on: the tasks of MCP."""
    if not isinstance(capabilities, dict):
        return {}
    known = {name: value for name, value in capabilities.items() if name != "tasks"}
    extensions = known.get("extensions")
    if isinstance(extensions, dict) and _TASKS in extensions:
        known["extensions"] = {name: value for name, value in extensions.items() if name != _TASKS}
    return known


def client_capabilities(message: Message) -> Message:
    """What a stateless agent declares with this request."""
    meta = message.get("params", {}).get("_meta", {})
    return known_capabilities(meta.get(f"{META}clientCapabilities"))


def can_answer(capabilities: Mapping[str, Any], question: Message) -> bool:
    """Whether an agent of these capabilities declared that it answers such a question."""
    name = _QUESTIONS.get(str(question.get("method")))
    able = capabilities.get(name) if name else None
    if not isinstance(able, dict):
        return False
    params = question.get("params")
    mode = params.get("mode", "form") if isinstance(params, dict) else "form"
    return name != "elicitation" or mode in able or (mode == "form" and not able)  # {} means form only


# ---- a stateless agent before a legacy server


def legacy_request(message: Message) -> Message:
    """A stateless request as a legacy server takes it: without the members of ``_meta`` that only that era knows."""
    params: dict[str, Any] = {key: value for key, value in message.get("params", {}).items() if key not in _ROUND}
    meta = {key: value for key, value in params.pop("_meta", {}).items() if not key.startswith(META)}
    if meta:
        params["_meta"] = meta
    return {**message, "params": params}


def modern_result(method: str, answer: Message) -> Message:
    """A legacy server's answer as a stateless agent expects it."""
    error = answer.get("error")
    if isinstance(error, dict) and error.get("code") == RESOURCE_NOT_FOUND:
        return {**answer, "error": {**error, "code": INVALID_PARAMS}}
    result = answer.get("result")
    if not isinstance(result, dict):
        return answer
    completed = {**result, "resultType": "complete"}
    if method in _CACHED:
        completed = {"ttlMs": _TTL_MS, "cacheScope": "private", **completed}
    return {**answer, "result": completed}


def modern_opening(upstream: Upstream) -> Message:
    """The result of ``server/discover``, the server's own or made from its ``initialize``."""
    opening = upstream.opening
    capabilities = known_capabilities(opening.get("capabilities"))
    if upstream.era == "modern":
        return {**opening, "capabilities": capabilities, "supportedVersions": [MODERN_VERSION], "cacheScope": "private"}
    result = {
        "resultType": "complete",
        "supportedVersions": [MODERN_VERSION],
        "capabilities": capabilities,
        "ttlMs": _TTL_MS,
        "cacheScope": "private",
        "_meta": {f"{META}serverInfo": opening.get("serverInfo", {})},
    }
    if "instructions" in opening:
        result["instructions"] = opening["instructions"]
    return result


def passes_log(message: Message, said: Message) -> bool:
    """Whether a stateless request asked for log messages of this weight (MCP 2026-07-28: none unless it names a level)."""
    meta = message.get("params", {}).get("_meta", {})
    least, params = meta.get(f"{META}logLevel"), said.get("params")
    level = params.get("level") if isinstance(params, dict) else None
    return least in LOG_LEVELS and level in LOG_LEVELS and LOG_LEVELS.index(level) >= LOG_LEVELS.index(least)


def input_required(questions: Mapping[str, Message], state: str) -> Message:
    """A legacy server's questions as the result that a stateless agent answers by asking again."""
    requests = {}
    for key, question in questions.items():
        requests[key] = {"method": question["method"]}
        if "params" in question:
            params = question["params"]
            kept = {name: value for name, value in params.items() if name not in {"elicitationId", "task"}}
            requests[key]["params"] = kept
    return {"resultType": "input_required", "inputRequests": requests, "requestState": state}


# ---- a legacy agent before a stateless server


def modern_request(message: Message, *, capabilities: Message, client: Message, level: str = "") -> Message:
    """A request of a session as a stateless server takes it: with what the session agreed on once, in ``_meta``."""
    params: dict[str, Any] = dict(message.get("params", {}))
    own = {key: value for key, value in params.get("_meta", {}).items() if not key.startswith(META)}
    params["_meta"] = {
        **own,
        f"{META}protocolVersion": MODERN_VERSION,
        f"{META}clientInfo": client,
        f"{META}clientCapabilities": capabilities,
    }
    if level:
        params["_meta"][f"{META}logLevel"] = level
    return {**message, "params": params}


def legacy_result(answer: Message) -> Message:
    """A stateless server's answer as a session expects it."""
    result = answer.get("result")
    if not isinstance(result, dict):
        return answer
    return {**answer, "result": {name: value for name, value in result.items() if name not in {"resultType", "ttlMs", "cacheScope"}}}


def legacy_question(request: Message, question_id: str) -> Message:
    """One of a stateless server's ``inputRequests`` as a request on a session's stream."""
    question: Message = {"jsonrpc": "2.0", "id": question_id, "method": request["method"]}
    params = request.get("params")
    if isinstance(params, dict):
        question["params"] = {**params, "elicitationId": question_id} if params.get("mode") == "url" else params
    return question


def legacy_opening(upstream: Upstream, requested: str) -> Message:
    """The result of ``initialize``, the server's own or made from its ``server/discover``, in a version that the agent asked for.

    The older of what the agent asks and the server speaks; the transport to the agent is ours in any case.
    """
    opening = upstream.opening
    asked = requested if requested in LEGACY_VERSIONS else LEGACY_VERSIONS[-1]
    capabilities = known_capabilities(opening.get("capabilities"))
    if upstream.era == "legacy":
        version = min(asked, max(upstream.protocol_version, LEGACY_VERSIONS[0]))
        return {**opening, "protocolVersion": version, "capabilities": capabilities}
    meta = opening.get("_meta")
    info = meta.get(f"{META}serverInfo") if isinstance(meta, dict) else None
    name = {"name": getattr(upstream, "server").name, "version": "unknown"}  # noqa: B009 - every driver names its server
    if capabilities:
        capabilities = {**capabilities, "logging": {}}  # a level of the session travels with each request
    result = {
        "protocolVersion": asked,
        "capabilities": {key: value for key, value in capabilities.items() if key != "extensions"},
        "serverInfo": info if isinstance(info, dict) and "name" in info else name,
    }
    if "instructions" in opening:
        result["instructions"] = opening["instructions"]
    return result

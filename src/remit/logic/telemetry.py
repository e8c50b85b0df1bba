"""What a trace says of a call: names of OpenTelemetry's conventions for MCP and for tools, and the trace context of W3C. Pure.

Rules: the conventions (GenAI and MCP, status *Development*) are unstable, so their names stand here and nowhere else; decisions are told
under ``remit.``, for which there is no agreed name. No argument, no result, no secret, and no word that an agent chose: what is not
declared, listed or configured counts as ``_OTHER``. A trace context is a stranger's: it correlates, it identifies nobody, and decides
nothing. Left out: ``baggage``, which can carry anybody's data and is not given on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.model.decision import Allow, Ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.call import Call
    from remit.model.decision import Decision

    Attributes = dict[str, str | int | bool | list[str]]

OTHER = "_OTHER"
TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
AGENT, TASK, SERVER = "gen_ai.agent.id", "remit.task.id", "remit.server"
METHOD, TOOL, OPERATION, PROTOCOL = "mcp.method.name", "gen_ai.tool.name", "gen_ai.operation.name", "mcp.protocol.version"
TRANSPORT, ERROR_TYPE, DECIDED = "network.transport", "error.type", "remit.decision"
EXECUTE = "execute_tool"
DECIDE, RECORD, LEASE, OBSERVE = "remit.decide", "remit.record", "remit.lease", "remit.observe"
DENIED, TOOL_ERROR, CANCELLED = "denied", "tool_error", "cancelled"
_METHODS = frozenset(
    {
        *("initialize", "server/discover", "ping", "logging/setLevel", "completion/complete", "subscriptions/listen"),
        *("tools/list", "tools/call", "resources/list", "resources/templates/list", "resources/read", "resources/subscribe"),
        *("resources/unsubscribe", "prompts/list", "prompts/get", "notifications/initialized", "notifications/cancelled"),
        *("notifications/progress", "notifications/roots/list_changed"),
    }
)
_VERSIONS = frozenset({"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"})
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)
_STATE = re.compile(r"[\x20-\x7e]{1,512}")
_MEMBERS_MAX, _POLICIES_MAX = 32, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """Where a trace goes on: ``traceparent`` and ``tracestate`` ("" : none) as W3C Trace Context writes them."""

    parent: str
    state: str = ""


def trace_context(carrier: Mapping[str, Any]) -> TraceContext | None:
    """The trace context among some members, if it is a valid one; an invalid state is dropped (W3C Trace Context §3.2, §3.3)."""
    parent, state = carrier.get(TRACEPARENT), carrier.get(TRACESTATE, "")
    found = _PARENT.fullmatch(parent) if isinstance(parent, str) and len(parent) <= 256 else None
    if found is None or not isinstance(parent, str) or (found[1] == "00" and found[2]):
        return None
    is_state = isinstance(state, str) and _STATE.fullmatch(state) is not None and state.count(",") < _MEMBERS_MAX
    return TraceContext(parent=parent, state=state if is_state else "")


def incoming(message: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[TraceContext | None, TraceContext | None]:
    """Where a request's trace goes on, and what else it is linked to: the message's own context comes before the transport's."""
    own, carried = trace_context(_meta(message)), trace_context(headers)
    return (own, carried) if own is not None else (carried, None)


def outgoing(message: dict[str, Any], own: TraceContext | None) -> dict[str, Any]:
    """A message as it goes on to a server: with our context in place of the agent's, where there is one; never with baggage."""
    meta = _meta(message)
    if own is None and BAGGAGE not in meta:
        return message
    kept = {key: value for key, value in meta.items() if key != BAGGAGE}
    if own is not None:
        kept = {key: value for key, value in kept.items() if key != TRACESTATE} | {TRACEPARENT: own.parent}
        kept |= {TRACESTATE: own.state} if own.state else {}
    return {**message, "params": {**message.get("params", {}), "_meta": kept}}


def request_attributes(message: Mapping[str, Any], agent: str, task: str, server: str) -> Attributes:
    """Of a request at the gateway. The server may be one that nobody configured; its name is told once it is known to be one."""
    found: Attributes = {METHOD: method_name(message), AGENT: agent, TASK: task, TRANSPORT: "tcp"}
    version = _meta(message).get("io.modelcontextprotocol/protocolVersion")
    if version in _VERSIONS:
        found[PROTOCOL] = str(version)
    if found[METHOD] == "tools/call":
        found[OPERATION] = EXECUTE
    return found if not server else {**found, SERVER: server}


def egress_attributes(agent: str, task: str, api: str) -> Attributes:
    """Of a request at the egress, to an API that is configured."""
    return {AGENT: agent, TASK: task, SERVER: api, OPERATION: EXECUTE, TRANSPORT: "tcp"}


def forward_attributes(message: Mapping[str, Any], tool: str, server: str, transport: str) -> Attributes:
    """Of a request that goes on to a server."""
    found: Attributes = {METHOD: method_name(message), SERVER: server, TRANSPORT: transport}
    return {**found, OPERATION: EXECUTE, TOOL: tool} if tool else found


def decision_attributes(call: Call, decision: Decision, decision_id: str, *, known: bool) -> Attributes:
    """Of a decision. ``known``: what is called is declared, or its server lists it."""
    found: Attributes = {
        f"{DECIDED}.outcome": outcome(decision),
        f"{DECIDED}.id": decision_id,
        f"{DECIDED}.reasons": [] if isinstance(decision, Allow) else [reason.code.value for reason in decision.reasons],
        f"{DECIDED}.policies": list(decision.policies)[:_POLICIES_MAX],
    }
    if call.kind.value == "tool":
        found |= {TOOL: call.name if known else OTHER}
    return found


def outcome(decision: Decision) -> str:
    """The word for a decision."""
    return "allow" if isinstance(decision, Allow) else "ask" if isinstance(decision, Ask) else "deny"


def method_name(message: Mapping[str, Any]) -> str:
    """A message's method, of the closed set."""
    method = message.get("method")
    return method if isinstance(method, str) and method in _METHODS else OTHER


def span_name(method: str, tool: str = "") -> str:
    """``tools/call send_money``, ``tools/list``."""
    return f"{method} {tool}" if tool else method


def _meta(message: Mapping[str, Any]) -> Mapping[str, Any]:
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}

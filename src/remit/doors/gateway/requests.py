"""What a request of an agent is: the call that it makes, and what of it is passed on. Pure.

Rules: what goes to a server was decided on. So a request is passed on with what its method knows and without the rest, and what is typed
for a completion is part of the call. What every request may carry passes: the rounds of MCP 2026-07-28, and of ``_meta`` what MCP itself
says there and the trace context, each within bounds. Whatever else stands in ``_meta`` nobody decided on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from remit.doors.gateway.translate import LOG_LEVELS, META, known_capabilities
from remit.errors import Mistake
from remit.logic.arguments import make_call, prompt_call, resource_call
from remit.model.catalog import Kind

if TYPE_CHECKING:
    from remit.drivers.base import Message
    from remit.model.call import Call

NAME_CHARACTERS_MAX = 4_096
LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
SET_LEVEL = "logging/setLevel"
_KNOWN = {  # what the params of each method hold, beside what those of any may; nothing else is passed on, for nobody decides on it
    "tools/call": frozenset({"name", "arguments"}),
    "prompts/get": frozenset({"name", "arguments"}),
    "completion/complete": frozenset({"ref", "argument", "context"}),
    SET_LEVEL: frozenset({"level"}),
    **dict.fromkeys(LISTS, frozenset({"cursor"})),
    **dict.fromkeys(("resources/read", "resources/subscribe", "resources/unsubscribe"), frozenset({"uri"})),
}
_REFERENCES = {"ref/prompt": "name", "ref/resource": "uri"}
_OF_ANY = frozenset({"_meta", "inputResponses", "requestState"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_TRACESTATE = re.compile(r"[\x20-\x7e\t]{1,512}\Z")
_CLIENT_CHARACTERS_MAX = 200
_TOKEN_CHARACTERS_MAX = 1_024


def plain_request(message: Message) -> Message:
    """A request that holds what its method knows."""
    message = _with_plain_meta(message)
    known, params = _KNOWN.get(message["method"]), message.get("params", {})
    if known is None:
        return message
    if message["method"] == "completion/complete":
        params = {**params, **_completion(params)}
    elif params.keys() <= known | _OF_ANY:
        return message
    return {**message, "params": {name: member for name, member in params.items() if name in known or name in _OF_ANY}}


def _with_plain_meta(message: Message) -> Message:
    params = message.get("params", {})
    if "_meta" not in params:
        return message
    stated = params["_meta"]
    meta = {name: member for name, member in stated.items() if _is_known(name, member)} if isinstance(stated, dict) else {}
    if f"{META}clientInfo" in meta:
        meta[f"{META}clientInfo"] = plain_client(meta[f"{META}clientInfo"])
    if f"{META}clientCapabilities" in meta:
        meta[f"{META}clientCapabilities"] = known_capabilities(meta[f"{META}clientCapabilities"])
    if meta == stated:
        return message
    rest = {name: member for name, member in params.items() if name != "_meta"}
    return {**message, "params": {**rest, "_meta": meta} if meta else rest}


def plain_client(client: Message) -> Message:
    """Who a client says that it is, in a few short words."""
    return {name: client[name][:_CLIENT_CHARACTERS_MAX] for name in ("name", "title", "version") if isinstance(client.get(name), str)}


def _is_known(name: str, member: object) -> bool:
    """Whether a member of ``_meta`` is one of MCP's own or of a trace. Who sends a progress token gets one of ours in its place."""
    match name.removeprefix(META) if name.startswith(META) else f"/{name}":
        case "/progressToken":
            return (isinstance(member, int) and not isinstance(member, bool)) or _is_text(member, _TOKEN_CHARACTERS_MAX)
        case "/traceparent":
            return isinstance(member, str) and _TRACEPARENT.match(member) is not None
        case "/tracestate":
            return isinstance(member, str) and _TRACESTATE.match(member) is not None
        case "protocolVersion":
            return _is_text(member, _CLIENT_CHARACTERS_MAX)
        case "logLevel":
            return member in LOG_LEVELS
        case "clientInfo" | "clientCapabilities":
            return isinstance(member, dict)
        case _:
            return False


def _is_text(member: object, characters: int) -> bool:
    return isinstance(member, str) and len(member) <= characters


def call_of(server: str, message: Message) -> Call | None:
    """The call that a request is; ``None`` for a method that is not passed on. Raises Mistake."""
    method, params = message["method"], message.get("params", {})
    if method == "tools/call":
        arguments = params.get("arguments", {})
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise Mistake("arguments must be an object")
        return make_call(Kind.TOOL, server, _name(params, "name"), arguments)
    if method in {"resources/read", "resources/subscribe", "resources/unsubscribe"}:
        return resource_call(server, _name(params, "uri"))
    if method == "prompts/get":
        return prompt_call(server, _name(params, "name"), params.get("arguments") or {})
    if method == "completion/complete":
        return _completed(server, params)
    return None


def _completion(params: Message) -> Message:
    """What a completion names and what is typed; what was typed before into the same argument is no part of it."""
    reference, argument, context = params.get("ref"), params.get("argument"), params.get("context")
    plain: Message = {}
    if isinstance(reference, dict) and str(reference.get("type")) in _REFERENCES:
        plain["ref"] = {name: reference[name] for name in ("type", _REFERENCES[reference["type"]]) if name in reference}
    if isinstance(argument, dict):
        plain["argument"] = {name: argument[name] for name in ("name", "value") if name in argument}
        before = context.get("arguments") if isinstance(context, dict) else None
        if isinstance(before, dict):
            plain["context"] = {"arguments": {name: value for name, value in before.items() if name != argument.get("name")}}
    return plain


def _completed(server: str, params: Message) -> Call:
    """The call that a completion is: what is typed goes to the server, so it is decided on. Raises Mistake."""
    reference, argument, context = params.get("ref"), params.get("argument"), params.get("context") or {}
    if not isinstance(reference, dict) or str(reference.get("type")) not in _REFERENCES:
        raise Mistake(f"ref must be an object whose type is one of: {', '.join(_REFERENCES)}")
    before = context.get("arguments", {}) if isinstance(context, dict) else None
    if not isinstance(argument, dict) or not isinstance(before, dict):
        raise Mistake("argument must be an object, and so must context.arguments")
    typed = [*before.items(), (argument.get("name"), argument.get("value"))]
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in typed):
        raise Mistake("an argument has a name and a value, both strings")
    if reference["type"] == "ref/prompt":
        return prompt_call(server, _name(reference, "name"), dict(typed))
    return resource_call(server, _name(reference, "uri"), dict(typed))


def _name(params: Message, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX:
        raise Mistake(f"{key} must be a string of at most {NAME_CHARACTERS_MAX} characters")
    return value

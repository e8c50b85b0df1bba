"""Tools of `everything.py` that ask for input by their answer (multi round trip requests, 2026-07-28).

Each answers with what it still needs and is called again with the responses. Rules: a tool asks only for what the
caller declared; a wrong or missing response is asked for again; what has to survive a round travels in the request
state, which the server's middleware seals and opens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mcp_types as types

from tests.servers.everything_common import Context, Outcome, Params, Schema, ToolFailed, declared, is_modern, missing, said


def form(message: str, **properties: Schema) -> types.ElicitRequest:
    schema: Schema = {"type": "object", "properties": properties, "required": list(properties)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def prompt(text: str, max_tokens: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


NAME = form("What is your name?", name={"type": "string"})
ROOTS = types.ListRootsRequest()


def ask(context: Context, requests: Mapping[str, types.InputRequest], state: str | None = None) -> types.InputRequiredResult:
    """Ask for input, but never for what the caller did not declare."""
    if not is_modern(context):
        raise ToolFailed("this tool asks by its answer: call it without a session (2026-07-28)")
    capabilities = declared(context)
    for request in requests.values():
        if isinstance(request, types.ElicitRequest) and capabilities.elicitation is None:
            raise missing(elicitation={})
        if isinstance(request, types.CreateMessageRequest) and capabilities.sampling is None:
            raise missing(sampling={})
        if isinstance(request, types.ListRootsRequest) and capabilities.roots is None:
            raise missing(roots={})
    return types.InputRequiredResult(input_requests=dict(requests), request_state=state)


def filled(params: types.InputResponseRequestParams, key: str) -> Mapping[str, Any] | None:
    """What the person filled in under `key`: None when it is missing, empty when they declined."""
    answer = (params.input_responses or {}).get(key)
    if not isinstance(answer, types.ElicitResult):
        return None
    return (answer.content or {}) if answer.action == "accept" else {}


def sampled(params: types.InputResponseRequestParams, key: str) -> str | None:
    answer = (params.input_responses or {}).get(key)
    if isinstance(answer, types.CreateMessageResult) and isinstance(answer.content, types.TextContent):
        return answer.content.text
    return None


def roots(params: types.InputResponseRequestParams, key: str) -> str | None:
    answer = (params.input_responses or {}).get(key)
    return ", ".join(str(root.uri) for root in answer.roots) if isinstance(answer, types.ListRootsResult) else None


async def needs_elicitation(context: Context, params: Params) -> Outcome:
    answer = filled(params, "user_name")
    if answer is None:
        return ask(context, {"user_name": NAME})
    return said(f"Hello, {answer.get('name', 'stranger')}!")


async def needs_sampling(context: Context, params: Params) -> Outcome:
    answer = sampled(params, "capital_question")
    if answer is None:
        return ask(context, {"capital_question": prompt("What is the capital of France?", 100)})
    return said(f"The model says: {answer}")


async def needs_roots(context: Context, params: Params) -> Outcome:
    answer = roots(params, "client_roots")
    if answer is None:
        return ask(context, {"client_roots": ROOTS})
    return said(f"Roots of the client: {answer}")


async def needs_state(context: Context, params: Params) -> Outcome:
    if params.request_state != "asked-to-confirm" or filled(params, "confirm") is None:
        return ask(context, {"confirm": form("Please confirm", ok={"type": "boolean"})}, "asked-to-confirm")
    return said("Confirmed: state-ok")


async def needs_three(context: Context, params: Params) -> Outcome:
    name, greeting, where = filled(params, "user_name"), sampled(params, "greeting"), roots(params, "client_roots")
    if params.request_state != "asked-three" or name is None or greeting is None or where is None:
        questions: dict[str, types.InputRequest] = {"user_name": NAME, "greeting": prompt("Generate a greeting", 50), "client_roots": ROOTS}
        return ask(context, questions, "asked-three")
    return said(f"{greeting} {name.get('name', 'stranger')}, your roots are {where}")


async def needs_rounds(context: Context, params: Params) -> Outcome:
    state: dict[str, Any] = json.loads(params.request_state) if params.request_state else {}
    if "name" not in state:
        answer = filled(params, "step1") if state else None
        if answer is None:
            return ask(context, {"step1": form("Step 1: What is your name?", name={"type": "string"})}, json.dumps({"round": 1}))
        state = {"round": 2, "name": str(answer.get("name", "stranger"))}
    color = filled(params, "step2")
    if color is None:
        return ask(context, {"step2": form("Step 2: What is your favorite color?", color={"type": "string"})}, json.dumps(state))
    return said(f"{state['name']} likes {color.get('color', 'no color')}")


async def needs_what_is_declared(context: Context, params: Params) -> Outcome:
    if params.input_responses:
        return said("Input received")
    capabilities, requests = declared(context), dict[str, types.InputRequest]()
    if capabilities.elicitation is not None:
        requests["user_name"] = NAME
    if capabilities.sampling is not None:
        requests["greeting"] = prompt("Generate a greeting", 50)
    if capabilities.roots is not None:
        requests["client_roots"] = ROOTS
    if not requests:
        raise missing(sampling={})
    return ask(context, requests)


async def missing_capability(context: Context, _: Params) -> Outcome:
    if declared(context).sampling is None:
        raise missing(sampling={})
    return said("The client declared sampling")


def context_of_prompt(context: Context, params: types.GetPromptRequestParams) -> str | types.InputRequiredResult:
    """What the person said the prompt should use, or the question."""
    answer = filled(params, "user_context")
    if answer is None:
        return ask(context, {"user_context": form("What context should the prompt use?", context={"type": "string"})})
    return str(answer.get("context", "none"))

"""The tools the public MCP conformance suite calls by name, for `everything.py`.

Plain content, and the legacy conversation: logging, progress, sampling and elicitation on the answer's own stream.
Names, arguments and texts are the suite's. Tools that ask by their answer are in `everything_asking.py`.

Rules: a tool asks only for what the caller declared; a tool of one era says so when it is called in the other; nothing
is remembered between calls. The tools that announce a change of a list change nothing, so that two runs against one
server see the same lists.
"""

from __future__ import annotations

import json

import anyio
import mcp_types as types
from mcp.server.subscriptions import PromptsListChanged, ServerEvent, SubscriptionBus, ToolsListChanged

from tests.servers import everything_asking as asking
from tests.servers.everything_common import (
    PIXEL,
    SILENCE,
    Context,
    Levels,
    Outcome,
    Params,
    Run,
    Schema,
    Served,
    ToolFailed,
    declared,
    embedded,
    is_modern,
    said,
)

PAUSE_SECONDS = 0.05
NO_ARGUMENTS: Schema = {"type": "object", "properties": {}}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


# --- plain content -------------------------------------------------------------------------------------------------


async def simple_text(_: Context, __: Params) -> Outcome:
    return said("This is a simple text response for testing.")


async def image_content(_: Context, __: Params) -> Outcome:
    return types.CallToolResult(content=[types.ImageContent(data=PIXEL, mime_type="image/png")])


async def audio_content(_: Context, __: Params) -> Outcome:
    return types.CallToolResult(content=[types.AudioContent(data=SILENCE, mime_type="audio/wav")])


async def embedded_resource(_: Context, __: Params) -> Outcome:
    return types.CallToolResult(content=[embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")])


async def multiple_content_types(_: Context, __: Params) -> Outcome:
    return types.CallToolResult(
        content=[
            types.TextContent(text="Multiple content types test:"),
            types.ImageContent(data=PIXEL, mime_type="image/png"),
            embedded("test://mixed-content-resource", "application/json", json.dumps({"test": "data", "value": 123})),
        ]
    )


async def error_handling(_: Context, __: Params) -> Outcome:
    raise ToolFailed("This tool intentionally returns an error for testing")


async def repeated_arguments(_: Context, params: Params) -> Outcome:
    return said(json.dumps(params.arguments or {}, sort_keys=True))


# --- during a call -------------------------------------------------------------------------------------------------


def with_logging(levels: Levels) -> Run:
    """A tool that logs on the stream of its answer, as far as the session's level lets it through."""

    async def run(context: Context, _: Params) -> Outcome:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            if levels.let_through(context, "info"):
                await context.session.send_log_message("info", text, "everything", related_request_id=context.request_id)
            await anyio.sleep(PAUSE_SECONDS)
        return said("Tool with logging executed")

    return run


async def with_progress(context: Context, _: Params) -> Outcome:
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100, f"{done} of 100")
        await anyio.sleep(PAUSE_SECONDS)
    return said("Tool with progress executed")


async def reconnection(context: Context, _: Params) -> Outcome:
    """Close the answer's stream while the call runs: the caller has to come back for the rest (SEP-1699)."""
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await anyio.sleep(2 * PAUSE_SECONDS)
    return said("Reconnection test completed")


async def sampling(context: Context, params: Params) -> Outcome:
    if is_modern(context):
        raise ToolFailed("test_sampling asks on the open stream: call it over a session (2025-11-25 or older)")
    if declared(context).sampling is None:
        raise ToolFailed("the client did not declare sampling")
    prompt = str((params.arguments or {}).get("prompt", ""))
    answer = await context.session.create_message(
        [types.SamplingMessage(role="user", content=types.TextContent(text=prompt))],
        max_tokens=100,
        related_request_id=context.request_id,
    )
    text = answer.content.text if isinstance(answer.content, types.TextContent) else "(no text)"
    return said(f"LLM response: {text}")


async def elicited(context: Context, message: str, schema: Schema) -> types.ElicitResult:
    """Ask the person on the answer's stream, as the legacy revisions do."""
    if is_modern(context):
        raise ToolFailed("this tool asks on the open stream: call it over a session (2025-11-25 or older)")
    if declared(context).elicitation is None:
        raise ToolFailed("the client did not declare elicitation")
    return await context.session.elicit_form(message, schema, related_request_id=context.request_id)


def retold(answer: types.ElicitResult) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content or {}, sort_keys=True)}"


async def elicitation(context: Context, params: Params) -> Outcome:
    schema: Schema = {
        "type": "object",
        "properties": {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        },
        "required": ["username", "email"],
    }
    return said(f"User response: {retold(await elicited(context, str((params.arguments or {}).get('message', '')), schema))}")


async def elicitation_defaults(context: Context, _: Params) -> Outcome:
    schema: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        },
        "required": [],
    }
    return said(f"Elicitation completed: {retold(await elicited(context, 'Please review the defaults', schema))}")


async def elicitation_enums(context: Context, _: Params) -> Outcome:
    plain = ["option1", "option2", "option3"]
    titled = [
        {"const": "value1", "title": "First Option"},
        {"const": "value2", "title": "Second Option"},
        {"const": "value3", "title": "Third Option"},
    ]
    schema: Schema = {
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        },
        "required": [],
    }
    return said(f"Elicitation completed: {retold(await elicited(context, 'Please choose', schema))}")


# --- the table -------------------------------------------------------------------------------------------------------

EVERY_KEYWORD: Schema = {
    "$schema": DIALECT,
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def one_string(name: str, description: str, **more: str) -> Schema:
    return {"type": "object", "properties": {name: {"type": "string", "description": description, **more}}, "required": [name]}


def served(name: str, description: str, run: Run, schema: Schema = NO_ARGUMENTS) -> Served:
    return Served(tool=types.Tool(name=name, description=description, input_schema=schema), run=run)


def toolbox(bus: SubscriptionBus, levels: Levels) -> dict[str, Served]:
    """Every tool by its name, in the order of the list; `bus` carries announcements to modern subscribers."""

    def announce(event: ServerEvent) -> Run:
        async def run(context: Context, _: Params) -> Outcome:
            await bus.publish(event)
            if not is_modern(context):
                tools = isinstance(event, ToolsListChanged)
                await (context.session.send_tool_list_changed() if tools else context.session.send_prompt_list_changed())
            return said("Announced")

        return run

    asks = "test_input_required_result_"
    table = (
        served("test_simple_text", "Answers with a text", simple_text),
        served("test_image_content", "Answers with an image", image_content),
        served("test_audio_content", "Answers with audio", audio_content),
        served("test_embedded_resource", "Answers with an embedded resource", embedded_resource),
        served("test_multiple_content_types", "Answers with text, image and resource", multiple_content_types),
        served("test_error_handling", "Always fails", error_handling),
        served("test_tool_with_logging", "Logs three messages while it runs", with_logging(levels)),
        served("test_logging_tool", "Logs while it runs", with_logging(levels)),
        served("test_tool_with_progress", "Reports progress three times", with_progress),
        served("test_reconnection", "Closes the stream during the call", reconnection),
        served("test_sampling", "Asks the client's model", sampling, one_string("prompt", "What to ask the model")),
        served("test_elicitation", "Asks the person", elicitation, one_string("message", "What to ask the person")),
        served("test_elicitation_sep1034_defaults", "Asks with a default for each type", elicitation_defaults),
        served("test_elicitation_sep1330_enums", "Asks with each kind of choice", elicitation_enums),
        served("test_streaming_elicitation", "Asks by its answer, never on the stream", asking.needs_elicitation),
        served(asks + "elicitation", "Asks for a name", asking.needs_elicitation),
        served(asks + "sampling", "Asks the client's model", asking.needs_sampling),
        served(asks + "list_roots", "Asks for the client's roots", asking.needs_roots),
        served(asks + "request_state", "Asks, and checks the state that comes back", asking.needs_state),
        served(asks + "tampered_state", "Asks, and checks the state that comes back", asking.needs_state),
        served(asks + "multiple_inputs", "Asks three things at once", asking.needs_three),
        served(asks + "multi_round", "Asks twice, one after the other", asking.needs_rounds),
        served(asks + "capabilities", "Asks only what the client declared", asking.needs_what_is_declared),
        served("test_missing_capability", "Needs a client that declared sampling", asking.missing_capability),
        served("test_trigger_tool_change", "Announces a change of the tools", announce(ToolsListChanged())),
        served("test_trigger_prompt_change", "Announces a change of the prompts", announce(PromptsListChanged())),
        served("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", repeated_arguments, EVERY_KEYWORD),
        served(
            "test_mirrored_header",
            "Takes an argument that the client repeats in a header",
            repeated_arguments,
            one_string("region", "Goes into the header Mcp-Param-Region", **{"x-mcp-header": "Region"}),
        ),
    )
    return {entry.tool.name: entry for entry in table}

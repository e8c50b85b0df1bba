"""Shared Signals in the OpenAPI document, from the structs that the doors read. Served where transmitters or receivers are configured."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.doors.api.signals import RECEIVE_PATH
from remit.doors.api.streams import (
    ADD_PATH,
    JWKS_PATH,
    METADATA_PATH,
    POLL_PATH,
    REMOVE_PATH,
    STATUS_PATH,
    STREAMS_PATH,
    VERIFY_PATH,
    PollWords,
    StatusWords,
    StreamWords,
    SubjectWords,
    VerificationWords,
)

Json = dict[str, Any]
_WORDS = (StreamWords, StatusWords, SubjectWords, VerificationWords, PollWords)
_PROBLEM: Json = {
    "description": "a refusal, as problem details (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_ERROR: Json = {
    "type": "object",
    "properties": {"err": {"type": "string"}, "description": {"type": "string"}},
    "required": ["err", "description"],
}
_STREAM_ID: Json = {"name": "stream_id", "in": "query", "schema": {"type": "string"}}


def signal_paths() -> Json:
    """The paths."""
    return {
        RECEIVE_PATH: {"post": _receive()},
        METADATA_PATH: {"get": _operation("What the transmitter serves (SSF 1.0 §7)", proved=False)},
        JWKS_PATH: {"get": _operation("Keys that verify security event tokens (RFC 7517)", proved=False)},
        STREAMS_PATH: {
            "post": _operation("Make the stream", "201", body=StreamWords),
            "get": _operation("Look at the stream; without stream_id a list of it", query=True),
            "patch": _operation("Change what is named of the stream", body=StreamWords),
            "put": _operation("Replace the stream", body=StreamWords),
            "delete": _operation("End the stream", "204", query=True),
        },
        STATUS_PATH: {
            "get": _operation("Whether the stream is enabled, paused or disabled", query=True),
            "post": _operation("Enable, pause or disable the stream", body=StatusWords),
        },
        ADD_PATH: {"post": _operation("Tell of a subject", body=SubjectWords)},
        REMOVE_PATH: {"post": _operation("Tell of a subject no more", "204", body=SubjectWords)},
        VERIFY_PATH: {"post": _operation("Have a verification event told", "204", body=VerificationWords)},
        POLL_PATH: {"post": _operation("Acknowledge tokens and get the next ones (RFC 8936)", body=PollWords)},
    }


def signal_components() -> Json:
    """The schemas that the paths speak of."""
    _, schemas = msgspec.json.schema_components(_WORDS, ref_template="#/components/schemas/{name}")
    return {**schemas, "SetError": _ERROR}


def _receive() -> Json:
    """RFC 8935."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/SetError"}}}
    return {
        "summary": "Push a security event token (RFC 8935)",
        "security": [{"transmitter_secret": []}],
        "parameters": [{"name": "transmitter", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/secevent+jwt": {"schema": {"type": "string"}}}},
        "responses": {"202": {"description": "It is in force"}, "default": {"description": "a refusal (RFC 8935 §2.3)", "content": error}},
    }


def _operation(summary: str, status: str = "200", *, body: type | None = None, query: bool = False, proved: bool = True) -> Json:
    answered: Json = {"description": summary}
    if status != "204":
        answered["content"] = {"application/json": {}}
    operation: Json = {"summary": summary, "responses": {status: answered, "default": _PROBLEM}}
    if proved:
        operation["security"] = [{"receiver_secret": []}]
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if query:
        operation["parameters"] = [_STREAM_ID]
    return operation

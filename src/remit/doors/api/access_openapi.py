"""The decision API in the OpenAPI document, from the same structs that the door reads."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.doors.api.access import METADATA_PATH, PATHS
from remit.doors.api.access_words import ActionSearch, Evaluation, ResourceSearch, SubjectSearch
from remit.model.access import Semantic

Json = dict[str, Any]
_OBJECT: Json = {"type": "object"}
_SECURITY: list[Json] = [{"caller": []}]
_SENTENCE = {"description": "what is wrong, a sentence", "content": {"text/plain": {"schema": {"type": "string"}}}}


def access_paths() -> Json:
    """The paths."""
    evaluation, evaluations, subject, resource, action = PATHS.values()
    return {
        evaluation: _post("Decide one question", "Evaluation", "Decision"),
        evaluations: _post("Decide many questions", "Evaluations", "Decisions"),
        subject: _post("Find who may", "SubjectSearch", "Found"),
        resource: _post("Find on what", "ResourceSearch", "Found"),
        action: _post("Find which actions", "ActionSearch", "Found"),
        METADATA_PATH: {"get": {"summary": "What is served, where server.issuer is https", "responses": _answers("Metadata")}},
    }


def access_components() -> Json:
    """The schemas that the paths speak of."""
    kinds = [Evaluation, SubjectSearch, ResourceSearch, ActionSearch]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    item = {"properties": dict.fromkeys(("subject", "action", "resource", "context"), _OBJECT), **_OBJECT}
    options = {"evaluations_semantic": {"enum": [semantic.value for semantic in Semantic]}}
    decision = {**_OBJECT, "properties": {"decision": {"type": "boolean"}, "context": _OBJECT}, "required": ["decision"]}
    url = {"type": "string", "format": "uri"}
    page = {"next_token": {"type": "string"}, "count": {"type": "integer"}}
    return {
        **schemas,
        "Evaluations": {
            **item,
            "properties": {
                **item["properties"],
                "evaluations": {"type": "array", "items": item},
                "options": {**_OBJECT, "properties": options},
            },
        },
        "Decision": decision,
        "Decisions": {**_OBJECT, "properties": {"evaluations": {"type": "array", "items": _reference("Decision")}}},
        "Found": {
            **_OBJECT,
            "properties": {"page": {**_OBJECT, "properties": page}, "results": {"type": "array", "items": _OBJECT}},
            "required": ["results"],
        },
        "Metadata": {**_OBJECT, "properties": {"policy_decision_point": url, **dict.fromkeys(PATHS, url)}},
    }


def _post(summary: str, body: str, answer: str) -> Json:
    return {
        "post": {
            "summary": summary,
            "security": _SECURITY,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(body)}}},
            "responses": _answers(answer),
        }
    }


def _answers(name: str) -> Json:
    shown = {"description": "an answer, also where it is no", "content": {"application/json": {"schema": _reference(name)}}}
    return {"200": shown, "default": _SENTENCE}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}

"""The OpenAPI document of the control API (OpenAPI 3.1), from the same structs that the API speaks."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.doors.api.access_openapi import access_components, access_paths
from remit.doors.api.ledger_openapi import ledger_components, ledger_paths
from remit.doors.api.signals_openapi import signal_components, signal_paths
from remit.doors.api.token_openapi import token_components, token_paths
from remit.wire import (
    AnswerQuestion,
    AuthorizeCall,
    DecisionView,
    DelegateTask,
    LeasesView,
    LeaseView,
    ObserveCall,
    OpenTask,
    Problem,
    QuestionsView,
    QuestionView,
    ReportManifest,
    TaskView,
    TokenView,
)

Json = dict[str, Any]
_PROBLEM = {
    "description": "a refusal, as problem details (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_WORDS = (
    AnswerQuestion,
    QuestionView,
    QuestionsView,
    OpenTask,
    ReportManifest,
    DelegateTask,
    TaskView,
    TokenView,
    AuthorizeCall,
    DecisionView,
    LeasesView,
    LeaseView,
    ObserveCall,
    Problem,
)


def openapi() -> Json:
    """The document. Deterministic: ``docs/openapi.json`` is this, and a test compares them."""
    _, made = msgspec.json.schema_components(_WORDS, ref_template="#/components/schemas/{name}")
    components = msgspec.json.decode(msgspec.json.encode(made))  # defaults that are tuples become what JSON has
    approver: list[Json] = [{"approver_secret": []}]
    approval = [{"name": "approval", "in": "path", "required": True, "schema": {"type": "string"}}]
    link = [{"name": "token", "in": "path", "required": True, "schema": {"type": "string"}}]
    svid: list[Json] = [{"jwt_svid": []}, {"x509_svid": []}]
    token: list[Json] = [{"task_token": []}]
    either = svid + token
    own = "the task's id, or `current`: the task whose token is presented"
    task = [{"name": "task", "in": "path", "required": True, "description": own, "schema": {"type": "string"}}]
    document = {
        "openapi": "3.1.0",
        "info": {"title": "remit", "version": "1", "description": "Runtime authorization for AI agents: the control API."},
        "paths": {
            "/v1/tasks": {"post": _operation("Open a task", "TaskView", status="201", body="OpenTask", security=svid)},
            "/v1/tasks/{task}": {"get": _operation("Look at a task", "TaskView", security=either, parameters=task)},
            "/v1/tasks/{task}/children": {
                "post": _operation("Delegate a task", "TaskView", status="201", body="DelegateTask", security=token, parameters=task)
            },
            "/v1/tasks/{task}/token": {"post": _operation("Get a new task token", "TokenView", security=svid, parameters=task)},
            "/v1/tasks/{task}/complete": {
                "post": _operation("Complete a task: nothing of it opens anything afterwards", "TaskView", security=either, parameters=task)
            },
            "/v1/tasks/{task}/manifest": {
                "post": _operation(
                    "Tell what the agent is made of now", "TaskView", body="ReportManifest", security=either, parameters=task
                )
            },
            "/v1/tasks/{task}/authorize": {
                "post": _operation("Have one call decided", "DecisionView", body="AuthorizeCall", security=token, parameters=task)
            },
            "/v1/tasks/{task}/observe": {
                "post": _operation("Tell how an allowed call ended", status="204", body="ObserveCall", security=token, parameters=task)
            },
            "/v1/leases": {
                "get": _operation("Credentials that stand for the task on targets, never a secret", "LeasesView", security=token)
            },
            "/v1/approvals": {"get": _operation("Questions that wait for you", "QuestionsView", security=approver)},
            "/v1/approvals/{approval}": {
                "get": _operation("Look at a question", "QuestionView", security=approver, parameters=approval),
                "post": _operation("Answer a question", "QuestionView", body="AnswerQuestion", security=approver, parameters=approval),
            },
            "/approve/{token}": {
                "get": _operation("The page of a link for one approver and one question", kind="text/html", parameters=link),
                "post": _operation("The approver's secret, then the answer, from that page's forms", kind="text/html", parameters=link),
            },
            **_egress(token),
            "/spiffe/bundle": {"get": _operation("The trust domain's bundle")},
            "/healthz": {"get": _operation("Whether the process runs", kind="text/plain")},
            "/readyz": {"get": _operation("Whether the store answers", kind="text/plain")},
            "/metrics": {"get": _operation("The node's numbers for Prometheus (server.metrics says for whom)", kind="text/plain")},
            "/openapi.json": {"get": _operation("This document")},
            **ledger_paths(),
            **access_paths(),
            **signal_paths(),
            **token_paths(),
        },
        "components": {
            "schemas": {**components, **ledger_components(), **access_components(), **signal_components(), **token_components()},
            "securitySchemes": {
                "jwt_svid": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT-SVID, or the token of a trusted OIDC issuer"},
                "x509_svid": {"type": "mutualTLS", "description": "an X.509-SVID of a trusted domain, and no Authorization header"},
                "caller": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "a caller's secret, a task token, a JWT-SVID or the token of a trusted OIDC issuer",
                },
                "task_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "at+jwt",
                    "description": "one bound to a key comes as `Authorization: DPoP`, with a proof in the header `DPoP` (RFC 9449)",
                },
                "ledger_reader": {"type": "http", "scheme": "bearer", "bearerFormat": "a secret of [ledger.readers]"},
                "approver_secret": {"type": "http", "scheme": "bearer"},
                "receiver_secret": {"type": "http", "scheme": "bearer"},
                "transmitter_secret": {"type": "http", "scheme": "bearer"},
            },
        },
    }
    plain: Json = msgspec.json.decode(msgspec.json.encode(document))  # defaults are tuples in the structs
    return plain


def _egress(token: list[Json]) -> Json:
    """The egress: what stands below an API's name is the API's own."""
    name: Json = {"name": "target", "in": "path", "required": True, "description": "of `[egress.NAME]`", "schema": {"type": "string"}}
    path: Json = {"name": "path", "in": "path", "required": True, "description": "the API's own", "schema": {"type": "string"}}
    listed = _operation("What the task may ask of an API, narrowed to its grant", security=token, parameters=[name])
    sent = _operation(
        "Ask the API, decided like any other call; its own answer comes back", kind="*/*", security=token, parameters=[name, path]
    )
    return {
        "/egress/{target}": {"get": listed},
        "/egress/{target}/{path}": dict.fromkeys(("get", "post", "put", "patch", "delete"), sent),
    }


def _operation(
    summary: str,
    answer: str = "",
    *,
    status: str = "200",
    body: str = "",
    kind: str = "application/json",
    security: list[Json] | None = None,
    parameters: list[Json] | None = None,
) -> Json:
    answered: Json = {"description": summary}
    if status != "204":
        answered["content"] = {kind: {"schema": _reference(answer)} if answer else {}}
    operation: Json = {"summary": summary, "responses": {status: answered, "default": _PROBLEM}}
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(body)}}}
    if security:
        operation["security"] = security
    if parameters:
        operation["parameters"] = parameters
    return operation


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}

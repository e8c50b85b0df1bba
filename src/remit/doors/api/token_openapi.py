"""The token service's part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_FORM = "application/x-www-form-urlencoded"
_ASSERTION = ("client_id", "client_assertion_type", "client_assertion")
_ASKED = ("response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "resource", "scope")
_ASKED_MORE = ("authorization_details", "dpop_jkt")
_TOKEN = (
    "grant_type",
    *_ASSERTION,
    "authorization_details",
    "scope",
    "resource",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
)


def token_paths() -> Json:
    """The endpoints."""
    return {
        "/oauth/token": {
            "post": _posted("Get a token for one task (RFC 6749, 7523, 8693, 9396, 8707, 9449)", "TokenAnswer", _TOKEN, "grant_type")
        },
        "/oauth/introspect": {
            "post": _posted("What a token is worth now (RFC 7662)", "Introspected", ("token", "token_type_hint", *_ASSERTION), "token")
        },
        "/oauth/revoke": {"post": _posted("Take a token back (RFC 7009)", "", ("token", "token_type_hint", *_ASSERTION), "token")},
        "/oauth/authorize": {
            "get": _page(
                "Send a person to sign in and consent (RFC 6749 §4.1, RFC 7636); refused where nobody can sign in",
                *_ASKED,
                *_ASKED_MORE,
                "request_uri",
            )
        },
        "/oauth/par": {"post": _pushed()},
        "/oauth/callback": {"get": _page("Where the provider sends people back to; only with [sign_in]", "code", "state", "error", "iss")},
        "/oauth/consent": {
            "get": _page("The tasks that a person may open; only with [sign_in]"),
            "post": _page("What a person chose and answered; a form of our own page, with its browser's cookie; only with [sign_in]"),
        },
        "/oauth/register": {"post": _registered()},
        "/oauth/mission/status": {
            "post": _posted("A task as a mission (where [tokens] mission is on)", "", ("mission_id", "nonce", *_ASSERTION), "mission_id")
        },
        "/oauth/mission/lifecycle": {
            "post": _posted("Suspend, complete or revoke a task as a mission", "", ("mission_id", "operation", *_ASSERTION), "mission_id")
        },
        "/oauth/status/{which}": {
            "get": _read("A signed list of what task tokens are worth (where [tokens] status_list is on)")
            | {"parameters": [{"name": "which", "in": "path", "required": True, "schema": {"type": "integer"}}]}
        },
        "/oauth/jwks": {"get": _read("Keys that verify task tokens (RFC 7517)")},
        "/.well-known/oauth-authorization-server": {"get": _read("Metadata of the token service (RFC 8414)")},
        "/.well-known/openid-configuration": {"get": _read("The same metadata, where OpenID clients look")},
        "/.well-known/oauth-protected-resource/mcp": {"get": _read("Metadata of the whole gateway (RFC 9728)")},
        "/.well-known/oauth-protected-resource/mcp/{server}": {
            "get": _read("Metadata of one server behind the gateway (RFC 9728)")
            | {"parameters": [{"name": "server", "in": "path", "required": True, "schema": {"type": "string"}}]}
        },
    }


def token_components() -> Json:
    """Schemas of the answers."""
    text, number, listed = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "object"}}
    return {
        "TokenAnswer": {
            "type": "object",
            "required": ["access_token", "issued_token_type", "token_type", "expires_in", "authorization_details"],
            "properties": {
                "access_token": text,
                "issued_token_type": text,
                "token_type": {"enum": ["Bearer", "DPoP"]},
                "expires_in": number,
                "scope": text,
                "refresh_token": text,
                "authorization_details": listed,
            },
        },
        "Introspected": {
            "type": "object",
            "required": ["active"],
            "properties": {
                "active": {"type": "boolean"},
                **dict.fromkeys(("iss", "aud", "sub", "client_id", "jti", "token_type"), text),
                "exp": number,
                **{name: {"type": "object"} for name in ("task", "act", "cnf", "mission")},
                "authorization_details": listed,
            },
        },
        "OAuthError": {
            "type": "object",
            "required": ["error", "error_description"],
            "properties": {"error": text, "error_description": text, "mission_denial_reason": text},
        },
    }


def _posted(summary: str, answer: str, names: tuple[str, ...], required: str) -> Json:
    properties = {name: {"type": "string"} for name in names}
    ok: Json = {"description": summary}
    if answer:
        ok["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
    failed = {
        "description": "a refusal (RFC 6749 §5.2)",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}},
    }
    body = {"type": "object", "properties": properties, "required": [required]}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {_FORM: {"schema": body}}},
        "responses": {"200": ok, "default": failed},
    }


def _read(summary: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {"application/json": {}}}}}


def _page(summary: str, *names: str) -> Json:
    """Something for a browser: a page, or a redirect."""
    asked = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    page = {"description": "a page", "content": {"text/html": {}}}
    return {"summary": summary, "responses": {"303": {"description": "on"}, "default": page}} | ({"parameters": asked} if asked else {})


def _pushed() -> Json:
    number, text = {"type": "integer"}, {"type": "string"}
    answer = {"type": "object", "required": ["request_uri", "expires_in"], "properties": {"request_uri": text, "expires_in": number}}
    told = _posted("Push a request before its person is sent (RFC 9126); only with [sign_in]", "", (*_ASKED, *_ASKED_MORE), "client_id")
    told["responses"]["201"] = {"description": "the request", "content": {"application/json": {"schema": answer}}}
    del told["responses"]["200"]
    return told


def _registered() -> Json:
    listed = {"type": "array", "items": {"type": "string"}}
    body = {"type": "object", "properties": {"client_name": {"type": "string"}, "redirect_uris": listed}, "required": ["redirect_uris"]}
    content: Json = {"application/json": {"schema": body}}
    refused = {"description": "a refusal", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}}}
    return {
        "summary": "Register a client that people drive (RFC 7591); only where [sign_in.clients] lets clients register themselves",
        "requestBody": {"required": True, "content": content},
        "responses": {"201": {"description": "the client", "content": {"application/json": {}}}, "default": refused},
    }

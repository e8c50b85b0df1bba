"""What the OpenAPI document says of the transparency log."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_PROBLEM = {
    "description": "a refusal, as problem details (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_WHAT_IS_TOLD = {
    "summary": "A proof: of an entry as a C2SP .tlog-proof (index alone), or as JSON under a size; or that a size continues an old one",
    "parameters": [
        {"name": name, "in": "query", "description": told, "schema": {"type": "integer", "minimum": 0}}
        for name, told in (
            ("index", "of the entry; not with `old`"),
            ("old", "the size that one has seen; not with `index`"),
            ("size", "the size to prove it in (default: the checkpoint's)"),
        )
    ],
    "responses": {
        "200": {
            "description": "the proof",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/LedgerProof"}},
            },
        },
        "default": _PROBLEM,
    },
}


def ledger_paths() -> Json:
    """The paths of the document."""
    tile = "L/N or L/N.p/W (C2SP tlog-tiles)"
    return {
        "/ledger/checkpoint": {
            "get": _file("The signed head of the ledger, with the cosignatures of its witnesses (C2SP tlog-checkpoint)", "text/plain")
        },
        "/ledger/tile/{tile}": {"get": _file("Hashes of the ledger's tree", "application/octet-stream", ("tile", tile))},
        "/ledger/tile/entries/{bundle}": {
            "get": {
                **_file("Entries of the ledger, 256 at a time", "application/octet-stream", ("bundle", "N or N.p/W (C2SP tlog-tiles)")),
                "security": [{"ledger_reader": []}],
            }
        },
        "/ledger/proof": {"get": _WHAT_IS_TOLD},
    }


def ledger_components() -> Json:
    """The schemas."""
    number: Json = {"type": "integer", "minimum": 0}
    hashes: Json = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
    return {
        "LedgerProof": {
            "type": "object",
            "properties": {"index": number, "old": number, "size": number, "hashes": hashes},
            "required": ["size", "hashes"],
        }
    }


def _file(summary: str, kind: str, part: tuple[str, str] | None = None) -> Json:
    told: Json = {
        "summary": summary,
        "responses": {"200": {"description": "it", "content": {kind: {"schema": {"type": "string"}}}}, "default": _PROBLEM},
    }
    if part:
        told["parameters"] = [{"name": part[0], "in": "path", "required": True, "description": part[1], "schema": {"type": "string"}}]
    return told

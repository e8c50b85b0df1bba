"""A server of our own domain is told of each call by a transaction token; others are not, and it opens nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from remit.cli.server import serving
from remit.logic.arguments import digest_json
from tests.e2e.gateway import http
from tests.integration.token_service import CREDENTIALS, EXCHANGE, META, TYPE, Service, token_service

TOOL = {"name": "echo", "description": "Echo.", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}


@contextlib.asynccontextmanager
async def inner(seen: list[tuple[str, str]]):
    """A stateless MCP server with one tool, that remembers methods and their Txn-Token. Small enough to be all of it."""

    async def answer(request: Any) -> JSONResponse:
        message = json.loads(await request.body())
        seen.append((message["method"], request.headers.get("txn-token", "")))
        capabilities = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
        results: dict[str, Any] = {
            "server/discover": capabilities,
            "tools/list": {"tools": [TOOL], "ttlMs": 0, "cacheScope": "private"},
            "tools/call": {"content": [{"type": "text", "text": "ok"}]},
        }
        if message["method"] not in results:
            error = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": ["2026-07-28"], "requested": ""}}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error}, 400)
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **results[message["method"]]}})

    async with serving(Starlette(routes=[Route("/mcp", answer, methods=["POST"])]), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/mcp"


async def call(service: Service, token: str, server: str, **arguments: Any) -> None:
    params = {"name": "echo", "arguments": arguments, "_meta": META}
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "echo",
        "Txn-Token": "forged",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with service.http.post(f"{service.url}/mcp/{server}", json=message, headers=headers) as answer:
        body = await answer.text()
        assert answer.status == 200, body
        assert '"isError"' not in body, body


def test_each_call_has_a_token_of_its_own(tmp_path):
    async def run() -> None:
        ours: list[tuple[str, str]] = []
        theirs: list[tuple[str, str]] = []
        async with inner(ours) as first, inner(theirs) as second:
            servers = http("ours", first) + "txn_token = true\n" + http("theirs", second)
            async with token_service(tmp_path, servers=servers) as service:
                given = await service.given()
                token, task = given["access_token"], given["authorization_details"][0]["task"]
                await call(service, token, "ours", text="one")
                await call(service, token, "ours", text="two")
                await call(service, token, "theirs", text="one")
                assert {told for _, told in theirs} == {""}
                assert {told for method, told in ours if method != "tools/call"} == {""}
                one, two = (told for method, told in ours if method == "tools/call")
                async with service.http.get(f"{service.url}/oauth/jwks") as answer:
                    keys = KeySet.import_key_set(await answer.json())
                opened = jwt.decode(one, keys, algorithms=["ES256"])
                claims, other = opened.claims, jwt.decode(two, keys, algorithms=["ES256"]).claims
                assert opened.header["typ"] == "txntoken+jwt"
                assert claims["aud"] == "remit.local"
                assert 0 < claims["exp"] - claims["iat"] <= 300
                assert (claims["scope"], claims["tctx"]["task"]) == ("tool:ours/echo", task)
                assert claims["tctx"]["parameter_digest"] == digest_json({"text": "one"})
                assert token not in json.dumps(claims)
                decided = [one.decision for one in await service.records("CallDecided")]
                assert [claims["txn"], other["txn"]] == decided[:2]
                # it authorizes nothing here
                assert not await service.opens(one, "ours")
                svid_keys = service.running.node.signer.bundle(60)["keys"]
                assert opened.header["kid"] not in {key["kid"] for key in svid_keys}
                form = {"grant_type": EXCHANGE, "subject_token": one, "subject_token_type": f"{TYPE}txn_token"}
                assert (await service.token(form | service.client()))[0] == 400
                form = {"grant_type": EXCHANGE, "subject_token": one, "subject_token_type": f"{TYPE}access_token"}
                assert (await service.token(form | service.client()))[0] == 400
                as_client = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe", "client_assertion": one}
                assert (await service.token(CREDENTIALS | as_client))[0] == 401

    asyncio.run(run())

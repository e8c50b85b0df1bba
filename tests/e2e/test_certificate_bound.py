"""Tokens that are bound to the TLS client certificate of whoever got them (RFC 8705), over real TLS, at the gateway and the control API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.common import free_port
from tests.certificates import Authority
from tests.e2e.test_identity_from_elsewhere import https
from tests.integration.token_service import SPIFFE

if TYPE_CHECKING:
    from tests.e2e.test_identity_from_elsewhere import Place

TOML = """
[tokens]
bound = "mtls"
[trust.domains."partner.test"]
bundle_file = "../bundle.json"
[agents.worker]
tasks = ["work"]
"""


async def given(here: Place, client: Any) -> tuple[int, Any]:
    """The answer of the token endpoint to the agent ``worker``, over a connection that shows ``client``'s certificate."""
    svid = await here.node.identities.issue_svid("worker", attested="test")
    form = {"grant_type": "client_credentials", "client_assertion_type": SPIFFE, "client_assertion": svid, "scope": "task:work"}
    context = ssl.create_default_context(cadata=here.web.der)
    if client is not None:
        context.load_cert_chain(*client)
    async with aiohttp.ClientSession() as http, http.post(f"https://127.0.0.1:{here.port}/oauth/token", data=form, ssl=context) as answer:
        return answer.status, await answer.json()


def test_a_token_opens_only_over_connections_that_show_its_certificate(tmp_path):
    partner, port = Authority("partner.test"), free_port()
    x5c = base64.b64encode(partner.der).decode()
    (tmp_path / "bundle.json").write_text(json.dumps({"keys": [{"use": "x509-svid", "kty": "EC", "x5c": [x5c]}], "spiffe_sequence": 1}))
    mine, thief = partner.svid("spiffe://partner.test/agent/a"), partner.svid("spiffe://partner.test/agent/b")
    shown, other = mine.write(tmp_path, "mine"), thief.write(tmp_path, "thief")

    async def check() -> None:
        async with https(tmp_path / "ours", TOML, port) as here:
            status, body = await given(here, None)
            assert (status, body["error"]) == (400, "unauthorized_client"), body
            status, body = await given(here, shown)
            assert (status, body["token_type"]) == (200, "Bearer"), body
            token = body["access_token"]
            part = token.split(".")[1]
            thumbprint = base64.urlsafe_b64encode(hashlib.sha256(mine.der).digest()).rstrip(b"=").decode()
            assert json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["cnf"] == {"x5t#S256": thumbprint}
            for path in ("/v1/tasks/current", "/v1/leases"):
                answers = [(await here.ask("GET", path, token, client=client))[0] for client in (shown, other, None)]
                assert answers == [200, 401, 401], path
            ping = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            answers = [(await here.ask("POST", "/mcp/desk", token, ping, client=client))[0] for client in (shown, other, None)]
            assert answers[0] != 401
            assert answers[1:] == [401, 401]

    asyncio.run(check())

"""A node with its token service on a real socket, and an agent with a key of its own: what the tests of tokens share."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.common import free_port
from remit.logic.records import decode
from tests.e2e.gateway import Running, gateway, stdio

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"
CREDENTIALS = {"grant_type": "client_credentials"}


def new_key() -> ECKey:
    return ECKey.generate_key("P-256")


def key_table(agent: str, key: ECKey, kid: str = "") -> str:
    """The public half, as it stands in ``remit.toml``."""
    public = key.as_dict(private=False)
    members = {name: public[name] for name in ("kty", "crv", "x", "y")} | ({"kid": kid} if kid else {})
    return f"[[agents.{agent}.keys]]\n" + "".join(f'{name} = "{value}"\n' for name, value in members.items())


def wanted(**members: Any) -> str:
    """``authorization_details`` for a task."""
    return json.dumps([{"type": "remit_task", **members}])


@dataclass
class Service:
    """``url``: the issuer."""

    running: Running
    url: str
    http: aiohttp.ClientSession
    key: ECKey
    nonces: list[str] = field(default_factory=list)

    def assertion(self, key: ECKey | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A client assertion of the agent ``tester``; a change to ``None`` leaves a claim out."""
        now = int(time.time())
        claims = {"iss": "tester", "sub": "tester", "aud": self.url, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex, **changes}
        return jwt.encode({"alg": "ES256", **(header or {})}, {n: v for n, v in claims.items() if v is not None}, key or self.key)

    def client(self, **changes: Any) -> dict[str, str]:
        """The parameters of a client that authenticates."""
        return {"client_assertion_type": JWT_BEARER, "client_assertion": self.assertion(**changes)}

    async def post(self, path: str, form: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        async with self.http.post(self.url + path, data=form, headers=headers) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, {name.lower(): value for name, value in answer.headers.items()}

    async def token(self, form: dict[str, str], **headers: str) -> tuple[int, Any]:
        status, body, _ = await self.post("/oauth/token", form, **headers)
        return status, body

    async def given(self, **form: str) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        status, body = await self.token(CREDENTIALS | {"authorization_details": wanted(task_type="all")} | self.client() | form)
        assert status == 200, body
        return body

    async def token_of(self, token: str, **form: str) -> tuple[int, Any]:
        """What introspection tells the agent of a token."""
        status, body, _ = await self.post("/oauth/introspect", {"token": token} | (form or self.client()))
        return status, body

    async def listed(self, token: str, server: str = "bank", scheme: str = "Bearer", **headers: str) -> aiohttp.ClientResponse:
        """Ask the gateway for its tools."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
        both = {"Accept": "application/json, text/event-stream", "Mcp-Method": "tools/list", **headers}
        both["MCP-Protocol-Version"] = "2026-07-28"
        if token:
            both["Authorization"] = f"{scheme} {token}"
        async with self.http.post(f"{self.url}/mcp/{server}", json=message, headers=both) as answer:
            await answer.read()
            return answer

    async def opens(self, token: str, server: str = "bank", scheme: str = "Bearer", **headers: str) -> bool:
        answer = await self.listed(token, server, scheme, **headers)
        assert answer.status in {200, 401}, answer.status
        return answer.status == 200

    async def records(self, kind: str) -> list[Any]:
        """Bodies of a kind in the ledger, oldest first."""
        entries = await self.running.node.store.entries(0, 10_000)
        return [body for body in (decode(entry.body).body for entry in entries) if type(body).__name__ == kind]


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


@contextlib.asynccontextmanager
async def token_service(
    folder: Path, more: str = "", servers: str = "", task: str = "", agent: str = "", *, types: dict[str, str] | None = None, port: int = 0
) -> AsyncIterator[Service]:
    """Serve. ``agent``: further keys of the agent ``tester``; ``more``: further tables; ``task``: the grant of the type ``all``;
    ``types``: further task types.
    """
    port, key = port or free_port(), new_key()
    head = f"{agent}\n{key_table('tester', key)}[server]\nport = {port}\n{more}\n"
    bank = servers or stdio("bank", "bank.py", "--stdio")
    async with gateway(folder, bank, more=head, port=port, task=task, types=types) as running, aiohttp.ClientSession() as http:
        yield Service(running, f"http://127.0.0.1:{port}", http, key)

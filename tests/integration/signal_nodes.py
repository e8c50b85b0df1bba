"""Nodes that are served on loopback sockets, and a transmitter made by hand: it stands for an identity
provider, since none that transmits can be had here.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.common import free_port
from remit.application import application
from remit.cli.server import serving
from remit.logic.records import decode
from remit.model.signal import CAEP
from remit.node import Node, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

SECRET = "a-secret-of-tests-only"
ENVIRONMENT = {"PUSH_SECRET": SECRET, "POLL_SECRET": "poll-" + SECRET, "SIEM_SECRET": "siem-" + SECRET}
TASK = 'objective = "Look"\ndata_ceiling = "internal"\ndeadline = "5m"\n[[grant]]\ntool = "bank/echo"\n'
CEDAR = '@id("all") permit (principal, action, resource);'
TOOL = {"name": "echo", "description": "Echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}
TOML = """
[server]
port = {port}
[agents.payer]
tasks = ["look"]
[servers.bank]
python = ["nowhere.bank"]
data_class = "internal"
trust = "trusted"
sends = "nowhere"
effect = "read"
{more}
"""


def new_key() -> RSAKey:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return RSAKey.import_key(key.private_bytes(*pem))


@dataclass
class Idp:
    """Signs what it is told to, and serves its metadata, keys and a poll endpoint."""

    port: int = field(default_factory=free_port)
    key: RSAKey = field(default_factory=new_key)
    kid: str = "k1"
    fetched: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    polls: list[dict[str, Any]] = field(default_factory=list)
    claims_issuer: str = ""
    down: bool = False

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/tenant"

    def claims(self, event: str = f"{CAEP}session-revoked", **changes: Any) -> dict[str, Any]:
        made = {
            "iss": self.issuer,
            "aud": "https://remit.example",
            "jti": secrets.token_hex(8),
            "iat": int(datetime.now(UTC).timestamp()),
            "sub_id": {"format": "email", "email": "ann@example.com"},
            "events": {event: changes.pop("said", {})},
        }
        return {name: value for name, value in {**made, **changes}.items() if value is not None}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        whole = {"alg": "RS256", "kid": self.kid, "typ": "secevent+jwt", **header}
        return jwt.encode(whole, claims, self.key)

    def app(self) -> Starlette:
        async def metadata(request: Request) -> JSONResponse:
            self.fetched.append("metadata")
            return JSONResponse(
                {"issuer": self.claims_issuer or self.issuer, "jwks_uri": f"http://127.0.0.1:{self.port}/keys"}, 503 if self.down else 200
            )

        async def keys(request: Request) -> JSONResponse:
            self.fetched.append("keys")
            public = {name: value for name, value in self.key.as_dict(private=False).items() if name != "kid"}
            return JSONResponse({"keys": [{**public, "kid": self.kid, "use": "sig"}]})

        async def poll(request: Request) -> JSONResponse:
            assert request.headers["authorization"] == f"Bearer {ENVIRONMENT['POLL_SECRET']}"
            body = await request.json()
            self.polls.append(body)
            for jti in [*body["ack"], *body["setErrs"]]:
                self.waiting.pop(jti, None)
            given = dict(list(self.waiting.items())[: min(2, body["maxEvents"])])
            return JSONResponse({"sets": given, "moreAvailable": len(self.waiting) > len(given)})

        return Starlette(
            routes=[
                Route("/.well-known/ssf-configuration/tenant", metadata),
                Route("/keys", keys),
                Route("/poll", poll, methods=["POST"]),
            ]
        )


@dataclass
class Remit:
    """A served node and a client of it."""

    node: Node
    port: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def push(self, token: str | bytes, name: str = "idp", secret: str = SECRET, kind: str = "application/secevent+jwt"):
        headers = {"authorization": f"Bearer {secret}", "content-type": kind}
        async with self.http.post(f"{self.url}/ssf/receive/{name}", data=token, headers=headers) as answer:
            return answer.status, await answer.read()

    async def error(self, token: str | bytes, **how: Any) -> str:
        status, body = await self.push(token, **how)
        assert status in {400, 401, 413}, (status, body)
        said = json.loads(body)
        assert set(said) == {"err", "description"}
        return said["err"]

    async def ask(self, method: str, path: str, body: Any = None, secret: str = ENVIRONMENT["SIEM_SECRET"]) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {secret}"}
        async with self.http.request(method, f"{self.url}{path}", json=body, headers=headers) as answer:
            data = await answer.read()
            return answer.status, json.loads(data) if data else None

    async def open(self, on_behalf_of: str = "ann@example.com") -> tuple[str, str]:
        """A task and its token."""
        task = await self.node.dispatcher.open(agent="payer", task_type="look", inputs={}, on_behalf_of=on_behalf_of, opened_by="test")
        return task.id, (await self.node.tokens.issue(task.id, "test"))[0]

    async def call(self, token: str) -> str:
        """What one call is answered at the HTTP door: an outcome, or the code of the problem."""
        body = {"tool": "bank/echo", "arguments": {"text": "x"}}
        headers = {"authorization": f"Bearer {token}"}
        async with self.http.post(f"{self.url}/v1/tasks/current/authorize", json=body, headers=headers) as answer:
            said = await answer.json(content_type=None)
            return said.get("outcome") or said["code"]

    async def records(self, kind: str) -> list[Any]:
        entries = await self.node.store.entries(0, 10_000)
        bodies = [decode(entry.body).body for entry in entries]
        return [body for body in bodies if type(body).__name__ == kind]

    async def state(self, task: str) -> str:
        return (await self.node.tasks.view(task)).state.value


def write_folder(folder: Path, more: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("tasks", "policies"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "remit.toml").write_text(TOML.format(port=free_port(), more=more))
    (folder / "tasks" / "look.toml").write_text(TASK)
    (folder / "policies" / "main.cedar").write_text(CEDAR)
    (folder / "tools.lock.json").write_text(json.dumps({"version": 1, "servers": {"bank": [TOOL]}}))
    return folder


@contextlib.asynccontextmanager
async def remit(folder: Path, *, background: bool = False) -> AsyncIterator[Remit]:
    """A node on a folder, served while the block runs; ``background``: with all that it does by itself."""
    async with open_node(folder, deciding=True) as node, aiohttp.ClientSession() as http:
        if background:
            node.start()
        async with serving(application(node), "127.0.0.1", node.configuration.settings.port) as port:
            yield Remit(node, port, http)


@contextlib.asynccontextmanager
async def idp(provider: Idp | None = None) -> AsyncIterator[Idp]:
    made = provider or Idp()
    async with serving(made.app(), "127.0.0.1", made.port):
        yield made

"""A node whose decision API is served over HTTPS on loopback, with a certificate made here; and a client that trusts it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.common import free_port
from remit.application import application
from remit.logic.records import decode
from remit.node import Node, open_node

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

OPEN = "[access]\nanyone_on_loopback_may_ask = true\n"


@dataclass
class Served:
    """One running node and its address."""

    port: int
    node: Node
    loop: asyncio.AbstractEventLoop
    trust: ssl.SSLContext

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the node's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def http(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.trust) as answer:
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()

    def ask(self, path: str, body: Any, token: str = "") -> dict[str, Any]:
        """The answer to a question that is well put."""
        status, headers, data = self.http("POST", f"/access/v1/{path}", body, token)
        assert status == 200, (status, data)
        assert headers["content-type"] == "application/json"
        return json.loads(data)

    def records(self, kind: str) -> list[Any]:
        """Bodies of a kind in the ledger, oldest first."""
        entries = self.run(self.node.store.entries(0, 10_000))
        bodies = [decode(entry.body).body for entry in entries]
        return [body for body in bodies if type(body).__name__ == kind]


def write_access(folder: Path, toml: str, **applications: dict[str, Any]) -> None:
    """A working folder. Of an application: ``policies`` (Cedar), ``entities`` (a list) and further files by name."""
    for name in ("tasks", "policies"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "remit.toml").write_text(toml)
    for name, application_files in applications.items():
        home = folder / "access" / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "main.cedar").write_text(application_files["policies"])
        (home / "entities.json").write_text(json.dumps(application_files.get("entities", [])))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve a folder while the block runs."""
    port, ready, done = free_port(), threading.Event(), threading.Event()
    toml = folder / "remit.toml"
    toml.write_text(toml.read_text().replace("PORT", str(port)))
    chain, key = _certificate(folder)
    made: list[Served] = []
    broken: list[BaseException] = []

    async def serve() -> None:
        async with open_node(folder, deciding=True) as node:
            config = uvicorn.Config(
                application(node),
                host="127.0.0.1",
                port=port,
                ssl_certfile=chain,
                ssl_keyfile=key,
                log_config=None,
                lifespan="off",
                http="httptools",
                ws="none",
            )
            server = uvicorn.Server(config)
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # a thread has no signals
            running = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            trust = ssl.create_default_context(cafile=chain)
            made.append(Served(port, node, asyncio.get_running_loop(), trust))
            ready.set()
            await asyncio.to_thread(done.wait)
            server.should_exit = True
            await running

    def thread() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            broken.append(error)
        finally:
            ready.set()

    worker = threading.Thread(target=thread)
    worker.start()
    try:
        assert ready.wait(30)
        if broken:
            raise broken[0]
        yield made[0]
    finally:
        done.set()
        worker.join(30)


def _certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "remit test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(chain), str(secret)

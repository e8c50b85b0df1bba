"""The egress's own HTTP client before real sockets: which addresses it connects to, whom it believes, and what it does once only."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from remit.cli.server import serving
from remit.cli.tls import ServerTls
from remit.drivers.egress_http import EgressClient
from remit.errors import Outage
from remit.logic.egress_sent import Incoming, Outgoing
from remit.model.egress import Egress
from tests.certificates import Authority
from tests.servers.crm import crm

pytestmark = pytest.mark.anyio
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
ROOT, OTHER = Authority(), Authority("other.test")


async def ask(client: EgressClient, egress: Egress, path: str = "/customers/7", method: str = "GET") -> Incoming:
    return await client.send(egress, Outgoing(method=method, url=egress.url + path, headers={}), {"Authorization": "Bearer x"})


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    made = EgressClient(bytes_max=100_000, seconds_max=5)
    yield made
    await made.close()


async def refused(client: EgressClient, egress: Egress) -> str:
    with pytest.raises(Outage) as caught:
        await ask(client, egress)
    assert (caught.value.code, caught.value.unsent) == ("egress_unreachable", True)
    return caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_an_address_that_the_egress_does_not_name_is_not_connected_to(client: EgressClient, host: str) -> None:
    """Whatever it is called: what counts is where the connection would go."""
    touched = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        touched.set()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for scheme, networks in (("https", ()), ("https", (ipaddress.ip_network("10.0.0.0/8"),)), ("http", ())):
            told = await refused(client, Egress(name="api", url=f"{scheme}://{host}:{port}", networks=networks))
            assert host not in told
    assert not touched.is_set()


async def test_without_tls_only_to_its_own_networks(client: EgressClient) -> None:
    async with crm() as api:
        assert (await ask(client, Egress(name="api", url=api.url, networks=LOOPBACK))).status == 200
        by_name = api.url.replace("127.0.0.1", "localhost")
        assert (await ask(client, Egress(name="api", url=by_name, networks=LOOPBACK))).status == 200
    assert "networks" in await refused(client, Egress(name="api", url="http://1.1.1.1/", networks=LOOPBACK))


async def test_whom_it_believes(client: EgressClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for authority in (ROOT, OTHER):
        (tmp_path / f"{authority.domain}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))

    async def app(_scope: object, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]  # ASGI
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]  # ASGI

    tls = ServerTls(*ROOT.svid("spiffe://remit.test/server", hosts=("localhost",)).write(tmp_path, "server"))
    async with serving(app, "127.0.0.1", 0, tls) as port:
        url, good = f"https://localhost:{port}", str(tmp_path / "remit.test.pem")
        assert (await ask(client, Egress(name="api", url=url, networks=LOOPBACK, ca_file=good))).status == 204
        for wrong in (str(tmp_path / "other.test.pem"), ""):
            assert "no TLS" in await refused(client, Egress(name="api", url=url, networks=LOOPBACK, ca_file=wrong))
        other_name = url.replace("localhost", "127.0.0.1")
        assert "no TLS" in await refused(client, Egress(name="api", url=other_name, networks=LOOPBACK, ca_file=good))
        assert "ca_file" in await refused(client, Egress(name="api", url=url, networks=LOOPBACK, ca_file=str(tmp_path / "none.pem")))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_nothing_is_sent_twice(client: EgressClient, method: str) -> None:
    """Also not by the library on a kept connection that breaks, as it would for methods that may be repeated."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                seen.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
                if b"break" in seen[-1]:
                    writer.close()
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        egress = Egress(name="api", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", networks=LOOPBACK)
        await ask(client, egress, "/first", method)
        with pytest.raises(Outage) as caught:
            await ask(client, egress, "/break", method)
        assert (caught.value.code, caught.value.unsent) == ("egress_failed", False)
        assert len(seen) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"rubbish\r\n\r\n",
        b"",
    ],
)
async def test_answers_that_are_none(client: EgressClient, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        egress = Egress(name="api", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", networks=LOOPBACK)
        with pytest.raises(Outage) as caught:
            await ask(client, egress)
    assert caught.value.code == "egress_failed"
    assert not caught.value.unsent
    assert "rubbish" not in caught.value.message


async def test_an_answer_that_never_comes(tmp_path: Path) -> None:
    hanging = EgressClient(bytes_max=100, seconds_max=0.2)
    async with crm() as api:
        with pytest.raises(Outage) as caught:
            await ask(hanging, Egress(name="api", url=api.url, networks=LOOPBACK), "/slow")
        assert (caught.value.code, caught.value.unsent) == ("egress_timeout", False)
        await asyncio.wait_for(api.gone.wait(), 30)
    await hanging.close()

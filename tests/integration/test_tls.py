"""TLS of the server, over real sockets: what the application is told of who is on the other side."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
import uvloop

from remit.cli.server import serving
from remit.cli.tls import ServerTls
from remit.errors import Mistake
from tests.certificates import Authority

ROOT = Authority()
BELOW = Authority(by=ROOT)
OTHER = Authority("other.test")
SERVER = ROOT.svid("spiffe://remit.test/server", hosts=("localhost", "127.0.0.1"))


async def seen(tmp_path, client=None, trusted=(ROOT.der,), requests=2):
    """What the application sees of a client's requests on one connection."""
    told = []

    async def app(scope, _receive, send) -> None:
        told.append(scope.get("extensions", {}).get("tls"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    tls = ServerTls(*SERVER.write(tmp_path, "server"))
    tls.trust(trusted)
    context = ssl.create_default_context(cadata=ROOT.der)
    if client is not None:
        context.load_cert_chain(*client.write(tmp_path, "client"))
    async with serving(app, "127.0.0.1", 0, tls) as port, aiohttp.ClientSession() as session:
        for _ in range(requests):
            async with session.get(f"https://localhost:{port}/", ssl=context) as response:
                assert response.status == 204
    return told


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("authority", [ROOT, BELOW])
def test_the_whole_chain_reaches_the_application_at_each_request(tmp_path, runner, authority):
    agent = authority.svid("spiffe://remit.test/agent/x")
    told = runner(seen(tmp_path, agent))
    chain = tuple(ssl.DER_cert_to_PEM_cert(one) for one in agent.ders)
    shown = [one["client_cert_chain"] for one in told]  # OpenSSL adds an authority that it knows where none is sent
    assert [one[: len(chain)] for one in shown] == [chain, chain]
    assert {one["tls_version"] for one in told} == {0x0304}


def test_who_shows_no_certificate_is_served_and_told_of_as_nobody(tmp_path):
    assert [one["client_cert_chain"] for one in asyncio.run(seen(tmp_path))] == [(), ()]


def test_a_certificate_of_nobody_we_trust_does_not_even_connect(tmp_path):
    with pytest.raises(aiohttp.ClientError):
        asyncio.run(seen(tmp_path, OTHER.svid("spiffe://other.test/agent/x")))


def test_an_authority_that_comes_later_is_trusted_by_the_running_server(tmp_path):
    told = asyncio.run(seen(tmp_path, OTHER.svid("spiffe://other.test/agent/x"), trusted=(ROOT.der, OTHER.der)))
    assert len(told[0]["client_cert_chain"]) == 1


def test_a_certificate_that_is_replaced_is_shown_from_then_on_and_a_broken_one_is_not(tmp_path):
    shown = []

    async def look(port: int) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=ssl.create_default_context(cadata=ROOT.der), server_hostname="localhost"
        )
        shown.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.close()
        await writer.wait_closed()

    async def app(_scope, _receive, _send) -> None: ...

    async def run() -> None:
        tls = ServerTls(*SERVER.write(tmp_path, "server"))
        async with serving(app, "127.0.0.1", 0, tls) as port:
            await look(port)
            fresh = ROOT.svid("spiffe://remit.test/server", hosts=("localhost",))
            fresh.write(tmp_path, "server")
            tls.load()
            await look(port)
            (tmp_path / "server.pem").write_text("half a file")
            with pytest.raises(Mistake):
                tls.load()
            await look(port)
            assert shown == [SERVER.der, fresh.der, fresh.der]

    asyncio.run(run())


def test_plain_http_tells_of_no_tls():
    told = []

    async def app(scope, _receive, send) -> None:
        told.append(scope.get("extensions", {}))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/"):
            pass

    asyncio.run(run())
    assert all("tls" not in one for one in told)
    assert len(told) == 1


def test_files_that_are_no_certificate_are_a_mistake(tmp_path):
    (tmp_path / "x.pem").write_text("nonsense")
    with pytest.raises(Mistake, match="no TLS with these files"):
        ServerTls(tmp_path / "x.pem", tmp_path / "x.pem")
    with pytest.raises(Mistake, match="No such file"):
        ServerTls(tmp_path / "absent.pem", tmp_path / "x.pem")

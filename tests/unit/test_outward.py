"""Which addresses may be asked: by text, by name, by number, however they are written."""

from __future__ import annotations

import asyncio

import pytest

from remit.cli.server import serving
from remit.drivers.outward import Outward, check_address, is_public
from remit.errors import Mistake, Outage

PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:db8::1",
    "name",
    "1.2.3",
]


def test_what_is_not_of_the_public_internet():
    assert [address for address in PRIVATE if is_public(address)] == []
    assert all(is_public(address) for address in ("1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "ftp://example.com/x",
        "https://",
        "https:///x",
        "https://user:secret@example.com/",
        "https://example.com/#fragment",
        "https://example.com/a b",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "file:///etc/passwd",
        "",
    ],
)
def test_addresses_that_are_refused_by_their_text(url):
    with pytest.raises(Mistake):
        check_address(url, private=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "127.1", "169.254.169.254", "0"]
)
def test_no_spelling_leads_into_a_private_network(host):
    """Whatever is asked, the listener on this machine never sees a connection."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def main():
        reach = Outward()
        try:
            async with serving(app, "127.0.0.1", 0) as port:
                with pytest.raises((Mistake, Outage)):
                    await reach.get(f"https://{host}:{port}/x", private=False, bytes_max=100)
        finally:
            await reach.close()

    asyncio.run(main())
    assert seen == []


def test_an_answer_is_bounded_not_followed_and_not_unpacked():
    async def app(scope, receive, send):
        headers = {
            "/large": (200, []),
            "/elsewhere": (302, [(b"location", b"/secret")]),
            "/packed": (200, [(b"content-encoding", b"gzip")]),
        }
        status, more = headers[scope["path"]]
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": b"x" * (10_000_000 if scope["path"] == "/large" else 10)})

    async def slow(scope, receive, send):
        await asyncio.sleep(30)

    async def main():
        reach, hasty = Outward(), Outward(seconds_max=0.2)
        try:
            async with serving(app, "127.0.0.1", 0) as port:
                base = f"http://127.0.0.1:{port}"
                with pytest.raises(Outage, match="more than"):
                    await reach.get(f"{base}/large", private=True, bytes_max=1_000)
                with pytest.raises(Outage, match="packed"):
                    await reach.get(f"{base}/packed", private=True, bytes_max=1_000)
                assert (await reach.get(f"{base}/elsewhere", private=True, bytes_max=1_000)).status == 302
            async with serving(slow, "127.0.0.1", 0) as port:
                with pytest.raises(Outage, match="in time"):
                    await hasty.get(f"http://127.0.0.1:{port}/", private=True, bytes_max=1_000)
        finally:
            await reach.close()
            await hasty.close()

    asyncio.run(main())

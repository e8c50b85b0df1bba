"""The front channel as people meet it: a real browser goes from a client to the provider, to the consent page, and back with a code.

Browsers say of themselves what no library of tests says: on a page without referrers a form has the origin ``null`` (Fetch §3.2), pages of
other sites are named as such, and the page's policy decides where a form may lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from bench.common import free_port
from tests.chromium import Page, browser, needs_chromium
from tests.integration.test_front_channel import SIGN_IN, Front, Place
from tests.oidc.provider import ec_key, provider

pytestmark = needs_chromium
LOOK = "form:has(input[name='input.who']) button[value=look]"


@contextlib.asynccontextmanager
async def site(*routes: web.RouteDef) -> AsyncIterator[str]:
    """A server on loopback; its address."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            await runner.cleanup()


@pytest.fixture
def place(tmp_path: Path) -> Any:
    port = free_port()
    with provider(ec_key("k1"), returns_to=f"http://127.0.0.1:{port}/oauth/callback") as idp:
        yield Place(port, idp, tmp_path)


async def to_consent(page: Page, where: Front, asked: str) -> None:
    """Sign in at the provider's own pages, whatever they are."""
    await page.open(asked)
    await page.write("input[name=login]", "ann@corp.example")
    await page.write("input[name=password]", "any")
    await page.press("button[type=submit]")
    for _ in range(2):  # the provider's own consent, where it asks for it
        await page.until("document.readyState === 'complete' && !document.querySelector('input[name=login]')")
        if str(await page.value("location.href")).startswith(where.idp.issuer):
            await page.press("button[type=submit]")
            await page.until(f"!location.href.startsWith({where.idp.issuer!r})")
    await page.sees("What should it do for you?")


def test_a_person_consents_in_a_browser_and_another_page_does_not(place: Place) -> None:
    async def work(where: Front) -> None:
        came: asyncio.Queue[dict[str, list[str]]] = asyncio.Queue()

        async def back(request: web.Request) -> web.Response:
            came.put_nowait(parse_qs(urlsplit(str(request.rel_url)).query))
            return web.Response(text="The client has it")

        sealed: list[str] = []

        async def trap(_: web.Request) -> web.Response:
            form = f'<form method="post" action="{where.service.url}/oauth/consent"><input name="answer" value="consent">'
            value = html.escape(sealed[0])
            return web.Response(text=f'{form}<input name="form" value="{value}"><button>Win</button></form>', content_type="text/html")

        async def frame(_: web.Request) -> web.Response:
            return web.Response(text=f'<p>Framed</p><iframe src="{where.service.url}/oauth/consent"></iframe>', content_type="text/html")

        routes = (web.get("/callback", back), web.get("/trap", trap), web.get("/frame", frame))
        async with site(*routes) as client, browser() as page:
            await to_consent(page, where, where.asked(redirect_uri=f"{client}/callback"))
            await page.write("input[name='input.who']", "bob")
            await page.press(LOOK)
            await page.sees("Pay bob")
            sealed.append(await page.value("document.querySelector('input[name=form]').value"))
            # a page of another origin sends the very form that was shown, with this browser's cookie (CSRF)
            await page.open(f"{client}/trap")
            await page.press("button")
            await page.sees("this form was sent by another page")
            # and one that shows the consent page in a frame sees nothing of it (clickjacking)
            await page.open(f"{client}/frame")
            await page.sees("Framed")
            frames = (await page.ask("Page.getFrameTree"))["frameTree"].get("childFrames", [])
            assert not [one for one in frames if one["frame"]["url"].startswith(where.service.url)]
            # the person's own press counts
            await page.open(f"{where.service.url}/oauth/consent")
            await page.write("input[name='input.who']", "bob")
            await page.press(LOOK)
            await page.press("button[value=consent]")
            await page.sees("The client has it")
            answer = await came.get()
            assert answer["iss"] == [where.service.url]
            status, given = await where.exchange(code=answer["code"][0], redirect_uri=f"{client}/callback")
            assert status == 200, given
            assert await where.service.opens(given["access_token"])

    place.run(work, SIGN_IN)

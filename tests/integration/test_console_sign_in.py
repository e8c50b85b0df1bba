"""Who gets into the console, and how a session ends: links, the provider, cookies, forms of other pages, other hosts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from bench.common import free_port
from remit.logic.records import decode
from remit.logic.subjects import same_person
from remit.model.console import PersonSignedIn, PersonSignedOut, Role, SignInRefused, Via, Visitor
from remit.model.signal import Clause, Consequence
from remit.node_console import console_frame
from remit.services.console_sessions import Sessions
from remit.services.console_sign_in import LINK, sign_in_link
from tests.console_node import ConsoleNode, console_node
from tests.oidc.provider import a_browser, ec_key, provider
from tests.support import Clock

pytestmark = pytest.mark.anyio


async def records(here: ConsoleNode, kind: type[Any]) -> list[Any]:
    size = await here.node.store.change_mark()
    found = [decode(entry.body).body for entry in await here.node.store.entries(0, size)]
    return [body for body in found if isinstance(body, kind)]


async def test_a_link_signs_in_once(tmp_path):
    async with console_node(tmp_path) as here:
        path = here.link().removeprefix(here.base)
        browser = here.browser()
        for _ in range(2):
            assert "local:ann" in (await browser.get(path))[1], "looking uses nothing up"
        status, text, headers = await browser.ask("POST", path, headers={"Origin": here.base})
        assert (status, headers["Location"]) == (303, "/"), text
        cookie = headers["Set-Cookie"]
        assert cookie.startswith("remit_console=")
        for part in ("HttpOnly", "Path=/", "SameSite=strict"):
            assert part in cookie
        assert "Max-Age" not in cookie
        status, text = await browser.get("/")
        assert (status, "local:ann" in text) == (200, True)
        other = here.browser()
        status, text = await other.post(path)
        assert (status, "used before" in text) == (403, True)
        assert not other.cookies
        begun = (await records(here, PersonSignedIn))[0]
        assert (begun.person, begun.via, begun.roles) == ("local:ann", "link", sorted(role.value for role in Role))
        refused = (await records(here, SignInRefused))[0]
        assert (refused.code, refused.via) == ("link_used", "link")
        secrets = [*browser.cookies.values(), path.removeprefix(LINK)]
        size = await here.node.store.change_mark()
        for entry in await here.node.store.entries(0, size):
            assert not any(secret.encode() in entry.body for secret in secrets), "the ledger holds no session and no link"


async def test_over_https_the_cookie_is_bound_to_the_host(tmp_path):
    async with console_node(tmp_path, '[server]\nissuer = "https://remit.corp.example"\n') as here:
        path = here.link().removeprefix(here.base)
        status, text, headers = await here.browser().ask("POST", path, headers={"Origin": "https://remit.corp.example"})
        assert status == 303, text
        cookie = headers["Set-Cookie"]
        assert cookie.startswith("__Host-remit=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie


async def test_links_that_open_nothing(tmp_path):
    async with console_node(tmp_path) as here:
        from remit.drivers.keys import load_or_make_keys
        from remit.drivers.sealing import Sealer

        settings, clock = here.node.configuration.settings, here.node.clock
        keys = load_or_make_keys(settings.keys)
        ours, questions = Sealer(keys.derived("console")), Sealer(keys.derived("questions"))
        good = sign_in_link(ours, settings.issuer, "local:ann", clock())
        cases = {
            "forged": LINK + "A" * 200,
            "changed": good[:-3] + ("AAA" if not good.endswith("AAA") else "BBB"),
            "sealed for another purpose": LINK + ours.seal(b'{"account":"local:ann"}', "another"),
            "sealed with another key": sign_in_link(questions, settings.issuer, "local:ann", clock()),
            "of another server": sign_in_link(ours, "http://127.0.0.1:1", "local:ann", clock()),
            "too old": sign_in_link(ours, settings.issuer, "local:ann", clock() - timedelta(seconds=61)),
            "much too long": LINK + "A" * 6_000,
            "a name of no role": sign_in_link(ours, settings.issuer, "ann", clock()),
        }
        for what, path in cases.items():
            browser = here.browser()
            for status, text in [await browser.post(path)] + ([await browser.get(path)] if what != "a name of no role" else []):
                assert status == 403, (what, status, text)
            assert not browser.cookies, what
        status, text, _ = await here.browser().ask("POST", good, headers={"Origin": here.base, "X-Forwarded-For": "127.0.0.1"})
        assert (status, "through a proxy" in text) == (403, True)
        assert len(await records(here, SignInRefused)) >= len(cases)
        assert (await here.browser().post(good))[0] == 303, "the good one was used up by none of that"


async def test_a_form_of_another_page_does_nothing(tmp_path):
    async with console_node(tmp_path) as here:
        browser, other = await here.signed_in("local:ann"), await here.signed_in("local:ben")
        token, others = await browser.token(), await other.token()
        cases: list[dict[str, Any]] = [
            {"data": {"csrf": token}, "headers": {"Origin": "https://evil.example"}},
            {"data": {"csrf": token}, "headers": {"Origin": "null"}},
            {"data": {"csrf": token}, "headers": {"Origin": here.base, "Sec-Fetch-Site": "same-site"}},
            {"data": {"csrf": token}, "headers": {"Origin": "null", "Sec-Fetch-Site": "cross-site"}},
            {"data": {"csrf": token}, "headers": {}},
            {"data": {"csrf": others}, "headers": {"Origin": here.base}},
            {"data": {"csrf": ""}, "headers": {"Origin": here.base}},
            {"data": {}, "headers": {"Origin": here.base}},
            {"data": {"csrf": "é"}, "headers": {"Origin": here.base}},
        ]
        for case in cases:
            status, text, _ = await browser.ask("POST", "/console/sign-out", **case)
            assert status == 403, (case, text)
            assert (await browser.get("/"))[0] == 200
        doubled = {"data": f"csrf={others}&csrf={token}", "headers": {"Origin": here.base}}
        assert (await browser.ask("POST", "/console/sign-out", **doubled))[0] == 400
        for path in (here.link().removeprefix(here.base), "/console/sign-in/provider"):
            assert (await here.browser().post(path, origin="https://evil.example"))[0] == 403
        hidden = {"data": {"csrf": token}, "headers": {"Origin": "null", "Sec-Fetch-Site": "same-origin"}}
        assert (await browser.ask("POST", "/console/sign-out", **hidden))[0] == 303, "as a page without referrers sends it"


async def test_bodies_and_addresses_that_are_none(tmp_path):
    async with console_node(tmp_path) as here:
        browser, task = await here.signed_in(), await here.open()
        page = f"/console/tasks/{task.id}"
        headers = {"Origin": here.base, "Content-Type": "application/x-www-form-urlencoded"}
        bodies = {
            b"x" * 70_000: 413,
            b"\xff\xfe": 400,
            b"csrf=%ff": 400,
            b"a=1&a=2": 400,
            b"&".join([b"a=1"] * 200): 400,
            b"{}": 400,
            b"": 403,
        }
        for path in (f"{page}/revoke", f"{page}/approvals/apr_1", "/console/passkeys", "/console/passkeys/x/remove", "/console/sign-out"):
            for body, status in bodies.items():
                got, told, _ = await browser.ask("POST", path, data=body, headers=headers)
                assert got == status, (path, body[:20], got)
                assert "Traceback" not in told
        for path in (
            "/console/sign-in/return?state=%ff",
            "/console/sign-in/return?code=x&code=y",
            "/console/sign-in/return",
            f"{page}?from=%00",
        ):
            got, told, _ = await browser.ask("GET", path)
            assert got in {200, 400, 403}, (path, got)
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert (await browser.ask(method, page))[0] in {404, 405}
        for cookie in ("é", "a" * 5_000, "x.y", "../../x." + "y" * 43, "=", '"'):
            assert (await here.browser(cookie).get("/"))[0] in {303, 400}, cookie
        assert (await here.node.tasks.view(task.id)).state == "active"


async def test_another_name_for_us_is_refused(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        for host in ("evil.example", "evil.example:7411", "localhost.evil.example", "[", ""):
            for path in ("/", "/console/sign-in", "/console/static/console.css"):
                status, _ = await browser.get(path, Host=host)
                assert status in {400, 403}, (host, path)
        assert (await browser.get("/", Host="127.0.0.1:1"))[0] == 200


async def test_every_page_carries_its_fences(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        for path in (
            "/",
            "/console/sign-in",
            "/console/nothing",
            "/console/live/x",
            "/console/static/console.css",
            "/console/static/../rendering.py",
        ):
            _, text, headers = await browser.ask("GET", path)
            policy = headers["content-security-policy"]
            for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
                assert part in policy, path
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            if path == "/":
                assert headers["cache-control"] == "no-store"
                for wrong in ("style=", "onclick", "<style", "http://", "https://"):
                    assert wrong not in text.replace(here.base, ""), wrong
                assert len(text) < 200_000


async def test_signing_out_ends_the_session_everywhere(tmp_path):
    async with console_node(tmp_path) as here:
        browser = await here.signed_in()
        copy = here.browser(browser.cookies["remit_console"])
        status, where = await browser.post("/console/sign-out", await browser.token())
        assert (status, where) == (303, "/console/sign-in")
        assert (await copy.get("/"))[0] == 303
        assert (await records(here, PersonSignedOut))[0].person == "local:ann"
        again = [await here.signed_in() for _ in range(2)]
        frame = console_frame(here.node)
        assert await frame.sessions.end_all("local:ann", by="local:root") == 2
        assert [(await one.get("/"))[0] for one in again] == [303, 303]
        assert await frame.sessions.end_all("local:ann", by="local:root") == 0
        assert [one.by for one in await records(here, PersonSignedOut)] == ["local:ann", "local:root"]


async def test_a_signal_about_a_person_ends_their_sessions(tmp_path):
    async with console_node(tmp_path, '[console.roles]\nviewer = ["*"]\n') as here:
        ann, too, ben = [await here.signed_in(name, via=Via.OIDC) for name in ("ann@corp.example", "Ann@Corp.example", "ben@corp.example")]
        task = await here.open(on_behalf_of="ann@corp.example")
        concern = (Clause(persons=frozenset({same_person("ann@corp.example")})),)
        back = here.node.signals.taking_back
        await back.take_back(concern, Consequence.RECORD, by="signal:idp", reason="signal s")
        assert [(await one.get("/"))[0] for one in (ann, too, ben)] == [200, 200, 200]
        await back.take_back(concern, Consequence.REVOKE, by="signal:idp", reason="signal s")
        assert [(await one.get("/"))[0] for one in (ann, too, ben)] == [303, 303, 200]
        assert (await here.node.tasks.view(task.id)).state == "revoked"
        assert [(one.person, one.by) for one in await records(here, PersonSignedOut)] == [(same_person("ann@corp.example"), "signal:idp")]


class Place:
    """Sessions of two nodes on one store, with a clock of our own."""

    def __init__(self, here: ConsoleNode) -> None:
        self.clock = Clock(now=here.node.clock())
        frame = console_frame(here.node)
        self.one, self.two = (Sessions(here.node.store, frame.sessions._sealer, self.clock, frame.rules) for _ in range(2))
        self.ann = Visitor(name="local:ann", via=Via.LINK)


async def test_a_session_ends_when_idle_and_at_last(tmp_path):
    async with console_node(tmp_path, '[console]\nidle = "20m"\nlasts = "2h"\n') as here:
        place = Place(here)
        cookie = await place.one.begin(place.ann, ["viewer"])
        for number in range(7):
            place.clock.pass_by(14 * 60)
            assert await (place.one, place.two)[number % 2].of(cookie), "kept up on whichever node"
        session = await place.two.of(cookie)
        assert session is not None
        place.clock.pass_by(10 * 60)
        assert await place.one.of(cookie, active=False)
        place.clock.pass_by(10 * 60)
        assert not await place.one.holds(session), "what a page fetches by itself keeps nobody signed in"
        assert not await place.one.of(cookie)
        assert not await place.two.of(cookie), "an ended one does not come back"
        second = await place.one.begin(place.ann, ["viewer"])
        for _ in range(12):
            place.clock.pass_by(9 * 60)
            assert await place.two.of(second)
        place.clock.pass_by(12 * 60)
        assert not await place.two.of(second), "two hours are over"


async def test_sessions_are_bounded_and_swept_and_cannot_be_made_in_the_store(tmp_path):
    async with console_node(tmp_path) as here:
        place, store = Place(here), here.node.store
        cookies = []
        for _ in range(12):
            cookies.append(await place.one.begin(place.ann, ["viewer"]))
            place.clock.pass_by(1)
        assert [bool(await place.one.of(cookie)) for cookie in cookies] == [False] * 2 + [True] * 10
        keys = await store.document_keys("console/session/", "", 100)
        assert len(keys) == 10
        text = await store.document(keys[0])
        assert text is not None
        assert not any(part in text for part in ("ann", *cookies))
        await store.drop_document(keys[1])
        await store.put_document(keys[1], text)
        assert [bool(await place.two.of(cookie)) for cookie in cookies].count(True) == 9, "what is sealed for one is none for another"
        place.clock.pass_by(13 * 3_600)
        assert await place.one.sweep() >= 8
        assert not await store.document_keys("console/", "", 100)


SIGN_IN = """
[server]
port = {port}
[sign_in]
issuer = "{issuer}"
client_id = "sign-in"
secret = "${{REMIT_SIGN_IN}}"
algorithms = ["ES256"]
networks = ["127.0.0.1/32"]
[console.roles]
viewer = ["ann@corp.example"]
approver = ["email_verified=x"]
"""


async def test_a_person_signs_in_at_the_provider(tmp_path, monkeypatch):
    import asyncio

    monkeypatch.setenv("REMIT_SIGN_IN", "the-secret-of-remit-at-the-provider")
    port = free_port()
    back = f"http://127.0.0.1:{port}/console/sign-in/return"

    def at_provider(idp: Any, where: str, person: str) -> str:
        return str(idp.signed_in(a_browser(), where, person, back)).removeprefix(f"http://127.0.0.1:{port}")

    with provider(ec_key("k1"), returns_to=back) as idp:
        async with console_node(tmp_path, SIGN_IN.format(port=port, issuer=idp.issuer), port=port) as here:
            here.base = f"http://127.0.0.1:{port}"

            async def away() -> tuple[Any, str]:
                browser = here.browser()
                status, text = await browser.post("/console/sign-in/provider")
                assert status == 200, text
                found = re.search(r'url=([^"]+)"', text)
                assert found
                return browser, found[1].replace("&amp;", "&")

            browser, where = await away()
            came = await asyncio.to_thread(at_provider, idp, where, "ann@corp.example")
            stranger = here.browser()
            assert (await stranger.get(came))[0] == 403, "begun in another browser"
            nameless = "&".join(part for part in came.split("&") if not part.startswith("iss="))
            assert nameless != came
            assert (await browser.get(nameless))[0] == 403, "RFC 9207: the provider has promised to say who it is"
            status, text, headers = await browser.ask("GET", came)
            assert status == 200, text
            assert "remit_console=" in headers.getall("Set-Cookie")[0]
            assert "ann@corp.example" in (await browser.get("/"))[1]
            assert (await here.browser().get(came))[0] == 403
            again = here.browser()
            again.cookies = {"remit_console_away": browser.cookies["remit_console_away"]}
            assert (await again.get(came))[0] == 403, "a code opens once"
            other, where = await away()
            came = await asyncio.to_thread(at_provider, idp, where, "bob@corp.example")
            status, text = await other.get(came)
            assert (status, "has no role" in text) == (403, True)
            assert "remit_console" not in other.cookies
            assert (await records(here, PersonSignedIn))[0].via == "oidc"
            assert "no_role" in {one.code for one in await records(here, SignInRefused)}

"""Items of RFC 9700 and of MCP's security page that no other test had named, at the real doors; ``tests/attacks.py`` lists them all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.integration.test_front_channel import CLIENT_BACK, PERSON, Front, Place, a_browser, came_back, idp, off, place, refresh
from tests.integration.token_service import Service, token_service

__all__ = ["idp", "place"]  # fixtures


def test_a_browser_goes_on_by_303_and_no_page_or_script_elsewhere_learns_of_it(place: Place) -> None:
    """RFC 9700 §4.2, §4.12, §4.16, §2.6."""

    async def work(where: Front) -> None:
        http, evil = where.service.http, {"Origin": "https://evil.example"}
        for address in (where.asked(), where.asked(response_type="token")):
            async with http.get(address, headers=evil, allow_redirects=False) as answer:
                assert answer.status == 303
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Cache-Control"] == "no-store"
                assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
                cookie = answer.headers.getall("Set-Cookie")[0].lower()
                assert "httponly" in cookie
                assert "samesite=lax" in cookie
        asked = {**evil, "Access-Control-Request-Method": "GET"}
        async with http.options(where.asked(), headers=asked) as answer:
            assert answer.status == 405
            assert "Access-Control-Allow-Origin" not in answer.headers
        browser = a_browser()
        await off(where.to_consent, browser)
        page = await off(browser.open, f"{where.service.url}/oauth/consent", timeout=20)
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        status, to, _ = await off(where.post, browser, {"answer": "deny"})
        assert (status, came_back(to)["error"]) == (303, "access_denied")

    place.run(work)


async def consented(where: Front) -> str:
    """A code, by consent."""
    browser = a_browser()
    await off(where.to_consent, browser)
    return str((await off(where.consent, browser, await off(where.look, browser, who="bob")))["code"])


def test_the_address_may_be_left_out_of_a_token_request_and_the_verifier_not(place: Place) -> None:
    """OAuth 2.1 leaves redirect_uri out of token requests, where RFC 6749 §4.1.3 wants it: it is compared where it comes."""

    async def work(where: Front) -> None:
        code = await consented(where)
        bare = {"grant_type": "authorization_code", "client_id": "desk", "code": code}
        for wrong in (
            {},
            {"code_verifier": "x" * 43},
            {"redirect_uri": CLIENT_BACK},
            {"redirect_uri": CLIENT_BACK + "/", "code_verifier": where.verifier},
        ):
            status, told = await where.service.token({**bare, **wrong})
            assert (status, told["error"]) == (400, "invalid_grant"), wrong
        status, given = await where.service.token({**bare, "code_verifier": where.verifier})
        assert status == 200, given

    place.run(work)


def test_a_refresh_token_is_its_client_s_and_gives_no_more(place: Place) -> None:
    """RFC 9700 §4.14.2."""

    async def work(where: Front) -> None:
        status, given = await where.exchange(code=await consented(where))
        assert status == 200, given
        for wrong in (
            {"client_id": "any"},
            {"client_id": ""},
            {"refresh_token": given["access_token"]},
            {"refresh_token": given["refresh_token"][:-4] + "AAAA"},
        ):
            status, told = await where.service.token({**refresh(given), **wrong})
            assert (status, told["error"]) == (400, "invalid_grant"), wrong
        status, next_one = await where.service.token(refresh(given))
        assert status == 200, "what was refused was no use of it"
        assert not await where.service.opens(next_one["access_token"], "other")
        assert next_one["authorization_details"] == given["authorization_details"]

    place.run(work)


def test_a_consent_to_one_client_is_none_to_the_next(place: Place) -> None:
    """The MCP page's confused deputy: the provider remembers the person, but a client that registers later is consented to by itself."""

    async def work(where: Front) -> None:
        browser, tasks = a_browser(), where.service.running.node.tasks
        await off(where.to_consent, browser)
        await off(where.consent, browser, await off(where.look, browser, who="bob"))
        before = len(await tasks.rows(limit=500))
        made = {"client_name": "Other", "redirect_uris": ["http://127.0.0.1/other"]}
        async with where.service.http.post(f"{where.service.url}/oauth/register", json=made) as answer:
            client = (await answer.json())["client_id"]
        page = await off(where.to_consent, browser, where=where.asked(client_id=client, redirect_uri="http://127.0.0.1:9/other"))
        assert PERSON in page
        assert "nobody has checked what it calls itself" in page
        assert len(await tasks.rows(limit=500)) == before, "the second client has nothing until the person has answered for it"

    place.run(work)


def with_service(folder: Path, work: Any) -> None:
    async def run() -> None:
        async with token_service(folder) as service:
            await work(service)

    asyncio.run(run())


def test_the_metadata_says_how_it_is_protected_and_lists_no_scopes(place: Place) -> None:
    async def work(where: Front) -> None:
        async with where.service.http.get(f"{where.service.url}/.well-known/oauth-authorization-server") as answer:
            told = await answer.json()
        assert told["code_challenge_methods_supported"] == ["S256"]
        assert told["authorization_response_iss_parameter_supported"] is True
        assert told["response_types_supported"] == ["code"]
        assert not {"password", "implicit"} & set(told["grant_types_supported"])
        assert not {"client_secret_basic", "client_secret_post", "client_secret_jwt"} & set(told["token_endpoint_auth_methods_supported"])
        async with where.service.http.get(f"{where.service.url}/.well-known/oauth-protected-resource/mcp/bank") as answer:
            resource = await answer.json()
        assert "scopes_supported" not in told.keys() | resource.keys()
        assert "scope=" not in (await where.service.listed("")).headers["www-authenticate"]

    place.run(work)


def test_a_token_in_an_address_opens_nothing(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        token = (await service.given())["access_token"]
        assert await service.opens(token)
        for path in ("/mcp/bank", "/v1/tasks/current"):
            async with service.http.get(service.url + path, params={"access_token": token}) as answer:
                assert answer.status == 401, path

    with_service(tmp_path, work)


def test_what_a_proxy_s_headers_say_sways_nothing(tmp_path: Path) -> None:
    """RFC 9700 §4.13: nothing is taken from a header that anybody could have sent."""

    async def work(service: Service) -> None:
        said = {
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "127.0.0.1",
            "Forwarded": "for=127.0.0.1;host=evil.example;proto=https",
            "Client-Cert": ":AAAA:",
            "X-Forwarded-Client-Cert": "URI=spiffe://remit.local/agent/tester",
            "X-Forwarded-User": "tester",
        }
        for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp/bank"):
            async with service.http.get(service.url + path) as plain, service.http.get(service.url + path, headers=said) as led:
                assert (await led.read()) == (await plain.read())
        assert (await service.listed("", **said)).status == 401
        assert "evil" not in (await service.listed("", **said)).headers["www-authenticate"]
        status, body = await service.token({"grant_type": "client_credentials", "client_id": "tester", "scope": "task:all"}, **said)
        assert (status, body["error"]) == (401, "invalid_client")

    with_service(tmp_path, work)


ECHO = {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}
ANSWERS: dict[str, dict[str, Any]] = {
    "server/discover": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "bank", "version": "1"},
    },
    "tools/list": {"tools": [ECHO]},
}


def test_the_token_of_a_task_is_not_passed_on_to_a_server(tmp_path: Path) -> None:
    """MCP: token passthrough. A server sees a call of remit's own, with nothing of the agent's headers."""
    seen: list[dict[str, str]] = []

    async def heard(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        message = await request.json()
        result = ANSWERS.get(message["method"])
        if result is None:
            return web.json_response({"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": -32601, "message": "no"}})
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result}})

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/mcp", heard)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        try:
            async with token_service(tmp_path, servers=f'[servers.bank]\nurl = "{address}"\n') as service:
                token = (await service.given())["access_token"]
                before = len(seen)
                await service.listed(token, Cookie="a=b", **{"X-Api-Key": "mine"})
                assert len(seen) > before, "the server was asked on behalf of the task"
        finally:
            await runner.cleanup()

    asyncio.run(run())
    for one in seen:
        assert not {"authorization", "cookie", "x-api-key", "dpop"} & one.keys()
        assert not [value for value in one.values() if "eyJ" in value]

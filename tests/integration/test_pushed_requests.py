"""Pushed authorization requests (RFC 9126) over a real socket, section by section, and what is tried against them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from bench.common import free_port
from remit.drivers.sealing import Sealer
from remit.errors import Outage, Refusal
from remit.logic.front_channel import PUSHED
from remit.model.front_channel import Known, PublicClient
from remit.node import new_id
from remit.services.pushed_requests import PushedRequests
from remit.services.replays import Replays
from remit.store.sqlite import SqliteStore
from tests.integration.test_dpop import KEY, proof
from tests.integration.test_front_channel import SIGN_IN, Front, Place, came_back, off
from tests.integration.token_service import new_key, wanted
from tests.oidc.provider import a_browser, ec_key, provider, visit
from tests.support import NOW

PAY = wanted(task_type="pay", inputs={"who": "bob"})
DESK = PublicClient(id="desk", name="desk", redirect_uris=("http://127.0.0.1/callback",), known=Known.DECLARED, agent="tester")


@pytest.fixture(scope="module")
def idp():
    port = free_port()
    with provider(ec_key("k1"), returns_to=f"http://127.0.0.1:{port}/oauth/callback") as running:
        yield port, running


@pytest.fixture
def place(idp, tmp_path: Path) -> Place:
    return Place(*idp, tmp_path)


def form(where: Front, **changes: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(where.asked(**changes)).query))


async def push(where: Front, headers: dict[str, str] | None = None, **changes: str) -> tuple[int, Any, dict[str, str]]:
    return await where.service.post("/oauth/par", form(where, **changes), **(headers or {}))


async def pushed(where: Front, headers: dict[str, str] | None = None, **changes: str) -> str:
    status, told, answered = await push(where, headers, **changes)
    assert (status, told["expires_in"], answered["cache-control"]) == (201, 60, "no-store"), told
    assert told["request_uri"].startswith(PUSHED)
    assert len(told["request_uri"]) > len(PUSHED) + 43
    return str(told["request_uri"])


def short(where: Front, address: str, client: str = "desk", **beside: str) -> str:
    return f"{where.service.url}/oauth/authorize?{urlencode({'client_id': client, 'request_uri': address, **beside})}"


def test_4_a_pushed_request_leads_to_a_code_once(place):
    async def work(where: Front) -> None:
        address = await pushed(where, authorization_details=PAY)
        browser = a_browser()
        page = await off(where.to_consent, browser, where=short(where, address))
        assert "Pay bob" in page
        came = await off(where.consent, browser, page)
        assert came["state"] == "s1"
        status, given = await where.exchange(code=came["code"])
        assert status == 200, given
        assert await where.service.opens(given["access_token"])
        with pytest.raises(AssertionError, match="used before"):
            await off(visit, a_browser(), short(where, address))
        address = await pushed(where)
        tried = await asyncio.gather(*(off(visit, a_browser(), short(where, address)) for _ in range(6)), return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in tried) == 1, "of several at once one is the first"

    place.run(work)


def test_4_an_address_is_its_clients_and_what_stands_beside_is_what_was_pushed(place):
    async def work(where: Front) -> None:
        address = await pushed(where)
        registered = {"redirect_uris": ["http://127.0.0.1/callback"]}
        async with where.service.http.post(f"{where.service.url}/oauth/register", json=registered) as answer:
            other = (await answer.json())["client_id"]
        for wrong, who in (
            (address, other),
            (address, "nobody"),
            (address[:-1] + "_", "desk"),
            (PUSHED, "desk"),
            (PUSHED + "é/../x", "desk"),
        ):
            with pytest.raises(AssertionError, match="cannot go on"):
                await off(visit, a_browser(), short(where, wrong, who))
        same = {name: value for name, value in form(where).items() if name != "client_id"}
        _, to, _ = await off(visit, a_browser(), short(where, address, **same))
        assert to.startswith(where.idp.issuer), "nobody else has used it up"
        for beside in ({"state": "s2"}, {"authorization_details": PAY}, {"resource": f"{where.service.url}/mcp"}, {"request": "e30.e30."}):
            _, to, _ = await off(visit, a_browser(), short(where, await pushed(where), **beside))
            assert came_back(to)["error"] == "invalid_request", beside
        evil = short(where, await pushed(where), redirect_uri="https://evil.example/back")
        _, to, _ = await off(visit, a_browser(), evil)
        assert came_back(to)["error"] == "invalid_request"

    place.run(work)


WRONG = [
    ({"client_id": "nobody"}, 401, "invalid_client"),
    ({"client_id": ""}, 401, "invalid_client"),
    ({"client_secret": "x"}, 401, "invalid_client"),
    ({"client_assertion": "x"}, 401, "invalid_client"),
    ({"redirect_uri": "https://evil.example/back"}, 400, "invalid_request"),
    ({"request_uri": PUSHED + "x"}, 400, "request_uri_not_supported"),
    ({"request": "e30.e30."}, 400, "request_not_supported"),
    ({"response_type": "token"}, 400, "unsupported_response_type"),
    ({"code_challenge_method": "plain"}, 400, "invalid_request"),
    ({"resource": "https://elsewhere.example/mcp"}, 400, "invalid_target"),
    ({"authorization_details": "[{}]"}, 400, "invalid_authorization_details"),
    ({"authorization_details": wanted(task_type="nothing")}, 400, "invalid_authorization_details"),
    ({"authorization_details": wanted(task="task_x")}, 400, "invalid_authorization_details"),
    ({"state": "x" * 3_000}, 400, "invalid_request"),
    ({"authorization_details": wanted(task_type="pay", inputs={"who": "x" * 12_000})}, 400, "invalid_request"),
    ({"state": "x" * 40_000}, 413, "invalid_request"),
]


def test_2_3_what_is_wrong_is_told_where_it_is_pushed(place):
    async def work(where: Front) -> None:
        for changes, status, code in WRONG:
            got, told, _ = await push(where, **changes)
            assert (got, told["error"]) == (status, code), (changes, told)
        got, told, _ = await push(where, {"Authorization": "Basic ZGVzazp4"})
        assert (got, told["error"]) == (400, "invalid_request")
        async with where.service.http.get(f"{where.service.url}/oauth/par") as answer:
            assert answer.status == 405
        assert not await where.service.running.node.store.document_keys("par/", "", 10)

    place.run(work)


@pytest.mark.parametrize("of_all", [True, False])
def test_5_and_6_the_metadata_and_who_must_push(place, of_all):
    async def work(where: Front) -> None:
        async with where.service.http.get(f"{where.service.url}/.well-known/oauth-authorization-server") as answer:
            told = await answer.json()
        assert told["pushed_authorization_request_endpoint"] == f"{where.service.url}/oauth/par"
        assert told["require_pushed_authorization_requests"] is of_all
        _, to, _ = await off(visit, a_browser(), where.asked())
        assert came_back(to)["error"] == "invalid_request"
        _, to, _ = await off(visit, a_browser(), short(where, await pushed(where)))
        assert to.startswith(where.idp.issuer)

    table = "[sign_in]" if of_all else "[sign_in.clients.desk]"
    place.run(work, SIGN_IN.replace(f"{table}\n", f"{table}\nrequire_par = true\n"))


def test_6_a_client_may_demand_it_of_itself(place):
    async def work(where: Front) -> None:
        _, to, _ = await off(visit, a_browser(), where.asked())
        assert to.startswith(where.idp.issuer), "off by default"
        body = {"redirect_uris": ["http://127.0.0.1/callback"], "require_pushed_authorization_requests": True}
        async with where.service.http.post(f"{where.service.url}/oauth/register", json=body) as answer:
            made = await answer.json()
        assert made["require_pushed_authorization_requests"] is True
        _, to, _ = await off(visit, a_browser(), where.asked(client_id=made["client_id"]))
        assert came_back(to)["error"] == "invalid_request"

    place.run(work)


def test_rfc_9449_10_the_code_is_for_the_key_that_was_shown(place):
    async def work(where: Front) -> None:
        par, token = f"{where.service.url}/oauth/par", f"{where.service.url}/oauth/token"
        shown = proof(where.service, par)
        address = await pushed(where, {"DPoP": shown}, authorization_details=PAY)
        status, told, _ = await push(where, {"DPoP": shown})
        assert (status, told["error"]) == (400, "invalid_dpop_proof"), "a proof counts once"
        status, told, _ = await push(where, {"DPoP": proof(where.service, par)}, dpop_jkt=new_key().thumbprint())
        assert (status, told["error"]) == (400, "invalid_request")
        status, told, answered = await push(where, {"DPoP": proof(where.service, par, nonce=None)})
        assert (status, told["error"], bool(answered["dpop-nonce"])) == (400, "use_dpop_nonce", True)
        browser = a_browser()
        came = await off(where.consent, browser, await off(where.to_consent, browser, where=short(where, address)))
        asked = {"grant_type": "authorization_code", "client_id": "desk", "code_verifier": where.verifier, "code": came["code"]}
        for headers in ({}, {"DPoP": proof(where.service, token, new_key())}):
            status, told = await where.service.token(asked, **headers)
            assert (status, told["error"]) == (400, "invalid_grant"), headers
        status, told = await where.service.token(asked, DPoP=proof(where.service, token))
        assert (status, told["token_type"]) == (200, "DPoP"), told
        assert (await where.service.token_of(told["access_token"]))[1]["cnf"] == {"jkt": KEY.thumbprint()}

    place.run(work)


def test_two_nodes_on_one_store_and_what_expires_and_what_is_too_many(tmp_path):
    async def run() -> None:
        now = [NOW]
        store = SqliteStore(tmp_path / "remit.db", lambda size, _: f"{size}")
        try:
            one, two = (PushedRequests(store, Replays(store, lambda: now[0], new_id), Sealer(b"k" * 32), lambda: now[0]) for _ in range(2))
            asked = {"client_id": ("desk",), "state": ("a-state-of-tests",)}
            address = (await one.keep(DESK, asked)).request_uri
            key = (await store.document_keys("par/", "", 2))[0]
            assert "a-state-of-tests" not in str(await store.document(key))
            assert address.rpartition(".")[2] not in key
            assert await two.taken(DESK, address) == asked
            for node in (one, two):
                with pytest.raises(Refusal, match="used before"):
                    await node.taken(DESK, address)
            late = (await one.keep(DESK, asked)).request_uri
            now[0] += timedelta(seconds=60)
            with pytest.raises(Refusal, match="has expired"):
                await two.taken(DESK, late)
            now[0] += timedelta(seconds=1)
            assert await two.sweep() == 1
            for _ in range(500):
                await one.keep(DESK, asked)
            with pytest.raises(Outage) as told:
                await two.make_room(DESK)
            assert told.value.code == "too_many"
            now[0] += timedelta(seconds=61)
            await two.make_room(DESK)
            assert not await store.document_keys("par/", "", 1)
        finally:
            await store.close()

    asyncio.run(run())

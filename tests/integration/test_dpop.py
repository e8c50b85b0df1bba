"""DPoP (RFC 9449) over a real socket: a token that was stolen opens nothing without its key; each check of §4.3 broken in turn."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey
from yarl import URL

from remit.errors import Unauthenticated
from remit.logic.dpop import NONCE_TTL, check_proof, make_nonce, nonce_age, token_hash
from remit.model.token import Possession
from remit.node import new_id
from remit.services.possession import Held, Possessions
from remit.services.replays import Replays
from remit.store.sqlite import SqliteStore
from tests.integration.token_service import CREDENTIALS, EXCHANGE, TYPE, Service, new_key, token_service
from tests.servers.crm import crm
from tests.support import NOW

KEY = new_key()


def proof(service: Service, url: str, key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A proof for ``url``; a change to ``None`` leaves a claim out."""
    public = key.as_dict(private=False) if not isinstance(key, OctKey) else key.as_dict()
    nonce = service.running.node.token_parts.possessions.nonce()
    claims = {"jti": uuid.uuid4().hex, "htm": "POST", "htu": url, "iat": int(time.time()), "nonce": nonce, **changes}
    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public, **(header or {})}
    return jwt.encode(head, {name: value for name, value in claims.items() if value is not None}, key, algorithms=[head["alg"]])


async def bound(service: Service, **form: str) -> str:
    """A token bound to KEY."""
    request = CREDENTIALS | service.client() | ({"scope": "task:all"} | form)
    status, body = await service.token(request, DPoP=proof(service, f"{service.url}/oauth/token"))
    assert (status, body["token_type"]) == (200, "DPoP"), body
    return body["access_token"]


def at_the_gateway(service: Service, token: str, **changes: Any) -> str:
    return proof(service, f"{service.url}/mcp/bank", **{"ath": token_hash(token), **changes})


def test_the_vector_of_the_rfc():
    assert token_hash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU") == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_bound_token_opens_only_with_its_key(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            token = await bound(service)
            assert await service.opens(token, scheme="DPoP", DPoP=at_the_gateway(service, token))
            assert (await service.token_of(token))[1]["cnf"] == {"jkt": KEY.thumbprint()}
            assert not await service.opens(token)  # stolen and presented as Bearer
            assert not await service.opens(token, DPoP=at_the_gateway(service, token))  # or beside a proof
            assert not await service.opens(token, scheme="DPoP")
            assert not await service.opens(token, scheme="DPoP", DPoP=at_the_gateway(service, token, key=new_key()))
            plain = (await service.given())["access_token"]
            assert not await service.opens(plain, scheme="DPoP", DPoP=at_the_gateway(service, plain))  # bound to none
            async with service.http.get(f"{service.url}/v1/tasks/current", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 401
            assert (await service.records("TokenIssued"))[-2].bound == KEY.thumbprint()

    asyncio.run(run())


def test_at_the_egress_a_proof_is_for_the_address_as_it_is_sent(tmp_path):
    more = '[egress.api]\nurl = "{url}"\neffect = "read"\ndata_class = "public"\noperations.get.request = "GET /things/{{name}}"\n'
    grant = '[[grant]]\ntool = "api/get"\n'

    async def run() -> None:
        async with crm() as api, token_service(tmp_path, more=more.format(url=api.url), task=grant) as service:
            token = await bound(service)

            async def status(scheme: str, path: str, **changes: Any) -> int:
                url = f"{service.url}/egress/api{path}"
                shown = proof(service, changes.pop("htu", url), **{"htm": "GET", "ath": token_hash(token), **changes})
                headers = {"Authorization": f"{scheme} {token}", "DPoP": shown}
                async with service.http.get(URL(url, encoded=True), headers=headers) as answer:
                    assert ("DPoP" in answer.headers.get("www-authenticate", "")) == (answer.status == 401)
                    return answer.status

            assert await status("DPoP", "/things/a%20b") == 200
            assert await status("DPoP", "/things/a%20b", htu=f"{service.url}/egress/api/things/c") == 401
            assert await status("DPoP", "/things/a%20b", htm="POST") == 401
            assert await status("Bearer", "/things/a%20b") == 401
            assert [(sent.target, sent.headers.get("dpop")) for sent in api.seen] == [("/api/things/a%20b", None)]

    asyncio.run(run())


def test_a_proof_is_for_one_request_once(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            token, other = await bound(service), await bound(service)
            once = at_the_gateway(service, token)
            assert [await service.opens(token, scheme="DPoP", DPoP=once) for _ in range(2)] == [True, False]
            now = int(time.time())
            broken: dict[str, dict[str, Any]] = {
                "another method": {"htm": "GET"},
                "another address": {"htu": f"{service.url}/mcp/vault"},
                "another host": {"htu": "https://evil.example/mcp/bank"},
                "no address": {"htu": None},
                "another token": {"ath": token_hash(other)},
                "no token": {"ath": None},
                "long ago": {"iat": now - 3_600},
                "to come": {"iat": now + 3_600},
                "no time": {"iat": None},
                "no id": {"jti": None},
                "an id of another kind": {"jti": 7},
                "another kind of token": {"header": {"typ": "JWT"}},
                "a private key in the header": {"header": {"jwk": KEY.as_dict(private=True)}},
                "a key that did not sign": {"header": {"jwk": new_key().as_dict(private=False)}},
                "a key elsewhere": {"header": {"jku": "https://evil.example/jwks"}},
            }
            for what, changes in broken.items():
                answer = await service.listed(token, scheme="DPoP", DPoP=at_the_gateway(service, token, **changes))
                assert answer.status == 401, what
                assert 'error="invalid_dpop_proof"' in answer.headers["www-authenticate"], what
            for nonce in (None, "guessed", "1.x", make_nonce(b"k" * 32, NOW)):
                answer = await service.listed(token, scheme="DPoP", DPoP=at_the_gateway(service, token, nonce=nonce))
                assert (answer.status, 'error="use_dpop_nonce"' in answer.headers["www-authenticate"]) == (401, True), nonce
                fresh = answer.headers["dpop-nonce"]
                assert await service.opens(token, scheme="DPoP", DPoP=at_the_gateway(service, token, nonce=fresh))
            good = at_the_gateway(service, token)
            for wrong in ("", "x", "a.b.c", good[:-4] + "AAAA", good + "." + good, "x" * 100_000):
                assert (await service.listed(token, scheme="DPoP", DPoP=wrong)).status in {400, 401}
            secret = OctKey.generate_key(256)
            by_secret = at_the_gateway(service, token, key=secret, header={"alg": "HS256"})
            assert (await service.listed(token, scheme="DPoP", DPoP=by_secret)).status == 401

    asyncio.run(run())


def test_a_bound_token_opens_the_control_api_with_its_key_each_proof_once(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            token = await bound(service)

            async def ask(method: str, path: str, scheme: str = "DPoP", **changes: Any) -> tuple[int, Any, str]:
                key = changes.pop("key", KEY)
                shown = proof(service, service.url + path, key=key, **{"htm": method, "ath": token_hash(token), **changes})
                headers = {"Authorization": f"{scheme} {token}", "DPoP": changes.pop("again", shown)}
                async with service.http.request(method, service.url + path, headers=headers) as answer:
                    return answer.status, answer.headers, answer.headers.get("www-authenticate", "")

            assert (await ask("GET", "/v1/tasks/current"))[0] == 200
            assert (await ask("GET", "/v1/leases"))[0] == 200
            assert (await ask("GET", "/v1/tasks/current", scheme="Bearer"))[0] == 401
            assert (await ask("GET", "/v1/tasks/current", key=new_key()))[0] == 401
            once = proof(service, f"{service.url}/v1/tasks/current", htm="GET", ath=token_hash(token))
            assert [(await ask("GET", "/v1/tasks/current", again=once))[0] for _ in range(2)] == [200, 401]
            status, headers, challenge = await ask("GET", "/v1/tasks/current", nonce=None)
            assert (status, 'error="use_dpop_nonce"' in challenge) == (401, True)
            assert (await ask("GET", "/v1/tasks/current", nonce=headers["dpop-nonce"]))[0] == 200
            status, _, challenge = await ask("GET", "/v1/leases", htm="POST")
            assert (status, 'error="invalid_dpop_proof"' in challenge) == (401, True)
            status, headers, challenge = await ask("POST", "/access/v1/search/action", nonce=None)
            assert (status, 'error="use_dpop_nonce"' in challenge, bool(headers["dpop-nonce"])) == (401, True, True)
            assert (await ask("POST", "/access/v1/search/action"))[0] == 400, "who asks is known; what is asked is not"
            assert (await ask("POST", "/v1/tasks/current/complete"))[0] == 200
            assert (await ask("GET", "/v1/tasks/current"))[0] == 401

    asyncio.run(run())


def test_a_proof_that_was_used_on_one_node_is_used_on_all(tmp_path):
    async def run() -> None:
        store = SqliteStore(tmp_path / "remit.db", lambda size, _: f"{size}")
        try:
            nodes = [Possessions(b"k" * 32, Replays(store, lambda: NOW, new_id), lambda: NOW, alone=False) for _ in range(2)]
            claims = {"jti": "1", "htm": "POST", "htu": "http://a.example/mcp", "iat": NOW.timestamp(), "nonce": nodes[0].nonce()}
            made = check_proof(claims, key="k", method="POST", url="http://a.example/mcp", token="", nonce_key=b"k" * 32, now=NOW)
            held = Held(possession=Possession(key="k"), proof=made)
            await nodes[0].spend(held)
            for node in nodes:
                with pytest.raises(Unauthenticated):
                    await node.spend(held)
        finally:
            await store.close()

    asyncio.run(run())


def test_the_token_service_wants_its_nonce_and_opens_no_task_before(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            endpoint, rows = f"{service.url}/oauth/token", service.running.node.tasks.rows
            before = len(await rows(limit=100))
            form = CREDENTIALS | service.client() | {"scope": "task:all"}
            status, body, headers = await service.post("/oauth/token", form, DPoP=proof(service, endpoint, nonce=None))
            assert (status, body["error"], len(await rows(limit=100))) == (400, "use_dpop_nonce", before)
            # the client's assertion was not used up by it
            status, body = await service.token(form, DPoP=proof(service, endpoint, nonce=headers["dpop-nonce"]))
            assert (status, body["token_type"]) == (200, "DPoP")
            once = proof(service, endpoint)
            for expected in (200, 400):
                status, body = await service.token(CREDENTIALS | service.client() | {"scope": "task:all"}, DPoP=once)
                assert status == expected
            assert body["error"] == "invalid_dpop_proof"
            # a bound token can be exchanged by its agent for one bound to a new key, by proof of that key
            form = {"grant_type": EXCHANGE, "subject_token": await bound(service), "subject_token_type": f"{TYPE}access_token"}
            ed25519 = OKPKey.generate_key("Ed25519")
            made = proof(service, endpoint, key=ed25519, header={"alg": "Ed25519"})
            status, body = await service.token(form | service.client(), DPoP=made)
            assert status == 200
            shown = at_the_gateway(service, body["access_token"], key=ed25519, header={"alg": "Ed25519"})
            assert await service.opens(body["access_token"], scheme="DPoP", DPoP=shown)

    asyncio.run(run())


def test_a_nonce_ends_and_nobody_else_makes_one():
    key, nonce = b"k" * 32, make_nonce(b"k" * 32, NOW)
    assert nonce_age(nonce, key, NOW + NONCE_TTL) == NONCE_TTL
    assert nonce_age(nonce, b"x" * 32, NOW) is None
    assert nonce_age("." + nonce, key, NOW) is None
    claims = {"jti": "1", "htm": "POST", "htu": "HTTP://Gateway.Example:80/mcp/bank?x#y", "iat": NOW.timestamp(), "nonce": nonce}
    held = check_proof(
        claims, key="k", method="POST", url="http://gateway.example/mcp/bank", token="", nonce_key=key, now=NOW + NONCE_TTL * 0.6
    )
    assert held.stale

"""The token service over a real socket: who gets a token, for what, and what it opens."""

from __future__ import annotations

import asyncio

import pytest

from remit.errors import Unauthenticated
from remit.logic.arguments import make_call
from remit.model.catalog import Kind
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued
from tests.e2e.gateway import stdio
from tests.integration.token_service import (
    CREDENTIALS,
    EXCHANGE,
    JWT_BEARER,
    SPIFFE,
    TYPE,
    key_table,
    new_key,
    token_service,
    wanted,
)

BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
STRANGER = new_key()
AGENT = "spiffe://remit.local/agent/tester"


def test_an_agent_with_a_key_gets_a_token_for_one_task(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            given = await service.given()
            detail, *grants = given["authorization_details"]
            assert (given["token_type"], given["issued_token_type"]) == ("Bearer", f"{TYPE}access_token")
            assert 0 < given["expires_in"] <= 600
            assert detail["type"] == "remit_task"
            assert {grant["type"] for grant in grants} == {"remit_grant"}
            assert await service.opens(given["access_token"])
            issued: TokenIssued = (await service.records("TokenIssued"))[-1]
            assert (issued.agent, issued.subject_proof, issued.exchange) == (AGENT, "private_key_jwt", "client_credentials")
            task = await service.running.node.tasks.view(detail["task"])
            assert (task.type, task.agent.text, task.on_behalf_proof) == ("all", AGENT, "")
            again = await service.given(authorization_details=wanted(task=task.id))
            assert again["authorization_details"][0]["task"] == task.id
            by_scope = await service.given(authorization_details="", scope="task:all")
            assert by_scope["authorization_details"][0]["task"] != task.id

    asyncio.run(run())


def test_an_svid_is_a_client_assertion_a_grant_and_a_subject_token(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            svid = await service.running.node.identities.issue_svid("tester", attested="test")
            task = {"authorization_details": wanted(task_type="all")}
            ways = (
                CREDENTIALS | {"client_assertion_type": SPIFFE, "client_assertion": svid, "client_id": AGENT},
                {"grant_type": BEARER, "assertion": svid},
                {"grant_type": EXCHANGE, "subject_token": svid, "subject_token_type": f"{TYPE}jwt"},
            )
            for form in ways:
                status, body = await service.token(form | task)
                assert status == 200, (form, body)
                assert await service.opens(body["access_token"])
            issued = (await service.records("TokenIssued"))[-3:]
            assert [one.exchange for one in issued] == ["client_credentials", BEARER, EXCHANGE]
            assert {one.subject_proof for one in issued} == {"jwt-svid"}

    asyncio.run(run())


def test_a_token_for_one_server_opens_that_one_only(tmp_path):
    async def run() -> None:
        servers = stdio("bank", "bank.py", "--stdio") + stdio("vault", "bank.py", "--stdio")
        async with token_service(tmp_path, servers=servers) as service:
            whole = (await service.given())["access_token"]
            bank = (await service.given(resource=f"{service.url}/mcp/bank"))["access_token"]
            assert [await service.opens(whole, "bank"), await service.opens(whole, "vault")] == [True, True]
            assert [await service.opens(bank, "bank"), await service.opens(bank, "vault")] == [True, False]
            async with service.http.get(f"{service.url}/v1/tasks/current", headers={"Authorization": f"Bearer {bank}"}) as answer:
                assert answer.status == 401  # the control API speaks of the whole task
            narrow = service.client() | {"grant_type": EXCHANGE, "subject_token": bank, "subject_token_type": f"{TYPE}access_token"}
            for resource in ("vault", ""):
                wider = narrow | service.client() | {"resource": f"{service.url}/mcp/{resource}".rstrip("/")}
                status, body = await service.token(wider)
                assert (status, body["error"]) == (400, "invalid_target"), resource
            base = f"{service.url}/mcp"
            for resource in ("https://evil.example/mcp", f"{base}/none", f"{base}/bank#x", f"{base}/bank/", "x"):
                status, body = await service.token(CREDENTIALS | service.client() | {"scope": "task:all", "resource": resource})
                assert (status, body["error"]) == (400, "invalid_target"), resource

    asyncio.run(run())


def test_what_is_revoked_opens_nothing_at_any_door_while_its_task_lives(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            given = await service.given()
            token, task = given["access_token"], given["authorization_details"][0]["task"]
            other = (await service.given(authorization_details=wanted(task=task)))["access_token"]
            bearer = await service.running.node.tokens.bearer(token)
            assert (await service.token_of(token))[1]["active"] is True
            for _ in range(2):  # a second time is a success too
                assert (await service.post("/oauth/revoke", service.client() | {"token": token}))[0] == 200
            assert (await service.token_of(token)) == (200, {"active": False})
            assert [await service.opens(token), await service.opens(other)] == [False, True]
            for path in ("/v1/tasks/current", "/v1/tasks/current/complete"):
                async with service.http.request(
                    "POST" if path.endswith("complete") else "GET", service.url + path, headers={"Authorization": f"Bearer {token}"}
                ) as answer:
                    assert answer.status == 401
            # whoever got past the door just before is stopped where the call is decided
            with pytest.raises(Unauthenticated):
                await service.running.node.mediation.authorize(bearer, make_call(Kind.TOOL, "bank", "echo", {"text": "x"}))
            assert (await service.running.node.tasks.view(task)).state is TaskState.ACTIVE
            assert [one.by for one in await service.records("TokenRevoked")] == [AGENT]
            assert (await service.post("/oauth/revoke", service.client() | {"token": "nonsense"}))[0] == 200

    asyncio.run(run())


def test_introspection_says_the_same_of_everything_that_is_not_active(tmp_path):
    async def run() -> None:
        more = f"[agents.stranger]\ntasks = ['all']\n{key_table('stranger', STRANGER)}"
        async with token_service(tmp_path, more=more) as service:
            token = (await service.given())["access_token"]
            foreign = {"client_assertion_type": JWT_BEARER}
            foreign |= {"client_assertion": service.assertion(STRANGER, iss="stranger", sub="stranger")}
            ended, dead = await service.running.another_task()
            await service.running.node.tasks.end(ended.id, TaskState.REVOKED, by="alice")
            svid = await service.running.node.identities.issue_svid("tester", attested="test")
            for what, form in (("x", {}), (dead, {}), (svid, {}), ("a.b.c", {}), (token[:-4] + "AAAA", {}), (token, foreign)):
                assert await service.token_of(what, **form) == (200, {"active": False})
            status, body, _ = await service.post("/oauth/introspect", {"token": token})
            assert (status, body["error"]) == (401, "invalid_client")
            refused = await service.records("TokenRefused")
            assert [one.exchange for one in refused] == ["introspect"]
            foreign["client_assertion"] = service.assertion(STRANGER, iss="stranger", sub="stranger")
            status, body, _ = await service.post("/oauth/revoke", {"token": token, **foreign})
            assert (status, body["error"]) == (400, "unauthorized_client")
            assert await service.opens(token)

    asyncio.run(run())


def test_metadata_leads_from_the_gateway_to_the_token_service(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            challenge = (await service.listed("")).headers["www-authenticate"]
            where = f"{service.url}/.well-known/oauth-protected-resource/mcp/bank"
            assert challenge.startswith(f'Bearer resource_metadata="{where}"')
            assert "error=" not in challenge  # RFC 6750 §3: nothing was presented
            assert 'error="invalid_token"' in (await service.listed("x")).headers["www-authenticate"]
            async with service.http.get(where) as answer:
                resource = await answer.json()
            assert (resource["resource"], resource["authorization_servers"]) == (f"{service.url}/mcp/bank", [service.url])
            async with service.http.get(f"{service.url}/.well-known/oauth-protected-resource/mcp/none") as answer:
                assert answer.status == 404
            async with service.http.get(f"{service.url}/.well-known/oauth-authorization-server") as answer:
                metadata = await answer.json()
            assert metadata["issuer"] == service.url
            async with service.http.get(f"{service.url}/.well-known/openid-configuration") as answer:
                assert await answer.json() == metadata
            for name, address in metadata.items():
                if name.endswith("_endpoint") or name == "jwks_uri":
                    async with service.http.request("GET" if name in {"jwks_uri", "authorization_endpoint"} else "POST", address) as answer:
                        assert answer.status != 404, name

    asyncio.run(run())


def test_tokens_must_be_bound_where_the_configuration_says_so(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path, '[tokens]\nbound = "dpop"') as service:
            tasks = len(await service.running.node.tasks.rows(limit=100))
            status, body = await service.token(CREDENTIALS | service.client() | {"scope": "task:all"})
            assert (status, body["error"]) == (400, "unauthorized_client")
            assert len(await service.running.node.tasks.rows(limit=100)) == tasks  # nothing was opened for it
            svid = await service.running.node.identities.issue_svid("tester", attested="test")
            async with service.http.post(
                f"{service.url}/v1/tasks", json={"type": "all"}, headers={"Authorization": f"Bearer {svid}"}
            ) as answer:
                assert (answer.status, (await answer.json())["code"]) == (403, "binding_required")

    asyncio.run(run())

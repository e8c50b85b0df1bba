"""Delegation by token exchange (RFC 8693), over a real socket: who gets a child's token, and every deputy who is to be confused."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

from remit.errors import Unauthenticated
from remit.logic.dpop import token_hash
from remit.model.task import TaskState
from remit.services.sparing import PER_MINUTE
from tests.e2e.gateway import stdio
from tests.integration.test_dpop import proof
from tests.integration.token_service import EXCHANGE, TYPE, Service, key_table, new_key, token_service, wanted

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

WRITER, STRANGER = new_key(), new_key()
REQUESTS = itertools.count(1)
AGENT = "spiffe://remit.local/agent"
GRANT = """[[grant]]
tool = "bank/echo"
[delegation]
to = ["writer", "reader"]
depth = 2
fan_out = 2
lifetime = "2m"
"""
AGENTS = f"""
[agents.reader]
tasks = []
[agents.writer]
tasks = ["all"]
{key_table("writer", WRITER)}
[agents.stranger]
tasks = []
{key_table("stranger", STRANGER)}
"""


def serving(folder: Path, more: str = "") -> AbstractAsyncContextManager[Service]:
    return token_service(folder, more=more + AGENTS, task=GRANT, servers=stdio("bank", "bank.py", "--stdio"))


def child(**changes: Any) -> str:
    """``authorization_details`` of a delegation; a change to ``None`` leaves a member out."""
    words = {
        "agent": "writer",
        "request": f"r{next(REQUESTS)}",
        "objective": "Say hello",
        "grant": [{"tool": "bank/echo", "uses": 2}],
        "calls": 3,
        **changes,
    }
    return wanted(**{name: value for name, value in words.items() if value is not None})


def writer(service: Service) -> dict[str, str]:
    return service.client(key=WRITER, iss="writer", sub="writer")


def presented(token: str, **form: str) -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": f"{TYPE}access_token",
        "authorization_details": child(),
    } | form


async def svid(service: Service, agent: str = "writer") -> dict[str, str]:
    proof = await service.running.node.identities.issue_svid(agent, attested="test")
    return {"actor_token": proof, "actor_token_type": f"{TYPE}jwt"}


def claims(token: str) -> Any:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_the_agent_that_gets_the_child_exchanges_the_parent_s_token_for_its_own(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            given = await service.given()
            parent = given["authorization_details"][0]["task"]
            for shown in (writer(service), await svid(service)):
                status, body = await service.token(presented(given["access_token"], resource=f"{service.url}/mcp/bank", **shown))
                assert status == 200, body
                told = claims(body["access_token"])
                assert (told["sub"], told["aud"]) == (f"{AGENT}/writer", f"{service.url}/mcp/bank")
                assert told["act"]["sub"] == f"{AGENT}/writer", "the newest actor is outermost"
                assert told["act"]["act"]["sub"] == f"{AGENT}/tester"
                assert told["authorization_details"][0]["uses"] == 2
                assert await service.opens(body["access_token"])
                task = await service.running.node.tasks.view(body["authorization_details"][0]["task"])
                assert (task.parent, task.agent.text, task.chain) == (parent, f"{AGENT}/writer", (f"{AGENT}/tester",))
                _, seen = await service.token_of(body["access_token"], **writer(service))
                assert seen["act"] == told["act"]
            issued = (await service.records("TokenIssued"))[-2:]
            assert [(one.exchange, one.subject_proof) for one in issued] == [(EXCHANGE, "private_key_jwt"), (EXCHANGE, "jwt-svid")]
            await service.running.node.tasks.end(parent, TaskState.REVOKED, by="alice")
            assert not await service.opens(body["access_token"]), "what ends the parent ends the child"

    asyncio.run(run())


def test_confused_deputies_get_no_child_s_token_each_with_its_code(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            token = (await service.given())["access_token"]
            other = (await service.given())["authorization_details"][0]["task"]
            stranger = service.client(key=STRANGER, iss="stranger", sub="stranger")

            async def refused(code: str, error: str, reason: str, form: dict[str, str]) -> None:
                status, body = await service.token(form)
                assert (status, body["error"], body.get("mission_denial_reason")) == (400, error, reason), body
                assert body["error_description"].startswith(f"{code}: ")
                assert (await service.records("DelegationRefused"))[-1].code == code

            grant, request = "invalid_grant", "invalid_request"
            passed_on = presented(token, actor_token=token, actor_token_type=f"{TYPE}jwt")
            await refused("token_passed_on", grant, "parent_mismatch", passed_on)
            await refused("token_passed_on", grant, "parent_mismatch", passed_on | {"actor_token_type": f"{TYPE}access_token"})
            await refused("wrong_actor", grant, "parent_mismatch", presented(token) | service.client())
            await refused("wrong_actor", grant, "parent_mismatch", presented(token) | stranger)
            await refused("wrong_actor", grant, "parent_mismatch", presented(token, **await svid(service, "reader")))
            await refused(
                "parent_mismatch", grant, "parent_mismatch", presented(token, authorization_details=child(task=other)) | writer(service)
            )
            allowed = "child_actor_not_allowed"
            stranger = service.client(key=STRANGER, iss="stranger", sub="stranger")
            await refused(allowed, request, allowed, presented(token, authorization_details=child(agent="stranger")) | stranger)
            more = child(grant=[{"tool": "bank/steal"}])
            await refused("not_strict_subset", request, "not_strict_subset", presented(token, authorization_details=more) | writer(service))
            more = child(calls=5_000)
            await refused("budget_short", request, "not_strict_subset", presented(token, authorization_details=more) | writer(service))
            once = child()
            status, first = await service.token(presented(token, authorization_details=once) | writer(service))
            assert status == 200, first
            await refused("delegation_replayed", grant, "parent_mismatch", presented(token, authorization_details=once) | writer(service))
            cycle = presented(first["access_token"], authorization_details=child(calls=1, grant=[{"tool": "bank/echo", "uses": 1}]))
            await refused("delegation_cycle", request, allowed, cycle | writer(service))
            assert (await service.token(presented(token) | writer(service)))[0] == 200
            await refused("fanout_exceeded", request, "fanout_exceeded", presented(token) | writer(service))
            task = (await service.running.node.tokens.bearer(token)).task
            await service.running.node.tasks.move(task, TaskState.SUSPENDED, by="alice")
            await refused("parent_not_active", grant, "parent_not_active", presented(token) | writer(service))

    asyncio.run(run())


def test_a_child_is_held_to_what_its_type_and_its_agent_demand_of_the_manifest(tmp_path):
    async def run() -> None:
        digest = "sha-256:" + "a" * 43
        more = AGENTS.replace("[agents.writer]", '[agents.writer]\nmanifest.required = ["model"]')
        head = 'objective = "Test"\ndata_ceiling = "public"\ndeadline = "30m"\nbudget = { calls = 1000 }\n'
        held = {"held": head + GRANT + '[manifest]\nrequired = ["system_prompt"]\n'}
        async with token_service(tmp_path, more=more, task=GRANT, types=held) as service:
            parts = {"model": digest, "system_prompt": digest}
            token = (await service.given(authorization_details=wanted(task_type="held", manifest=parts)))["access_token"]
            for told in ({}, {"model": digest}, {"system_prompt": digest}):
                status, body = await service.token(presented(token, authorization_details=child(manifest=told)) | writer(service))
                assert (status, body["mission_denial_reason"]) == (400, "child_actor_not_allowed"), body
                assert (await service.records("DelegationRefused"))[-1].code == "manifest_missing"
            status, body = await service.token(presented(token, authorization_details=child(manifest=parts)) | writer(service))
            assert status == 200, body
            task = await service.running.node.tasks.view(body["authorization_details"][0]["task"])
            assert task.manifest == parts
            words = json.loads(child(manifest=parts))[0]
            del words["type"]
            headers = {"Authorization": f"Bearer {token}"}
            async with service.http.post(f"{service.url}/v1/tasks/current/children", json=words, headers=headers) as answer:
                assert answer.status in {400, 422}, "a parent does not say what another agent is made of"

    asyncio.run(run())


def test_refused_delegations_and_proofs_do_not_fill_the_ledger(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            node = service.running.node
            bearer = await node.tokens.bearer((await service.given())["access_token"])
            for _ in range(PER_MINUTE + 5):
                await node.door.presenting.delegations.refused(bearer.task, "", "wrong_actor")
                with pytest.raises(Unauthenticated):
                    await node.identities.verify_svid("x.y.z")
            assert len(await service.records("DelegationRefused")) == PER_MINUTE
            assert len(await service.records("TokenRefused")) == PER_MINUTE
            await node.door.presenting.delegations.refused("", "", "invalid_token")
            assert (await service.records("DelegationRefused"))[-1].code == "invalid_token", "another one is not hidden by it"

    asyncio.run(run())


def test_what_proves_nothing_delegates_nothing(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            token = (await service.given())["access_token"]
            narrow = (await service.given(resource=f"{service.url}/mcp/bank"))["access_token"]
            dead = (await service.given())["access_token"]
            await service.running.node.tasks.end((await service.running.node.tokens.bearer(dead)).task, TaskState.REVOKED, by="alice")
            before = len(await service.records("TaskDelegated"))
            parent_and_child = presented(token, **await svid(service)) | service.client()
            cases = (
                (presented("x.y.z") | writer(service), "invalid_request"),
                (presented((await svid(service))["actor_token"]) | writer(service), "invalid_request"),
                (presented(dead) | writer(service), "invalid_grant"),
                (presented(narrow) | writer(service), "invalid_grant"),
                (parent_and_child, "invalid_request"),
                (presented(token, actor_token="x.y.z", actor_token_type=f"{TYPE}jwt"), "invalid_request"),
                (presented(token, authorization_details=child(calls="3")) | writer(service), "invalid_authorization_details"),
                (presented(token, authorization_details=child(request=None)) | writer(service), "invalid_authorization_details"),
                (presented(token, authorization_details=child(objective="")) | writer(service), "invalid_authorization_details"),
                (presented(token, authorization_details=child(more=1)) | writer(service), "invalid_authorization_details"),
                (presented(token, authorization_details=child(actor_token="x")) | writer(service), "invalid_authorization_details"),
                (presented(token, scope="task:all") | writer(service), "invalid_request"),
            )
            for form, error in cases:
                status, body = await service.token(form)
                assert (status, body["error"]) == (400, error), (form["authorization_details"], body)
                assert "mission_denial_reason" not in body
            status, body = await service.token(presented(token))
            assert (status, body["error"]) == (401, "invalid_client"), "nobody asks"
            assert len(await service.records("TaskDelegated")) == before
            codes = [one.code for one in await service.records("DelegationRefused")]
            assert codes == ["invalid_token", "invalid_token", "inactive", "wrong_audience"]

    asyncio.run(run())


def test_a_parent_s_token_that_is_bound_to_a_key_delegates_only_with_it_and_the_child_s_is_bound_to_the_key_shown(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            endpoint, parents, childs = f"{service.url}/oauth/token", new_key(), new_key()
            form = {"grant_type": "client_credentials", "scope": "task:all"} | service.client()
            status, given = await service.token(form, DPoP=proof(service, endpoint, parents))
            assert (status, given["token_type"]) == (200, "DPoP"), given
            status, body = await service.token(presented(given["access_token"]) | writer(service), DPoP=proof(service, endpoint, childs))
            assert (status, body["error"]) == (400, "invalid_grant")
            assert (await service.records("DelegationRefused"))[-1].code == "bound_token"
            free = (await service.given())["access_token"]
            status, body = await service.token(presented(free) | writer(service), DPoP=proof(service, endpoint, childs))
            assert (status, body["token_type"]) == (200, "DPoP"), body
            assert not await service.opens(body["access_token"])

    asyncio.run(run())


def test_agents_that_all_must_be_bound_to_keys_of_their_own_delegate(tmp_path):
    async def run() -> None:
        async with serving(tmp_path, '[tokens]\nbound = "dpop"\nmission = true\n') as service:
            endpoint, parents, childs = f"{service.url}/oauth/token", new_key(), new_key()
            form = {"grant_type": "client_credentials", "scope": "task:all"} | service.client()
            _, given = await service.token(form, DPoP=proof(service, endpoint, parents))
            token, path = given["access_token"], "/v1/tasks/current/children"
            words = {name: value for name, value in json.loads(child())[0].items() if name != "type"}
            for key, status in ((childs, 401), (parents, 201)):
                shown = proof(service, service.url + path, key, ath=token_hash(token))
                headers = {"Authorization": f"DPoP {token}", "DPoP": shown}
                async with service.http.post(service.url + path, json=words, headers=headers) as answer:
                    assert answer.status == status, await answer.text()
                    opened = await answer.json()
            assert "token" not in opened, "a parent never holds the token of its child"
            form = {"grant_type": "client_credentials", "scope": f"task:{opened['task']}"} | writer(service)
            status, body = await service.token(form, DPoP=proof(service, endpoint, childs))
            assert (status, body["token_type"]) == (200, "DPoP"), body
            shown = proof(service, f"{service.url}/mcp/bank", childs, ath=token_hash(body["access_token"]))
            assert await service.opens(body["access_token"], scheme="DPoP", DPoP=shown)
            mission = claims(body["access_token"])["mission"]
            above = claims(token)["mission"]
            assert mission["parent"] | {"created_at": "", "delegation_id": ""} == {
                **above,
                "cascade_mode": "immediate",
                "created_at": "",
                "delegation_id": "",
            }
            assert (mission["id"], mission["parent"]["delegation_id"]) == (opened["task"], opened["task"])

    asyncio.run(run())


def test_authlib_gets_the_token_of_a_child(tmp_path):
    async def run() -> None:
        async with serving(tmp_path) as service:
            token = (await service.given())["access_token"]
            client = OAuth2Session("writer", WRITER, token_endpoint_auth_method="private_key_jwt")
            client.register_client_auth_method(PrivateKeyJWT(service.url, alg="ES256"))
            given = await asyncio.to_thread(client.fetch_token, f"{service.url}/oauth/token", **presented(token))
            assert given["issued_token_type"] == f"{TYPE}access_token"
            assert await service.opens(given["access_token"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Authlib's own deprecations
        asyncio.run(run())

"""The drafts for mission-bound authorization: a projection of the task, behind a setting, that only ever makes it less."""

from __future__ import annotations

import asyncio

from joserfc import jwt
from joserfc.jwk import KeySet

from remit.logic.arguments import digest_json
from remit.model.task import TaskState
from tests.integration.token_service import Service, token_service


def test_the_digest_of_parameters_is_the_drafts_vector():
    value = {"account": "****4417", "amount": "9000.00", "currency": "USD", "payee": "Acme Supply Co"}
    assert digest_json(value) == "sha-256:e7GXd0GWwOK2ezlb0CfUeYhjYOF1DE68_Gg0ofbr7do"


async def change(service: Service, mission: str, operation: str) -> tuple[int, dict]:
    status, body, _ = await service.post("/oauth/mission/lifecycle", service.client() | {"mission_id": mission, "operation": operation})
    return status, body


async def told(service: Service, mission: str) -> dict:
    form = service.client() | {"mission_id": mission, "nonce": "n-1"}
    async with service.http.post(f"{service.url}/oauth/mission/status", data=form) as answer:
        assert (answer.status, answer.content_type) == (200, "application/mission-status-response+jwt")
        text = await answer.text()
    async with service.http.get(f"{service.url}/oauth/jwks") as answer:
        opened = jwt.decode(text, KeySet.import_key_set(await answer.json()), algorithms=["ES256"])
    assert opened.header["typ"] == "mission-status-response+jwt"
    assert opened.claims["nonce"] == "n-1"
    return opened.claims


def test_a_task_is_told_and_ended_as_a_mission(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path, "[tokens]\nmission = true") as service:
            given = await service.given()
            token, mission = given["access_token"], given["authorization_details"][0]["task"]
            claims = (await service.token_of(token))[1]["mission"]
            status = await told(service, mission)
            assert claims == {name: status["mission"][name] for name in ("id", "origin", "authority_hash")}
            value = {"typ": "mission-authority-set", "iss": service.url, "value": status["authorization_details"]}
            assert status["mission"]["authority_hash"] == digest_json(value)
            assert (status["mission"]["id"], status["mission"]["state"]) == (mission, "active")
            assert await change(service, mission, "suspend") == (200, {"mission_id": mission, "state": "suspended"})
            assert (await service.token_of(token))[1] == {"active": False}
            assert (await told(service, mission))["mission"]["state"] == "suspended"
            status_code, body = await change(service, mission, "resume")
            assert (status_code, body["error"]) == (400, "access_denied")  # a person's
            for _ in range(2):  # a state that is reached is a success
                assert (await change(service, mission, "revoke"))[0] == 200
            for operation in ("complete", "suspend", "widen", ""):
                status_code, body = await change(service, mission, operation)
                assert (status_code, body["error"]) == (400, "invalid_request"), operation
            assert (await service.running.node.tasks.view(mission)).state is TaskState.REVOKED
            other = await service.running.node.dispatcher.open(
                agent="tester", task_type="all", inputs={}, on_behalf_of="alice", opened_by="alice"
            )
            assert (await change(service, other.id, "complete"))[0] == 200
            assert (await change(service, "task_none", "complete"))[0] == 400

    asyncio.run(run())


def test_without_the_setting_nobody_speaks_of_missions(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            given = await service.given()
            assert (await change(service, given["authorization_details"][0]["task"], "revoke"))[0] == 400
            assert "mission" not in (await service.token_of(given["access_token"]))[1]
            async with service.http.get(f"{service.url}/.well-known/oauth-authorization-server") as answer:
                assert not [name for name in await answer.json() if name.startswith("mission")]

    asyncio.run(run())

"""The token service over a real socket: who gets a token, for what, and what it opens."""

from __future__ import annotations

import asyncio

from remit.model.record import TokenIssued
from tests.integration.token_service import TYPE, token_service, wanted

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

"""``remit kill`` while a call waits at the gateway for a person's answer: once the command has returned, no answer opens anything."""

from __future__ import annotations

import asyncio
import sys

import pytest

from remit.logic.records import decode
from remit.model.record import CallDecided
from tests.e2e.test_approvals import ANNA, APPROVERS, MODES, Office, bank, office, secrets, text

pytestmark = pytest.mark.anyio
__all__ = ["bank", "secrets"]  # fixtures


async def kill(folder: str) -> None:
    """By the command, as another process."""
    words = (sys.executable, "-m", "remit.cli.main", "kill", "tester", "--reason", "it looks wrong")
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()


async def decided(here: Office) -> list[tuple[str, str]]:
    """Kinds of the ledger's entries in their order, with the outcome of decisions."""
    bodies = [decode(entry.body).body for entry in await here.node.store.entries(0, 10_000)]
    return [(type(body).__name__, str(body.outcome) if isinstance(body, CallDecided) else "") for body in bodies]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answered", ["after", "while the command runs"])
async def test_no_answer_opens_a_call_of_a_stopped_agent(tmp_path, mode, answered):
    async with office(tmp_path, APPROVERS + '[approvals]\nwait = "60s"\n') as here:
        waiting = asyncio.create_task(here.pay(mode))
        async with asyncio.timeout(20):
            while not (rows := await here.node.approvals.pending()):
                await asyncio.sleep(0.02)
        path, yes = f"/v1/approvals/{rows[0].approval}", {"answer": "approve", "reason": "because"}
        if answered == "after":
            await kill(str(tmp_path))
            await here.http("POST", path, ANNA, yes)
        else:
            await asyncio.gather(kill(str(tmp_path)), here.http("POST", path, ANNA, yes))
        mcp = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for method, where, body in (
            ("POST", "/v1/tasks/current/authorize", {"tool": "bank/send_money", "arguments": {"recipient": "bob", "amount": 5}}),
            ("GET", "/v1/tasks/current", None),
            ("POST", "/mcp/bank", mcp),
        ):
            headers = {"Accept": "application/json, text/event-stream"} if where.startswith("/mcp") else {}
            async with here.client.request(
                method, here.base + where, json=body, headers={"Authorization": f"Bearer {here.running.token}", **headers}
            ) as answer:
                assert answer.status == 401, (where, await answer.text())
        (came,) = await asyncio.gather(waiting, return_exceptions=True)
        told = await decided(here)
        stopped = next(index for index, (kind, _) in enumerate(told) if kind == "AgentsStopped")
        assert "allow" not in [outcome for _, outcome in told[stopped:]]
        assert next(outcome for _, outcome in told[:stopped] if outcome) == "ask"
        if answered == "after":
            assert "allow" not in [outcome for _, outcome in told]
            assert isinstance(came, BaseException) or "sent" not in text(came)

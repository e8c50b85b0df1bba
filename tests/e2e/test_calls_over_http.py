"""``authorize`` and ``observe`` over HTTP, as somebody without our library speaks them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.model.call_record import CallDecided
from remit.model.task import TaskState
from tests.e2e.gateway import http_server
from tests.e2e.python_door import Place, place, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("calls")
    with http_server("bank.py") as bank:
        write_folder(made, bank)
        yield made


async def ask(where: Place, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with where.client.request(method, where.url + path, data=data, headers=headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


ECHO = {"tool": "bank/echo", "arguments": {"text": "x"}}
WRONG = [
    ({}, 400, "call"),
    ({"tool": "bank/echo", "prompt": "bank/greet"}, 400, "call"),
    ({"tool": "echo"}, 400, "call"),
    ({"tool": "/echo"}, 400, "call"),
    ({"tool": "bank/"}, 400, "call"),
    ({"tool": "bank/" + "x" * 5_000}, 400, "call"),
    ({"tool": 5}, 400, "body"),
    ({"tool": "bank/echo", "arguments": []}, 400, "body"),
    ({"tool": "bank/echo", "task": "another"}, 400, "body"),
    ({"resource": "bank/note://x", "arguments": {"uri": "other"}}, 400, "call"),
    ({"tool": "bank/echo", "arguments": {"text": 2**60}}, 400, "json"),
    (b'{"tool": "bank/echo", "arguments": {"text": 1e400}}', 400, "json"),
    (b'{"tool": "bank/echo", "tool": "bank/fail"}', 400, "json"),
    (b'{"tool": "bank/echo", "arguments": {"text": ' + b"[" * 100 + b"]" * 100 + b"}}", 400, "json"),
    (b"", 400, "json"),
    (b"{" + b" " * 5_000_000 + b"}", 413, "too_large"),
]


def test_what_is_no_call_is_refused_and_decides_nothing(folder):
    async def run() -> None:
        async with place(folder) as where:
            task, token = await where.opened()
            for body, status, code in WRONG:
                got, told = await ask(where, "POST", f"/v1/tasks/{task}/authorize", token, body)
                assert (got, told["code"]) == (status, code), (body, told)
            assert await where.records(task, CallDecided) == []

    asyncio.run(run())


def test_a_token_speaks_for_its_own_task_only_and_no_longer_than_it(folder):
    async def run() -> None:
        async with place(folder) as where:
            task, token = await where.opened()
            other, _ = await where.opened()
            for path in ("authorize", "observe"):
                body = ECHO if path == "authorize" else {"decision": "d_x"}
                assert (await ask(where, "POST", f"/v1/tasks/{other}/{path}", token, body))[0] == 404
                assert (await ask(where, "POST", f"/v1/tasks/{task}/{path}", "", body))[0] == 401
                assert (await ask(where, "POST", f"/v1/tasks/{task}/{path}", "nonsense", body))[0] == 401
                svid = await where.node.identities.issue_svid("payer", attested="test")
                assert (await ask(where, "POST", f"/v1/tasks/{task}/{path}", svid, body))[0] == 401
            assert (await ask(where, "POST", f"/v1/tasks/{task}/token", token))[0] == 401  # renews nothing by itself
            assert (await ask(where, "GET", f"/v1/tasks/{other}", token))[0] == 404
            status, seen = await ask(where, "GET", "/v1/tasks/current", token)
            assert (status, seen["task"], seen["mcp"]) == (200, task, {"bank": f"{where.node.configuration.settings.issuer}/mcp/bank"})
            status, allowed = await ask(where, "POST", "/v1/tasks/current/authorize", token, ECHO)
            assert (status, allowed["outcome"], allowed["single_use"]) == (200, "allow", True)
            assert allowed["permit_expires_at"] < seen["deadline"]
            status, done = await ask(where, "POST", f"/v1/tasks/{task}/complete", token)
            assert (status, done["state"]) == (200, TaskState.COMPLETED)
            assert (await ask(where, "POST", "/v1/tasks/current/authorize", token, ECHO))[0] == 401
            assert (await ask(where, "POST", "/v1/tasks/current/observe", token, {"decision": allowed["decision"]}))[0] == 401

    asyncio.run(run())


def test_what_is_told_of_a_call_must_be_of_a_call_under_way(folder):
    async def run() -> None:
        async with place(folder) as where:
            task, token = await where.opened()
            path = f"/v1/tasks/{task}/observe"
            _, denied = await ask(where, "POST", f"/v1/tasks/{task}/authorize", token, {"tool": "bank/slow", "arguments": {"steps": 1}})
            for decision in ("", "d_nobody", denied["decision"], "x" * 10_000, '","'):
                status, told = await ask(where, "POST", path, token, {"decision": decision})
                assert (status, told["code"]) == (409, "not_under_way"), decision
            _, allowed = await ask(where, "POST", f"/v1/tasks/{task}/authorize", token, ECHO)
            for body in (
                {},
                {"decision": allowed["decision"], "ending": "well"},
                {"decision": allowed["decision"], "ending": "not_made"},
                {"decision": allowed["decision"], "more": 1},
            ):
                assert (await ask(where, "POST", path, token, body))[0] == 400
            both = [ask(where, "POST", path, token, {"decision": allowed["decision"], "result": {"x": [1.5, None]}}) for _ in range(2)]
            assert sorted([status for status, _ in await asyncio.gather(*both)]) == [204, 409]
            assert [one.ending for one in await where.until_ended(task, 1)] == ["ok"]

    asyncio.run(run())


def test_resources_and_prompts_are_decided_as_the_gateway_does(folder):
    async def run() -> None:
        async with place(folder) as where:
            task, token = await where.opened()
            for body in ({"resource": "bank/note://x"}, {"prompt": "bank/greet", "arguments": {"name": "bob"}}):
                status, told = await ask(where, "POST", f"/v1/tasks/{task}/authorize", token, body)
                assert (status, told["outcome"], [why["code"] for why in told["reasons"]]) == (200, "deny", ["not_granted"])
            resource, prompt = await where.records(task, CallDecided)
            assert (resource.tool_kind, resource.name, prompt.tool_kind, prompt.name) == ("resource", "note://x", "prompt", "greet")

    asyncio.run(run())

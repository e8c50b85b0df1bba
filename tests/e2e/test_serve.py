"""``remit serve``: agents that run elsewhere open their tasks with the identity they have, over real sockets."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.e2e.conftest import working_folder
from tests.e2e.inside import Inside

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
OPENING = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def http(folder, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{folder.port}{path}", data, method=method)
    request.add_header("Content-Type", "application/json")
    request.add_header("Accept", "application/json, text/event-stream")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def answer(told: tuple[int, dict[str, str], bytes]) -> Any:
    """The JSON-RPC answer; one that took a while comes as a stream of events."""
    _, headers, body = told
    if headers.get("content-type") == "text/event-stream":
        body = next(line for line in reversed(body.splitlines()) if line.startswith(b"data: {")).removeprefix(b"data: ")
    return json.loads(body)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """One server for the module: what each test opens is its own."""
    with pytest.MonkeyPatch.context() as patched, working_folder(tmp_path_factory.mktemp("serving")) as folder:
        patched.setenv("BANK_SECRET", "hunter2")
        assert folder.remit("pin").returncode == 0
        folder.start("serve")
        for _ in range(1_200):
            with contextlib.suppress(OSError):
                if http(folder, "GET", "/readyz")[0] == 200:
                    break
            time.sleep(0.05)
        yield Inside(folder.path, folder.port, folder.started)


def svid(folder, name: str = "payer") -> str:
    return folder.remit("agent", "svid", name).stdout.strip()


def open_task(folder) -> dict[str, Any]:
    status, _, body = http(folder, "POST", "/v1/tasks", svid(folder), {"type": "pay", "inputs": {"who": "bob"}, "on_behalf_of": "alice"})
    assert status == 201, body
    return json.loads(body)


def session(folder, token: str) -> str:
    status, headers, body = http(folder, "POST", "/mcp/bank", token, OPENING)
    assert status == 200, body
    return {name.lower(): value for name, value in headers.items()}["mcp-session-id"]


def test_an_agent_opens_works_on_and_ends_its_task(serving):
    before = len(serving.reached())
    task = open_task(serving)
    assert (task["state"], task["on_behalf_of"]) == ("active", "alice")
    token = task["token"]["access_token"]
    working = session(serving, token)
    assert answer(http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working))["result"]["content"][0]["text"] == "x"
    status, _, body = http(serving, "POST", f"/v1/tasks/{task['task']}/token", svid(serving))
    assert status == 200
    second = json.loads(body)["access_token"]
    status, _, body = http(serving, "POST", f"/v1/tasks/{task['task']}/complete", svid(serving))
    assert (status, json.loads(body)["state"]) == (200, "completed")
    for dead in (token, second):
        assert http(serving, "POST", "/mcp/bank", dead, CALL, Mcp_Session_Id=working)[0] == 401
        assert http(serving, "POST", "/mcp/bank", dead, OPENING)[0] == 401
    assert http(serving, "POST", f"/v1/tasks/{task['task']}/token", svid(serving))[0] == 401
    assert serving.reached()[before:] == ["echo x"]


def test_an_end_at_the_command_line_holds_at_every_door_at_once(serving):
    before = len(serving.reached())
    task = open_task(serving)
    token = task["token"]["access_token"]
    working = session(serving, token)
    assert http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working)[0] == 200
    assert serving.remit("task", "suspend", task["task"]).returncode == 0
    status, _, body = http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working)
    assert status == 200
    assert json.loads(body)["result"]["isError"] is True
    assert serving.remit("task", "resume", task["task"]).returncode == 0
    assert answer(http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working))["result"].get("isError") is not True
    assert serving.remit("task", "revoke", task["task"]).returncode == 0
    status, _, body = http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working)
    assert status == 401 or json.loads(body)["result"]["isError"] is True
    assert len(serving.reached()) == before + 2


def test_everything_without_proof_is_refused_in_the_same_words(serving):
    task = open_task(serving)
    token = task["token"]["access_token"]
    other = open_task(serving)
    answers = {
        http(serving, "POST", "/mcp/bank", bad, OPENING)[2]
        for bad in ("x", token[:-3] + "AAA", svid(serving), token.rsplit(".", 1)[0] + ".", "e30.e30.", "a" * 10_000)
    }
    assert len(answers) == 1
    assert http(serving, "POST", "/mcp/bank", "", OPENING)[0] == 401
    assert http(serving, "POST", "/v1/tasks", token, {"type": "pay"})[0] == 401
    assert http(serving, "POST", "/v1/tasks", "", {"type": "pay"})[0] == 401
    assert http(serving, "GET", "/run/guess/mcp/bank", "")[0] == 401
    foreign = session(serving, other["token"]["access_token"])
    assert http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=foreign)[0] == 404
    refused = [record for record in serving.ledger() if record["kind"] == "token.refused"]
    assert refused
    assert token not in json.dumps(refused)


BAD_REQUESTS = (
    (b"{", 400),
    (b'{"type":"pay","type":"pay"}', 400),
    (b'{"type":"pay","inputs":{"who":"bob"},"extra":1}', 400),
    (b'{"type":5}', 400),
    (b'{"type":"pay"}', 400),
    (b'{"type":"nothing"}', 404),
    (b'{"type":"pay","inputs":{"who":7}}', 400),
    (b"[" * 100_000, 400),
    (b" " * 5_000_000, 413),
)


def test_bad_requests_to_open_a_task(serving):
    proof = svid(serving)
    for body, status in BAD_REQUESTS:
        got, headers, told = http(serving, "POST", "/v1/tasks", proof, body)
        assert got == status, body[:60]
        assert json.loads(told)["code"]
        assert b"Traceback" not in told
        assert "problem+json" in str(headers)


def test_what_is_published(serving):
    bundle = json.loads(http(serving, "GET", "/spiffe/bundle")[2])
    assert [key["use"] for key in bundle["keys"]] == [
        "x509-svid",
        "jwt-svid",
        "jwt-svid",
    ]  # the next key that signs is there before it does
    keys = json.loads(http(serving, "GET", "/oauth/jwks")[2])["keys"]
    assert "d" not in keys[0]
    assert http(serving, "GET", "/ledger/checkpoint")[2].decode().startswith("remit.local/ledger\n")
    assert json.loads(http(serving, "GET", "/openapi.json")[2])["openapi"] == "3.1.0"
    assert http(serving, "GET", "/nothing")[0] == 404
    assert http(serving, "POST", "/mcp/bank", "", OPENING, Host="evil.example")[0] == 403


def test_an_undeclared_agent_gets_nothing(serving):
    done = serving.remit("agent", "svid", "stranger")
    assert done.returncode == 1
    assert "payer" in done.stderr

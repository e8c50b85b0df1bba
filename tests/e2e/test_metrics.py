"""`/metrics` of `remit serve`, read by Prometheus's own parser: true numbers, for this machine only, with names nobody can add to."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from remit.doors.metrics import MetricsDoor
from tests.e2e.test_serve import CALL, OPENING, http, open_task, serving, session  # noqa: F401  # serving is a fixture

_WANTED = {
    "remit_leases",
    "remit_lease_oldest_seconds",
    "remit_lease_revocation_waiting_seconds",
    "remit_lease_revocation_seconds",
    "remit_decisions",
    "remit_tasks",
    "remit_tasks_ended",
    "remit_store_append_seconds",
    "remit_queue_length",
    "remit_missed_entries",
}


def read(text: str) -> dict[tuple[str, frozenset], float]:
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} >= _WANTED
    assert all(family.documentation for family in families)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def look(folder) -> dict[tuple[str, frozenset], float]:
    status, headers, body = http(folder, "GET", "/metrics")
    assert status == 200, body
    assert headers["content-type"].startswith("text/plain; version=")
    return read(body.decode())


def key(name: str, **labels: str) -> tuple[str, frozenset]:
    return name, frozenset(labels.items())


def until(folder, name: str, value: float, **labels: str) -> dict[tuple[str, frozenset], float]:
    end = time.monotonic() + 60
    while (told := look(folder)).get(key(name, **labels)) != value:
        assert time.monotonic() < end, (name, labels, told)
        time.sleep(0.2)
    return told


def test_numbers_follow_what_happens_and_hostile_names_add_none(serving):  # noqa: F811
    before = look(serving)
    task = open_task(serving)
    token = task["token"]["access_token"]
    working = session(serving, token)
    for _ in range(3):
        assert http(serving, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working)[0] == 200
    for number in range(20):  # names of an agent's choice
        hostile = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": f'x{number}"}}\n', "arguments": {}}}
        http(serving, "POST", "/mcp/bank", token, hostile, Mcp_Session_Id=working)
    for number in range(5):  # servers that nobody configured
        asked = {"tool": f"evil{number}/x", "arguments": {}}
        assert http(serving, "POST", f"/v1/tasks/{task['task']}/authorize", token, asked)[0] == 200
    told = until(serving, "remit_decisions_total", 5, server="other", outcome="deny")
    told = until(serving, "remit_decisions_total", 3, server="bank", outcome="allow")
    assert told[key("remit_decisions_total", server="bank", outcome="deny")] == 20
    assert told[key("remit_tasks", state="active")] == 1
    assert told[key("remit_store_append_seconds_count")] > before[key("remit_store_append_seconds_count")]
    assert told[key("remit_missed_entries_total")] == 0
    assert {labels for name, labels in told if name == "remit_decisions_total"} == {
        frozenset({("server", server), ("outcome", outcome)})
        for server, outcome in (("bank", "allow"), ("bank", "deny"), ("other", "deny"))
    }
    assert not any("x1" in str(labels) or "evil" in str(labels) or task["task"] in str(labels) for _, labels in told)
    assert serving.remit("task", "revoke", task["task"]).returncode == 0  # another process
    told = until(serving, "remit_tasks_ended_total", 1, state="revoked")
    assert told[key("remit_tasks", state="active")] == 0
    assert http(serving, "POST", "/metrics", body={})[0] == 404


class _Told:
    async def text(self) -> bytes:
        return b"remit_tasks 1\n"


@pytest.mark.parametrize(
    ("who", "peer", "headers", "status"),
    [
        ("loopback", "127.0.0.1", {}, 200),
        ("loopback", "::1", {"host": "[::1]:7411"}, 200),
        ("loopback", "::ffff:127.0.0.1", {}, 200),
        ("loopback", "192.0.2.7", {}, 404),
        ("loopback", "127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, 404),
        ("loopback", "127.0.0.1", {"forwarded": "for=192.0.2.7"}, 404),
        ("loopback", "127.0.0.1", {"host": "attacker.example"}, 404),
        ("loopback", "127.0.0.1", {"host": "127.0.0.1.attacker.example:7411"}, 404),
        ("anyone", "192.0.2.7", {"host": "remit.internal"}, 200),
        ("off", "127.0.0.1", {}, 404),
    ],
)
def test_only_this_machine_looks_unless_it_is_configured(who, peer, headers, status):
    """The peer is what the server says it is: here a test client's, for no other machine is at hand."""
    door = MetricsDoor(metrics=_Told(), who=who, hosts=frozenset({"127.0.0.1", "localhost", "[::1]"}))
    client = TestClient(door, base_url="http://127.0.0.1:7411", client=(peer, 1234))
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("remit_tasks" in answer.text) == (status == 200)

"""One agent delegates to another, over real sockets: what the child may, who may ask, and what ends it. ``remit kill``."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import remit
from bench.common import free_port
from remit.drivers.keys import load_or_make_keys
from remit.drivers.signing import TokenSigner
from remit.logic.claims import TASK_TYPE
from tests.e2e.conftest import BANK, CEDAR, TASK, TOML
from tests.e2e.inside import Inside
from tests.e2e.test_serve import CALL, answer, http, session, svid

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS = itertools.count(1)
DELEGATION = """
[delegation]
to = ["writer", "helper", "payer", "clerk"]
depth = 2
fan_out = 3
lifetime = "2m"
"""
AGENTS = '\n[agents.writer]\ntasks = []\n[agents.helper]\ntasks = ["pay"]\n[agents.stranger]\ntasks = []\n[agents.clerk]\ntasks = []\n'
PERMIT = """
@id("hands on") permit (principal, action == Action::"task/delegate", resource)
when { resource.name != "clerk" || context.task.depth < 1 };
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = Inside(tmp_path_factory.mktemp("delegation"), free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BANK_SECRET", "hunter2")
        for part in ("tasks", "policies"):
            (folder.path / part).mkdir()
        quoted = {key: json.dumps(str(value)) for key, value in {"python": sys.executable, "bank": BANK, "log": folder.log}.items()}
        (folder.path / "remit.toml").write_text(TOML.format(port=folder.port, **quoted) + AGENTS)
        (folder.path / "policies" / "main.cedar").write_text(CEDAR + PERMIT)
        (folder.path / "tasks" / "pay.toml").write_text(TASK.replace("budget = { calls = 200 }", "budget = { calls = 20 }") + DELEGATION)
        assert folder.remit("pin").returncode == 0
        folder.start("serve")
        until(lambda: ready(folder))
        yield folder
        for process in folder.started:
            process.kill()
            process.communicate()


def ready(folder: Inside) -> bool:
    with contextlib.suppress(OSError):
        return http(folder, "GET", "/readyz")[0] == 200
    return False


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def opened(folder: Inside, agent: str = "payer") -> tuple[str, str]:
    """A new task and its token."""
    status, _, body = http(
        folder, "POST", "/v1/tasks", svid(folder, agent), {"type": "pay", "inputs": {"who": "bob"}, "on_behalf_of": "alice"}
    )
    assert status == 201, body
    task = json.loads(body)
    return task["task"], task["token"]["access_token"]


def delegate(folder: Inside, token: str, agent: str = "writer", task: str = "current", **changes: Any) -> tuple[int, Any]:
    words = {
        "request": f"r{next(REQUESTS)}",
        "agent": agent,
        "objective": "Say hello",
        "grant": [{"tool": "bank/echo", "arguments": {"properties": {"text": {"maxLength": 5}}}, "uses": 2}],
        "calls": 3,
        **changes,
    }
    status, _, body = http(folder, "POST", f"/v1/tasks/{task}/children", token, words)
    return status, json.loads(body)


def child_of(folder: Inside, token: str, agent: str = "writer", **changes: Any) -> tuple[str, str]:
    """A child, asked for by the agent that gets it."""
    status, view = delegate(folder, token, agent, actor_token=svid(folder, agent), **changes)
    assert status == 201, view
    return view["task"], view["token"]["access_token"]


def authorize(folder: Inside, token: str, text: str = "hello") -> str:
    """What is decided of one call: the outcome, or the codes of its reasons."""
    words = {"tool": "bank/echo", "arguments": {"text": text}}
    status, _, body = http(folder, "POST", "/v1/tasks/current/authorize", token, words)
    told = json.loads(body)
    if status != 200:
        return str(status)
    return told["outcome"] if told["outcome"] == "allow" else ",".join(reason["code"] for reason in told["reasons"])


def claims(token: str) -> Any:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_child_may_what_it_was_given_and_no_more_and_the_chain_is_in_the_ledger(serving):
    parent, token = opened(serving)
    child, own = child_of(serving, token)
    assert claims(own)["sub"] == "spiffe://remit.local/agent/writer"
    act = claims(own)["act"]
    assert (act["sub"], act["act"]["sub"]) == ("spiffe://remit.local/agent/writer", "spiffe://remit.local/agent/payer")
    working = session(serving, own)
    assert answer(http(serving, "POST", "/mcp/bank", own, CALL, Mcp_Session_Id=working))["result"]["content"][0]["text"] == "x"
    assert authorize(serving, own, "too long") == "arguments_outside_grant"
    assert authorize(serving, own) == "allow"
    assert authorize(serving, own) == "uses_exhausted"
    shown = json.loads(http(serving, "GET", "/v1/tasks/current", token)[2])
    assert (shown["calls_allowed"], shown["calls_lent"]) == (0, 3)
    tree = json.loads(serving.remit("task", "show", parent, "--json").stdout)["tree"]
    assert [(one["task"], one["depth"]) for one in tree] == [(parent, 0), (child, 1)]
    assert http(serving, "POST", f"/v1/tasks/{child}/complete", own)[0] == 200
    until(lambda: json.loads(http(serving, "GET", "/v1/tasks/current", token)[2])["calls_lent"] == 2)  # what was not spent came back
    kinds = [(record["kind"], record["task"]) for record in serving.ledger() if record["task"] in {parent, child}]
    at = kinds.index(("task.delegated", parent))
    assert kinds[at : at + 3] == [("task.delegated", parent), ("task.opened", child), ("task.moved", child)]
    assert kinds[-1] == ("task.returned", parent)
    decided = next(record["body"] for record in serving.ledger() if record["kind"] == "call.decided" and record["task"] == child)
    assert [line["task"] for line in decided["ancestors"]] == [parent]


def test_a_parent_s_agent_delegates_and_never_holds_the_child_s_token(serving):
    _, token = opened(serving)
    status, view = delegate(serving, token)
    assert status == 201
    assert "token" not in view
    assert http(serving, "POST", f"/v1/tasks/{view['task']}/token", svid(serving, "payer"))[0] == 404
    status, _, body = http(serving, "POST", f"/v1/tasks/{view['task']}/token", svid(serving, "writer"))
    assert status == 200
    assert authorize(serving, json.loads(body)["access_token"]) == "allow"


def refusals(folder: Inside) -> list[str]:
    return [record["body"]["code"] for record in folder.ledger() if record["kind"] == "delegation.refused"]


def test_confused_deputies_are_refused_each_with_its_code(serving):
    parent, token = opened(serving)
    _, sibling = child_of(serving, token)
    other, _ = opened(serving)
    before = len(refusals(serving))

    def refused(code: str, status: int = 403, **named: Any) -> None:
        given = named.pop("token", token)
        found, told = delegate(serving, given, **named)
        assert (found, told["code"]) == (status, code), told

    refused("token_passed_on", actor_token=token)
    refused("token_passed_on", actor_token=sibling)
    refused("wrong_actor", actor_token=svid(serving, "stranger"))
    refused("wrong_actor", agent="writer", actor_token=svid(serving, "helper"))
    refused("parent_mismatch", task=other)
    refused("parent_mismatch", token=sibling, task=parent)
    refused("child_actor_not_allowed", agent="stranger", actor_token=svid(serving, "stranger"))
    refused("child_actor_not_allowed", agent="nobody")
    refused("delegation_cycle", agent="payer")
    refused("delegation_cycle", token=sibling, agent="writer")
    assert delegate(serving, token, request="once")[0] == 201
    refused("delegation_replayed", request="once")
    refused("not_strict_subset", grant=[{"tool": "bank/steal"}])
    refused("not_strict_subset", grant=[{"tool": "bank/*"}])
    refused("budget_short", calls=100)
    refused("policy_denied", token=sibling, agent="clerk", calls=1)
    assert delegate(serving, token)[0] == 201
    refused("fanout_exceeded")
    assert refusals(serving)[before:] == [
        *["token_passed_on"] * 2,
        *["wrong_actor"] * 2,
        *["parent_mismatch"] * 2,
        *["child_actor_not_allowed"] * 2,
        *["delegation_cycle"] * 2,
        "delegation_replayed",
        *["not_strict_subset"] * 2,
        "budget_short",
        "policy_denied",
        "fanout_exceeded",
    ]


def test_a_token_for_another_place_delegates_nothing_and_says_nothing(serving):
    _, token = opened(serving)
    signer = TokenSigner(load_or_make_keys(serving.path / "state" / "keys").tokens)
    elsewhere = signer.sign({**claims(token), "aud": "https://elsewhere.example/mcp"}, TASK_TYPE)
    old = signer.sign({**claims(token), "iat": int((datetime.now(UTC) - timedelta(hours=2)).timestamp()), "exp": 1}, TASK_TYPE)
    before = len(refusals(serving))
    told = [delegate(serving, one) for one in (elsewhere, old, svid(serving), "x.y.z")]
    assert [status for status, _ in told] == [401] * 4
    assert len({json.dumps(body) for _, body in told}) == 1, "the words are the same, whatever was wrong"
    assert refusals(serving)[before:] == ["wrong_audience", "invalid_token", "invalid_token", "invalid_token"]


def test_what_ends_or_suspends_the_parent_holds_below_at_once(serving):
    parent, token = opened(serving)
    child, own = child_of(serving, token, calls=8, grant=[{"tool": "bank/echo"}])
    grandchild, below = child_of(serving, own, "helper", calls=4, grant=[{"tool": "bank/echo"}])
    for one in (own, below):
        assert authorize(serving, one) == "allow"
    assert serving.remit("task", "suspend", parent).returncode == 0
    for one in (own, below):
        assert authorize(serving, one) == "ancestor_not_active"
    assert serving.remit("task", "resume", parent).returncode == 0
    for one in (own, below):
        assert authorize(serving, one) == "allow"
    assert serving.remit("task", "narrow", parent, "--drop", "0").returncode == 0
    for one in (own, below):
        assert authorize(serving, one) == "uses_exhausted"
    assert serving.remit("task", "revoke", parent).returncode == 0
    for one in (own, below):
        assert "allow" not in authorize(serving, one)
        until(lambda one=one: authorize(serving, one) == "401")
    for task in (child, grandchild):
        until(lambda task=task: json.loads(serving.remit("task", "show", task, "--json").stdout)["state"] == "revoked")
    assert delegate(serving, token)[0] == 401


def test_kill_while_calls_are_in_flight(serving):
    parent, token = opened(serving, "helper")
    child, own = child_of(serving, token, "writer", calls=15, grant=[{"tool": "bank/echo"}])
    outcomes: list[str] = []
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            outcomes.append(authorize(serving, own))

    callers = [threading.Thread(target=call_on) for _ in range(2)]
    for caller in callers:
        caller.start()
    until(lambda: "allow" in outcomes)
    killed = serving.remit("kill", "helper", "--reason", "it looks wrong")
    assert killed.returncode == 0, killed.stderr
    assert authorize(serving, own) in {"401", "agent_stopped", "ancestor_not_active,agent_stopped", "budget_exhausted,agent_stopped"}
    stop.set()
    for caller in callers:
        caller.join(30)
    ledger = serving.ledger()
    at = next(index for index, record in enumerate(ledger) if record["kind"] == "agents.stopped")
    after = [record["body"]["outcome"] for record in ledger[at:] if record["kind"] == "call.decided" and record["task"] in {parent, child}]
    assert "allow" not in after
    refused = http(serving, "POST", "/v1/tasks", svid(serving, "payer"), {"type": "pay", "inputs": {"who": "bob"}})
    assert refused[0] == 201, "others go on"
    assert serving.remit("agent", "svid", "helper").returncode == 1
    until(lambda: json.loads(serving.remit("task", "show", child, "--json").stdout)["state"] == "revoked")
    until(lambda: json.loads(serving.remit("agent", "show", "helper", "--json").stdout)["living_tasks"] == [])
    assert json.loads(serving.remit("agent", "show", "helper", "--json").stdout)["stopped"] is True
    listed = json.loads(serving.remit("agent", "list", "--json").stdout)
    assert [one["name"] for one in listed if one["stopped"]] == ["helper"]
    assert serving.remit("agent", "restore", "helper").returncode == 0
    opened(serving, "helper")
    assert authorize(serving, own) == "401", "what has ended stays ended"


def test_kill_all_and_restore(serving):
    _, token = opened(serving)
    assert authorize(serving, token) == "allow"
    policy = serving.path / "policies" / "main.cedar"
    whole = policy.read_text()
    policy.write_text("nonsense")
    assert serving.remit("task", "list").returncode == 2
    assert serving.remit("kill", "--all").returncode == 0, "whatever else is broken"
    policy.write_text(whole)
    assert authorize(serving, token) in {"401", "agent_stopped"}
    assert serving.remit("agent", "svid", "payer").returncode == 1
    assert serving.remit("agent", "restore", "payer").returncode == 2
    assert serving.remit("agent", "restore", "--all").returncode == 0
    assert serving.remit("agent", "svid", "payer").returncode == 0


async def delegate_in_python(folder: Inside) -> tuple[str, str, list[str]]:
    async with remit.open(folder.path) as r, r.task("pay", agent="payer", inputs={"who": "bob"}) as task:
        lines = [{"tool": "bank/send_money", "arguments": {"properties": {"amount": {"maximum": 5}}}}]
        view = await task.delegate("writer", "Pay bob a little", lines, calls=2, inputs={"who": "bob", "why": "a whim"})
        calls = ({"recipient": "bob", "amount": 5}, {"recipient": "bob", "amount": 6}, {"recipient": "eve", "amount": 1})
        async with r.take_up(view.task, agent="writer") as child:
            outcomes = [(await child.authorize("bank/send_money", arguments)).outcome for arguments in calls]
        return view.parent, task.id, outcomes


@pytest.mark.anyio
async def test_delegating_in_python(serving):
    parent, task, outcomes = await delegate_in_python(serving)
    assert parent == task
    assert outcomes == ["ask", "deny", "deny"]

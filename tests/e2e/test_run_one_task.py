"""``remit run``: an agent works on one task, every call is decided and recorded first, and nothing outlives the task."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.inside import Inside


@pytest.fixture
def folder(folder, monkeypatch):
    """Short commands run in this process; ``run`` is one of its own."""
    monkeypatch.setenv("BANK_SECRET", "hunter2")
    return Inside(folder.path, folder.port, folder.started)


def decisions(records):
    return [(record["body"]["name"], record["body"]["outcome"]) for record in records if record["kind"] == "call.decided"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_an_honest_and_a_dishonest_call(folder, mode):
    agent = folder.agent(
        """
        print(sorted(t.name for t in (await c.list_tools()).tools))
        print(json.dumps(next(t.input_schema for t in (await c.list_tools()).tools if t.name == 'send_money')))
        print(text(await c.call_tool('echo', {'text': 'hello'})))
        print(text(await c.call_tool('send_money', {'recipient': 'mallory', 'amount': 5})))
        print(text(await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5})))
        print(text(await c.call_tool('fail', {})))
        print((await c.read_resource('note://a')).contents[0].text)
        print((await c.get_prompt('greet', {'name': 'Al'})).messages[0].content.text)
        sys.stdout.flush()
        os._exit(7)
        """
    )
    done = folder.remit("run", "pay", "-i", "who=bob", "--json", "--", "env", f"MODE={mode}", *agent)
    out = done.stdout.splitlines()
    assert out[0] == "['ask', 'echo', 'fail', 'send_money', 'slow']"
    narrowed = json.loads(out[1])
    assert narrowed["properties"]["recipient"]["const"] == "bob"
    assert narrowed["properties"]["amount"]["maximum"] == 500
    assert out[2] == "hello"
    assert out[3].startswith("E Refused: /recipient")
    assert out[4].startswith("E Not yet: bank/send_money needs a person's approval")
    assert out[5].startswith("E ")
    assert out[6:8] == ["note a", "Greet Al"]
    receipt = json.loads(out[-1])
    assert done.returncode == 7
    assert (receipt["state"], receipt["allowed"], receipt["asked"], receipt["denied"]) == ("completed", 4, 1, 1)
    assert receipt["tokens_alive"] == 0
    assert folder.reached() == ["echo hello", "fail", "note a"]
    records = folder.ledger()
    assert decisions(records) == [
        ("echo", "allow"),
        ("send_money", "deny"),
        ("send_money", "ask"),
        ("fail", "allow"),
        ("note://a", "allow"),
        ("greet", "allow"),
    ]
    endings = [record["body"]["ending"] for record in records if record["kind"] == "call.finished"]
    assert endings == ["ok", "tool_error", "ok", "ok"]
    assert "hello" not in json.dumps(records), "the ledger holds digests, not values"


def test_the_process_gets_no_secret_of_a_server_and_its_access_dies_with_the_task(folder):
    agent = folder.agent(
        """
        pathlib.Path('seen.json').write_text(json.dumps(dict(os.environ)))
        print(text(await c.call_tool('echo', {'text': 'x'})))
        """
    )
    assert folder.remit("run", "pay", "-i", "who=bob", "--", *agent).returncode == 0
    seen = json.loads((folder.path / "seen.json").read_text())
    assert "BANK_SECRET" not in seen
    assert "hunter2" not in json.dumps(seen)
    assert not Path(seen["REMIT_MCP_CONFIG"]).exists()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", urlsplit(seen["REMIT_MCP_URL"]).port), timeout=2):
        pass


def wait_for(what, seconds=90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def waiting(folder):
    found = json.loads(folder.remit("approvals", "--json").stdout)
    return found if isinstance(found, list) else []  # an error, while the run is still pinning its tools


ASK_UNTIL_ANSWERED = """
for _ in range(200):
    r = text(await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5}))
    if not r.startswith('E Not yet'): break
    await asyncio.sleep(0.2)
print(r)
print(text(await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5})))
"""


def test_a_person_approves_from_another_terminal_and_it_opens_one_call(folder):
    running = folder.start("run", "pay", "-i", "who=bob", "--", *folder.agent(ASK_UNTIL_ANSWERED))
    (question,) = wait_for(lambda: waiting(folder))
    assert question["call"] == "tool bank/send_money"
    approved = folder.remit("approve", question["approval"], "--reason", "fine")
    assert approved.returncode == 0, approved.stderr
    out, err = running.communicate(timeout=120)
    assert out.splitlines()[0] == "sent 5 to bob"
    assert out.splitlines()[1].startswith("E Not yet"), "one approval, one call"
    assert "was granted by local:" in err
    assert folder.reached() == ["send_money bob 5"]
    again = folder.remit("approve", question["approval"])
    assert again.returncode != 0
    folder.ledger()


def test_a_denied_question_is_told_to_the_model(folder):
    running = folder.start("run", "pay", "-i", "who=bob", "--", *folder.agent(ASK_UNTIL_ANSWERED))
    (question,) = wait_for(lambda: waiting(folder))
    folder.remit("deny", question["approval"], "--reason", "ask Bob first")
    out, _ = running.communicate(timeout=120)
    assert "refused this call: ask Bob first" in out.splitlines()[0]
    assert folder.reached() == []


def test_an_agent_cannot_answer_its_own_question(folder):
    agent = folder.agent(
        """
        r = await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5})
        asked = r.meta['dev.remit/decision']['approval']
        clean = {k: v for k, v in os.environ.items() if not k.startswith('REMIT_')}
        for environment in (None, clean):
            command = [sys.executable, '-m', 'remit.cli.main', 'approve', asked]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            print(done.returncode, done.stderr.splitlines()[0])
        print(text(await c.call_tool('send_money', {'recipient': 'bob', 'amount': 5})))
        """
    )
    done = folder.remit("run", "pay", "-i", "who=bob", "--", *agent)
    assert [line[:2] for line in done.stdout.splitlines()] == ["1 ", "1 ", "E "]
    assert folder.reached() == []


def test_a_task_revoked_from_outside_ends_at_once(folder):
    agent = folder.agent(
        """
        print(text(await c.call_tool('echo', {'text': 'before'})), flush=True)
        while not pathlib.Path('revoked').exists(): await asyncio.sleep(0.1)
        try: print(text(await c.call_tool('echo', {'text': 'after'})))
        except Exception as error: print('E', error)
        """
    )
    running = folder.start("run", "pay", "-i", "who=bob", "--", *agent)
    wait_for(folder.reached)
    (open_task,) = json.loads(folder.remit("task", "list", "--json").stdout)
    assert folder.remit("task", "revoke", open_task["task"], "--reason", "stop").returncode == 0
    (folder.path / "revoked").write_text("")
    out, err = running.communicate(timeout=120)
    assert "E" in out.splitlines()[-1] or running.returncode != 0
    assert folder.reached() == ["echo before"]
    assert "revoked" in err


def test_signals_are_passed_on_and_the_task_still_ends(folder):
    agent = folder.agent("print(text(await c.call_tool('echo', {'text': 'x'})), flush=True)\nawait asyncio.sleep(60)")
    running = folder.start("run", "pay", "-i", "who=bob", "--", *agent)
    wait_for(folder.reached)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=90)
    assert running.returncode == 128 + signal.SIGTERM
    assert "is completed: the process was ended by SIGTERM" in err
    assert json.loads(folder.remit("task", "list", "--json").stdout) == []


def processes_of(folder):
    """Processes that carry the bank's log in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"BANK_LOG={folder.log}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("after", [0.0, 0.03, 0.11, 0.2])
def test_kill_at_any_point_loses_no_record_and_leaves_no_effect_unrecorded(folder, after):
    agent = folder.agent("for n in range(10_000): await c.call_tool('echo', {'text': str(n)})")
    running = folder.start("run", "pay", "-i", "who=bob", "-q", "--", *agent)
    wait_for(lambda: len(folder.reached()) > 5)
    time.sleep(after)
    running.kill()
    running.communicate(timeout=90)
    wait_for(lambda: not processes_of(folder))
    reached = folder.reached()
    records = folder.ledger()
    allowed = [record for record in records if record["kind"] == "call.decided" and record["body"]["outcome"] == "allow"]
    assert len(reached) <= len(allowed), "an effect without its record"
    assert len(allowed) - len(reached) <= 1
    (open_task,) = json.loads(folder.remit("task", "list", "--json").stdout)
    assert folder.remit("task", "revoke", open_task["task"]).returncode == 0
    after_it = folder.ledger()
    closed = {record["body"]["decision"] for record in after_it if record["kind"] == "call.finished"}
    closed |= set(after_it[-1]["body"]["undetermined"])
    assert closed == {record["body"]["decision"] for record in allowed}, "what the crash left open is closed"


def test_several_at_one_time_share_a_folder(folder):
    folder.remit("pin")
    agent = folder.agent("for n in range(20): await c.call_tool('echo', {'text': str(n)})")
    running = [folder.start("run", "pay", "-i", f"who=w{n}", "-q", "--", *agent) for n in range(3)]
    for one in running:
        _, err = one.communicate(timeout=180)
        assert one.returncode == 0, err
    assert len(folder.reached()) == 60
    assert len(decisions(folder.ledger())) == 60


def test_the_store_is_nobody_elses(folder):
    folder.remit("task", "list")
    for path in (folder.path / "state").rglob("*"):
        assert os.stat(path).st_mode & 0o077 == 0 or path.suffix in {".db-wal", ".db-shm"}, path

"""A task works on a real PostgreSQL with a credential that its agent never sees; afterwards nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.common import free_port
from remit.node_metrics import measured
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers
from tests.e2e.conftest import ROOT
from tests.e2e.inside import Inside
from tests.e2e.python_door import place
from tests.e2e.test_calls_over_http import ask
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = ROOT / "tests" / "servers" / "database.py"
TOML = """
[server]
port = {port}
[agents.clerk]
tasks = ["look"]
[targets.orders]
kind = "postgresql"
url = {url}
{secret}
[servers.db]
command = {python}
args = [{server}]
env = {{ DATABASE_URL = "{{lease:orders.url}}", DATABASE_PASSWORD_FILE = "{{lease-file:orders.password}}" }}
effect = "read"
data_class = "internal"
trust = "trusted"
sends = "nowhere"
"""
TASK = """
objective = "Look at {table}"
data_ceiling = "internal"
deadline = "5m"
[inputs.table]
type = "string"
[[grant]]
tool = "db/*"
[[lease]]
target = "orders"
scope.tables = [{ schema = "public", table = "{table}", allow = ["select"] }]
scope.settings = { table = "{table}" }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    monkeypatch.setenv("ORDERS_ROOT", server.password)
    made = Inside(tmp_path, free_port())
    write(made, server)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def write(folder: Inside, server: PostgresTarget, secret: str = 'secret = "${ORDERS_ROOT}"') -> None:
    for part in ("tasks", "policies"):
        (folder.path / part).mkdir(exist_ok=True)
    quoted = {name: json.dumps(str(value)) for name, value in {"python": sys.executable, "server": SERVER, "url": server.url}.items()}
    (folder.path / "remit.toml").write_text(TOML.format(port=folder.port, secret=secret, **quoted))
    (folder.path / "policies" / "main.cedar").write_text('@id("reads") permit (principal, action in Action::"read", resource);')
    (folder.path / "tasks" / "look.toml").write_text(TASK)


def roles(server: PostgresTarget) -> list[str]:
    with server.root() as root:
        return [row[0] for row in root.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall()]


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_agent_works_with_a_credential_that_it_never_sees(folder, server):
    agent = folder.agent("""
        print('who', text(await c.call_tool('whoami', {})))
        print('rows', text(await c.call_tool('query', {'statement': 'SELECT count(*) FROM orders'})))
        print('beyond', text(await c.call_tool('query', {'statement': 'SELECT * FROM salaries'}))[:1])
        for name in ('environ', 'cmdline'):
            print(name, pathlib.Path('/proc/self', name).read_bytes())
        pid = text(await c.call_tool('whoami', {})).split()[1]
        print('server', pathlib.Path('/proc', pid, 'environ').read_bytes())
    """)
    done = folder.remit("run", "look", "-i", "table=orders", "--json", "--", *agent)
    assert done.returncode == 0, done.stderr
    role, _, same, file = next(line for line in done.stdout.splitlines() if line.startswith("who ")).split()[1:]
    assert same == "True"
    assert "rows 3" in done.stdout
    assert "beyond E" in done.stdout
    # the process of the server has it, and only that: the test reads it from outside, as the same account
    (password,) = set(re.findall(rf"postgresql://{role}:([^@]+)@", done.stdout))
    assert done.stdout.count(password) == 1
    receipt = json.loads(done.stdout.splitlines()[-1])
    assert (receipt["leases_issued"], receipt["leases_revoked"], receipt["leases_standing"]) == (1, 1, [])
    assert 0 < receipt["lease_seconds"] <= receipt["exposure_seconds"] + 10
    assert roles(server) == []
    assert not os.path.exists(file)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://{role}:{password}@127.0.0.1:{server.port}/orders")
    records = folder.ledger()
    kinds = [record["kind"] for record in records if record["kind"].startswith("lease.")]
    assert kinds == ["lease.intended", "lease.issued", "lease.revoked"]
    everything = json.dumps(records) + done.stderr + b"".join(path.read_bytes() for path in folder.path.rglob("*.db*")).decode("latin-1")
    assert password not in everything
    assert server.password not in everything + done.stdout


def test_pin_and_doctor_start_the_server_without_a_credential(folder, server):
    assert folder.remit("pin").returncode == 0
    told = folder.remit("doctor")
    assert "✓ target orders: PostgreSQL 18, as postgres" in told.stdout
    assert told.returncode == 0, told.stdout
    assert roles(server) == []


def test_a_killed_node_leaves_nothing_for_long(folder, server):
    """kill -9 with a live credential: the next node ends the task at its deadline, or an operator does; then it is gone."""
    agent = folder.agent("""
        print(text(await c.call_tool('whoami', {})), flush=True)
        time.sleep(600)
    """)
    running = folder.start("run", "look", "-i", "table=orders", "--quiet", "--", *agent)
    until(lambda: len(roles(server)) == 1)
    until(lambda: len(json.loads(folder.remit("lease", "list", "--json").stdout)) == 1)
    running.kill()
    running.communicate()
    (lease,) = json.loads(folder.remit("lease", "list", "--json").stdout)
    assert (lease["state"], lease["mark"]) == ("issued", roles(server)[0])
    assert lease["may"]["scope"]["tables"] == [{"schema": "public", "table": "orders", "allow": ["select"]}]
    told = folder.remit("lease", "show", lease["lease"]).stdout
    assert "  may       settings: table = orders\n            tables: schema public, table orders: select\n" in told
    watching = folder.start("lease", "list", "--watch")
    assert watching.stdout is not None
    left = []
    while len(set(left)) < 2:  # it counts down
        line = watching.stdout.readline()
        assert lease["lease"] in line
        left.append(int(line.split()[-3]))
    assert left == sorted(left, reverse=True)
    assert folder.remit("task", "revoke", lease["task"]).returncode == 0
    assert roles(server) == []
    while (line := watching.stdout.readline()) != "no lease stands anywhere\n":
        assert lease["lease"] in line
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=60) == 0
    shown = json.loads(folder.remit("lease", "show", lease["lease"], "--json").stdout)
    assert shown["state"] == "revoked"
    assert folder.remit("lease", "list").stdout == "no lease stands anywhere\n"


def test_a_sealed_secret_of_the_target_and_one_that_is_missing(folder, server):
    write(folder, server, secret="")
    agent = folder.agent("print('said', text(await c.call_tool('whoami', {})))")
    refused = folder.remit("run", "look", "-i", "table=orders", "--json", "--", *agent)
    assert "said" not in refused.stdout
    assert "target orders has no secret" in refused.stderr
    assert json.loads(refused.stdout.splitlines()[-1])["leases_standing"] == []
    assert roles(server) == []
    secret = folder.path / "secret"
    secret.write_text(server.password + "\n")
    with secret.open() as file:
        done = subprocess.run(
            folder.command("target", "set-secret", "orders"), stdin=file, env=folder.environment(), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert server.password not in done.stdout + done.stderr
    worked = folder.remit("run", "look", "-i", "table=orders", "--json", "--", *agent)
    assert "said remit_" in worked.stdout
    assert server.password not in json.dumps(folder.ledger())
    assert server.password.encode() not in b"".join(path.read_bytes() for path in folder.path.rglob("*.db*"))


def test_what_the_configuration_refuses(folder, server):
    good = (folder.path / "remit.toml").read_text()
    task = (folder.path / "tasks" / "look.toml").read_text()
    for old, new, wrong in (
        ('secret = "${ORDERS_ROOT}"', 'secret = "hunter2"', "remit.toml:9: targets.orders.secret: a secret stands in this file"),
        ("postgres@127", "postgres:hunter2@127", "a password stands in the url"),
        ("lease:orders.url", "lease:orders.uri", "no 'uri'"),
        ("lease:orders.url", "lease:payroll.url", "has no lease 'payroll'"),
        ('kind = "postgresql"', 'kind = "postgres"', "did you mean 'postgresql'"),
        (f"args = [{json.dumps(str(SERVER))}]", 'args = ["{lease:orders.url}"]', "a lease goes into env or headers only"),
    ):
        assert old in good
        (folder.path / "remit.toml").write_text(good.replace(old, new, 1))
        told = folder.remit("policy", "check")
        assert told.returncode == 2
        assert wrong in told.stderr + told.stdout, (wrong, told.stderr)
        assert "hunter2" not in told.stderr + told.stdout
    (folder.path / "remit.toml").write_text(good)
    for old, new, wrong in (
        ('target = "orders"', 'target = "payroll"', "tasks/look.toml:10: lease.0.target"),
        ('allow = ["select"]', 'allow = ["all"]', "of: select, insert, update, delete"),
        ('table = "{table}", allow', 'table = "{tabel}", allow', "{tabel} is not a declared input"),
        ("scope.tables", "part = [{ tools = ['db/*'] }]\nscope.tables", "each by its whole name"),
        ("scope.tables", "part = [{ tools = ['mail/whoami'] }]\nscope.tables", "no [[grant]] names the tool 'mail/whoami'"),
        (
            "scope.tables",
            "part = [{ tools = ['db/whoami'], scope.settings = { a = 1 } }]\nscope.tables",
            "scope.settings cannot be divided",
        ),
        ("scope.tables", "part = [{ tools = ['db/whoami'], scope.tables = 'all' }]\nscope.tables", "a part adds to lists"),
        (
            "scope.tables",
            "part = [{ tools = ['db/whoami'], scope.tables = [{ table = 'x' }] }]\nscope.tables",
            "an entry of the scope has exactly",
        ),
        ("scope.tables", "part = [{ tools = ['db/whoami'], arguments = { a = '{b}' } }]\nscope.tables", "{b} is not a declared input"),
    ):
        assert old in task
        (folder.path / "tasks" / "look.toml").write_text(task.replace(old, new, 1))
        told = folder.remit("policy", "check")
        assert told.returncode == 2
        assert wrong in told.stderr + told.stdout, (wrong, told.stderr)


def test_a_lease_that_a_child_gets_whole_or_not_at_all_is_warned_of(folder, server):
    task = (folder.path / "tasks" / "look.toml").read_text()
    delegable = task + '\n[delegation]\nto = ["clerk"]\n'
    (folder.path / "tasks" / "look.toml").write_text(delegable)
    assert folder.remit("pin").returncode == 0
    told = folder.remit("policy", "check", "--json")
    assert told.returncode == 0, "a warning"
    (one,) = json.loads(told.stdout)["findings"]
    assert (one["level"], one["code"], one["policy"]) == ("warning", "undivided", "lease orders")
    line = task.splitlines().index("[[lease]]") + 1
    assert (one["place"]["file"], one["place"]["line"], one["place"]["key"]) == ("tasks/look.toml", line, "lease.0")
    assert "lease_not_divisible" in one["text"]
    assert "[[lease.part]]" in one["hint"]
    assert "schemas, sequences, tables" in one["hint"]
    assert f"tasks/look.toml:{line}: lease.0: warning: lease orders: it has no parts" in told.stderr
    assert folder.remit("policy", "check", "--strict").returncode == 1
    parts = "part = [{ tools = ['db/whoami'], scope.sequences = [{ schema = 'public', sequence = 'orders_id', allow = ['usage'] }] }]"
    (folder.path / "tasks" / "look.toml").write_text(delegable.replace("scope.tables", f"{parts}\nscope.tables", 1))
    told = folder.remit("policy", "check", "--json")
    assert json.loads(told.stdout)["findings"] == [], told.stdout
    (folder.path / "tasks" / "look.toml").write_text(task)
    assert json.loads(folder.remit("policy", "check", "--json").stdout)["findings"] == []


def test_a_credential_taken_away_under_a_running_task_is_replaced(folder, server):
    """By an operator, while `remit run` serves the task: its process ends with its credential, and the next call has a new one."""
    agent = folder.agent("""
        print('first', text(await c.call_tool('whoami', {})).split()[0], flush=True)
        input()
        print('second', text(await c.call_tool('whoami', {})).split()[0], flush=True)
        input()
    """)
    process = subprocess.Popen(
        folder.command("run", "look", "-i", "table=orders", "--json", "--", *agent),
        env=folder.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.path,
    )
    folder.started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    first = process.stdout.readline().split()[1]
    (lease,) = json.loads(folder.remit("lease", "list", "--json").stdout)
    assert folder.remit("lease", "revoke", lease["lease"], "--reason", "leaked").returncode == 0
    assert roles(server) == []
    until(lambda: not Path(f"/proc/{process.pid}").exists() or "database.py" not in children(process.pid))
    process.stdin.write("\n")
    process.stdin.flush()
    second = process.stdout.readline().split()[1]
    assert second.startswith("remit_")
    assert second != first
    assert roles(server) == [second]
    assert folder.remit("task", "suspend", lease["task"]).returncode == 0
    until(lambda: roles(server) == [])
    receipt = json.loads(process.communicate("\n")[0].splitlines()[-1])
    assert (receipt["leases_issued"], receipt["leases_revoked"], receipt["leases_standing"]) == (2, 2, [])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_credential_is_rotated_under_a_running_task(folder, server, mode):
    """From the command line, while `remit run` serves the task: no call fails, in a session neither, and the old one is due."""
    agent = folder.agent("""
        print('first', text(await c.call_tool('whoami', {})).split()[0], flush=True)
        input()
        print('second', text(await c.call_tool('whoami', {})).split()[0], flush=True)
        print('rows', text(await c.call_tool('query', {'statement': 'SELECT count(*) FROM orders'})), flush=True)
    """)
    process = subprocess.Popen(
        folder.command("run", "look", "-i", "table=orders", "--json", "--", *agent),
        env={**folder.environment(), "MODE": mode},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.path,
    )
    folder.started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    first = process.stdout.readline().split()[1]
    (lease,) = json.loads(folder.remit("lease", "list", "--json").stdout)
    rotated = folder.remit("lease", "rotate", lease["lease"], "--json")
    assert rotated.returncode == 0, rotated.stderr
    made = json.loads(rotated.stdout)
    assert (made["state"], made["replaces"], made["target"]) == ("issued", lease["lease"], "orders")
    shown = json.loads(folder.remit("lease", "show", lease["lease"], "--json").stdout)
    assert (shown["state"], shown["replaced_at"] is None) == ("issued", False)
    again = folder.remit("lease", "rotate", lease["lease"])
    assert (again.returncode, "is replaced" in again.stderr) == (2, True), again.stderr
    out, _ = process.communicate("\n")
    second = next(line for line in out.splitlines() if line.startswith("second ")).split()[1]
    assert (second, second != first) == (made["mark"], True)
    assert "rows 3" in out
    receipt = json.loads(out.splitlines()[-1])
    assert (receipt["leases_issued"], receipt["leases_revoked"], receipt["leases_standing"]) == (2, 2, [])
    assert roles(server) == []


def children(pid: int) -> str:
    """Command lines of a process's children."""
    told = subprocess.run(["ps", "--ppid", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return told.stdout


@pytest.mark.anyio
async def test_a_task_sees_its_own_leases_over_http_and_no_others(folder, server):
    await pin_servers(load_configuration(folder.path), ["db"], only_new=True)
    async with place(folder.path) as where:
        tokens = []
        for _ in range(2):
            proof = await where.node.identities.issue_svid("clerk", attested="a test")
            _, opened = await ask(where, "POST", "/v1/tasks", proof, {"type": "look", "inputs": {"table": "orders"}})
            tokens.append((opened["task"], opened["token"]["access_token"]))
        (task, token), (_, other) = tokens
        minted = await where.node.leases.leases.have(task, "orders")
        status, told = await ask(where, "GET", "/v1/leases", token)
        assert status == 200
        (lease,) = told["leases"]
        assert (lease["target"], lease["state"]) == ("orders", "issued")
        assert lease["may"] == ["settings: table = orders", "tables: schema public, table orders: select"]
        assert (lease["scope"]["settings"], lease["parts"]) == ({"table": "orders"}, [])
        assert 0 < lease["seconds_left"] <= 300
        assert minted.parts["password"] not in json.dumps(told)
        assert (await ask(where, "GET", "/v1/leases", other))[1] == {"leases": []}
        assert (await ask(where, "GET", "/v1/leases", "nobody"))[0] == 401
        assert (await ask(where, "GET", "/v1/leases", ""))[0] == 401
        status, _ = await ask(where, "POST", f"/v1/tasks/{task}/complete", token)
        assert status == 200
        assert roles(server) == [], "the answer to the end comes after the revocation"


@pytest.mark.anyio
async def test_the_metrics_tell_what_stands_and_how_long_it_has_had_to_go(folder, server):
    await pin_servers(load_configuration(folder.path), ["db"], only_new=True)
    async with place(folder.path) as where, measured(where.node) as app:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

            async def told_until(**wanted: float) -> dict[str, float]:
                end = time.monotonic() + 90
                while True:
                    families = text_string_to_metric_families((await client.get("/metrics")).text)
                    samples = [sample for family in families for sample in family.samples if sample.labels.get("target") == "orders"]
                    told = {sample.name + sample.labels.get("state", ""): sample.value for sample in samples if "le" not in sample.labels}
                    if all(told.get(name) == value for name, value in wanted.items()):
                        return told
                    assert time.monotonic() < end, told
                    await asyncio.sleep(0.2)

            proof = await where.node.identities.issue_svid("clerk", attested="a test")
            _, opened = await ask(where, "POST", "/v1/tasks", proof, {"type": "look", "inputs": {"table": "orders"}})
            assert (await told_until(remit_leasesissued=0))["remit_lease_oldest_seconds"] == 0
            await where.node.leases.leases.have(opened["task"], "orders")
            told = await told_until(remit_leasesissued=1, remit_lease_revocation_waiting_seconds=0)
            assert told["remit_lease_oldest_seconds"] > 0
            server.stop()
            try:
                await ask(where, "POST", f"/v1/tasks/{opened['task']}/complete", opened["token"]["access_token"])
                told = await told_until(remit_leasesissued=0, remit_leasesrevoking=1)
                assert 0 < told["remit_lease_revocation_waiting_seconds"] <= told["remit_lease_oldest_seconds"]
            finally:
                server.start()
            told = await told_until(remit_lease_revocation_seconds_count=1, remit_leasesrevoking=0, remit_lease_oldest_seconds=0)
            assert told["remit_lease_revocation_seconds_sum"] > 0

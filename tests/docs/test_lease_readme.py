"""The README's section on credentials for one task: its configuration and its commands, as they stand there, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.servers.postgres import postgres_target

ROOT = Path(__file__).parent.parent.parent
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A credential for one task\n")[2].partition("\n## ")[0]
CODE = "\n".join(line.removeprefix("    ") if line.startswith("    ") else "" for line in SECTION.splitlines())
REMIT_TOML, TASK_TOML = re.findall(r"^# (?:remit|tasks/look-into)\.toml\n((?:(?!remit |#).*\n)+)", CODE, re.MULTILINE)
PIN, SET_SECRET, ROTATE, DOCTOR, RUN, WATCH, REVOKE = re.findall(r"^(remit .*?)(?: {2,}#.*)?$", CODE, re.MULTILINE)
SERVER = """
effect = "read"
data_class = "internal"
trust = "trusted"
sends = "nowhere"
[agents.clerk]
tasks = ["look-into"]
"""
TASK = """
objective = "Look into {table}"
data_ceiling = "internal"
deadline = "5m"
[inputs.table]
type = "string"
[[grant]]
tool = "db/*"
"""
AGENT = """
import asyncio, os, pathlib
from mcp import Client
async def main():
    async with Client(os.environ["REMIT_MCP_URL"]) as client:
        ask = lambda: client.call_tool("query", {"statement": "SELECT session_user, count(*) FROM orders"})
        print("first", (await ask()).content[0].text, flush=True)
        while not pathlib.Path("revoked").exists():
            await asyncio.sleep(0.05)
        print("second", (await ask()).content[0].text, flush=True)
asyncio.run(main())
"""


def test_the_commands_of_the_readme(tmp_path):
    with postgres_target() as server:
        with server.root() as root:
            for statement in (
                "CREATE ROLE remit LOGIN CREATEROLE PASSWORD 'known-to-others'",
                "GRANT CONNECT ON DATABASE orders TO remit WITH GRANT OPTION",
                "GRANT USAGE ON SCHEMA public TO remit WITH GRANT OPTION",
                "GRANT SELECT ON orders TO remit WITH GRANT OPTION",
            ):
                root.execute(statement.encode())
        database = ROOT / "tests" / "servers" / "database.py"
        command = f"command = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(database))}]"
        assert '"my-database-server"' in REMIT_TOML
        text = REMIT_TOML.replace(":5432/", f":{server.port}/").replace('command = "my-database-server"', command)
        (tmp_path / "remit.toml").write_text(text + SERVER)
        for part in ("tasks", "policies"):
            (tmp_path / part).mkdir()
        (tmp_path / "tasks" / "look-into.toml").write_text(TASK + TASK_TOML)
        (tmp_path / "policies" / "main.cedar").write_text('@id("reads") permit (principal, action in Action::"read", resource);')
        (tmp_path / "secret").write_text("known-to-others\n")
        (tmp_path / "agent.py").write_text(AGENT)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}

        def started(command: str) -> subprocess.Popen[str]:
            return subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True)

        def done(command: str) -> str:
            process = started(command)
            told = process.communicate(timeout=120)
            assert process.returncode == 0, (command, told)
            return told[0]

        for command in (PIN, SET_SECRET, ROTATE, DOCTOR):
            done(command)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"host=127.0.0.1 port={server.port} user=remit password=known-to-others dbname=orders")
        running = started(RUN)
        end = time.monotonic() + 90
        while not (leases := json.loads(done("remit lease list --json"))) or leases[0]["state"] != "issued":
            assert time.monotonic() < end
        watching = started(f"exec {WATCH}")
        assert watching.stdout is not None
        assert any(leases[0]["lease"] in line for line in watching.stdout), watching.communicate()  # it goes on until somebody stops it
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=120)
        assert watching.returncode == 0
        done(REVOKE.replace("LEASE", leases[0]["lease"]))
        (tmp_path / "revoked").touch()
        told, receipt = running.communicate(timeout=120)
        assert running.returncode == 0, receipt
        assert told.count("remit_") == 2, told
        first, second = re.findall(r"^(?:first|second) (remit_\w+),3$", told, re.MULTILINE)
        assert first != second
        assert "2 issued, 2 confirmed gone" in receipt
        with server.root() as root:
            assert root.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchall() == [(0,)]

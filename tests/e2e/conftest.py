"""A working folder with the test bank behind stdio, and ways to run remit as its users do: as a process."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.common import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
BANK = ROOT / "tests" / "servers" / "bank.py"
REMIT = [sys.executable, "-m", "remit.cli.main"]
TOML = """
[server]
port = {port}
[agents.payer]
tasks = ["pay"]
[servers.bank]
command = {python}
args = [{bank}, "--stdio"]
env = {{ BANK_LOG = {log}, BANK_SECRET = "${{BANK_SECRET}}" }}
data_class = "internal"
trust = "trusted"
sends = "nowhere"
[tools."bank/echo"]
effect = "read"
[tools."bank/slow"]
effect = "read"
[tools."bank/fail"]
effect = "read"
[tools."bank/ask"]
effect = "read"
[tools."bank/send_money"]
effect = "irreversible"
sends = "external"
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("approved") permit (principal, action, resource) when { context has approval };
"""
TASK = """
objective = "Pay {who}"
data_ceiling = "internal"
deadline = "5m"
budget = { calls = 200 }
[inputs.who]
type = "string"
[[grant]]
tool = "bank/echo"
[[grant]]
tool = "bank/slow"
[[grant]]
tool = "bank/fail"
[[grant]]
tool = "bank/ask"
[[grant]]
tool = "bank/send_money"
arguments.properties.recipient.const = "{who}"
arguments.properties.amount.maximum = 500
[[grant]]
resource = "bank/note://*"
[[grant]]
prompt = "bank/greet"
"""


@dataclass
class Folder:
    """One working folder and its commands."""

    path: Path
    port: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.path / "bank.log"

    def reached(self) -> list[str]:
        """What really reached the bank."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REMIT_")}
        return {**inherited, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "BANK_SECRET": "hunter2"}

    def command(self, *words: str) -> list[str]:
        """The command line, with the folder named behind the command's own words."""
        own = 2 if words[0] in {"task", "ledger", "policy", "agent", "lease", "target", "keys"} else 1
        return [*REMIT, *words[:own], "-C", str(self.path), *words[own:]]

    def remit(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environment(), capture_output=True, text=True, check=False, timeout=timeout, cwd=self.path
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*words), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.path
        )
        self.started.append(process)
        return process

    def agent(self, body: str) -> list[str]:
        """A command that runs a real MCP client; ``body`` is code with ``c`` connected to the bank."""
        lines = "\n".join(f"        {line}" for line in textwrap.dedent(body).strip().splitlines())
        script = self.path / f"agent{len(list(self.path.glob('agent*.py')))}.py"
        script.write_text(
            "import asyncio, json, os, sys, signal, pathlib, subprocess, time\n"
            "from mcp import Client\n"
            "def text(r): return ('E ' if r.is_error else '') + r.content[0].text.splitlines()[0]\n"
            "async def main():\n"
            "    async with Client(os.environ['REMIT_MCP_URL'], mode=os.environ.get('MODE', 'auto')) as c:\n"
            f"{lines}\n"
            "asyncio.run(main())\n"
        )
        return [sys.executable, str(script)]

    def ledger(self) -> list[dict]:
        """All records, after the export was verified with nothing but the key."""
        export = self.path / "export.txt"
        assert self.remit("ledger", "export", str(export)).returncode == 0
        key = self.remit("ledger", "key").stdout.strip()
        command = [*REMIT, "ledger", "verify", str(export), "--key", key]
        verified = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return [json.loads(base64.b64decode(line.split()[1])) for line in export.read_text().splitlines() if line.startswith("entry ")]


@contextlib.contextmanager
def working_folder(path: Path) -> Iterator[Folder]:
    """Such a folder; what was started in it ends with it."""
    port = free_port()
    made = Folder(path, port)
    (path / "tasks").mkdir()
    (path / "policies").mkdir()
    quoted = {"python": json.dumps(sys.executable), "bank": json.dumps(str(BANK)), "log": json.dumps(str(made.log))}
    (path / "remit.toml").write_text(TOML.format(port=port, **quoted))
    (path / "policies" / "main.cedar").write_text(CEDAR)
    (path / "tasks" / "pay.toml").write_text(TASK)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with working_folder(tmp_path) as made:
        yield made

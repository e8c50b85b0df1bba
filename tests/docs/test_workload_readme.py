"""The README's section on SVIDs for processes: its configuration and its commands, as they stand there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from bench.common import free_port

ROOT = Path(__file__).parent.parent.parent
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## SVIDs for processes\n")[2].partition("\n## ")[0]
CODE = "\n".join(line.removeprefix("    ") if line.startswith("    ") else "" for line in SECTION.splitlines())
TOML = re.findall(r"^\[.*\n(?:.+\n)*", CODE, re.MULTILINE)
COMMANDS = re.findall(r"^(?:remit run|SPIFFE_ENDPOINT).*\\\n.*$", CODE, re.MULTILINE)
FOLDER = """
[server]
port = {port}
[agents.writer]
tasks = ["pay-bill"]
[agents.reader]
[servers.bank]
command = {python}
args = [{bank}, "--stdio"]
env = {{ BANK_LOG = "bank.log", BANK_SECRET = "x" }}
"""
TASK = """
objective = "Pay the bill in {bill}"
[inputs.bill]
type = "string"
[[grant]]
tool = "bank/echo"
"""


def test_a_stock_client_gets_its_svid(tmp_path):
    assert len(COMMANDS) == 2
    assert len(TOML) == 3
    port = free_port()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "pay-bill.toml").write_text(TASK)
    bank = json.dumps(str(ROOT / "tests" / "servers" / "bank.py"))
    text = FOLDER.format(port=port, python=json.dumps(sys.executable), bank=bank) + "\n".join(TOML)
    (tmp_path / "remit.toml").write_text(text.replace("uid = 1001", f"uid = {os.getuid()}"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}

    def done(command: str) -> str:
        answer = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout.strip()

    assert done(COMMANDS[0]) == "spiffe://remit.local/agent/writer"
    serve = subprocess.Popen([sys.executable, "-m", "remit.cli.main", "serve"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1_200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60):
                break
            time.sleep(0.05)
        assert done(COMMANDS[1]) == "spiffe://remit.local/agent/reader"
    finally:
        serve.terminate()
        serve.wait(30)

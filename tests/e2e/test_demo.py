"""`make demo`, as it is: whoever runs it sees a hijacked agent fail, and the credential it worked with gone from the database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.e2e.conftest import REMIT, ROOT

if TYPE_CHECKING:
    from pathlib import Path

SECONDS_MAX = 400.0
PROMPT = "n and Enter prints a new link: "


def test_the_demo_holds_what_it_shows(tmp_path):
    environment = {**os.environ, "COLUMNS": "250"}  # of the terminal: a row of the table is a line
    command = [sys.executable, "-m", "demo", "--console"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as demo:
        over = threading.Timer(SECONDS_MAX, demo.kill)
        over.start()
        try:
            shown = until_prompt(demo)
            answer_both(shown, tmp_path)
            shown += demo.communicate("\n")[0]
        finally:
            over.cancel()
            demo.kill()
    assert demo.returncode == 0, shown
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if line.startswith("│")]
    came_to = {row[0]: tuple(row[1:]) for row in rows}
    tried = {what: cells for what, cells in came_to.items() if cells[0] in {"did it", "could not"}}
    assert len(tried) == 9
    assert {cells[:2] for cells in tried.values()} == {("did it", "could not")}
    assert "permission denied for table salaries" in came_to["read a table beyond its task"][2]  # remit allowed the call, the role may not
    assert came_to["data that left the house"][:2] == ("messages: 1", "messages: 0")
    (role,) = re.findall(r"role (remit_[a-z2-7]{25}) is gone", shown)
    assert "that open session: terminating connection due to administrator command" in shown
    assert f'the old password:  password authentication failed for user "{role}"' in shown
    assert "app (for ever)" in shown
    seconds = re.findall(r"leases +1 issued, 1 confirmed gone, exposed for ([\d.]+) s", shown)
    assert came_to["how long a stolen password opens the database"][:2] == ("without end", f"{seconds[0]} s")
    assert not re.search(r"postgresql://[^ ]*:[^ ]*@", shown)
    assert re.search(r"Open once, within a minute: http://localhost:\d+/console/sign-in/link/\S+", shown)


def until_prompt(demo: subprocess.Popen[str]) -> str:
    assert demo.stdout is not None
    shown = ""
    while not shown.endswith(PROMPT):
        read = demo.stdout.read(1)
        assert read, shown
        shown += read
    return shown


def answer_both(shown: str, scratch: Path) -> None:
    """From another terminal, by the commands that the demo names: approve the carpenter's bill, deny the other, verify the ledger."""
    (folder,) = re.findall(r"remit approvals -C (\S+)", shown)
    environment = {name: value for name, value in os.environ.items() if name != "ORDERS_ROOT"}

    def remit(*words: str) -> str:
        done = subprocess.run([*REMIT, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def asked(word: str) -> str:
        for _ in range(120):
            waiting = json.loads(remit("approvals", "-C", folder, "--json"))
            for one in waiting:
                if word in json.dumps(one):
                    return str(one["approval"])
            time.sleep(0.5)
        raise AssertionError(f"nobody asks about {word}")

    remit("approve", asked("carpenter@shop.example"), "-C", folder, "--reason", "ordered")
    remit("deny", asked("eve@evil.example"), "-C", folder, "--reason", "nobody knows her")
    exported = scratch / "ledger.txt"
    remit("ledger", "export", "-C", folder, str(exported))
    assert remit("ledger", "verify", str(exported), "--key", remit("ledger", "key", "-C", folder).strip()).startswith("verified: ")

"""`make demo`, as it is: whoever runs it sees a hijacked agent fail, and the credential it worked with gone from the database."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.e2e.conftest import ROOT


def test_the_demo_holds_what_it_shows():
    environment = {**os.environ, "COLUMNS": "250"}  # of the terminal: a row of the table is a line
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--console"],  # as at a terminal, with nobody there
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    shown = done.stdout
    assert done.returncode == 0, shown + done.stderr
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

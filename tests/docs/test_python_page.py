"""The examples of docs/python.md run, in the order in which they stand there, each as a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAYS = ["ask a person: apr_", "deny ['arguments_outside_grant']", "{'to': 'bob', 'amount': 120}\ndeny"]


def test_the_examples_run(tmp_path):
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    files = [(name, code) for _, name, code in blocks if name]
    programs = [code for kind, name, code in blocks if kind == "python" and not name]
    assert (len(files), len(programs)) == (4, 5)
    for name, code in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path}"}
    words = [[sys.executable, "-m", "remit.cli.main", "pin"], *([sys.executable, "-c", code] for code in programs)]
    answers = []
    for command in words:
        answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        answers.append(answer.stdout)
    for said, answer in zip(SAYS, answers[1:], strict=False):
        assert said in answer

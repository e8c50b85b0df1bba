"""Security promises, their tests and SECURITY.md agree, both ways."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.promises import PROMISES

ROOT = Path(__file__).parent.parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def _tests_of(path: Path) -> set[str]:
    """Names of the tests of a file; a machine of Hypothesis is one."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.startswith("Test"):
            found.add(node.targets[0].id)
    return found


def test_every_promise_has_tests_that_exist():
    for promise in PROMISES:
        assert promise.tests, promise.says
        for name in promise.tests:
            path, _, test = name.partition("::")
            there = _tests_of(ROOT / path)
            assert there, name
            assert not test or test in there, name


def test_every_law_serves_a_promise():
    named = {name for promise in PROMISES for name in promise.tests}
    for path in sorted([*(ROOT / "tests" / "property").glob("test_*.py"), *(ROOT / "tests" / "simulation").glob("test_*.py")]):
        file = path.relative_to(ROOT).as_posix()
        assert file in named or all(f"{file}::{test}" in named for test in _tests_of(path)), f"{file}: which promise does it hold?"


def test_security_md_lists_the_promises_and_each_attacker_is_held_by_one():
    section = SECURITY.partition("## What is promised")[2].partition("\n## ")[0]
    listed = [re.sub(r"\s+", " ", item) for item in re.findall(r"^- (.+(?:\n  .+)*)", section, re.MULTILINE)]
    assert listed == [promise.says for promise in PROMISES]
    rows = re.findall(r"^\| ([^|]+?) \|", SECURITY.partition("| --- |")[2].partition("\n\n")[0], re.MULTILINE)
    attackers = {words for promise in PROMISES for words in promise.against}
    assert rows
    assert attackers == set(rows)

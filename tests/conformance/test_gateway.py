"""The public MCP conformance suite as the child of ``remit run``: nothing that passes straight is lost through the gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.suite import LEGS, Finding, Leg, lost, run_suite
from tests.e2e.gateway import ROOT, http, http_server, stdio

GRANTS = "".join(f'[[grant]]\n{kind} = "everything/*"\n' for kind in ("tool", "resource", "prompt"))
TASK = f'objective = "Run the suite"\ndata_ceiling = "public"\ndeadline = "30m"\nbudget = {{ calls = 10000 }}\n{GRANTS}'
# What is not lost but told differently through the gateway would be named here, with its reason. There is nothing.
DIFFERENT: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http_server("everything.py") as url:
        yield url


@pytest.fixture(scope="module")
def straight(address: str, tmp_path_factory: pytest.TempPathFactory) -> object:
    @cache
    def run(leg: Leg) -> dict[str, Finding]:
        return run_suite(leg, url=address, output=tmp_path_factory.mktemp("straight"))

    return run


@pytest.fixture(params=["http", "stdio"])
def folder(request: pytest.FixtureRequest, address: str, tmp_path: Path) -> Path:
    server = http("everything", address) if request.param == "http" else stdio("everything", "everything.py", "--stdio")
    files = {
        "remit.toml": f'[agents.suite]\ntasks = ["suite"]\n{server}',
        "tasks/suite.toml": TASK,
        "policies/main.cedar": '@id("all") permit (principal, action, resource);\n',
    }
    for name, text in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(text, encoding="utf-8")
    return tmp_path / "folder"


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_nothing_is_lost_through_the_gateway(leg: Leg, straight, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = straight(leg)
    assert [name for name, finding in direct.items() if finding.scored and not finding.passed] == []
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    command = [sys.executable, "-m", "remit.cli.main", "run", "-C", str(folder), "--quiet", "suite", "--"]
    through = run_suite(leg, output=folder / "found", command=lambda suite: [*command, *suite])
    gone = [line for line in lost(direct, through) if line.partition(":")[0] not in DIFFERENT]
    assert gone == [], (folder / "found" / "printed.txt").read_text(encoding="utf-8")[-3000:]

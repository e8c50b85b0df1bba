"""The public MCP conformance suite as the child of ``remit run``: nothing that passes straight is lost through the gateway."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.report import README, run_through, stated, title, word, write_folder
from tests.conformance.suite import LEGS, Finding, Leg, lost, run_suite
from tests.e2e.gateway import ROOT, http_server

# What is not lost but told differently through the gateway would be named here, with its reason. There is nothing.
DIFFERENT: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http_server("everything.py") as url:
        yield url


@pytest.fixture(scope="module")
def straight(address: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Leg], Mapping[str, Finding]]:
    @cache
    def run(leg: Leg) -> Mapping[str, Finding]:
        return run_suite(leg, url=address, output=tmp_path_factory.mktemp("straight"))

    return run


@pytest.mark.parametrize("kind", ["http", "stdio"])
@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_nothing_is_lost_through_the_gateway_and_the_lists_say_so(
    leg: Leg,
    kind: str,
    address: str,
    straight: Callable[[Leg], Mapping[str, Finding]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct = straight(leg)
    assert [name for name, finding in direct.items() if finding.scored and not finding.passed] == []
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    through = run_through(leg, write_folder(tmp_path / "folder", kind, address))
    gone = [line for line in lost(direct, through) if line.partition(":")[0] not in DIFFERENT]
    assert gone == [], (tmp_path / "folder" / "found" / "printed.txt").read_text(encoding="utf-8")[-3000:]
    for way, findings in (("straight", direct), (kind, through)):
        told = stated(leg, way)
        assert told.keys() == findings.keys()
        different = [name for name, finding in findings.items() if finding.scored and told[name] != word(finding)]
        assert different == [], "docs/conformance.md says something else: python -m tests.conformance.report"
    counted = [one for one in direct.values() if one.scored]
    assert f"| {title(leg)} | {len(counted)} | {len(counted)} | {len(counted)} | {len(counted)} |" in README.read_text(encoding="utf-8")

"""The documents agree with the code."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import click
from click.testing import CliRunner

from bench.__main__ import PARTS
from remit.cli.main import main
from remit.doors.api.openapi import openapi
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.logic.denial_reasons import DENIAL_REASONS
from remit.model.decision import Code
from remit.settings import Limits

ROOT = Path(__file__).parent.parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_openapi_file_is_what_the_api_speaks():
    assert json.loads(read("docs/openapi.json")) == openapi()


def test_every_reason_is_documented():
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", read("docs/reasons.md"), re.MULTILINE))
    assert documented == {code.value for code in Code}


def test_the_closed_set_is_documented_as_it_is_mapped():
    documented = dict(re.findall(r"^- `([a-z_]+)`: (.*)$", read("docs/reasons.md"), re.MULTILINE))
    mapped: dict[str, list[str]] = {}
    for code, word in DENIAL_REASONS.items():
        if word:
            mapped.setdefault(word, []).append(code.value)
    assert documented == {word: ", ".join(codes) for word, codes in mapped.items()}


def test_what_can_be_divided_of_a_scope_is_documented():
    table = read("docs/targets.md").partition("| kind | lists of a part |")[2].partition("## ")[0]
    documented = {kind: words.replace("`", "").split(", ") for kind, words in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)}
    assert documented == {name: sorted(kind.divisible) for name, kind in TARGET_KINDS.items() if kind.divisible}


def test_every_limit_is_documented():
    text = read("docs/configuration.md")
    assert [bound.name for bound in fields(Limits) if f"`{bound.name}`" not in text] == []


def test_every_command_is_in_the_readme_and_tells_what_it_does():
    readme = read("README.md")
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None, name
        assert f"remit {name}" in readme, name
        assert command.help or command.get_short_help_str(), name
        answer = CliRunner().invoke(main, [name, "--help"])
        assert answer.exit_code == 0


def test_every_runtime_dependency_has_its_reason():
    pyproject = read("pyproject.toml")
    block = pyproject.partition("dependencies = [")[2].partition("]\n")[0]
    reasons = read("docs/adr/0007-dependencies.md")
    for name in re.findall(r'"([a-z0-9-]+)[\[>]', block):
        assert name in reasons, name


def test_pins_carry_hashes_and_no_address():
    for path in [*(ROOT / "constraints").glob("*.txt"), *ROOT.glob("*/package-lock.json"), *ROOT.glob("tests/*/package-lock.json")]:
        text = path.read_text(encoding="utf-8")
        assert "://" not in re.sub(r'"(url|funding|homepage)": "[^"]*"', "", text), path
        assert "resolved" not in text


def test_every_benchmark_is_there_and_readable():
    """They are not run here; what they need of the house must be there all the same."""
    assert {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__", "common", "load"} == set(PARTS)

"""Where `remit run` takes a manifest from, and how a drift is shown."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from remit.cli.drift_text import drift_text
from remit.cli.run_manifest import manifest_files
from remit.errors import Mistake
from remit.logic.arguments import digest_bytes
from remit.logic.manifest import text_difference
from remit.logic.narrow import tool_digest
from remit.logic.toml_text import TomlText
from remit.model.manifest import ManifestSource
from remit.services.manifest_files import ManifestFiles, joined, placed, read_drift, read_required, read_source, read_source_file
from remit.services.manifests import ShownDrift, ShownPart
from remit.services.reading import Reader

WHOLE = """
model = "model-1"
system_prompt = "prompt.md"
tools = "tools.json"
files = ["agent.py"]
command = false
[data_sources]
customers = "customers.csv"
crm = { id = "crm-2026" }
"""
TOOL = {"name": "search", "description": "Search", "inputSchema": {"type": "object"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("prompt.md", "Pay."), ("agent.py", "pass"), ("customers.csv", "1"), ("tools.json", json.dumps([TOOL]))):
        (tmp_path / name).write_text(text)
    (tmp_path / "manifest.toml").write_text(WHOLE)
    return tmp_path


@pytest.fixture
def files(folder: Path) -> ManifestFiles:
    return ManifestFiles(source=placed(*read_source_file(folder / "manifest.toml")), command=("true",))


def read(text: str, reader: object) -> tuple[object, list[Mistake]]:
    found: list[Mistake] = []
    return reader(Reader(TomlText("remit.toml", text), found)), found  # type: ignore[operator]  # one of the readers


def test_every_part_is_a_digest_of_what_it_names(files: ManifestFiles) -> None:
    assert files.parts() == {
        "model": digest_bytes(b"model-1"),
        "system_prompt": digest_bytes(b"Pay."),
        "tools/search": tool_digest(TOOL),
        "data_sources/customers": digest_bytes(b"1"),
        "data_sources/crm": digest_bytes(b"crm-2026"),
        "files/agent.py": digest_bytes(b"pass"),
    }


def test_what_changes_is_told_once_and_what_is_gone_is_gone(folder: Path, files: ManifestFiles) -> None:
    before = files.parts()
    assert files.look() == {}
    (folder / "prompt.md").write_text("Pay more.")
    (folder / "agent.py").unlink()
    (folder / "tools.json").write_text("[]")
    assert files.look() == {"system_prompt": digest_bytes(b"Pay more."), "files/agent.py": "", "tools/search": ""}
    assert files.look() == {}
    (folder / "prompt.md").write_text("Pay.")
    assert files.look() == {"system_prompt": before["system_prompt"]}
    (folder / "tools.json").write_text("{no")
    (folder / "prompt.md").unlink()
    os.mkfifo(folder / "prompt.md")
    assert files.look() == {"system_prompt": ""}


def test_a_report_that_fails_is_told_again(folder: Path, files: ManifestFiles) -> None:
    files.parts()
    (folder / "prompt.md").write_text("Pay more.")
    told: list[dict[str, str]] = []

    async def tell(parts: dict[str, str]) -> None:
        told.append(parts)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            asyncio.run(files.watch(tell))
    assert told == [{"system_prompt": digest_bytes(b"Pay more.")}] * 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "prompt.md").unlink(),
        lambda folder: (folder / "tools.json").write_text("{}"),
        lambda folder: (folder / "tools.json").write_text('[{"name": "a\\u202eb"}]'),
        lambda folder: ((folder / "agent.py").unlink(), (folder / "agent.py").mkdir()),
        lambda folder: ((folder / "agent.py").unlink(), os.mkfifo(folder / "agent.py")),
    ],
)
def test_what_cannot_be_read_at_start_is_a_mistake(folder: Path, files: ManifestFiles, spoil: object) -> None:
    spoil(folder)  # type: ignore[operator]  # one of the functions above
    with pytest.raises(Mistake):
        files.parts()


def test_the_command_is_its_executable_and_its_arguments(tmp_path: Path) -> None:
    one, other = (ManifestFiles(source=ManifestSource(), command=command).parts() for command in (("sh", "-c", "a"), ("sh", "-c", "b")))
    assert set(one) == {"command"}
    assert one != other
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    files = ManifestFiles(source=ManifestSource(), command=(str(program),))
    before = files.parts()["command"]
    program.write_text("#!/bin/sh\nrm\n")
    assert files.look()["command"] not in {before, ""}
    program.unlink()
    assert files.look() == {"command": ""}
    assert ManifestFiles(source=ManifestSource(), command=("there-is-no-such-program",)).parts() == {}


def test_what_is_nearer_to_the_command_line_speaks(folder: Path) -> None:
    configured = ManifestSource(model="model-0", data_source_ids={"crm": "old"}, required=("model",))
    files = manifest_files(
        configured,
        ("true",),
        manifest_file=folder / "manifest.toml",
        model="model-2",
        system_prompt="",
        files=(),
        data_sources=(f"customers={folder / 'agent.py'}",),
    )
    assert files.source.model == "model-2"
    assert files.source.data_source_ids == {"crm": "crm-2026"}
    assert files.source.data_sources == {"customers": str(folder / "agent.py")}
    assert files.source.required == ("model",)
    assert joined(files.source, ManifestSource()) == files.source
    with pytest.raises(Mistake):
        manifest_files(None, (), manifest_file=None, model="", system_prompt="", files=(), data_sources=("customers",))


@pytest.mark.parametrize(
    ("text", "reader", "where"),
    [
        ('modle = "x"', read_source, "modle"),
        ("[data_sources]\nx = {}", read_source, "id"),
        ("[data_sources]\nx = 5", read_source, "x"),
        ('required = ["modle"]', read_required, "model"),
        ('required = ["model/x"]', read_required, "required"),
        ('required = ["tools/"]', read_required, "required"),
        ('model = "ignore"', read_drift, "model"),
        ('modle = "record"', read_drift, "modle"),
    ],
)
def test_mistakes_are_told(text: str, reader: object, where: str) -> None:
    _, found = read(text, reader)
    assert len(found) == 1
    assert where in str(found[0])


def test_what_is_shown_hides_nothing_and_is_bounded() -> None:
    hidden = "a\x1b[2J\u202eb\u200bc\U000e0041"
    part = ShownPart(part="servers/x/y", before="b", after="", difference=text_difference("one", f"one\n{hidden}\n{'z' * 5_000}", 200))
    shown = drift_text(ShownDrift(task="t", state="suspended", manifest="m", parts=(part,), settled=()))
    assert "a\\u{1b}[2J\\u{202e}b\\u{200b}c\\u{e0041}" in shown
    assert not set(hidden) - set("a[2Jbc") & set(shown.replace("\x1b[3", "").replace("\x1b[0m", ""))
    assert "4,001 characters more" in shown
    assert text_difference("\n" * 3_000, "x", 200) == ("(more than 2,000 lines: not compared line by line)",)
    assert len(text_difference("", "x\n" * 1_000, 200)) == 201

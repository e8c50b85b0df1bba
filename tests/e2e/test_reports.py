"""``remit report`` as its users run it: from the store and from an export alike, for a period, and never of what does not verify."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import remit as sdk
from remit.cli.main import main
from remit.model.report import Framework
from tests.e2e.drill_folder import change, write_drill_folder

PROMPT = "sha-256:" + "A" * 43
HOSTILE = "<script>alert(1)</script>\x1b[2J|`"


def remit(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def report(folder: Path, *words: str) -> dict[str, Any]:
    done = remit("report", "--json", "-C", str(folder), *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some work done: one task, a read, two refusals, and a tool that nobody knows."""
    made = write_drill_folder(tmp_path_factory.mktemp("reports") / "guard")
    change(made, "remit.toml", "[servers.bank]\n", '[servers.bank]\nenv = { PLAIN = "a-plain-value" }\n')
    change(made, "remit.toml", '[tools."bank/pay"]\neffect = "irreversible"\n', '[tools."bank/pay"]\n')

    async def work() -> None:
        async with (
            sdk.open(made) as r,
            r.task("pay", agent="clerk", on_behalf_of="alice", inputs={"bill": "b"}, manifest={"system_prompt": PROMPT}) as task,
        ):
            decision = await task.authorize("mail/read", {"folder": "in"})
            await task.observe(decision, {"text": "hello"})
            for tool, arguments in (("bank/pay", {"to": "eve", "amount": 0}), ("bank/owned", {}), (f"bank/{HOSTILE}", {})):
                assert (await task.authorize(tool, arguments)).outcome == "deny"

    asyncio.run(work())
    return made


@pytest.fixture(scope="module")
def export(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    file = tmp_path_factory.mktemp("export") / "ledger.txt"
    assert remit("ledger", "export", str(file), "-C", str(folder)).exit_code == 0
    return file, remit("ledger", "key", "-C", str(folder)).stdout.strip()


def test_what_was_exercised_is_shown_with_its_entries_and_what_was_not_is_not(folder):
    told = report(folder, "--framework", "owasp-agentic")
    controls = {control["key"]: control for control in told["controls"]}
    assert controls["decided"]["state"] == controls["least-agency"]["state"] == controls["fail-safe"]["state"] == "shown"
    assert controls["labels"]["state"] == controls["end"]["state"] == "shown"
    assert controls["origins"]["state"] == controls["delegation"]["state"] == "not shown"
    assert controls["bound-tokens"]["state"] == "configured"  # tokens of this process are not bound
    figures = {figure["what"]: figure for figure in controls["decided"]["figures"]}
    assert (figures["calls.decided"]["number"], figures["calls.allow"]["number"], figures["calls.deny"]["number"]) == (4, 1, 3)
    assert (figures["calls.allowed_outside_life"]["number"], figures["calls.allowed_outside_life"]["against"]) == (0, True)
    for entry in figures["calls.deny"]["entries"]:
        record = json.loads(remit("ledger", "show", str(entry["index"]), "--json", "-C", str(folder)).stdout)
        assert (record["kind"], record["body"]["outcome"]) == ("call.decided", "deny")
    settings = {setting["key"]: setting["value"] for setting in controls["bound-tokens"]["settings"]}
    assert settings["tokens.bound"] == "dpop"


def test_coverage_comes_first_and_names_what_is_not_under_policy(folder):
    told = report(folder, "coverage")
    assert (told["framework"], told["items"], told["controls"]) == ("", [], [])
    configured = {one["kind"]: (one["under_policy"], one["known"], one["names"]) for one in told["coverage"]["configured"]}
    assert configured["server"] == (2, 2, [])
    assert configured["tool"] == (1, 2, ["bank/pay"])
    gaps = [gap["what"] for gap in told["coverage"]["gaps"]]
    assert any(gap.startswith("nothing is stated of bank/pay") for gap in gaps)
    assert any("given PLAIN as plain values" in gap for gap in gaps)
    seen = {one["kind"]: (one["under_policy"], one["known"], one["names"]) for one in told["coverage"]["seen"]}
    assert seen["tool"] == (2, 4, sorted([f"bank/{HOSTILE}", "bank/owned"]))
    unused = {one["kind"]: one["names"] for one in told["coverage"]["unused"]}
    assert unused["agent"] == ["spiffe://remit.local/agent/other"]
    assert "a-plain-value" not in json.dumps(told)


@pytest.mark.parametrize("framework", [one.value for one in Framework])
def test_an_export_gives_the_same_report(folder, export, framework):
    file, key = export
    ours = report(folder, "--framework", framework)
    theirs = report(folder, "--framework", framework, "--ledger", str(file), "--key", key)
    assert (ours["read"].pop("source"), theirs["read"].pop("source")) == ("store", "export")
    assert ours == theirs
    elsewhere = report(file.parent, "--framework", framework, "--ledger", str(file), "--key", key)  # no configuration there
    assert elsewhere["settings_from"] == ""
    assert elsewhere["coverage"]["configured"] == []
    counts = [[figure for control in told["controls"] for figure in control["figures"]] for told in (ours, elsewhere)]
    assert counts[0] == counts[1]


def test_nothing_is_reported_of_a_ledger_that_does_not_verify(folder, export, tmp_path):
    file, key = export
    lines = file.read_text().splitlines()
    entry = next(number for number, line in enumerate(lines) if line.startswith("entry "))
    lines[entry] = lines[entry][:60] + ("A" if lines[entry][60] != "A" else "B") + lines[entry][61:]
    forged = tmp_path / "forged.txt"
    forged.write_text("\n".join(lines) + "\n")
    done = remit("report", "--framework", "owasp-nhi", "--ledger", str(forged), "--key", key, "-C", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "entry 0" in done.stderr
    other = write_drill_folder(tmp_path / "other")
    wrong = remit("ledger", "key", "-C", str(other)).stdout.strip()
    done = remit("report", "--framework", "owasp-nhi", "--ledger", str(file), "--key", wrong, "-C", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")


def test_a_period(folder):
    nothing = report(folder, "--framework", "owasp-nhi", "--to", "2020-01-01")
    assert nothing["read"]["in_period"] == 0
    assert nothing["read"]["entries"] > 0
    assert "shown" not in {control["state"] for control in nothing["controls"]}
    everything = report(folder, "--framework", "owasp-nhi", "--from", "2020-01-01T00:00+02:00")
    assert everything["read"]["in_period"] == everything["read"]["entries"]
    assert everything["period"] == {"begin": "2019-12-31T22:00:00+00:00", "end": ""}


@pytest.mark.parametrize("form", ["html", "md"])
def test_no_form_carries_what_strangers_wrote_as_markup(folder, form):
    done = remit("report", "--framework", "maestro", "--format", form, "-C", str(folder))
    assert done.exit_code == 0
    assert "alert(1)" in done.stdout
    assert not {"\x1b", "\u202e"} & set(done.stdout)
    assert "<script" not in done.stdout.replace("\\<script", "")
    if form == "html":
        assert "http" not in done.stdout.replace('http-equiv="Content-Security-Policy"', "").replace("default-src", "")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("coverage", "--framework", "maestro"),
        ("--framework", "iso-42001"),
        ("--framework", "maestro", "--from", "yesterday"),
        ("--framework", "maestro", "--from", "2026-02-30"),
        ("--framework", "maestro", "--to", "9999-12-31"),
        ("--framework", "maestro", "--from", "2026-02-02", "--to", "2026-02-01"),
        ("--framework", "maestro", "--ledger", "nowhere.txt"),
        ("--framework", "maestro", "--ledger", "nowhere.txt", "--key", "x"),
        ("--framework", "maestro", "--key", "x"),
        ("--framework", "maestro", "--format", "pdf"),
    ],
)
def test_wrong_use_says_what_is_wrong(folder, words):
    done = remit("report", *words, "-C", str(folder))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr

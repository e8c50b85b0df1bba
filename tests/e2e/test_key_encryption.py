"""A folder whose keys are kept under a key-encryption key, as its operator works with it."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING

import pytest

from remit.services.pins import Pins
from tests.e2e.conftest import Folder
from tests.e2e.inside import Inside
from tests.e2e.test_broken_configuration import LISTED

if TYPE_CHECKING:
    from pathlib import Path

KEK = base64.b64encode(bytes(range(32))).decode()
NEXT = base64.b64encode(bytes(range(32, 64))).decode()


@pytest.fixture
def here(tmp_path: Path) -> Inside:
    """A folder as `remit init` writes it."""
    new = Inside(tmp_path / "work", 0)
    new.path.mkdir()
    assert new.remit("init").returncode == 0
    return new


def configure(folder: Folder, source: str) -> None:
    path = folder.path / "remit.toml"
    text = path.read_text().partition("\n[trust]")[0]
    path.write_text(f'{text}\n[trust]\nkey_encryption = "{source}"\n')


def keys_finding(folder: Folder) -> tuple[str, str]:
    entry = next(one for one in json.loads(folder.remit("doctor", "--json").stdout) if one["what"] == "keys")
    return entry["state"], entry["finding"]


def test_a_folder_in_use_is_wrapped_and_moved_to_another_key(here, monkeypatch):
    monkeypatch.setenv("MINE_KEK", KEK)
    ledger_key = here.remit("ledger", "key").stdout
    assert keys_finding(here)[0] == "warning"
    assert "beside the store" in keys_finding(here)[1]
    assert "[trust] key_encryption" in here.remit("keys", "wrap").stderr
    configure(here, "env:MINE_KEK")
    assert here.remit("ledger", "key").stdout == ledger_key, "a plain folder opens as ever"
    assert "remit keys wrap" in keys_finding(here)[1]
    assert "values.key is sealed" in here.remit("keys", "wrap").stdout
    assert here.remit("keys", "wrap").stdout == "nothing is left in clear\n"
    assert keys_finding(here)[0] == "good"
    shown = here.remit("keys", "show", "--json").stdout
    assert {one["kept"] for one in json.loads(shown)} == {"sealed", "wrapped"}
    assert "wrapped by env:MINE_KEK" in here.remit("keys", "show").stdout
    assert here.remit("ledger", "key").stdout == ledger_key
    file = here.path.parent / "next.kek"
    file.write_text(NEXT)
    file.chmod(0o600)
    assert f'key_encryption = "file:{file}"' in here.remit("keys", "rewrap", "--to", f"file:{file}").stdout
    refused = here.remit("ledger", "key")
    assert refused.returncode == 2
    assert "wrapping.key" in refused.stderr
    assert f"wrapped by file:{file}" in refused.stderr
    configure(here, f"file:{file}")
    assert here.remit("ledger", "key").stdout == ledger_key
    assert "signs" in here.remit("keys", "list").stdout
    for said in (shown, refused.stderr, *(path.read_text("latin-1") for path in here.path.rglob("*") if path.is_file())):
        assert KEK not in said
        assert NEXT not in said


def test_without_the_key_nothing_starts_and_the_mistake_stands_at_its_line(here, monkeypatch):
    monkeypatch.setenv("MINE_KEK", KEK)
    configure(here, "env:MINE_KEK")
    assert here.remit("ledger", "key").returncode == 0
    before = {path.name: path.read_bytes() for path in (here.path / "state" / "keys").iterdir()}
    for value, word in ((None, "the environment has no MINE_KEK"), ("short", "not 32 bytes in base64"), (NEXT, "does not open it")):
        if value is None:
            monkeypatch.delenv("MINE_KEK")
        else:
            monkeypatch.setenv("MINE_KEK", value)
        started = [["serve"]] if value == NEXT else []
        for command in (*started, ["task", "list"], ["keys", "list"], ["policy", "bundle", "--out", str(here.path / "b")]):
            done = here.remit(*command)
            assert done.returncode == 2, done.stdout
            assert word in done.stderr
        assert keys_finding(here)[0] == "bad"
    assert {path.name: path.read_bytes() for path in (here.path / "state" / "keys").iterdir()} == before
    configure(here, KEK)
    done = here.remit("policy", "check")
    assert done.returncode == 2
    assert "trust.key_encryption" in done.stderr
    assert KEK not in done.stderr


def test_an_agent_does_not_inherit_the_key(folder, monkeypatch):
    monkeypatch.setenv("BANK_SECRET", "hunter2")
    Pins(folder.path).pin("bank", LISTED)
    here = Inside(folder.path, folder.port, folder.started)
    monkeypatch.setenv("MINE_KEK", KEK)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/remit")
    configure(here, "env:MINE_KEK")
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    done = here.remit("run", "pay", "-i", "who=bob", "--", sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "REMIT_TASK" in done.stdout
    for hidden in (KEK, "MINE_KEK", "CREDENTIALS_DIRECTORY"):
        assert hidden not in done.stdout

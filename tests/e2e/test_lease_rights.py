"""``remit doctor`` says what remit may not hand on, before a task needs it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.common import free_port
from tests.e2e.inside import Inside
from tests.e2e.test_leases import TASK, write
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTS = """
objective = "Look at {table}"
data_ceiling = "internal"
deadline = "5m"
[inputs.table]
type = "string"
[[grant]]
tool = "db/query"
[[grant]]
tool = "db/whoami"
[[lease]]
target = "orders"
[[lease.part]]
tools = ["db/whoami"]
scope.tables = [{ schema = "public", table = "orders", allow = ["select"] }]
[[lease.part]]
tools = ["db/query"]
scope.tables = [
    { schema = "public", table = "salaries", allow = ["select", "update"] },
    { schema = "public", table = "{table}", allow = ["select"] },
]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        with running.root() as root:
            root.execute("CREATE ROLE clerk LOGIN CREATEROLE PASSWORD 'clerk-secret-1'")
            root.execute("GRANT SELECT ON orders, salaries TO clerk WITH GRANT OPTION")
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> Inside:
    monkeypatch.setenv("ORDERS_ROOT", "clerk-secret-1")
    made = Inside(tmp_path, free_port())
    write(made, server)
    configuration = made.path / "remit.toml"
    configuration.write_text(configuration.read_text().replace("postgres@", "clerk@"))
    assert made.remit("pin").returncode == 0
    return made


def told(folder: Inside) -> tuple[int, dict[str, str]]:
    """The exit code, and findings on the target by their text."""
    done = folder.remit("doctor", "--json")
    return done.returncode, {one["finding"]: one["state"] for one in json.loads(done.stdout) if one["what"] == "target orders"}


def test_a_right_that_cannot_be_handed_on_is_named_until_it_is_mended(folder, server):
    (folder.path / "tasks" / "split.toml").write_text(PARTS)
    code, found = told(folder)
    assert code == 1
    where, looking = "lease orders of tasks/split.toml, part", "lease orders of tasks/look.toml"
    (bad,) = [text for text, state in found.items() if state == "bad"]
    mend = 'GRANT UPDATE ON TABLE "public"."salaries" TO "clerk" WITH GRANT OPTION'
    assert bad == f'{where} 2: clerk may not hand on UPDATE on TABLE "public"."salaries": {mend}'
    assert found[f"{where} 1: remit may hand on what is named there"] == "good"
    assert {text for text, state in found.items() if state == "warning"} == {
        f"{where} 2: what inputs fill ({{table}} in tables) cannot be checked before a task names it",
        f"{looking}: what inputs fill ({{table}} in tables, {{table}} in settings) cannot be checked before a task names it",
    }
    with server.root() as root:
        root.execute(mend.encode())
    code, found = told(folder)
    assert (code, [text for text, state in found.items() if state == "bad"]) == (0, [])
    assert found[f"{where} 2: remit may hand on what is named there"] == "good"
    with server.root() as root:
        assert root.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'remit\\_%'").fetchone() == (0,)


def test_a_system_that_cannot_be_asked_is_never_called_good(folder, monkeypatch):
    """An authority signs whatever it is told to: whether hosts heed that nobody can ask."""
    with (folder.path / "remit.toml").open("a") as configuration:
        configuration.write(f"""
[targets.hosts]
kind = "ssh"
list_file = "{folder.path}/hosts.krl"
apply = "/bin/cat"
secret = "${{HOSTS_ROOT}}"
""")
    (folder.path / "tasks" / "look.toml").write_text(
        TASK + '[[lease]]\ntarget = "hosts"\nscope.accounts = ["deploy"]\nscope.command = ["uptime"]\n'
    )
    monkeypatch.setenv("HOSTS_ROOT", _key())
    done = folder.remit("doctor")
    (line,) = re.findall(r"^.*cannot be asked.*$", done.stdout, re.MULTILINE)
    assert line == (
        "! target hosts: lease hosts of tasks/look.toml: this system cannot be asked, before anything is made,"
        " whether remit may hand on what is named there"
    )


def _key() -> str:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()

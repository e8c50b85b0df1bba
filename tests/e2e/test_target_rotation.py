"""`remit target rotate`: a new secret of remit's own on a real PostgreSQL, killed with SIGKILL between any two steps."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from bench.common import free_port
from remit.node import open_node
from tests.e2e.conftest import ROOT
from tests.e2e.inside import Inside
from tests.e2e.test_leases import write
from tests.servers.postgres import PostgresTarget, postgres_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = "first-secret-of-the-keeper"
# The command line, with one function of it that is not survived.
KILLED = """
import asyncio, os, signal, sys
from remit.cli.main import main
from remit.drivers.targets.postgresql import PostgresqlTarget
from remit.services import secret_rotation
from remit.services.target_secrets import TargetSecrets
owner, name, when, folder = sys.argv[1:]
place = {"TargetSecrets": TargetSecrets, "PostgresqlTarget": PostgresqlTarget, "secret_rotation": secret_rotation}[owner]
real = getattr(place, name)
async def killed(*words, **more):
    if when == "after":
        await real(*words, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(place, name, killed)
main(["target", "rotate", "orders", "-C", folder])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresTarget]:
    with postgres_target() as running:
        yield running


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory, server: PostgresTarget) -> str:
    made = Inside(tmp_path_factory.mktemp("pinned"), free_port())
    write(made, server, secret="")
    assert made.remit("pin").returncode == 0
    return (made.path / "tools.lock.json").read_text()


@pytest.fixture
def folder(tmp_path: Path, server: PostgresTarget, pinned: str) -> Inside:
    """The target's account may make roles and is no superuser; its first secret is known to others."""
    with server.root() as root:
        root.execute("DROP ROLE IF EXISTS keeper")
        root.execute(f"CREATE ROLE keeper LOGIN CREATEROLE PASSWORD '{FIRST}'".encode())
    made = Inside(tmp_path, free_port())
    write(made, server, secret="")
    toml = tmp_path / "remit.toml"
    toml.write_text(toml.read_text().replace("postgresql://postgres@", "postgresql://keeper@"))
    (tmp_path / "tools.lock.json").write_text(pinned)

    async def hand_over() -> None:
        async with open_node(tmp_path) as node:
            await node.leases.secrets.replace("orders", FIRST, "local:test")

    asyncio.run(hand_over())
    return made


def opens(server: PostgresTarget, password: str) -> bool:
    try:
        psycopg.connect(f"host=127.0.0.1 port={server.port} user=keeper password={password} dbname=orders").close()
    except psycopg.OperationalError:
        return False
    return True


def works(folder: Inside) -> bool:
    """Whether a node that starts now manages the target; and it looks at nothing but what is durable."""

    async def look() -> bool:
        async with open_node(folder.path) as node:
            target = node.leases.targets.get("orders")
            assert target is not None
            return await target.list_ours("remit_") == frozenset()

    return asyncio.run(look())


def secret_of(folder: Inside) -> str:
    async def look() -> str:
        async with open_node(folder.path) as node:
            return await node.leases.secrets.secret(node.configuration.targets["orders"])

    return asyncio.run(look())


def rotations(folder: Inside) -> list[str]:
    return [record["body"].get("rotation", "") for record in folder.ledger() if record["kind"] == "target.secret_set"]


def test_a_new_secret_that_only_remit_knows(folder, server):
    assert opens(server, FIRST)
    done = folder.remit("target", "rotate", "orders")
    assert done.returncode == 0, done.stderr
    assert not opens(server, FIRST)
    assert works(folder)
    assert rotations(folder) == ["", "begun", "done"]
    secret = secret_of(folder)
    assert opens(server, secret)
    everything = done.stdout + done.stderr + json.dumps(folder.ledger())
    everything += b"".join(path.read_bytes() for path in folder.path.rglob("*.db*")).decode("latin-1")
    assert secret not in everything
    again = folder.remit("target", "rotate", "orders")
    assert (again.returncode, "try again in 60 seconds" in again.stderr) == (2, True)
    assert opens(server, secret)


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        ("TargetSecrets", "begin", "before"),
        ("TargetSecrets", "begin", "after"),
        ("PostgresqlTarget", "set_own_secret", "after"),
        ("secret_rotation", "accepts", "after"),
        ("TargetSecrets", "promote", "after"),
    ],
)
def test_killed_between_two_steps_nothing_is_locked_out(folder, server, owner, name, when):
    script = [sys.executable, "-c", KILLED, owner, name, when, str(folder.path)]
    killed = subprocess.run(script, env=folder.environment(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert opens(server, FIRST) == (name == "begin"), "it was killed where it should be"
    if name == "set_own_secret":  # a node that needs the target finds out by itself, and ends the rotation
        assert works(folder)
    done = folder.remit("target", "rotate", "orders")
    # it goes on with what was begun; a new one begins a minute after the last was over
    assert done.returncode == (2 if name in {"set_own_secret", "promote"} else 0), done.stderr
    assert rotations(folder)[-2:] == ["begun", "done"]
    assert rotations(folder).count("begun") == 1
    assert not opens(server, FIRST)
    assert works(folder)
    assert opens(server, secret_of(folder))


def test_what_cannot_be_rotated_says_so(folder, server, monkeypatch):
    monkeypatch.setenv("ORDERS_ROOT", server.password)
    nobody = folder.remit("target", "rotate", "payroll")
    assert (nobody.returncode, "configured: orders" in nobody.stderr) == (1, True)
    write(folder, server)
    elsewhere = folder.remit("target", "rotate", "orders")
    assert (elsewhere.returncode, "comes from elsewhere" in elsewhere.stderr) == (2, True)
    with server.root() as root:
        root.execute("DROP ROLE keeper")
    write(folder, server, secret="")
    toml = folder.path / "remit.toml"
    toml.write_text(toml.read_text().replace("postgresql://postgres@", "postgresql://keeper@"))
    away = folder.remit("target", "rotate", "orders")
    assert (away.returncode, "cannot be reached" in away.stderr) == (1, True)
    assert "Traceback" not in nobody.stderr + elsewhere.stderr + away.stderr

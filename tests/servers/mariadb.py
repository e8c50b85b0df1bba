"""A real MariaDB as a target: the system's own, or Debian's packages unpacked under ``.cache/mariadb`` (``make mariadb``)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNPACKED = Path(__file__).parents[2] / ".cache" / "mariadb" / "usr"
_FIRST_SQL = """
USE mysql;
DELETE FROM global_priv WHERE User = '';
FLUSH PRIVILEGES;
ALTER USER root@localhost IDENTIFIED BY '{password}';
CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE orders;
USE orders;
CREATE TABLE orders (id int, customer varchar(50), amount int);
INSERT INTO orders VALUES (1, 'acme', 10), (2, 'globex', 20), (3, 'acme', 30);
CREATE TABLE salaries (name varchar(50), amount int);
INSERT INTO salaries VALUES ('ceo', 1000000);
"""


class MariadbServer:
    """A MariaDB that others log in to, with its event scheduler on. ``more``: options of the server."""

    def __init__(self, folder: str, *more: str) -> None:
        self.port, self.password, self._folder, self._more = free_port(), "root-" + secrets.token_hex(8), Path(folder), more
        self._environment, self._server, install, basis = _found()
        self._process: subprocess.Popen[bytes] | None = None
        self._words = ["--no-defaults", f"--datadir={folder}/data", f"--basedir={basis}", *self._account()]
        made = [install, *self._words, "--auth-root-authentication-method=normal", "--skip-name-resolve", "--skip-test-db"]
        subprocess.run(made, env=self._environment, check=True, capture_output=True, timeout=120)
        file = self._folder / "first.sql"
        file.write_text(_FIRST_SQL.format(password=self.password))
        self.start(f"--init-file={file}")

    @property
    def url(self) -> str:
        """Without the password, as a target is configured."""
        return f"mariadb://root@127.0.0.1:{self.port}/orders"

    @property
    def logs(self) -> list[str]:
        """Every statement as the server logs it, and its errors."""
        return [line for name in ("general.log", "error.log") for line in (self._folder / name).read_text(errors="replace").splitlines()]

    def root(self, database: str = "orders") -> pymysql.Connection[Any]:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", password=self.password, database=database, autocommit=True, connect_timeout=5
        )

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """As root; the rows of the last."""
        with contextlib.closing(self.root()) as db, db.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def start(self, *once: str) -> None:
        folder = self._folder
        words = [
            *(f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/pid"),
            *("--event-scheduler=ON", "--general-log=1", f"--general-log-file={folder}/general.log", f"--log-error={folder}/error.log"),
            *("--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=16M"),
            *self._more,
            *once,
        ]
        self._process = subprocess.Popen(
            [self._server, *self._words, *words], env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(300):
            with contextlib.suppress(pymysql.Error):
                self.run("SELECT 1")
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError("mariadbd does not answer: " + (folder / "error.log").read_text()[-2_000:])

    def stop(self) -> None:
        """As after a loss of power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _account(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []


def _found() -> tuple[dict[str, str], str, str, str]:
    """Its environment, the server, what makes its files, and where it lies."""
    environment = dict(os.environ)
    if server := shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return environment, server, shutil.which("mariadb-install-db") or "mariadb-install-db", str(Path(server).parents[1])
    if not (_UNPACKED / "sbin" / "mariadbd").exists():
        pytest.skip("no MariaDB here: `make mariadb` unpacks Debian's packages (about 7 MB) under .cache")
    libraries = [str(path) for root in (_UNPACKED, _UNPACKED.parent) for path in root.glob("lib/*-linux-gnu")]
    environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    return environment, str(_UNPACKED / "sbin" / "mariadbd"), str(_UNPACKED / "bin" / "mariadb-install-db"), str(_UNPACKED)


@contextlib.contextmanager
def mariadb_server(*more: str) -> Iterator[MariadbServer]:
    """Such a server, with the tables ``orders`` and ``salaries`` in the database ``orders``."""
    with tempfile.TemporaryDirectory(prefix="remit-mariadb-", ignore_cleanup_errors=True) as folder:
        server = MariadbServer(folder, *more)
        try:
            yield server
        finally:
            server.stop()

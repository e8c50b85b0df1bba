"""A real nginx as a target of client certificates: the system's own, or Debian's unpacked under ``.cache/peers`` (``make peers``).

It is configured as docs/targets.md says, and runs the program given there. Who is ``orders`` may read ``/orders``, who is ``boss``
``/salaries``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.openssh import PEERS, script
from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGURATION = """\
{user}
worker_processes 2;
worker_shutdown_timeout 1s;
pid {folder}/pid;
error_log {folder}/error.log info;
daemon off;
events {{ worker_connections 256; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    ssl_client_certificate {folder}/authority.pem;
    ssl_crl {folder}/etc/remit.crl;
    ssl_verify_client on;
    ssl_session_cache off;
    ssl_session_tickets off;
    location /orders {{ if ($ssl_client_s_dn != "CN=orders") {{ return 403; }} return 200 "$ssl_client_serial"; }}
    location /salaries {{ if ($ssl_client_s_dn != "CN=boss") {{ return 403; }} return 200 "a lot"; }}
  }}
}}
"""


class NginxServer:
    """``list_file``, ``apply``: as a target is configured. It can be started when the list is there. ``folder`` needs server.pem,
    server.key and authority.pem.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or str(PEERS / "sbin" / "nginx")
        for name in ("etc", "list"):
            (folder / name).mkdir()
        self.list_file, self.apply = folder / "list" / "services.crl", folder / "nginx-revoke"
        text = script("nginx-revoke").replace("/etc/nginx", f"{folder}/etc").replace("/run/nginx.pid", f"{folder}/pid")
        self.apply.write_text(text)
        self.apply.chmod(0o755)
        user = "user root root;" if os.geteuid() == 0 else ""
        (folder / "configuration").write_text(_CONFIGURATION.format(user=user, port=self.port, folder=folder))
        self.log = folder / "error.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [self._nginx, "-p", str(self._folder), "-e", str(self.log), "-c", f"{self._folder}/configuration"]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdin=null, stdout=null, stderr=null, start_new_session=True)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("nginx does not answer: " + self.log.read_text()[-2_000:])

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            (self._folder / "pid").unlink(missing_ok=True)


@contextlib.contextmanager
def nginx_folder() -> Iterator[Path]:
    """Where such a server may live; skips where there is none."""
    if not shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") and not (PEERS / "sbin" / "nginx").exists():
        pytest.skip("no nginx here: `make peers` unpacks Debian's packages (about 3 MB) under .cache")
    with tempfile.TemporaryDirectory(prefix="remit-nginx-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)

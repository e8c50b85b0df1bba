"""A real sshd as a target: Debian's packages unpacked under ``.cache/peers`` (``make peers``), with the scripts that docs/targets.md gives.

It runs as root, because only then does it change accounts; the accounts themselves are made up by nss_wrapper, so that the machine's
own stay as they are.
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

from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
PEERS = _ROOT / ".cache" / "peers" / "usr"
_ACCOUNTS = """\
root:x:0:0::/root:/bin/sh
sshd:x:61000:61000::/run/sshd:/usr/sbin/nologin
remit-ssh:x:61001:61001::/:/usr/sbin/nologin
deploy:x:61002:61002::{folder}/home:/bin/sh
boss:x:61003:61003::{folder}/home:/bin/sh
"""
_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
LogLevel VERBOSE
UsePAM no
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 100
TrustedUserCAKeys {folder}/etc/remit-authority.pub
RevokedKeys {folder}/etc/remit.krl
AuthorizedPrincipalsCommand {folder}/lib/ssh-principals %i %u
AuthorizedPrincipalsCommandUser remit-ssh
"""


class SshServer:
    """A host that trusts an authority. ``list_file``, ``apply``: as a target is configured."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        for name in ("etc", "lib", "run", "list", "home"):
            (folder / name).mkdir(mode=0o755)
        os.chown(folder / "run", 61001, 61001)
        os.chown(folder / "home", 61002, 61002)
        for key in ("host", "authority"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "etc" / "remit-authority.pub").write_bytes((folder / "authority.pub").read_bytes())
        (folder / "etc" / "remit.krl").touch()
        for name in ("ssh-revoke", "ssh-principals"):
            (folder / "lib" / name).write_text(script(name).replace("/run/remit-ssh", f"{folder}/run").replace("/etc/ssh", f"{folder}/etc"))
            (folder / "lib" / name).chmod(0o755)
        (folder / "accounts").write_text(_ACCOUNTS.format(folder=folder))
        (folder / "groups").write_text("root:x:0:\nsshd:x:61000:\nremit-ssh:x:61001:\ndeploy:x:61002:\nboss:x:61003:\n")
        (folder / "configuration").write_text(_CONFIGURATION.format(port=self.port, folder=folder))
        self.list_file, self.apply = folder / "list" / "hosts.krl", folder / "lib" / "ssh-revoke"
        self.authority = (folder / "authority").read_text()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = {
            "LD_PRELOAD": str(next(PEERS.glob("lib/*/libnss_wrapper.so"))),
            "LD_LIBRARY_PATH": str(next(PEERS.glob("lib/*/libwrap.so.0")).parent),
            "NSS_WRAPPER_PASSWD": f"{self._folder}/accounts",
            "NSS_WRAPPER_GROUP": f"{self._folder}/groups",
            "PATH": os.environ["PATH"],
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PEERS / "sbin" / "sshd", "-D", "-e", "-f", self._folder / "configuration"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("sshd does not answer: " + self.log.read_text()[-2_000:])

    def stop(self) -> None:
        """The listener and its connections."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def ssh(self, key: Path, account: str, *more: str) -> list[str]:
        """The command line of a client. ``key``: beside it lies the certificate."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR")
        named = [word for option in (*options, f"CertificateFile={key}-cert.pub") for word in ("-o", option)]
        return [str(_client("ssh")), "-F", "none", "-p", str(self.port), "-i", str(key), *named, *more, f"{account}@127.0.0.1"]


def script(name: str) -> str:
    """A script as docs/targets.md shows it."""
    lines = (_ROOT / "docs" / "targets.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"    # {name} ")) - 1
    last = next(number for number in range(first, len(lines)) if not lines[number].startswith("    "))
    return "\n".join(line[4:] for line in lines[first:last]) + "\n"


def _client(name: str) -> str:
    return shutil.which(name) or str(PEERS / "bin" / name)


@contextlib.contextmanager
def ssh_server() -> Iterator[SshServer]:
    """Such a host, with the accounts ``deploy`` and ``boss``."""
    if not (PEERS / "sbin" / "sshd").exists():
        pytest.skip("no sshd here: `make peers` unpacks Debian's packages (about 3 MB) under .cache")
    if os.geteuid() != 0:
        pytest.skip("an sshd that lets others in than its own account has to be started as root")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # compiled into it
    folder = Path(tempfile.mkdtemp(prefix="remit-sshd-", dir="/run"))  # sshd runs no program below a folder that others may write to
    folder.chmod(0o755)
    try:
        server = SshServer(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

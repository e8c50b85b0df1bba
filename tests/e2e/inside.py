"""A working folder whose short commands run in the test's own process: the same command line, without a start of Python each."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass

from click.testing import CliRunner

from remit.cli.main import main
from tests.e2e.conftest import REMIT, Folder


@dataclass
class Inside(Folder):
    """As Folder; ``run`` and ``serve`` are processes still. No exception may leave a command, and none may show a trace."""

    def remit(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        if words[0] in {"run", "serve"}:  # they hand their own streams on, and listen for signals
            return Folder.remit(self, *words, timeout=timeout)
        return command(*self.command(*words)[len(REMIT) :])

    def ledger(self) -> list[dict]:
        """All records, after the export was verified with nothing but the key."""
        export, key = self.remit("ledger", "export", "-"), self.remit("ledger", "key")
        (self.path / "export.txt").write_text(export.stdout)
        verified = command("ledger", "verify", str(self.path / "export.txt"), "--key", key.stdout.strip())
        assert verified.returncode == 0, verified.stdout
        return [json.loads(base64.b64decode(line.split()[1])) for line in export.stdout.splitlines() if line.startswith("entry ")]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """One command line, here."""
    done = CliRunner().invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in done.output
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

"""The certified provider `oidc-provider` as one that gives tokens to machines; ``tests/oidc/oauth.mjs`` says what is written there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from joserfc.jwk import ECKey

from tests.conformance.suite import install, node
from tests.oidc.provider import CACHE, HERE
from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class OauthServer:
    """A provider. Its tokens are in its memory, so that it is stopped as one that hangs up: the process stays, and answers nobody."""

    secret = "a secret: 100% & more"

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = ECKey.generate_key("P-256", {"kid": "signer-key"})
        public = {**self.key.as_dict(private=False), "alg": "ES256", "use": "sig"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the provider
        self._process = subprocess.Popen(
            [str(node()), str(HERE / "oauth.mjs"), str(self.port), json.dumps(public)],
            env={**os.environ, "OIDC_MODULES": str(install(HERE, CACHE)), "NODE_ENV": "test"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._said("ready")

    def change(self, **how: Any) -> None:
        """``ahead``: seconds that its clock is put on (0 forgets what it gave out); ``ttl``: of tokens from now on; ``listening``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(how) + "\n")
        self._process.stdin.flush()
        self._said("done")

    def live(self) -> set[str]:
        with urlopen(f"{self.url}/live", timeout=10) as answer:
            return set(json.loads(answer.read()))

    def introspected(self, token: str) -> dict[str, Any]:
        """What a resource server is told of a token."""
        form = urlencode({"token": token, "client_id": "poster", "client_secret": "poster-secret"}).encode()
        with urlopen(Request(f"{self.url}/token/introspection", form), timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _said(self, word: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # it warns of its own memory first
            if line.strip() == word:
                return
        raise RuntimeError(self.log()[-2_000:])


@contextlib.contextmanager
def oauth_server() -> Iterator[OauthServer]:
    server = OauthServer()
    try:
        yield server
    finally:
        server.close()


def subject_file(folder: Path, token: str) -> str:
    """A file with a subject token."""
    file = folder / "subject"
    file.write_text(token + "\n")
    return str(file)

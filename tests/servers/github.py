"""A stand-in for GitHub's API for Apps, made after its public description (docs.github.com/rest/apps): nothing of it was recorded there.

It checks the App's JWT as GitHub says it does (RS256, issuer, ten minutes at most), narrows tokens to repositories and permissions,
ends them after an hour of its own clock or on DELETE, and refuses with GitHub's statuses.

What this does not prove: that GitHub still answers so, how it treats names that were renamed or moved, its limits on requests, how soon
the end of a token is known to all of its servers, and what each permission really opens.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from tests.servers.recorded import RecordedApi

if TYPE_CHECKING:
    from collections.abc import Iterator

APP, INSTALLATION, OWNER = "Iv23liABCDEFGHIJKLMN", "12345678", "acme"
REPOSITORIES = ("orders", "salaries", "Website")
PERMISSIONS = {"contents": "write", "issues": "write", "metadata": "read", "administration": "write"}
_DOCUMENTATION = "https://docs.github.com/rest"


@dataclass
class Token:
    repositories: tuple[str, ...]
    permissions: dict[str, str]
    ends: float


class GithubServer(RecordedApi):
    """An App with one installation. ``ahead``: seconds that its clock is before ours. ``generous``: gives more than was asked for."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2_048, private=True)
        self.tokens: dict[str, Token] = {}
        self.repositories, self.permissions = list(REPOSITORIES), dict(PERMISSIONS)
        self.ahead, self.generous, self.suspended, self.broken = 0.0, False, False, 0
        super().__init__()

    @property
    def secret(self) -> str:
        return self.key.as_pem(private=True).decode()

    def now(self) -> float:
        return time.time() + self.ahead

    def live(self) -> set[str]:
        return {token for token, one in self.tokens.items() if one.ends > self.now()}

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        if self.broken:
            return _told(self.broken, "Server Error")
        if path == "/installation/token" and method == "DELETE":
            if token not in self.live():
                return _told(401, "Bad credentials")
            del self.tokens[token]
            return 204, None
        if path.startswith("/repos/") and not path.endswith("/installation"):
            return self._work(method, path, token)
        if not self._is_app(token):
            return _told(401, "A JSON web token could not be decoded")
        if found := re.fullmatch(rf"/repos/{OWNER}/([\w.-]+)/installation", path):
            there = found[1].lower() in {name.lower() for name in self.repositories}
            return (200, {"id": int(INSTALLATION)}) if there else _told(404, "Not Found")
        if (method, path) == ("GET", "/app"):
            return 200, {"id": 7, "slug": "remit-agents", "client_id": APP, "permissions": PERMISSIONS, "events": []}
        if path == f"/app/installations/{INSTALLATION}" and method == "GET":
            there = {
                "id": int(INSTALLATION),
                "account": {"login": OWNER, "id": 1, "type": "Organization"},
                "repository_selection": "selected",
                "html_url": f"https://github.com/organizations/{OWNER}/settings/installations/{INSTALLATION}",
            }
            return 200, there | {"permissions": self.permissions, "suspended_at": "2026-01-01T00:00:00Z" if self.suspended else None}
        if path == f"/app/installations/{INSTALLATION}/access_tokens" and method == "POST":
            return self._mint(body)
        return _told(404, "Not Found")

    def _mint(self, body: Any) -> tuple[int, Any]:
        names = {name.lower(): name for name in self.repositories}
        if not all(name.lower() in names for name in body["repositories"]):
            return _told(422, "There is at least one repository that does not exist or is not accessible to the parent installation.")
        if not all(self.permissions.get(word) in {level, "write"} for word, level in body["permissions"].items()):
            return _told(422, "The permissions requested are not granted to this installation.")
        chosen = tuple(names[name.lower()] for name in body["repositories"]) + (("salaries",) if self.generous else ())
        token = "ghs_" + secrets.token_hex(18)
        made = self.tokens[token] = Token(chosen, {"metadata": "read", **body["permissions"]}, self.now() + 3_600)
        described = [{"id": number, "name": name, "full_name": f"{OWNER}/{name}", "private": True} for number, name in enumerate(chosen)]
        return 201, {
            "token": token,
            "expires_at": f"{datetime.fromtimestamp(made.ends, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "permissions": made.permissions,
            "repository_selection": "selected",
            "repositories": described,
        }

    def _work(self, method: str, path: str, token: str) -> tuple[int, Any]:
        if token not in self.live():
            return _told(401, "Bad credentials")
        found = re.fullmatch(rf"/repos/{OWNER}/([\w.-]+)/(contents|issues)(?:/.*)?", path)
        if found is None or found[1] not in self.tokens[token].repositories:
            return _told(404, "Not Found")
        level = self.tokens[token].permissions.get(found[2])
        if level is None or (method != "GET" and level != "write"):
            return _told(403, "Resource not accessible by integration")
        return 200, {"name": found[1]}

    def _is_app(self, token: str) -> bool:
        try:
            claims = jwt.decode(token, self.key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return False
        now = self.now()
        return claims["iss"] == APP and claims["iat"] <= now < claims["exp"] <= now + 600


def _told(status: int, message: str) -> tuple[int, Any]:
    return status, {"message": message, "documentation_url": _DOCUMENTATION, "status": str(status)}


@contextlib.contextmanager
def github_server() -> Iterator[GithubServer]:
    """Such an API."""
    server = GithubServer()
    try:
        yield server
    finally:
        server.stop()

"""The certified identity provider `oidc-provider` from npm, as a process of its own, and the honest ways to get tokens from it.

Installed once by `npm ci` into `.cache/oidc`, from the pins beside this file; Node is that of the conformance suite.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, OpenerDirector, Request, build_opener

from joserfc.jwk import ECKey, RSAKey

from bench.common import free_port
from tests.conformance.suite import install, node

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "oidc"
BACK = "http://127.0.0.1:1/back"
SECONDS_MAX = 20


def rsa_key(kid: str) -> dict[str, Any]:
    """A private JWK, as the provider takes them."""
    return {**RSAKey.generate_key(2048, {"kid": kid}).as_dict(private=True), "alg": "RS256", "use": "sig"}


def ec_key(kid: str) -> dict[str, Any]:
    return {**ECKey.generate_key("P-256", {"kid": kid}).as_dict(private=True), "alg": "ES256", "use": "sig"}


@dataclass
class Provider:
    """A running provider."""

    issuer: str

    def id_token(self, account: str, scope: str = "openid") -> str:
        """An ID token for the client ``remit`` by authorization code with PKCE, through the provider's own pages."""
        browser = a_browser()
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {"client_id": "remit", "response_type": "code", "scope": scope, "redirect_uri": BACK, "nonce": secrets.token_hex(8)}
        where = f"{self.issuer}/auth?{urlencode({**asked, 'code_challenge': challenge, 'code_challenge_method': 'S256'})}"
        where = self.signed_in(browser, where, account, BACK)
        code = parse_qs(urlsplit(where).query)["code"][0]
        form = {"grant_type": "authorization_code", "client_id": "remit", "code": code, "redirect_uri": BACK, "code_verifier": verifier}
        return str(json.loads(visit(browser, f"{self.issuer}/token", form)[2])["id_token"])

    def signed_in(self, browser: OpenerDirector, where: str, account: str, back: str) -> str:
        """Follow the provider's pages of signing in and of consent, until they lead back."""
        for _ in range(20):
            if where.startswith(back):
                return where
            _, where, page = visit(browser, where)
            if not where:
                action = re.search(r'action="([^"]+)"', page)
                prompt = re.search(r'name="prompt" value="([^"]+)"', page)
                assert action, page
                assert prompt, page
                form = {"prompt": prompt[1], "login": account, "password": "any"}
                _, where, _ = visit(browser, urljoin(self.issuer, action[1]), form)
        raise AssertionError(f"the provider does not lead back: {where}")

    def access_token(self) -> str:
        """A JWT access token (RFC 9068) by client credentials, for the same audience and signed with the same key."""
        form = {"grant_type": "client_credentials", "client_id": "machine", "client_secret": "machine-secret"}
        return str(json.loads(visit(build_opener(), f"{self.issuer}/token", form)[2])["access_token"])


@contextmanager
def provider(*keys: dict[str, Any], port: int = 0, returns_to: str = BACK) -> Iterator[Provider]:
    """Run it with these private keys, the first of which signs. ``returns_to``: where people go back to after a sign-in."""
    port = port or free_port()
    modules = install(HERE, CACHE)
    command = [str(node()), str(HERE / "provider.mjs"), str(port), json.dumps({"keys": keys}), returns_to]
    environment = {**os.environ, "OIDC_MODULES": str(modules), "NODE_ENV": "test"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            raise RuntimeError(process.communicate()[1])
        yield Provider(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


def a_browser() -> OpenerDirector:
    """One that keeps cookies and goes nowhere by itself."""
    return build_opener(HTTPCookieProcessor(), _Stay())


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def visit(browser: OpenerDirector, url: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, where it leads on ("" : nowhere), page."""
    request = Request(url, urlencode(form).encode() if form is not None else None)
    try:
        with browser.open(request, timeout=SECONDS_MAX) as answer:
            return answer.status, "", answer.read().decode()
    except HTTPError as moved:
        if moved.code not in {302, 303}:
            raise AssertionError(f"{url}: {moved.code} {moved.read().decode()[:2000]}") from None
        return moved.code, urljoin(url, moved.headers["Location"]), ""

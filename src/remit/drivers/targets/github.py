"""GitHub: a lease is an installation access token of a GitHub App, for the repositories and with the permissions of the scope.

Rules
* Repositories and permissions are always named, for GitHub gives all that the installation has to who names none. What comes back is
  compared with what was asked for; more is given back at once. Permissions that repositories do not narrow (of an organization, its
  members) and ``administration`` are never given: they make what outlives the task.
* A token lives for an hour, no longer and no shorter (``TargetKind.late_seconds``); remit ends it earlier. A lease may be longer only
  where ``rotate_after`` replaces it in time.
* GitHub lists no tokens (``lists``), gives them no name, and ends one for whoever shows it (``by_mark``). So a mint goes on when nobody
  waits for it any more, and its token is kept until its mark is revoked. What a crash takes with it nobody was given; an hour ends it.

Left out: tokens of users, and the App's other installations. GitHub REST API 2022-11-28, "Apps"; App JWT: RS256, ten minutes at most.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.http import HttpClient, check_authorities
from remit.drivers.targets.under_way import UnderWay
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.drivers.targets.base import Scope, TargetSettings
    from remit.drivers.targets.http import Answered

_TOKEN_SECONDS = 3_600
_ROTATED_IN_TIME = timedelta(minutes=55)
_JWT_SECONDS, _JWT_BACK_SECONDS = 540, 60
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_REPOSITORIES_MAX, _PERMISSIONS_MAX = 100, 50
_CREATED, _GONE, _UNAUTHORIZED, _NOT_FOUND = 201, 204, 401, 404
_REFUSED = frozenset({404, 422})
_REPOSITORY = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", re.ASCII)
_PERMISSION = re.compile(r"[a-z][a-z_]{0,63}", re.ASCII)
_BEYOND = re.compile(r"administration|members|(?:organization|enterprise)_.*", re.ASCII)
_LEVELS = ("read", "write")
_EXAMPLE = 'repositories = ["{repository}"], permissions = { contents = "read" }'
_URL_HINT = 'url = "https://api.github.com", or "https://github.internal/api/v3" of GitHub Enterprise'


class GithubTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        values = settings.values
        self._name, self._secret, self._rotate_after = settings.name, secret, settings.rotate_after
        self._url = str(values["url"]).rstrip("/")
        self._app, self._installation = str(values["app"]), str(values["installation"])
        self._http = HttpClient(
            settings.name, connections=settings.connections, ca_file=str(values["ca_file"]), bytes_max=_ANSWER_BYTES_MAX
        )
        self._under_way = UnderWay()
        self._key: tuple[str, RSAKey] | None = None  # reading one takes a while

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        asked = _read_scope(scope)
        rotated = self._rotate_after is not None and self._rotate_after <= _ROTATED_IN_TIME
        if (expires_at - datetime.now(UTC)).total_seconds() > _TOKEN_SECONDS and not rotated:
            hint = 'rotate_after = "50m" in the target, or a nearer deadline'
            raise Mistake(f"a token of target {self._name} lives for an hour, the lease longer", code="target_refused", hint=hint)
        return await self._under_way.mint(mark, self._made(asked))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Without the token, of a mint that this process began and nobody has waited for; else nobody can tell: true."""
        return await self._under_way.revoke(mark, minted, lambda one: self._ended(one.parts["token"]))

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. Raises Outage where it is away."""
        del prefix
        await self._ask("GET", "/app", await self._app_token())
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            app = (await self._ask("GET", "/app", await self._app_token())).data
            there = (await self._ask("GET", f"/app/installations/{self._installation}", await self._app_token())).data
            name, account = str(app["slug"]), str(there["account"]["login"])
            allowed = ", ".join(f"{word} ({level})" for word, level in sorted(there["permissions"].items()))
            suspended = there.get("suspended_at") is not None
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)
        except (KeyError, TypeError, AttributeError):
            return (Finding(good=False, text=f"what answers at {self._url} is not GitHub"),)
        if suspended:
            return (Finding(good=False, text=f"the installation of {name} at {account} is suspended"),)
        return (
            Finding(good=True, text=f"GitHub, as {name} at {account}, which may give: {allowed}"),
            Finding(good=True, text="GitHub keeps no list of tokens: should remit die, they end within an hour"),
        )

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive."""
        app = await self._app_token()
        there = (await self._ask("GET", f"/app/installations/{self._installation}", app)).data
        try:
            owner, allowed, where = str(there["account"]["login"]), dict(there["permissions"]), str(there["html_url"])
        except (KeyError, TypeError, ValueError):
            raise Outage(f"target {self._name} does not answer as GitHub does", code="target_unavailable") from None
        found: list[Finding] = []
        for name in scope.get("repositories", []):
            path = f"/repos/{quote(owner, safe='')}/{name}/installation"
            data = (await self._ask("GET", path, app, also=_NOT_FOUND)).data
            if not isinstance(data, dict) or str(data.get("id")) != self._installation:
                text = f"the installation does not have the repository {owner}/{name}: add it there"
                found.append(Finding(good=False, text=text, mend=where))
        for word, level in scope.get("permissions", {}).items():
            if allowed.get(word) not in {level, "write", "admin"} and (word, level) != ("metadata", "read"):
                text = f"the installation may not give {word} = {level}: change the App's permissions, and accept that there"
                found.append(Finding(good=False, text=text, mend=where))
        return tuple(found)

    async def close(self) -> None:
        """See Target."""
        await self._http.close()

    async def _made(self, asked: Mapping[str, Any]) -> Minted:
        path = f"/app/installations/{self._installation}/access_tokens"
        answer = await self._ask("POST", path, await self._app_token(), asked, good=_CREATED)
        token = answer.data.get("token") if isinstance(answer.data, dict) else None
        if not isinstance(token, str) or not token:
            raise Outage(f"target {self._name} does not answer as GitHub does", code="target_unavailable")
        if not _no_more(answer.data, asked):
            try:
                await self._ended(token)
            except Outage as error:
                raise Outage(error.message, code=error.code) from None  # a token was made, whatever could be sent afterwards
            raise Mistake(f"target {self._name} gives more than was asked for", code="target_refused", hint="is url GitHub's?")
        return Minted(parts={"token": token, "url": self._url}, secret=frozenset({"token"}))

    async def _ended(self, token: str) -> bool:
        answer = await self._ask("DELETE", "/installation/token", token, good=_GONE, also=_UNAUTHORIZED)
        return answer.status == _GONE

    async def _app_token(self) -> str:
        """Raises Mistake, Outage."""
        now = int(time.time())
        claims = {"iat": now - _JWT_BACK_SECONDS, "exp": now + _JWT_SECONDS, "iss": self._app}
        secret = await self._secret()
        try:
            if self._key is None or self._key[0] != secret:
                self._key = secret, RSAKey.import_key(secret)
            return jwt.encode({"alg": "RS256", "typ": "JWT"}, claims, self._key[1])
        except (JoseError, ValueError, TypeError):
            hint = "the App's private key as GitHub gave it: PEM, RSA"
            raise Mistake(f"the secret of target {self._name} is no key of an App", code="target_secret", hint=hint) from None

    async def _ask(
        self, method: str, path: str, token: str, body: Mapping[str, Any] | None = None, *, good: int = 200, also: int = 0
    ) -> Answered:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "remit",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        answer = await self._http.ask(method, self._url + path, headers, msgspec.json.encode(body) if body else None)
        if answer.status in {good, also}:
            return answer
        if answer.status == _UNAUTHORIZED:
            raise Outage(f"target {self._name} does not let remit in", code="target_refused", unsent=True)
        if answer.status in _REFUSED:
            hint = "remit doctor; the installation has to have these repositories and permissions"
            raise Mistake(f"target {self._name} refuses this ({answer.status})", code="target_refused", hint=hint)
        raise Outage(f"target {self._name} cannot do it now ({answer.status})", code="target_unavailable")


def _no_more(given: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a token has no more than it should. ``metadata`` = read goes with every token."""
    repositories, permissions = given.get("repositories"), given.get("permissions")
    if not isinstance(repositories, list) or not isinstance(permissions, dict) or given.get("repository_selection") != "selected":
        return False
    names = {str(one.get("name")).lower() if isinstance(one, dict) else "" for one in repositories}
    levels = {"metadata": "read", **asked["permissions"]}
    return names <= {name.lower() for name in asked["repositories"]} and all(
        word in levels and level in {"read", levels[word]} for word, level in permissions.items()
    )


def _read_scope(scope: Scope) -> dict[str, Any]:
    """What to ask for. Raises Mistake."""
    if set(scope) != {"repositories", "permissions"}:
        raise _wrong("a scope has exactly: permissions, repositories")
    repositories, permissions = scope["repositories"], scope["permissions"]
    if not isinstance(repositories, list) or not 0 < len(repositories) <= _REPOSITORIES_MAX:
        raise _wrong(f"repositories is a list of 1 to {_REPOSITORIES_MAX} names")
    if not all(isinstance(name, str) and _REPOSITORY.fullmatch(name) for name in repositories):
        raise _wrong("a repository is named without its owner, who is the installation's")
    if not isinstance(permissions, dict) or not 0 < len(permissions) <= _PERMISSIONS_MAX:
        raise _wrong("permissions is a table of names with read or write")
    for word, level in permissions.items():
        if not _PERMISSION.fullmatch(word) or level not in _LEVELS:
            raise _wrong("a permission is a name of GitHub's with read or write")
        if _BEYOND.fullmatch(word):
            raise _wrong(f"{word} is not bound to the repositories, or makes what outlives the task")
    return {"repositories": list(dict.fromkeys(repositories)), "permissions": dict(permissions)}


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An App, its installation, an address. Raises Mistake."""
    if not re.fullmatch(r"[A-Za-z0-9.]{1,64}", values["app"], re.ASCII):
        raise Mistake("app is no client ID or ID of a GitHub App", code="target", hint='app = "Iv23liABCDEFGHIJKLMN"')
    if not re.fullmatch(r"[0-9]{1,20}", values["installation"], re.ASCII):
        raise Mistake("installation is no number", code="target", hint='installation = "12345678", as in its address at GitHub')
    try:
        known = urlsplit(values["url"])
        good = known.hostname and known.port != 0 and not known.username and not known.query and not known.fragment
    except ValueError:
        good = False
    if not good or (known.scheme != "https" and not (known.scheme == "http" and known.hostname in {"127.0.0.1", "::1", "localhost"})):
        raise Mistake("url is no https address (http on this machine)", code="target", hint=_URL_HINT)
    check_authorities(values["ca_file"])


GITHUB = TargetKind(
    name="github",
    settings={
        "app": Setting(kind=str, hint='app = "Iv23liABCDEFGHIJKLMN", its client ID'),
        "installation": Setting(kind=str, hint='installation = "12345678"'),
        "url": Setting(kind=str, default="https://api.github.com", hint=_URL_HINT),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={"token": "", "url": ""},
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=GithubTarget,
    lists=False,
    by_mark=False,
    late_seconds=_TOKEN_SECONDS,
    divisible=frozenset({"repositories"}),
)

"""The contract of targets on GitHub as far as it can be had here (``tests/servers/github.py`` says what that does not prove)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.github import GITHUB, GithubTarget
from remit.errors import Mistake, Outage
from remit.model.lease import LeaseState
from remit.model.task import TaskState
from tests.contract.target_contract import Lacking, TargetContract, mark, soon
from tests.integration.test_lease_faults import working
from tests.servers.github import APP, INSTALLATION, GithubServer, github_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"repositories": ["orders"], "permissions": {"contents": "read"}}


class Refused(Exception):
    """The API says no."""


@dataclass
class Logged:
    """Who has a token; each request is one of its own."""

    url: str
    token: str

    async def status(self, method: str, path: str) -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, self.url + path, headers={"Authorization": f"Bearer {self.token}"}) as answer,
        ):
            return answer.status

    async def alive(self) -> bool:
        return await self.status("GET", "/repos/acme/orders/contents/README") == 200

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class GithubCase:
    server: GithubServer
    target: GithubTarget
    given: dict[str, str] = field(default_factory=dict)
    kind = GITHUB
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        session = Logged(self.server.url, minted.parts["token"])
        if not await session.alive():
            raise Refused
        return session

    async def beyond(self, session: Logged) -> None:
        assert await session.status("GET", "/repos/acme/salaries/contents/README") == 404
        assert await session.status("PUT", "/repos/acme/orders/contents/README") == 403
        assert await session.status("GET", "/repos/acme/orders/issues") == 403
        raise Refused

    async def leave_things(self, session: Logged) -> None:
        """What a token has written stays, and is no access."""

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"repositories": ["orders"]},
            {"permissions": {"contents": "read"}},
            *(
                {**SCOPE, "repositories": names}
                for names in ([], "orders", ["*"], ["acme/orders"], [""], [".."], [7], ["a\n"], ["x"] * 101)
            ),
            *({**SCOPE, "permissions": what} for what in ({}, "read", {"contents": "admin"}, {"contents": True}, {"Contents": "read"}, [])),
            *({**SCOPE, "permissions": {word: "read"}} for word in ("administration", "members", "organization_hooks", "enterprise_x", "")),
            {**SCOPE, "repositories": ["nobody-has-this"]},
            {**SCOPE, "permissions": {"pages": "write"}},
            {**SCOPE, "more": 1},
        ]

    def standing(self) -> set[str]:
        """GitHub gives tokens no name: which of those that were given out it still takes, and all that nobody was given."""
        live = self.server.live()
        return {name for name, token in self.given.items() if token in live} | (live - set(self.given.values()))

    def secrets_told(self, minted: Minted) -> list[str]:
        """In a request to end it, it is the credential."""
        return [text for text in self.server.heard if minted.parts["token"] in text and not text.startswith(("DELETE", "GET /repos"))]

    async def lacking(self) -> Lacking:
        """An installation without the repository and the permission, until somebody gives it both in the browser."""
        self.server.repositories.remove("orders")
        del self.server.permissions["contents"]

        async def run(address: str) -> None:
            assert address == f"https://github.com/organizations/acme/settings/installations/{INSTALLATION}"
            if "orders" in self.server.repositories:
                self.server.permissions["contents"] = "write"
            else:
                self.server.repositories.append("orders")

        return Lacking(target=GithubTarget(settings(self.server), secret_of(self.server.secret)), says=("the installation",), run=run)

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()

    def later(self, seconds: float) -> None:
        self.server.ahead += seconds


class Noted(GithubTarget):
    """The driver, with a note of what it gave out."""

    given: dict[str, str]

    async def mint(self, mark: str, *arguments: Any) -> Minted:
        minted = await super().mint(mark, *arguments)
        self.given[mark] = minted.parts["token"]
        return minted


@pytest.fixture(scope="module")
def server() -> Iterator[GithubServer]:
    with github_server() as running:
        yield running


def settings(server: GithubServer, **more: Any) -> TargetSettings:
    values = {"app": APP, "installation": INSTALLATION, "url": server.url, "ca_file": ""} | more
    return TargetSettings(name="code", kind="github", values=values)


def secret_of(text: str) -> Any:
    async def secret() -> str:
        return text

    return secret


@pytest.fixture
async def case(server: GithubServer) -> AsyncIterator[GithubCase]:
    server.tokens.clear()
    server.heard.clear()
    server.ahead, server.generous, server.suspended, server.broken = 0.0, False, False, 0
    made = GithubCase(server, Noted(settings(server), secret_of(server.secret)))
    made.target.given = made.given
    yield made
    await made.target.close()


class TestGithub(TargetContract):
    """The contract."""


async def test_what_was_minted_for_nobody_is_ended_by_its_mark(case):
    """Who waited is gone before GitHub has answered; what comes is ended all the same."""
    case.server.lock.acquire()
    try:
        minting = asyncio.create_task(case.target.mint(mark(50), SCOPE, soon()))
        while not case.server.heard:
            await asyncio.sleep(0.01)
        minting.cancel()
        await asyncio.gather(minting, return_exceptions=True)
        revoking = asyncio.create_task(case.target.revoke(mark(50)))
        await asyncio.sleep(0.05)
        assert not revoking.done(), "a token may still come"
    finally:
        case.server.lock.release()
    assert await revoking is True
    assert case.server.live() == set()
    assert sum(text.startswith("DELETE") for text in case.server.heard) == 1


async def test_a_token_with_more_than_was_asked_for_is_given_back(case):
    case.server.generous = True
    with pytest.raises(Mistake) as caught:
        await case.target.mint(mark(51), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert case.server.live() == set()


async def test_names_are_taken_as_github_does_whatever_their_case(case):
    minted = await case.target.mint(mark(52), {**SCOPE, "repositories": ["website", "website"]}, soon())
    assert await Logged(case.server.url, minted.parts["token"]).status("GET", "/repos/acme/Website/contents/x") == 200


async def test_a_lease_longer_than_a_token_needs_its_replacement_in_time(case):
    for minutes, lets in ((None, False), (58, False), (50, True)):
        configured = replace(settings(case.server), rotate_after=timedelta(minutes=minutes) if minutes else None)
        target = GithubTarget(configured, secret_of(case.server.secret))
        if lets:
            assert (await target.mint(mark(53), SCOPE, soon(7_200))).parts["token"]
        else:
            with pytest.raises(Mistake):
                await target.mint(mark(53), SCOPE, soon(7_200))
        await target.close()
    assert len(case.server.live()) == 1


@pytest.mark.parametrize("status", [403, 429, 500, 502])
async def test_while_it_cannot_a_lease_waits(case, status):
    minted = await case.target.mint(mark(54), SCOPE, soon())
    case.server.broken = status
    for attempt in (case.target.revoke(mark(54), minted), case.target.mint(mark(55), SCOPE, soon())):
        with pytest.raises(Outage) as caught:
            await attempt
        assert caught.value.code == "target_unavailable"
        assert "Server Error" not in caught.value.message
    case.server.broken = 0
    assert await case.target.revoke(mark(54), minted) is True


async def test_the_key_of_another_app_is_an_outage_that_says_so(case):
    other = GithubTarget(settings(case.server, app="Iv1.other"), secret_of(case.server.secret))
    with pytest.raises(Outage) as caught:
        await other.mint(mark(56), SCOPE, soon())
    assert caught.value.code == "target_refused"
    assert [finding.good for finding in await other.check()] == [False]
    await other.close()


@pytest.mark.parametrize("text", ["just-some-text", "", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"])
async def test_a_root_secret_that_is_no_key_is_a_mistake_without_it(server, text):
    target = GithubTarget(settings(server), secret_of(text))
    with pytest.raises(Mistake) as caught:
        await target.mint(mark(57), SCOPE, soon())
    assert not text or text not in f"{caught.value}"
    assert [finding.good for finding in await target.check()] == [False]
    await target.close()


async def test_the_check_tells_of_an_installation_that_is_suspended(case):
    case.server.suspended = True
    (finding,) = await case.target.check()
    assert not finding.good
    assert "suspended" in finding.text


async def test_a_task_has_one_until_it_ends(server, tmp_path):
    """Through a whole node; and where the keys are lost that sealed it, it is not called gone before its hour is over."""
    server.tokens.clear()
    server.ahead = 0.0
    (tmp_path / "app.pem").write_text(server.secret)
    (tmp_path / "app.pem").chmod(0o600)
    async with working(tmp_path, replace(settings(server), secret_file=str(tmp_path / "app.pem"))) as node:
        for lost in (False, True):
            task = await node.open("code", scope=json.dumps(SCOPE))
            await node.parts.leases.have(task.id, "code")
            assert await node.parts.reconciliation.target("code") == 0
            (token,) = server.live()
            revocations = node.parts.revocations
            kept = revocations._opened
            if lost:
                revocations._opened = unopened
            await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
            await node.parts.end_task(task.id)
            (lease,) = (await node.tasks.view(task.id)).leases.values()
            assert (lease.state, token in server.live()) == ((LeaseState.REVOKING, True) if lost else (LeaseState.REVOKED, False))
            revocations._opened = kept


def unopened(row: Any) -> Minted:
    raise Outage(f"lease {row.lease} was sealed with other keys", code="lease_sealed")


def test_a_scope_may_be_made_of_inputs():
    """Before a task is opened its inputs stand for ``x``."""
    GITHUB.check_scope({"repositories": ["x"], "permissions": {"contents": "write", "pull_requests": "write"}})


@pytest.mark.parametrize(
    "change",
    [
        {"app": ""},
        {"app": "a b"},
        {"installation": "acme"},
        {"installation": "../1"},
        {"url": "http://api.github.com"},
        {"url": "https://u:p@github.internal"},
        {"url": "https://github.internal/api/v3?x=1"},
        {"url": "ftp://github.internal"},
        {"url": "https://h:bad"},
        {"ca_file": "ca.pem"},
        {"ca_file": "/nonexistent/ca.pem"},
    ],
)
def test_settings_that_will_not_do(change):
    good = {"app": APP, "installation": INSTALLATION, "url": "https://github.internal/api/v3", "ca_file": ""}
    GITHUB.check_settings(good)
    with pytest.raises(Mistake):
        GITHUB.check_settings(good | change)

"""The contract of targets on a real OAuth provider, and what is OAuth's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.oauth import OAUTH, OauthTarget
from remit.errors import Mistake, Outage
from tests.contract.target_contract import TargetContract, mark, refused, soon
from tests.servers.oauth import OauthServer, oauth_server, subject_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"scope": ["orders.read"], "resource": ["https://orders.example"]}
DETAILS = {"authorization_details": [{"type": "order", "identifier": "A-1"}]}


class Refused(Exception):
    """The resource server says no."""


@dataclass
class Logged:
    """Who shows a token to a resource server that introspects it."""

    server: OauthServer
    token: str

    def scopes(self) -> set[str]:
        told = self.server.introspected(self.token)
        return set(str(told.get("scope", "")).split()) if told["active"] else set()

    async def alive(self) -> bool:
        return "orders.read" in self.scopes()

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class OauthCase:
    server: OauthServer
    target: OauthTarget
    given: dict[str, str] = field(default_factory=dict)
    kind = OAUTH
    scope = SCOPE

    async def login(self, minted: Minted) -> Logged:
        session = Logged(self.server, minted.parts["token"] or "nothing")
        if not await session.alive():
            raise Refused
        return session

    async def beyond(self, session: Logged) -> None:
        assert session.scopes() == {"orders.read"}
        raise Refused

    async def leave_things(self, session: Logged) -> None:
        """What a token has done stays, and is no access."""

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"resource": ["https://orders.example"]},
            DETAILS,
            {**DETAILS, "resource": ["https://orders.example"]},
            {**SCOPE, "more": 1},
            *(
                {"scope": words}
                for words in ([], "orders.read", ["orders.read salaries.read"], [""], ['a"b'], ["a\\b"], ["é"], ["a\n"], [7])
            ),
            *({**SCOPE, "resource": places} for places in ([], ["orders"], ["https://orders.example#x"], ["https://a b"], [""], [7])),
            *(
                {**SCOPE, "authorization_details": what}
                for what in ([], {}, [{}], [{"type": 7}], ["x"], [{"type": "x", "y": "z" * 20_000}])
            ),
            {**SCOPE, "resource": ["https://elsewhere.example"]},
        ]

    def standing(self) -> set[str]:
        """A provider gives tokens no name: which of those that were given out it takes, and all that nobody was given."""
        live = self.server.live()
        return {name for name, token in self.given.items() if token in live} | (live - set(self.given.values()))

    def secrets_told(self, minted: Minted) -> list[str]:
        return [line for line in self.server.log().splitlines() if minted.parts["token"] in line]

    def down(self) -> None:
        self.server.change(listening=False)

    def up(self) -> None:
        self.server.change(listening=True)

    def later(self, seconds: float) -> None:
        self.server.change(ahead=seconds)


class Noted(OauthTarget):
    """The driver, with a note of what it gave out."""

    given: dict[str, str]

    async def mint(self, mark: str, *arguments: Any) -> Minted:
        minted = await super().mint(mark, *arguments)
        self.given[mark] = minted.parts["token"]
        return minted


@pytest.fixture(scope="module")
def provider() -> Iterator[OauthServer]:
    with oauth_server() as running:
        yield running


@pytest.fixture
def server(provider: OauthServer) -> OauthServer:
    provider.change(ahead=0, ttl=600)
    return provider


DEFAULTS = {name: setting.default for name, setting in OAUTH.settings.items()}


def values(url: str, **more: Any) -> dict[str, Any]:
    places = {"token_url": f"{url}/token", "revocation_url": f"{url}/token/revocation", "introspection_url": f"{url}/token/introspection"}
    return DEFAULTS | places | {"client_id": "machine", "late_seconds": 3_600, "networks": "127.0.0.1/32"} | more


def opened(url: str, secret: str = OauthServer.secret, rotate_after: timedelta | None = None, **more: Any) -> Noted:
    async def root() -> str:
        return secret

    target = Noted(TargetSettings(name="id", kind="oauth", values=values(url, **more), rotate_after=rotate_after), root)
    target.given = {}
    return target


@pytest.fixture
async def case(server: OauthServer) -> AsyncIterator[OauthCase]:
    target = opened(server.url)
    yield OauthCase(server, target, target.given)
    await target.close()


class TestOauth(TargetContract):
    """The contract."""


async def test_each_way_of_proving_who_remit_is(case, server, tmp_path):
    pem = server.key.as_pem(private=True).decode()
    ways = [
        ("poster", "secret_post", "poster-secret", {}),
        ("signer", "private_key_jwt", pem, {"key_id": "signer-key", "assertion_audience": server.url}),
    ]
    for client, how, secret, more in ways:
        target = opened(server.url, secret, client_id=client, authentication=how, **more)
        minted = await target.mint(mark(50), SCOPE, soon())
        assert server.introspected(minted.parts["token"])["client_id"] == client
        assert await target.revoke(mark(50), minted) is True
        assert await refused(case, minted)
        assert all(finding.good for finding in await target.check())
        await target.close()
        wrong = opened(server.url, "not-it" if how != "private_key_jwt" else OTHER_KEY(), client_id=client, authentication=how, **more)
        with pytest.raises(Outage) as caught:
            await wrong.mint(mark(50), SCOPE, soon())
        assert (caught.value.code, caught.value.unsent) == ("target_refused", True)
        await wrong.close()
    broken = opened(server.url, "no key", client_id="signer", authentication="private_key_jwt")
    with pytest.raises(Mistake, match="no private key"):
        await broken.mint(mark(50), SCOPE, soon())
    await broken.close()


def OTHER_KEY() -> str:  # noqa: N802 - reads as the constant it is
    from joserfc.jwk import ECKey

    return ECKey.generate_key("P-256").as_pem(private=True).decode()


async def test_a_token_is_exchanged_for_a_narrower_one(case, server, tmp_path):
    subject = await case.target.mint(mark(51), {"scope": ["orders.read", "orders.write"], "resource": SCOPE["resource"]}, soon())
    file = subject_file(tmp_path, subject.parts["token"])
    target = opened(server.url, grant="token_exchange", subject_token_file=file)
    minted = await target.mint(mark(52), {"scope": ["orders.read"]}, soon())
    assert server.introspected(minted.parts["token"])["scope"] == "orders.read"
    assert await target.revoke(mark(52), minted) is True
    await case.target.revoke(mark(51), subject)
    with pytest.raises(Mistake, match="invalid_grant"):
        await target.mint(mark(52), {"scope": ["orders.read"]}, soon())
    for text in ("", "x" * 70_000, "\u00e9"):
        subject_file(tmp_path, text)
        with pytest.raises(Outage) as caught:
            await target.mint(mark(52), {"scope": ["orders.read"]}, soon())
        assert caught.value.unsent
    await target.close()
    assert server.live() == set()


async def test_a_scope_that_nobody_named_is_never_given(case, server, tmp_path):
    """This provider gives the default without a word of it (RFC 6749 §3.3, §5.1): by its answer alone nobody could tell."""
    wide = await case.target.mint(mark(56), {"scope": ["orders.read", "orders.write"], "resource": SCOPE["resource"]}, soon())
    before = server.live()
    target = opened(server.url, grant="token_exchange", subject_token_file=subject_file(tmp_path, wide.parts["token"]))
    with pytest.raises(Mistake, match="default") as caught:
        await target.mint(mark(57), DETAILS, soon())
    assert "scope.scope" in caught.value.hint
    assert server.live() == before
    named = await target.mint(mark(57), {"scope": ["orders.read"], **DETAILS}, soon())
    assert server.introspected(named.parts["token"])["scope"] == "orders.read"
    await target.revoke(mark(57), named)
    await case.target.revoke(mark(56), wide)
    await target.close()


async def test_a_token_that_does_not_fit_its_lease_is_given_back(server):
    strict = opened(server.url, late_seconds=0)
    with pytest.raises(Mistake, match="longer than the lease"):
        await strict.mint(mark(53), SCOPE, soon(300))
    server.change(ttl=60)
    with pytest.raises(Mistake, match="shorter than the lease"):
        await strict.mint(mark(53), SCOPE, soon(300))
    assert server.live() == set()
    rotated = opened(server.url, late_seconds=0, rotate_after=timedelta(seconds=50))
    await rotated.revoke(mark(53), await rotated.mint(mark(53), SCOPE, soon(300)))
    await strict.close()
    await rotated.close()


ANSWERS = [
    {"scope": "orders.read salaries.read"},
    {"scope": 7},
    {"refresh_token": "for-good"},
    {"token_type": "DPoP"},
    {"token_type": None},
    {"expires_in": None},
    {"expires_in": "600"},
    {"expires_in": True},
    {"expires_in": -1},
    {"expires_in": 10**12},
    {"authorization_details": [{"type": "all"}]},
    {"authorization_details": "all"},
]


@pytest.mark.parametrize("more", ANSWERS, ids=range(len(ANSWERS)))
async def test_a_provider_that_gives_something_else_gets_it_back(more):
    """A stand-in, for what no honest provider answers: it proves that the token went back, not how a provider ends it."""
    ended: list[str] = []

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "given", "token_type": "Bearer", "expires_in": 600} | more)

    async def revoke(request: web.Request) -> web.Response:
        ended.append(str((await request.post())["token"]))
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/token", token), web.post("/token/revocation", revoke)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    target = opened(f"http://127.0.0.1:{runner.addresses[0][1]}", introspection_url="")
    with pytest.raises(Mistake):
        await target.mint(mark(54), {"scope": ["orders.read"]}, soon())
    assert ended == ["given", *([more["refresh_token"]] if "refresh_token" in more else [])]
    await target.close()
    await runner.cleanup()


async def test_only_public_addresses_and_named_networks_are_reached(server):
    target = opened(server.url, networks="")
    with pytest.raises(Outage, match="not a public one") as caught:
        await target.mint(mark(55), SCOPE, soon())
    assert caught.value.unsent
    await target.close()


@pytest.mark.parametrize(
    "more",
    [
        {"token_url": "http://id.example/token"},
        {"token_url": "https://user:word@id.example/token"},
        {"token_url": "nonsense"},
        {"token_url": "http://127.0.0.1/token", "networks": ""},
        {"revocation_url": ""},
        {"introspection_url": "ftp://id.example"},
        {"client_id": ""},
        {"authentication": "none"},
        {"grant": "password"},
        {"grant": "token_exchange"},
        {"grant": "token_exchange", "subject_token_file": "relative"},
        {"subject_token_file": "/run/token"},
        {"networks": "everywhere"},
        {"ca_file": "relative.pem"},
    ],
)
def test_settings_that_will_not_do(more):
    OAUTH.check_settings(values("https://id.example"))
    with pytest.raises(Mistake):
        OAUTH.check_settings(values("https://id.example") | more)

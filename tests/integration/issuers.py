"""An OIDC issuer of our own on loopback, which can be made to misbehave, and identities that trust it: for what no honest issuer does.

The honest one is `oidc-provider` (`test_oidc_provider.py`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from remit.drivers.signing import TokenSigner
from remit.errors import Unauthenticated
from remit.logic.identity_mapping import parse_template
from remit.logic.records import decode
from remit.model.identity import SpiffeId
from remit.model.token_record import TokenRefused
from remit.model.trust import DomainRule, Endpoint, IdentityRule, IssuerRule, TrustRules
from remit.node import new_id
from remit.services.declared import Declared
from remit.services.identities import Identities
from remit.services.proofs import make_proofs
from remit.services.replays import Replays
from remit.services.standing import Standing
from remit.settings import Agent
from remit.store.sqlite import SqliteStore
from tests.support import NOW, Clock

US = "https://remit.test"
BUILDER = SpiffeId.parse("spiffe://remit.test/ci/acme/web")
AGENTS = {
    "builder": Agent(name="builder", spiffe_id=BUILDER),
    "partner": Agent(name="partner", spiffe_id=SpiffeId.parse("spiffe://other.test/agent/x")),
}
LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
STRANGER = ECKey.generate_key("P-256", {"kid": "ec-1"})
OWN = TokenSigner(generate_private_key(SECP256R1()))
SECONDS = int(NOW.timestamp())
Json = dict[str, Any]


def public(*keys: Any) -> Json:
    return {"keys": [{**key.as_dict(private=False), "use": "sig"} for key in keys]}


@dataclass
class Site:
    """What the issuer's server answers: a path's JSON, or a handler of it. ``asked``: paths, in order."""

    base: str = ""
    answers: dict[str, Json | Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        answer = self.answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        if callable(answer):
            return await answer(request)
        return web.json_response(answer, headers=self.headers)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A server on loopback that discovers itself and has both keys."""
    served = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    served.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    served.answers["/.well-known/openid-configuration"] = {"issuer": served.base, "jwks_uri": f"{served.base}/jwks"}
    served.answers["/jwks"] = public(RSA, EC)
    try:
        yield served
    finally:
        await runner.cleanup()


@dataclass
class Trusting:
    """Identities that trust the site; ``ticks`` is the clock of what is fetched."""

    site: Site
    store: SqliteStore
    identities: Identities
    clock: Clock
    ticks: list[float]

    def token(self, *, key: Any = EC, header: Json | None = None, drop: tuple[str, ...] = (), **claims: Any) -> str:
        """A token of the site, right unless it is changed."""
        said = {
            "iss": self.site.base,
            "aud": US,
            "sub": "repo:acme/web",
            "iat": SECONDS,
            "exp": SECONDS + 300,
            "repository": "acme/web",
            "owner": "acme",
            **claims,
        }
        head = {"alg": "RS256" if isinstance(key, RSAKey) else "ES256", "kid": key.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        return signed(head, {name: value for name, value in said.items() if name not in drop}, key)

    async def refused(self, proof: Any, *, once: bool = False) -> str:
        """Why a proof is refused, as the ledger says; it must be, and be recorded."""
        try:
            who = await self.identities.verify_svid(proof, once=once)
        except Unauthenticated:
            pass
        else:
            raise AssertionError(f"taken for {who}")
        said = [decode(entry.body).body for entry in await self.store.entries(max(await self.store.change_mark() - 10, 0), 10)]
        refusals = [body for body in said if isinstance(body, TokenRefused)]
        assert refusals
        return refusals[-1].why

    def of(self, **rule: Any) -> Trusting:
        """The same with another rule for the issuer."""
        one = replace(next(iter(self.rules.issuers.values())), **rule)
        rules = TrustRules(issuers={one.issuer: one})
        return Trusting(self.site, self.store, identities_of(self.store, self.clock, self.ticks, rules), self.clock, self.ticks)

    def again(self) -> Trusting:
        """The same after a restart: the same store, nothing remembered."""
        fresh = identities_of(self.store, self.clock, self.ticks, self.rules)
        return Trusting(self.site, self.store, fresh, self.clock, self.ticks)

    rules: TrustRules = field(default_factory=TrustRules)


def mapping(template: str = "spiffe://remit.test/ci/{repository:2}", **required: str) -> IdentityRule:
    domain, parts = parse_template(template)
    wanted = required or {"owner": "acme"}
    return IdentityRule(
        required=tuple((name, frozenset({(str, value)})) for name, value in wanted.items()), trust_domain=domain, parts=parts
    )


def identities_of(store: SqliteStore, clock: Clock, ticks: list[float], rules: TrustRules, **limits: Any) -> Identities:
    bounds = {"document_bytes_max": 65_536, "fetch_seconds_max": 5.0, **limits}
    proofs = make_proofs(rules, Replays(store, clock, new_id), audience=US, clock=lambda: ticks[0], **bounds)
    return Identities(
        Standing(store, clock),
        store,
        OWN,
        clock,
        new_id,
        trust_domain="remit.test",
        audience=US,
        svid_ttl=timedelta(minutes=5),
        agents=Declared(lambda: AGENTS),
        proofs=proofs,
    )


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """One loop and one store for many tests: a store on disk takes longer to make than most of them to run."""
    with asyncio.Runner() as runner:

        async def begin() -> SqliteStore:
            return SqliteStore(folder / "remit.db", lambda size, root: f"{size} {root.hex()}")

        store = runner.run(begin())
        yield World(runner, store)
        runner.run(store.close())


@dataclass
class World:
    """Where tests run."""

    runner: asyncio.Runner
    store: SqliteStore

    def run(self, work: Awaitable[None]) -> None:
        """Run with a bound against hanging."""

        async def bounded() -> None:
            async with asyncio.timeout(60):
                await work

        self.runner.run(bounded())


@contextlib.asynccontextmanager
async def trusting(
    store: SqliteStore, *, domains: dict[str, DomainRule] | None = None, limits: Json | None = None, **rule: Any
) -> AsyncIterator[Trusting]:
    """Identities that trust one issuer. ``rule``: what is otherwise in it; ``limits``: of fetching."""
    async with site() as served:
        made = {"name": "ci", "issuer": served.base, "audience": US, "identities": (mapping(),), "endpoint": Endpoint(networks=LOOPBACK)}
        one = IssuerRule(**{**made, **rule})
        rules = TrustRules(issuers={one.issuer: one}, domains=domains or {})
        clock, ticks = Clock(), [1_000.0]
        place = Trusting(served, store, identities_of(store, clock, ticks, rules, **(limits or {})), clock, ticks)
        place.rules = rules
        yield place


def encoded(part: Json | bytes) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Json, claims: Json, key: Any) -> str:
    """A compact JWS with whatever header: libraries refuse to write what attackers do."""
    head = f"{encoded(header)}.{encoded(claims)}"
    algorithm = jws.JWSRegistry.algorithms.get(header.get("alg"), jws.JWSRegistry.algorithms["ES256"])
    return f"{head}.{encoded(algorithm.sign(head.encode(), key))}"

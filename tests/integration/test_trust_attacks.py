"""The attack lists for whoever takes tokens of others: RFC 8725, RFC 9700 as far as it is about them, SPIFFE, and hostile issuers.

Every row is a proof that must be refused, with the reason in the ledger, by identities that take the same proof without the one wrong
thing. The issuer is a server on loopback that can misbehave; an honest one is in `test_oidc_provider.py`.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import ipaddress
import json
import zlib
from datetime import timedelta

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc import jwe
from joserfc.jwk import ECKey

from remit.drivers.fetching import reachable
from remit.drivers.key_sets import TOKEN_CHARACTERS_MAX
from remit.errors import Unauthenticated
from remit.model.identity import PeerCertificate
from remit.model.trust import DomainRule, Endpoint
from remit.node import new_id
from tests.certificates import HOUR, NOW, Authority
from tests.integration.issuers import BUILDER, EC, OWN, RSA, SECONDS, STRANGER, US, encoded, mapping, public, signed, trusting
from tests.integration.issuers import world as one_world
from tests.support import NOW as TEST_NOW


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with one_world(tmp_path_factory.mktemp("world")) as made:
        yield made


JWK_AS_SECRET, PEM_AS_SECRET = json.dumps(public(EC)["keys"][0]).encode(), RSA.as_pem(private=False)


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(at):
    """Claims that would be taken, as a token carries them."""
    return at.token().split(".")[1]


def forged(header, signature=""):
    """A token nobody signed."""
    return lambda at: ".".join([encoded(header), claims_of(at), signature])


def changed(**changes):
    return lambda at: at.token(**changes)


def in_header(**more):
    """Signed by the issuer's own key, with something in the header; ``kid`` still leads to that key."""
    return lambda at: at.token(header=more)


def with_secret(secret, kid):
    """What is public, taken for a shared secret."""

    def made(at):
        signed = f"{encoded({'alg': 'HS256', 'kid': kid})}.{claims_of(at)}"
        return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"

    return made


def bomb(_at):
    """A compressed JWE: a few hundred bytes that would unpack into megabytes (RFC 8725 §2.5 and the CVEs of many libraries)."""
    packed = zlib.compressobj(wbits=-15)
    data = packed.compress(b"0" * 50_000_000) + packed.flush()
    sealed = jwe.encrypt_compact(
        {"alg": "RSA-OAEP-256", "enc": "A256GCM", "zip": "DEF"}, b"x", RSA, algorithms=["RSA-OAEP-256", "A256GCM", "DEF"]
    )
    parts = sealed.split(".")
    return ".".join([*parts[:3], encoded(data)[: TOKEN_CHARACTERS_MAX // 2], parts[4]])


TOKENS = {
    # RFC 8725 §2.1, §3.1: the algorithm
    "alg none": forged({"alg": "none", "kid": "ec-1"}),
    "alg NONE in capitals": forged({"alg": "NONE", "kid": "ec-1"}),
    "alg none with the signature of another": lambda at: forged({"alg": "none"})(at) + at.token().rpartition(".")[2],
    "no alg": forged({"kid": "ec-1"}, signature="AAAA"),
    "alg is a list": forged({"alg": ["ES256"], "kid": "ec-1"}, signature="AAAA"),
    "key confusion: HMAC with the public key as JWK": with_secret(JWK_AS_SECRET, "ec-1"),
    "key confusion: HMAC with the public key as PEM": with_secret(PEM_AS_SECRET, "rsa-1"),
    "an algorithm that the issuer's rule does not take": changed(key=RSA, header={"alg": "RS512"}),
    "an algorithm of another kind of key": forged({"alg": "RS256", "kid": "ec-1"}, signature="AAAA"),
    # §2.2, §3.2: the signature
    "signed by a stranger under the issuer's key id": changed(key=STRANGER),
    "signed by our own key": lambda at: OWN.sign(json.loads(decoded(claims_of(at))), "JWT"),
    "no signature": lambda at: at.token().rpartition(".")[0] + ".",
    "tampered claims": lambda at: ".".join([at.token(owner="evil").split(".")[0], claims_of(at), at.token(owner="evil").split(".")[2]]),
    "tampered signature": lambda at: at.token()[:-6] + "AAAAAA",
    "r and s are zero": lambda at: at.token().rpartition(".")[0] + "." + encoded(bytes(64)),
    # §3.10, RFC 7515 §4.1: what the header points to
    "jku points anywhere": in_header(jku="https://evil.example/jwks"),
    "jku points to the issuer": lambda at: at.token(header={"jku": at.site.base + "/jwks"}),
    "x5u points anywhere": in_header(x5u="http://169.254.169.254/latest"),
    "jwk brings the key": lambda at: at.token(key=STRANGER, header={"jwk": STRANGER.as_dict(private=False)}),
    "x5c brings the certificate": in_header(x5c=["MIIB"]),
    "crit asks for what nobody knows": in_header(crit=["exp"], exp=1),
    "b64 false": in_header(b64=False, crit=["b64"]),
    "zip": in_header(zip="DEF"),
    # kid injection
    "kid is a path": in_header(kid="../../../../dev/null"),
    "kid is SQL": in_header(kid="x' UNION SELECT 'secret"),
    "kid is a URL": in_header(kid="http://169.254.169.254/latest/meta-data"),
    "kid is a command": in_header(kid="|id"),
    "kid has a NUL": in_header(kid="ec-1\0"),
    "kid is empty": in_header(kid=""),
    "kid is a number": in_header(kid=1),
    "kid is huge": in_header(kid="k" * 2_000),
    "kid is that of another key": changed(key=EC, header={"kid": "rsa-1"}),
    # §3.9 audience, §3.8 issuer
    "another audience": changed(aud="https://elsewhere.test"),
    "several audiences": changed(aud=[US, "https://elsewhere.test"]),
    "an empty audience": changed(aud=[]),
    "no audience": changed(drop=("aud",)),
    "an audience with a slash more": changed(aud=US + "/"),
    "an issuer with a slash more": lambda at: at.token(iss=at.site.base + "/"),
    "an issuer in capitals": lambda at: at.token(iss=at.site.base.upper()),
    "an issuer nobody trusts": changed(iss="https://evil.example"),
    "an issuer that is a list": lambda at: at.token(iss=[at.site.base]),
    "no issuer": changed(drop=("iss",)),
    # §3.11, §3.12: another kind of token
    "an access token": in_header(typ="at+jwt"),
    "an access token by its media type": in_header(typ="application/at+jwt"),
    "a logout token": in_header(typ="logout+jwt"),
    "a proof of possession": in_header(typ="dpop+jwt"),
    "a security event": changed(events={"https://schemas.openid.net/event": {}}),
    "a transaction token": changed(txn="t_1"),
    "a token bound to a key": changed(cnf={"jkt": "x"}),
    "typ is a list": in_header(typ=["JWT"]),
    # times
    "expired": changed(iat=SECONDS - 600, exp=SECONDS - 31),
    "made in the future": changed(iat=SECONDS + 120, exp=SECONDS + 300),
    "not yet": changed(nbf=SECONDS + 120),
    "huge exp": changed(exp=2**63),
    "exp beyond any float": changed(exp=10**400),
    "exp lives too long": changed(exp=SECONDS + 3_601),
    "exp is text": changed(exp="9999999999"),
    "exp is true": changed(exp=True),
    "exp is a fraction": changed(exp=SECONDS + 0.5),
    "no exp": changed(drop=("exp",)),
    "no iat": changed(drop=("iat",)),
    "nbf is text": changed(nbf="now"),
    # subject and mapping
    "no subject": changed(drop=("sub",)),
    "an empty subject": changed(sub=""),
    "a required claim is another": changed(owner="evil"),
    "a required claim is missing": changed(drop=("owner",)),
    "a required claim is a list that holds it": changed(owner=["acme"]),
    "the mapped claim is missing": changed(drop=("repository",)),
    "the mapped claim is a number": changed(repository=7),
    "path traversal in an ID": changed(repository="acme/.."),
    "path traversal out of it": changed(repository="../agent"),
    "a segment too many": changed(repository="acme/web/admin"),
    "a segment too few": changed(repository="acme"),
    "an empty segment": changed(repository="acme/"),
    "an encoded slash": changed(repository="acme%2Fx/web"),
    "an encoded dot": changed(repository="acme/%2e%2e"),
    "a unicode look-alike": changed(repository="аcme/web"),  # Cyrillic а
    "a unicode look-alike of the slash": changed(repository="acme\u2215web"),
    "full-width letters": changed(repository="acme/ｗｅｂ"),
    "a combining mark": changed(repository="acme/web\u0301"),
    "a zero-width space": changed(repository="acme/web\u200b"),
    "a line end": changed(repository="acme/web\n"),
    "a NUL": changed(repository="acme/web\0"),
    "an ID nobody declared": changed(repository="acme/other"),
    "the ID in other letters": changed(repository="acme/Web"),
    # size and form
    "oversize": changed(pad="x" * TOKEN_CHARACTERS_MAX),
    "oversize header": in_header(pad="x" * 5_000),
    "deep nesting": changed(deep=json.loads("[" * 40 + "]" * 40)),
    "doubled claims": lambda at: ".".join([encoded({"alg": "ES256"}), encoded(b'{"iss":"%s","iss":"x"}' % at.site.base.encode()), "AAAA"]),
    "a compressed JWE bomb": bomb,
    "a JWS in its JSON form": lambda at: json.dumps(dict(zip(("protected", "payload", "signature"), at.token().split("."), strict=True))),
    "empty": lambda _: "",
    "two dots": lambda _: "..",
    "a surrogate": lambda at: at.token() + "\ud800",
    "line ends inside": lambda at: at.token().replace(".", ".\n"),
    "PEM text in place of a token": lambda _: Authority("remit.test").svid("spiffe://remit.test/ci/acme/web").pem().decode(),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_is_wrong_in_one_thing_is_refused(world, name):
    async def check() -> None:
        async with trusting(world.store) as at:
            assert await at.refused(TOKENS[name](at))
            foreign = [path for path in at.site.asked if path not in {"/.well-known/openid-configuration", "/jwks"}]
            assert foreign == []
            assert (await at.identities.verify_svid(at.token()))[1].agent == BUILDER  # and nothing is the worse for it

    world.run(check())


def test_the_right_token_is_taken_with_either_key_and_either_form_of_audience(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            for token in (
                at.token(),
                at.token(key=RSA),
                at.token(aud=[US]),
                at.token(header={"typ": "JWT", "x5t": "x"}),
                at.token(iat=SECONDS + 29),
            ):
                name, workload = await at.identities.verify_svid(token)
                assert (name, workload.agent, workload.proof) == ("builder", BUILDER, "oidc:ci")

    world.run(check())


def test_a_token_opens_once_on_whatever_node_and_after_a_restart(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            jti = new_id("j")
            for token in (at.token(jti=jti), at.token(drop=("jti",))):
                await at.identities.verify_svid(token)  # to look uses nothing up
                await at.identities.verify_svid(token, once=True)
                assert await at.refused(token, once=True) == "the token was used before"
                assert await at.again().refused(token, once=True) == "the token was used before"
            assert await at.refused(at.token(jti=jti, sub="another"), once=True) == "the token was used before"
            again = at.token(jti=new_id("j"))
            several = [at.again().identities.verify_svid(again, once=True) for _ in range(8)]
            ends = await asyncio.gather(*several, return_exceptions=True)
            assert sorted(isinstance(end, Unauthenticated) for end in ends) == [False] + [True] * 7
            head, claims, signature = at.token(jti=None, drop=("jti",), n=1).split(".")
            await at.identities.verify_svid(f"{head}.{claims}.{signature}", once=True)
            order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
            raw = decoded(signature)
            other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)  # another signature that holds for the same words
            assert await at.refused(f"{head}.{claims}.{encoded(other)}", once=True) == "the token was used before"
            for wrong in ("", 7, "j" * 513):
                assert await at.refused(at.token(jti=wrong), once=True) == "the token's jti is none"

    world.run(check())


def test_uses_are_forgotten_when_the_proof_has_expired_and_not_before(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            replays = at.identities._proofs._replays
            token = at.token(jti=new_id("j"))
            await at.identities.verify_svid(token, once=True)
            at.clock.now = TEST_NOW + timedelta(seconds=320)  # within the leeway: it would still hold
            assert await replays.sweep() == 0
            assert await at.refused(token, once=True) == "the token was used before"
            at.clock.now = TEST_NOW + timedelta(minutes=11)
            assert await replays.sweep() >= 1
            assert await at.store.document_keys("proof/", "", 10) == ()
            assert await at.refused(token, once=True) == "the token is expired"

    world.run(check())


# --- keys and discovery ---------------------------------------------------------------------------------------------------------


def test_keys_are_found_where_the_specifications_say(world):
    """OpenID Connect Discovery 1.0 §4 below the issuer's path, else RFC 8414 §3.1 between host and path, else where we were told."""

    async def check() -> None:
        async with trusting(world.store) as at:
            tenant = f"{at.site.base}/tenant"
            told = {"issuer": tenant, "jwks_uri": f"{at.site.base}/jwks"}
            for path, rule, asked in (
                ("/tenant/.well-known/openid-configuration", {}, 1),
                ("/.well-known/oauth-authorization-server/tenant", {}, 2),
                ("/nowhere", {"jwks_uri": f"{at.site.base}/jwks"}, 0),
            ):
                at.site.answers = {path: told, "/jwks": public(EC)}
                at.site.asked.clear()
                other = at.of(issuer=tenant, **rule)
                assert (await other.identities.verify_svid(at.token(iss=tenant)))[0] == "builder"
                assert at.site.asked[asked:] == ["/jwks"]

    world.run(check())


def test_a_new_key_is_looked_for_once_and_a_stranger_cannot_make_us_ask(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            await at.identities.verify_svid(at.token())
            assert at.site.asked.count("/jwks") == 1
            new = ECKey.generate_key("P-256", {"kid": "ec-2"})
            at.site.answers["/jwks"] = public(RSA, EC, new)
            at.ticks[0] += 31
            assert (await at.identities.verify_svid(at.token(key=new)))[0] == "builder"
            assert at.site.asked.count("/jwks") == 2
            for number in range(50):
                await at.refused(at.token(header={"kid": f"made up {number}"}))
            assert at.site.asked.count("/jwks") == 2
            at.ticks[0] += 31
            await asyncio.gather(*(at.refused(at.token(header={"kid": f"more {number}"})) for number in range(20)))
            assert at.site.asked.count("/jwks") == 3

    world.run(check())


def test_a_withdrawn_key_dies_with_the_cache(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            at.site.headers["Cache-Control"] = "public, max-age=86400"  # believed up to an hour
            await at.identities.verify_svid(at.token())
            at.site.answers["/jwks"] = public(RSA)
            at.ticks[0] += 3_599
            await at.identities.verify_svid(at.token())
            at.ticks[0] += 2
            assert "not among those" in await at.refused(at.token())

    world.run(check())


@pytest.mark.parametrize("control", ["no-store", "max-age=0", "max-age=1"])
def test_an_issuer_that_forbids_caching_is_asked_once_a_minute_all_the_same(world, control):
    async def check() -> None:
        async with trusting(world.store) as at:
            at.site.headers["Cache-Control"] = control
            for _ in range(20):
                await at.identities.verify_svid(at.token())
            assert at.site.asked.count("/jwks") == 1
            at.ticks[0] += 61
            await at.identities.verify_svid(at.token())
            assert at.site.asked.count("/jwks") == 2

    world.run(check())


def test_an_issuer_that_goes_down_is_believed_for_a_while_asked_ever_less_and_then_not_believed(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            await at.identities.verify_svid(at.token())

            async def down(_request):
                return web.Response(status=503)

            at.site.answers["/.well-known/openid-configuration"] = down
            at.site.asked.clear()
            for _ in range(100):
                at.ticks[0] += 35.99
                if at.ticks[0] - 1_000 < 3_600:
                    assert (await at.identities.verify_svid(at.token()))[0] == "builder"
            assert len(at.site.asked) < 20  # the pauses double
            at.ticks[0] += 10
            why = await at.refused(at.token())
            assert "the keys of issuer ci cannot be had" in why
            at.site.answers["/.well-known/openid-configuration"] = {"issuer": at.site.base, "jwks_uri": f"{at.site.base}/jwks"}
            at.ticks[0] += 301
            assert (await at.identities.verify_svid(at.token()))[0] == "builder"

    world.run(check())


async def _endless(request):
    """200 MB, as fast as they are taken; chunked, so that no length tells."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        for _ in range(3_200):
            await answer.write(b" " * 65_536)
    except ConnectionError:
        pass
    return answer


async def _slow(request):
    """A byte every now and then: no single wait is long."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        for _ in range(1_000):
            await answer.write(b" ")
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass
    return answer


async def _packed(request):
    data = gzip.compress(json.dumps(public(EC)).encode() + b" " * 5_000_000)
    return web.Response(body=data, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})


def _moved(where):
    async def moved(_request):
        raise web.HTTPFound(where)

    return moved


def _text(body):
    async def told(_request):
        return web.Response(body=body, content_type="application/json")

    return told


def _weak():
    """1,024 bits."""
    modulus = rsa.generate_private_key(65_537, 1_024).public_key().public_numbers().n
    return {"keys": [{"kty": "RSA", "n": encoded(modulus.to_bytes(128)), "e": "AQAB", "kid": "ec-1", "use": "sig"}]}


def _huge_exponent():
    return {"keys": [{**RSA.as_dict(private=False), "e": encoded(b"\xff" * 200), "use": "sig"}]}


DISCOVERY, KEYS = "/.well-known/openid-configuration", "/jwks"
SITES = {
    "200 MB": (KEYS, _endless, "more than"),
    "slow": (KEYS, _slow, "within"),
    "packed": (KEYS, _packed, "compressed"),
    "redirects to itself": (KEYS, _moved("/elsewhere"), "redirects"),
    "redirects to the metadata address": (KEYS, _moved("http://169.254.169.254/latest"), "redirects"),
    "discovery redirects": (DISCOVERY, _moved("/elsewhere"), "redirects"),
    "not JSON": (KEYS, _text(b"<html>"), "no JSON object"),
    "JSON of another kind": (KEYS, _text(b"[]"), "no JSON object"),
    "nested deep": (KEYS, _text(b"[" * 60_000), "no JSON object"),
    "no keys": (KEYS, {"kids": []}, "no list"),
    "too many keys": (KEYS, {"keys": [{}] * 101}, "no list"),
    "an empty set": (KEYS, {"keys": []}, "not among"),
    "keys that are no objects": (KEYS, {"keys": [1, None, "x", []]}, "not among"),
    "a shared secret among the keys": (KEYS, {"keys": [{"kty": "oct", "k": encoded(b"x" * 32), "kid": "ec-1"}]}, "not among"),
    "keys for encryption": (KEYS, {"keys": [{**EC.as_dict(private=False), "use": "enc"}]}, "not among"),
    "keys for another algorithm": (KEYS, {"keys": [{**EC.as_dict(private=False), "alg": "ES384"}]}, "not among"),
    "keys that may not verify": (KEYS, {"keys": [{**EC.as_dict(private=False), "key_ops": ["encrypt"]}]}, "not among"),
    "a point off the curve": (KEYS, {"keys": [{**EC.as_dict(private=False), "x": encoded(b"\x01" * 32)}]}, "not among"),
    "a weak key": (KEYS, _weak(), "not among"),
    "a huge exponent": (KEYS, _huge_exponent(), "not among"),
    "two keys of one name": (KEYS, {"keys": [*public(EC)["keys"], *public(STRANGER)["keys"]]}, "several keys"),
    "discovery of another issuer": (
        DISCOVERY,
        {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/jwks"},
        "another issuer",
    ),
    "keys at another origin": (DISCOVERY, {"issuer": "BASE", "jwks_uri": "http://127.0.0.1:1/jwks"}, "another origin"),
    "keys at the metadata address": (DISCOVERY, {"issuer": "BASE", "jwks_uri": "http://169.254.169.254/latest"}, "another origin"),
    "keys in a file": (DISCOVERY, {"issuer": "BASE", "jwks_uri": "file:///etc/passwd"}, "another origin"),
    "keys at an origin that only begins so": (DISCOVERY, {"issuer": "BASE", "jwks_uri": "BASE.evil.example/jwks"}, "another origin"),
    "keys behind a user name": (DISCOVERY, {"issuer": "BASE", "jwks_uri": "BASE@evil.example/jwks"}, "another origin"),
}


@pytest.mark.parametrize("name", SITES)
def test_a_hostile_or_broken_issuer_is_refused_in_bounded_time_and_memory(world, name):
    path, answer, words = SITES[name]

    async def check() -> None:
        async with trusting(world.store, limits={"fetch_seconds_max": 0.5}) as at:
            made = json.loads(json.dumps(answer).replace("BASE", at.site.base)) if isinstance(answer, dict) else answer
            at.site.answers[path] = made
            assert words in await at.refused(at.token())
            assert set(at.site.asked) <= {DISCOVERY, KEYS}

    world.run(check())


def test_an_issuer_that_is_away_is_refused_and_not_asked_at_every_token(world):
    async def check() -> None:
        async with trusting(world.store, issuer="http://127.0.0.1:9") as at:  # nobody listens on the discard port
            for _ in range(10):
                assert "cannot be reached" in await at.refused(at.token(iss="http://127.0.0.1:9"))

    world.run(check())


# --- addresses ------------------------------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "::7f00:1",
    "64:ff9b:1::7f00:1",
    "fec0::1",
    "feff:ffff::a9fe:a9fe",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "192.0.0.8",
    "::ffff:192.0.0.8",
]


def test_special_addresses_are_not_reached_in_whatever_words():
    assert [text for text in PRIVATE if reachable(ipaddress.ip_address(text), ())] == []
    assert all(reachable(ipaddress.ip_address(text), ()) for text in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"))
    allowed = (ipaddress.ip_network("10.1.0.0/16"),)
    assert [text for text in ("10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1") if reachable(ipaddress.ip_address(text), allowed)] == [
        "10.1.2.3",
        "::ffff:10.1.2.3",
    ]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0", "[::ffff:127.0.0.1]", "[::]"],
)
def test_a_name_that_leads_inside_is_not_connected_to(world, host):
    """SSRF: the issuer's own server is there and would answer, but nobody allowed its network."""

    async def check() -> None:
        async with trusting(world.store) as at:
            port = at.site.base.rpartition(":")[2]
            at.site.asked.clear()
            issuer = f"http://{host}:{port}"
            async with trusting(world.store, issuer=issuer, endpoint=Endpoint()) as other:
                why = await other.refused(other.token(iss=issuer))
                assert "not a public one" in why or "InvalidUrl" in why or "DNSError" in why  # the last: a name that is none here
            assert at.site.asked == []

    world.run(check())


# --- SPIFFE ---------------------------------------------------------------------------------------------------------------------

ROOT, OTHER = Authority("other.test"), Authority("other.test")
BELOW = Authority("other.test", by=ROOT)
FOREIGN = ECKey.generate_key("P-256", {"kid": "f-1"})
PARTNER = "spiffe://other.test/agent/x"


def bundle(*authorities, keys=(FOREIGN,), **more):
    x509 = [{"use": "x509-svid", "kty": "EC", "x5c": [base64.b64encode(one.der).decode()]} for one in authorities]
    return {"keys": [*x509, *({**key.as_dict(private=False), "use": "jwt-svid"} for key in keys)], "spiffe_sequence": 7, **more}


def federated(tmp_path, document=None):
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(bundle(ROOT) if document is None else document))
    return {"other.test": DomainRule(domain="other.test", bundle_file=str(path))}


def svid(key=FOREIGN, header=None, drop=(), **claims):
    said = {"sub": PARTNER, "aud": [US, "https://more.test"], "exp": SECONDS + 300, **claims}
    said = {name: value for name, value in said.items() if name not in drop}
    return signed({"alg": "ES256", "kid": key.kid, **(header or {})}, said, key)


SVIDS = {
    "our domain, their key": lambda: svid(sub="spiffe://remit.test/ci/acme/web"),
    "their domain, our key": lambda: OWN.sign({"sub": PARTNER, "aud": [US], "iat": SECONDS, "exp": SECONDS + 300}, "JWT"),
    "a stranger's key under their name": lambda: svid(ECKey.generate_key("P-256", {"kid": "f-1"})),
    "a domain nobody trusts": lambda: svid(sub="spiffe://evil.test/agent/x"),
    "a domain in capitals": lambda: svid(sub="spiffe://Other.test/agent/x"),
    "a look-alike domain": lambda: svid(sub="spiffe://оther.test/agent/x"),
    "a domain that only begins so": lambda: svid(sub="spiffe://other.test.evil/agent/x"),
    "a domain with a port": lambda: svid(sub="spiffe://other.test:443/agent/x"),
    "a domain with a user": lambda: svid(sub="spiffe://x@other.test/agent/x"),
    "the domain itself": lambda: svid(sub="spiffe://other.test"),
    "the root path": lambda: svid(sub="spiffe://other.test/"),
    "path traversal": lambda: svid(sub="spiffe://other.test/agent/y/../x"),
    "an encoded dot": lambda: svid(sub="spiffe://other.test/agent/%2e%2e/x"),
    "an empty segment": lambda: svid(sub="spiffe://other.test/agent//x"),
    "a query": lambda: svid(sub=PARTNER + "?x"),
    "a look-alike path": lambda: svid(sub="spiffe://other.test/аgent/x"),
    "longer than 2048 bytes": lambda: svid(sub="spiffe://other.test/" + "x" * 2_048),
    "another scheme": lambda: svid(sub="https://other.test/agent/x"),
    "another audience": lambda: svid(aud=["https://more.test"]),
    "no audience": lambda: svid(drop=("aud",)),
    "no exp": lambda: svid(drop=("exp",)),
    "exp in an hour and more": lambda: svid(exp=SECONDS + 3_700),
    "expired": lambda: svid(exp=SECONDS - 31),
    "typ of an access token": lambda: svid(header={"typ": "at+jwt"}),
    "typ of a WIT-SVID": lambda: svid(header={"typ": "wit+jwt"}),
    "more in the header": lambda: svid(header={"x5t": "x"}),
    "jku": lambda: svid(header={"jku": "https://evil.example"}),
    "an undeclared workload": lambda: svid(sub="spiffe://other.test/agent/y"),
}


@pytest.mark.parametrize("name", SVIDS)
def test_a_jwt_svid_that_is_wrong_in_one_thing_is_refused(world, tmp_path, name):
    async def check() -> None:
        async with trusting(world.store, domains=federated(tmp_path)) as at:
            assert await at.refused(SVIDS[name]())
            for good in (svid(), svid(header={"typ": "JOSE"}), svid(iat=SECONDS, iss="https://spire.other.test")):
                name_of, workload = await at.identities.verify_svid(good)
                assert (name_of, workload.proof) == ("partner", "jwt-svid")

    world.run(check())


BUNDLES = {
    "empty: all is withdrawn": bundle(keys=()),
    "the key has no use": {"keys": [FOREIGN.as_dict(private=False)]},
    "the key is for another use": {"keys": [{**FOREIGN.as_dict(private=False), "use": "wit-svid"}]},
    "the key has no kid": {"keys": [{**{k: v for k, v in FOREIGN.as_dict(private=False).items() if k != "kid"}, "use": "jwt-svid"}]},
    "a sequence that is text": bundle(spiffe_sequence="7"),
    "a hint below zero": bundle(spiffe_refresh_hint=-1),
    "no keys at all": {},
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_that_does_not_vouch_vouches_for_nobody(world, tmp_path, name):
    async def check() -> None:
        async with trusting(world.store, domains=federated(tmp_path, BUNDLES[name])) as at:
            assert await at.refused(svid())
            assert await at.refused(PeerCertificate(chain=ROOT.svid(PARTNER).ders))

    world.run(check())


def test_an_older_bundle_does_not_bring_a_withdrawn_key_back(world, tmp_path):
    async def check() -> None:
        async with trusting(world.store, domains=federated(tmp_path, bundle(keys=(EC,), spiffe_sequence=9, spiffe_refresh_hint=60))) as at:
            assert "not among" in await at.refused(svid())
            federated(tmp_path, bundle(spiffe_sequence=8))
            at.ticks[0] += 61
            assert "not among" in await at.refused(svid())
            at.ticks[0] += 3_600
            assert "older than one" in await at.refused(svid())
            federated(tmp_path, bundle(spiffe_sequence=10))
            at.ticks[0] += 301
            assert (await at.identities.verify_svid(svid()))[0] == "partner"

    world.run(check())


def certificate(authority=ROOT, *uris, **changes):
    return lambda: authority.svid(*(uris or (PARTNER,)), **changes).ders


CERTIFICATES = {
    "another authority of that name": certificate(OTHER),
    "an authority of another domain": certificate(Authority("remit.test")),
    "their authority for our domain": certificate(ROOT, "spiffe://remit.test/ci/acme/web"),
    "their authority for a third domain": certificate(ROOT, "spiffe://third.test/agent/x"),
    "no URI": lambda: ROOT.svid(hosts=("other.test",)).ders,
    "two URIs": certificate(ROOT, PARTNER, "spiffe://other.test/agent/y"),
    "the same URI twice": certificate(ROOT, PARTNER, PARTNER),
    "a URI of another scheme": certificate(ROOT, "https://other.test/agent/x"),
    "the domain itself": certificate(ROOT, "spiffe://other.test"),
    "path traversal": certificate(ROOT, "spiffe://other.test/agent/../x"),
    "a leaf that is an authority": certificate(ROOT, PARTNER, ca=True),
    "a leaf that signs certificates": certificate(ROOT, PARTNER, usage={"digital_signature": True, "key_cert_sign": True}),
    "a leaf that signs revocation lists": certificate(ROOT, PARTNER, usage={"digital_signature": True, "crl_sign": True}),
    "a leaf that may not sign": certificate(ROOT, PARTNER, usage={"key_encipherment": True}),
    "key usage that is not critical": certificate(ROOT, PARTNER, critical_usage=False),
    "for one end of a connection only": lambda: ROOT.svid(PARTNER, extended=(ExtendedKeyUsageOID.SERVER_AUTH,)).ders,
    "expired": certificate(ROOT, PARTNER, begins=NOW - 2 * HOUR, ends=NOW - HOUR),
    "not yet": certificate(ROOT, PARTNER, begins=NOW + HOUR, ends=NOW + 2 * HOUR),
    "below an authority that is not shown": lambda: BELOW.svid(PARTNER).ders[:1],
    "an authority deeper than the one above it allows": lambda: too_deep(),
    "below a leaf": lambda: below_a_leaf(),
    "the authority's own": lambda: (ROOT.der,),
    "an undeclared workload": certificate(ROOT, "spiffe://other.test/agent/y"),
    "no certificate": lambda: (),
    "rubbish": lambda: (b"rubbish",),
    "a chain too long": lambda: ROOT.svid(PARTNER).ders * 11,
}


def too_deep():
    """Two authorities below one that may have none below it."""
    middle = Authority("other.test", by=ROOT, path_length=0)
    lowest = Authority("other.test", by=middle)
    return (*lowest.svid(PARTNER).ders, middle.der)


def below_a_leaf():
    """A workload plays authority and signs another."""
    workload = ROOT.svid("spiffe://other.test/agent/y")
    playing = Authority("other.test")
    playing.key, playing.certificate = workload.key, workload.certificate
    return (playing.svid(PARTNER).der, workload.der)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_is_wrong_in_one_thing_is_refused(world, tmp_path, name):
    async def check() -> None:
        async with trusting(world.store, domains=federated(tmp_path)) as at:
            at.clock.now = NOW
            assert await at.refused(PeerCertificate(chain=CERTIFICATES[name]()))
            for good in (ROOT.svid(PARTNER), BELOW.svid(PARTNER), ROOT.svid(PARTNER, extended=()), ROOT.svid(PARTNER, hosts=("x.test",))):
                name_of, workload = await at.identities.verify_svid(PeerCertificate(chain=good.ders))
                assert (name_of, workload.proof) == ("partner", "x509-svid")

    world.run(check())


# --- what gets out --------------------------------------------------------------------------------------------------------------


def test_what_the_ledger_keeps_of_a_refusal_is_short_plain_and_never_the_proof(world):
    async def check() -> None:
        async with trusting(world.store) as at:
            token = at.token(sub="\x1b[2J\u202e" + "x" * 5_000, owner="evil")
            await at.refused(token)
            entry = (await at.store.entries(await at.store.change_mark() - 1, 1))[0]
            assert len(entry.body) < 1_500
            await at.refused(
                OWN.sign({"sub": "spiffe://remit.test/" + "x" * 2_000, "aud": [US], "iat": SECONDS, "exp": SECONDS + 60}, "JWT")
            )
            assert len((await at.store.entries(await at.store.change_mark() - 1, 1))[0].body) < 1_500
            assert token.split(".")[2].encode() not in entry.body
            claimed = json.loads(entry.body)["body"]["claimed"]
            assert claimed.isascii()
            assert claimed.isprintable()
            assert claimed.startswith(f"iss={at.site.base} sub=")

    world.run(check())


def test_two_mappings_of_one_issuer_give_a_token_one_identity_or_none(world):
    """The configuration refuses mappings that could meet; were they there all the same, nobody would be anybody."""
    both = (mapping(), mapping("spiffe://remit.test/other/{repository:2}"))

    async def check() -> None:
        async with trusting(world.store, identities=both) as at:
            assert await at.refused(at.token()) == "several mappings fit the token's claims"

    world.run(check())


def test_our_own_domain_s_certificates_lead_to_our_own_authorities_only(world, tmp_path):
    ours, uri = Authority("remit.test"), BUILDER.text

    async def check() -> None:
        async with trusting(world.store, domains=federated(tmp_path)) as at:
            at.clock.now = NOW

            async def authorities():
                return (ours.certificate,)

            at.identities._own_authorities = authorities
            name, workload = await at.identities.verify_svid(PeerCertificate(chain=ours.svid(uri).ders))
            assert (name, workload.proof) == ("builder", "x509-svid")
            for wrong in (ROOT.svid(uri), Authority("remit.test").svid(uri), ours.svid(PARTNER)):
                assert await at.refused(PeerCertificate(chain=wrong.ders))
            assert {*await at.identities.authorities()} == {ours.certificate, ROOT.certificate}

    world.run(check())

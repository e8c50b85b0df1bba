"""Published attacks on authorization servers, by name: RFC 8725, RFC 9700, the MCP security page, as far as they concern one.

Each is refused with an OAuth error that says nothing of why a proof does not hold; nothing is opened; the reason is in the ledger.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from remit.services.sparing import PER_MINUTE
from tests.integration.token_service import CREDENTIALS, EXCHANGE, JWT_BEARER, SPIFFE, TYPE, Service, new_key, token_service, wanted

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def raw(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded(value: Any) -> str:
    return raw(json.dumps(value).encode())


def assertions(service: Service) -> dict[str, str]:
    """Client assertions that prove nothing, by the attack they are."""
    good, now = service.assertion(), int(time.time())
    claims, es256 = good.split(".")[1], encoded({"alg": "ES256"})
    doubled, nested = b'{"iss":"tester","iss":"x"}', b"[" * 5_000
    public_half, signed = service.key.as_dict(private=False), good.partition(".")[2]
    public = json.dumps(public_half).encode()
    secret = jwt.encode({"alg": "HS256"}, json.loads(base64.urlsafe_b64decode(claims + "==")), OctKey.import_key(public))
    return {
        "RFC 8725 §2.1: no algorithm": f"{encoded({'alg': 'none'})}.{claims}.",
        "RFC 8725 §2.1: no algorithm, in another case": f"{encoded({'alg': 'nOnE'})}.{claims}.",
        "RFC 8725 §2.1: the public key as a secret": secret,
        "RFC 8725 §2.3: a signature of somebody else": service.assertion(new_key()),
        "RFC 8725 §2.7: a token of encryption": f"{encoded({'alg': 'dir', 'enc': 'A256GCM', 'zip': 'DEF'})}..AAAA.AAAA.AAAA",
        "RFC 8725 §2.8: another kind of token": service.assertion(header={"typ": "at+jwt"}),
        "RFC 8725 §3.8: another issuer": service.assertion(iss="https://evil.example"),
        "RFC 8725 §3.8: another subject": service.assertion(sub="spiffe://remit.local/agent/other"),
        "RFC 8725 §3.9: for another place": service.assertion(aud="https://evil.example"),
        "RFC 8725 §3.9: for several places": service.assertion(aud=[service.url, "https://evil.example"]),
        "RFC 8725 §3.9: for nobody": service.assertion(aud=None),
        "rfc7523bis: the token endpoint as audience": service.assertion(aud=f"{service.url}/oauth/token"),
        "RFC 8725 §3.10: keys elsewhere (jku)": service.assertion(header={"jku": "http://169.254.169.254/jwks"}),
        "RFC 8725 §3.10: keys elsewhere (x5u)": service.assertion(header={"x5u": "https://evil.example/x"}),
        "RFC 8725 §3.10: its own key": f"{encoded({'alg': 'ES256', 'jwk': public_half})}.{signed}",
        "RFC 8725 §3.10: a path as key id": service.assertion(new_key(), header={"kid": "../../../dev/null"}),
        "RFC 8725 §3.10: a query as key id": service.assertion(new_key(), header={"kid": "x' UNION SELECT 'key"}),
        "unknown critical header": f"{encoded({'alg': 'ES256', 'crit': ['x'], 'x': 1})}.{'.'.join(good.split('.')[1:])}",
        "no end": service.assertion(exp=None),
        "an end far away": service.assertion(exp=now + 10**9),
        "an end that is text": service.assertion(exp="tomorrow"),
        "an end that is no number": service.assertion(exp=True),
        "ended": service.assertion(exp=now - 600),
        "from the future": service.assertion(iat=now + 3_600),
        "not before the future": service.assertion(nbf=now + 3_600),
        "no id, to be used again": service.assertion(jti=None),
        "a look-alike of the agent": service.assertion(iss="tеster", sub="tеster"),  # Cyrillic
        "an agent in another case": service.assertion(iss="Tester", sub="Tester"),
        "a path in the agent": service.assertion(
            iss="spiffe://remit.local/agent/../agent/tester", sub="spiffe://remit.local/agent/../agent/tester"
        ),
        "a tampered signature": good[:-6] + "AAAAAA",
        "oversize": service.assertion(padding="x" * 40_000),
        "rubbish": "x",
        "nothing signed": "..",
        "deeply nested": f"{es256}.{raw(nested)}.AAAA",
        "a doubled claim": f"{es256}.{raw(doubled)}.AA",
    }


def test_assertions_that_prove_nothing_are_refused_alike(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            wrong = assertions(service)
            tasks, issued = len(await service.running.node.tasks.rows(limit=500)), len(await service.records("TokenIssued"))
            told = set()
            for what, assertion in wrong.items():
                for kind in (JWT_BEARER, SPIFFE):
                    form = CREDENTIALS | {"client_assertion_type": kind, "client_assertion": assertion, "scope": "task:all"}
                    status, body, headers = await service.post("/oauth/token", form)
                    assert (status, headers["cache-control"]) == (401, "no-store"), (what, kind, body)
                    told.add(json.dumps(body))
                status, body = await service.token({"grant_type": GRANT, "assertion": assertion, "scope": "task:all"})
                assert (status, body["error"]) == (400, "invalid_grant"), (what, body)
            assert len(told) == 1, told
            assert len(await service.running.node.tasks.rows(limit=500)) == tasks
            assert len(await service.records("TokenIssued")) == issued
            refused = [one for one in await service.records("TokenRefused") if one.exchange]
            assert PER_MINUTE <= len(refused) <= 3 * len(wrong), "the rest is counted"
            entries = await service.running.node.store.entries(0, 10_000)
            whole = b"".join(entry.body for entry in entries)
            assert not [what for what, assertion in wrong.items() if len(assertion) > 60 and assertion.encode() in whole]

    asyncio.run(run())


def test_an_assertion_is_used_once_whoever_is_first(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            form = CREDENTIALS | service.client() | {"scope": "task:all"}
            answers = await asyncio.gather(*(service.token(form) for _ in range(8)))
            assert sorted(status for status, _ in answers) == [200] + [401] * 7
            assert (await service.token(form))[0] == 401
            assert await service.running.node.replays.sweep() == 0  # it could still be presented

    asyncio.run(run())


def test_a_client_is_who_it_proves_to_be(tmp_path):
    async def run() -> None:
        other = new_key()
        more = f"[agents.other]\ntasks = ['all']\n{_keys('other', other)}[agents.keyless]\ntasks = ['all']\n"
        async with token_service(tmp_path, more=more) as service:
            for client in ("other", "keyless", "spiffe://remit.local/agent/other", "nobody"):
                status, body = await service.token(CREDENTIALS | service.client() | {"client_id": client, "scope": "task:all"})
                assert (status, body["error"]) == (401, "invalid_client"), client
            for name in ("other", "keyless", "nobody"):  # signed by a key of another agent, or of one that has none
                form = CREDENTIALS | service.client(iss=name, sub=name) | {"scope": "task:all"}
                assert (await service.token(form))[0] == 401, name
            token = (await service.given())["access_token"]
            theirs = {"client_assertion_type": JWT_BEARER, "client_assertion": service.assertion(other, iss="other", sub="other")}
            subject = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": f"{TYPE}access_token"}
            # confused deputy: another agent exchanges a token that was passed to it as it is
            status, body = await service.token(subject | theirs)
            assert (status, body["error"]) == (400, "invalid_request")
            # a thief of the token alone renews nothing
            status, body = await service.token(subject)
            assert (status, body["error"]) == (401, "invalid_client")
            # nor is a task token a proof of identity, or the task of another agent anybody's
            as_client = CREDENTIALS | {"client_assertion_type": SPIFFE, "client_assertion": token}
            for form in (as_client, {"grant_type": GRANT, "assertion": token}):
                assert (await service.token(form | {"scope": "task:all"}))[0] in {400, 401}
            task = (await service.token_of(token))[1]["task"]["id"]
            theirs["client_assertion"] = service.assertion(other, iss="other", sub="other")
            status, body = await service.token(CREDENTIALS | theirs | {"authorization_details": wanted(task=task)})
            unknown = service.assertion(other, iss="other", sub="other")
            status_of_none, none = await service.token(
                CREDENTIALS | theirs | {"client_assertion": unknown, "authorization_details": wanted(task="task_none")}
            )
            assert (status, body) == (status_of_none, none)  # that it exists is not told
            assert body["error"] == "invalid_authorization_details"

    asyncio.run(run())


DETAILS = [
    "x",
    "{}",
    "[]",
    "[1]",
    "[{}]",
    '[{"type":"remit_task"}]',
    '[{"type":"remit_grant","name":"bank/send_money"}]',
    '[{"type":"unknown","task_type":"all"}]',
    '[{"type":"remit_task","task_type":"all"},{"type":"remit_task","task_type":"all"}]',
    '[{"type":"remit_task","task_type":"all","grant":[{"tool":"bank/*"}]}]',
    '[{"type":"remit_task","task_type":"all","inputs":{"more":1}}]',
    '[{"type":"remit_task","task_type":"all","inputs":[]}]',
    '[{"type":"remit_task","task_type":7}]',
    '[{"type":"remit_task","task_type":""}]',
    '[{"type":"remit_task","task_type":"none"}]',
    '[{"type":"remit_task","task_type":"other"}]',
    '[{"type":"remit_task","task_type":"all","task":"task_1"}]',
    '[{"type":"remit_task","task":"task_1","inputs":{}}]',
    '[{"type":"remit_task","type":"x","task_type":"all"}]',
    '[{"type":"remit_task","task_type":"all","inputs":' + '{"a":' * 100 + "1" + "}" * 100 + "}]",
]


def test_authorization_details_that_do_not_fit_are_told_as_such(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            (tmp_path / "tasks" / "other.toml").write_text('objective = "Other"\n')
            tasks = len(await service.running.node.tasks.rows(limit=500))
            for detail in DETAILS:
                status, body = await service.token(CREDENTIALS | service.client() | {"authorization_details": detail})
                assert (status, body["error"]) == (400, "invalid_authorization_details"), (detail, body)
            for scope in ("all", "task:", "task:all task:other", "openid", " task:all"):
                status, body = await service.token(CREDENTIALS | service.client() | {"scope": scope})
                assert (status, body["error"]) == (400, "invalid_scope"), scope
            status, body = await service.token(CREDENTIALS | service.client())
            assert (status, body["error"]) == (400, "invalid_request")
            assert len(await service.running.node.tasks.rows(limit=500)) == tasks

    asyncio.run(run())


FORMS: list[tuple[bytes, str]] = [
    (b"", "invalid_request"),
    (b"grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
    (b"grant_type=", "invalid_request"),
    (b"grant_type", "invalid_request"),
    (b"grant_type=%ff%fe", "invalid_request"),
    (b"grant_type=\xff", "invalid_request"),
    (b"grant_type=password&username=a&password=b", "unsupported_grant_type"),
    (b"grant_type=authorization_code&code=x", "unsupported_grant_type"),
    (b"grant_type=refresh_token&refresh_token=x", "unsupported_grant_type"),
    (b"grant_type=" + b"x" * 10_000, "unsupported_grant_type"),
    (b"&".join(b"a%d=1" % number for number in range(10_000)), "invalid_request"),
    (b"grant_type=client_credentials&client_id=tester&client_secret=guess", "invalid_client"),
    (b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange", "invalid_request"),
    (b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer", "invalid_request"),
]


def test_forms_that_are_none(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            for data, code in FORMS:
                status, body, _ = await service.post("/oauth/token", data, **form)
                assert (status, body["error"]) == (401 if code == "invalid_client" else 400, code), (data[:80], body)
                assert all(" " <= sign <= "~" and sign not in '"\\' for sign in body["error_description"])  # RFC 6749 §5.2
            good = CREDENTIALS | service.client() | {"scope": "task:all"}
            async with service.http.post(f"{service.url}/oauth/token", params=good) as answer:
                assert answer.status == 400  # an address ends up in logs
            async with service.http.post(f"{service.url}/oauth/token", json=good) as answer:
                assert answer.status == 400
            status, body, _ = await service.post("/oauth/token", good, Authorization="Basic dGVzdGVyOng=")
            assert status == 200  # what is no credential here is not read

    asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param("an actor without a kind", {"actor_token": "x"}, id="actor without kind"),
        pytest.param("a kind without an actor", {"actor_token_type": f"{TYPE}jwt"}, id="kind without actor"),
        pytest.param("a refresh token", {"subject_token_type": f"{TYPE}refresh_token"}, id="refresh token"),
        pytest.param("SAML", {"subject_token_type": f"{TYPE}saml2"}, id="saml"),
        pytest.param("a person nobody vouches for", {"subject_token_type": f"{TYPE}id_token"}, id="id token"),
        pytest.param("another kind of token", {"requested_token_type": f"{TYPE}refresh_token"}, id="refresh token wanted"),
        pytest.param("an ID-JAG", {"requested_token_type": f"{TYPE}id-jag"}, id="id-jag wanted"),
        pytest.param("a Txn-Token", {"requested_token_type": f"{TYPE}txn_token"}, id="txn-token wanted"),
    ],
)
def test_exchanges_that_the_table_does_not_name(kind, form, exchanging):
    status, body = exchanging(form)
    assert (status, body["error"]) == (400, "invalid_request"), kind


@pytest.fixture(scope="module")
def exchanging(tmp_path_factory):
    """Ask a running token service for an exchange that differs in some parameters from one that is given."""
    loop = asyncio.new_event_loop()
    context = token_service(tmp_path_factory.mktemp("exchanges"))
    service = loop.run_until_complete(context.__aenter__())

    async def exchange(form: dict[str, str]) -> tuple[int, Any]:
        svid = await service.running.node.identities.issue_svid("tester", attested="test")
        base = {"grant_type": EXCHANGE, "subject_token": svid, "subject_token_type": f"{TYPE}jwt", "scope": "task:all"}
        assert (await service.token(base))[0] == 200
        return await service.token(base | service.client() | form)

    yield lambda form: loop.run_until_complete(exchange(form))
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


def _keys(agent: str, key: ECKey) -> str:
    public = key.as_dict(private=False)
    return f"[[agents.{agent}.keys]]\n" + "".join(f'{name} = "{public[name]}"\n' for name in ("kty", "crv", "x", "y"))

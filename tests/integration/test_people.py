"""For whom an agent works, proved by that person's ID token of a certified provider; and every token that does not prove it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.integration.test_front_channel import SIGN_IN, Place
from tests.integration.token_service import EXCHANGE, TYPE, Service, wanted
from tests.oidc.provider import Provider, ec_key, provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.test_front_channel import Front

PERSON, AGENT = "ann@corp.example", "spiffe://remit.local/agent/tester"
KEY = ec_key("k1")
TRUSTED = SIGN_IN.replace('claim = "email"', "").replace("algorithms", 'audiences = ["remit"]\nalgorithms', 1)


@pytest.fixture(scope="module")
def idp() -> Iterator[Provider]:
    with provider(KEY) as running:
        yield running


def working(idp: Provider, folder: Path, work: Any, more: str = TRUSTED) -> None:
    Place(0, idp, folder).run(work, more)


async def asked(service: Service, token: str, **form: str) -> tuple[int, Any]:
    subject = {"subject_token": token, "subject_token_type": f"{TYPE}id_token"}
    task = {"authorization_details": wanted(task_type="all")}
    return await service.token({"grant_type": EXCHANGE} | subject | task | service.client() | form)


async def signed_in(idp: Provider, account: str = PERSON) -> str:
    return await asyncio.to_thread(idp.id_token, account, "openid email")


def test_a_person_s_id_token_proves_for_whom_the_agent_works_and_opens_one_task(idp, tmp_path):
    async def work(front: Front) -> None:
        service, token = front.service, await signed_in(idp)
        status, given = await asked(service, token)
        assert status == 200, given
        assert await service.opens(given["access_token"])
        told = (await service.token_of(given["access_token"]))[1]
        assert (told["sub"], told["act"]["sub"]) == (PERSON, AGENT)
        task = await service.running.node.tasks.view(given["authorization_details"][0]["task"])
        assert (task.on_behalf_of, task.on_behalf_proof) == (PERSON, f"oidc:{idp.issuer}")
        status, body = await asked(service, token)
        assert (status, body["error"]) == (400, "invalid_request"), "once"
        assert (await service.records("TokenRefused"))[-2].why == "the token was used before"
        same = {"authorization_details": wanted(task=task.id)}
        assert (await asked(service, await signed_in(idp), **same))[0] == 200
        status, body = await asked(service, await signed_in(idp, "bob@corp.example"), **same)
        assert (status, body["error"]) == (400, "invalid_request"), "the task is somebody else's"
        other = {"authorization_details": wanted(task_type="all", on_behalf_of="bob@corp.example")}
        status, body = await asked(service, await signed_in(idp), **other)
        assert (status, body["error"]) == (400, "invalid_request"), "it says another person than it proves"

    working(idp, tmp_path, work)


def test_what_does_not_prove_a_person_opens_nothing(idp, tmp_path):
    def forged(key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": idp.issuer, "aud": "remit", "sub": "x", "email": PERSON, "email_verified": True, "iat": now, "exp": now + 60}
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": "k1", **(header or {})}, claims, ECKey.import_key(key))

    async def work(front: Front) -> None:
        service = front.service
        assert (await asked(service, forged()))[0] == 200, "what is forged below differs in one thing only"
        cases = {
            "another key": forged(key=ec_key("k1")),
            "another issuer": forged(iss="https://evil.example"),
            "another client": forged(aud="machine"),
            "several audiences": forged(aud=["remit", "machine"]),
            "given to another": forged(azp="machine"),
            "expired": forged(exp=int(time.time()) - 100),
            "of the future": forged(iat=int(time.time()) + 1_000, exp=int(time.time()) + 2_000),
            "too long": forged(exp=int(time.time()) + 10_000_000),
            "a logout token": forged(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
            "an access token": forged(header={"typ": "at+jwt"}),
            "bound to a key": forged(cnf={"jkt": "x"}),
            "keys from elsewhere": forged(header={"jku": "https://evil.example/keys"}),
            "an address nobody verified": forged(email_verified=False),
            "no address": forged(email=None),
            "no token": "x.y.z",
            "an agent's proof": await service.running.node.identities.issue_svid("tester", attested="test"),
        }
        opened = len(await service.records("TaskOpened"))
        for what, token in cases.items():
            told = await asked(service, token)
            assert told == (400, {"error": "invalid_request", "error_description": "the subject token is not acceptable"}), what
        status, body = await asked(service, await signed_in(idp, "eve@evil.example"))
        assert (status, body["error"]) == (400, "access_denied")
        token = await signed_in(idp)
        alone = {"client_assertion": "", "client_assertion_type": ""}
        assert (await asked(service, token, **alone))[0] == 401, "a person's token proves no agent"
        assert (await asked(service, token))[0] == 200, "and was not used up by that"
        assert len(await service.records("TaskOpened")) == opened + 1

    working(idp, tmp_path, work)


def test_tokens_of_other_clients_count_only_where_that_is_configured(idp, tmp_path):
    async def work(front: Front) -> None:
        status, body = await asked(front.service, await signed_in(idp))
        assert (status, body["error"]) == (400, "invalid_request")

    working(idp, tmp_path, work, SIGN_IN)

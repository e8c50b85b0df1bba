"""Every route of the API, by what it takes: bodies that are none, tokens that prove nothing, ids that name nothing.

The routes are read from the running application and from ``openapi.json``: a new route is held to all of this at once, and a route
that the document does not tell of fails here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.routing import Route

from remit.application import api_of
from remit.doors import bodies
from remit.doors.api.openapi import openapi
from remit.doors.metrics import PATH as METRICS
from remit.drivers.signing import TokenSigner
from remit.logic.claims import SVID_TYPE, TASK_TYPE, svid_claims, task_claims
from remit.model.call_record import CallDecided
from remit.model.task import TaskState
from tests.e2e.gateway import Running, gateway, stdio

pytestmark = pytest.mark.anyio
DOCUMENT: dict[str, Any] = openapi()["paths"]
TAKING = [path for path, methods in DOCUMENT.items() if "requestBody" in methods.get("post", {})]
PROVED = [(method, path) for path, methods in DOCUMENT.items() for method, told in methods.items() if told.get("security")]
SECRET = "an-approver-secret-of-tests"
CALLER = "a-caller-secret-of-tests"
AUDITOR = "a-reader-secret-of-tests"
SIEM, IDP = "a-receiver-secret-of-tests", "a-transmitter-secret-of-tests"
MORE = '[approvers.ann]\ntools = ["*"]\nsecret = "${ANN}"\n[access.callers.pep]\nsecret = "${PEP}"\ntasks = true\n'
MORE += '[signals.receivers.siem]\nsecret = "${SIEM}"\naudience = "https://siem.example"\n'
MORE += '[signals.transmitters.idp]\nissuer = "https://idp.example"\npush_secret = "${IDP}"\n'
MORE += '[ledger.readers.auditor]\nsecret = "${AUDITOR}"\n'
MORE += "[tokens]\nstatus_list = true\n"
MORE += '[sign_in]\nissuer = "https://idp.example"\nclient_id = "remit"\nsecret = "${SIGN_IN}"\npeople = ["*"]\n'
MORE += '[sign_in.clients.any]\nagent = "tester"\nregistered = true\n'

BODIES: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"type":',
    "no object": b"7",
    "a list": b"[]",
    "null": b"null",
    "not utf-8": b'{"type":"\xff\xfe"}',
    "utf-16": '{"type":"all"}'.encode("utf-16"),
    "half a surrogate": b'{"type":"\\ud800"}',
    "nan": b'{"type":NaN}',
    "out of range": b'{"type":1e999}',
    "many digits": b'{"type":' + b"9" * 10_000 + b"}",
    "doubled key": b'{"type":"all","type":"all"}',
    "nested": b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested a little": b'{"type":' + b"[" * 80 + b"]" * 80 + b"}",
    "unknown keys": b'{"__proto__":{"x":1},"constructor":1}',
    "a form": b"type=all&type=all",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ANN", SECRET)
        environment.setenv("PEP", CALLER)
        environment.setenv("SIEM", SIEM)
        environment.setenv("SIGN_IN", "a-secret-of-remit-at-its-provider")
        environment.setenv("IDP", IDP)
        environment.setenv("AUDITOR", AUDITOR)
        async with gateway(Path(tmp_path_factory.mktemp("doors")), stdio("bank", "bank.py", "--stdio"), more=MORE) as node:
            yield node


async def proof(running: Running, told: dict[str, Any]) -> str:
    """A good proof of the first kind that a route takes."""
    kinds = {name for one in told.get("security", []) for name in one}
    if "approver_secret" in kinds:
        return SECRET
    if "caller" in kinds:
        return CALLER
    if "receiver_secret" in kinds:
        return SIEM
    if "transmitter_secret" in kinds:
        return IDP
    if "ledger_reader" in kinds:
        return AUDITOR
    if "task_token" in kinds:
        return running.token
    return await running.node.identities.issue_svid("tester", attested="test")


async def ask(running: Running, method: str, path: str, token: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{running.port}" + path.replace("{task}", running.task.id).replace("{approval}", "apr_none").replace(
        "{transmitter}", "idp"
    )
    given = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    async with aiohttp.ClientSession() as client, client.request(method, url, data=body, headers=given) as answer:
        return answer.status, await answer.read()


async def decisions(running: Running) -> int:
    return sum(isinstance(record, CallDecided) for record in await running.records())


async def test_the_document_tells_of_every_route(running: Running) -> None:
    served = {
        (method.lower(), route.path.replace("{tenant:path}", "").replace(":int}", "}").replace(":path}", "}"))
        for route in api_of(running.node).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    served.add(("get", METRICS))  # of `remit serve`, beside the API
    served |= {("get", "/egress/{target}"), *((method, "/egress/{target}/{path}") for method in ("get", "post", "put", "patch", "delete"))}
    assert served == {(method, path) for path, methods in DOCUMENT.items() for method in methods}


@pytest.mark.parametrize("path", TAKING)
async def test_bodies_that_are_none(running: Running, path: str) -> None:
    token, before = await proof(running, DOCUMENT[path]["post"]), await decisions(running)
    limits = running.node.configuration.settings.limits
    for what, body in BODIES.items():
        status, told = await ask(running, "POST", path, token, body)
        assert status in {400, 413}, (what, status, told[:200])
        assert told, what
        assert b"Traceback" not in told
    most = max(limits.body_bytes, limits.result_bytes) if path.endswith("/observe") else limits.body_bytes
    large = io.BytesIO(b'{"type":"' + b"x" * max(most, 10_000_000) + b'"}')
    status, told = await ask(running, "POST", path, token, large)
    assert status == 413, told[:200]
    assert await decisions(running) == before
    assert (await ask(running, "GET", "/readyz", ""))[0] == 200


@pytest.mark.parametrize("path", TAKING)
async def test_a_body_that_never_comes_is_not_waited_for(running: Running, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.whole_body, "__defaults__", (0.1,))

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        while True:
            await asyncio.sleep(0.05)
            yield b" "

    status, told = await ask(running, "POST", path, await proof(running, DOCUMENT[path]["post"]), endless())
    assert status == 408, told[:200]


async def worthless(running: Running) -> dict[str, str]:
    """Proofs of every kind that prove nothing, by what is wrong with them."""
    node, now = running.node, datetime.now(UTC)
    settings = node.configuration.settings
    agent, signer = running.task.agent, node.signer
    stranger = TokenSigner(ec.generate_private_key(ec.SECP256R1()))
    hour, day = timedelta(hours=1), timedelta(days=1)

    def svid(signed_by: TokenSigner = signer, audience: str = settings.issuer, **claims: Any) -> str:
        return signed_by.sign({**svid_claims(agent, audience, now, timedelta(minutes=5), "jti-of-tests"), **claims}, SVID_TYPE)

    def token(signed_by: TokenSigner = signer, kind: str = TASK_TYPE, **claims: Any) -> str:
        made = task_claims(running.task, settings.issuer, node.tokens.audience, now, now + timedelta(minutes=5), "tok-of-tests")
        return signed_by.sign({**made, **claims}, kind)

    ended, dead = await running.another_task()
    await node.tasks.end(ended.id, TaskState.COMPLETED, by="tests")
    good = svid()
    moment = int(now.timestamp())
    return {
        "nothing": "",
        "rubbish": "x",
        "three parts of rubbish": "a.b.c",
        "no signature": good.rsplit(".", 1)[0] + ".",
        "another signature": good[:-8] + "AAAAAAAA",
        "alg none": _forged(good, {"alg": "none", "typ": "JWT"}, b""),
        "the public key as a secret": _by_secret(good, signer),
        "very long": "e30." + "A" * 200_000 + ".x",
        "expired svid": svid(iat=moment - 7_200, exp=moment - 3_600),
        "svid of tomorrow": svid(iat=moment + 86_400, exp=moment + 86_700),
        "svid of a century": svid(exp=moment + int(day.total_seconds()) * 36_500),
        "svid for another place": svid(audience="https://elsewhere.example"),
        "svid of another trust domain": svid(sub="spiffe://evil.example/agent/tester"),
        "svid of nobody": svid(sub="spiffe://remit.local/agent/nobody"),
        "svid without subject": svid(sub=None),
        "foreign svid": svid(stranger),
        "expired token": token(iat=moment - 7_200, exp=moment - 3_600),
        "token of tomorrow": token(iat=moment + 86_400, exp=moment + 86_700),
        "token for another place": token(aud="https://elsewhere.example/mcp"),
        "token from another place": token(iss="https://elsewhere.example"),
        "token of another kind": token(kind="JWT"),
        "token of no task": token(task={"id": "task_none"}),
        "token of another agent": token(sub="spiffe://remit.local/agent/other"),
        "foreign token": token(stranger),
        "token of a task that ended": dead,
        "an hour": svid(exp=moment + int(hour.total_seconds()) + 7_200),
    }


def _forged(token: str, header: dict[str, Any], signature: bytes) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.{token.split('.')[1]}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _by_secret(token: str, signer: TokenSigner) -> str:
    """RFC 8725 §2.1: the verifier's public key used as an HMAC secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": signer.key_id}
    unsigned = _forged(token, header, b"").rsplit(".", 1)[0]
    key = json.dumps(signer.jwks()["keys"][0]).encode()
    return _forged(token, header, hmac.new(key, unsigned.encode(), hashlib.sha256).digest())


async def test_proofs_that_prove_nothing_are_refused_alike(running: Running) -> None:
    """At every route that asks for a proof, in the same words whatever is wrong, and the ledger says why without the token."""
    wrong = await worthless(running)
    before = await decisions(running)
    for method, path in PROVED:
        answers: dict[bytes, str] = {}
        for what, token in wrong.items():
            status, told = await ask(running, method.upper(), path, token, b"{}" if method == "post" else None)
            assert status == 401, (path, what, status, told[:200])
            if token:
                answers[told] = what
        assert len(answers) == 1, (path, answers)
    assert await decisions(running) == before
    whole = "".join(entry.body.decode() for entry in await running.node.store.entries(0, 100_000))
    assert '"kind":"token.refused"' in whole
    assert not [what for what, token in wrong.items() if len(token) > 40 and token in whole]


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%00", "x" * 5_000, "%F0%9F%92%A9", "task_none", "a'; drop table tasks; --"])
async def test_ids_that_name_nothing(running: Running, name: str) -> None:
    for method, path in PROVED:
        if "{" not in path:
            continue
        token = await proof(running, DOCUMENT[path][method])
        where = path.replace("{task}", name).replace("{approval}", name).replace("{bundle}", name)
        bodies_of = {"authorize": b'{"tool":"bank/echo"}', "observe": b'{"decision":"d_none","ending":"ok"}'}
        status, told = await ask(running, method.upper(), where, token, bodies_of.get(path.rsplit("/", 1)[-1], b'{"answer":"deny"}'))
        assert status in {400, 404}, (path, status, told[:200])
        assert b"Traceback" not in told


async def test_other_methods(running: Running) -> None:
    for path, methods in DOCUMENT.items():
        for method in {"get", "post", "put", "delete", "patch"} - set(methods):
            status, _ = await ask(running, method.upper(), path, running.token)
            assert status in {404, 405}, (method, path)

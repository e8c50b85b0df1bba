"""Tokens: exactly ours, exactly for this, exactly now."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from remit.drivers.signing import TokenSigner
from remit.errors import Unauthenticated
from remit.logic.claims import check_svid, check_task_token, svid_claims, task_claims
from tests.support import AGENT, NOW, grant, task

ISSUER, AUDIENCE = "http://127.0.0.1:7411", "http://127.0.0.1:7411/mcp"
SIGNER = TokenSigner(generate_private_key(SECP256R1()))
OTHER = TokenSigner(generate_private_key(SECP256R1()))


def task_token(signer=SIGNER, kind="at+jwt", **changes):
    claims = task_claims(task(grant(uses=1)), ISSUER, AUDIENCE, NOW, NOW + timedelta(minutes=5), "tok_1")
    return signer.sign({**claims, **changes}, kind)


def accept(token, now=NOW):
    header, claims = SIGNER.open(token)
    return check_task_token(header, claims, ISSUER, AUDIENCE, now)


def test_a_task_token_names_agent_task_and_grant():
    opened = accept(task_token())
    assert (opened.bearer.agent, opened.bearer.task, opened.expires_at) == (AGENT, "task_1", NOW + timedelta(minutes=5))
    _, claims = SIGNER.open(task_token())
    assert claims["authorization_details"] == [
        {"type": "remit_grant", "locations": [AUDIENCE], "kind": "tool", "name": "bank/pay", "uses": 1}
    ]
    assert claims["client_id"] == claims["sub"] == AGENT.text
    assert claims["task"]["on_behalf_of"] == "alice"


def forged(header, claims, signature="x"):
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


def public_as_secret():
    """RFC 8725 §2.1: the public key used as an HMAC secret."""
    public = json.dumps(SIGNER.jwks()["keys"][0]).encode()
    return jwt.encode({"alg": "HS256", "typ": "at+jwt"}, {"sub": AGENT.text}, OctKey.import_key(public))


SECONDS = int(NOW.timestamp())
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": AGENT.text, "iat": SECONDS, "exp": SECONDS + 60, "task": {"id": "task_1"}}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b", id="two parts"),
        pytest.param("a.b.c.d.e", id="encrypted form"),
        pytest.param("é.é.é", id="not base64"),
        pytest.param("x" * 200_000, id="oversize"),
        pytest.param(forged({"alg": "none", "typ": "at+jwt"}, CLAIMS, ""), id="alg none"),
        pytest.param(forged({"alg": "nOnE", "typ": "at+jwt"}, CLAIMS, ""), id="alg nOnE"),
        pytest.param(forged({"alg": "ES256", "typ": "at+jwt"}, CLAIMS, "AAAA"), id="rubbish signature"),
        pytest.param(public_as_secret(), id="key confusion"),
        pytest.param(task_token(OTHER), id="foreign key"),
        pytest.param(task_token()[:-4] + "AAAA", id="tampered signature"),
        pytest.param(task_token(kind="JWT"), id="another kind of token"),
        pytest.param(task_token(iss="https://evil.example"), id="foreign issuer"),
        pytest.param(task_token(aud="http://other/mcp"), id="foreign audience"),
        pytest.param(task_token(aud=[AUDIENCE, "http://other/mcp"]), id="several audiences"),
        pytest.param(task_token(exp=int(NOW.timestamp()) - 31), id="expired"),
        pytest.param(task_token(exp=int(NOW.timestamp()) + 10**9), id="endless"),
        pytest.param(task_token(iat=int(NOW.timestamp()) + 3600, exp=int(NOW.timestamp()) + 3700), id="from the future"),
        pytest.param(task_token(exp="tomorrow"), id="exp is text"),
        pytest.param(task_token(exp=True), id="exp is a boolean"),
        pytest.param(task_token(task="task_1"), id="no task object"),
        pytest.param(task_token(client_id="spiffe://remit.test/agent/../root"), id="path traversal in the id"),
        pytest.param(task_token(client_id="spiffe://Remit.test/agent/x"), id="upper case trust domain"),
        pytest.param(task_token(jti=None), id="no id"),
        pytest.param(task_token(aud=AUDIENCE + "/../v1"), id="an audience that climbs"),
        pytest.param(task_token(aud=AUDIENCE + "/"), id="no server at all"),
        pytest.param(task_token(cnf={}), id="bound to nothing"),
        pytest.param(task_token(cnf={"jwk": {}}), id="bound in an unknown way"),
        pytest.param(task_token(cnf={"jkt": "", "x5t#S256": "x"}), id="bound to an empty thumbprint"),
        pytest.param(task_token(client_id=7), id="client_id is a number"),
        pytest.param(task_token(sub="alice"), id="a subject that nobody acts for"),
        pytest.param(task_token(sub="alice", act={"iss": ISSUER, "sub": "spiffe://remit.test/agent/other"}), id="another actor"),
    ],
)
def test_everything_else_is_refused(token):
    with pytest.raises(Unauthenticated):
        accept(token)


@pytest.mark.parametrize("extra", [{"jku": "http://x"}, {"x5u": "http://x"}, {"jwk": {}}, {"crit": ["b64"]}, {"kid": "../../etc/passwd"}])
def test_headers_that_point_elsewhere_are_refused(extra):
    pem_key = ECKey.generate_key("P-256")
    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", **{k: v for k, v in extra.items() if k in ("kid", "jku", "x5u")}}, CLAIMS, pem_key)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": SIGNER.key_id, **extra}
    with pytest.raises(Unauthenticated):
        accept(token)
    with pytest.raises(Unauthenticated):
        accept(forged(header, CLAIMS, "AAAA"))


def svid(**changes):
    claims = {**svid_claims(AGENT, ISSUER, NOW, timedelta(minutes=5), "svid_1"), **changes}
    return SIGNER.open(SIGNER.sign(claims, "JWT"))


def test_an_svid_proves_its_agent():
    assert check_svid(*svid(), "remit.test", ISSUER, NOW).agent == AGENT


@pytest.mark.parametrize(
    "changes",
    [{"aud": ["elsewhere"]}, {"aud": []}, {"exp": int(NOW.timestamp()) - 60}, {"sub": "spiffe://other.test/agent/x"}, {"sub": "alice"}],
)
def test_an_svid_for_elsewhere_proves_nothing(changes):
    with pytest.raises(Unauthenticated):
        check_svid(*svid(**changes), "remit.test", ISSUER, NOW)


def test_a_task_token_is_no_svid():
    with pytest.raises(Unauthenticated):
        check_svid(*SIGNER.open(task_token()), "remit.test", ISSUER, NOW)


def test_other_implementations_read_our_tokens():
    """Each of many: one in 128 has a half of its signature that begins with a zero, which must not be dropped (RFC 7518 §3.4)."""
    key = ECKey.import_key(SIGNER.jwks()["keys"][0])
    claims = {"name": "Zoë", "large": 2**70, "part": 0.5, "none": None, "list": [True, {"a": "b"}]}
    for number in range(600):
        token = SIGNER.sign({**claims, "number": number}, "at+jwt")
        read = jwt.decode(token, key, algorithms=["ES256"])
        assert read.header == {"alg": "ES256", "kid": SIGNER.key_id, "typ": "at+jwt"}
        assert read.claims == {**claims, "number": number}
        assert "=" not in token

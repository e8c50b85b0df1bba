"""People who drive a client, over real sockets: a certified provider signs them in, a stock MCP client asks, a browser goes between."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import http.server
import json
import re
import secrets
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import OpenerDirector, Request

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bench.common import free_port
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued, TokenRefused
from remit.services.sparing import PER_MINUTE
from tests.certificates import Authority
from tests.integration.token_service import Service, token_service
from tests.oidc.provider import Provider, a_browser, ec_key, provider, visit

PERSON, AGENT = "ann@corp.example", "spiffe://remit.local/agent/tester"
CLIENT_BACK = "http://127.0.0.1:33418/callback"
TYPE = """
objective = "Pay {who}"
data_ceiling = "public"
deadline = "30m"
budget = { calls = 20 }
[inputs.who]
type = "string"
description = "Who is to be paid"
[[grant]]
tool = "bank/echo"
arguments.properties.text.const = "{who}"
"""
SIGN_IN = """
[sign_in]
issuer = "{issuer}"
client_id = "sign-in"
secret = "${{REMIT_SIGN_IN}}"
people = ["*@corp.example"]
algorithms = ["ES256"]
networks = ["127.0.0.1/32"]
[sign_in.clients.desk]
agent = "tester"
redirect_uris = ["http://127.0.0.1/callback", "https://desk.corp.example/back"]
[sign_in.clients.any]
agent = "tester"
registered = true
"""


@dataclass
class Front:
    service: Service
    idp: Provider
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def asked(self, **changes: str) -> str:
        """The address that a client sends its person to; a change to "" leaves a parameter out."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        form = {
            "response_type": "code",
            "client_id": "desk",
            "redirect_uri": CLIENT_BACK,
            "state": "s1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": f"{self.service.url}/mcp/bank",
            **changes,
        }
        return f"{self.service.url}/oauth/authorize?{urlencode({name: value for name, value in form.items() if value})}"

    def to_consent(self, browser: OpenerDirector, person: str = "ann@corp.example", where: str = "") -> str:
        """Sign in: the first page that remit shows."""
        _, where, _ = visit(browser, where or self.asked())
        assert where.startswith(self.idp.issuer), where
        back = self.idp.signed_in(browser, where, person, f"{self.service.url}/oauth/callback")
        status, where, page = visit(browser, back)
        assert where == f"{self.service.url}/oauth/consent", (status, page)
        return visit(browser, where)[2]

    def post(self, browser: OpenerDirector, form: dict[str, str], **headers: str) -> tuple[int, str, str]:
        said = {"Origin": "null", "Sec-Fetch-Site": "same-origin", **headers}  # as browsers say of a form on a page without referrers
        request = Request(f"{self.service.url}/oauth/consent", urlencode(form).encode(), said)
        try:
            with browser.open(request, timeout=20) as answer:
                return answer.status, "", answer.read().decode()
        except HTTPError as moved:
            return moved.code, moved.headers.get("Location", ""), moved.read().decode()

    def look(self, browser: OpenerDirector, task_type: str = "pay", **inputs: str) -> str:
        form = {"answer": "look", "task_type": task_type, **{f"input.{name}": value for name, value in inputs.items()}}
        status, _, page = self.post(browser, form)
        assert status == 200, page
        return page

    def consent(self, browser: OpenerDirector, page: str) -> dict[str, str]:
        """Say yes: what the client gets."""
        status, where, told = self.post(browser, {"answer": "consent", "form": sealed(page)})
        assert status == 303, told
        return came_back(where)

    async def exchange(self, **changes: str) -> tuple[int, Any]:
        form = {"grant_type": "authorization_code", "client_id": "desk", "redirect_uri": CLIENT_BACK, "code_verifier": self.verifier}
        return await self.service.token({**form, **changes})


def refresh(given: dict[str, Any]) -> dict[str, str]:
    return {"grant_type": "refresh_token", "client_id": "desk", "refresh_token": given["refresh_token"]}


def sealed(page: str) -> str:
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


def came_back(where: str, to: str = CLIENT_BACK) -> dict[str, str]:
    assert where.startswith(to), where
    return {name: values[0] for name, values in parse_qs(urlsplit(where).query).items()}


@dataclass
class Place:
    """Where remit is known to the provider, and the provider."""

    port: int
    idp: Provider
    folder: Path

    def run(self, work: Any, more: str = SIGN_IN) -> None:
        async def within() -> None:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("REMIT_SIGN_IN", "the-secret-of-remit-at-the-provider")
                async with token_service(self.folder, more.format(issuer=self.idp.issuer), types={"pay": TYPE}, port=self.port) as service:
                    await work(Front(service, self.idp))

        asyncio.run(within())


@pytest.fixture(scope="module")
def idp() -> Iterator[tuple[int, Provider]]:
    port = free_port()
    with provider(ec_key("k1"), returns_to=f"http://127.0.0.1:{port}/oauth/callback") as running:
        yield port, running


@pytest.fixture
def place(idp: tuple[int, Provider], tmp_path: Path) -> Place:
    return Place(*idp, tmp_path)


async def off(work: Any, *arguments: Any, **more: Any) -> Any:
    """The browser blocks, so it gets a thread of its own: remit runs in this one."""
    return await asyncio.to_thread(lambda: work(*arguments, **more))


def test_a_person_signs_in_sees_the_grant_and_consents(place):
    async def work(where: Front) -> None:
        browser = a_browser()
        page = await off(where.to_consent, browser)
        assert "ann@corp.example" in page
        assert "Who is to be paid" in page
        assert "a program on this machine" in page
        shown = await off(where.look, browser, who="bob")
        assert "Pay bob" in shown
        assert "bank/echo" in shown
        assert "text: exactly bob" in shown
        assert "20 calls within 30 minutes" in shown
        came = await off(where.consent, browser, shown)
        assert (came["state"], came["iss"]) == ("s1", where.service.url)
        status, given = await where.exchange(code=came["code"])
        assert status == 200, given
        assert await where.service.opens(given["access_token"])
        assert not await where.service.opens(given["access_token"], "other")
        task_id = given["authorization_details"][0]["task"]
        task = await where.service.running.node.tasks.view(task_id)
        assert (task.type, task.on_behalf_of, task.opened_by, task.agent.text) == ("pay", PERSON, PERSON, AGENT)
        assert task.on_behalf_proof == f"oidc:{where.idp.issuer}"
        issued: TokenIssued = (await where.service.records("TokenIssued"))[-1]
        assert (issued.exchange, issued.subject_proof) == ("authorization_code", "consent")
        # the token is minutes long; the client goes on with the next one as long as the task lives
        status, next_one = await where.service.token(refresh(given))
        assert status == 200, next_one
        assert await where.service.opens(next_one["access_token"])
        await where.service.running.node.tasks.end(task_id, TaskState.COMPLETED, by="ann")
        status, over = await where.service.token(refresh(next_one))
        assert (status, over["error"]) == (400, "invalid_grant")

    place.run(work)


def test_what_is_used_twice_ends_the_task(place):
    async def work(where: Front) -> None:
        for what in ("code", "refresh"):
            browser = a_browser()
            await off(where.to_consent, browser)
            came = await off(where.consent, browser, await off(where.look, browser, who="bob"))
            status, given = await where.exchange(code=came["code"])
            assert status == 200, given
            form = refresh(given)
            if what == "refresh":
                assert (await where.service.token(form))[0] == 200
                status, again = await where.service.token(form)
            else:
                status, again = await where.exchange(code=came["code"])
            assert (status, again["error"]) == (400, "invalid_grant")
            task = await where.service.running.node.tasks.view(given["authorization_details"][0]["task"])
            assert (task.state, "twice" in task.note) == (TaskState.REVOKED, True)
            assert not await where.service.opens(given["access_token"])

    place.run(work)


WRONG_EXCHANGES = [
    {"client_id": "any"},
    {"client_id": ""},
    {"redirect_uri": "https://desk.corp.example/back"},
    {"code_verifier": "x" * 43},
    {"code_verifier": ""},
    {"code": "x"},
    {"code": ""},
]


def test_a_code_is_for_its_client_its_address_and_its_verifier(place):
    async def work(where: Front) -> None:
        browser = a_browser()
        await off(where.to_consent, browser)
        code = (await off(where.consent, browser, await off(where.look, browser, who="bob")))["code"]
        for wrong in WRONG_EXCHANGES:
            status, told = await where.exchange(**{"code": code, **wrong})
            assert (status, told["error"]) == (400, "invalid_grant"), wrong
        status, told = await where.exchange(code=code, resource=f"{where.service.url}/mcp")  # more than was consented to
        assert (status, told["error"]) == (400, "invalid_target")

    place.run(work)


def test_an_answer_that_does_not_say_whose_it_is_counts_for_nothing(place):
    """RFC 9207 §2.4: a provider that promises ``iss`` is believed with it only; so a mix-up is seen before the code goes anywhere."""

    async def work(where: Front) -> None:
        for said in ("", "https://evil.example", where.idp.issuer + "/", where.idp.issuer.upper()):
            browser = a_browser()
            _, to, _ = await off(visit, browser, where.asked())
            back = await off(where.idp.signed_in, browser, to, PERSON, f"{where.service.url}/oauth/callback")
            plain, _, query = back.partition("?")
            told = {name: values[0] for name, values in parse_qs(query).items()}
            assert told["iss"] == where.idp.issuer
            changed = {name: value for name, value in {**told, "iss": said}.items() if value}
            with pytest.raises(AssertionError, match="this answer is of another provider"):
                await off(visit, browser, f"{plain}?{urlencode(changed)}")
            assert (await off(visit, browser, back))[1] == f"{where.service.url}/oauth/consent", "the honest answer still counts"

    place.run(work)


def test_a_person_says_no(place):
    async def work(where: Front) -> None:
        browser = a_browser()
        await off(where.to_consent, browser)
        status, to, _ = await off(where.post, browser, {"answer": "deny"})
        assert status == 303
        assert came_back(to)["error"] == "access_denied"
        refused: TokenRefused = (await where.service.records("TokenRefused"))[-1]
        assert "ann@corp.example did not consent" in refused.why
        status, _, page = await off(where.post, browser, {"answer": "deny"})
        assert status == 401 or "begin again" in page.lower()

    place.run(work)


def test_whoever_fails_very_often_does_not_fill_the_ledger(place):
    async def work(where: Front) -> None:
        browser = a_browser()
        _, to_provider, _ = await off(visit, browser, where.asked())
        state = parse_qs(urlsplit(to_provider).query)["state"][0]
        before = len(await where.service.records("TokenRefused"))
        back = f"{where.service.url}/oauth/callback?{urlencode({'code': 'made-up', 'state': state, 'iss': where.idp.issuer})}"
        for _ in range(PER_MINUTE + 5):
            with pytest.raises(AssertionError, match=r"401 [\s\S]*You could not be signed in"):
                await off(visit, browser, back)
        assert 0 < len(await where.service.records("TokenRefused")) - before <= PER_MINUTE

    place.run(work)


def test_who_may_not_consent_gets_nothing(place):
    async def work(where: Front) -> None:
        for person, words in (("eve@evil.example", "may not open tasks"), ("unverified@corp.example", "could not be signed in")):
            browser = a_browser()
            _, to, _ = await off(visit, browser, where.asked())
            back = await off(where.idp.signed_in, browser, to, person, f"{where.service.url}/oauth/callback")
            with pytest.raises(AssertionError, match=words):
                await off(visit, browser, back)

    place.run(work)


WRONG_REQUESTS = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": ""}, "unsupported_response_type"),
    ({"code_challenge": ""}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": ""}, "invalid_request"),
    ({"code_challenge": "x" * 42}, "invalid_request"),
    ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
    ({"request_uri": "https://evil.example/r"}, "request_uri_not_supported"),
    ({"request": "e30.e30."}, "request_not_supported"),
    ({"scope": "task:nothing"}, "invalid_scope"),
    ({"dpop_jkt": "short"}, "invalid_request"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"authorization_details": "[{}]"}, "invalid_authorization_details"),
    ({"state": "x" * 3_000}, "invalid_request"),
]
NOWHERE = [
    {"client_id": "nobody"},
    {"client_id": ""},
    {"client_id": "https://evil.example/client.json"},
    {"client_id": "reg.AAAA"},
    {"redirect_uri": "https://evil.example/back"},
    {"redirect_uri": "http://127.0.0.1:33418/callback/../evil"},
    {"redirect_uri": "http://127.0.0.1:33418@evil.example/callback"},
    {"redirect_uri": "http://localhost:33418/callback"},
    {"redirect_uri": "https://desk.corp.example/back?x=1"},
    {"redirect_uri": "https://desk.corp.example.evil.example/back"},
    {"redirect_uri": "javascript:alert(1)"},
    {"redirect_uri": ""},
]


def test_wrong_requests_go_back_to_the_client_or_nowhere(place):
    async def work(where: Front) -> None:
        for wrong, code in WRONG_REQUESTS:
            _, to, _ = await off(visit, a_browser(), where.asked(**wrong))
            assert came_back(to)["error"] == code, wrong
        for wrong in NOWHERE:
            with pytest.raises(AssertionError, match="cannot go on") as told:
                await off(visit, a_browser(), where.asked(**wrong))
            assert "Traceback" not in str(told.value)

    place.run(work)


def test_one_browsers_steps_are_no_other_browsers(place):
    """Login CSRF, a consent form sent by another page, a cookie that was made up."""

    async def work(where: Front) -> None:
        mine, theirs = a_browser(), a_browser()
        _, to, _ = await off(visit, theirs, where.asked())
        back = await off(where.idp.signed_in, theirs, to, "ann@corp.example", f"{where.service.url}/oauth/callback")
        with pytest.raises(AssertionError, match="too old, or was opened in another browser"):
            await off(visit, mine, back)  # a link that an attacker sends: their sign-in does not begin in my browser
        await off(where.to_consent, mine)
        page = await off(where.look, mine, who="bob")
        other = a_browser()
        await off(where.to_consent, other, "bea@corp.example")
        status, _, told = await off(where.post, other, {"answer": "consent", "form": sealed(page)})
        assert (status, "another browser" in told) == (403, True)
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": where.service.url},
            {"Sec-Fetch-Site": "none"},
            {"Origin": where.service.url + ".evil.example"},
        ):
            status, _, told = await off(where.post, mine, {"answer": "consent", "form": sealed(page)}, **headers)
            assert (status, "another page" in told) == (403, True)
        status, _, told = await off(where.post, a_browser(), {"answer": "consent", "form": sealed(page)}, Cookie="remit_sign_in_0=x")
        assert status == 403
        assert await off(where.consent, mine, page)
        status, _, told = await off(where.post, mine, {"answer": "consent", "form": sealed(page)})
        assert status == 403  # the cookie is gone with the answer

    place.run(work)


def test_a_client_that_registers_itself(place):
    async def work(where: Front) -> None:
        url = f"{where.service.url}/oauth/register"

        async def register(**told: Any) -> tuple[int, Any]:
            async with where.service.http.post(url, json=told) as answer:
                return answer.status, await answer.json()

        status, made = await register(
            client_name="Claude <b>", redirect_uris=["http://localhost/cb"], token_endpoint_auth_method="client_secret_post"
        )
        assert (status, made["token_endpoint_auth_method"]) == (201, "none")
        asked = where.asked(client_id=made["client_id"], redirect_uri="http://localhost:7777/cb")
        browser = a_browser()
        page = await off(where.to_consent, browser, where=asked)
        assert "nobody has checked what it calls itself" in page
        assert "Claude &lt;b&gt;" in page
        for wrong, code in (
            ({"redirect_uris": ["https://evil.example/back"]}, "invalid_redirect_uri"),
            ({"redirect_uris": []}, "invalid_redirect_uri"),
            ({"redirect_uris": ["http://evil.example/"]}, "invalid_redirect_uri"),
            ({"redirect_uris": ["http://127.0.0.1/#x"]}, "invalid_redirect_uri"),
            ({"redirect_uris": ["http://127.0.0.1/"] * 17}, "invalid_redirect_uri"),
            ({"redirect_uris": ["http://127.0.0.1/"], "client_secret": "x"}, "invalid_client_metadata"),
            ({"redirect_uris": ["http://127.0.0.1/"], "grant_types": ["implicit"]}, "invalid_client_metadata"),
            ({"redirect_uris": ["http://127.0.0.1/"], "client_name": "x" * 200}, "invalid_client_metadata"),
            ({"redirect_uris": [f"http://127.0.0.1/{'x' * 900}{number}" for number in range(5)]}, "invalid_client_metadata"),
        ):
            status, told = await register(**wrong)
            assert (status, told["error"]) == (400, code), wrong
        for body in (b"{", b"[]", b'{"a":1,"a":2}', b"\xff"):
            async with where.service.http.post(url, data=body) as answer:
                assert (answer.status, (await answer.json())["error"]) == (400, "invalid_client_metadata")

    place.run(work)


def test_a_client_is_known_by_its_document(place):
    """Client ID metadata documents: fetched from where they are declared, over TLS, and shown for what they are."""

    async def work(where: Front) -> None:
        documents["/desk.json"] = {"client_id": document, "client_name": "The desk", "redirect_uris": ["http://127.0.0.1/cb"]}
        asked = where.asked(client_id=document, redirect_uri="http://127.0.0.1:9999/cb")
        page = await off(where.to_consent, a_browser(), where=asked)
        assert "known by its document at " + document in page
        for wrong in (document + "?x", document.replace("desk", "other")):
            with pytest.raises(AssertionError, match="not known here"):
                await off(visit, a_browser(), where.asked(client_id=wrong, redirect_uri="http://127.0.0.1:9999/cb"))

    documents: dict[str, Any] = {}
    authority = Authority()
    certificate, key = authority.svid("spiffe://remit.test/x", hosts=("127.0.0.1",)).write(place.folder / "tls", "site")
    (place.folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    with https_site(certificate, key, documents) as base:
        document = f"{base}/desk.json"
        more = (
            SIGN_IN.replace("networks", 'ca_file = "ca.pem"\nnetworks')
            + f'[sign_in.clients.doc]\nagent = "tester"\ndocuments = ["{document}"]\n'
        )
        place.run(work, more)


@contextlib.contextmanager
def https_site(certificate: Path, key: Path, documents: dict[str, Any]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(documents[self.path]).encode() if self.path in documents else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


def test_the_stock_mcp_client_finds_its_way_with_a_person(place):
    """401 → metadata → registration → browser → code → token → a tool call, by the MCP SDK alone."""
    import httpx2
    from mcp import Client
    from mcp.client.auth import OAuthClientProvider, TokenStorage
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

    class Kept(TokenStorage):
        tokens: OAuthToken | None = None
        client: OAuthClientInformationFull | None = None

        async def get_tokens(self) -> OAuthToken | None:
            return self.tokens

        async def set_tokens(self, tokens: OAuthToken) -> None:
            self.tokens = tokens

        async def get_client_info(self) -> OAuthClientInformationFull | None:
            return self.client

        async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
            self.client = client_info

    async def work(where: Front) -> None:
        came: dict[str, str] = {}
        browser = a_browser()

        async def person(address: str) -> None:
            await off(where.to_consent, browser, where=address)
            shown = await off(where.look, browser, who="bob")
            status, to, told = await off(where.post, browser, {"answer": "consent", "form": sealed(shown)})
            assert status == 303, told
            came.update(came_back(to, "http://localhost:7777/cb"))

        async def callback() -> Any:
            return AuthorizationCodeResult(code=came["code"], state=came["state"], iss=came["iss"])

        metadata = OAuthClientMetadata(client_name="Desk", redirect_uris=["http://localhost:7777/cb"])
        kept = Kept()
        auth = OAuthClientProvider(f"{where.service.url}/mcp/bank", metadata, kept, redirect_handler=person, callback_handler=callback)
        async with httpx2.AsyncClient(auth=auth, timeout=60) as http:
            transport = streamable_http_client(f"{where.service.url}/mcp/bank", http_client=http)
            async with Client(transport) as client:
                result = await client.call_tool("echo", {"text": "bob"})
                assert result.content[0].text == "bob"
                refused = await client.call_tool("echo", {"text": "eve"})
                assert refused.is_error
        assert kept.tokens is not None
        assert kept.tokens.refresh_token

    place.run(work)

"""Those who answer questions: over HTTP, by a link, told by a webhook, or asked at the agent's own client; and those who may not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import mcp.types as types
import pytest
from aiohttp import web
from click.testing import CliRunner
from mcp.client.client import Client

from bench.common import free_port
from remit.cli.common import operator
from remit.cli.main import main
from remit.errors import Mistake
from remit.logic.arguments import make_call
from remit.logic.records import decode
from remit.model.call_record import ApprovalAnswered, CallDecided
from remit.model.catalog import Kind
from remit.model.identity import Bearer
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.mediation import Refused
from remit.services.pinning import pin_servers
from tests.e2e.gateway import Running, gateway, http, http_server, stdio, until

pytestmark = pytest.mark.anyio
ANNA, BERT, ALICE = "anna-secret-0123456789", "bert-secret-0123456789", "alice-secret-0123456789"
KEY = b"signing key of the receiver, 32b"
POLICY = '@id("asks") permit (principal, action, resource) when { context has approval };'
APPROVERS = """
[approvers.anna]
secret = "${ANNA}"
tools = ["bank/*"]
[approvers.bert]
secret = "${BERT}"
effects = ["irreversible", "read"]
[approvers.alice]
secret = "${ALICE}"
tools = ["*"]
[tools."bank/send_money"]
effect = "irreversible"
"""
MODES = ("legacy", "2026-07-28")
BANK: list[str] = []
PAY = {"recipient": "bob", "amount": 5}


@pytest.fixture(scope="module", autouse=True)
def bank() -> Iterator[None]:
    """One bank for all tests here: what it costs to start a process is paid once."""
    with http_server("bank.py") as address:
        BANK.append(http("bank", address))
        yield
        BANK.clear()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in (("ANNA", ANNA), ("BERT", BERT), ("ALICE", ALICE)):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("SIGNING", "whsec_" + base64.b64encode(KEY).decode())


class Office:
    """A node with approvers, one agent, and HTTP of our own."""

    def __init__(self, running: Running, client: aiohttp.ClientSession) -> None:
        self.running, self.client = running, client
        self.node = running.node

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"

    async def http(self, method: str, path: str, secret: str = "", body: Any = None, **more: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        async with self.client.request(method, self.base + path, headers=headers, json=body, allow_redirects=False, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type.endswith("json") else text

    async def pay(self, mode: str = "legacy", tool: str = "send_money", elicit: Any = None, **arguments: Any) -> Any:
        async with Client(self.running.url("bank"), mode=mode, elicitation_callback=elicit) as agent:
            return await agent.call_tool(tool, arguments or PAY)

    async def ask(self, **arguments: Any) -> str:
        """The id of the question that a call makes."""
        result = await self.pay(**arguments)
        decision = result.meta["dev.remit/decision"]
        assert decision["outcome"] == "ask", result
        return str(decision["approval"])

    def link(self, name: str, approval: str) -> str:
        approver = self.node.rules.rulebook.consent.named(name)
        assert approver is not None
        task = self.node.tasks._kept[self.running.task.id].task
        address = self.node.invitations.link(approver, task.approvals[approval])
        return address.removeprefix(self.node.configuration.settings.issuer)

    async def answers(self) -> list[ApprovalAnswered]:
        bodies = [decode(entry.body).body for entry in await self.node.store.task_entries(self.running.task.id)]
        return [body for body in bodies if isinstance(body, ApprovalAnswered)]


@contextlib.asynccontextmanager
async def office(folder: Path, more: str = APPROVERS, **settings: Any) -> AsyncIterator[Office]:
    async with gateway(folder, BANK[0], more=more, policy=POLICY, **settings) as running, aiohttp.ClientSession() as client:
        yield Office(running, client)


def text(result: Any) -> str:
    return result.content[0].text


# ---- over HTTP


async def test_an_approver_sees_what_tells_friend_from_foe_and_answers_once(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask()
        status, listed = await here.http("GET", "/v1/approvals", ANNA)
        (question,) = listed["approvals"]
        assert (status, question["approval"], question["state"]) == (200, approval, "pending")
        shown = {one["name"]: one["value"] for one in question["evidence"]["arguments"]}
        assert shown == {"recipient": '"bob"', "amount": "5"}
        assert question["evidence"]["policies"] == ["asks"]
        assert (await here.http("POST", f"/v1/approvals/{approval}", ANNA, {"answer": "approve", "reason": "fine"}))[0] == 200
        assert (await here.http("POST", f"/v1/approvals/{approval}", ANNA, {"answer": "approve"}))[1]["code"] == "answered"
        assert (await here.http("POST", f"/v1/approvals/{approval}", BERT, {"answer": "deny"}))[0] == 409
        assert text(await here.pay()) == "sent 5 to bob"
        assert (await here.pay()).is_error
        (answer,) = await here.answers()
        assert (answer.by, answer.via, answer.reason) == ("anna", "http", "fine")
        for entry in await here.node.store.task_entries(here.running.task.id):
            assert ANNA.encode() not in entry.body
            assert b'"bob"' not in entry.body


async def test_secrets_open_only_what_they_are_for(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask()
        for wrong in ("", "x", ANNA[:-1], here.running.token):
            assert (await here.http("GET", "/v1/approvals", wrong))[0] == 401
            assert (await here.http("POST", f"/v1/approvals/{approval}", wrong, {"answer": "approve"}))[0] == 401
        # alice is the one the task runs for: by four eyes she is no approver of it, and sees no question
        assert (await here.http("GET", "/v1/approvals", ALICE))[1] == {"approvals": []}
        assert (await here.http("POST", f"/v1/approvals/{approval}", ALICE, {"answer": "approve"}))[0] == 404
        assert (await here.http("GET", "/v1/approvals/apr_none", ANNA))[0] == 404
        assert await here.answers() == []


async def test_a_malformed_answer_changes_nothing(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask()
        for body in (
            {},
            {"answer": "maybe"},
            {"answer": "approve", "calls": 0},
            {"answer": "approve", "calls": 10_000},
            {"answer": "approve", "for": 10**9},
            {"answer": "approve", "any": ["recipiant"]},
            {"answer": "approve", "any": "recipient"},
            {"answer": "approve", "more": 1},
        ):
            status, problem = await here.http("POST", f"/v1/approvals/{approval}", ANNA, body)
            assert status == 400, body
            assert problem["code"] in {"body", "class"}
        assert await here.answers() == []


async def test_an_approver_widens_to_a_class_and_it_is_counted(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask()
        said = {"answer": "approve", "calls": 2, "for": 600, "any": ["amount"]}
        assert (await here.http("POST", f"/v1/approvals/{approval}", ANNA, said))[0] == 200
        assert text(await here.pay(recipient="bob", amount=7)) == "sent 7 to bob"
        assert (await here.pay(recipient="eve", amount=5)).is_error
        assert text(await here.pay(recipient="bob", amount=8)) == "sent 8 to bob"
        assert (await here.pay(recipient="bob", amount=9)).is_error
        shown = (await here.http("GET", "/v1/approvals", ANNA))[1]["approvals"][-1]["evidence"]
        assert shown["earlier"] == 2
        assert {one["name"]: one["before"] for one in shown["arguments"]} == {
            "amount": "new: in the latest of 2 earlier calls it was 8",
            "recipient": "same as in all 2 earlier calls",
        }
        used = [body for body in await here.running.records() if isinstance(body, CallDecided) and body.outcome == "allow"]
        assert [body.approval for body in used] == [approval, approval]


async def test_two_must_agree_and_race_to(tmp_path):
    async with office(tmp_path, APPROVERS + "[approvals]\nneeded = 2\n") as here:
        approval = await here.ask()
        path, yes = f"/v1/approvals/{approval}", {"answer": "approve"}
        statuses = await asyncio.gather(*(here.http("POST", path, secret, yes) for secret in (ANNA, ANNA, ANNA)))
        assert sorted(status for status, _ in statuses) == [200, 409, 409]
        assert "approval of 2 persons, 1 so far" in text(await here.pay())
        assert (await here.http("POST", path, BERT, yes))[1]["state"] == "granted"
        assert text(await here.pay()) == "sent 5 to bob"
        other = await here.ask(recipient="bob", amount=6)
        results = await asyncio.gather(
            here.http("POST", f"/v1/approvals/{other}", ANNA, yes), here.http("POST", f"/v1/approvals/{other}", BERT, {"answer": "deny"})
        )
        assert results[1][0] == 200  # one no denies, before or after the yes of somebody else
        assert "bert refused this call" in text(await here.pay(recipient="bob", amount=6))


async def test_what_nobody_could_approve_is_denied_at_once(tmp_path):
    async with office(tmp_path, APPROVERS + "[approvals]\nneeded = 3\n") as here:
        result = await here.pay()
        assert result.meta["dev.remit/decision"]["reasons"] == ["no_approver"]
        assert "3 persons who may approve it, and there are 2" in text(result)


async def test_details_are_kept_sealed_and_deleted_when_the_question_is_over(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask(recipient="Bobby Tables", amount=5)
        await asyncio.sleep(0)
        for file in tmp_path.rglob("remit.db*"):
            assert b"Bobby" not in file.read_bytes()
        assert await here.node.questions.details(approval) is not None
        await here.node.questions.sweep()
        assert await here.node.questions.details(approval) is not None
        await here.http("POST", f"/v1/approvals/{approval}", ANNA, {"answer": "deny"})
        assert await here.node.questions.sweep() == 1
        assert await here.node.questions.details(approval) is None


async def test_a_flood_of_questions_is_bounded(tmp_path):
    async with office(tmp_path, APPROVERS + "[limits]\nquestions_per_task = 5\n") as here:
        async with Client(here.running.url("bank"), mode="legacy") as agent:
            results = [await agent.call_tool("send_money", {"recipient": "bob", "amount": number}) for number in range(8)]
        reasons = [result.meta["dev.remit/decision"]["reasons"] for result in results]
        assert reasons == [["needs_approval"]] * 5 + [["too_many_questions"]] * 3
        assert len((await here.http("GET", "/v1/approvals", ANNA))[1]["approvals"]) == 5


# ---- by a link


async def test_a_link_opens_its_question_for_its_person_once(tmp_path):
    async with office(tmp_path) as here:
        approval = await here.ask(recipient="<script>alert(1)</script>", amount=5)
        link = here.link("anna", approval)
        async with here.client.get(here.base + link) as answer:
            page = await answer.text()
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
        assert "script" not in page
        assert "send_money" not in page, "a forwarded link shows nothing"
        status, page = await here.http("POST", link, data={"secret": BERT})
        assert (status, "send_money" in page) == (401, False)
        status, page = await here.http("POST", link, data={"secret": ANNA})
        assert status == 200
        assert "&lt;script&gt;alert(1)" in page
        assert "<script" not in page
        form = re.search(r'name="form" value="([^"]+)"', page)[1]
        assert (await here.http("POST", link, data={"form": form[:-2] + "xx", "answer": "approve"}))[0] == 403
        assert (await here.http("POST", link, data={"form": form}))[0] == 400
        assert (await here.http("POST", link, data={"form": link.rpartition("/")[2], "answer": "approve"}))[0] == 403
        status, page = await here.http("POST", link, data={"form": form, "answer": "deny", "reason": "no scripts"})
        assert (status, "Denied" in page) == (200, True)
        assert (await here.http("POST", link, data={"form": form, "answer": "approve"}))[0] == 403, "used twice"
        assert (await here.http("POST", link, data={"secret": ANNA}))[0] == 403
        assert "anna refused this call: no scripts" in text(await here.pay(recipient="<script>alert(1)</script>", amount=5))
        (answer,) = await here.answers()
        assert (answer.by, answer.via) == ("anna", "link")


async def test_a_link_names_nobody_and_stands_no_guessing(tmp_path):
    async with office(tmp_path) as here:
        link = here.link("anna", await here.ask())
        token = link.rpartition("/")[2]
        opened = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert b"anna" not in opened
        for wrong in ("x", token[:-4] + "AAAA", token + "A", "a" * 5_000, "%00", "é"):
            assert (await here.http("GET", f"/approve/{wrong}"))[0] == 403, wrong
        for _ in range(5):
            assert (await here.http("POST", link, data={"secret": "guess-guess-guess"}))[0] == 401
        assert (await here.http("POST", link, data={"secret": ANNA}))[0] == 403
        assert len((await here.http("GET", "/v1/approvals", ANNA))[1]["approvals"]) == 1, "other ways stay open"
        assert (await here.http("POST", link, data={str(number): "x" for number in range(100)}))[0] == 400
        assert (await here.http("POST", link, data={"secret": "x" * 100_000}))[0] == 413


async def test_a_link_expires_and_opens_no_other_question(tmp_path):
    async with office(tmp_path, APPROVERS + '[approvals]\nlink_ttl = "1s"\n') as here:
        link = here.link("anna", await here.ask())
        await asyncio.sleep(1.1)
        status, page = await here.http("GET", link)
        assert (status, "expired" in page) == (403, True)
        assert (await here.http("POST", link, data={"secret": ANNA}))[0] == 403


async def test_a_changed_call_is_another_question(tmp_path):
    async with office(tmp_path) as here:
        first = await here.ask()
        link = here.link("anna", first)
        page = (await here.http("POST", link, data={"secret": ANNA}))[1]
        form = re.search(r'name="form" value="([^"]+)"', page)[1]
        second = await here.ask(recipient="mallory", amount=5)
        assert (await here.http("POST", link, data={"form": form, "answer": "approve"}))[0] == 200
        assert (await here.pay(recipient="mallory", amount=5)).meta["dev.remit/decision"]["approval"] == second
        assert text(await here.pay()) == "sent 5 to bob"


# ---- told by a webhook


@contextlib.asynccontextmanager
async def receiver(answers: list[int]) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A real receiver on loopback, which answers with these statuses and then with 204."""
    got: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        status = answers[len(got) - 1] if len(got) <= len(answers) else 204
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/hook", got
    finally:
        await runner.cleanup()


def hooked(address: str) -> str:
    return APPROVERS.replace('secret = "${ANNA}"', f'secret = "${{ANNA}}"\nwebhook = "{address}"\nsigning_key = "${{SIGNING}}"')


async def test_a_webhook_is_signed_retried_and_leads_to_the_question(tmp_path):
    async with receiver([500, 302]) as (address, got), office(tmp_path, hooked(address)) as here:
        here.node.notices._first_wait_seconds = 0.05
        approval = await here.ask()
        await until(lambda: len(got) == 3)
        assert len({headers["webhook-id"] for headers, _ in got}) == 1, "a receiver can tell that it is the same"
        for headers, body in got:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
        message = json.loads(got[-1][1])
        assert (message["type"], message["data"]["approval"], message["data"]["approver"]) == ("approval.asked", approval, "anna")
        assert message["data"]["evidence"]["arguments"][1]["value"] == '"bob"'
        path = message["data"]["link"].removeprefix(here.node.configuration.settings.issuer)
        assert "bank" in (await here.http("POST", path, data={"secret": ANNA}))[1]
        await here.ask()  # the same question: nobody is told twice
        await here.node.notices.search()
        await asyncio.sleep(0.2)
        assert len(got) == 3


async def test_what_was_not_told_is_found_again_after_a_restart(tmp_path):
    async with receiver([503]) as (address, got), office(tmp_path, hooked(address)) as here:
        await here.ask()
        await until(lambda: len(got) == 1)
        await here.node.notices.close()  # the node stops while it waits to try again
        await here.node.notices.search()
        await until(lambda: len(got) == 2)
        assert got[0][0]["webhook-id"] == got[1][0]["webhook-id"]


async def test_an_answered_question_is_not_told_any_more(tmp_path):
    async with receiver([503] * 100) as (address, got), office(tmp_path, hooked(address)) as here:
        here.node.notices._first_wait_seconds = 0.05
        approval = await here.ask()
        await until(lambda: len(got) >= 2)
        await here.http("POST", f"/v1/approvals/{approval}", BERT, {"answer": "deny"})
        await until(lambda: not here.node.notices._telling)


# ---- at the agent's client, and waiting

CLIENT = "[approvals]\nfour_eyes = false\n"


def person(action: str, **content: Any) -> Any:
    asked: list[Any] = []

    async def elicit(_context: Any, params: Any) -> types.ElicitResult:
        asked.append(params)
        return types.ElicitResult(action=action, content=content or None)

    elicit.asked = asked
    return elicit


@pytest.mark.parametrize("mode", MODES)
async def test_the_person_at_the_client_is_asked_in_a_form(tmp_path, mode):
    async with office(tmp_path, APPROVERS + CLIENT + 'elicitation = "form"\n') as here:
        says_yes = person("accept", approve=True, reason="go on")
        assert text(await here.pay(mode, "echo", says_yes, text="hello")) == "hello"
        (asked,) = says_yes.asked
        assert 'text = "hello"' in asked.message
        (answer,) = await here.answers()
        assert (answer.by, answer.via, answer.reason) == ("alice", "form", "go on")
        refused = await here.pay(mode, "echo", person("accept", approve=False, reason="not this"), text="other")
        assert "alice refused this call: not this" in text(refused)
        assert "alice refused this call" in text(await here.pay(mode, "echo", person("decline"), text="third"))
        assert "Not yet" in text(await here.pay(mode, "echo", person("cancel"), text="fourth"))
        again = person("accept", approve=True)
        assert "Not yet" in text(await here.pay(mode, "echo", again, text="fourth"))
        assert again.asked == [], "each question is shown once"
        for bad in ({"approve": "yes"}, {}, {"approve": 1}):
            assert "Not yet" in text(await here.pay(mode, "echo", person("accept", **bad), text=json.dumps(bad)))


@pytest.mark.parametrize("mode", MODES)
async def test_what_cannot_be_undone_goes_by_a_link_that_passes_the_client_by(tmp_path, mode):
    async with office(tmp_path, APPROVERS + CLIENT + 'elicitation = "form"\nwait = "20s"\n') as here:

        async def opens(_context: Any, params: Any) -> types.ElicitResult:
            assert isinstance(params, types.ElicitRequestURLParams)
            path = params.url.removeprefix(here.node.configuration.settings.issuer)
            page = (await here.http("POST", path, data={"secret": ALICE}))[1]
            form = re.search(r'name="form" value="([^"]+)"', page)[1]
            asyncio.get_running_loop().call_later(
                0.3, lambda: answering.append(asyncio.ensure_future(here.http("POST", path, data={"form": form, "answer": "approve"})))
            )
            return types.ElicitResult(action="accept")

        answering: list[Any] = []
        assert text(await here.pay(mode, "send_money", opens, **PAY)) == "sent 5 to bob"
        (answer,) = await here.answers()
        assert (answer.by, answer.via) == ("alice", "link")


@pytest.mark.parametrize("mode", MODES)
async def test_to_accept_a_link_is_not_to_approve(tmp_path, mode):
    async with office(tmp_path, APPROVERS + CLIENT + 'elicitation = "url"\n') as here:
        takes_it = person("accept", approve=True)
        assert "Not yet" in text(await here.pay(mode, "send_money", takes_it, **PAY))
        assert len(takes_it.asked) == 1
        assert await here.answers() == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "more",
    ['elicitation = "form"\n', "four_eyes = false\n", 'four_eyes = false\nelicitation = "off"\n'],
    ids=["four-eyes", "default", "off"],
)
async def test_the_client_is_not_asked_where_that_is_not_configured(tmp_path, mode, more):
    async with office(tmp_path, APPROVERS + "[approvals]\n" + more) as here:
        says_yes = person("accept", approve=True)
        assert "Not yet" in text(await here.pay(mode, "echo", says_yes, text="hello"))
        assert says_yes.asked == []


async def test_an_agent_that_opened_its_own_task_does_not_answer_as_the_person_it_named(tmp_path):
    async with office(tmp_path, APPROVERS + CLIENT + 'elicitation = "form"\n') as here:
        agent = here.running.task.agent.text
        own = await here.node.dispatcher.open(agent="tester", task_type="all", inputs={}, on_behalf_of="alice", opened_by=agent)
        says_yes = person("accept", approve=True)
        url = f"{here.base}/run/{here.node.gateway.gate.open_endpoint(own.id)}/mcp/bank"
        async with Client(url, mode="legacy", elicitation_callback=says_yes) as client:
            assert "Not yet" in text(await client.call_tool("echo", {"text": "hello"}))
        assert says_yes.asked == []
        await here.node.end_task(own.id)


async def test_a_forged_or_foreign_round_answers_nothing(tmp_path):
    async with office(tmp_path, APPROVERS + CLIENT + 'elicitation = "form"\n') as here:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "echo",
        }

        async def post(said: str, **more: Any) -> Any:
            params = {"name": "echo", "arguments": {"text": said}, "_meta": meta, **more}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            async with here.client.post(here.running.url("bank"), json=message, headers=headers) as answer:
                return (await answer.json())["result"]

        yes = {"approve": {"action": "accept", "content": {"approve": True}}}
        first = await post("hello")
        state = first["requestState"]
        for wrong in ("approval-x", state[:-4] + "AAAA", "approval-"):
            assert (await post("hello", requestState=wrong, inputResponses=yes))["isError"]
        assert (await post("other", requestState=state, inputResponses=yes))["isError"], "another call"
        assert await here.answers() == []
        assert not (await post("hello", requestState=state, inputResponses=yes)).get("isError")
        assert (await post("hello", requestState=state, inputResponses=yes))["isError"], "used twice"


@pytest.mark.parametrize("mode", MODES)
async def test_the_gateway_waits_a_while_for_an_answer(tmp_path, mode):
    async with office(tmp_path, APPROVERS + '[approvals]\nwait = "30s"\n') as here:

        async def answers(granted: bool) -> None:
            async with asyncio.timeout(10):
                while not (rows := await here.node.approvals.pending()):
                    await asyncio.sleep(0.02)
            (row,) = rows
            body = {"answer": "approve" if granted else "deny", "reason": "because"}
            assert (await here.http("POST", f"/v1/approvals/{row.approval}", ANNA, body))[0] == 200

        result, _ = await asyncio.gather(here.pay(mode), answers(granted=True))
        assert text(result) == "sent 5 to bob"
        result, _ = await asyncio.gather(here.pay(mode, recipient="bob", amount=6), answers(granted=False))
        assert "anna refused this call: because" in text(result)


async def test_a_wait_ends_and_says_so(tmp_path):
    async with office(tmp_path, APPROVERS + '[approvals]\nwait = "1s"\nttl = "2s"\n') as here:
        assert "Not yet" in text(await here.pay())
        await asyncio.sleep(1.2)
        assert "expired unanswered" in text(await here.pay())


# ---- at a terminal


async def question(folder: Path) -> tuple[str, str]:
    """Pin, open a task for alice, have it ask; gives the question and the task."""
    configuration = load_configuration(folder)
    await pin_servers(configuration, configuration.servers, only_new=True)
    async with open_node(folder, deciding=True) as node:
        task = await node.dispatcher.open(agent="tester", task_type="all", inputs={}, on_behalf_of="alice", opened_by="dispatcher")
        bearer = Bearer(agent=task.agent, task=task.id, proof="test")
        refused = await node.mediation.authorize(bearer, make_call(Kind.TOOL, "bank", "send_money", PAY))
        assert isinstance(refused, Refused)
        return str(refused.approval_id), task.id


def terminal(folder: Path, *words: str, secret: str = "") -> Any:
    """One command as a person gives it."""
    environment = {"REMIT_APPROVER_SECRET": secret or None, "REMIT_TASK": None}
    return CliRunner(env=environment).invoke(main, [*words, "-C", str(folder)])


def write(folder: Path, more: str) -> None:
    (folder / "tasks").mkdir()
    (folder / "policies").mkdir()
    (folder / "tasks" / "all.toml").write_text('objective = "Pay"\ndata_ceiling = "public"\n[[grant]]\ntool = "bank/*"\n')
    (folder / "policies" / "main.cedar").write_text(POLICY)
    (folder / "remit.toml").write_text(f'[agents.tester]\ntasks = ["all"]\n{more}\n{BANK[0]}')


def test_at_a_terminal_one_proves_who_one_is(tmp_path):
    (tmp_path / "anna.secret").write_text(ANNA + "\n")
    (tmp_path / "anna.secret").chmod(0o600)
    write(tmp_path, APPROVERS.replace('secret = "${ANNA}"', 'secret_file = "anna.secret"'))
    approval, _ = asyncio.run(question(tmp_path))
    assert terminal(tmp_path, "approve", approval).exit_code == 1, "the operator is none of the approvers"
    assert terminal(tmp_path, "approve", approval, "--as", "anna", secret=BERT).exit_code == 1
    assert terminal(tmp_path, "approve", approval, "--as", "alice", secret=ALICE).exit_code == 1, "four eyes"
    assert terminal(tmp_path, "approve", approval, "--as", "anna", "--for", "soon", secret=ANNA).exit_code == 2
    shown = terminal(tmp_path, "approvals", "--as", "anna", secret=ANNA).output
    assert 'recipient = "bob"' in shown
    assert "/amount was seen nowhere in this task" in shown
    done = terminal(tmp_path, "approve", approval, "--as", "anna", "--calls", "3", "--for", "5m", "--any", "amount", secret=ANNA)
    assert "is granted: 3 calls until" in done.output
    assert terminal(tmp_path, "deny", approval, "--as", "bert", secret=BERT).exit_code == 2
    one = json.loads(terminal(tmp_path, "approvals", approval, "--as", "bert", "--json", secret=BERT).output)
    assert (one["state"], one["answers"][0]["by"], one["answers"][0]["via"]) == ("granted", "anna", "cli")


def test_an_account_of_the_machine_may_stand_for_an_approver(tmp_path):
    me = operator().removeprefix("local:")
    write(tmp_path, f'[approvers.kim]\naccounts = ["{me}"]\ntools = ["bank/*"]\n')
    approval, _ = asyncio.run(question(tmp_path))
    assert terminal(tmp_path, "deny", approval, "--reason", "no").exit_code == 0
    assert json.loads(terminal(tmp_path, "approvals", approval, "--json").output)["answers"][0]["by"] == "kim"


def test_who_would_be_asked_in_vain_is_told_before(tmp_path):
    write(tmp_path, APPROVERS.replace('tools = ["*"]', 'tools = ["bank/echo"]') + "[approvals]\nneeded = 3\n")
    asyncio.run(question_of_nobody(tmp_path))
    told = json.loads(terminal(tmp_path, "policy", "check", "--json").stdout)
    assert any("2 of 3 needed approvers cover bank/send_money" in line for line in told["unanswerable"])
    assert terminal(tmp_path, "doctor").exit_code == 1


async def question_of_nobody(folder: Path) -> None:
    configuration = load_configuration(folder)
    await pin_servers(configuration, configuration.servers, only_new=True)


# ---- what the configuration refuses


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[approvers.x]\nsecret = "${ANNA}"\n', "covers nothing"),
        ('[approvers.x]\nsecret = "${ANNA}"\ntools = []\n', "covers nothing"),
        ('[approvers.x]\nsecret = "in-the-clear-0123456789"\ntools = ["*"]\n', "does not stand in remit.toml"),
        ('[approvers.x]\ntools = ["*"]\n', "cannot prove who they are"),
        ('[approvers.x]\nsecret = "${SHORT}"\ntools = ["*"]\n', "shorter than"),
        ('[approvers.x]\nsecret = "${ANNA}"\ntools = ["bonk/*"]\n', "names no tool"),
        ('[approvers.x]\nsecret = "${ANNA}"\neffects = ["writes"]\n', "none of the effects"),
        (
            '[approvers.x]\nsecret = "${ANNA}"\ntools = ["*"]\nwebhook = "http://example.com/x"\nsigning_key = "${SIGNING}"\n',
            "no https address",
        ),
        ('[approvers.x]\nsecret = "${ANNA}"\ntools = ["*"]\nwebhook = "https://example.com/x"\n', "signed with a key"),
        ('[approvers.x]\nsecret = "${ANNA}"\ntools = ["*"]\n[approvers.y]\nsecret = "${ANNA}"\ntools = ["*"]\n', "same secret"),
        (
            '[approvers.x]\nsecret = "${ANNA}"\ntools = ["*"]\n[approvers.y]\naccounts = ["k"]\naliases = ["X"]\ntools = ["*"]\n',
            "are both x",
        ),
        ('[approvers.x]\nsecret_file = "none"\ntools = ["*"]\n', "cannot be read"),
        ('[approvers.x]\nsecret_file = "open"\ntools = ["*"]\n', "other accounts"),
        ('[[approvals.rules]]\ntools = ["*"]\n', "says nothing"),
        ("[[approvals.rules]]\nneeded = 2\n", "covers nothing"),
        ('[approvals]\nelicitation = "maybe"\n', "elicitation"),
        ('[approvals]\nwait = "1h"\n', "no duration"),
        ("[approvals]\nneeded = 0\n", "needed"),
    ],
)
def test_what_would_let_nobody_or_anybody_approve_is_a_mistake(tmp_path, monkeypatch, more, words):
    monkeypatch.setenv("SHORT", "short")
    (tmp_path / "open").write_text("0123456789abcdefghij")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "remit.toml").write_text(more + stdio("bank", "bank.py"))
    with pytest.raises(Mistake) as caught:
        load_configuration(tmp_path)
    assert words in str(caught.value)

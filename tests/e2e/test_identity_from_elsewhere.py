"""Agents that prove themselves with what they have: a CI job's token, another organisation's SVID, a certificate and no token at all.

Real parts: `oidc-provider` from npm as identity provider, a second remit as federated trust domain, TLS on loopback. Where real SPIRE
would stand (X.509-SVIDs of a foreign domain) its certificates are made by `tests/certificates.py`: SPIRE is in no registry we have.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.common import free_port
from remit.application import application
from remit.cli.server import serving
from remit.cli.tls import ServerTls, trusting
from remit.logic.records import decode
from remit.model.record import TaskOpened
from remit.model.token_record import TokenIssued, TokenRefused
from remit.model.trust import TrustRules
from remit.node import Node, open_node
from remit.services.pins import Pins
from remit.services.proofs import examine
from tests.certificates import Authority
from tests.e2e.inside import Inside
from tests.e2e.test_serve import http
from tests.oidc.provider import ec_key, provider, rsa_key

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## A CI job gets a task\n")[2].partition("\n## ")[0]
SERVER = '[servers.desk]\npython = ["desk"]\n'
TASK = 'objective = "x"\n[[grant]]\ntool = "desk/*"\n'
BILL = TASK + '[inputs.bill]\ntype = "string"\n'
ALL = '@id("all") permit (principal, action, resource);\n'
LOOPBACK = 'networks = ["127.0.0.1/32"]\n'


def section(begins: str) -> str:
    """An indented block of the README's section, by its first words."""
    blocks = [block for block in SECTION.split("\n\n") if block.startswith("    ")]
    found = "\n\n".join(blocks)
    return "\n".join(line.removeprefix("    ") for line in found[found.index(begins) :].splitlines())


def write(path: Path, toml: str, **tasks: str) -> Path:
    for name in ("tasks", "policies"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "remit.toml").write_text(toml + SERVER)
    (path / "policies" / "main.cedar").write_text(ALL)
    Pins(path).pin("desk", [{"name": "look", "inputSchema": {"type": "object"}}])
    for name, text in (tasks or {"work": TASK}).items():
        (path / "tasks" / f"{name.replace('_', '-')}.toml").write_text(text)
    return path


@pytest.fixture(scope="module")
def ci():
    with provider(rsa_key("first")) as running:
        yield running


@pytest.fixture
def serving_ci(ci, tmp_path):
    """The README's configuration, for an issuer on this machine."""
    port = free_port()
    toml = section("[trust.issuers.ci]").partition("\ncurl ")[0]
    toml = toml.replace("https://token.actions.githubusercontent.com", ci.issuer).replace(
        'audience = "remit"\n', f'audience = "remit"\n{LOOPBACK}'
    )
    folder = Inside(write(tmp_path, f"[server]\nport = {port}\n{toml}", pay_bill=BILL), port)
    serve = folder.start("serve")
    for _ in range(600):
        assert serve.poll() is None, serve.communicate()[1]
        with contextlib.suppress(OSError):
            if http(folder, "GET", "/readyz")[0] == 200:
                break
        time.sleep(0.05)
    yield folder
    for process in folder.started:
        process.kill()
        process.communicate()


def test_a_ci_job_s_token_becomes_a_task_as_the_readme_says(serving_ci, ci):
    lines = [line.partition("  #")[0].strip() for line in section("curl -s").splitlines()]
    scripts = serving_ci.path / "bin"
    scripts.mkdir()
    (scripts / "remit").write_text(f'#!/bin/sh\nexec {sys.executable} -m remit.cli.main "$@"\n')
    (scripts / "remit").chmod(0o755)
    environment = {**serving_ci.environment(), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    said = []
    assert len(lines) == 3
    for line in lines:
        (serving_ci.path / "ci.token").write_text(ci.id_token("repo:acme/web"))
        command = line.replace(":7411", f":{serving_ci.port}")
        done = subprocess.run(["bash", "-c", command], cwd=serving_ci.path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    opened = json.loads(said[0])
    assert (opened["agent"], opened["state"]) == ("spiffe://remit.local/ci/acme/web", "active")
    assert said[1].startswith("task   task_")
    bodies = [record["body"] for record in serving_ci.ledger()]
    issued = [body for body in bodies if body.get("use") == "task-token"]
    assert [(body["agent"], body["subject_proof"]) for body in issued] == [("spiffe://remit.local/ci/acme/web", "oidc:ci")] * 2
    assert "oidc:ci" in said[2]


def test_of_a_real_provider_only_the_right_token_opens_and_only_once(serving_ci, ci):
    body = {"type": "pay-bill", "inputs": {"bill": "b"}}
    good = ci.id_token("repo:acme/web")
    refused = [
        (ci.access_token(), "the token is of another kind"),
        (ci.id_token("repo:acme/other"), "spiffe://remit.local/ci/acme/other is not declared"),
        (ci.id_token("repo:evil/web"), "no mapping fits the token's claims"),
        (ci.id_token("repo:acme/../agent/x"), "claim repository is not of 2 segments"),
        (good[:-8] + "AAAAAAAA", "the token's signature does not hold"),
    ]
    answers = {http(serving_ci, "POST", "/v1/tasks", token, body)[::2] for token, _ in refused}
    assert len(answers) == 1  # outside all are alike
    assert next(iter(answers))[0] == 401
    assert http(serving_ci, "POST", "/v1/tasks", good, {"type": 7})[0] == 400  # what was not understood uses nothing up
    status, _, opened = http(serving_ci, "POST", "/v1/tasks", good, body)
    assert status == 201
    assert http(serving_ci, "POST", "/v1/tasks", good, body)[::2] == next(iter(answers))
    task = json.loads(opened)["task"]
    assert http(serving_ci, "GET", f"/v1/tasks/{task}", good)[0] == 200  # to look it may be shown again
    assert http(serving_ci, "POST", f"/v1/tasks/{task}/token", good)[0] == 401
    assert http(serving_ci, "POST", f"/v1/tasks/{task}/token", ci.id_token("repo:acme/web"))[0] == 200
    whys = [record["body"]["why"] for record in serving_ci.ledger() if record["kind"] == "token.refused"]
    assert whys == [*(why for _, why in refused), "the token was used before", "the token was used before"]


def test_the_command_line_takes_a_token_from_a_file_or_the_environment(serving_ci, ci, monkeypatch):
    token = serving_ci.path / "ci.token"
    words = ("task", "open", "pay-bill", "-i", "bill=b", "--json")
    assert "which agent gets the task?" in serving_ci.remit(*words).stderr
    token.write_text(ci.id_token("repo:acme/web") + "\n")
    wrong = serving_ci.remit(*words, "--token-file", str(token), "--agent", "somebody")
    assert (wrong.returncode, "is of agent builder" in wrong.stderr) == (1, True)
    again = serving_ci.remit(*words, "--token-file", str(token))
    assert (again.returncode, "does not hold" in again.stderr) == (1, True)
    monkeypatch.setenv("REMIT_IDENTITY_TOKEN", ci.id_token("repo:acme/web"))
    assert serving_ci.remit(*words).returncode == 0
    monkeypatch.delenv("REMIT_IDENTITY_TOKEN")
    for path, what in ((serving_ci.path / "absent", "No such file"), (Path(os.devnull), "there is no token in it")):
        told = serving_ci.remit(*words, "--token-file", str(path))
        assert (told.returncode, what in told.stderr) == (2, True), told.stderr
    look = [sys.executable, "-c", "import os; assert 'REMIT_IDENTITY_TOKEN' not in os.environ"]
    command = serving_ci.command("run", "pay-bill", "-i", "bill=b", "--", *look)
    environment = {**serving_ci.environment(), "REMIT_IDENTITY_TOKEN": ci.id_token("repo:acme/web")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    bodies = [record["body"] for record in serving_ci.ledger()]
    assert [body["subject_proof"] for body in bodies if body.get("use") == "task-token"] == ["oidc:ci"] * 2


def test_doctor_tells_whose_keys_can_be_had(serving_ci, tmp_path_factory):
    more = (
        '[trust.domains."partner.test"]\nbundle_file = "absent.json"\n[server]\ntls = { certificate = "absent.pem", key = "absent.key" }\n'
    )
    toml = (serving_ci.path / "remit.toml").read_text().partition("\n[trust")
    path = write(tmp_path_factory.mktemp("doctor"), more + toml[1] + toml[2].removesuffix(SERVER), pay_bill=BILL)
    told = Inside(path, 0).remit("doctor").stdout
    assert "✓ issuer ci: 1 keys" in told
    assert "✗ trust domain partner.test: bundle_file cannot be read: No such file or directory" in told
    assert "✗ tls: " in told


def test_an_issuer_that_changes_its_keys_goes_on_being_believed(tmp_path, ci):
    """Rotation at the real provider: first both keys are published, then the new one signs, then the old one is gone."""
    port, old, new = free_port(), rsa_key("old"), ec_key("new")
    toml = f"""
[trust.issuers.ci]
issuer = "http://127.0.0.1:{port}"
audience = "remit"
{LOOPBACK}
[[trust.issuers.ci.identity]]
required = {{ repository_owner = "acme" }}
spiffe_id = "spiffe://remit.local/ci/{{repository:2}}"
[agents.builder]
spiffe_id = "spiffe://remit.local/ci/acme/web"
"""

    async def check() -> None:
        async with open_node(write(tmp_path, toml)) as node:
            for keys in ((old,), (old, new), (new, old), (new,)):
                with provider(*keys, port=port) as running:
                    name, _ = await node.identities.verify_svid(await asyncio.to_thread(running.id_token, "repo:acme/web"))
                    assert name == "builder"
                    if keys[0] is old:
                        node.proofs._issuers[running.issuer]._keys._tried = float("-inf")  # as if half a minute had passed

    asyncio.run(check())


# --- federation -----------------------------------------------------------------------------------------------------------------


class Place:
    """A node that serves https on loopback with a certificate of an authority of its own."""

    def __init__(self, node: Node, port: int, web: Authority) -> None:
        self.node, self.port, self.web = node, port, web

    async def ask(self, method: str, path: str, token: str = "", body: Any = None, client: Any = None) -> tuple[int, Any]:
        context = ssl.create_default_context(cadata=self.web.der)
        if client is not None:
            context.load_cert_chain(*client)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"https://127.0.0.1:{self.port}{path}", json=body, headers=headers, ssl=context) as answer,
        ):
            told = await answer.text()
            return answer.status, json.loads(told) if told.startswith("{") else told

    async def bodies(self, kind: type) -> list[Any]:
        found = [decode(entry.body).body for entry in await self.node.store.entries(0, 1_000)]
        return [body for body in found if isinstance(body, kind)]


@contextlib.asynccontextmanager
async def https(folder: Path, toml: str, port: int):
    web = Authority("web.test")
    folder.mkdir(exist_ok=True)
    web.svid(hosts=("127.0.0.1",)).write(folder, "tls")
    (folder / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(web.der))
    write(folder, f'[server]\nport = {port}\ntls = {{ certificate = "tls.pem", key = "tls.key" }}\n{toml}')
    async with open_node(folder, deciding=True) as node:
        settings = node.configuration.settings
        assert settings.issuer == f"https://127.0.0.1:{port}"
        tls = ServerTls(*settings.tls)
        async with trusting(tls, node.identities.authorities), serving(application(node), "127.0.0.1", port, tls):
            yield Place(node, port, web)


def test_an_agent_of_a_federated_remit_opens_its_task_with_its_own_svid(tmp_path):
    ours, theirs = free_port(), free_port()
    toml = f"""
[trust.domains."partner.test"]
bundle_url = "https://127.0.0.1:{theirs}/spiffe/bundle"
ca_file = "../theirs/ca.pem"
{LOOPBACK}
[agents.guest]
spiffe_id = "spiffe://partner.test/agent/worker"
tasks = ["work"]
"""

    async def check() -> None:
        partner = https(tmp_path / "theirs", '[trust]\ndomain = "partner.test"\n[agents.worker]\n[agents.other]\n', theirs)
        async with partner as there, https(tmp_path / "ours", toml, ours) as here:
            at_us = here.node.configuration.settings.issuer
            svid = await there.node.identities.issue_svid("worker", audience=at_us, attested="test")
            status, task = await here.ask("POST", "/v1/tasks", svid, {"type": "work"})
            assert (status, task["agent"]) == (201, "spiffe://partner.test/agent/worker")
            for wrong in (
                await there.node.identities.issue_svid("worker", attested="test"),  # for themselves
                await there.node.identities.issue_svid("other", audience=at_us, attested="test"),
                here.node.signer.sign({"sub": "spiffe://partner.test/agent/worker", "aud": [at_us], "iat": 0, "exp": 2**31}, "JWT"),
            ):
                assert (await here.ask("POST", "/v1/tasks", wrong, {"type": "work"}))[0] == 401
            theirs_of_us = await here.node.identities.issue_svid(
                "guest", audience=there.node.configuration.settings.issuer, attested="test"
            )
            assert (await there.ask("POST", "/v1/tasks", theirs_of_us, {"type": "work"}))[0] == 401  # trust is not mutual by itself
            partner_rule = here.node.configuration.trust.domains["partner.test"]
            for ca_file, words in (
                (str(tmp_path / "ours" / "ca.pem"), "no TLS"),
                (str(tmp_path / "no.pem"), "No such file"),
                ("", "no TLS"),
            ):
                rule = replace(partner_rule, endpoint=replace(partner_rule.endpoint, ca_file=ca_file))
                (_, why, good) = (await examine(TrustRules(domains={"p": rule}), document_bytes_max=65_536, fetch_seconds_max=5))[0]
                assert (words in why, good) == (True, False), why
            assert [body.opened_by for body in await here.bodies(TaskOpened)] == ["spiffe://partner.test/agent/worker"]

    asyncio.run(check())


def test_an_agent_with_an_x509_svid_opens_its_task_without_any_token(tmp_path):
    partner, port = Authority("partner.test"), free_port()
    below, stranger = Authority("partner.test", by=partner), Authority("partner.test")
    x5c = base64.b64encode(partner.der).decode()
    (tmp_path / "bundle.json").write_text(json.dumps({"keys": [{"use": "x509-svid", "kty": "EC", "x5c": [x5c]}], "spiffe_sequence": 1}))
    toml = """
[trust.domains."partner.test"]
bundle_file = "../bundle.json"
[agents.guest]
spiffe_id = "spiffe://partner.test/agent/worker"
tasks = ["work"]
[access.callers.pep]
agent = "guest"
tasks = true
"""
    worker = below.svid("spiffe://partner.test/agent/worker").write(tmp_path, "worker")
    other = partner.svid("spiffe://partner.test/agent/other").write(tmp_path, "other")
    ours = partner.svid("spiffe://remit.local/agent/guest").write(tmp_path, "ours")
    forged = stranger.svid("spiffe://partner.test/agent/worker").write(tmp_path, "forged")

    async def check() -> None:
        async with https(tmp_path / "ours", toml, port) as here:
            status, task = await here.ask("POST", "/v1/tasks", "", {"type": "work"}, worker)
            assert (status, task["agent"]) == (201, "spiffe://partner.test/agent/worker")
            assert (await here.ask("GET", f"/v1/tasks/{task['task']}", client=worker))[0] == 200
            assert (await here.ask("POST", f"/v1/tasks/{task['task']}/token", client=worker))[0] == 200
            question = {"subject": {"type": "Agent", "id": "x"}, "action": {"name": "x"}, "resource": {"type": "Tool", "id": "x/y"}}
            asked = [await here.ask("POST", "/access/v1/evaluation", "", question, who) for who in (worker, other)]
            assert asked == [(403, "pep may ask about no application"), (401, "the proof of identity does not hold")]
            for wrong in (other, ours, None):
                assert (await here.ask("POST", "/v1/tasks", "", {"type": "work"}, wrong))[0] == 401
            assert (await here.ask("POST", "/v1/tasks", "nonsense", {"type": "work"}, worker))[
                0
            ] == 401  # the token counts, not what is left
            assert (await here.ask("POST", "/v1/tasks/current/authorize", "", {"tool": "x/y"}, worker))[
                0
            ] == 401  # a task's token is needed
            with pytest.raises(aiohttp.ClientError):
                await here.ask("POST", "/v1/tasks", "", {"type": "work"}, forged)
            issued = await here.bodies(TokenIssued)
            assert [(body.agent, body.subject_proof) for body in issued] == [("spiffe://partner.test/agent/worker", "x509-svid")] * 2
            whys = {body.claimed: body.why for body in await here.bodies(TokenRefused)}
            assert whys["spiffe://partner.test/agent/other"] == "spiffe://partner.test/agent/other is not declared"
            assert "does not lead to an authority" in whys["spiffe://remit.local/agent/guest"]
            assert (await here.ask("POST", f"/v1/tasks/{task['task']}/complete", client=worker))[0] == 200

    asyncio.run(check())

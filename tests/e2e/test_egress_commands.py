"""The commands know an egress's operations as they know tools, and ``remit run`` hands its agent the address."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.conftest import REMIT
from tests.e2e.inside import command
from tests.servers.crm import Crm, crm

pytestmark = pytest.mark.anyio
TOML = """
[agents.clerk]
tasks = ["look"]
[egress.crm]
url = "{url}"
headers.Authorization = "Bearer {{lease:key.password}}"
data_class = "internal"
trust = "trusted"
sends = "internal"
[egress.crm.operations.get_customer]
request = "GET /customers/{{id}}"
path.id.type = "integer"
[egress.crm.operations.pay]
request = "POST /payments"
body.properties = {{ to.type = "string", amount.type = "integer" }}
body.required = ["to", "amount"]
[tools."crm/get_customer"]
effect = "read"
[targets.key]
kind = "static"
secret = "${{CRM_KEY}}"
"""
TASK = """
objective = "Look at {id}"
data_ceiling = "internal"
deadline = "5m"
[inputs.id]
type = "integer"
[[grant]]
tool = "crm/get_customer"
arguments.properties.id.const = "{id}"
[[grant]]
tool = "crm/pay"
arguments.properties.body.properties.amount.maximum = 10
[[lease]]
target = "key"
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("small") permit (principal, action == Action::"crm/pay", resource) when { context.arguments.body.amount < 5 };
"""
SCENARIO = """
[[scenario]]
name = "reads its customer"
task = "look"
inputs = { id = 7 }
[scenario.call]
tool = "crm/get_customer"
arguments = { id = 7 }
expect = "allow"
[[scenario]]
name = "pays little"
task = "look"
inputs = { id = 7 }
[scenario.call]
tool = "crm/pay"
arguments = { body = { to = "bob", amount = 4 } }
expect = "allow"
policies = ["small"]
[[scenario]]
name = "and no more"
task = "look"
inputs = { id = 7 }
[scenario.call]
tool = "crm/pay"
arguments = { body = { to = "bob", amount = 11 } }
expect = "deny"
reasons = ["arguments_outside_grant"]
"""
AGENT = """
import json, os, urllib.error, urllib.request
base = os.environ["REMIT_EGRESS_URL_CRM"]
assert base == os.environ["REMIT_EGRESS_URL"]
assert "CRM_KEY" not in os.environ
print(json.load(urllib.request.urlopen(base + "/customers/7"))["email"])
try:
    urllib.request.urlopen(base + "/customers/8")
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["reasons"][0]["code"])
"""


@pytest.fixture
async def api() -> AsyncIterator[Crm]:
    async with crm() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, api: Crm, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRM_KEY", "k-0123456789abcdef")
    (tmp_path / "remit.toml").write_text(TOML.format(url=api.url))
    for part in ("tasks", "policies"):
        (tmp_path / part).mkdir()
    (tmp_path / "tasks" / "look.toml").write_text(TASK)
    (tmp_path / "policies" / "main.cedar").write_text(CEDAR)
    (tmp_path / "policies" / "main.test.toml").write_text(SCENARIO)
    (tmp_path / "agent.py").write_text(AGENT)
    return tmp_path


async def remit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, *words, "-C", str(folder))


async def test_the_commands_know_its_operations(folder: Path, api: Crm) -> None:
    checked = await remit(folder, "policy", "check", "--strict")
    assert checked.returncode == 0, checked.stderr
    assert "pinned" not in checked.stderr
    schema = await remit(folder, "policy", "check", "--schema")
    assert {"crm/get_customer", "crm/pay"} <= json.loads(schema.stdout)[""]["actions"].keys()
    tested = await remit(folder, "policy", "test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    doctor = await remit(folder, "doctor")
    assert "✓ egress crm: 2 operations; it answers" in doctor.stdout
    assert [sent.headers.get("authorization") for sent in api.seen] == [None]
    text = (folder / "remit.toml").read_text()
    (folder / "remit.toml").write_text(text.replace("headers.Authorization", 'headers.X-Fixed = "${CRM_KEY}"\nheaders.Authorization', 1))
    coverage = json.loads((await remit(folder, "report", "coverage", "--json")).stdout)["coverage"]
    assert [one["known"] for one in coverage["configured"] if one["kind"] == "server"] == [1]
    (outlives,) = [gap for gap in coverage["gaps"] if "CRM_KEY" in gap["what"]]
    assert (outlives["where"], outlives["what"].split()[:2]) == ("egress.crm", ["egress", "crm"])
    (folder / "remit.toml").write_text(text.replace(api.url, "https://localhost:1"))
    doctor = await remit(folder, "doctor")
    assert "✗ egress crm: crm cannot be reached" in doctor.stdout
    (folder / "remit.toml").write_text(text)
    (folder / "tasks" / "look.toml").write_text(TASK.replace("properties.id.const", "properties.ids.const"))
    wrong = await remit(folder, "policy", "check")
    assert wrong.returncode == 2
    assert "crm/get_customer takes no argument 'ids'" in wrong.stderr
    (folder / "tasks" / "look.toml").write_text(TASK.replace("crm/pay", "crm/pai"))
    wrong = await remit(folder, "policy", "check")
    assert "did you mean 'pay'" in wrong.stderr
    (folder / "tasks" / "look.toml").write_text(TASK.partition("[[lease]]")[0])
    wrong = await remit(folder, "policy", "check")
    assert "egress.crm.headers" in wrong.stderr
    assert "has no lease 'key'" in wrong.stderr


async def test_run_gives_the_agent_an_address_and_no_secret(folder: Path, api: Crm) -> None:
    words = [*REMIT, "run", "look", "-i", "id=7", "-C", str(folder), "--", sys.executable, str(folder / "agent.py")]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bob@corp.example", "403", "arguments_outside_grant"]
    assert "1 allowed, 0 asked, 1 denied" in done.stderr
    assert "k-0123456789abcdef" not in done.stdout + done.stderr
    assert [sent.headers["authorization"] for sent in api.seen] == ["Bearer k-0123456789abcdef"]
    records = json.loads((await remit(folder, "ledger", "tail", "--json")).stdout)
    (denied,) = [one["body"]["decision"] for one in records if one["body"].get("outcome") == "deny"]
    explained = await remit(folder, "policy", "explain", denied)
    assert "crm/get_customer" in explained.stdout
    mined = await remit(folder, "policy", "mine", "look")
    assert mined.returncode == 0, mined.stderr
    assert "crm/get_customer" in mined.stdout

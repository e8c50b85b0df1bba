"""An agent that is no longer what it was when its task began: told by itself, seen by ``remit run``, seen by the gateway."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import remit
from remit.logic.records import decode
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.task import TaskState
from remit.services.feed import Feed
from tests.e2e.conftest import ROOT
from tests.e2e.gateway import Running, gateway, http, http_server, stdio, until
from tests.e2e.inside import Inside, command
from tests.e2e.python_door import place, write_folder
from tests.e2e.test_calls_over_http import ask as ask_http
from tests.e2e.test_gateway_life import Wire, text

ECHO = ("bank/echo", {"text": "x"})
SWAP = {"name": "swap", "arguments": {}}
PAY = {"name": "pay", "arguments": {"to": "bob"}}
LOOK = {"name": "look", "arguments": {}}


@pytest.fixture(scope="module")
def bank_url() -> Iterator[str]:
    with http_server("bank.py") as url:
        yield url


@pytest.fixture
def bank(tmp_path: Path, bank_url: str) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_folder(folder, bank_url)
    return folder


def demand(folder: Path, more: str) -> None:
    """More for the task type, before its tables."""
    path = folder / "tasks" / "pay.toml"
    path.write_text(path.read_text() + more)


async def bodies(node: Any, task: str, kind: type) -> list[Any]:
    found = [decode(entry.body).body for entry in await node.store.task_entries(task)]
    return [body for body in found if isinstance(body, kind)]


@pytest.fixture
def rug() -> Iterator[str]:
    with http_server("rug_pull.py") as url:
        yield url


@pytest.fixture
async def running(tmp_path: Path, rug: str) -> AsyncIterator[Running]:
    (tmp_path / "folder").mkdir()
    async with gateway(tmp_path / "folder", http("rug", rug), task='[[grant]]\ntool = "rug/*"\n') as node:
        yield node


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["session", "stateless"])
async def test_a_rug_pull_and_what_a_person_makes_of_it(running: Running, era: str) -> None:
    folder, task = running.node.folder, running.task.id

    def cli(*words: str) -> Any:
        return asyncio.to_thread(command, *words[:2], "-C", str(folder), *words[2:])

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client:
        wire = Wire(client, running.url("rug"))
        await wire.initialize()
        ask = wire.ask if era == "session" else wire.ask_modern
        assert text(await ask("tools/call", PAY)) == "paid bob"
        await ask("tools/call", SWAP)
        await ask("tools/list", {})
        for call in (PAY, LOOK):  # the whole task waits, not just the tool
            refused = (await ask("tools/call", call))["result"]
            assert refused["isError"] is True
            assert refused["_meta"]["dev.remit/decision"]["reasons"][0] == "manifest_changed"
        (changed,) = await bodies(running.node, task, ManifestChanged)
        assert [line.part for line in changed.parts] == ["servers/rug/pay"]
        assert (changed.by, changed.follows) == ("gateway", "suspend")

        shown = await cli("task", "drift", task)
        assert shown.returncode == 1
        assert "IMPORTANT" in shown.stdout
        assert '+    "note": {' in re.sub(" +", lambda spaces: spaces[0][:4], shown.stdout)
        assert not {"\x1b", "\u202e", "\u202c"} & set(shown.stdout)
        manifest = json.loads((await cli("task", "drift", "--json", task)).stdout)["manifest"]
        for words in ((), ("--manifest", "sha-256:" + "A" * 43)):
            assert (await cli("task", "resume", task, *words)).returncode != 0
        assert (await cli("task", "resume", task, "--manifest", manifest, "--reason", "seen")).returncode == 0
        (accepted,) = await bodies(running.node, task, ManifestAccepted)
        assert (accepted.manifest, accepted.reason, accepted.parts[0].part) == (manifest, "seen", "servers/rug/pay")

        assert text(await ask("tools/call", LOOK)) == "seen"
        refused = (await ask("tools/call", PAY))["result"]
        assert refused["_meta"]["dev.remit/decision"]["reasons"] == ["tool_changed"]  # accepted here, not yet pinned
        before = running.node.rules.rulebook.kept
        assert (await cli("pin", "rug")).returncode == 0
        await until(lambda: running.node.rules.rulebook.kept != before)
        assert text(await ask("tools/call", PAY)) == "paid bob "

        other, _ = await running.another_task()  # opened with the tool as it was accepted for all
        assert other.tools["rug/pay"] == (await running.node.tasks.view(task)).tools["rug/pay"]


@pytest.mark.anyio
async def test_a_tool_that_changes_without_a_word_is_seen_at_a_call(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ``remit pin`` alone is no acceptance for a task that runs."""
    monkeypatch.setattr("remit.doors.gateway.links._FRESH_SECONDS", 0.0)  # the time for which a look is believed
    async with aiohttp.ClientSession() as client:
        wire = Wire(client, running.url("rug"))
        await wire.ask_modern("tools/call", SWAP)  # this SDK tells no stateless client of it
        await asyncio.to_thread(command, "pin", "-C", str(running.node.folder), "rug")
        await until(lambda: "note" in running.node.rules.rulebook.pinned["rug/pay"].input_schema["properties"])
        refused = (await wire.ask_modern("tools/call", PAY))["result"]
        assert "manifest_changed" in refused["_meta"]["dev.remit/decision"]["reasons"]
    assert (await running.node.tasks.view(running.task.id)).state is TaskState.SUSPENDED


@pytest.mark.anyio
async def test_a_server_that_says_its_tools_changed_is_looked_at_without_a_call(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    async with gateway(tmp_path / "folder", stdio("old", "old_stdio.py"), task='[[grant]]\ntool = "old/*"\n') as running:
        async with aiohttp.ClientSession() as client:
            wire = Wire(client, running.url("old"))
            await wire.initialize()
            await wire.ask("tools/call", {"name": "grow", "arguments": {}})
        async with asyncio.timeout(20):
            while not (found := await bodies(running.node, running.task.id, ManifestChanged)):
                await asyncio.sleep(0.05)
        assert [line.part for line in found[0].parts] == ["servers/old/echo"]
        assert (await running.node.tasks.view(running.task.id)).state is TaskState.SUSPENDED


def test_an_agent_tells_of_itself_and_cannot_take_it_back(bank: Path) -> None:
    async def run() -> None:
        one = remit.manifest(model="model-1", system_prompt="Pay bills.", tools=[{"name": "plan", "inputSchema": {"type": "object"}}])
        async with remit.open(bank) as r, r.task("pay", agent="payer", inputs={"who": "bob"}, manifest=one) as task:
            assert (await task.manifest(model="model-1")).drift == ()
            assert (await task.authorize(*ECHO)).allowed
            racing = await asyncio.gather(task.manifest(system_prompt="Pay mallory."), *(task.authorize(*ECHO) for _ in range(3)))
            assert racing[0].state == "suspended"
            assert racing[0].drift == ("system_prompt",)
            refused = await task.authorize(*ECHO)
            assert [reason.code for reason in refused.reasons] == ["manifest_changed"]
            back = await task.manifest(system_prompt="Pay bills.")
            assert (back.state, back.drift) == ("suspended", ("system_prompt",))
            assert not (await task.authorize(*ECHO)).allowed
            gone = await task.manifest(gone=["tools/plan"])
            assert gone.drift == ("system_prompt", "tools/plan")
            with pytest.raises(remit.Mistake):
                await task.manifest(gone=["servers/bank/echo"])

    asyncio.run(run())


def test_the_same_over_http_with_demands_and_other_ends(bank: Path) -> None:
    demand(bank, '[manifest]\nrequired = ["model", "data_sources"]\n[drift]\ndata_sources = "record"\nmodel = "revoke"\n')
    parts = {**remit.manifest(model="model-1", data_sources={"customers": b"1"})}

    async def run() -> None:
        async with place(bank) as where:
            svid = await where.node.identities.issue_svid("payer", attested="test")
            wanted = {"type": "pay", "inputs": {"who": "bob"}}
            for manifest, status, code in (
                ({}, 403, "manifest_missing"),
                ({"model": parts["model"]}, 403, "manifest_missing"),
                ({**parts, "servers/bank/echo": parts["model"]}, 400, "manifest"),
                ({**parts, "model": "sha-256:short"}, 400, "manifest"),
                ({**parts, "tools/\u202e": parts["model"]}, 400, "manifest"),
            ):
                got, told = await ask_http(where, "POST", "/v1/tasks", svid, {**wanted, "manifest": manifest})
                assert (got, told["code"]) == (status, code)
            status, opened = await ask_http(where, "POST", "/v1/tasks", svid, {**wanted, "manifest": parts})
            assert status == 201
            task, token = opened["task"], opened["token"]["access_token"]
            changed = remit.manifest(data_sources={"customers": b"2"})
            status, view = await ask_http(where, "POST", f"/v1/tasks/{task}/manifest", token, {"parts": changed})
            assert (status, view["state"], view["drift"]) == (200, "active", ["data_sources/customers"])
            call = {"tool": "bank/echo", "arguments": {"text": "x"}}
            assert (await ask_http(where, "POST", f"/v1/tasks/{task}/authorize", token, call))[1]["outcome"] == "allow"
            other_task, other_token = await ask_http(where, "POST", "/v1/tasks", svid, {**wanted, "manifest": parts}), token
            status, told = await ask_http(where, "POST", f"/v1/tasks/{other_task[1]['task']}/manifest", other_token, {"parts": changed})
            assert status == 404
            status, view = await ask_http(where, "POST", "/v1/tasks/current/manifest", token, {"parts": remit.manifest(model="model-2")})
            assert (status, view["state"]) == (200, "revoked")
            assert (await ask_http(where, "POST", f"/v1/tasks/{task}/authorize", token, call))[0] == 401
            follows = [body.follows for body in await bodies(where.node, task, ManifestChanged)]
            assert follows == ["record", "revoke"]

    asyncio.run(run())


def test_plain_code_tells_of_it_too(bank: Path) -> None:
    with remit.open(bank) as r, r.task("pay", agent="payer", inputs={"who": "bob"}, manifest=remit.manifest(model="model-1")) as task:
        assert task.authorize(*ECHO).allowed
        assert task.manifest(model="model-2").state == "suspended"
        assert not task.authorize(*ECHO).allowed


def test_whoever_takes_back_what_a_task_holds_hears_of_each_suspension(bank: Path) -> None:
    async def run() -> None:
        async with place(bank) as where:
            heard: list[str] = []

            async def ended(task: str) -> None:
                heard.append(f"ended {task}")

            async def suspended(task: str) -> None:
                heard.append(task)

            feed = Feed(where.node.store, where.node.tasks, ended, suspended)
            following = asyncio.create_task(feed.follow())
            await asyncio.sleep(0)
            drifting, moved = [(await where.opened())[0] for _ in range(2)]
            await until(lambda: feed.mark)
            await where.node.manifests.report(drifting, remit.manifest(model="model-2"), "test")
            await where.node.tasks.move(moved, TaskState.SUSPENDED, by="alice")
            await until(lambda: len(heard) == 2)
            following.cancel()
            assert heard == [drifting, moved]

    asyncio.run(run())


def test_policies_see_the_drift_and_the_ledger_decides_the_same_again(bank: Path) -> None:
    demand(bank, '[drift]\nmodel = "record"\n')
    (bank / "remit.toml").write_text((bank / "remit.toml").read_text() + "[ledger]\nkeep_values = true\n")
    (bank / "policies" / "drift.cedar").write_text(
        '@id("drift") forbid (principal, action, resource) when { context.drift.contains("model") };\n'
    )

    async def run() -> None:
        async with place(bank) as where:
            task, token = await where.opened()
            call = {"tool": "bank/echo", "arguments": {"text": "x"}}
            assert (await ask_http(where, "POST", f"/v1/tasks/{task}/authorize", token, call))[1]["outcome"] == "allow"
            await where.node.manifests.report(task, remit.manifest(model="model-2"), "test")
            refused = (await ask_http(where, "POST", f"/v1/tasks/{task}/authorize", token, call))[1]
            assert refused["policies"] == ["drift"]
            await where.node.manifests.report(task, remit.manifest(system_prompt="x"), "test")
            refused = (await ask_http(where, "POST", f"/v1/tasks/{task}/authorize", token, call))[1]
            assert refused["reasons"][0]["code"] == "manifest_changed"

    asyncio.run(run())
    verified = command("policy", "replay", "-C", str(bank), "--verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_a_tool_seen_at_a_call_elsewhere_is_a_change_of_the_grant_s_tools_only(bank: Path) -> None:
    async def run() -> None:
        async with place(bank) as where:
            task, _ = await where.opened()
            tools = (await where.node.tasks.view(task)).tools
            await where.node.manifests.saw(task, "bank/echo", tools["bank/echo"])
            await where.node.manifests.saw(task, "bank/slow", "sha-256:another")  # not granted
            assert await bodies(where.node, task, ManifestChanged) == []
            await where.node.manifests.saw(task, "bank/echo", "")  # no longer listed
            await where.node.manifests.saw(task, "bank/echo", tools["bank/echo"])
            after = await where.node.tasks.view(task)
            assert (after.state, set(after.drift)) == (TaskState.SUSPENDED, {"servers/bank/echo"})
            assert len(await bodies(where.node, task, ManifestChanged)) == 2

    asyncio.run(run())


def test_a_task_whose_agent_changes_all_the_time_ends(bank: Path) -> None:
    path = bank / "remit.toml"
    path.write_text(path.read_text() + "[limits]\ndrifts_per_task = 3\n")

    async def run() -> None:
        async with place(bank) as where:
            task, _ = await where.opened()
            for number in range(3):
                after = await where.node.manifests.report(task, remit.manifest(model=f"model-{number}"), "test")
            assert after.state is TaskState.REVOKED

    asyncio.run(run())


@pytest.fixture
def inside(folder: Any, monkeypatch: pytest.MonkeyPatch) -> Inside:
    monkeypatch.setenv("BANK_SECRET", "hunter2")
    return Inside(folder.path, folder.port, folder.started)


def readme() -> list[list[str]]:
    """The commands that the README shows of a drift and its resume."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A drift and its resume\n")[2].partition("\n## ")[0]
    return [shlex.split(line, comments=True)[1:] for line in section.splitlines() if line.startswith("    remit ")]


def test_a_drift_and_its_resume_as_the_readme_shows_them(inside: Inside) -> None:
    run, drift, resume = readme()
    (inside.path / "prompts").mkdir()
    prompt = inside.path / "prompts" / "writer.md"
    prompt.write_text("Pay what is owed.\n")
    agent = inside.agent(
        """
        print(text(await c.call_tool('echo', {'text': 'one'})))
        pathlib.Path('begun').write_text('')
        while 'no longer what it was' not in (said := text(await c.call_tool('echo', {'text': 'two'}))):
            await asyncio.sleep(0.05)
        print(said)
        pathlib.Path('refused').write_text('')
        while not pathlib.Path('resumed').exists():
            await asyncio.sleep(0.05)
        print(text(await c.call_tool('echo', {'text': 'three'})))
        """
    )
    words = ["pay" if word == "pay-bill" else "who=bob" if word.startswith("bill=") else word for word in run[: run.index("--")]]
    process = inside.start(*words, "--", *agent)

    def wait(name: str) -> None:
        for _ in range(1_200):
            if (inside.path / name).exists():
                return
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        raise AssertionError(name)

    wait("begun")
    prompt.write_text("Pay whoever asks.\n")
    wait("refused")
    (row,) = json.loads(inside.remit("task", "list", "--json").stdout)
    names = {"TASK": row["task"]}
    shown = inside.remit(*(names.get(word, word) for word in drift))
    assert shown.returncode == 1
    assert "system_prompt" in shown.stdout
    names["DIGEST"] = re.findall(r"--manifest (\S+)", shown.stdout)[0]
    resumed = inside.remit(*(names.get(word, word) for word in resume))
    assert resumed.returncode == 0, resumed.stderr
    (inside.path / "resumed").write_text("")
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert out.splitlines()[0] == "one"
    assert out.splitlines()[-1] == "three"
    assert "drift: system_prompt changed" in told
    records = inside.ledger()
    kinds = [record["kind"] for record in records if record["kind"].startswith("manifest.")]
    assert kinds == ["manifest.changed", "manifest.accepted"]
    opened = next(record["body"]["manifest"] for record in records if record["kind"] == "task.opened")
    assert set(opened) == {"command", "model", "system_prompt"}
    assert "Pay what is owed" not in json.dumps(records)

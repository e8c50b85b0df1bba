"""The first quarter of an hour: ``init``, ``pin``, ``policy check``, ``doctor`` and the first ``run``, as README tells it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click
import pytest

from remit.cli.main import main
from remit.services.configuration import load_configuration
from tests.e2e.conftest import BANK, REMIT, ROOT
from tests.e2e.inside import Inside, command

SECRETS = [f"s3cret{number}" for number in range(12)]
MCP_JSON = {
    "mcpServers": {
        "Bank": {
            "command": sys.executable,
            "args": [str(BANK), "--stdio"],
            "env": {"BANK_LOG": "{log}", "BANK_SECRET": SECRETS[0], "PATH": SECRETS[1], "KEPT": "${ALREADY}"},
        },
        "notes": {
            "command": "npx",
            "args": ["-y", f"--api-key={SECRETS[2]}", "--token", SECRETS[3], "postgresql://me:" + SECRETS[4] + "@db/x"],
        },
        "web": {
            "type": "http",
            "url": f"https://mcp.example/x?key={SECRETS[5]}",
            "headers": {"Authorization": f"Bearer {SECRETS[6]}", "X-Kept": "Bearer ${ALREADY}"},
        },
        "path": {"url": f"https://mcp.example/s/{SECRETS[7]}{'Ab1' * 8}/mcp"},
        "plain": {"url": "https://mcp.example/mcp"},
    }
}
SAMPLE = "tasks/example.toml.sample"
WRITTEN = ["remit.toml", "policies/main.cedar", SAMPLE, ".gitignore"]


@pytest.fixture
def new(tmp_path: Path) -> Inside:
    return Inside(tmp_path, 0)


def texts(folder: Inside) -> str:
    return "".join(path.read_text() for path in sorted(folder.path.rglob("*")) if path.is_file() and path.name != ".mcp.json")


def test_init_in_an_empty_folder_gives_one_that_checks_and_is_well(new):
    done = new.remit("init")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("wrote")] == WRITTEN
    assert "next:" in done.stdout
    assert "state/" in (new.path / ".gitignore").read_text().splitlines()
    checked = new.remit("policy", "check")
    assert (checked.returncode, checked.stdout) == (0, "good: 4 policies, 0 task types, 0 pinned tools\n")
    assert not (new.path / "state").exists(), "a check starts nothing"
    assert "no server is configured" in new.remit("pin").stdout
    doctor = new.remit("doctor", "--json")
    assert doctor.returncode == 0
    assert {entry["what"]: entry["state"] for entry in json.loads(doctor.stdout)} == {
        "configuration": "good",
        "keys": "warning",  # in clear, beside the store
        "store": "good",
    }
    assert json.loads(new.remit("task", "list", "--json").stdout) == []
    assert json.loads(new.remit("approvals", "--json").stdout) == []
    assert json.loads(new.remit("agent", "list", "--json").stdout)[0]["name"] == "assistant"


def test_init_again_loses_nothing(new):
    assert new.remit("init").returncode == 0
    for name in WRITTEN:
        (new.path / name).write_text(f"# mine: {name}\n")
    before = texts(new)
    again = json.loads(new.remit("init", "--json").stdout)
    assert (again["written"], again["kept"]) == ([], WRITTEN)
    assert texts(new) == before
    assert any("does not name state/" in notice for notice in again["notices"])
    (new.path / ".mcp.json").write_text(json.dumps(MCP_JSON))
    third = json.loads(new.remit("init", "--json").stdout)
    assert texts(new) == before
    assert any("no server was taken" in notice for notice in third["notices"])
    assert not any("export" in notice for notice in third["notices"]), "it asks for nothing that was not written"
    (new.path / "remit.toml").unlink()
    (new.path / "remit.toml").symlink_to(new.path / "elsewhere.toml")
    assert new.remit("init").returncode == 0
    assert not (new.path / "elsewhere.toml").exists(), "nothing is written through a link"


def test_init_takes_over_servers_and_copies_no_secret(new, monkeypatch):
    (new.path / ".mcp.json").write_text(json.dumps(MCP_JSON))
    done = new.remit("init")
    assert done.returncode == 0
    for secret in SECRETS:
        assert secret not in texts(new) + done.stdout + done.stderr
    wanted = re.findall(r"export (\w+)=", done.stdout)
    assert "BANK_PATH" in wanted, "remit's own PATH is not the server's"
    assert len(wanted) == len(set(wanted)) == 9
    checked = new.remit("policy", "check")
    assert checked.returncode == 2
    for name in (*wanted, "ALREADY"):
        assert f"the environment has no {name}" in checked.stderr
        monkeypatch.setenv(name, f"https://mcp.example/{name}" if name.endswith("_URL") else f"value-of-{name}")
    servers = load_configuration(new.path).servers
    assert sorted(servers) == ["bank", "notes", "path", "plain", "web"]
    assert servers["bank"].environment["KEPT"] == "value-of-ALREADY"
    assert servers["notes"].command == (
        *("npx", "-y", "--api-key=value-of-NOTES_API_KEY", "--token"),
        *("value-of-NOTES_TOKEN", f"value-of-{next(name for name in wanted if 'ARG' in name)}"),
    )
    assert servers["web"].headers == {"Authorization": "value-of-WEB_AUTHORIZATION", "X-Kept": "Bearer value-of-ALREADY"}
    assert servers["plain"].url == "https://mcp.example/mcp"
    assert "value-of" not in repr([servers["bank"], servers["web"]]), "what comes from the environment is not shown"


@pytest.mark.parametrize(
    ("entries", "names", "said"),
    [
        ({"My Git": {"command": "x"}, "my-git": {"command": "y"}}, ["my-git", "my-git-2"], "is called 'my-git-2' here"),
        (
            {"resources": {"command": "x"}, "_": {"command": "x"}, "é" * 100: {"command": "x"}},
            ["resources-2", "server", "server-2"],
            "here",
        ),
        ({"a" * 100: {"command": "x"}}, ["a" * 61], "here"),
        ({"a": {"command": "x", "args": 5}}, [], "left out: its args"),
        ({"a": {"command": "x", "args": "one two"}}, [], "left out: its args"),
        ({"a": {"command": ["x"]}}, [], "left out: its command"),
        ({"a": {"url": ""}, "b": {}, "c": "x", "d": None}, [], "left out: it has neither command nor url"),
        ({"a": {"type": "sse", "url": "http://x/sse"}}, [], "Streamable HTTP"),
        ({"a": {"command": "x", "disabled": True}}, [], "it is disabled"),
        ({"a": {"command": 'q"\\\n\u007f\U0001f600', "cwd": "/tmp", "args": ["${HOME}"]}}, ["a"], ""),
        ({"a": {"command": "x", "env": {"1": "one", "k": 5}}, "b": {"command": "x", "env": {"K": "other"}}}, ["a", "b"], "export B_K="),
        ({}, [], ""),
    ],
)
def test_init_from_any_client_s_file_writes_what_can_be_read(new, monkeypatch, entries, names, said):
    for key in ("mcpServers", "servers"):
        (new.path / "remit.toml").unlink(missing_ok=True)
        (new.path / "client.json").write_text(json.dumps({key: entries}))
        done = new.remit("init", "--from", str(new.path / "client.json"))
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        for name in re.findall(r"export (\w+)=", done.stdout):
            monkeypatch.setenv(name, "x")
        assert sorted(load_configuration(new.path).servers) == sorted(names)


@pytest.mark.parametrize("text", ["[]", "{", '{"mcpServers": []}', '{"other": {}}', '{"mcpServers": {"a": 1, "a": 2}}', "\xff"])
def test_a_client_s_file_that_is_none_is_refused_and_nothing_written(new, text):
    (new.path / ".mcp.json").write_text(text, encoding="latin-1")
    done = new.remit("init")
    assert done.returncode == 2
    assert ".mcp.json: not an MCP client's configuration" in done.stderr
    assert "mcpServers" in done.stderr
    assert [path.name for path in new.path.iterdir()] == [".mcp.json"]
    assert new.remit("init", "--from", "none.json").returncode == 2


def test_init_where_it_cannot_write_says_so(new):
    (new.path / "policies").write_text("")
    done = new.remit("init")
    assert done.returncode == 2
    assert "policies" in done.stderr


def test_from_an_mcp_json_to_the_first_run(new, monkeypatch):
    """What README and init's own last line tell a newcomer to do, with the mistakes that one makes on the way."""
    agent_says = "print(text(await c.call_tool('echo', {'text': 'a.txt'})))\nprint(text(await c.call_tool('echo', {'text': 'b.txt'})))"
    bank = MCP_JSON["mcpServers"]["Bank"]
    (new.path / ".mcp.json").write_text(json.dumps({"mcpServers": {"bank": {**bank, "env": {"BANK_LOG": "x"}}}}))
    assert "export BANK_LOG=" in new.remit("init").stdout
    assert "the environment has no BANK_LOG" in new.remit("pin").stderr
    monkeypatch.setenv("BANK_LOG", str(new.log))
    assert "bank is not pinned yet" in new.remit("policy", "check").stderr
    pinned = json.loads(new.remit("pin", "--json").stdout)
    assert (pinned[0]["server"], pinned[0]["added"]) == ("bank", ["ask", "echo", "fail", "send_money", "slow"])

    run = new.command("run", "example", "-i", "document=a.txt", "--", *new.agent(agent_says))[len(REMIT) :]
    done = command(*run)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no task type 'example'" in done.stderr
    (new.path / SAMPLE).rename(new.path / "tasks" / "example.toml")
    checked = new.remit("policy", "check")
    assert checked.returncode == 2
    assert "tasks/example.toml:11: grant.0.tool: tool = 'files/read_file'\n  → allowed: bank" in checked.stderr
    task = (new.path / "tasks" / "example.toml").read_text().replace("files/read_file", "bank/echo")
    (new.path / "tasks" / "example.toml").write_text(task)
    assert "bank/echo takes no argument 'path'\n  → it takes: text" in new.remit("policy", "check").stderr
    (new.path / "tasks" / "example.toml").write_text(task.replace("properties.path", "properties.text"))
    assert "1 task types, 5 pinned tools" in new.remit("policy", "check").stdout
    done = command(*run)
    assert done.returncode == 1
    assert "no agent may be given 'example'\n  → list it in [agents.NAME] tasks of remit.toml" in done.stderr
    toml = (new.path / "remit.toml").read_text().replace("tasks = []", 'tasks = ["example"]')
    stated = '\n[tools."bank/echo"]\neffect = "read"\ndata_class = "internal"\ntrust = "trusted"\nsends = "nowhere"\n'
    (new.path / "remit.toml").write_text(toml + stated)
    doctor = new.remit("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "✓ server bank: 5 tools, as pinned" in doctor.stdout

    done = new.remit("run", "example", "-i", "document=a.txt", "--", *new.agent(agent_says))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "a.txt"
    assert done.stdout.splitlines()[1].startswith("E Refused: /text")
    assert new.reached() == ["echo a.txt"]
    assert "1 allowed, 0 asked, 1 denied" in done.stderr
    assert "Summarise a.txt" in done.stderr
    task_id = re.search(r"task_[0-9a-f]+", done.stderr)[0]
    assert json.loads(new.remit("task", "show", task_id, "--json").stdout)["allowed"] == 1
    assert new.remit("task", "show", task_id).stdout.count("── receipt ──") == 1
    assert [record["body"]["outcome"] for record in new.ledger() if record["kind"] == "call.decided"] == ["allow", "deny"]


def test_doctor_names_what_is_not_well(new):
    new.remit("init")
    with (new.path / "remit.toml").open("a") as file:
        file.write('[servers.gone]\ncommand = "no-such-program"\n[servers.web]\nurl = "http://127.0.0.1:1/mcp"\n')
    (new.path / "state" / "keys").mkdir(parents=True)
    (new.path / "state" / "keys" / "tokens.key").write_text("junk")
    (new.path / "state" / "remit.db").mkdir()
    done = new.remit("doctor")
    assert done.returncode == 1
    for finding in (
        "✓ configuration",
        "✗ keys",
        "✗ store",
        "remit.db is not a file",
        "no program 'no-such-program' in PATH",
        "✗ server web: web cannot be reached",
    ):
        assert finding in done.stdout
    (new.path / "remit.toml").write_text("x")
    told = new.remit("doctor").stdout
    assert "✗ configuration: remit.toml:1" in told
    assert "\\n" not in told, "an error of several lines is shown on several"
    done = new.remit("doctor", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["state"] == "bad"


def leaves(group: click.Group, *before: str) -> list[tuple[str, ...]]:
    context, found = click.Context(group), []
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        found += leaves(one, *before, name) if isinstance(one, click.Group) else [(*before, name)]
    return found


@pytest.mark.parametrize("words", leaves(main), ids=" ".join)
def test_every_command_s_help_tells_what_it_does_and_its_exit_codes(words):
    told = command(*words, "--help")
    assert told.returncode == 0
    lines = [line.strip() for line in told.stdout.splitlines() if line.strip()]
    assert lines[0].startswith("Usage:")
    assert len(lines[1]) > 12
    assert lines[1][0].isupper()
    assert "Exit codes:" in told.stdout
    assert "2 wrong usage or configuration" in " ".join(lines)
    one = main
    for word in words:
        one = one.get_command(click.Context(one), word)
    assert [option.name for option in one.params if isinstance(option, click.Option) and not option.help] == []
    assert command(*words, "--no-such-option").returncode == 2


def test_every_command_line_of_readme_is_one():
    known = {" ".join(words) for words in leaves(main)}
    groups = {words.partition(" ")[0] for words in known if " " in words}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:^    |`|\$\()remit ([a-z]+(?: [a-z-]+)?)", readme, re.MULTILINE)
    assert len(named) > 12
    for words in named:
        first, _, second = words.partition(" ")
        assert (first in groups and f"{first} {second}" in known) or first in known, words
    for group in sorted(groups):
        row = next(line for line in readme.splitlines() if line.startswith(f"| `remit {group} "))
        for words in (words for words in known if words.startswith(f"{group} ")):
            assert re.search(rf"\b{words.partition(' ')[2]}\b", row) or f"remit {words}" in readme, words

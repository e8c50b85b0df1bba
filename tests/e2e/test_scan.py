"""`remit scan` as somebody runs it on a machine that has been lived in: what it finds, what it never prints, and what it survives."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.services.configuration import load_configuration
from remit.services.scan import scan
from remit.services.scan_writing import write_found
from tests.e2e.inside import command
from tests.unit.test_secret_values import DRAWN, token

GITHUB = "ghp_" + "aB3d" * 9
MODEL = "sk-proj-" + "Zz9y" * 8
JWT = token(iat=1_700_000_000, exp=1_800_000_000)
SECRETS = (GITHUB, MODEL, JWT, "hunter2", DRAWN, "Xk3J9x2LmQ8pZr5TvW1yB")
CLAUDE = {
    "mcpServers": {
        "github": {"command": "npx", "args": ["-y", "server-github"], "env": {"GITHUB_TOKEN": GITHUB}},
        "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/"]},
        "db": {"command": "db-mcp", "env": {"DATABASE_URL": "postgresql://postgres:hunter2@db.internal:5432/orders", "MODE": "ro"}},
        "remote": {"command": "npx", "args": ["mcp-remote", "https://x/sse", "--header", f"Authorization: Bearer {DRAWN}"]},
        "cache": {"command": "cache-mcp", "env": {"REDIS_URL": "redis://app:hunter2@cache:6379/0"}},
        "web": {"url": "https://mcp.example/mcp", "headers": {"Authorization": f"Bearer {JWT}"}},
        "safe": {"command": "npx", "args": ["-y", "x"], "env": {"TOKEN": "${TOKEN}"}},
    }
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder with the clients' files of three systems in it, and a project."""
    home = tmp_path / "home"
    files = {
        ".config/Claude/claude_desktop_config.json": json.dumps(CLAUDE),
        ".claude/settings.json": '{"permissions": {"allow": ["Bash(*)"]}}',
        "Library/Application Support/Code/User/mcp.json": '{ // mine\n"servers": {"a": {"command": "x", "env": {"API_KEY": "'
        + DRAWN
        + '"}}},}',
        "AppData/Roaming/Claude/claude_desktop_config.json": '{"mcpServers": {}}',
        ".codex/config.toml": 'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n[mcp_servers.x]\ncommand = "y"\n',
        "project/.env": f"export OPENAI_API_KEY='{MODEL}'  # mine\nDB_PASSWORD=hunter2\nTOKEN=\nKEY=${{KEY}}\nAPI_KEY=your-key-here\n",
        "project/.env.example": "OPENAI_API_KEY=sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
        "project/node_modules/x/.env": f"TOKEN={GITHUB}\n",
        "project/deep/mcp.json": "{",
    }
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.utime(home / "project/.env", (1_700_000_000, 1_700_000_000))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(home / "project")
    return home


def test_what_stands_is_found_and_no_secret_is_printed(home):
    done = command("scan", "--json")
    assert done.returncode == 1
    plain = command("scan")
    assert plain.returncode == 1
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr + plain.stdout + plain.stderr
        assert secret[-8:] not in done.stdout + plain.stdout
    told = json.loads(done.stdout)
    found = {(Path(one["file"]).name, one["where"], one["kind"]) for one in told["findings"]}
    claude = "claude_desktop_config.json"
    assert found == {
        (claude, "/mcpServers/github/env/GITHUB_TOKEN", "GitHub Token"),
        (claude, "/mcpServers/files", "filesystem-root"),
        (claude, "/mcpServers/db/env/DATABASE_URL", "password in an address"),
        (claude, "/mcpServers/db", "database-superuser"),
        (claude, "/mcpServers/remote/args/3", "high-entropy value"),
        (claude, "/mcpServers/cache/env/REDIS_URL", "password in an address"),
        (claude, "/mcpServers/web/headers/Authorization", "JSON Web Token"),
        ("settings.json", "/permissions/allow/0", "auto-approve"),
        ("mcp.json", "/servers/a/env/API_KEY", "high-entropy value"),
        ("config.toml", "/sandbox_mode", "auto-approve"),
        (".env", "line 1", "OpenAI API key"),
    }
    by_place = {one["where"]: one for one in told["findings"]}
    assert by_place["line 1"]["days_at_least"] > 700
    assert by_place["/mcpServers/web/headers/Authorization"]["issued_at"].startswith("2023-11-14T22:13:20")
    assert by_place["/mcpServers/web/headers/Authorization"]["expires_at"].startswith("2027-01-15")
    assert '"postgresql"' in by_place["/mcpServers/db/env/DATABASE_URL"]["instead"]
    assert '"github"' in by_place["/mcpServers/github/env/GITHUB_TOKEN"]["instead"]
    assert "in this file for at least" in plain.stdout
    assert "5 over-broad" not in plain.stdout
    assert any("not read as JSON" in one["why"] and one["file"].endswith("deep/mcp.json") for one in told["unread"])
    again = {one["where"]: one["fingerprint"] for one in json.loads(command("scan", "--json").stdout)["findings"]}
    assert again["line 1"] not in {"", by_place["line 1"]["fingerprint"]}, "a fingerprint is of one run"


def test_settings_that_are_kept_elsewhere_are_found_by_their_link(home):
    (home / "dotfiles").mkdir()
    (home / "dotfiles/cursor").write_text(json.dumps({"mcpServers": {"x": {"command": "x", "env": {"A_TOKEN": GITHUB}}}}))
    (home / ".cursor").mkdir()
    (home / ".cursor/mcp.json").symlink_to(home / "dotfiles/cursor")
    places = [one["where"] for one in json.loads(command("scan", "--json").stdout)["findings"] if one["file"].endswith(".cursor/mcp.json")]
    assert places == ["/mcpServers/x/env/A_TOKEN"]


def test_a_permission_that_names_a_secret_is_masked(tmp_path):
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/settings.json").write_text(json.dumps({"permissions": {"allow": [f"mcp__{GITHUB}", GITHUB + "(*)"]}}))
    assert GITHUB not in command("scan", str(tmp_path)).stdout + command("scan", str(tmp_path), "--json").stdout


def test_the_same_secret_in_two_places_has_one_fingerprint(tmp_path):
    for name in ("a.env", "b.env"):
        (tmp_path / name).write_text(f"TOKEN={GITHUB}\n")
    (tmp_path / "c.env").write_text(f"TOKEN={GITHUB[:-1]}X\n")
    told = json.loads(command("scan", str(tmp_path), "--json").stdout)["findings"]
    assert [told[0]["fingerprint"], told[1]["fingerprint"]] == [told[0]["fingerprint"]] * 2
    assert told[2]["fingerprint"] != told[0]["fingerprint"]


def test_nothing_found_is_zero_and_a_path_that_is_not_there_is_said(tmp_path):
    (tmp_path / ".env").write_text("TOKEN=${TOKEN}\n")
    done = command("scan", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "nothing that stands was found: 1 files with 0 MCP servers were looked into\n")
    done = command("scan", str(tmp_path / "gone"))
    assert done.returncode == 0
    assert "not read" in done.stdout
    assert "no such file" in done.stdout


def test_links_devices_huge_broken_and_hostile_files_are_survived_and_told(tmp_path):
    (tmp_path / "real").write_text(f"TOKEN={GITHUB}\n")
    (tmp_path / ".env").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe.env")
    (tmp_path / "zero.env").symlink_to("/dev/zero")
    with (tmp_path / "huge.env").open("wb") as file:
        file.truncate(100_000_000)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "mcp.json").write_text("[" * 200_000)
    (tmp_path / ".mcp.json").write_text('{"mcpServers": ' + '{"a":' * 100 + f'"{GITHUB}"' + "}" * 101)
    (tmp_path / "bytes.env").write_bytes(b"\xff\xfe\x00" + os.urandom(5_000))
    (tmp_path / "\x1b[31m.env").write_text("K=v\n")
    deep = tmp_path
    for _ in range(20):
        deep /= "d"
        deep.mkdir()
    (deep / ".env").write_text(f"TOKEN={GITHUB}\n")
    done = command("scan", str(tmp_path), "--json")
    told = json.loads(done.stdout)
    why: dict[str, str] = {}
    for one in told["unread"]:
        why[Path(one["file"]).name] = f"{why.get(Path(one['file']).name, '')} {one['why']}".strip()
    assert "link" in why[".env"]
    assert "link" in why["zero.env"]
    assert why["pipe.env"] == "not a regular file"
    assert "larger than" in why["huge.env"]
    assert "not read as JSON" in why["mcp.json"]
    assert any("deeper" in one for one in why.values())
    assert "\x1b" not in command("scan", str(tmp_path)).stdout
    named = json.loads(command("scan", str(tmp_path / ".env"), "--json").stdout)
    assert [one["kind"] for one in named["findings"]] == ["GitHub Token"], "a link that is named is followed"


def test_a_name_that_is_a_secret_is_masked(tmp_path):
    (tmp_path / f"{GITHUB}.env").write_text("K=v\n" * 3 + f"{GITHUB}={GITHUB}\n")
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {GITHUB: {"command": "x", "env": {GITHUB: GITHUB}, "trust": True}}}))
    for words in (("scan", str(tmp_path)), ("scan", str(tmp_path), "--json"), ("scan", str(tmp_path), "--write", str(tmp_path / "out"))):
        done = command(*words)
        assert done.returncode == 1
        assert GITHUB not in done.stdout + done.stderr
    assert all(GITHUB not in path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_the_configuration_that_takes_its_place_loads_and_holds_no_secret(home, monkeypatch):
    out = home / "remit"
    done = command("scan", "--write", str(out))
    assert done.returncode == 1
    texts = "".join(path.read_text() for path in out.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in texts + done.stdout
    for name in re.findall(r"export (\w+)=", done.stdout):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("TOKEN", "x")
    assert "one of kind github would mint for each task" in done.stdout
    made = load_configuration(out)
    assert {target.kind for target in made.targets.values()} == {"postgresql", "redis", "static"}
    assert made.targets["db-database_url"].values["url"] == "postgresql://postgres@db.internal:5432/orders"
    assert made.servers["db"].environment["DATABASE_URL"] == "{lease:db-database_url.url}"
    assert made.servers["web"].headers == {"Authorization": "Bearer {lease:web-authorization.password}"}
    assert (out / "tasks/db.toml.sample").read_text().count("[[lease]]") == 1
    (out / "tasks/db.toml.sample").rename(out / "tasks/db.toml")
    assert "db" in load_configuration(out).task_types
    before = texts
    again = command("scan", "--write", str(out))
    assert "kept   remit.toml" in again.stdout
    assert "no server was taken" in again.stdout
    (out / "tasks/db.toml").rename(out / "tasks/db.toml.sample")
    assert before == "".join(path.read_text() for path in out.rglob("*") if path.is_file())


WORDS = st.sampled_from(
    ["--token ", "--header ", "--token=", "--db-url=", "-e ", "Authorization: Bearer ", "TOKEN=", "https://h/p?key=", ""]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.tuples(WORDS, st.sampled_from([*SECRETS[:3], f"postgresql://u:{DRAWN}@h/d", "plain"])), max_size=5),
    url=st.booleans(),
    name=st.sampled_from(["TOKEN", "X", "Authorization", "a b", "A" * 100]),
    value=st.sampled_from([*SECRETS[:3], f"redis://u:{DRAWN}@h:1/0", f"mysql://u:{DRAWN}@h/d", f"postgres://u:{DRAWN}@h"]),
)
def test_however_a_secret_stands_in_a_server_it_is_not_copied(tmp_path_factory, words, url, name, value):
    """A property: of what is written and said, nothing is one of the secrets."""
    folder = tmp_path_factory.mktemp("scan")
    entry = (
        {"url": "".join(words[0]).replace(" ", "") if words else "https://x", "headers": {name: value}}
        if url
        else {"command": "x", "env": {name: value}}
    )
    entry["args"] = [word for before, after in words for word in (before + after).split(" ", 1)]
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"s": entry}}))
    found = scan([folder], home=None, environment={}, key=b"k")
    written = write_found(folder / "out", found)
    texts = "".join(path.read_text() for path in (folder / "out").rglob("*") if path.is_file())
    told = texts + repr(written) + repr(found.findings) + repr(found.unread) + repr(found.servers)
    for secret in (*SECRETS[:3], DRAWN):
        assert secret not in (texts + repr(written) + repr(found.findings)), (entry, told)

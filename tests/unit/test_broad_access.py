"""Each rule of what is too broad, where it fires and where it does not."""

from __future__ import annotations

import pytest

from remit.logic.broad_access import broad_client, broad_server
from remit.logic.client_settings import servers

FILES = "@modelcontextprotocol/server-filesystem"


def kinds(entry: dict) -> list[str]:
    return [found.kind for server in servers({"mcpServers": {"s": entry}}) for found in broad_server(server)]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"command": "npx", "args": ["-y", FILES, "/"]}, "filesystem-root"),
        ({"command": "npx", "args": ["-y", f"{FILES}@1.2.3", "/srv/docs", "/home/alice/"]}, "filesystem-root"),
        ({"command": "npx", "args": ["-y", FILES, "C:\\Users\\alice"]}, "filesystem-root"),
        ({"command": "mcp-server-filesystem", "args": ["${HOME}"]}, "filesystem-root"),
        ({"command": "x", "env": {"DATABASE_URL": "postgresql://postgres:pw@db/x"}}, "database-superuser"),
        ({"command": "x", "args": ["--url=mysql://root@db/x"]}, "database-superuser"),
        ({"command": "x", "args": ["redis://:pw@cache:6379/0"]}, "database-superuser"),
        ({"command": "x", "env": {"PGUSER": "postgres"}}, "database-superuser"),
        ({"command": "x", "args": ["--allow-all"]}, "allow-all"),
        ({"command": "x", "args": ["--dangerously-skip-permissions"]}, "allow-all"),
        ({"command": "deno", "args": ["run", "-A", "x.ts"]}, "allow-all"),
        ({"command": "docker", "args": ["run", "--privileged", "x"]}, "allow-all"),
        ({"command": "docker", "args": ["run", "-v", "/var/run/docker.sock:/var/run/docker.sock", "x"]}, "host-mount"),
        ({"command": "docker", "args": ["run", "--mount=type=bind,src=/,dst=/host", "x"]}, "host-mount"),
        ({"command": "x", "env": {"SLACK_SCOPES": "chat:write *"}}, "wide-scope"),
        ({"command": "x", "args": ["--scope", "repo,read:user"]}, "wide-scope"),
        ({"command": "npx", "args": ["-y", "@wonderwhy-er/desktop-commander@latest"]}, "any-command"),
        ({"command": "x", "alwaysAllow": ["*"]}, "auto-approve"),
        ({"command": "x", "trust": True}, "auto-approve"),
    ],
)
def test_what_is_broad_is_found(entry, kind):
    assert kinds(entry) == [kind]


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "npx", "args": ["-y", FILES, "/srv/docs", "/home/alice/project"]},
        {"command": "npx", "args": ["-y", FILES, "C:\\Users\\alice\\project"]},
        {"command": "npx", "args": ["-y", "some-server", "/"]},
        {"command": "/", "args": ["/home/alice"]},
        {"command": "x", "env": {"DATABASE_URL": "postgresql://app:pw@db/x", "PGUSER": "app"}},
        {"command": "x", "args": ["redis://app:pw@cache/0"]},
        {"command": "x", "args": ["https://root:pw@host/"]},
        {"command": "x", "args": ["--allow-list", "a", "--unsafe-inline-count=3", "--no-sandboxing", "--authenticated"]},
        {"command": "deno", "args": ["run", "--allow-net=api.example", "x.ts"]},
        {"command": "grep", "args": ["-A", "3"]},
        {"command": "docker", "args": ["run", "-v", "/home/alice/project:/data:ro", "x"]},
        {"command": "x", "env": {"SCOPES": "chat:write read:user", "SCOPE_NOTE": "*"}},
        {"command": "x", "args": ["--glob", "*"]},
        {"command": "x", "alwaysAllow": ["read_file"], "trust": False},
        {"command": "x", "args": [5, None], "env": {"A": 1}, "alwaysAllow": "x"},
        {"command": "npx", "args": ["-y", "shellcheck-docs", "profiles"]},
    ],
)
def test_what_is_narrow_is_not(entry):
    assert kinds(entry) == []


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"permissions": {"allow": ["Bash", "Bash(*)", "mcp__github", "*"]}}, 4),
        ({"permissions": {"allow": ["Bash(npm test:*)", "Read(./docs/**)", "mcp__github__get_issue(x)"]}}, 0),
        ({"permissions": {"defaultMode": "bypassPermissions"}}, 1),
        ({"permissions": {"defaultMode": "acceptEdits"}}, 0),
        ({"enableAllProjectMcpServers": True}, 1),
        ({"chat.tools.global.autoApprove": True}, 1),
        ({"approval_policy": "never", "sandbox_mode": "danger-full-access"}, 1),
        ({"approval_policy": "never", "sandbox_mode": "read-only"}, 0),
        ({"permissions": ["allow"]}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_what_a_client_lets_run_unasked(settings, number):
    assert len(list(broad_client(settings))) == number

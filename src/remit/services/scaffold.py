"""``remit init``: a working folder to start from, with the servers of an existing ``.mcp.json`` where there is one.

Rules: nothing that exists is overwritten. A value that may be a secret is not copied; it becomes ``${NAME}``, to be taken
from the environment, and is said aloud.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Place
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from pathlib import Path

_SERVER = re.compile(r"[^a-z0-9_-]+")
_VARIABLE_NAME = re.compile(r"[^A-Z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffolded:
    """What was written, what was there already, and what to know."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    notices: tuple[str, ...]


def write_folder(folder: Path, mcp_json: Path | None) -> Scaffolded:
    """Write the folder. Raises Mistake for an ``.mcp.json`` that is none."""
    servers, notices = _imported(mcp_json) if mcp_json else ("", [])
    files = {
        "remit.toml": _REMIT_TOML + (servers or _NO_SERVERS),
        "policies/main.cedar": _POLICIES,
        "tasks/example.toml.sample": _TASK,
        ".gitignore": "state/\n",
    }
    written, kept = [], []
    for name, text in files.items():
        path = folder / name
        if path.exists():
            kept.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(name)
    return Scaffolded(written=tuple(written), kept=tuple(kept), notices=tuple(notices))


def _imported(path: Path) -> tuple[str, list[str]]:
    """``[servers.…]`` tables from an MCP client's configuration, and notices."""
    try:
        data = parse_json(path.read_bytes(), bytes_max=1_048_576)
        servers = data["mcpServers"]
        items = list(servers.items())
    except (OSError, Mistake, KeyError, TypeError, AttributeError) as error:
        raise Mistake(
            f"not an MCP client's configuration: {error}",
            code="mcp_json",
            hint='it holds {"mcpServers": {"name": {"command": …} or {"url": …}}}',
            place=Place(file=str(path)),
        ) from None
    notices: list[str] = []
    tables = [_table(name, entry, notices) for name, entry in items if isinstance(entry, dict)]
    return "\n".join(tables), notices


def _table(given: str, entry: dict[str, Any], notices: list[str]) -> str:
    name = _SERVER.sub("-", given.lower()).strip("-") or "server"
    if name != given:
        notices.append(f"server {given!r} is called {name!r} here")
    lines = [f"\n[servers.{name}]"]
    if "command" in entry:
        lines += [f"command = {_toml(str(entry['command']))}", f"args = {_toml([str(word) for word in entry.get('args', [])])}"]
        lines += _hidden(name, "env", entry.get("env"), notices)
    else:
        lines.append(f"url = {_toml(str(entry.get('url', '')))}")
        lines += _hidden(name, "headers", entry.get("headers"), notices)
    return "\n".join(lines) + "\n"


def _hidden(server: str, key: str, values: object, notices: list[str]) -> list[str]:
    if not isinstance(values, dict) or not values:
        return []
    pairs = []
    for name in values:
        variable = _VARIABLE_NAME.sub("_", f"{server}_{name}".upper() if key == "headers" else str(name).upper())
        pairs.append(f"{_toml(str(name))} = {_toml('${' + variable + '}')}")
        notices.append(f"the value of {key}.{name} of server {server} was not copied: export {variable}=… before starting remit")
    return [f"{key} = {{ {', '.join(pairs)} }}"]


def _toml(value: str | list[str]) -> str:
    """A TOML string or list of strings: JSON's form is a valid one for both."""
    return json.dumps(value, ensure_ascii=True)


_REMIT_TOML = """\
# remit: what runs here, what tools do, who may be given which task. Keep this folder in git, but for state/.

[agents.assistant]
tasks = []                      # names of tasks/*.toml it may be given

# What a tool does is stated here; what nobody states counts as the worst: irreversible, highest class, untrusted, external.
# [tools."files/read_file"]
# effect = "read"               # read | write | irreversible
# data_class = "internal"       # public | internal | confidential | restricted
# trust = "trusted"             # trusted | untrusted: who writes what it returns
# sends = "nowhere"             # nowhere | internal | external: where its arguments go
"""
_NO_SERVERS = """
# [servers.files]
# command = "npx"
# args = ["-y", "@modelcontextprotocol/server-filesystem", "/data"]
"""
_POLICIES = """\
// What the organisation permits. A task's own grant must cover the call as well; both keys turn the lock.

@id("reads")
permit (principal, action in Action::"read", resource);

@id("writes")
permit (principal, action in Action::"write", resource)
when { !context.untrusted || resource.sends == "nowhere" };

// A person decides what cannot be undone, and what an agent writes outside after it has read what strangers wrote.
@id("approved")
permit (principal, action, resource)
when { context has approval };

// What is confidential does not leave the house, whoever approves.
@id("no-leak")
forbid (principal, action, resource)
when { resource.sends == "external" && context.labels.contains("confidential") };
"""
_TASK = """\
# Rename to example.toml, and list "example" in [agents.assistant] tasks.
objective = "Summarise {document}"
data_ceiling = "internal"
deadline = "15m"
budget = { calls = 20 }

[inputs.document]
type = "string"

[[grant]]
tool = "files/read_file"
arguments.properties.path.const = "{document}"
"""

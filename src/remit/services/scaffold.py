"""``remit init``: a working folder to start from, with the servers of an existing ``.mcp.json`` where there is one.

Rules: nothing that exists is overwritten. A value that may be a secret is not copied; it becomes ``${NAME}``, to be taken
from the environment, and is said aloud.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.errors import Mistake, Place
from remit.logic.arguments import parse_json
from remit.logic.client_settings import arguments
from remit.logic.secret_values import known_format, secret_kind
from remit.services.configuration import RESERVED_SERVERS
from remit.services.reading import FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_SERVER = re.compile(r"[^a-z0-9_-]+")
_VARIABLE_NAME = re.compile(r"[^A-Z0-9_]+")
_REFERENCE = re.compile(r"(?:[A-Za-z]+ )?\$\{[A-Za-z_][A-Za-z0-9_]*\}")  # "${TOKEN}", "Bearer ${TOKEN}": no secret in itself
_SUSPECT = re.compile(r"(?i)key|token|secret|passw|credential|auth|bearer|://[^/@\s]*@")
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+=.~-]{20,}")
_ORDINARY = frozenset(
    {"PATH", "HOME", "LANG", "USER", "SHELL", "TERM", "TMPDIR", "PWD", "LC_ALL"}
)  # remit's own of that name means another thing
_NAMES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffolded:
    """What was written, what was there already, and what to know."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    notices: tuple[str, ...]


def write_folder(folder: Path, mcp_json: Path | None) -> Scaffolded:
    """Write the folder. Raises Mistake for an ``.mcp.json`` that is none, OSError."""
    tables, notices = _imported(mcp_json) if mcp_json else ("", [])
    return write_files(folder, tables, notices, str(mcp_json) if mcp_json else "", {"tasks/example.toml.sample": _TASK})


def write_files(folder: Path, tables: str, notices: list[str], source: str, tasks: Mapping[str, str]) -> Scaffolded:
    """Write a folder with these tables in its ``remit.toml``, taken from ``source``, and these task types. Raises OSError."""
    if source and (folder / FILE).exists():
        notices = [f"{FILE} was there, so no server was taken from {source}: add what is missing by hand"]
    files = {FILE: _REMIT_TOML + (tables or _NO_SERVERS), "policies/main.cedar": _POLICIES, **tasks, ".gitignore": "state/\n"}
    written, kept = [], []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:  # never through a link, never over a file
                file.write(text)
        except FileExistsError:
            kept.append(name)
            continue
        written.append(name)
    if ".gitignore" in kept and not _ignores_state(folder / ".gitignore"):
        notices.append(".gitignore was there and does not name state/: add it, that folder holds keys")
    return Scaffolded(written=tuple(written), kept=tuple(kept), notices=tuple(notices))


def _ignores_state(path: Path) -> bool:
    lines = {line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()}
    return bool(lines & {"state", "state/", "/state", "/state/", "state/*", "/state/*", "*"})


def _imported(path: Path) -> tuple[str, list[str]]:
    """``[servers.…]`` tables from an MCP client's configuration, and notices."""
    try:
        data = parse_json(path.read_bytes(), bytes_max=1_048_576)
        servers = data.get("mcpServers", data.get("servers")) if isinstance(data, dict) else None
        if not isinstance(servers, dict):
            raise Mistake("it names no mcpServers")
    except (OSError, Mistake) as error:
        what = error.strerror if isinstance(error, OSError) else error.message
        raise Mistake(
            f"not an MCP client's configuration: {what}",
            code="mcp_json",
            hint='it holds {"mcpServers": {"name": {"command": …} or {"url": …}}}',
            place=Place(file=str(path)),
        ) from None
    importing = Importing()
    return "\n".join(filter(None, (importing.table(str(name), entry) for name, entry in servers.items()))), importing.notices


class Importing:
    """One import: the names given so far, and what to say of it. What cannot be taken over is left out, and said."""

    def __init__(self, leased: Callable[[str, str, str], str] | None = None) -> None:
        """``leased``: what stands for a value of a server's env or headers where a lease takes its place ("" : none does), by the
        server's name here, the value's and itself.
        """
        self._leased = leased
        self.notices: list[str] = []
        self.names: set[str] = set(RESERVED_SERVERS)
        self.variables: dict[str, str] = {}

    def table(self, given: str, entry: object) -> str:
        """The ``[servers.…]`` table of an entry; "" where it cannot be taken over."""
        fault, given = _fault(entry), "server" if known_format(given) else given
        if fault or not isinstance(entry, dict):
            self.notices.append(f"server {given[:_NAMES_MAX]!r} was left out: {fault}")
            return ""
        name = self._name(given)
        lines = [f"\n[servers.{name}]"]
        if "command" in entry:
            lines += [f"command = {toml_value(entry['command'])}", f"args = {self._arguments(name, entry.get('args', []))}"]
            lines += [f"cwd = {toml_value(entry['cwd'])}"] if isinstance(entry.get("cwd"), str) else []
            lines += self._hidden(name, "env", entry.get("env"))
        else:
            lines.append(f"url = {self._address(name, entry['url'])}")
            lines += self._hidden(name, "headers", entry.get("headers"))
        return "\n".join(lines) + "\n"

    def _name(self, given: str) -> str:
        stem = (_SERVER.sub("-", given.lower()).strip("-_") or "server")[: _NAMES_MAX - 3]
        name, number = stem, 1
        while name in self.names:
            number += 1
            name = f"{stem}-{number}"
        self.names.add(name)
        if name != given:
            self.notices.append(f"server {given[:_NAMES_MAX]!r} is called {name!r} here")
        return name

    def _arguments(self, server: str, words: list[str]) -> str:
        """Arguments as they are, but for what may be a secret."""
        kept = []
        named = list(arguments(words))
        for index, word in enumerate(words):
            flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
            after = words[index - 1] if index and words[index - 1].startswith("-") and "=" not in words[index - 1] else ""
            names_it = _SUSPECT.search(flag if equals else after)
            is_secret = secret_kind(named[index][2], (named[index][1],)) or secret_kind(word, ())
            suspect = names_it or _RANDOM.fullmatch(value) or ("://" in value and _SUSPECT.search(value))
            if not is_secret and ((flag and not equals) or not value or not suspect):
                kept.append(word)
                continue
            if flag and not equals:
                flag, value = "", word
            hidden = self._variable(
                server, f"{server}_{(flag if equals else after).strip('-') or f'ARG_{index + 1}'}", value, f"argument {index + 1}"
            )
            kept.append(flag + equals + hidden)
        return toml_value(kept)

    def _address(self, server: str, url: str) -> str:
        """An address as it is, but for one that holds a query, a password or a random part: it may be a secret as a whole."""
        parts = urlsplit(url)
        bare = parts.scheme in {"http", "https"} and not (
            parts.query or parts.fragment or "@" in parts.netloc or any(_RANDOM.fullmatch(part) for part in parts.path.split("/"))
        )
        return toml_value(url if bare else self._variable(server, f"{server}_URL", url, "url"))

    def _hidden(self, server: str, key: str, values: object) -> list[str]:
        if not isinstance(values, dict) or not values:
            return []
        pairs = []
        for name, value in values.items():
            if known_format(name):
                self.notices.append(f"a value of {key} of server {server} was left out: its name is a secret")
                continue
            plain = name.upper() if key == "env" and name.upper() not in _ORDINARY else f"{server}_{name}"
            lease = self._leased(server, name, str(value)) if self._leased else ""
            pairs.append(f"{toml_value(name)} = {toml_value(lease or self._variable(server, plain, str(value), f'{key}.{name}'))}")
        return [f"{key} = {{ {', '.join(pairs)} }}"]

    def _variable(self, server: str, wanted: str, value: str, what: str) -> str:
        """``${NAME}`` for a value, one name a value."""
        if _REFERENCE.fullmatch(value):
            return value
        name = _VARIABLE_NAME.sub("_", wanted.upper())
        if name[:1].isdigit() or self.variables.get(name, value) != value:
            name = _VARIABLE_NAME.sub("_", f"_{server}_{wanted}".upper() if server[:1].isdigit() else f"{server}_{wanted}".upper())
        self.variables[name] = value
        self.notices.append(f"the value of {what} of server {server} was not copied: export {name}=… before starting remit")
        return f"${{{name}}}"


def _fault(entry: object) -> str:
    """Why an entry cannot be taken over; "" : it can."""
    if not isinstance(entry, dict):
        return "it is no table"
    command, url, words = entry.get("command"), entry.get("url"), entry.get("args", [])
    if entry.get("disabled") is True:
        return "it is disabled"
    if command is None and url is None:
        return "it has neither command nor url"
    if not isinstance(command if command is not None else url, str) or not (command or url):
        return "its command or url is no text"
    if command is not None and known_format(command):
        return "its command holds a secret"
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "its args are no list of texts"
    if command is None and entry.get("type") == "sse":
        return "it speaks the old HTTP+SSE transport; remit speaks Streamable HTTP"
    return ""


def toml_value(value: str | list[str]) -> str:
    """A TOML string or list of strings: JSON's form is a valid one for both, but for surrogates, which TOML has not."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


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

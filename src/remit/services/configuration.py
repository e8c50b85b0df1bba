"""Reads a working folder whole: ``remit.toml``, ``tasks/*.toml``, ``policies/*.cedar``, ``tools.lock.json``.

Rules: all or nothing, and every mistake of a file at once, each with file, line, key and what is allowed. What a file does
not know is a mistake, not a guess. Values of the environment (``${NAME}``) go into server processes and headers only.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from remit.drivers.base import HttpServer, StdioServer
from remit.errors import Mistake, Place, RemitError
from remit.logic.arguments import digest_json
from remit.logic.grants import validator
from remit.logic.rulebook import Catalog, CatalogEntry, ServerFacts
from remit.logic.task_types import placeholders, sample_arguments
from remit.logic.toml_text import TomlText
from remit.model.catalog import Effect, Kind, Sends, Trust
from remit.model.identity import SpiffeId
from remit.model.labels import DEFAULT_CLASSES, DataClasses
from remit.model.task_type import GrantTemplate, Input, TaskType
from remit.settings import Agent, Configuration, Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Collection
    from enum import StrEnum

T = TypeVar("T")
FILE = "remit.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_RESERVED = frozenset({"resources", "prompts"})
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE_BYTES_MAX = 1_048_576
_DEADLINE_MAX = timedelta(hours=24)
_TTL_MAX = timedelta(hours=1)
_CALLS_MAX = 100_000
_INPUT_WORDS = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_INPUT_TYPES = ("string", "integer", "boolean")


class Mistakes(Mistake):
    """All that is wrong with a configuration, a line each."""

    default_code = "configuration"

    def __init__(self, found: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in found))
        self.found = tuple(found)


def load_configuration(folder: Path) -> Configuration:
    """Read and check a folder. Raises Mistakes; reads files, touches nothing."""
    found: list[Mistake] = []
    text = _read_text(folder / FILE, FILE)
    root = _Reader(TomlText(FILE, text), found)
    settings, classes = _settings(root, folder)
    agents = _agents(root, settings)
    servers, server_facts = _servers(root, folder, classes)
    entries = {name: _catalog_entry(table, classes) for name, table in root.tables("tools") if _known_server(root, "tools", name, servers)}
    root.done("server", "storage", "trust", "data", "agents", "servers", "tools", "limits", "approvals")
    task_types: dict[str, TaskType] = {}
    texts = {FILE: text}
    for path in _files(folder / "tasks", "*.toml"):
        name = f"tasks/{path.name}"
        try:
            texts[name] = _read_text(path, name)
            task_types[path.stem] = _task_type(_Reader(TomlText(name, texts[name]), found), path.stem, classes, servers)
        except Mistake as mistake:
            found.append(mistake)
    policies = {f"policies/{path.name}": _read_text(path, f"policies/{path.name}") for path in _files(folder / "policies", "*.cedar")}
    for agent in agents.values():
        for task in agent.tasks:
            if task not in task_types:
                root.wrong(f"there is no task type {task!r}", _near(task, task_types), "agents", agent.name, "tasks")
    if found:
        raise Mistakes(found)
    return Configuration(
        settings=settings,
        classes=classes,
        agents=agents,
        servers=servers,
        catalog=Catalog(servers=server_facts, entries=entries),
        task_types=task_types,
        policies=policies,
        digest=digest_json(texts),
    )


class _Reader:
    """A TOML table that is read key by key; what nobody read is a mistake. Wrong values are noted and read as defaults."""

    def __init__(self, toml: TomlText, found: list[Mistake], path: tuple[str | int, ...] = (), data: dict[str, Any] | None = None) -> None:
        self.toml, self.found, self.path = toml, found, path
        self.data = toml.data if data is None else data
        self.read: set[str] = set()

    def wrong(self, what: str, hint: str, *keys: str | int) -> None:
        self.found.append(Mistake(what, code="configuration", hint=hint, place=self.toml.place(*self.path, *keys)))

    def done(self, *also: str) -> None:
        known = {*self.read, *also}
        for key in self.data:
            if key not in known:
                self.wrong(f"{key!r} is not known here", _near(key, known), key)

    def value(self, key: str, kind: type[T], default: T) -> T:
        self.read.add(key)
        value = self.data.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(f"{key} must be {_KINDS.get(kind, kind.__name__)}", "", key)
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = self.value(key, list, list(default))
        if not all(isinstance(value, str) for value in values):
            self.wrong(f"{key} must be a list of strings", "", key)
            return default
        return tuple(values)

    def choice(self, key: str, kind: type[StrEnum]) -> Any:
        text = self.value(key, str, "")
        if not text:
            return None
        try:
            return kind(text)
        except ValueError:
            self.wrong(f"{key} = {text!r}", _near(text, [member.value for member in kind]), key)
            return None

    def number(self, key: str, default: int, most: int) -> int:
        value = self.value(key, int, default)
        if not 1 <= value <= most:
            self.wrong(f"{key} must be a whole number from 1 to {most:,}", "", key)
            return default
        return value

    def duration(self, key: str, default: timedelta, most: timedelta) -> timedelta:
        text = self.value(key, str, "")
        if not text:
            return default
        found = _DURATION.match(text)
        hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if not timedelta(0) < span <= most:
            self.wrong(f"{key} = {text!r} is no duration up to {most}", 'write "15m", "1h30m" or "45s"', key)
            return default
        return span

    def table(self, key: str) -> _Reader:
        self.read.add(key)
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            self.wrong(f"{key} must be a table", f"[{key}]", key)
            value = {}
        return _Reader(self.toml, self.found, (*self.path, key), value)

    def tables(self, key: str) -> list[tuple[str, _Reader]]:
        parent = self.table(key)
        return [(name, parent.table(name)) for name in parent.data]


_KINDS: dict[type, str] = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def _settings(root: _Reader, folder: Path) -> tuple[Settings, DataClasses]:
    server, storage, trust, data, approvals = (root.table(key) for key in ("server", "storage", "trust", "data", "approvals"))
    defaults = Settings(folder=folder)
    limits = root.table("limits")
    bounds = {bound.name: limits.number(bound.name, getattr(defaults.limits, bound.name), 2**31) for bound in fields(Limits)}
    host, port = server.value("host", str, defaults.host), server.number("port", defaults.port, 65_535)
    names = data.texts("classes", DEFAULT_CLASSES)
    if not names or len(set(names)) != len(names):
        data.wrong("classes must be a list of different names, lowest first", "", "classes")
        names = DEFAULT_CLASSES
    domain = trust.value("domain", str, defaults.trust_domain)
    try:
        SpiffeId.parse(f"spiffe://{domain}/x")
    except Mistake:
        trust.wrong(f"{domain!r} is not a trust domain", "lower-case letters, digits, '.', '_', '-'", "domain")
        domain = defaults.trust_domain
    settings = Settings(
        folder=folder,
        host=host,
        port=port,
        allowed_hosts=(*defaults.allowed_hosts, *server.texts("allowed_hosts")),
        allowed_origins=server.texts("allowed_origins"),
        issuer=server.value("issuer", str, f"http://{host}:{port}").rstrip("/"),
        storage=folder / storage.value("path", str, str(defaults.storage)),
        storage_url=_storage_url(storage),
        keys=folder / trust.value("keys", str, str(defaults.keys)),
        trust_domain=domain,
        svid_ttl=trust.duration("svid_ttl", defaults.svid_ttl, _TTL_MAX),
        token_ttl=trust.duration("token_ttl", defaults.token_ttl, _TTL_MAX),
        approval_ttl=approvals.duration("ttl", defaults.approval_ttl, _DEADLINE_MAX),
        limits=Limits(**bounds),
    )
    for table in (server, storage, trust, data, approvals, limits):
        table.done()
    return settings, DataClasses(tuple(names))


def _storage_url(storage: _Reader) -> str:
    """A PostgreSQL URL, ``${NAME}`` taken from the environment."""
    text = storage.value("url", str, "")
    for variable in _VARIABLE.findall(text):
        if variable not in os.environ:
            storage.wrong(f"the environment has no {variable}", f"export {variable}=… before starting remit", "url")
    url = _VARIABLE.sub(lambda found: os.environ.get(found.group(1), ""), text)
    if url and not url.startswith(("postgresql://", "postgres://")):
        storage.wrong("url is no PostgreSQL address", 'postgresql://user@host/database, or path = "…" for SQLite', "url")
    return url


def _agents(root: _Reader, settings: Settings) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    for name, table in root.tables("agents"):
        text = table.value("spiffe_id", str, f"spiffe://{settings.trust_domain}/agent/{name}")
        try:
            spiffe_id = SpiffeId.parse(text)
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint, "spiffe_id")
            continue
        if spiffe_id in {agent.spiffe_id for agent in agents.values()}:
            table.wrong(f"two agents are {spiffe_id}", "one identity an agent", "spiffe_id")
        tasks, description = table.texts("tasks"), table.value("description", str, "")
        agents[name] = Agent(name=name, spiffe_id=spiffe_id, tasks=tasks, description=description)
        table.done()
    return agents


def _servers(root: _Reader, folder: Path, classes: DataClasses) -> tuple[dict[str, StdioServer | HttpServer], dict[str, ServerFacts]]:
    servers: dict[str, StdioServer | HttpServer] = {}
    facts: dict[str, ServerFacts] = {}
    for name, table in root.tables("servers"):
        if not _NAME.match(name) or name in _RESERVED:
            table.wrong(f"{name!r} cannot be the name of a server", "a-z, 0-9, '-', '_'; not 'resources' or 'prompts'")
            continue
        command, url = table.value("command", str, ""), table.value("url", str, "")
        arguments, environment = table.texts("args"), _filled(table, "env")
        headers, cwd = _filled(table, "headers"), table.value("cwd", str, "")
        if bool(command) == bool(url):
            table.wrong(f"server {name} needs either command or url", 'command = "npx", args = […], or url = "https://…"')
        elif command:
            where = str((folder / cwd).resolve()) if cwd else None
            servers[name] = StdioServer(name=name, command=(command, *arguments), environment=environment, folder=where)
        elif not url.startswith(("http://", "https://")):
            table.wrong(f"url = {url!r}", "http:// or https://", "url")
        else:
            servers[name] = HttpServer(name=name, url=url, headers=headers)
        believed = table.value("trust_annotations", bool, default=False)
        facts[name] = ServerFacts(defaults=_catalog_entry(table, classes), trust_annotations=believed)
    return servers, facts


def _filled(table: _Reader, key: str) -> dict[str, str]:
    """A table of strings with ``${NAME}`` taken from the environment."""
    values: dict[str, str] = {}
    inner = table.table(key)
    for name in inner.data:
        text = inner.value(name, str, "")
        for variable in _VARIABLE.findall(text):
            if variable not in os.environ:
                inner.wrong(f"the environment has no {variable}", f"export {variable}=… before starting remit", name)
        values[name] = _VARIABLE.sub(lambda found: os.environ.get(found.group(1), ""), text)
    return values


def _catalog_entry(table: _Reader, classes: DataClasses) -> CatalogEntry:
    data_class = table.value("data_class", str, "")
    if data_class and data_class not in classes.names:
        table.wrong(f"data_class = {data_class!r}", _near(data_class, classes.names), "data_class")
    entry = CatalogEntry(
        effect=table.choice("effect", Effect),
        data_class=data_class or None,
        trust=table.choice("trust", Trust),
        sends=table.choice("sends", Sends),
    )
    table.done()
    return entry


def _known_server(root: _Reader, key: str, name: str, servers: Collection[str]) -> bool:
    server, slash, rest = name.partition("/")
    if server in servers and slash and rest:
        return True
    root.wrong(f"{name!r} names no tool of a configured server", f'"server/tool" with server one of: {", ".join(servers)}', key, name)
    return False


def _task_type(root: _Reader, name: str, classes: DataClasses, servers: Collection[str]) -> TaskType:
    objective = root.value("objective", str, "")
    if not objective:
        root.wrong("objective is missing", "one sentence that says what the task is for", "objective")
    ceiling = root.value("data_ceiling", str, classes.names[0])
    if ceiling not in classes.names:
        root.wrong(f"data_ceiling = {ceiling!r}", _near(ceiling, classes.names), "data_ceiling")
    deadline = root.duration("deadline", timedelta(minutes=15), _DEADLINE_MAX)
    budget = root.table("budget")
    calls = budget.number("calls", 100, _CALLS_MAX)
    budget.done()
    inputs = tuple(_input(table, key) for key, table in root.tables("inputs"))
    declared = {entry.name for entry in inputs}
    grants = []
    root.read.add("grant")
    lines = root.data.get("grant", [])
    if not isinstance(lines, list) or not lines:
        root.wrong("a task type needs at least one [[grant]]", '[[grant]]\n    tool = "server/tool"', "grant")
        lines = []
    for number, line in enumerate(lines):
        template = _grant(_Reader(root.toml, root.found, ("grant", number), line), inputs, servers)
        if template is not None:
            grants.append(template)
    for unknown in sorted(placeholders(objective) - declared):
        root.wrong(f"objective names an input {{{unknown}}} that is not declared", _near(unknown, declared), "objective")
    root.done()
    return TaskType(
        name=name,
        objective=objective,
        inputs=inputs,
        grants=tuple(grants),
        data_ceiling=ceiling,
        deadline=deadline,
        budget_calls=calls,
    )


def _input(table: _Reader, name: str) -> Input:
    kind = table.value("type", str, "string")
    if kind not in _INPUT_TYPES:
        table.wrong(f"type = {kind!r}", _near(kind, _INPUT_TYPES), "type")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        table.wrong(f"{name!r} cannot be the name of an input", "a-z, 0-9, '_'")
    schema = {word: table.data[word] for word in _INPUT_WORDS if word in table.data} | {"type": kind}
    description, default = table.value("description", str, ""), table.data.get("default")
    _checked_schema(table, schema)
    table.done(*_INPUT_WORDS, "default")
    return Input(name=name, schema=schema, default=default, description=description)


def _grant(table: _Reader, inputs: tuple[Input, ...], servers: Collection[str]) -> GrantTemplate | None:
    declared = {entry.name for entry in inputs}
    named = [kind for kind in Kind if kind.value in table.data]
    names = [table.value(kind.value, str, "") for kind in named]
    arguments, uses = table.value("arguments", dict, {}), table.data.get("uses")
    table.read.add("uses")
    if uses is not None:
        table.number("uses", 1, _CALLS_MAX)
    table.done(*(kind.value for kind in Kind))
    if len(named) != 1:
        table.wrong("a grant names exactly one of tool, resource or prompt", 'tool = "server/tool"')
        return None
    server, slash, name = names[0].partition("/")
    if server not in servers or not slash or not name or "*" in name[:-1]:
        hint = f'"server/name", a * only at the end, server one of: {", ".join(servers)}'
        table.wrong(f"{named[0].value} = {names[0]!r}", _near(server, servers) if slash else hint, named[0].value)
        return None
    unknown = sorted((placeholders(arguments) | placeholders(name)) - declared)
    for word in unknown:
        table.wrong(f"{{{word}}} is not a declared input", _near(word, declared), "arguments")
    for key, rule in arguments.get("properties", {}).items() if isinstance(arguments.get("properties", {}), dict) else ():
        if isinstance(rule, dict) and "origin" in rule:
            table.wrong("origin is not enforced by this version", "leave it out", "arguments", "properties", key, "origin")
    if not unknown:
        _checked_schema(table, {**sample_arguments(arguments, inputs), "type": "object"}, "arguments")
    return GrantTemplate(kind=named[0], server=server, name=name, arguments=arguments, uses=uses if isinstance(uses, int) else None)


def _checked_schema(table: _Reader, schema: dict[str, Any], *keys: str) -> None:
    import json

    try:
        validator(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, sort_keys=True))
    except (RemitError, TypeError) as error:
        table.wrong(str(error), "", *keys)


def _read_text(path: Path, name: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        hint = "`remit init` writes one" if name == FILE else ""
        raise Mistake("there is no such file", code="configuration", hint=hint, place=Place(file=str(path))) from None
    except OSError as error:
        raise Mistake(f"cannot be read: {error.strerror}", code="configuration", place=Place(file=str(path))) from None
    if len(data) > _FILE_BYTES_MAX:
        raise Mistake(f"larger than {_FILE_BYTES_MAX:,} bytes", code="configuration", place=Place(file=name))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Mistake("not UTF-8", code="configuration", place=Place(file=name, line=line)) from None


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _near(word: str, known: Collection[str]) -> str:
    """What is allowed, the likely one first."""
    close = get_close_matches(word, [str(name) for name in known], n=1)
    allowed = ", ".join(sorted(map(str, known))) or "nothing"
    return f"did you mean {close[0]!r}? allowed: {allowed}" if close else f"allowed: {allowed}"


def environment_names(folder: Path) -> frozenset[str]:
    """Variables that servers take from the environment: an agent's process does not get them."""
    return frozenset(_VARIABLE.findall(_read_text(folder / FILE, FILE)))

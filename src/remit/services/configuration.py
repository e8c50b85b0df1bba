"""Reads a working folder whole: ``remit.toml``, ``tasks/*.toml``, ``policies/*.cedar``, ``tools.lock.json``.

Rules: all or nothing, and every mistake of a file at once, each with file, line, key and what is allowed. What a file does
not know is a mistake, not a guess. Values of the environment (``${NAME}``) go into server processes and headers only.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.drivers.base import HttpServer, StdioServer
from remit.errors import Mistake, RemitError
from remit.logic.arguments import digest_json
from remit.logic.grants import findings, validator
from remit.logic.rulebook import Catalog, CatalogEntry, ServerFacts
from remit.logic.schema_words import out_of_type, unenforced
from remit.logic.task_types import placeholders, sample_arguments
from remit.model.catalog import Effect, Kind, Sends, Trust
from remit.model.decision import Code
from remit.model.identity import SpiffeId
from remit.model.labels import DEFAULT_CLASSES, DataClasses
from remit.model.task_type import GrantTemplate, Input, TaskType
from remit.services.reading import FILE, Mistakes, Reader, near, parsed, read_text, read_texts
from remit.settings import Agent, Configuration, Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Collection

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
RESERVED_SERVERS = frozenset({"resources", "prompts"})
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENV_NAME = re.compile(r"[^=\0]+\Z")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}\Z")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 §5.6.2
_HTTP = re.compile(r"https?://(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::\d{1,5})?(?:[/?#][^\s]*)?\Z")
_DEADLINE_MAX = timedelta(hours=24)
_TTL_MAX = timedelta(hours=1)
_CALLS_MAX = 100_000
_INPUT_WORDS = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_INPUT_TYPES = ("string", "integer", "boolean")


def load_configuration(folder: Path) -> Configuration:
    """Read and check a folder. Raises Mistakes; reads files, touches nothing."""
    found: list[Mistake] = []
    text = read_text(folder / FILE, FILE)
    root = Reader(parsed(FILE, text), found)
    settings, classes = _settings(root, folder)
    agents = _agents(root, settings)
    servers, server_facts = _servers(root, folder, classes)
    entries = {name: _catalog_entry(table, classes) for name, table in root.tables("tools") if _known_server(root, "tools", name, servers)}
    root.done("server", "storage", "trust", "data", "agents", "servers", "tools", "limits", "approvals")
    task_types: dict[str, TaskType] = {}
    tasks, policies = read_texts(folder, "tasks", ".toml", found), read_texts(folder, "policies", ".cedar", found)
    names = {Path(name).stem for name in tasks}
    for name, task_text in tasks.items():
        try:
            if task_text is not None:
                stem = Path(name).stem
                task_types[stem] = _task_type(Reader(parsed(name, task_text), found), stem, classes, servers)
        except Mistake as mistake:
            found.append(mistake)
    for agent in agents.values():
        for task in agent.tasks:
            if task not in names:
                root.wrong(f"there is no task type {task!r}", near(task, task_types), "agents", agent.name, "tasks")
    if found:
        raise Mistakes(found)
    return Configuration(
        settings=settings,
        classes=classes,
        agents=agents,
        servers=servers,
        catalog=Catalog(servers=server_facts, entries=entries),
        task_types=task_types,
        policies={name: policy for name, policy in policies.items() if policy is not None},
        digest=digest_json({FILE: text, **tasks}),
    )


def _settings(root: Reader, folder: Path) -> tuple[Settings, DataClasses]:
    server, storage, trust, data, approvals = (root.table(key) for key in ("server", "storage", "trust", "data", "approvals"))
    defaults = Settings(folder=folder)
    limits = root.table("limits")
    bounds = {bound.name: limits.number(bound.name, getattr(defaults.limits, bound.name), 2**31) for bound in fields(Limits)}
    host, port = server.value("host", str, defaults.host), server.number("port", defaults.port, 65_535)
    if not _HOST.match(host):
        server.wrong(f"host = {host[:80]!r}", "an address or a name of this machine", "host")
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


def _storage_url(storage: Reader) -> str:
    """A PostgreSQL URL, ``${NAME}`` taken from the environment."""
    text = storage.value("url", str, "")
    url = _fill(storage, text, "url")
    if url and not url.startswith(("postgresql://", "postgres://")):
        storage.wrong("url is no PostgreSQL address", 'postgresql://user@host/database, or path = "…" for SQLite', "url")
    return url


def _agents(root: Reader, settings: Settings) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    for name, table in root.tables("agents"):
        text = table.value("spiffe_id", str, f"spiffe://{settings.trust_domain}/agent/{name}")
        try:
            spiffe_id = SpiffeId.parse(text)
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint, "spiffe_id")
            continue
        if spiffe_id.trust_domain != settings.trust_domain:
            table.wrong(f"{spiffe_id} is not of this trust domain", f"spiffe://{settings.trust_domain}/…, or set trust.domain", "spiffe_id")
        if spiffe_id in {agent.spiffe_id for agent in agents.values()}:
            table.wrong(f"two agents are {spiffe_id}", "one identity an agent", "spiffe_id")
        tasks, description = table.texts("tasks"), table.value("description", str, "")
        agents[name] = Agent(name=name, spiffe_id=spiffe_id, tasks=tasks, description=description)
        table.done()
    return agents


def _servers(root: Reader, folder: Path, classes: DataClasses) -> tuple[dict[str, StdioServer | HttpServer], dict[str, ServerFacts]]:
    servers: dict[str, StdioServer | HttpServer] = {}
    facts: dict[str, ServerFacts] = {}
    for name, table in root.tables("servers"):
        if not _NAME.match(name) or name in RESERVED_SERVERS:
            table.wrong(f"{name!r} cannot be the name of a server", "a-z, 0-9, '-', '_'; not 'resources' or 'prompts'")
            continue
        command, url = table.value("command", str, ""), table.value("url", str, "")
        arguments, environment = tuple(_fill(table, text, "args") for text in table.texts("args")), _filled(table, "env", _ENV_NAME)
        headers, cwd = _filled(table, "headers", _HEADER_NAME), table.value("cwd", str, "")
        for key in (("headers",) if command else ("args", "env", "cwd")) if bool(command) != bool(url) else ():
            if key in table.data:
                table.wrong(f"{key} means nothing here", "args, env and cwd go with command, headers with url", key)
        if bool(command) == bool(url):
            table.wrong(f"server {name} needs either command or url", 'command = "npx", args = […], or url = "https://…"')
        elif command:
            where = str((folder / cwd).resolve()) if cwd else None
            servers[name] = StdioServer(name=name, command=(command, *arguments), environment=environment, folder=where)
        elif not _HTTP.match(filled := _fill(table, url, "url")):
            table.wrong(f"url = {url!r}", "http:// or https://, then a host", "url")
        else:
            servers[name] = HttpServer(name=name, url=filled, headers=headers)
        believed = table.value("trust_annotations", bool, default=False)
        facts[name] = ServerFacts(defaults=_catalog_entry(table, classes), trust_annotations=believed)
    return servers, facts


def _filled(table: Reader, key: str, names: re.Pattern[str]) -> dict[str, str]:
    """A table of strings with ``${NAME}`` taken from the environment."""
    values: dict[str, str] = {}
    inner = table.table(key)
    for name in inner.data:
        values[name] = _fill(inner, inner.value(name, str, ""), name)
        if not names.match(name) or any(sign in values[name] for sign in "\0\r\n"[: 3 if key == "headers" else 1]):
            inner.wrong(f"{name!r} cannot be passed on", "a plain name; a value without NUL, in a header without line ends", name)
    return values


def _fill(table: Reader, text: str, key: str) -> str:
    for variable in _VARIABLE.findall(text):
        if variable not in os.environ:
            table.wrong(f"the environment has no {variable}", f"export {variable}=… before starting remit", key)
    return _VARIABLE.sub(lambda found: os.environ.get(found.group(1), ""), text)


def _catalog_entry(table: Reader, classes: DataClasses) -> CatalogEntry:
    data_class = table.value("data_class", str, "")
    if (data_class or table.data.get("data_class") == "") and data_class not in classes.names:
        table.wrong(f"data_class = {data_class!r}", near(data_class, classes.names), "data_class")
    entry = CatalogEntry(
        effect=table.choice("effect", Effect),
        data_class=data_class or None,
        trust=table.choice("trust", Trust),
        sends=table.choice("sends", Sends),
    )
    table.done()
    return entry


def _known_server(root: Reader, key: str, name: str, servers: Collection[str]) -> bool:
    server, slash, rest = name.partition("/")
    if server in servers and slash and rest:
        return True
    root.wrong(f"{name!r} names no tool of a configured server", f'"server/tool" with server one of: {", ".join(servers)}', key, name)
    return False


def _task_type(root: Reader, name: str, classes: DataClasses, servers: Collection[str]) -> TaskType:
    if not _NAME.match(name):
        root.wrong(f"{name!r} cannot be the name of a task type", "name the file with a-z, 0-9, '-', '_', then .toml")
    objective = root.value("objective", str, "")
    if not objective or not objective.isprintable():
        root.wrong(
            "objective is missing" if not objective else "objective holds control characters",
            "one sentence that says what the task is for",
            "objective",
        )
    ceiling = root.value("data_ceiling", str, classes.names[0])
    if ceiling not in classes.names:
        root.wrong(f"data_ceiling = {ceiling!r}", near(ceiling, classes.names), "data_ceiling")
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
        if not isinstance(line, dict):
            root.wrong("a grant must be a table", '[[grant]]\n    tool = "server/tool"', "grant")
            continue
        template = _grant(Reader(root.toml, root.found, ("grant", number), line), inputs, servers)
        if template is not None:
            grants.append(template)
    for unknown in sorted(placeholders(objective) - declared):
        root.wrong(f"objective names an input {{{unknown}}} that is not declared", near(unknown, declared), "objective")
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


def _input(table: Reader, name: str) -> Input:
    kind = table.value("type", str, "string")
    if kind not in _INPUT_TYPES:
        table.wrong(f"type = {kind!r}", near(kind, _INPUT_TYPES), "type")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        table.wrong(f"{name!r} cannot be the name of an input", "a-z, 0-9, '_'")
    schema = {word: table.data[word] for word in _INPUT_WORDS if word in table.data} | {"type": kind}
    description, default = table.value("description", str, ""), table.data.get("default")
    for path, what, hint in out_of_type(schema):
        table.wrong(what, hint, *path)
    if _checked_schema(table, schema) and default is not None:
        for reason in findings(json.dumps(schema, sort_keys=True), default, Code.ARGUMENTS_INVALID, "this input"):
            table.wrong(f"default: {reason.text}", "", "default")
    table.done(*_INPUT_WORDS, "default")
    return Input(name=name, schema=schema, default=default, description=description)


def _grant(table: Reader, inputs: tuple[Input, ...], servers: Collection[str]) -> GrantTemplate | None:
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
        table.wrong(f"{named[0].value} = {names[0]!r}", near(server, servers) if slash else hint, named[0].value)
        return None
    unknown = sorted((placeholders(arguments) | placeholders(name)) - declared)
    for word in unknown:
        table.wrong(f"{{{word}}} is not a declared input", near(word, declared), "arguments")
    for key, rule in arguments.get("properties", {}).items() if isinstance(arguments.get("properties", {}), dict) else ():
        if isinstance(rule, dict) and "origin" in rule:
            table.wrong("origin is not enforced by this version", "leave it out", "arguments", "properties", key, "origin")
    for path, what, hint in unenforced(arguments):
        table.wrong(what, hint, "arguments", *path)
    if not unknown:
        _checked_schema(table, {**sample_arguments(arguments, inputs), "type": "object"}, "arguments")
    return GrantTemplate(kind=named[0], server=server, name=name, arguments=arguments, uses=uses if isinstance(uses, int) else None)


def _checked_schema(table: Reader, schema: dict[str, Any], *keys: str) -> bool:
    try:
        validator(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, sort_keys=True))
    except (RemitError, TypeError) as error:
        table.wrong(str(error), "", *keys)
        return False
    return True


def environment_names(folder: Path) -> frozenset[str]:
    """Variables that servers take from the environment: an agent's process does not get them."""
    return frozenset(_VARIABLE.findall(read_text(folder / FILE, FILE)))

"""Reads a working folder whole: ``remit.toml``, ``tasks/*.toml``, ``policies/*.cedar``, ``tools.lock.json``.

Rules: all or nothing, and every mistake of a file at once, each with file, line, key and what is allowed. What a file does
not know is a mistake, not a guess. Values of the environment (``${NAME}``) go into server processes and headers only.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from remit.drivers.base import HttpServer, PythonServer, StdioServer
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.errors import Mistake
from remit.logic.arguments import digest_json
from remit.logic.checkpoint import Verifier
from remit.logic.rulebook import Catalog, ServerFacts
from remit.model.identity import SpiffeId
from remit.model.labels import DEFAULT_CLASSES, DataClasses
from remit.services.access_configuration import read_access
from remit.services.approvers import read_consent
from remit.services.behaviour_configuration import read_behaviour
from remit.services.candidates import read_bundle
from remit.services.catalog import read_detected, read_entry
from remit.services.console_configuration import read_console
from remit.services.egress_configuration import read_egresses
from remit.services.equipment import LEASED, http_server
from remit.services.event_configuration import read_events
from remit.services.ledger_configuration import read_ledger
from remit.services.manifest_files import placed, read_source
from remit.services.reading import FILE, NAME, VARIABLE, Mistakes, Reader, fill, near, parsed, read_text, read_texts
from remit.services.sign_in_configuration import read_sign_in
from remit.services.signal_configuration import read_signals
from remit.services.target_configuration import check_asked, read_leases, read_targets
from remit.services.task_types import DEADLINE_MAX, read_task_type
from remit.services.telemetry_configuration import read_telemetry
from remit.services.token_configuration import read_default_task, read_keys, read_tokens
from remit.services.trust_configuration import check_agents, read_key_encryption, read_trust
from remit.services.workload_configuration import check_ambiguity, read_process_rule, read_workload_settings
from remit.settings import METRICS_FOR, Agent, Configuration, Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Collection

    from remit.logic.bundle import Bundle
    from remit.model.task_type import TaskType
    from remit.model.trust import TrustRules

RESERVED_SERVERS = frozenset({"resources", "prompts"})
_ENV_NAME = re.compile(r"[^=\0]+\Z")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 §5.6.2
_HTTP = re.compile(r"https?://(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::\d{1,5})?(?:[/?#][^\s]*)?\Z")
_TTL_MAX = timedelta(hours=1)

AnyServer = StdioServer | HttpServer | PythonServer

_TABLES = (
    "server",
    "storage",
    "trust",
    "spiffe",
    "data",
    "agents",
    "servers",
    "egress",
    "tools",
    "limits",
    "approvals",
    "approvers",
    "access",
    "ledger",
    "policies",
    "signals",
    "tokens",
    "sign_in",
    "targets",
    "behaviour",
    "console",
    "telemetry",
    "events",
)


def load_configuration(folder: Path) -> Configuration:
    """Read and check a folder. Raises Mistakes; reads files, touches nothing."""
    found: list[Mistake] = []
    text = read_text(folder / FILE, FILE)
    root = Reader(parsed(FILE, text), found)
    settings, classes = _settings(root, folder)
    trust = read_trust(root.table("trust"), folder, settings)
    agents = _agents(root, settings, trust)
    check_agents(root, agents.values(), trust)
    servers, server_facts = _servers(root, folder, classes)
    egresses, egress_tables = read_egresses(root, folder, {*server_facts, *RESERVED_SERVERS})
    for name, table in egress_tables.items():
        server_facts[name] = ServerFacts(defaults=read_entry(table, classes, whole=True))
    known = server_facts
    entries = {name: read_entry(table, classes) for name, table in root.tables("tools") if _known_server(root, "tools", name, known)}
    detected = read_detected(root.table("data").table("detected"), classes)
    access = read_access(root, folder, agents, settings.host)
    signals = read_signals(root, folder, settings.issuer)
    tokens = read_tokens(root)
    console = read_console(root, folder)
    sign_in = read_sign_in(root, folder, agents, console=console.elsewhere)
    targets = read_targets(root, folder, TARGET_KINDS)
    root.done(*_TABLES)
    task_types: dict[str, TaskType] = {}
    tasks, (policies, bundle) = read_texts(folder, "tasks", ".toml", found), _policies(folder, settings, found)
    names = {Path(name).stem for name in tasks}
    consent = read_consent(root, folder, classes, servers, names)
    for name, task_text in tasks.items():
        try:
            if task_text is not None:
                stem = Path(name).stem
                table = Reader(parsed(name, task_text), found)
                kind = read_task_type(table, stem, classes, known, agents)
                task_types[stem] = replace(kind, leases=read_leases(table, kind, targets, TARGET_KINDS))
        except Mistake as mistake:
            found.append(mistake)
    upstream = [server for server in servers.values() if not isinstance(server, PythonServer)]
    check_asked(root, upstream, list(task_types.values()), targets, TARGET_KINDS)
    check_asked(root, [http_server(one) for one in egresses.values()], list(task_types.values()), targets, TARGET_KINDS, table="egress")
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
        servers={name: server for name, server in servers.items() if not isinstance(server, PythonServer)},
        python_servers={name: server for name, server in servers.items() if isinstance(server, PythonServer)},
        catalog=Catalog(servers=server_facts, entries=entries, detected=detected),
        task_types=task_types,
        consent=consent,
        signals=signals,
        policies={name: policy for name, policy in policies.items() if policy is not None},
        digest=digest_json(
            {FILE: text, **tasks, **console.policies, **{f"access/{one.name}": one.digest for one in access.applications.values()}}
        ),
        access=access,
        tokens=tokens,
        sign_in=sign_in,
        bundle=bundle,
        trust=trust,
        targets=targets,
        console=console,
        egresses=egresses,
    )


def load_agents(folder: Path) -> tuple[Settings, dict[str, Agent]]:
    """Settings and declared agents alone: policies, task types and servers may be broken meanwhile. Raises Mistakes."""
    found: list[Mistake] = []
    root = Reader(parsed(FILE, read_text(folder / FILE, FILE)), found)
    settings, _ = _settings(root, folder)
    agents = _agents(root, settings, read_trust(root.table("trust"), folder, settings))
    if found:
        raise Mistakes(found)
    return settings, agents


def _policies(folder: Path, settings: Settings, found: list[Mistake]) -> tuple[dict[str, str | None], Bundle | None]:
    """Policies of the folder, or of the signed bundle that takes their place. Raises Refusal where its signature does not hold."""
    if settings.bundle is None:
        return read_texts(folder, "policies", ".cedar", found), None
    try:
        bundle = read_bundle(settings.bundle, settings.bundle_keys)
    except Mistake as mistake:
        found.append(mistake)
        return {}, None
    return dict(bundle.policies), bundle


def _settings(root: Reader, folder: Path) -> tuple[Settings, DataClasses]:
    server, storage, trust, data, approvals = (root.table(key) for key in ("server", "storage", "trust", "data", "approvals"))
    policies = root.table("policies")
    bundle = policies.value("bundle", str, "")
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
    svid_ttl = trust.duration("svid_ttl", defaults.svid_ttl, _TTL_MAX)
    metrics = server.value("metrics", str, defaults.metrics)
    if metrics not in METRICS_FOR:
        server.wrong(f"metrics = {metrics[:40]!r}", ", ".join(METRICS_FOR), "metrics")
    settings = Settings(
        folder=folder,
        host=host,
        port=port,
        allowed_hosts=(*defaults.allowed_hosts, *server.texts("allowed_hosts")),
        allowed_origins=server.texts("allowed_origins"),
        metrics=metrics,
        issuer=server.value("issuer", str, f"{'https' if 'tls' in server.data else 'http'}://{host}:{port}").rstrip("/"),
        tls=_tls(server, folder),
        storage=folder / storage.value("path", str, str(defaults.storage)),
        storage_url=_storage_url(storage),
        keys=folder / trust.value("keys", str, str(defaults.keys)),
        key_encryption=read_key_encryption(trust),
        trust_domain=domain,
        svid_ttl=svid_ttl,
        token_ttl=trust.duration("token_ttl", defaults.token_ttl, _TTL_MAX),
        approval_ttl=approvals.duration("ttl", defaults.approval_ttl, DEADLINE_MAX),
        ledger=read_ledger(root.table("ledger")),
        bundle=folder / bundle if bundle else None,
        bundle_keys=_bundle_keys(policies, needed=bool(bundle)),
        workload=read_workload_settings(root, folder, svid_ttl),
        behaviour=read_behaviour(root, folder),
        telemetry=read_telemetry(root),
        events=read_events(root, folder),
        limits=Limits(**bounds),
    )
    for table in (server, storage, limits, policies):
        table.done()
    trust.done("issuers", "domains")
    data.done("detected")
    return settings, DataClasses(tuple(names))


def _tls(server: Reader, folder: Path) -> tuple[Path, Path] | None:
    if "tls" not in server.data:
        return None
    table = server.table("tls")
    files = [table.value(key, str, "") for key in ("certificate", "key")]
    if not all(files):
        table.wrong("tls needs certificate and key", 'tls = { certificate = "tls.pem", key = "tls.key" }')
    table.done()
    return folder / files[0], folder / files[1]


def _bundle_keys(policies: Reader, *, needed: bool) -> tuple[Verifier, ...]:
    keys = []
    for text in policies.texts("bundle_keys"):
        try:
            keys.append(Verifier.parse(text))
        except Mistake as mistake:
            policies.wrong(mistake.message, "`remit policy bundle` prints the key it signs with", "bundle_keys")
    if needed and not keys:
        policies.wrong("nobody may sign the bundle", 'bundle_keys = ["NAME+ID+KEY"]', "bundle_keys")
    return tuple(keys)


def _storage_url(storage: Reader) -> str:
    """A PostgreSQL URL, ``${NAME}`` taken from the environment."""
    text = storage.value("url", str, "")
    url = fill(storage, text, "url")
    if url and not url.startswith(("postgresql://", "postgres://")):
        storage.wrong("url is no PostgreSQL address", 'postgresql://user@host/database, or path = "…" for SQLite', "url")
    return url


def _agents(root: Reader, settings: Settings, trust: TrustRules) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    for name, table in root.tables("agents"):
        text = table.value("spiffe_id", str, f"spiffe://{settings.trust_domain}/agent/{name}")
        try:
            spiffe_id = SpiffeId.parse(text)
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint, "spiffe_id")
            continue
        if spiffe_id.trust_domain not in {settings.trust_domain, *trust.domains}:
            hint = f'spiffe://{settings.trust_domain}/…, or a table [trust.domains."{spiffe_id.trust_domain}"]'
            table.wrong(f"{spiffe_id} is not of this trust domain, nor of a trusted one", hint, "spiffe_id")
        if spiffe_id in {agent.spiffe_id for agent in agents.values()}:
            table.wrong(f"two agents are {spiffe_id}", "one identity an agent", "spiffe_id")
        tasks, description = table.texts("tasks"), table.value("description", str, "")
        keys, default = read_keys(table), read_default_task(table, tasks)
        manifest = placed(read_source(table.table("manifest")), settings.folder)
        attest = read_process_rule(table)
        agents[name] = Agent(
            name=name,
            spiffe_id=spiffe_id,
            tasks=tasks,
            description=description,
            keys=keys,
            default_task=default,
            manifest=manifest,
            attest=attest,
        )
        table.done()
    check_ambiguity(root, agents)
    return agents


def _servers(root: Reader, folder: Path, classes: DataClasses) -> tuple[dict[str, AnyServer], dict[str, ServerFacts]]:
    servers: dict[str, AnyServer] = {}
    facts: dict[str, ServerFacts] = {}
    for name, table in root.tables("servers"):
        if not NAME.match(name) or name in RESERVED_SERVERS:
            table.wrong(f"{name!r} cannot be the name of a server", "a-z, 0-9, '-', '_'; not 'resources' or 'prompts'")
            continue
        server = _python_server(table, name, folder) if "python" in table.data else _mcp_server(table, name, folder)
        if server is not None:
            servers[name] = server
        believed = table.value("trust_annotations", bool, default=False)
        facts[name] = ServerFacts(defaults=read_entry(table, classes, whole=True), trust_annotations=believed)
    return servers, facts


def _python_server(table: Reader, name: str, folder: Path) -> PythonServer | None:
    modules = table.texts("python")
    if not modules or not all(_MODULE.match(module) for module in modules):
        table.wrong("python must name the modules that declare its tools", 'python = ["tools.bank"]', "python")
        return None
    return PythonServer(name=name, modules=modules, folder=str(folder))


def _mcp_server(table: Reader, name: str, folder: Path) -> StdioServer | HttpServer | None:
    command, url = table.value("command", str, ""), table.value("url", str, "")
    arguments, environment = tuple(fill(table, text, "args") for text in table.texts("args")), _filled(table, "env", _ENV_NAME)
    headers, cwd = _filled(table, "headers", _HEADER_NAME), table.value("cwd", str, "")
    txn_token = table.value("txn_token", bool, default=False)
    if any(LEASED.search(text) for text in (*arguments, url)):
        table.wrong("a lease goes into env or headers only", 'env = { DATABASE_URL = "{lease:NAME.url}" }')
    if any(found[1] == "lease-file" for text in headers.values() for found in LEASED.finditer(text)):
        table.wrong("a file is no header", 'headers = { Authorization = "Bearer {lease:NAME.password}" }', "headers")
    for key in (("headers", "txn_token") if command else ("args", "env", "cwd")) if bool(command) != bool(url) else ():
        if key in table.data:
            table.wrong(f"{key} means nothing here", "args, env and cwd go with command, headers and txn_token with url", key)
    if bool(command) == bool(url):
        table.wrong(f"server {name} needs either command or url", 'command = "npx", args = […], or url = "https://…", or python = […]')
        return None
    if command:
        where = str((folder / cwd).resolve()) if cwd else None
        return StdioServer(name=name, command=(command, *arguments), environment=environment, folder=where)
    filled = fill(table, url, "url")
    if not _HTTP.match(filled):
        table.wrong(f"url = {url!r}", "http:// or https://, then a host", "url")
        return None
    return HttpServer(name=name, url=filled, headers=headers, txn_token=txn_token)


def _filled(table: Reader, key: str, names: re.Pattern[str]) -> dict[str, str]:
    """A table of strings with ``${NAME}`` taken from the environment."""
    values: dict[str, str] = {}
    inner = table.table(key)
    for name in inner.data:
        values[name] = fill(inner, inner.value(name, str, ""), name)
        if not names.match(name) or any(sign in values[name] for sign in "\0\r\n"[: 3 if key == "headers" else 1]):
            inner.wrong(f"{name!r} cannot be passed on", "a plain name; a value without NUL, in a header without line ends", name)
    return values


def _known_server(root: Reader, key: str, name: str, servers: Collection[str]) -> bool:
    server, slash, rest = name.partition("/")
    if server in servers and slash and rest:
        return True
    root.wrong(f"{name!r} names no tool of a configured server", f'"server/tool" with server one of: {", ".join(servers)}', key, name)
    return False


def environment_names(folder: Path) -> frozenset[str]:
    """Variables that servers take from the environment: an agent's process does not get them."""
    return frozenset(VARIABLE.findall(read_text(folder / FILE, FILE)))

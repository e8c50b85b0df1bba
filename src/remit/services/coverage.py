"""What of an installation is under policy, read from its configuration: agents, servers, tools, targets, task types, and the gaps; and the
settings that are in force, in words, for reports.

Rules: everything is read from the configuration as it was loaded; nothing is asserted of what could not be read. A value of a setting that
may be a secret is never told: names and numbers only. Left out: what exists outside of the configuration (``remit scan`` looks for it),
and what was really used (the ledger tells).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.drivers.targets.kinds import TARGET_KINDS
from remit.logic.grants import demands
from remit.logic.rulebook import says_it_changes
from remit.model.catalog import Effect, Kind, Sends
from remit.model.manifest import Follows
from remit.model.report import Coverage, Covered, Gap, LiveSetting
from remit.model.token import Bound
from remit.services.equipment import LEASED
from remit.services.reading import FILE, VARIABLE, parsed, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from remit.logic.rulebook import Rulebook
    from remit.model.catalog import ToolFacts
    from remit.model.task_type import TaskType
    from remit.settings import Configuration

_NAMED_MAX = 100
_WHOLE = "*"
_KINDS = {"servers": "server", "egress": "egress"}  # tables of remit.toml whose entries reach something


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a server or an egress is given, by name. ``variables``: of remit's own environment; ``shown``: those of them that stand in its
    command line or its address, where process lists and logs show them; ``plain``: variables and headers whose values stand in
    ``remit.toml``; ``table``: where it is declared.
    """

    variables: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    table: str = "servers"


def live_settings(configuration: Configuration, rulebook: Rulebook, given: Mapping[str, Given]) -> dict[str, LiveSetting]:
    """Settings by key. ``given``: what servers are given beside leases."""
    told = (
        *_of_rules(configuration, rulebook),
        *_of_tasks(configuration),
        *_of_identity(configuration),
        *_of_targets(configuration, given),
        *_of_people(configuration),
    )
    return {one.key: one for one in told}


def coverage_of(configuration: Configuration, rulebook: Rulebook, given: Mapping[str, Given]) -> Coverage:
    """What is under policy and what is not."""
    tools = _tools(rulebook)
    granted = {tool for tool in tools if any(_grants(kind, tools[tool]) for kind in configuration.task_types.values())}
    servers = _servers(configuration)
    pinned = {tool.server for tool in rulebook.pinned.values()}
    agents = [agent for agent in configuration.agents.values() if agent.tasks]
    leased = [name for name, target in configuration.targets.items() if not TARGET_KINDS[target.kind].stands]
    return Coverage(
        configured=(
            _covered("agent", configuration.agents, [agent.name for agent in agents]),
            _covered("server", servers, [name for name in servers if name in pinned]),
            _covered("tool", tools, [tool for tool in tools if _stated(configuration, tool)]),
            _covered("tool in a grant", tools, granted),
            _covered("target", configuration.targets, leased),
            _covered("task type", configuration.task_types, configuration.task_types if configuration.policies else ()),
        ),
        gaps=tuple(_gaps(configuration, rulebook, given)),
    )


def declared_names(configuration: Configuration, rulebook: Rulebook) -> dict[str, tuple[str, ...]]:
    """What is declared, as the ledger names it: by kind of ``logic/tally.Names``."""
    return {
        "agent": tuple(agent.spiffe_id.text for agent in configuration.agents.values()),
        "task_type": tuple(configuration.task_types),
        "tool": tuple(rulebook.pinned),
        "target": tuple(configuration.targets),
    }


def _gaps(configuration: Configuration, rulebook: Rulebook, given: Mapping[str, Given]) -> Iterable[Gap]:
    if not configuration.policies:
        yield Gap(what="there is no policy, so nothing is permitted", where="policies/", mend="write policies/*.cedar")
    for name in sorted({*configuration.servers, *configuration.python_servers} - {tool.server for tool in rulebook.pinned.values()}):
        yield Gap(
            what=f"server {name} is not pinned: nothing of it is known or permitted", where=f"servers.{name}", mend=f"remit pin {name}"
        )
    for name, one in given.items():
        if one.variables:
            told = ", ".join(one.variables)
            mend = "lease it: [targets.NAME], [[lease]] and {lease:NAME.part}; write what is no secret plainly"
            what = f"{_KINDS[one.table]} {name} is given {told} from the environment: it outlives every task"
            yield Gap(what=what, where=f"{one.table}.{name}", mend=mend)
        if one.plain:
            told = ", ".join(one.plain)
            mend = "if one of them is a secret, lease it; if not, nothing need be done"
            yield Gap(
                what=f"{_KINDS[one.table]} {name} is given {told} as plain values of remit.toml", where=f"{one.table}.{name}", mend=mend
            )
    for name, target in configuration.targets.items():
        if TARGET_KINDS[target.kind].stands:
            what = f"target {name} has one secret for all tasks, which outlives them"
            yield Gap(what=what, where=f"targets.{name}", mend="a kind of target that mints, where the system has one")
    tools = _tools(rulebook)
    for tool in sorted(tools):
        if not _stated(configuration, tool):
            what = f"nothing is stated of {tool}: it counts as irreversible, of the highest class, untrusted and external"
            yield Gap(what=what, where=f'tools."{tool}"', mend="state effect, data_class, trust and sends")
        elif tools[tool].effect is Effect.READ and says_it_changes(rulebook.pinned[tool].annotations):
            what = f"the catalog calls {tool} a read, and its own server says that it changes something"
            yield Gap(
                what=what, where=f'tools."{tool}"', mend="state the effect that it has; where the server is wrong, nothing need be done"
            )
    for kind in configuration.task_types.values():
        for line in kind.grants:
            if line.kind is Kind.TOOL and line.name == _WHOLE:
                what = f"task type {kind.name} grants every tool of {line.server}, whatever it is given"
                yield Gap(what=what, where=f"tasks/{kind.name}.toml", mend=f"`remit policy mine {kind.name}` proposes what it uses")
    for agent in configuration.agents.values():
        if not agent.tasks:
            yield Gap(
                what=f"agent {agent.name} may be given no task",
                where=f"agents.{agent.name}.tasks",
                mend="name its task types, or remove it",
            )


def _of_rules(configuration: Configuration, rulebook: Rulebook) -> Iterable[LiveSetting]:
    servers = _servers(configuration)
    pinned = {tool.server for tool in rulebook.pinned.values()}
    tools = _tools(rulebook)
    stated = [tool for tool in tools if _stated(configuration, tool)]
    settings = configuration.settings
    yield _number("policies", rulebook.policies.ids, f"{len(rulebook.policies.ids)} policies, set {rulebook.policies.digest}")
    yield LiveSetting(key="policies.bundle", value=str(settings.bundle.name) if settings.bundle else "none", on=settings.bundle is not None)
    yield _names("servers", servers)
    yield _names("servers pinned", [name for name in servers if name in pinned])
    yield _number("tools", tools, f"{len(tools)} pinned")
    yield _number("tools with a stated class", stated, f"{len(stated)} of {len(tools)}")
    yield _names("tools that send outside", [name for name, tool in tools.items() if tool.sends is Sends.EXTERNAL])
    yield _names("tools that cannot be undone", [name for name, tool in tools.items() if tool.effect is Effect.IRREVERSIBLE])
    yield LiveSetting(key="data.classes", value=" < ".join(configuration.classes.names))
    yield LiveSetting(key="storage", value="PostgreSQL" if settings.storage_url else "SQLite")
    yield _flag("ledger.keep_values", on=settings.ledger.keep_values)
    yield _names("ledger.witnesses", [witness.name for witness in settings.ledger.witnesses])
    yield _names("access.applications", configuration.access.applications)
    for limit in ("leases_per_task", "records_per_task", "calls_under_way"):
        yield LiveSetting(key=f"limits.{limit}", value=str(getattr(settings.limits, limit)))


def _of_tasks(configuration: Configuration) -> Iterable[LiveSetting]:
    kinds = configuration.task_types.values()
    lines = [(kind, line) for kind in kinds for line in kind.grants if line.kind is Kind.TOOL]
    yield _names("task types", configuration.task_types)
    yield _names("grants that narrow arguments", [f"{kind.name}: {line.server}/{line.name}" for kind, line in lines if line.arguments])
    yield _names("grants of everything", [f"{kind.name}: {line.server}/*" for kind, line in lines if line.name == _WHOLE])
    yield _names(
        "grants that demand origins", [f"{kind.name}: {line.server}/{line.name}" for kind, line in lines if demands(line.arguments)]
    )
    yield _names("data ceilings", [f"{kind.name}: {kind.data_ceiling}" for kind in kinds])
    yield _names("budgets", [f"{kind.name}: {kind.budget.calls} calls" for kind in kinds])
    yield _names("deadlines", [f"{kind.name}: {int(kind.deadline.total_seconds())} s" for kind in kinds])
    yield _names("task types that are watched", [kind.name for kind in kinds if kind.watched])
    yield _names("task types with leases", [kind.name for kind in kinds if kind.leases])
    yield _names("task types that may be delegated", [kind.name for kind in kinds if kind.delegable])
    demanded = [f"{kind.name}: {part}" for kind in kinds for part in kind.required]
    demanded += [f"agent {agent.name}: {part}" for agent in configuration.agents.values() for part in agent.manifest.required]
    yield _names("manifest parts demanded", demanded)
    recorded = [f"{kind.name}: {part}" for kind in kinds for part, follows in kind.drift.items() if follows == Follows.RECORD]
    yield _names("drift that is only recorded", recorded)


def _of_identity(configuration: Configuration) -> Iterable[LiveSetting]:
    settings, tokens = configuration.settings, configuration.tokens
    yield _names("agents", configuration.agents)
    yield LiveSetting(key="tokens.bound", value=tokens.bound.value, on=tokens.bound is not Bound.NONE)
    yield LiveSetting(key="tokens.rotate_days", value=str(tokens.rotate_days), on=bool(tokens.rotate_days))
    yield LiveSetting(key="trust.token_ttl", value=f"{int(settings.token_ttl.total_seconds())} s")
    yield LiveSetting(key="trust.svid_ttl", value=f"{int(settings.svid_ttl.total_seconds())} s")
    yield _names("trust.issuers", configuration.trust.issuers)
    yield _flag("spiffe.socket", on=settings.workload.socket is not None)
    yield _names("signals.transmitters", configuration.signals.transmitters)
    yield _names("signals.receivers", configuration.signals.receivers)


def _of_targets(configuration: Configuration, given: Mapping[str, Given]) -> Iterable[LiveSetting]:
    yield _names("targets", [f"{name} ({target.kind})" for name, target in configuration.targets.items()])
    yield _names("targets that stand", [name for name, target in configuration.targets.items() if TARGET_KINDS[target.kind].stands])
    yield _names(
        "servers with secrets of the environment", [f"{name}: {', '.join(one.variables)}" for name, one in given.items() if one.variables]
    )


def _of_people(configuration: Configuration) -> Iterable[LiveSetting]:
    consent = configuration.consent
    yield LiveSetting(key="approvals.ttl", value=f"{int(configuration.settings.approval_ttl.total_seconds())} s")
    yield _number("approvers", consent.approvers, f"{len(consent.approvers)} configured")
    eyes = consent.four_eyes if consent.four_eyes is not None else bool(consent.approvers)
    yield _flag("approvals.four_eyes", on=eyes)
    yield _flag("approvals.passkey", on=consent.passkey or any(rule.passkey for rule in consent.rules))
    console = configuration.console
    roles = ", ".join(role.value for role, entries in console.roles.items() if entries) or "none"
    yield LiveSetting(
        key="console.roles", value=roles if console.elsewhere else f"{roles}: accounts of this machine only", on=console.elsewhere
    )
    yield _flag("sign_in", on=configuration.sign_in is not None)


def _servers(configuration: Configuration) -> dict[str, object]:
    """Whatever has tools, by name."""
    return {**configuration.servers, **configuration.python_servers, **configuration.egresses}


def _tools(rulebook: Rulebook) -> dict[str, ToolFacts]:
    found = {tool.id: rulebook.tool(Kind.TOOL, tool.server, tool.name) for tool in rulebook.pinned.values()}
    return {name: facts for name, facts in found.items() if facts is not None}


def _grants(kind: TaskType, tool: ToolFacts) -> bool:
    return any(
        line.kind is Kind.TOOL and line.server == tool.server and (line.name in {tool.name, _WHOLE} or tool.name.startswith(line.name[:-1]))
        for line in kind.grants
        if line.name == tool.name or line.name.endswith(_WHOLE)
    )


def _stated(configuration: Configuration, tool: str) -> bool:
    """Whether the catalog says effect and class of a tool, for itself or for its whole server."""
    catalog, server = configuration.catalog, tool.partition("/")[0]
    known = catalog.servers.get(server)
    entries = [entry for name, entry in catalog.entries.items() if name == tool or (name.endswith(_WHOLE) and tool.startswith(name[:-1]))]
    states = [*entries, *([known.defaults] if known else [])]
    effect = any(entry.effect is not None for entry in states) or bool(known and known.trust_annotations)
    return effect and any(entry.data_class is not None for entry in states)


def _covered(kind: str, known: Iterable[str], under: Iterable[str]) -> Covered:
    names, good = list(known), set(under)
    return Covered(kind=kind, known=len(names), under_policy=len(good), names=tuple(sorted(set(names) - good)[:_NAMED_MAX]))


def _names(key: str, names: Iterable[str]) -> LiveSetting:
    found = list(names)
    more = f" and {len(found) - _NAMED_MAX} more" if len(found) > _NAMED_MAX else ""
    return LiveSetting(key=key, value=", ".join(found[:_NAMED_MAX]) + more if found else "none", on=bool(found))


def _number(key: str, found: Iterable[object], value: str) -> LiveSetting:
    return LiveSetting(key=key, value=value, on=any(True for _ in found))


def _flag(key: str, *, on: bool) -> LiveSetting:
    return LiveSetting(key=key, value="on" if on else "off", on=on)


def given_to_servers(folder: Path) -> dict[str, Given]:
    """What ``remit.toml`` gives each server and each egress beside leases. Raises Mistake."""
    declared = parsed(FILE, read_text(folder / FILE, FILE)).data
    return {name: _given(kind, table) for kind in _KINDS for name, table in _table(declared, kind).items() if isinstance(table, dict)}


def _given(kind: str, table: Mapping[str, object]) -> Given:
    values = {**_table(table, "env"), **_table(table, "headers")}
    plain = sorted(key for key, value in values.items() if not VARIABLE.search(str(value)) and not LEASED.search(str(value)))
    return Given(
        variables=tuple(dict.fromkeys(VARIABLE.findall(json.dumps(table, default=str)))),
        shown=tuple(dict.fromkeys(VARIABLE.findall(json.dumps([table.get("args"), table.get("url")], default=str)))),
        plain=tuple(plain),
        table=kind,
    )


def _table(table: Mapping[str, object], key: str) -> dict[str, object]:
    inner = table.get(key, {})
    return inner if isinstance(inner, dict) else {}

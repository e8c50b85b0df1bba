"""Policies looked at as a whole: names that nothing has, rules that no call can reach, permits that a forbid always undoes; and leases
of delegable task types that cannot be divided. Pure.

Rules: only what can be proved is said. A scope is held against the catalog, the pinned tools, the agents and the task types there are;
a forbid undoes a permit where its scope covers the permit's and each of its conditions is one of the permit's. A name that means nothing
is an error (a misspelt forbid forbids nothing); what cannot be reached is a warning. Left out: what Cedar's own validation finds
(``logic/policy.py``), and whether two conditions that are written otherwise mean the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from remit.errors import Place
from remit.logic.cedar_schema import DELEGATE, ENTITY_TYPES, PROMPTS_GET, RESOURCES_READ
from remit.model.behaviour import Signal
from remit.model.catalog import Effect, Kind, Sends, Trust

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from remit.logic.policy import Policies, Policy
    from remit.model.catalog import ToolFacts
    from remit.model.task_type import TaskType

Json = dict[str, Any]
_GROUPS = frozenset(effect.value for effect in Effect)
_ATTRIBUTES: dict[str, frozenset[str]] = {
    "effect": frozenset(effect.value for effect in Effect),
    "trust": frozenset(trust.value for trust in Trust),
    "sends": frozenset(sends.value for sends in Sends),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one policy, or one ``lease NAME``. ``level``: error or warning. ``hint``: how to mend it ("" where nothing helps)."""

    level: str
    code: str
    policy: str
    place: Place
    text: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"\n  → {self.hint}" if self.hint else ""
        return f"{self.place}: {self.level}: {self.policy}: {self.text}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that there is. ``tools``: pinned ones. ``pinned``: servers that were. ``agents``: SPIFFE ID → task types. ``types``: of tasks."""

    tools: Mapping[str, ToolFacts]
    servers: Collection[str]
    pinned: Collection[str]
    agents: Mapping[str, Collection[str]]
    types: Collection[str]
    classes: Collection[str]


def review(policies: Policies, known: Known) -> tuple[Finding, ...]:
    """What is to be said about a set that is valid by itself, in the order of files and lines."""
    parts = policies.parts
    found: list[Finding] = []
    for part in parts:
        unknown = list(_unknown(part, known))
        found += unknown
        if not unknown:
            found += _unreachable(part, known)
        found += _contradicts_itself(part)
    found += _undone(parts, known)
    return tuple(sorted(found, key=lambda one: (one.place.file, one.place.line)))


def undivided(types: Iterable[TaskType], divisible: Mapping[str, Collection[str]]) -> tuple[Finding, ...]:
    """Leases that a child task gets whole or not at all, although they could be in parts. ``divisible``: lists of a part, by target."""
    return tuple(
        Finding(
            level="warning",
            code="undivided",
            policy=f"lease {lease.name}",
            place=lease.place or Place(file=f"tasks/{kind.name}.toml", key="lease"),
            text="it has no parts and the task type may be delegated: a child whose grant needs it gets all of it together with the whole "
            "lines of its parent's grant, or is refused (lease_not_divisible)",
            hint=f"[[lease.part]] with the tools that need it, and of its scope: {', '.join(sorted(divisible[lease.target]))}",
        )
        for kind in types
        if kind.delegable
        for lease in kind.leases
        if lease.scope and not lease.parts and divisible.get(lease.target)
    )


def _finding(part: Policy, level: str, code: str, text: str, hint: str = "") -> Finding:
    return Finding(level=level, code=code, policy=part.id, place=part.place, text=text, hint=hint)


def _unknown(part: Policy, known: Known) -> Iterator[Finding]:
    for kind, name in dict.fromkeys(_entities(part.body)):
        names = _names(kind, name, known)
        if names is not None and name not in names:
            yield _finding(part, "error", "unknown_name", f"there is no {kind} {name!r}", _near(name, names))
    for what, word, words in dict.fromkeys(_literals(part.body["conditions"], known)):
        if word not in words:
            yield _finding(part, "error", "unknown_name", f"{what} is never {word!r}", _near(word, words))


def _names(kind: str, name: str, known: Known) -> frozenset[str] | None:
    """What may be named of a kind; ``None`` where that is not known."""
    server = name.partition("/")[0]
    if kind == "Server":
        return frozenset(known.servers)
    if kind == "Delegate":
        return frozenset(known.agents)
    if kind == "Tool" and (server in known.pinned or server not in known.servers):
        return frozenset(known.tools)
    if kind in {"Resource", "Prompt"} and server not in known.servers:
        return frozenset(f"{one}/…" for one in known.servers)
    return None


def _near(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(sorted(known)[:12]) or 'nothing'}"


def _unreachable(part: Policy, known: Known) -> Iterator[Finding]:
    principal, action, resource = part.body["principal"], part.body["action"], part.body["resource"]
    empty = [name for name in _action_names(action) if name in _GROUPS and not _members(name, known)]
    if empty and len(empty) == len(_action_names(action)):
        words = " or ".join(f"{name!r}" for name in empty)
        yield _finding(part, "warning", "unreachable", f"no tool has the effect {words}, so it never applies", "see effect in remit.toml")
    elif _action_names(action) != (DELEGATE,) and not any(_reaches(action, resource, tool, known) for tool in _things(known)):
        yield _finding(part, "warning", "unreachable", "no tool, resource or prompt has both its action and its resource")
    named = _named_principal(principal)
    if named and named not in known.agents:
        hint = _near(named, known.agents)
        yield _finding(part, "warning", "unreachable", f"no agent {named} is declared, so it never applies", hint)
    elif named and not known.agents[named]:
        yield _finding(part, "warning", "unreachable", f"agent {named} may be given no task", "see tasks in [agents.…] of remit.toml")
    for _, word, _ in _literals(part.body["conditions"], known, only_types=True):
        given = any(word in tasks for tasks in known.agents.values())
        if word in known.types and not given:
            yield _finding(part, "warning", "unreachable", f"no agent may be given a task of the type {word!r}")


def _contradicts_itself(part: Policy) -> Iterator[Finding]:
    clauses = _conjuncts(part.body["conditions"])
    if any(f"!{clause}" in clauses for clause in clauses):
        yield _finding(part, "warning", "contradictory", "it demands something and its opposite, so it never applies")
    wanted: dict[str, str] = {}
    for clause in clauses:
        if clause.startswith("!") or not isinstance(equal := json.loads(clause).get("=="), dict) or "Value" not in equal["right"]:
            continue
        left, right = _text(equal["left"]), _text(equal["right"])
        if wanted.setdefault(left, right) != right:
            yield _finding(part, "warning", "contradictory", "it demands that one value equals two others, so it never applies")
            return


def _undone(parts: tuple[Policy, ...], known: Known) -> Iterator[Finding]:
    forbids = [part for part in parts if part.body["effect"] == "forbid"]
    for part in parts:
        if part.body["effect"] != "permit":
            continue
        clauses = _conjuncts(part.body["conditions"])
        for forbid in forbids:
            if _conjuncts(forbid.body["conditions"]) <= clauses and _covers(forbid.body, part.body, known):
                text = f"{forbid.id} ({forbid.place}) forbids all that it permits"
                yield _finding(part, "warning", "contradictory", text, "narrow the forbid, or take the permit away")
                break


def _covers(wide: Json, narrow: Json, known: Known) -> bool:
    """Whether one scope matches whatever the other matches."""
    return (
        _principal_covers(wide["principal"], narrow["principal"])
        and _action_covers(wide["action"], narrow["action"], known)
        and _resource_covers(wide["resource"], narrow["resource"], known)
    )


def _principal_covers(wide: Json, narrow: Json) -> bool:
    if wide["op"] == "All" or wide == narrow or (wide["op"] == "is" and wide["entity_type"] == "Agent" and "in" not in wide):
        return True
    named = _named_principal(wide)
    return bool(named) and named == _named_principal(narrow)


def _action_covers(wide: Json, narrow: Json, known: Known) -> bool:
    if wide["op"] == "All":
        return True
    if narrow["op"] == "All":
        return False
    return _expanded(narrow, known) <= _expanded(wide, known)


def _resource_covers(wide: Json, narrow: Json, known: Known) -> bool:
    if wide["op"] == "All" or wide == narrow:
        return True
    narrow_type, narrow_id = _resource_type(narrow), _uid(narrow.get("entity"))
    if wide["op"] == "is" and "in" not in wide:
        return bool(narrow_type == wide["entity_type"])
    inside = _uid(wide["in"]["entity"] if wide["op"] == "is" else wide.get("entity"))
    if wide["op"] == "==" or inside is None or inside[0] != "Server":
        return False
    if wide["op"] == "is" and narrow_type != wide["entity_type"]:
        return False
    if narrow["op"] == "==" and narrow_id is not None:
        tool = known.tools.get(narrow_id[1]) if narrow_id[0] == "Tool" else None
        return tool is not None and tool.server == inside[1]
    held = _uid(narrow["in"]["entity"]) if narrow["op"] == "is" and "in" in narrow else narrow_id
    return held == inside


def _resource_type(constraint: Json) -> str:
    if constraint["op"] == "is":
        return str(constraint["entity_type"])
    uid = _uid(constraint.get("entity"))
    return uid[0] if uid is not None and constraint["op"] == "==" else ""


def _expanded(action: Json, known: Known) -> frozenset[str]:
    names: set[str] = set()
    for name in _action_names(action):
        names |= {name, *_members(name, known)} if name in _GROUPS else {name}
    return frozenset(names)


def _members(group: str, known: Known) -> frozenset[str]:
    """Actions of an effect's group. Resources and prompts are always read."""
    members = {name for name, tool in known.tools.items() if tool.effect.value == group}
    return frozenset({*members, RESOURCES_READ, PROMPTS_GET} if group == Effect.READ.value and known.servers else members)


Thing = tuple[Kind, str, str]  # kind, server, name ("" : any)


def _things(known: Known) -> Iterator[Thing]:
    for tool in known.tools.values():
        yield Kind.TOOL, tool.server, tool.id
    for server in known.servers:
        yield Kind.RESOURCE, server, ""
        yield Kind.PROMPT, server, ""
        if server not in known.pinned:
            yield Kind.TOOL, server, ""


def _reaches(action: Json, resource: Json, thing: Thing, known: Known) -> bool:
    kind, server, name = thing
    own = {Kind.TOOL: name, Kind.RESOURCE: RESOURCES_READ, Kind.PROMPT: PROMPTS_GET}[kind]
    if action["op"] != "All" and own and own not in _expanded(action, known):
        return False
    uid = _uid(resource.get("entity"))
    if resource["op"] == "All":
        return True
    if resource["op"] == "is":
        inside = _uid(resource["in"]["entity"]) if "in" in resource else None
        return bool(resource["entity_type"] == ENTITY_TYPES[kind]) and inside in {None, ("Server", server), (ENTITY_TYPES[kind], name)}
    if uid == ("Server", server):
        return bool(resource["op"] == "in")
    return uid is not None and uid[0] == ENTITY_TYPES[kind] and (uid[1] == name or (not name and uid[1].startswith(f"{server}/")))


def _named_principal(constraint: Json) -> str:
    inside = constraint.get("in")
    uid = _uid(inside["entity"]) if constraint["op"] == "is" and inside else _uid(constraint.get("entity"))
    return uid[1] if uid is not None and uid[0] == "Agent" else ""


def _action_names(constraint: Json) -> tuple[str, ...]:
    if constraint["op"] == "All":
        return ()
    return tuple(entity["id"] for entity in (constraint.get("entities") or [constraint["entity"]]))


def _uid(entity: Json | None) -> tuple[str, str] | None:
    return (entity["type"], entity["id"]) if entity else None


def _conjuncts(conditions: list[Json]) -> frozenset[str]:
    """The clauses that must all hold, each as its text; ``!`` before one that must not."""
    found: set[str] = set()
    for condition in conditions:
        negated = condition["kind"] == "unless"
        waiting = [condition["body"]]
        while waiting:
            clause = waiting.pop()
            split = "||" if negated else "&&"  # unless {a || b} is when {!a && !b}
            if split in clause:
                waiting += [clause[split]["left"], clause[split]["right"]]
            elif "!" in clause:
                found.add(("" if negated else "!") + _text(clause["!"]["arg"]))
            else:
                found.add(("!" if negated else "") + _text(clause))
    return frozenset(found)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _entities(value: object) -> Iterator[tuple[str, str]]:
    """Tools, resources, prompts, servers and delegates that a policy names, in scope or condition."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.keys() == {"type", "id"} and item["type"] in {"Tool", "Resource", "Prompt", "Server", "Delegate"}:
                yield item["type"], item["id"]
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _literals(conditions: object, known: Known, *, only_types: bool = False) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Texts that conditions hold against what has only certain values: what, the text, and those values."""
    waiting = [conditions]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if not isinstance(item, dict):
            continue
        waiting += item.values()
        for operator in ("==", "!=", "contains"):
            sides = item.get(operator)
            if not isinstance(sides, dict):
                continue
            for left, right in ((sides["left"], sides["right"]), (sides["right"], sides["left"])):
                path, word = _path(left), right.get("Value")
                words = _values(path, known)
                if words is not None and isinstance(word, str) and (path == "context.task.type" or not only_types):
                    yield path, word, words


def _values(path: str, known: Known) -> frozenset[str] | None:
    if path == "context.task.type":
        return frozenset(known.types)
    if path in {"context.labels", "context.data_class", "resource.data_class"}:
        return frozenset(known.classes)
    if path == "context.signals":
        return frozenset(signal.value for signal in Signal)
    if path == "context.sink":
        return _ATTRIBUTES["sends"]
    return _ATTRIBUTES.get(path.removeprefix("resource.")) if path.startswith("resource.") else None


def _path(expression: Json) -> str:
    """``context.task.type`` and the like; "" for anything else."""
    if "Var" in expression:
        return str(expression["Var"])
    dot = expression.get(".")
    if not isinstance(dot, dict):
        return ""
    left = _path(dot["left"])
    return f"{left}.{dot['attr']}" if left else ""

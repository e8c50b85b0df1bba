"""Scenario files (``policies/*.test.toml``): read whole and checked, so that a name that means nothing is a mistake, not a pass.

Form: ``[[scenario]]`` with ``name``, ``task`` (a task type), ``agent``, ``inputs``, ``on_behalf_of``, ``at``; steps
``[[scenario.history]]``; then ``[scenario.call]`` with ``expect``, ``reasons``, ``policies``. All mistakes of all files at once. Left
out: playing them (``services/scenarios.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, Place
from remit.logic.arguments import check_json, make_call
from remit.model.call import Call, Ending
from remit.model.catalog import Kind
from remit.model.decision import Code
from remit.model.task import TaskState
from remit.services.reading import Mistakes, Reader, near, parsed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from remit.settings import Configuration

TEST_ENDING = ".test.toml"
BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
_OUTCOMES = ("allow", "ask", "deny")
_SCENARIOS_MAX, _STEPS_MAX = 1_000, 200
_AFTER_MAX = timedelta(days=30)
_MOVES = (TaskState.SUSPENDED, TaskState.ACTIVE, TaskState.COMPLETED, TaskState.REVOKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A call with what is expected of it, or a move of the task. ``changed``: the server declares the tool otherwise now."""

    place: Place
    call: Call | None
    move: TaskState | None
    after: timedelta
    approved_by: str
    refused_by: str
    expect: str
    reasons: tuple[str, ...]
    policies: tuple[str, ...] | None
    ending: Ending
    result: Any
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario as it was read."""

    name: str
    place: Place
    task: str
    agent: str
    on_behalf_of: str
    inputs: dict[str, Any]
    at: datetime
    steps: tuple[Step, ...]


def read_scenarios(files: Mapping[str, str], configuration: Configuration, policies: Collection[str]) -> tuple[Scenario, ...]:
    """All scenarios of some files. Raises Mistakes."""
    found: list[Mistake] = []
    scenarios: list[Scenario] = []
    for name, text in files.items():
        try:
            root = Reader(parsed(name, text), found)
        except Mistake as mistake:
            found.append(mistake)
            continue
        for number, data in enumerate(_array(root, "scenario")[:_SCENARIOS_MAX]):
            table = Reader(root.toml, found, ("scenario", number), data)
            scenarios.append(_scenario(table, configuration, policies))
        root.done()
    if len(scenarios) > _SCENARIOS_MAX:
        found.append(Mistake(f"more than {_SCENARIOS_MAX:,} scenarios", code="configuration"))
    if found:
        raise Mistakes(found)
    return tuple(scenarios)


def _scenario(table: Reader, configuration: Configuration, policies: Collection[str]) -> Scenario:
    task = table.value("task", str, "")
    if task not in configuration.task_types:
        table.wrong(f"task = {task!r}: there is no such task type", near(task, configuration.task_types), "task")
    able = [name for name, agent in configuration.agents.items() if task in agent.tasks]
    agent = table.value("agent", str, able[0] if able else "")
    if agent not in configuration.agents:
        table.wrong(f"agent = {agent!r}: no such agent is declared", near(agent, configuration.agents), "agent")
    steps = [
        _step_of(Reader(table.toml, table.found, (*table.path, "history", number), data), policies, configuration, last=False)
        for number, data in enumerate(_array(table, "history")[:_STEPS_MAX])
    ]
    call = table.table("call")
    if not call.data:
        table.wrong("a scenario ends with a call", '[scenario.call]\n    tool = "server/tool"\n    expect = "allow"', "call")
    else:
        steps.append(_step_of(call, policies, configuration, last=True))
    scenario = Scenario(
        name=table.value("name", str, "") or f"scenario {int(table.path[-1]) + 1}",
        place=table.toml.place(*table.path),
        task=task,
        agent=agent,
        on_behalf_of=table.value("on_behalf_of", str, "somebody"),
        inputs=table.value("inputs", dict, {}),
        at=_at(table),
        steps=tuple(steps),
    )
    table.done()
    return scenario


def _step_of(table: Reader, policies: Collection[str], configuration: Configuration, *, last: bool) -> Step:
    call = _call(table, configuration, needed=last or "move" not in table.data)
    expect = table.value("expect", str, "" if last else "allow")
    if expect not in _OUTCOMES:
        table.wrong(f"expect = {expect!r}", near(expect, _OUTCOMES), "expect")
    reasons, named = table.texts("reasons"), table.texts("policies")
    for word in reasons:
        if word not in set(Code):
            table.wrong(f"{word!r} is no reason", near(word, [code.value for code in Code]), "reasons")
    for word in named:
        if word not in policies:
            table.wrong(f"there is no policy {word!r}", near(word, policies), "policies")
    move = table.choice("move", TaskState)
    if move is not None and move not in _MOVES:
        table.wrong(f"move = {move.value!r}", near(move.value, [state.value for state in _MOVES]), "move")
    ending = table.choice("ending", Ending)
    table.read.add("result")
    step = Step(
        place=table.toml.place(*table.path),
        call=call,
        move=move,
        after=table.duration("after", timedelta(0), _AFTER_MAX),
        approved_by=table.value("approved_by", str, ""),
        refused_by=table.value("refused_by", str, ""),
        expect=expect,
        reasons=reasons,
        policies=named if "policies" in table.data else None,
        ending=ending or Ending.OK,
        result=_plain(table, "result"),
        changed=table.value("changed", bool, default=False),
    )
    table.done()
    return step


def _call(table: Reader, configuration: Configuration, *, needed: bool) -> Call | None:
    named = [kind for kind in Kind if kind.value in table.data]
    names = [table.value(kind.value, str, "") for kind in named]
    table.read.add("arguments")
    arguments = _plain(table, "arguments") or {}
    if len(named) != 1:
        if needed or named:
            table.wrong("a call names exactly one of tool, resource or prompt", 'tool = "server/tool"')
        return None
    server, slash, name = names[0].partition("/")
    servers = {*configuration.servers, *configuration.python_servers, *configuration.egresses}
    if server not in servers or not slash or not name:
        table.wrong(f"{named[0].value} = {names[0]!r}", near(server, servers), named[0].value)
        return None
    if named[0] is Kind.RESOURCE:
        arguments = {"uri": name}
    elif named[0] is Kind.PROMPT:
        arguments = {"name": name, "arguments": arguments}
    try:
        return make_call(named[0], server, name, arguments)
    except Mistake as mistake:
        table.wrong(mistake.message, mistake.hint, "arguments")
        return None


def _plain(table: Reader, key: str) -> Any:
    """A value as JSON has it: a date of TOML is none."""
    value = table.data.get(key)
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
        check_json(plain)
    except (TypeError, ValueError, RecursionError, Mistake):
        table.wrong(f"{key} holds what JSON does not have", "texts, numbers, booleans, lists, tables", key)
        return None
    if key == "arguments" and value is not None and not isinstance(value, dict):
        table.wrong("arguments must be a table", "", key)
        return None
    return plain


def _at(table: Reader) -> datetime:
    table.read.add("at")
    value = table.data.get("at", BEGIN)
    if not isinstance(value, datetime) or value.tzinfo is None:
        table.wrong("at must be a time with its zone", "at = 2026-01-01T12:00:00Z", "at")
        return BEGIN
    return value.astimezone(UTC)


def _array(table: Reader, key: str) -> list[dict[str, Any]]:
    table.read.add(key)
    value = table.data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        table.wrong(f"{key} must be tables", f"[[{key}]]", key)
        return []
    return value

"""Where drills are played: a node on the folder's own rules, with a store, keys and a clock that are thrown away, behind a real socket.

Rules
* Policies, task types, catalog, pins, agents, budgets and token rules are the folder's. An echo stands in for every server, there are no
  targets: no real tool, target, receiver or person hears of a drill.
* What is tried goes through the HTTP doors. Tasks are marked by whom they run for and who opened them (``drill``); they are in no
  ledger but the stage's own.
* Left out: what each drill tries, and what follows (the modules beside this one).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from remit.application import application
from remit.cli.server import serving
from remit.drivers.base import StdioServer
from remit.errors import Broken, NotFound, RemitError
from remit.logic.arguments import digest_bytes
from remit.logic.made_up import arguments_for, fits, made_up
from remit.logic.narrow import narrowed_schema
from remit.model.catalog import Kind
from remit.model.drill import Outcome, Step
from remit.model.token import Possession
from remit.node import load_rules, open_node
from remit.services.reading import near
from remit.wire import OWN_TASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from remit.model.catalog import PinnedTool, ToolFacts
    from remit.model.grant import Grant
    from remit.model.task import Task
    from remit.node import Node
    from remit.settings import Configuration

DRILL = "drill"
CALLS_TRIED_MAX = 20  # of one task, to find a call that is allowed
_WAIT_SECONDS = 60
_LINES_MAX = 10_000
_SUBJECTS_MAX = 100  # task types of one run
_STAND_IN = Path(__file__).with_name("stand_in.py")
_VERSION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "drill", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(slots=True)
class StageClock:
    """The time on the stage: it moves when a drill says so."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        """The time now."""
        return self.now

    def pass_by(self, span: timedelta) -> None:
        """Some time later."""
        self.now += span


@dataclass(frozen=True, slots=True)
class Tried:
    """What is tried, in words, and the control of reports (``logic/report_rules.py``) that it bears on."""

    words: str
    control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a drill is played on: a task type, the first agent that may be given it, made-up inputs. ``why``: it cannot ("" : it can)."""

    kind: str
    agent: str
    inputs: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A task on the stage. ``token`` opens the doors for the honest agent."""

    task: Task
    token: str
    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a door answered."""

    status: int
    body: Any

    @property
    def outcome(self) -> str:
        """Of a decision; "" : there was none."""
        return str(self.body.get("outcome", "")) if isinstance(self.body, dict) else ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Codes of a decision's reasons."""
        found = self.body.get("reasons", ()) if isinstance(self.body, dict) else ()
        return tuple(reason["code"] for reason in found)

    @property
    def words(self) -> str:
        """For people."""
        if self.outcome:
            return f"{self.outcome}: {', '.join(self.reasons)}"
        return f"HTTP {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that a drill makes: a granted tool, its facts, its schema narrowed to the grant, and arguments."""

    tool: PinnedTool
    facts: ToolFacts
    schema: dict[str, Any]
    arguments: dict[str, Any]

    @property
    def words(self) -> dict[str, Any]:
        """As ``POST /v1/tasks/{task}/authorize`` takes it."""
        return {"tool": self.tool.id, "arguments": self.arguments}


class Stage:
    """One stage; drills are played on it one after the other."""

    def __init__(self, node: Node, client: aiohttp.ClientSession, url: str, clock: StageClock, scratch: Path, real: Configuration) -> None:
        """``real``: the folder's configuration, whose servers and targets the stage's node does not have."""
        self.node, self.clock, self.scratch, self.real = node, clock, scratch, real
        self._client, self._url = client, url
        self.subjects: tuple[Subject, ...] = ()
        self.logged: list[str] = []
        self.opened: list[str] = []

    async def open(self, subject: Subject, manifest: Mapping[str, str] | None = None) -> Played:
        """A task. Raises RemitError."""
        task = await self.node.dispatcher.open(
            agent=subject.agent,
            task_type=subject.kind,
            inputs=subject.inputs,
            on_behalf_of=DRILL,
            opened_by=DRILL,
            manifest=self.demanded(subject) if manifest is None else manifest,
        )
        self.opened.append(task.id)
        token, _ = await self.node.tokens.issue(task.id, DRILL)
        return Played(task=task, token=token, subject=subject)

    def demanded(self, subject: Subject) -> dict[str, str]:
        """Made-up digests for the parts of a manifest that such a task may not begin without."""
        kind, agent = self.real.task_types[subject.kind], self.real.agents[subject.agent]
        single = {"model", "system_prompt", "command"}
        return {
            part if "/" in part or part in single else f"{part}/drill": digest(part) for part in (*kind.required, *agent.manifest.required)
        }

    async def copied(self, task: Task) -> str:
        """A token of the task as the token rules give it, in the hands of somebody who has no key it may be bound to."""
        try:
            return (await self.node.tokens.give(task.id, DRILL)).token
        except RemitError as refusal:
            if refusal.code != "binding_required":
                raise
        mtls = self.real.tokens.bound.value == "mtls"
        bound = Possession(certificate=_THUMBPRINT) if mtls else Possession(key=_THUMBPRINT)
        return (await self.node.tokens.give(task.id, DRILL, bound=bound)).token

    async def say(self, method: str, path: str, token: str = "", body: object = None, form: Mapping[str, str] | None = None) -> Said:
        """One request to a door."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._client.request(method, self._url + path, json=body, data=form, headers=headers) as answer:
            text = await answer.text()
            with contextlib.suppress(ValueError):
                return Said(status=answer.status, body=json.loads(text))
            return Said(status=answer.status, body=text)

    async def ask(self, token: str, words: Mapping[str, Any]) -> Said:
        """Have a call decided, for the task of the token."""
        return await self.say("POST", f"/v1/tasks/{OWN_TASK}/authorize", token, dict(words))

    async def decided(self, played: Played, words: Mapping[str, Any]) -> Said:
        """The same for the honest agent, who must get a decision: a door that answers nobody would make every drill hold. Raises Broken."""
        said = await self.ask(played.token, words)
        if not said.outcome:
            raise Broken(f"the stage's own door does not decide: HTTP {said.status}, {str(said.body)[:200]}")
        return said

    async def later(self, played: Played) -> Played:
        """The same task when its rate admits another call, as far as its deadline allows, with a token that is fresh."""
        wait = timedelta(seconds=self.real.task_types[played.subject.kind].budget.rate_seconds + 1)
        if self.clock() + wait < played.task.deadline:
            self.clock.pass_by(wait)
        token, _ = await self.node.tokens.issue(played.task.id, DRILL)
        return replace(played, token=token)

    async def observed(self, played: Played, said: Said, result: object) -> None:
        """Tell how an allowed call ended, and what it brought. Raises Broken."""
        body = {"decision": said.body["decision"], "ending": "ok", "result": result}
        told = await self.say("POST", f"/v1/tasks/{OWN_TASK}/observe", played.token, body)
        if told.status >= 400:
            raise Broken(f"the stage's own door does not take a result: HTTP {told.status}, {str(told.body)[:200]}")

    async def changed(self, played: Played, parts: Mapping[str, str]) -> None:
        """Tell that the agent has become another one. Raises Broken."""
        told = await self.say("POST", f"/v1/tasks/{OWN_TASK}/manifest", played.token, {"parts": dict(parts)})
        if told.status >= 500:
            raise Broken(f"the stage's own door does not take a manifest: HTTP {told.status}")

    async def mcp(self, server: str, token: str, method: str, params: Mapping[str, Any]) -> Said:
        """One request at the MCP gateway; what comes before its answer is passed over."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}}
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _VERSION,
            "Mcp-Method": method,
            **({"Mcp-Name": str(params["name"])} if "name" in params else {}),
        }
        try:
            async with self._client.post(f"{self._url}/mcp/{server}", json=body, headers=headers) as answer:
                lines = (await answer.text()).splitlines()
        except TimeoutError:
            raise Broken(f"the stage's own gateway gave no answer within {_WAIT_SECONDS} seconds") from None
        last = next((line.removeprefix("data: ") for line in reversed(lines) if line.startswith(("data: {", "{"))), "{}")
        return Said(status=answer.status, body=json.loads(last))

    def calls(self, played: Played) -> tuple[ToolCall, ...]:
        """Calls of granted tools with made-up arguments that the grant covers as far as can be told, reads first."""
        found = []
        for tool in self.node.rules.rulebook.pinned.values():
            facts = self.node.rules.rulebook.tool(Kind.TOOL, tool.server, tool.name)
            lines = [line for line in played.task.grants if line.names(Kind.TOOL, tool.server, tool.name)]
            if facts is not None and lines:
                found.append(_call(tool, facts, lines[0], list(played.task.inputs.values())))
        return tuple(sorted(found, key=lambda call: (call.facts.effect != "read", call.tool.id)))

    async def allowed(self, played: Played, calls: Sequence[ToolCall] | None = None) -> tuple[ToolCall, Said] | None:
        """A call that is allowed; ``None``: no made-up one is."""
        for call in (self.calls(played) if calls is None else calls)[:CALLS_TRIED_MAX]:
            said = await self.decided(played, call.words)
            if said.outcome == "allow":
                return call, said
        return None

    async def shown(self, task_id: str) -> str:
        """The latest entry of a task, as ``index kind``."""
        await self.node.tasks.settle()
        entry = (await self.node.store.task_entries(task_id))[-1]
        return f"{entry.index} {json.loads(entry.body)['kind']}"

    async def last(self) -> str:
        """The latest entry of the stage's ledger."""
        size = await self.node.store.change_mark()
        entry = (await self.node.store.entries(size - 1, 1))[0]
        return f"{entry.index} {json.loads(entry.body)['kind']}"

    async def end(self, played: Played) -> Said:
        """Complete a task."""
        return await self.say("POST", f"/v1/tasks/{played.task.id}/complete", played.token)

    def heard(self, server: str) -> str:
        """All that a stand-in was told."""
        path = self.scratch / f"{server}.heard"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def lists(self, server: str, tools: Sequence[Mapping[str, Any]]) -> None:
        """From now on the stand-in lists these tools."""
        _write_tools(self.scratch, server, tools)

    def pinned(self, server: str) -> list[dict[str, Any]]:
        """A server's tools as they were accepted."""
        return declared(tool for tool in self.node.rules.rulebook.pinned.values() if tool.server == server)


_CONTROLS = {
    "origin_unknown": "origins",
    "origin_not_admitted": "origins",
    "arguments_outside_grant": "least-agency",
    "not_granted": "least-agency",
    "needs_approval": "approvals",
    "no_approver": "approvals",
    "policy_forbids": "policy",
    "no_policy_permits": "policy",
    "above_ceiling": "labels",
}
_THUMBPRINT = "drill-drill-drill-drill-drill-drill-drill-d"


def not_tried(tried: Tried, why: str, *, on: str = "", mend: str = "") -> Step:
    """A step that this configuration does not let be tried."""
    return Step(tried=tried.words, expected="", happened=why, outcome=Outcome.NOT_TRIED, control=tried.control, on=on, mend=mend)


def judged(tried: Tried, expected: str, happened: str, *, held: bool, on: str = "", mend: str = "", record: str = "") -> Step:
    """A step that was tried. ``mend`` is told only where it did not hold."""
    outcome = Outcome.HELD if held else Outcome.NOT_HELD
    return Step(
        tried=tried.words,
        expected=expected,
        happened=happened,
        outcome=outcome,
        control=tried.control,
        on=on,
        mend="" if held else mend,
        record=record,
    )


def dressed(value: str, made: object) -> tuple[str, ...]:
    """A value as an argument may carry it: as it is, behind what was made up for it, and in an address."""
    behind = (f"{made}{value}",) if isinstance(made, str) else ()
    return (value, *behind, f"https://attacker.example/{value}")


def most_telling(answers: Iterable[Said]) -> Said:
    """Of several refusals the one that says most: not that made-up arguments do not fit, nor that only the grant's schema is in the way."""
    return max(answers, key=lambda said: "arguments_invalid" not in said.reasons and 1 + ("arguments_outside_grant" not in said.reasons))


def control_of(said: Said, otherwise: str) -> str:
    """Which control of reports has refused a call, by its first reason."""
    return next((_CONTROLS[code] for code in said.reasons if code in _CONTROLS), otherwise)


def digest(text: str) -> str:
    """A digest as manifests hold them, of something made up."""
    return digest_bytes(text.encode())


def declared(tools: Iterable[PinnedTool]) -> list[dict[str, Any]]:
    """Tools as a server lists them, so that they have the digests that were pinned."""
    return [
        {
            "name": tool.name,
            "inputSchema": tool.input_schema,
            **({"description": tool.description} if tool.description else {}),
            **({"annotations": tool.annotations} if tool.annotations else {}),
        }
        for tool in tools
    ]


@contextlib.asynccontextmanager
async def set_stage(folder: Path, scratch: Path, inputs: Mapping[str, str] | None = None, only: Sequence[str] = ()) -> AsyncIterator[Stage]:
    """A stage for a folder. ``inputs``: values for inputs of that name, in place of made-up ones. ``only``: task types (none: all).

    Raises Mistake, NotFound (a task type), Outage.
    """
    real, rulebook = load_rules(folder)
    for kind in only:
        if kind not in real.task_types:
            raise NotFound(f"there is no task type {kind[:80]!r}", hint=near(kind, real.task_types))
    for server in real.servers:
        _write_tools(scratch, server, declared(tool for tool in rulebook.pinned.values() if tool.server == server))
    clock = StageClock()
    stand_ins = {server: _stand_in(scratch, server) for server in real.servers}
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(folder, deciding=True, scratch=scratch, stand_ins=stand_ins, clock=clock))
        port = await stack.enter_async_context(serving(application(node), "127.0.0.1", 0))
        timeout = aiohttp.ClientTimeout(total=_WAIT_SECONDS)
        client = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        stage = Stage(node, client, f"http://127.0.0.1:{port}", clock, scratch, real)
        stage.subjects = await _subjects(stage, sorted(only or real.task_types), inputs or {})
        stack.enter_context(_listening(stage.logged))
        yield stage
        for task in stage.opened:
            await node.end_task(task)


async def _subjects(stage: Stage, kinds: Sequence[str], inputs: Mapping[str, str]) -> tuple[Subject, ...]:
    """What is played on: each opens, or says why it does not."""
    found = []
    for kind in kinds[:_SUBJECTS_MAX]:
        subject = subject_of(stage.real, kind, inputs)
        try:
            if not subject.why:
                await stage.end(await stage.open(subject))
        except RemitError as error:
            subject = replace(subject, why=f"it does not open: {error.message}")
        found.append(subject)
    more = len(kinds) - len(found)
    why = f"{more} more task types are left out: --task NAME" if more else "there is no task type: tasks/*.toml"
    return (*found, Subject(kind="", agent="", inputs={}, why=why)) if more or not found else tuple(found)


def subject_of(configuration: Configuration, kind: str, inputs: Mapping[str, str]) -> Subject:
    """A task type with somebody to work on it, and inputs."""
    agent = next((agent.name for agent in configuration.agents.values() if kind in agent.tasks), "")
    values: dict[str, Any] = {}
    wrong = "" if agent else f"no agent may be given {kind}"
    for one in configuration.task_types[kind].inputs:
        given = inputs.get(one.name)
        made = one.default if one.default is not None else made_up(one.schema)
        values[one.name] = made if given is None else _typed(given, one.schema["type"])
        if not wrong and not fits(one.schema, values[one.name]):
            wrong = f"nothing made up fits its input {one.name}; give one with -i {one.name}=…"
    return Subject(kind=kind, agent=agent, inputs=values, why=wrong)


def _typed(text: str, kind: str) -> object:
    """An input that was given as text; what does not fit is found by its schema."""
    if kind == "integer":
        return int(text) if text.removeprefix("-").isdecimal() else text
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


def _call(tool: PinnedTool, facts: ToolFacts, line: Grant, inputs: Sequence[object]) -> ToolCall:
    narrowing = json.loads(line.arguments) if line.arguments else {}
    schema = narrowed_schema(tool.input_schema, [line])
    return ToolCall(tool=tool, facts=facts, schema=schema, arguments=arguments_for(_with_origins(schema, narrowing), inputs))


def _with_origins(schema: dict[str, Any], narrowing: dict[str, Any]) -> dict[str, Any]:
    """The schema with the origins that its description tells of as words again: such values are taken from the task's inputs."""
    demanded = {
        name: rule["origin"] for name, rule in narrowing.get("properties", {}).items() if isinstance(rule, dict) and "origin" in rule
    }
    own = schema.get("properties", {})
    marked = {name: {**own.get(name, {}), "origin": origin} for name, origin in demanded.items()}
    return {**schema, "properties": {**own, **marked}}


def _stand_in(scratch: Path, server: str) -> StdioServer:
    command = (sys.executable, str(_STAND_IN), str(scratch / f"{server}.tools"), str(scratch / f"{server}.heard"))
    return StdioServer(name=server, command=command)


def _write_tools(scratch: Path, server: str, tools: Sequence[Mapping[str, Any]]) -> None:
    fresh = scratch / f"{server}.tools.new"
    fresh.write_text(json.dumps(list(tools)), encoding="utf-8")
    fresh.replace(scratch / f"{server}.tools")


@contextlib.contextmanager
def _listening(lines: list[str]) -> Iterator[None]:
    """Keep what is logged meanwhile, by remit and by everything it uses."""
    handler, root, remit = _Keeping(lines), logging.getLogger(), logging.getLogger("remit")
    levels = root.level, remit.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    remit.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        remit.setLevel(levels[1])


class _Keeping(logging.Handler):
    """Keeps the lines, bounded."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if len(self._lines) < _LINES_MAX:
            self._lines.append(self.format(record))

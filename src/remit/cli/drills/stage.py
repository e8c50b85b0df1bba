"""Where drills are played: a node on the folder's own rules, with a store, keys and a clock that are thrown away, behind a real socket.

Rules
* Policies, task types, catalog, pins, agents, budgets and token rules are the folder's. An echo stands in for every server, there are no
  targets: no real tool, target, receiver or person hears of a drill.
* What is tried goes through the HTTP doors. Tasks are marked by whom they run for and who opened them (``drill``); they are in no
  ledger but the stage's own.
* Left out: how it is set up (``setting.py``), what each drill tries (the modules beside this one).
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from remit.cli.drills.words import Said, digest
from remit.errors import Broken, RemitError
from remit.logic.made_up import arguments_for
from remit.logic.narrow import narrowed_schema
from remit.model.catalog import Kind
from remit.model.token import Possession
from remit.wire import OWN_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from remit.logic.rulebook import Rulebook
    from remit.model.catalog import PinnedTool, ToolFacts
    from remit.model.grant import Grant
    from remit.model.task import Task
    from remit.node import Node
    from remit.settings import Configuration

DRILL = "drill"
_THUMBPRINT = "drill-drill-drill-drill-drill-drill-drill-d"  # of a key that nobody has
CALLS_TRIED_MAX = 20  # of one task, to find a call that is allowed
WAIT_SECONDS = 60
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

    def __init__(
        self, node: Node, client: aiohttp.ClientSession, url: str, clock: StageClock, scratch: Path, real: Configuration, rulebook: Rulebook
    ) -> None:
        """``real``, ``rulebook``: the folder's own, whose servers and targets the stage's node does not have."""
        self.node, self.clock, self.scratch, self.real, self.rulebook = node, clock, scratch, real, rulebook
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
        status, text = await self._asked(method, path, json=body, data=form, headers=headers)
        with contextlib.suppress(ValueError):
            return Said(status=status, body=json.loads(text))
        return Said(status=status, body=text)

    async def _asked(self, method: str, path: str, **request: Any) -> tuple[int, str]:
        """Raises Broken where the stage's own door does not answer."""
        try:
            async with self._client.request(method, self._url + path, **request) as answer:
                return answer.status, await answer.text()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Broken(f"the stage's own door gave no answer to {method} {path[:80]}: {type(error).__name__}") from None

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
        return await self.renewed(played)

    async def renewed(self, played: Played) -> Played:
        """The same task, with a token that is fresh."""
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
        status, text = await self._asked("POST", f"/mcp/{server}", json=body, headers=headers)
        lines = text.splitlines()
        last = next((line.removeprefix("data: ") for line in reversed(lines) if line.startswith(("data: {", "{"))), "{}")
        return Said(status=status, body=json.loads(last))

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
        write_tools(self.scratch, server, tools)

    def pinned(self, server: str) -> list[dict[str, Any]]:
        """A server's tools as they were accepted."""
        return declared(tool for tool in self.node.rules.rulebook.pinned.values() if tool.server == server)


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


def write_tools(scratch: Path, server: str, tools: Sequence[Mapping[str, Any]]) -> None:
    """What a server's stand-in lists from now on."""
    fresh = scratch / f"{server}.tools.new"
    fresh.write_text(json.dumps(list(tools)), encoding="utf-8")
    fresh.replace(scratch / f"{server}.tools")

"""remit as it is used: a folder, a node, its gateway on a socket, and an agent that is an MCP client of it.

Rules: a run is a task, opened through the dispatcher with what a dispatcher knows. Every call goes through the gateway's
door; a question is answered where people answer it, and then the agent makes the same call again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.agentdojo.script import Outcome, Step
from bench.agentdojo.tools import ToolServer
from remit.application import application
from remit.cli.server import serving
from remit.logic.evidence import evidence_lines
from remit.model.task import TaskState
from remit.node import open_node
from remit.services.configuration import load_configuration
from remit.services.pinning import pin_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from bench.agentdojo.suites import Suite
    from remit.model.task import Task
    from remit.node import Node

    Approver = Callable[[Step], bool | None]

FOLDERS = Path(__file__).parent / "folders"
_VERSION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "agentdojo", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_PROMPT_INPUT = '\n[inputs.prompt]\ntype = "string"\nmaxLength = 4096\n'


class Deployment:
    """One node with the tools of one suite behind it."""

    def __init__(self, node: Node, server: ToolServer, client: aiohttp.ClientSession, url: str) -> None:
        self.node, self.server, self._client, self._url = node, server, client, url
        self._marks = sqlite3.connect(node.configuration.settings.storage)

    @contextlib.asynccontextmanager
    async def run(self, task_type: str, prompt: str, approver: Approver) -> AsyncIterator[Agent]:
        """A task for one run, ended with it.

        The world behind the server was made anew, so nothing of what other runs wrote stands in it any more: what remit remembers of
        that (its marks) is taken away with it. No real server forgets, and no real door takes marks away.
        """
        with self._marks:
            self._marks.execute("DELETE FROM taints")
        prompt = " ".join(prompt.split())
        opened = await self.node.dispatcher.open(
            agent="dojo", task_type=task_type, inputs={"prompt": prompt}, on_behalf_of="user", opened_by="dispatcher"
        )
        secret = self.node.gateway.gate.open_endpoint(opened.id)
        try:
            yield Agent(self.node, opened, self._client, f"{self._url}/run/{secret}/mcp/{self.server.name}", approver)
        finally:
            await self.node.tasks.end(opened.id, TaskState.COMPLETED, by="dispatcher")
            await self.node.end_task(opened.id)


class Agent:
    """Makes calls through the gateway (``script.World``)."""

    def __init__(self, node: Node, task: Task, client: aiohttp.ClientSession, url: str, approver: Approver) -> None:
        self._node, self._task, self._client, self._url, self._approver = node, task, client, url, approver
        self._asked: dict[str, Step] = {}
        self._person = node.approvals.at_terminal("local:approver")

    async def call(self, step: Step) -> Outcome:
        """Make one call; where it needs approval, have it approved and make it again, once."""
        made, answer, decision = await self._post(step)
        if made or decision.get("outcome") != "ask":
            return Outcome(made=made, answer=answer, reasons=tuple(decision.get("reasons", ())))
        self._asked[decision["approval"]] = step
        granted = self._approver(step)
        if granted is None:
            return Outcome(made=False, asked=1, reasons=("nobody_there",))
        await self._node.approvals.answer(self._person, decision["approval"], granted=granted)
        made, answer, decision = await self._post(step)
        return Outcome(made=made, answer=answer, asked=1, reasons=tuple(decision.get("reasons", ())))

    async def questions(self) -> list[tuple[str, str]]:
        """Each question of the task: its call's key, and what the approver is shown."""
        shown = []
        for approval, step in self._asked.items():
            details = (await self._node.approvals.shown(approval, self._person)).details
            shown.append((step.key, "\n".join(evidence_lines(details.evidence)) if details else "its arguments are no longer kept"))
        return shown

    async def _post(self, step: Step) -> tuple[bool, Any, dict[str, Any]]:
        params = {"name": step.tool, "arguments": step.arguments, "_meta": _META}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _VERSION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": step.tool,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with self._client.post(self._url, json=message, headers=headers) as response:
            answer = _message(await response.text(), response.content_type)
        result = answer.get("result")
        if not isinstance(result, dict):
            raise SystemExit(f"the gateway answered {json.dumps(answer)[:500]}")
        decision = result.get("_meta", {}).get("dev.remit/decision")
        if decision is not None:
            return False, None, decision
        if "structuredContent" not in result:
            raise SystemExit(f"no decision and no result: {json.dumps(answer)[:500]}")
        return True, result["structuredContent"], {}


def _message(body: str, kind: str) -> dict[str, Any]:
    if kind == "text/event-stream":
        body = [line for line in body.splitlines() if line.startswith("data:")][-1].removeprefix("data:")
    found: dict[str, Any] = json.loads(body)
    return found


@contextlib.asynccontextmanager
async def deployment(suite: Suite, scopes: Mapping[str, frozenset[str]]) -> AsyncIterator[Deployment]:
    """A node with one task type for each of ``scopes``: its name and the tools that it grants."""
    folder = Path(tempfile.mkdtemp(prefix="remit-agentdojo-"))
    server = ToolServer(suite)
    try:
        async with server.serving() as upstream:
            write_folder(folder, suite.name, upstream, scopes)
            await pin_servers(load_configuration(folder), [suite.name], only_new=True)
            async with open_node(folder, deciding=True) as node, aiohttp.ClientSession() as client:
                node.start()
                async with serving(application(node), "127.0.0.1", 0) as port:
                    yield Deployment(node, server, client, f"http://127.0.0.1:{port}")
    finally:
        shutil.rmtree(folder)


def write_folder(folder: Path, suite: str, upstream: str, scopes: Mapping[str, frozenset[str]]) -> None:
    """The suite's catalog, the one policy, the server's address, and a task type for each scope."""
    (folder / "policies").mkdir()
    for name in ("organisation", suite):  # the organisation's policy, and what this suite adds to it
        if (source := FOLDERS / "policies" / f"{name}.cedar").exists():
            shutil.copy(source, folder / "policies")
    text = (FOLDERS / f"{suite}.toml").read_text().replace("@UPSTREAM@", upstream)
    (folder / "remit.toml").write_text(text.replace("@TASKS@", json.dumps(sorted(scopes))))
    (folder / "tasks").mkdir()
    for name, tools in scopes.items():
        lines = "".join(f'\n[[grant]]\ntool = "{suite}/{tool}"\n' for tool in sorted(tools))
        head = 'objective = "{prompt}"\ndata_ceiling = "confidential"\ndeadline = "1h"\nbudget = { calls = 200 }\n'
        (folder / "tasks" / f"{name}.toml").write_text(head + _PROMPT_INPUT + lines)

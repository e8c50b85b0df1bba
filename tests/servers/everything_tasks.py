"""The tasks extension of `everything.py` (SEP-2663, io.modelcontextprotocol/tasks): tools whose answer comes later.

A caller that declares the extension gets a task instead of a result, asks for it with `tasks/get`, answers what it asks
with `tasks/update` and may stop it with `tasks/cancel`. Names and behaviour of the tools are the conformance suite's.

Rules: a task exists before its id is told; one that ended keeps its result for the time it promised; a caller without
the extension gets a plain result where that is possible and error -32021 where it is not. At most a thousand tasks are
kept, the oldest go first. These are MCP tasks: nothing here has to do with the tasks that remit opens.
Left out: notices of changes, and any of it over a session (the extension belongs to 2026-07-28).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import mcp_types as types
from mcp.server.context import HandlerResult
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from tests.servers.everything_asking import NAME, ask, filled, form
from tests.servers.everything_common import Context, Schema, ToolFailed, declared, is_modern, missing, said

EXTENSION = "io.modelcontextprotocol/tasks"
TASKS_MAX = 1000
TTL_MS = 60_000
POLL_MS = 100
SECONDS_MAX = 60.0
FAILS_AFTER_SECONDS = 0.2

Status: TypeAlias = Literal["working", "input_required", "completed", "failed", "cancelled"]
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


class TaskParams(types.RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateParams(TaskParams):
    """Parameters of `tasks/update`. A response is read by the task that asked, so any value is let in."""

    input_responses: dict[str, Any]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True, kw_only=True)
class Job:
    """One MCP task, from its creation to its end."""

    task_id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    status: Status = "working"
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    result: types.CallToolResult | None = None
    error: types.ErrorData | None = None
    asked: dict[str, types.InputRequest] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def move(self, status: Status) -> None:
        if self.status not in ENDED:
            self.status, self.updated_at = status, now()

    async def ask(self, requests: Mapping[str, types.InputRequest]) -> dict[str, Any]:
        """Park until every request has its response."""
        self.asked = dict(requests)
        self.move("input_required")
        await self.answered.wait()
        self.move("working")
        return self.answers

    def summary(self) -> dict[str, Any]:
        """The members every answer about a task carries."""
        return {
            "taskId": self.task_id,
            "status": self.status,
            "createdAt": self.created_at,
            "lastUpdatedAt": self.updated_at,
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_MS,
        }

    def details(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.status == "input_required":
            more["inputRequests"] = {key: wire(request) for key, request in self.asked.items()}
        elif self.status == "completed" and self.result is not None:
            more["result"] = wire(self.result)
        elif self.status == "failed" and self.error is not None:
            more["error"] = wire(self.error)
        return {"resultType": "complete", **self.summary(), **more}


Work: TypeAlias = Callable[[Job], Awaitable[types.CallToolResult]]


def wire(model: types.InputRequest | types.CallToolResult | types.ErrorData) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A tool of this module. `needs_task` says that it has no plain result; `first` may ask before a task begins."""

    tool: types.Tool
    work: Callable[[types.CallToolRequestParams], Work]
    never_task: bool = False
    needs_task: bool = False
    first: Callable[[Context, types.CallToolRequestParams], types.InputRequiredResult | None] | None = None


def has_extension(context: Context) -> bool:
    return is_modern(context) and EXTENSION in (declared(context).extensions or {})


class Jobs:
    """Every MCP task of this server."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    async def call(self, context: Context, params: types.CallToolRequestParams) -> HandlerResult:
        """Answer a call of one of LATER: a plain result, or a task that is already kept and runs."""
        entry = LATER[params.name]
        if entry.first is not None and (question := entry.first(context, params)) is not None:
            return question
        work = entry.work(params)
        if entry.never_task or (not has_extension(context) and not entry.needs_task):
            return await work(Job())
        if not has_extension(context):
            raise missing(extensions={EXTENSION: {}})
        job = Job()
        self._jobs[job.task_id] = job
        while len(self._jobs) > TASKS_MAX:
            _, oldest = self._jobs.popitem(last=False)
            if oldest.running is not None:
                oldest.running.cancel()
        created = {"resultType": "task", **job.summary()}
        job.running = asyncio.create_task(self._run(job, work))
        return created

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.result = await work(job)
            job.move("completed")
        except ToolFailed as failed:
            # A tool that ran and failed is completed; "failed" is for errors of the protocol (SEP-2663).
            job.result = said(str(failed)).model_copy(update={"is_error": True})
            job.move("completed")
        except MCPError as broken:
            job.error = broken.error
            job.move("failed")

    def _find(self, context: Context, task_id: str) -> Job:
        if not has_extension(context):
            raise missing(extensions={EXTENSION: {}})
        # The SDK compares this header for the methods of the core only; SEP-2663 asks for it here too.
        if context.request is not None and context.request.headers.get("mcp-name", "").strip() != task_id:
            raise MCPError(types.HEADER_MISMATCH, "Header mismatch: Mcp-Name must be params.taskId")
        job = self._jobs.get(task_id)
        if job is None:
            raise MCPError(types.INVALID_PARAMS, "Unknown task", {"taskId": task_id})
        return job

    async def get(self, context: Context, params: TaskParams) -> HandlerResult:
        return self._find(context, params.task_id).details()

    async def update(self, context: Context, params: UpdateParams) -> HandlerResult:
        job = self._find(context, params.task_id)
        for key in [key for key in params.input_responses if key in job.asked]:
            job.answers[key] = params.input_responses[key]
            del job.asked[key]
        if job.status == "input_required" and not job.asked:
            job.answered.set()
        return {}

    async def cancel(self, context: Context, params: TaskParams) -> HandlerResult:
        job = self._find(context, params.task_id)
        job.move("cancelled")
        if job.running is not None:
            job.running.cancel()
        return {}


# --- the tools ---------------------------------------------------------------------------------------------------------


def greet(params: types.CallToolRequestParams) -> Work:
    async def work(_: Job) -> types.CallToolResult:
        return said(f"Hello, {(params.arguments or {}).get('name', 'World')}!")

    return work


def slow_compute(params: types.CallToolRequestParams) -> Work:
    async def work(_: Job) -> types.CallToolResult:
        seconds = (params.arguments or {}).get("seconds", 0)
        if not isinstance(seconds, int | float) or not 0 <= seconds <= SECONDS_MAX:
            raise ToolFailed(f"seconds must be a number from 0 to {SECONDS_MAX:.0f}")
        await asyncio.sleep(seconds)
        return said(f"Computed for {seconds} seconds: {(params.arguments or {}).get('label', '')}")

    return work


def failing_job(_: types.CallToolRequestParams) -> Work:
    async def work(_: Job) -> types.CallToolResult:
        await asyncio.sleep(FAILS_AFTER_SECONDS)
        raise ToolFailed("This job always fails")

    return work


def protocol_error_job(_: types.CallToolRequestParams) -> Work:
    async def work(_: Job) -> types.CallToolResult:
        raise MCPError(types.INTERNAL_ERROR, "This job always breaks")

    return work


def agreed(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.get("action") == "accept"


def confirm_delete(params: types.CallToolRequestParams) -> Work:
    async def work(job: Job) -> types.CallToolResult:
        filename = (params.arguments or {}).get("filename", "the file")
        answers = await job.ask({"confirm": form(f"Delete {filename}?", confirm={"type": "boolean"})})
        return said(f"Deleted {filename}" if agreed(answers["confirm"]) else f"Kept {filename}")

    return work


def multi_input(_: types.CallToolRequestParams) -> Work:
    async def work(job: Job) -> types.CallToolResult:
        confirm = form("Are you sure?", confirm={"type": "boolean"})
        answers = await job.ask({"name": NAME, "confirm": confirm})
        return said(f"Both answered, agreed: {all(agreed(answer) for answer in answers.values())}")

    return work


def ask_name(context: Context, params: types.CallToolRequestParams) -> types.InputRequiredResult | None:
    if not has_extension(context):
        raise missing(extensions={EXTENSION: {}})
    return ask(context, {"user_name": NAME}) if filled(params, "user_name") is None else None


def greet_later(params: types.CallToolRequestParams) -> Work:
    async def work(_: Job) -> types.CallToolResult:
        return said(f"Hello, {(filled(params, 'user_name') or {}).get('name', 'stranger')}!")

    return work


def listed(name: str, description: str, /, **properties: str) -> types.Tool:
    schema: Schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return types.Tool(name=name, description=description, input_schema=schema)


LATER: dict[str, Later] = {
    entry.tool.name: entry
    for entry in (
        Later(tool=listed("greet", "Greets at once", name="string"), work=greet, never_task=True),
        Later(tool=listed("slow_compute", "Takes its time", seconds="number", label="string"), work=slow_compute),
        Later(tool=listed("failing_job", "Fails as a task"), work=failing_job, needs_task=True),
        Later(tool=listed("protocol_error_job", "Breaks as a task"), work=protocol_error_job, needs_task=True),
        Later(tool=listed("confirm_delete", "Asks as a task", filename="string"), work=confirm_delete, needs_task=True),
        Later(tool=listed("multi_input", "Asks twice as a task"), work=multi_input, needs_task=True),
        Later(tool=listed("test_tool_with_task", "Asks, then runs as a task"), work=greet_later, needs_task=True, first=ask_name),
    )
}


def add_tasks(server: Server[dict[str, Any]]) -> Jobs:
    """Give `server` the extension's methods and capability. Its tools are LATER, to be listed and called by the server."""
    jobs = Jobs()
    server.extensions[EXTENSION] = {}
    server.add_request_handler("tasks/get", TaskParams, jobs.get)
    server.add_request_handler("tasks/update", UpdateParams, jobs.update)
    server.add_request_handler("tasks/cancel", TaskParams, jobs.cancel)
    return jobs

"""Drift as an effect: takes reports of what an agent is made of, notices changed tools, and lets a person accept the difference.

Rules
* A change is durable when a report returns, and the record of it has suspended the task already (unless the task type only
  records): every call after it is decided after it.
* Where the task type says ``revoke``, the task ends right behind that record; a crash between the two leaves it suspended.
* A task whose manifest changes too often is ended: nobody can look at it any more.
* Left out: what a change means (``logic/manifest.py``).
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Conflict, Mistake, NotFound, Outage
from remit.logic.manifest import (
    PARTS_MAX,
    changes,
    check_acceptance,
    check_parts,
    current,
    declared_text,
    drifted,
    follows,
    kind_of,
    manifest_digest,
    server_parts,
    text_difference,
)
from remit.logic.narrow import tool_digest
from remit.model.manifest import Follows, ManifestAccepted, ManifestChanged, PartKind
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from remit.logic.rulebook import Rulebook
    from remit.model.catalog import PinnedTool
    from remit.model.manifest import PartChange, Parts
    from remit.model.record import Body
    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_ATTEMPTS = 64  # records of one report, and looks at the store behind a record of somebody else
_TEXT_BYTES_MAX = 262_144  # of one tool's declaration that is kept to be shown
_TEXTS_BYTES_MAX = 1_048_576  # of all that one look at a server finds changed
_LINES_MAX = 200  # of one tool's difference that are shown
_GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPart:
    """A drifted part for a person. ``difference``: line by line, where both texts are at hand; a stranger's text."""

    part: str
    before: str
    after: str
    difference: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDrift:
    """What a person looks at. ``manifest``: digest of the manifest as it is now, which is what a resume accepts."""

    task: str
    state: str
    manifest: str
    parts: tuple[ShownPart, ...]
    settled: tuple[str, ...]


class Manifests:
    """Manifests of the tasks of one node."""

    def __init__(self, tasks: Tasks, store: Store, rulebook: Callable[[], Rulebook], *, drifts_max: int) -> None:
        """``drifts_max``: changes of one task's manifest before it is ended."""
        self._tasks, self._store, self._rulebook, self._drifts_max = tasks, store, rulebook, drifts_max

    async def report(self, task_id: str, parts: Parts, by: str) -> Task:
        """Take a report of the agent or its starter. ``parts``: those that are told of; "" says that there is none any more.

        Raises Mistake (no part, no digest), Conflict (the task has ended), NotFound, Outage.
        """
        return await self._told(task_id, check_parts(parts, gone=True), by)

    async def listed(self, task_id: str, server: str, tools: Iterable[dict[str, Any]]) -> None:
        """Take what a server lists of its tools, all of them. Raises Outage: then nothing may be made of the list."""
        declared: dict[str, dict[str, Any]] = {}
        digests: dict[str, str] = {}
        for tool in tools:
            name = tool.get("name")
            if isinstance(name, str):
                with contextlib.suppress(Mistake):  # what cannot be compared is not there
                    digests[name], declared[name] = tool_digest(tool), tool
        task = await self._tasks.view(task_id)
        told = server_parts(task, server, digests)
        news = changes(task, told)
        if not news or task.over:
            return
        room = _TEXTS_BYTES_MAX
        for change in news:
            tool_id = change.part.partition("/")[2]
            room = await self._keep(change, declared.get(tool_id.removeprefix(f"{server}/")), self._rulebook().pinned.get(tool_id), room)
        await self._noticed(task_id, told)

    async def saw(self, task_id: str, tool_id: str, digest: str) -> None:
        """Take what a tool was seen to be at a call ("" : it is not listed). Raises Outage: then the call is not made."""
        task = await self._tasks.view(task_id)
        accepted = task.tools.get(tool_id)
        if accepted == digest and not task.drift:
            return
        part = f"{PartKind.SERVERS}/{tool_id}"
        if (accepted is not None or part in task.drift) and changes(task, {part: digest}):
            await self._noticed(task_id, {part: digest})

    async def accept(self, task_id: str, manifest: str, *, by: str, reason: str) -> Task:
        """Resume a task with the manifest as it is now, if that is the one named. Raises Conflict, NotFound, Outage."""

        def build(task: Task, now: datetime) -> tuple[Body, None]:
            if task.over or now >= task.deadline:
                raise Conflict(f"task {task.id} is {task.state if task.over else 'past its deadline'}", code="task_state")
            lines = check_acceptance(task, manifest, by)
            if not lines:
                raise Conflict(f"the manifest of task {task.id} has not changed", code="task_state")
            return ManifestAccepted(manifest=manifest, parts=list(lines[:PARTS_MAX]), by=by, reason=reason), None

        return (await self._tasks.change(task_id, build))[0]

    async def shown(self, task_id: str) -> ShownDrift:
        """The drift of a task for a person's eyes. Raises NotFound, Outage."""
        task = await self._tasks.view(task_id)
        return ShownDrift(
            task=task.id,
            state=task.state.value,
            manifest=manifest_digest(task),
            parts=tuple([await self._shown(change) for change in drifted(task)]),
            settled=tuple(sorted(set(current(task)) - set(task.drift))),
        )

    async def _told(self, task_id: str, told: Parts, by: str) -> Task:
        """Record what of a report is news, and see to what follows."""
        for _ in range(_ATTEMPTS):
            try:
                task, ends = await self._tasks.change(task_id, lambda task, now: self._change(task, now, told, by))
            except _NothingNewError as nothing:
                if not nothing.waits:
                    return nothing.task
                durable = await self._tasks.view_with(task_id, lambda _: False)  # told before: is it written, too?
                if changes(durable, told):
                    continue
                return durable
            if ends:
                await self._tasks.end(task_id, TaskState.REVOKED, by="remit", reason=ends)
            if ends or not changes(task, told):
                return await self._tasks.view(task_id)
        raise Outage(f"task {task_id} is changed by too many at once", code="task_busy")

    def _change(self, task: Task, now: datetime, told: Parts, by: str) -> tuple[Body, str]:
        """The record of a change, and the reason for which the task ends behind it ("" : it does not)."""
        if task.over or now >= task.deadline or task.state is TaskState.PENDING:
            state = "past its deadline" if not task.over and now >= task.deadline else task.state
            raise Conflict(f"task {task.id} is {state}; its manifest is settled", code="task_state")
        news = changes(task, told)[:PARTS_MAX]
        if not news:
            raise _NothingNewError(task, waits=any(part in task.drift for part in told))
        follow = follows(task, [change.part for change in news])
        ends = f"its manifest changed: {news[0].part}" if follow is Follows.REVOKE else ""
        if task.drifts + 1 >= self._drifts_max:
            ends = f"its manifest changed {task.drifts + 1} times"
        return ManifestChanged(by=by, parts=list(news), follows=follow.value), ends

    async def _noticed(self, task_id: str, told: Parts) -> None:
        try:
            await self._told(task_id, told, _GATEWAY)
        except (Conflict, NotFound) as error:  # it has ended meanwhile: no call follows
            _LOG.info("a change of tools is not recorded: %s", error.message)

    async def _keep(self, change: PartChange, now: Mapping[str, Any] | None, pinned: PinnedTool | None, room: int) -> int:
        """Keep what a person will compare, within ``room`` bytes: the declaration as it is now, and as it was pinned.

        Returns the room that is left.
        """
        texts = {change.after: declared_text(now)} if now is not None else {}
        if pinned is not None and pinned.digest == change.before:
            texts[change.before] = pinned_text(pinned)
        for digest, text in texts.items():
            size = len(text.encode())
            if size <= min(room, _TEXT_BYTES_MAX):
                await self._store.put_document(_document(digest), text)
                room -= size
        return room

    async def _shown(self, change: PartChange) -> ShownPart:
        difference: tuple[str, ...] = ()
        if kind_of(change.part) == PartKind.SERVERS:
            before, after = [await self._text(digest, change.part) for digest in (change.before, change.after)]
            if before is not None and after is not None:
                difference = text_difference(before, after, _LINES_MAX)
            else:
                difference = ("(its text was not kept: too large, or changed before it was seen)",)
        return ShownPart(part=change.part, before=change.before, after=change.after, difference=difference)

    async def _text(self, digest: str, part: str) -> str | None:
        """A tool's declaration as it was kept, or as it is pinned; "" where there is none, ``None`` where it is not known."""
        if not digest:
            return ""
        kept = await self._store.document(_document(digest))
        if kept is not None:
            return kept
        pinned = self._rulebook().pinned.get(part.partition("/")[2])
        return pinned_text(pinned) if pinned is not None and pinned.digest == digest else None


def pinned_text(tool: PinnedTool) -> str:
    """A pinned tool as its server declared it, as text."""
    return declared_text(
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema, "annotations": tool.annotations}
    )


class _NothingNewError(Exception):
    """Leaves a build that has nothing to record. ``waits``: somebody else has told of it, perhaps not yet durably."""

    def __init__(self, task: Task, *, waits: bool) -> None:
        super().__init__(task.id)
        self.task, self.waits = task, waits


def _document(digest: str) -> str:
    return f"tool:{digest}"

"""What people see of agents: who they are, what they are made of and how that changed, what they were given and what they used.

Rules: everything is bounded, and says of how many tasks it speaks. What an agent is made of is digests, never the thing itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import NotFound
from remit.logic.manifest import current, drifted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from remit.model.manifest import PartChange
    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.settings import Agent
    from remit.store.database import TaskRow

ROWS_MAX = 1_000  # of the latest tasks, by which agents' work is counted
_TASKS_MAX = 25  # of one agent, that are gone through for its manifest
_ENDED = frozenset({"completed", "revoked", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """One declared agent. ``used``: task types of its latest tasks and how often; ``refused``: those that it may not have, and had."""

    name: str
    spiffe_id: str
    description: str
    types: tuple[str, ...]
    used: Mapping[str, int]
    running: int
    stopped: bool
    last_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What of an agent was no longer what it was: in a task that ran (``during``), or from one task to the next."""

    at: datetime
    task: str
    during: bool
    parts: tuple[tuple[str, str, str], ...]  # part, before, after


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDetails:
    """More of one. ``manifest``: parts and digests as of its latest task."""

    view: AgentView
    manifest: Mapping[str, str]
    manifest_of: str
    changes: tuple[Change, ...]
    tasks: tuple[TaskRow, ...]


class AgentViews:
    """Of one node."""

    def __init__(self, tasks: Tasks, agents: Callable[[], Mapping[str, Agent]]) -> None:
        """``agents``: as declared now."""
        self._tasks, self._agents = tasks, agents

    async def all(self) -> tuple[AgentView, ...]:
        """Every declared agent, by name. Raises Outage."""
        rows = await self._tasks.rows(limit=ROWS_MAX)
        await self._tasks.standing.load()
        return tuple(self._view(agent, rows) for _, agent in sorted(self._agents().items()))

    async def one(self, name: str) -> AgentDetails:
        """One of them. Raises NotFound, Outage."""
        agent = self._agents().get(name)
        if agent is None:
            raise NotFound("no agent of that name is declared")
        rows = await self._tasks.rows(limit=ROWS_MAX)
        await self._tasks.standing.load()
        own = tuple(row for row in rows if row.agent == agent.spiffe_id.text)[:_TASKS_MAX]
        tasks = [await self._tasks.view(row.task) for row in own]
        return AgentDetails(
            view=self._view(agent, rows),
            manifest=dict(sorted(current(tasks[0]).items())) if tasks else {},
            manifest_of=tasks[0].id if tasks else "",
            changes=_changes(tasks),
            tasks=own,
        )

    def _view(self, agent: Agent, rows: tuple[TaskRow, ...]) -> AgentView:
        own = [row for row in rows if row.agent == agent.spiffe_id.text]
        return AgentView(
            name=agent.name,
            spiffe_id=agent.spiffe_id.text,
            description=agent.description,
            types=agent.tasks,
            used=dict(Counter(row.type for row in own).most_common()),
            running=sum(row.state not in _ENDED for row in own),
            stopped=bool(self._tasks.standing.stopped([agent.spiffe_id.text])),
            last_at=own[0].opened_at if own else None,
        )


def _changes(tasks: list[Task]) -> tuple[Change, ...]:
    """Of tasks, the newest first: what drifted while one ran, and what the next began with that the one before did not end with."""
    found: list[Change] = []
    for task, before in zip(tasks, [*tasks[1:], None], strict=True):
        drift = drifted(task)
        if drift:
            found.append(Change(at=task.ended_at or task.opened_at, task=task.id, during=True, parts=_parts(drift)))
        parts = _differences(current(before), dict(task.manifest)) if before is not None else ()
        if parts:
            found.append(Change(at=task.opened_at, task=task.id, during=False, parts=parts))
    return tuple(found)


def _parts(drift: tuple[PartChange, ...]) -> tuple[tuple[str, str, str], ...]:
    return tuple((one.part, one.before, one.after) for one in drift)


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Of the parts that say what the agent is; those of servers follow from the grant, which differs with the task type."""
    names = sorted(name for name in {*before, *after} if not name.startswith("servers"))
    return tuple((name, before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name))

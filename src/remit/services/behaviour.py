"""Keeps the past of task types: read from the ledger when first needed, and grown as tasks complete.

Rules: nothing is kept but what the ledger says; every node comes to the same past. A decision is made on the past as it is known at
that moment, and what it found unusual is in its record.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remit.logic.behaviour import learnt
from remit.logic.records import decode
from remit.model.behaviour import Profile
from remit.model.record import TaskOpened
from remit.model.task import TaskState

if TYPE_CHECKING:
    from remit.model.task import Task
    from remit.store.database import Store

_TASKS_MAX = 500  # of the past that are read, the newest
_TAUGHT_MAX = 100_000
_PAGE = 200


class Behaviour:
    """Profiles of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._profiles: dict[str, Profile] = {}
        self._taught: set[str] = set()
        self._reading = asyncio.Lock()

    def known(self, task: Task) -> Profile | None:
        """The past of a task's type; ``None`` where it was not read yet; nothing where the type is not watched."""
        return self._profiles.get(task.type) if task.watched else Profile()

    async def load(self, task_type: str) -> None:
        """Read the past of a type, once. Raises Outage, Broken."""
        async with self._reading:
            if task_type in self._profiles:
                return
            profile, after, read = Profile(), "", 0
            completed: list[str] = []
            while read < _TASKS_MAX and (page := await self._store.tasks(states=(TaskState.COMPLETED.value,), after=after, limit=_PAGE)):
                completed += [row.task for row in page if row.type == task_type]
                read, after = read + len(page), page[-1].task
            for task in reversed(completed):
                self._taught.add(task)
                profile = learnt(profile, [decode(entry.body) for entry in await self._store.task_entries(task)])
            self._profiles[task_type] = profile

    async def ended(self, task: str) -> None:
        """Learn from a task that has ended, if it was completed and its type is watched. Raises Outage, Broken."""
        records = [decode(entry.body) for entry in await self._store.task_entries(task)]
        opened = records[0].body if records else None
        last = getattr(records[-1].body, "to", "") if records else ""
        if isinstance(opened, TaskOpened) and opened.type in self._profiles and last == TaskState.COMPLETED and task not in self._taught:
            if len(self._taught) > _TAUGHT_MAX:
                self._taught.clear()  # at worst one is learnt from twice
            self._taught.add(task)
            self._profiles[opened.type] = learnt(self._profiles[opened.type], records)

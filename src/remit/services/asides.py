"""What passes between an agent and a server beside calls and their results: what it means for the task's labels.

Rules: what a server lists is read, so it raises the labels as reading it would; what lies above the ceiling is not shown. What a server
says by itself, outside of any call, is passed on only where it cannot raise them. What an agent answers to a server's question goes out
on the word of the call that it was asked in: so it goes out only while the task has read nothing since that the call does not bring itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remit.logic.labelling import whole
from remit.model.call_record import LabelsRaised
from remit.model.catalog import Kind
from remit.model.labels import Labels
from remit.model.task import TaskState
from remit.services.upwards import tell_above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from remit.logic.rulebook import Rulebook
    from remit.model.catalog import PinnedTool
    from remit.services.mediation import Ticket
    from remit.services.tasks import Tasks

_LISTED_MAX = 500  # more are gone through beside the loop: a server chooses how many it lists


class Asides:
    """Of the tasks of one node."""

    def __init__(self, tasks: Tasks, rulebook: Callable[[], Rulebook]) -> None:
        """``rulebook``: the catalog in force now."""
        self._tasks, self._rulebook = tasks, rulebook

    def pinned(self) -> Mapping[str, PinnedTool]:
        """The tools as a person accepted them, by ``server/name``."""
        return self._rulebook().pinned

    async def listed(self, task_id: str, kind: Kind, server: str, names: Iterable[str]) -> frozenset[str]:
        """Those of the resources or prompts that a task may be shown; its labels are theirs when this returns. Raises NotFound, Outage."""
        rules, task, listed = self._rulebook(), await self._tasks.view(task_id), list(names)
        ceiling = min(rules.classes.rank(one.ceiling) for one in (task, *await self._tasks.ancestors(task)))
        parts = rules, kind, server, listed, ceiling
        shown, labels = await asyncio.to_thread(_within, *parts) if len(listed) > _LISTED_MAX else _within(*parts)
        if not task.labels.covers(labels):
            raised = LabelsRaised(decision="", rank=labels.rank, untrusted=labels.untrusted)
            await self._tasks.change(task_id, lambda _task, _now: (raised, None))
            await tell_above(self._tasks, task_id, "")
        return shown

    async def adds_nothing(self, task_id: str, server: str) -> bool:
        """Whether what a server says by itself cannot raise a task's labels. Raises NotFound, Outage."""
        rules = self._rulebook()
        tool = rules.tool(Kind.RESOURCE, server, "")
        return tool is not None and (await self._tasks.view(task_id)).labels.covers(whole(tool, rules.classes))

    async def unread(self, task_id: str) -> bool:
        """Whether a task is active and has read nothing that would bind it; as the store has it. Raises NotFound, Outage."""
        task = await self._tasks.view_with(task_id, lambda _: False)
        return task.state is TaskState.ACTIVE and task.labels == Labels()

    async def unchanged(self, ticket: Ticket) -> bool:
        """Whether a call under way would be given more: its task is active, and has read nothing since that the call does not bring
        itself; as the store has it, for another node may have been told of it. Raises NotFound, Outage.
        """
        task = await self._tasks.view_with(ticket.bearer.task, lambda _: False)
        return task.state is TaskState.ACTIVE and ticket.decision_id in task.in_flight and ticket.labels.covers(task.labels)


def _within(rules: Rulebook, kind: Kind, server: str, names: Iterable[str], ceiling: int) -> tuple[frozenset[str], Labels]:
    """Those that do not lie above a ceiling, and what they are together."""
    shown, labels = set(), Labels()
    for name in names:
        tool = rules.tool(kind, server, name)
        if tool is not None and (own := whole(tool, rules.classes)).rank <= ceiling:
            shown.add(name)
            labels = labels.join(own)
    return frozenset(shown), labels

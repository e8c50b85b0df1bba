"""What a task held, beside what a static role for the same work would have held. Pure.

Rules: the role is the one that is given today: every tool of every server that the work needs, as a client's ``mcp.json`` gives them, with
a credential that nobody takes back. Only what is known is counted: pinned tools, and effects as the catalog has them; what nobody stated
counts as what it is to remit, irreversible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.model.catalog import Effect, Kind, Sends

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from remit.model.catalog import ToolFacts
    from remit.model.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Tools that could be used: how many, of these irreversible, and such as send out of the house."""

    tools: int
    irreversible: int
    external: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticRole:
    """``role``: all tools of ``servers``; ``granted``: those of the task's grant; ``used``: those it was allowed. ``seconds``: its life."""

    servers: tuple[str, ...]
    role: Held
    granted: Held
    used: Held
    seconds: int
    leases: int


def static_role(task: Task, used: Mapping[str, int], tools: Iterable[ToolFacts], now: datetime) -> StaticRole:
    """``used``: names of the calls that were allowed. ``tools``: all that are pinned."""
    servers = {line.server for line in task.grants}
    known = [tool for tool in tools if tool.kind is Kind.TOOL and tool.server in servers]
    return StaticRole(
        servers=tuple(sorted(servers)),
        role=_held(known),
        granted=_held(tool for tool in known if any(line.names(tool.kind, tool.server, tool.name) for line in task.grants)),
        used=_held(tool for tool in known if tool.id in used),
        seconds=max(int(((task.ended_at or min(now, task.deadline)) - task.opened_at).total_seconds()), 0),
        leases=sum(lease.issued_at is not None for lease in task.leases.values()),
    )


def _held(tools: Iterable[ToolFacts]) -> Held:
    found = list(tools)
    return Held(
        tools=len(found),
        irreversible=sum(tool.effect is Effect.IRREVERSIBLE for tool in found),
        external=sum(tool.sends is Sends.EXTERNAL for tool in found),
    )

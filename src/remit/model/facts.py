"""Everything that may sway a decision. What is not here cannot sway it, so a decision can be replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.model.approver import Terms

if TYPE_CHECKING:
    from datetime import datetime

    from remit.model.behaviour import Signal
    from remit.model.call import Call
    from remit.model.catalog import PinnedTool, ToolFacts
    from remit.model.identity import SpiffeId
    from remit.model.labels import DataClasses
    from remit.model.origin import Traced
    from remit.model.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """``agent``: who proved itself. ``tool``: ``None`` where the catalog does not know it. ``pinned``: the tool's own
    declaration (``None`` for resources and prompts). ``seen_digest``: of what the server declares now ("" : not seen yet
    in this task). ``approvals_max``: questions one task may ask. ``origins``: of every leaf of the arguments;
    ``references``: of whatever leads somewhere in their texts (links, hosts, addresses, accounts).
    ``signals``: what of the call is unlike the past.
    ``terms``: what would hold for a question about this call. ``rulebook``: digest of the rules in force ("" : they are not kept).
    ``ancestors``: the tasks above, the parent first, the root last; ``stopped``: which agents of the chain are stopped.
    ``leaked``: names of leases whose secrets stand in what the call sends.
    """

    now: datetime
    agent: SpiffeId
    task: Task
    call: Call
    tool: ToolFacts | None
    pinned: PinnedTool | None
    classes: DataClasses
    seen_digest: str = ""
    approvals_max: int = 100
    origins: tuple[Traced, ...] = ()
    signals: tuple[Signal, ...] = ()
    terms: Terms = field(default_factory=Terms)
    references: tuple[Traced, ...] = ()
    rulebook: str = ""
    ancestors: tuple[Task, ...] = ()
    stopped: tuple[str, ...] = ()
    leaked: tuple[str, ...] = ()

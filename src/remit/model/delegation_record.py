"""What the ledger holds of delegation and of stopped agents (``model/record.py`` has the rules)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class AncestorLine:
    """A task above, as it was known when something was decided."""

    task: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegableLine:
    """How a task may be delegated (``model/delegation.py``)."""

    to: list[str]
    depth: int
    fan_out: int
    lifetime_seconds: int
    cycles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PurseLine:
    """What is lent, or was spent. ``uses``: by the number of the lender's line; ``sums`` in decimal digits."""

    calls: int = 0
    uses: dict[str, int] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    bytes_read: int = 0
    resources: int = 0
    rate_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNarrowed:
    """A person takes something away. ``uses``: by number of the line, how often it is granted from now on (0: no more)."""

    by: str
    uses: dict[str, int]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDelegated:
    """A task hands part of its authority to a child, and lends it of its budgets. ``request``: the asker's id, good once.

    ``by``: the agent that asked, the task's own or the child's. ``policies`` permitted it; ``ancestors`` as they were known.
    """

    child: str
    agent: str
    request: str
    by: str
    lent: PurseLine
    policies: list[str] = field(default_factory=list)
    policy_set: str = ""
    rulebook: str = ""
    ancestors: list[AncestorLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReturned:
    """A child and all below it have ended: ``spent`` of what was lent stays spent, the rest is the parent's again."""

    child: str
    spent: PurseLine


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRefused:
    """A delegation that was asked for and not made. ``code``: why (``docs/delegation.md``); ``by``: who asked, as proved. ``skipped``:
    refusals of the same parent before it that were too many to be recorded.
    """

    parent: str
    by: str
    code: str
    agent: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsStopped:
    """From here on no call of these agents, nor of what was delegated by them, is allowed, and they get no task and no token.

    ``agents``: SPIFFE IDs; ``*`` is every agent, also those that are declared later; ``declared``: those that are then.
    """

    agents: list[str]
    by: str
    reason: str = ""
    declared: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsRestored:
    """These agents may be given tasks again. What has ended stays ended. ``declared``: as when they were stopped."""

    agents: list[str]
    by: str
    reason: str = ""
    declared: list[str] = field(default_factory=list)

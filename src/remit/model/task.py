"""The task: the unit of authority. Tokens, approvals, labels and budgets hang on it and die with it.

Rules: a task is immutable; ``logic/life.py`` folds the ledger's records into one. The states and their moves are the
table below; no other move exists. Everything about time compares with the clock of the server that decides.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from remit.model.delegation import NOTHING, Delegable, Purse
from remit.model.labels import Labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from remit.model.approval import Approval
    from remit.model.budget import Budget, Spent
    from remit.model.grant import Grant
    from remit.model.identity import SpiffeId
    from remit.model.lease import Lease, LeaseTerms
    from remit.model.origin import Source
    from remit.model.permit import Permit


class TaskState(StrEnum):
    """pending → active ⇄ suspended → completed | revoked | expired."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    REVOKED = "revoked"
    EXPIRED = "expired"


_ENDS = frozenset({TaskState.COMPLETED, TaskState.REVOKED, TaskState.EXPIRED})

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.ACTIVE, *_ENDS}),
    TaskState.ACTIVE: frozenset({TaskState.SUSPENDED, *_ENDS}),
    TaskState.SUSPENDED: frozenset({TaskState.ACTIVE, *_ENDS}),
    TaskState.COMPLETED: frozenset(),
    TaskState.REVOKED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}


class Task(Struct, frozen=True, kw_only=True):
    """One task as the ledger's records make it. ``seq`` counts its records; ``leaf`` is the last one's leaf hash.

    ``tools``: digest of each granted tool as pinned when the task was opened. ``uses``: calls allowed for each line of
    the grant. ``in_flight``: decisions whose call has not been seen to end, with what they spent. ``calls``: calls allowed so
    far. ``results``: results and approved calls whose values were learnt. ``sums``, ``recent``, ``bytes_read``, ``resources``: spent
    so far.
    ``watched``: calls are compared with the past of the task's type. ``last_call``: the one that was allowed last.
    ``manifest``: what its agent is made of, by part; ``drift``: parts that changed since and that nobody has accepted, as they are now;
    ``drift_rules``: what follows, by kind of part; ``drifts``: how often it changed.
    ``terms``: what it may have on targets; ``leases``: credentials, by id, also such as are gone.
    ``preauthorized_seconds``: how long a read may preauthorize others like it (0: not at all); ``permit``: the one that stands.
    ``autonomy``: by effect. ``self_service``: inputs that the agent gave to its own task count as the task's.
    ``on_behalf_proof``: what proved whom it runs for ("" : claimed). ``revoked_tokens``: ids of tokens that open nothing any more.

    Of a child: ``ancestors`` are its parent and so on up to the root, ``chain`` their agents in the same order, ``begun_by`` who opened
    the root, ``origins`` where its parent saw the inputs. ``delegable``: how it may be delegated further (``None``: not at all).
    ``children``: living ones and those not settled yet, with what each was lent; ``lent``: what is out, and what those that
    were settled have spent. ``requests``: ids of delegations. ``authority`` counts what moved or narrowed the task.
    """

    id: str
    type: str
    agent: SpiffeId
    on_behalf_of: str
    objective: str
    inputs: dict[str, Any]
    grants: tuple[Grant, ...]
    tools: dict[str, str]
    ceiling: str
    budget: Budget
    opened_at: datetime
    deadline: datetime
    state: TaskState = TaskState.PENDING
    seq: int = 0
    leaf: bytes = b""
    labels: Labels = field(default_factory=Labels)
    calls: int = 0
    asked: int = 0
    denied: int = 0
    uses: tuple[int, ...] = ()
    approvals: dict[str, Approval] = field(default_factory=dict)
    in_flight: Mapping[str, Spent] = field(default_factory=dict)
    opened_by: str = ""
    self_service: bool = False
    watched: bool = False
    preauthorized_seconds: int = 0
    permit: Permit | None = None
    last_call: str = ""
    autonomy: Mapping[str, str] = field(default_factory=dict)
    results: int = 0
    sums: Mapping[str, Decimal] = field(default_factory=dict)
    recent: tuple[datetime, ...] = ()
    bytes_read: int = 0
    resources: frozenset[str] = frozenset()
    on_behalf_proof: str = ""
    revoked_tokens: frozenset[str] = frozenset()
    manifest: Mapping[str, str] = field(default_factory=dict)
    drift: Mapping[str, str] = field(default_factory=dict)
    drift_rules: Mapping[str, str] = field(default_factory=dict)
    drifts: int = 0
    ended_at: datetime | None = None
    note: str = ""
    terms: tuple[LeaseTerms, ...] = ()
    leases: Mapping[str, Lease] = field(default_factory=dict)
    ancestors: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    begun_by: str = ""
    origins: Mapping[str, Source] = field(default_factory=dict)
    delegable: Delegable | None = None
    children: Mapping[str, Purse] = field(default_factory=dict)
    lent: Purse = NOTHING
    requests: frozenset[str] = frozenset()
    authority: int = 0

    @property
    def parent(self) -> str:
        """The task that delegated to this one ("" : none did)."""
        return self.ancestors[0] if self.ancestors else ""

    @property
    def over(self) -> bool:
        """Whether the task has ended for good."""
        return not TASK_MOVES[self.state]


def amended(task: Task, **changes: Any) -> Task:
    """The task with some of its fields changed. Raises TypeError for what is no field."""
    return replace(task, **changes)

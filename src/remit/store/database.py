"""What a store must do, whatever engine keeps it. Every engine passes ``tests/contract/store_suite.py``.

Duties of every implementation
* Order: entries have consecutive indexes from 0, in the order in which they became durable.
* Atomicity: an append, its projection rows, the tree's head and its signed checkpoint become durable together or not at all.
* Durability: when ``append`` returns, the entry survives ``kill -9`` and a loss of power.
* Compare and swap: an entry of a task is refused with ``StaleTask`` unless its ``seq`` follows the task's latest
  entry *and* that latest entry is the one the writer saw (``after`` is its leaf hash). One refusal never touches its neighbours.
* Conditions: an entry is refused with ``StaleTask`` (code ``stale_mark``) unless every mark it was decided on (``given``) has the
  number that the writer saw, in the same transaction; what stands before it in the same batch counts.
* Together: the entries of an append and of those ``also`` with it become durable together or are refused together.
* Absence: an unknown task has no entries (an empty tuple), an unknown document is ``None``; neither is an error.
* Bounds: more than ``queue_limit`` waiting appends are refused with ``Outage``; no call waits without limit.

Left out: what entries mean (``logic/life.py`` folds them), proofs (``services/ledger.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from remit.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALWAYS = datetime.min.replace(tzinfo=UTC)  # before any time
ENTRY_BYTES_MAX = 65_535  # C2SP tlog-tiles: an entry bundle carries a uint16 length


class StaleTask(Conflict):
    """Somebody appended to the task since the writer looked: load it again and decide again."""

    default_code = "stale_task"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """What lists of tasks show. A projection: the entries are the truth."""

    task: str
    type: str
    agent: str
    on_behalf_of: str
    state: str
    opened_at: datetime
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """What lists of approvals show. ``state`` is pending, granted, denied or used."""

    approval: str
    task: str
    state: str
    asked_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingRow:
    """What one result taught a task; ``number`` from 1. ``data`` is ``services/sightings.py``'s."""

    task: str
    number: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaintRow:
    """A value (its keyed digest) that a task wrote to a server from material that nobody vouches for."""

    server: str
    key: bytes
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRow:
    """What a decided call was given, sealed (``drivers/value_sealing.py``); never in clear. ``decision``: the id it is kept under."""

    decision: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRow:
    """A number that only rises, and what stands for it: a row with a lower number changes nothing."""

    name: str
    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """What lists of leases show and the sweeper looks for: a projection of its task's entries.

    ``state``: as ``model/lease.py``. ``due_at``: when it has to be looked after; a node that does so moves it on (``claim_lease``).
    ``sealed``: the credential; "" leaves what is kept, and *revoked* forgets it.
    """

    lease: str
    task: str
    agent: str
    target: str
    state: str
    expires_at: datetime
    due_at: datetime
    sealed: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRow:
    """A child task and its parent; ``settled`` once the parent has taken back what was not spent."""

    task: str
    parent: str
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A child that something is left to be done for: it or its parent has ended."""

    task: str
    parent: str
    ended: bool
    parent_ended: bool


Row = TaskRow | ApprovalRow | SightingRow | TaintRow | ValueRow | MarkRow | LeaseRow | ChildRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A mark as the writer saw it; 0: there was none."""

    name: str
    number: int


class Append(Struct, frozen=True, kw_only=True):
    """One entry to be made durable.

    ``body``: the record's canonical bytes, 1 to ENTRY_BYTES_MAX. ``task``: the task it belongs to, or ``None``.
    ``seq``: its place in the task, from 1 (0 without a task). ``after``: leaf hash of the task's entry ``seq - 1``
    as the writer saw it (empty for the first). ``rows``: to be put in the same transaction (by id: the later replaces).
    ``given``: marks that must be as the writer saw them. ``also``: further entries, after it, together with it or not at all; their
    own ``also`` is not looked at.
    """

    body: bytes
    task: str | None = None
    seq: int = 0
    after: bytes = b""
    rows: tuple[Row, ...] = ()
    given: tuple[Given, ...] = ()
    also: tuple[Append, ...] = ()


class Entry(Struct, frozen=True, kw_only=True):
    """One durable entry of the ledger."""

    index: int
    body: bytes
    leaf: bytes  # SHA-256(0x00 || body), RFC 6962 §2.1
    task: str | None
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The tree's head: its size, the roots of its complete subtrees from the largest, and the signed note (C2SP)."""

    size: int
    frontier: tuple[bytes, ...]
    checkpoint: str


class CheckpointSigner(Protocol):
    """Signs tree heads. Called on the writer's thread, inside the transaction that appends."""

    def __call__(self, size: int, root: bytes) -> str:
        """Return the checkpoint as a signed note (C2SP tlog-checkpoint)."""


class Store(Protocol):
    """The memory of remit. All methods raise ``Outage`` when the engine is away, locked or full."""

    async def append(self, append: Append) -> Entry:
        """Make one entry durable. Raises StaleTask, Outage, Mistake (an empty or too large body)."""

    async def task_entries(self, task: str, after: int = 0, limit: int | None = None) -> tuple[Entry, ...]:
        """Entries of one task in the order of seq: all, or those after a seq, up to ``limit``."""

    async def entries(self, start: int, limit: int) -> tuple[Entry, ...]:
        """Up to ``limit`` entries from index ``start``, in order."""

    async def hashes(self, indexes: Sequence[int]) -> dict[int, bytes]:
        """For each index its ``hashes`` column: leaf, then the node hashes of level 1..tz(index+1), 32 bytes each."""

    async def head(self) -> Head:
        """The head as it is durable now."""

    async def publish_checkpoint(self) -> str:
        """Keep the latest checkpoint among the published ones and return the signed note."""

    async def keep_cosigned(self, size: int, note: str, cosignatures: int) -> None:
        """Give a published checkpoint the cosignatures of witnesses, unless the one that is kept has as many."""

    async def cosigned(self) -> str | None:
        """The latest published checkpoint that a witness cosigned."""

    async def checkpoints(self, after_size: int, limit: int) -> tuple[str, ...]:
        """Published checkpoints of a size above ``after_size``, smallest first."""

    async def tasks(self, *, states: Sequence[str], after: str, limit: int) -> tuple[TaskRow, ...]:
        """Rows of tasks in one of ``states`` (empty: all), newest first, those after task id ``after`` ("" : from the start)."""

    async def due_tasks(self, now: datetime, limit: int) -> tuple[str, ...]:
        """Tasks that have not ended although their deadline has passed, the longest overdue first."""

    async def approvals(self, *, states: Sequence[str], limit: int, alive_at: datetime = ALWAYS) -> tuple[ApprovalRow, ...]:
        """Rows of approvals in one of ``states`` that expire after ``alive_at``, oldest first."""

    async def approval(self, approval: str) -> ApprovalRow | None:
        """One approval's row."""

    async def sightings(self, task: str, after: int) -> tuple[SightingRow, ...]:
        """A task's rows with a number above ``after``, in order."""

    async def drop_sightings(self, task: str) -> None:
        """Forget a task's rows; none is a success."""

    async def tainted(self, server: str, keys: Sequence[bytes]) -> frozenset[bytes]:
        """Which of the keys are tainted at a server."""

    async def children(self, parent: str, limit: int) -> tuple[str, ...]:
        """Tasks that were delegated by one, in the order of their ids."""

    async def unsettled(self, limit: int) -> tuple[Unsettled, ...]:
        """Unsettled children that live although their parents have ended, or that have ended and have no unsettled child."""

    async def living_tasks(self, agents: Sequence[str], limit: int) -> tuple[str, ...]:
        """Tasks of some agents (SPIFFE IDs; ``*``: of all) that have not ended."""

    async def put_document(self, digest: str, text: str) -> None:
        """Keep a text under its digest (``sha-256:…``), or under a key of another form; the first text of a key stays."""

    async def document(self, digest: str) -> str | None:
        """The text of that digest or key."""

    async def document_keys(self, beginning: str, after: str, limit: int) -> tuple[str, ...]:
        """Keys of documents that begin so, in order, those after one ("" : from the start)."""

    async def drop_document(self, digest: str) -> None:
        """Forget a document; one that is not there is a success."""

    async def values(self, decisions: Sequence[str]) -> dict[str, bytes]:
        """Of some decisions (at most a thousand) the sealed values that were kept."""

    async def lease(self, lease: str) -> LeaseRow | None:
        """One lease's row, whatever its state."""

    async def live_leases(self, target: str, after: str, limit: int) -> tuple[LeaseRow, ...]:
        """Leases that are not revoked, of a target ("" : of all), in the order of their ids, those after one."""

    async def due_leases(self, target: str, now: datetime, limit: int) -> tuple[LeaseRow, ...]:
        """Leases of a target that are not revoked and were due by then, the longest overdue first. Costs what is due, not what lives."""

    async def claim_lease(self, lease: str, due_at: datetime, until: datetime) -> bool:
        """Move a live lease's due time on, if it still is ``due_at``: of several who try, one succeeds. Need not survive a crash."""

    async def lease_counts(self, agent: str, target: str, most: int) -> tuple[int, int]:
        """How many live leases an agent and a target have, each counted up to ``most``."""

    async def leases_below_suspended(self, limit: int) -> tuple[LeaseRow, ...]:
        """Leases in use or being made, of unsettled tasks below suspended ones at whatever distance. Costs what is below such tasks."""

    async def lease_targets(self) -> tuple[str, ...]:
        """Targets that have live leases."""

    async def drop_values(self, decisions: Sequence[str]) -> None:
        """Forget the sealed values of some decisions (at most a thousand); none is a success."""

    async def mark(self, name: str) -> MarkRow | None:
        """The highest mark of that name."""

    async def change_mark(self) -> int:
        """A number that grows whenever any process appended: cheap to poll (it is the tree's size)."""

    async def wait_for_change(self, mark: int, timeout_seconds: float) -> int:
        """Wait until the mark is no longer ``mark``, at most ``timeout_seconds``; return the mark as it is then."""

    on_append: Callable[[float], None] | None
    """Told of each append that became durable, and how many seconds that took."""

    def waiting(self) -> int:
        """Appends that are not durable yet."""

    async def close(self) -> None:
        """Finish what is queued, then let go. Idempotent."""

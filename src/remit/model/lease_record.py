"""What the ledger holds of leases and of the targets that they stand on (``model/record.py`` has the rules)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePartLine:
    """A part of a lease's scope, as recorded: for whom may call one of ``tools`` with such ``arguments`` ("" : any). JSON texts."""

    tools: list[str]
    scope: str
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLine:
    """What the task may have on a target, as recorded. ``scope``: JSON text in the target's own words."""

    name: str
    target: str
    scope: str
    parts: list[LeasePartLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseIntended:
    """A credential is about to be made on a target. ``mark``: the name that it carries there. ``name``: of the task's terms.

    ``replaces``: the lease in whose place it comes once it is issued, as ``by`` wants it. ``stands``: a secret that outlives it.
    ``parts``: of the scope in the task's terms, by number.
    """

    lease: str
    name: str
    target: str
    mark: str
    expires_at: datetime
    replaces: str = ""
    by: str = ""
    stands: bool = False
    parts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseIssued:
    """It was made, and is sealed in the store."""

    lease: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRevoking:
    """It has to go, though its task goes on. With the end or suspension of a task all its leases have to, without records of their own."""

    lease: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRevoked:
    """The target confirmed that nothing of it is left. ``absent``: there was nothing when we came."""

    lease: str
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStuck:
    """It is still not gone after many tries: an alarm. It is tried on. ``code``: of the last failure."""

    lease: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSwept:
    """A credential of ours stands on a target that no lease accounts for (an old backup, say): it is removed now."""

    target: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSecretSet:
    """A target's own secret, by which remit manages it, was replaced: by a person (``rotation`` ""), or by remit itself, which first says
    that it is about to (``begun``), then that the target has taken it (``done``).
    """

    target: str
    by: str
    rotation: str = ""


LeaseRecord = LeaseIntended | LeaseIssued | LeaseRevoking | LeaseRevoked | LeaseStuck

"""A leased secret that stood where it must not: what is known of it, and what the ledger holds. Never its value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
    """Where it was found."""

    ARGUMENTS = "the arguments of a call"
    RESULT = "the result of a call"
    MESSAGE = "a message beside a call"
    ELSEWHERE = "another task of the agent or of its delegation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A secret that was found. ``task``: whose lease it is, by id and by the name in that task's terms."""

    lease: str
    name: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFound:
    """A leased secret was found and stopped: the task is suspended by this very record, and so all its leases have to go.

    ``names``, ``leases``: which leases, in the same order; they may be another task's. ``decision``: of a call that was under
    way, where it came with a result.
    """

    names: list[str]
    leases: list[str]
    place: str
    decision: str = ""
    by: str = "remit"

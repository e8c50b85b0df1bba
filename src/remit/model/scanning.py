"""What ``remit scan`` finds standing: secrets that outlive every task, and servers that may do more than any task needs.

Rules: a finding holds no secret, nor a part of one: its kind, where it stands, and a fingerprint keyed by a random key of this run, so
that two places with the same secret can be told, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Standing(StrEnum):
    """What stands."""

    SECRET = "secret"  # noqa: S105 - a word, no secret
    BROAD = "broad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A text in a file. ``where``: JSON pointer, or ``line 7``; ``names``: what it is called there, the nearest name first."""

    where: str
    names: tuple[str, ...]
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEntry:
    """An MCP server in a client's configuration. ``where``: JSON pointer of its entry; ``raw``: the entry as it stands."""

    name: str
    where: str
    command: str = ""
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """What a secret itself says of its time, with what says so ("iat of the token"); ``None``: it does not."""

    issued_at: datetime | None = None
    expires_at: datetime | None = None
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One finding in a text, without its file. ``kind``: a word of the closed set in docs/scan.md; ``what`` and ``instead``: sentences."""

    standing: Standing
    kind: str
    where: str
    what: str
    instead: str
    server: str = ""
    fingerprint: str = ""
    dated: Dated = field(default_factory=Dated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding in a file. ``changed_at``: when the file was last changed: what stands in it has stood there since then at least."""

    file: str
    changed_at: datetime
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What could not be looked at, or only in part, and why."""

    file: str
    why: str

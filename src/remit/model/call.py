"""One call that an agent wants to make, as it was parsed at a door, and what became of it.

Rules: arguments are plain JSON values, parsed strictly (no doubles, no NaN, bounded). ``digest`` binds approvals and
records to exactly these arguments: ``sha-256:`` + base64url(SHA-256(JCS(arguments))), the ``parameter_digest`` of the
mission drafts, so that others can recompute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from remit.model.catalog import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``kind``, ``server`` and ``name`` say what is called; a resource's name is its URI."""

    kind: Kind
    server: str
    name: str
    arguments: dict[str, Any]
    digest: str

    @property
    def id(self) -> str:
        """``server/name``."""
        return f"{self.server}/{self.name}"


class Ending(StrEnum):
    """How a call ended. Of a call that has no ending when its task ends, none is known: it is undetermined.

    *Not made*: provably nothing reached the server; what the call spent is given back.
    """

    OK = "ok"
    TOOL_ERROR = "tool_error"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_MADE = "not_made"

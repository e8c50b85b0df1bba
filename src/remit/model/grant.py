"""What one task may call: for each tool a JSON Schema that narrows the tool's own input schema, and a number of uses.

Rules: a name matches exactly, or by one trailing ``*`` (a whole server, or resources below a URI). Schemas are kept
as canonical JSON text, inputs already put in, so that a grant is a value and what was compiled from it can be kept.
Carried to others as ``authorization_details`` (RFC 9396).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from remit.model.catalog import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One line of a task's grant. ``arguments``: JSON text of the narrowing schema ("" : none). ``uses``: ``None`` is unbounded.

    ``autonomy``: for this line in place of the task's ("" : the task's). ``approved_values``: what a person saw and approved in a call
    of this line counts afterwards as seen from an approval. ``of``: in a child task, the line of its parent's
    grant that this one is bound to (-1: a task without a parent).
    """

    kind: Kind
    server: str
    name: str
    arguments: str = ""
    uses: int | None = None
    autonomy: str = ""
    approved_values: bool = False
    of: int = -1

    def names(self, kind: Kind, server: str, name: str) -> bool:
        """Whether this line speaks of that tool, resource or prompt (its arguments aside)."""
        if kind != self.kind or server != self.server:
            return False
        if self.name.endswith("*"):
            return name.startswith(self.name[:-1]) and not (kind is Kind.RESOURCE and _climbs(name))
        return name == self.name

    @property
    def id(self) -> str:
        """``server/name`` as written in the task type."""
        return f"{self.server}/{self.name}"


def _climbs(uri: str) -> bool:
    """Whether a URI has a segment that a server may resolve to a place above: then only its exact name is a match."""
    segments = unquote(unquote(uri)).replace("\\", "/").split("/")
    return any(segment in {".", ".."} for segment in segments)

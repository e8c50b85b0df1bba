"""What a tool is: facts the organisation states about it, and what its server says of it.

Rules: the catalog (``remit.toml``) decides; MCP annotations are only hints, used where the server is declared
trustworthy. What nobody stated is the worst: irreversible, highest class, untrusted, external.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What of a server is used. The words of MCP."""

    TOOL = "tool"
    RESOURCE = "resource"
    PROMPT = "prompt"


class Effect(StrEnum):
    """What a call does to the world: advisory, transactional, irreversible autonomy."""

    READ = "read"
    WRITE = "write"
    IRREVERSIBLE = "irreversible"


class Trust(StrEnum):
    """Who writes what comes back: the organisation's own systems, or strangers."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class Sends(StrEnum):
    """Where a call's arguments go: nowhere beyond the tool, inside the house, or out of it."""

    NOWHERE = "nowhere"
    INTERNAL = "internal"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFacts:
    """What is known of one tool, resource or prompt when a call to it is decided.

    ``digest``: of what its server declared when it was pinned (``sha-256:…``; "" for resources and prompts, which
    declare no schema). ``selectors``: the arguments that say who, where or which; ``None``: not stated, so all of them.
    """

    kind: Kind
    server: str
    name: str
    effect: Effect = Effect.IRREVERSIBLE
    data_class: str = ""  # "" is not in any order: the highest
    trust: Trust = Trust.UNTRUSTED
    sends: Sends = Sends.EXTERNAL
    digest: str = ""
    selectors: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        """``server/name``, the name by which grants, policies and people speak of it."""
        return f"{self.server}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedTool:
    """A tool as its server declared it when a person accepted it.

    ``input_schema`` is JSON Schema 2020-12 with root type object (MCP tools). ``annotations`` are hints. ``shown``: what else a model may
    read of it, its title and its output schema. The digest does not tell of them: a server may leave them out in an older revision of MCP.
    """

    server: str
    name: str
    digest: str
    input_schema: dict[str, Any]
    description: str = ""
    annotations: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``server/name``."""
        return f"{self.server}/{self.name}"

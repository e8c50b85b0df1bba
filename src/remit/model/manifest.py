"""The manifest of an agent: what it is made of, as digests. Bound into its task; a change of it while the task runs is drift.

Rules: a part has a name, ``kind`` or ``kind/name``, and a digest; "" means that there is no such part. ``servers`` are the tools
of the grant as the gateway sees them (``servers/bank/pay``); the other parts are told by whoever starts the agent and by the agent
itself. Left out: what a change does (``logic/manifest.py``), where digests are taken (``services/manifest_files.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Parts = Mapping[str, str]  # name of the part → its digest


class PartKind(StrEnum):
    """What a part is."""

    MODEL = "model"
    SYSTEM_PROMPT = "system_prompt"
    TOOLS = "tools"
    DATA_SOURCES = "data_sources"
    FILES = "files"
    COMMAND = "command"
    SERVERS = "servers"


SINGLE = frozenset({PartKind.MODEL, PartKind.SYSTEM_PROMPT, PartKind.COMMAND})  # of these an agent has one, without a name


class Follows(StrEnum):
    """What follows a change: it is written down, or a person must look first, or the task ends."""

    RECORD = "record"
    SUSPEND = "suspend"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChange:
    """One part, before and after; "" : there was none, or there is none any more."""

    part: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestChanged:
    """The agent is no longer what it was. Unless ``follows`` is ``record``, the task is suspended by this very record.

    ``by``: who told of it: the agent, ``remit run`` or the gateway.
    """

    by: str
    parts: list[PartChange]
    follows: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestAccepted:
    """A person has seen the difference and resumes the task: ``manifest`` is the digest of what was shown.

    ``parts``: what differed (the first hundred); the fold settles all.
    """

    manifest: str
    parts: list[PartChange]
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """Where ``remit run`` takes a manifest from: files, by path, whose digests are taken, and names that stand for themselves.

    ``tools``: a JSON file, the list of tools that the agent offers its model. ``data_sources``, ``files``: name → path;
    ``data_source_ids``: name → what identifies the source where it is no file. ``command``: executable and arguments are a part.
    """

    model: str = ""
    system_prompt: str = ""
    tools: str = ""
    data_sources: Mapping[str, str] = field(default_factory=dict)
    data_source_ids: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    command: bool = True
    required: tuple[str, ...] = ()

"""Questions of AuthZEN (Authorization API 1.0) as parsed at the door, who may put them, and the answer.

Rules: types, ids and names are data, never constants: three profiles use three words for a subject. A question about the
organisation's own resources has no task; an agent has no part in it, since agents act only within tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.decision import Reason
    from remit.model.identity import SpiffeId

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A subject or a resource. ``within``: types and ids of the groups it is in."""

    type: str
    id: str
    properties: Json = field(default_factory=dict)
    within: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Type and id."""
        return self.type, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this subject do this to this resource?"""

    subject: Entity
    action: str
    resource: Entity
    action_properties: Json = field(default_factory=dict)
    context: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer of the organisation's policies to a question that has no task."""

    allowed: bool
    reasons: tuple[Reason, ...]
    policies: tuple[str, ...] = ()


class Semantic(StrEnum):
    """How many of the evaluations of one request are answered (AuthZEN §7.1.2.1)."""

    EXECUTE_ALL = "execute_all"
    DENY_ON_FIRST_DENY = "deny_on_first_deny"
    PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"

    def stops(self, *, allowed: bool) -> bool:
        """Whether an answer is the last one."""
        return (self is Semantic.DENY_ON_FIRST_DENY and not allowed) or (self is Semantic.PERMIT_ON_FIRST_PERMIT and allowed)


class Sought(StrEnum):
    """What a search looks for."""

    SUBJECT = "subject"
    RESOURCE = "resource"
    ACTION = "action"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRule:
    """A declared enforcement point: what it presents, and what it may ask.

    ``secret_digest``: SHA-256 of its secret (empty: it presents the JWT-SVID of ``agent``). ``tasks``: about calls of any task.
    """

    name: str
    secret_digest: bytes = field(default=b"", repr=False)
    agent: str = ""
    applications: tuple[str, ...] = ()
    tasks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``applications``: ``None`` is all of them. ``agent``: where an agent asks for itself; ``task``: the one of its token."""

    name: str
    applications: tuple[str, ...] | None = ()
    tasks: bool = False
    agent: SpiffeId | None = None
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationFiles:
    """An application as configured: for which types it answers, and its texts. ``schema``: Cedar's own text ("" : unchecked).

    ``text``: all of it as one JSON text, kept under its ``digest``.
    """

    name: str
    subjects: tuple[str, ...]
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    explain: bool
    policies: Mapping[str, str]
    entities: tuple[Entity, ...]
    schema: str = ""
    text: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """The table ``[access]`` of a configuration. The long name is meant to be seen."""

    anyone_on_loopback_may_ask: bool = False
    callers: Mapping[str, CallerRule] = field(default_factory=dict)
    applications: Mapping[str, ApplicationFiles] = field(default_factory=dict)

"""Who may answer questions, and how many must: what the configuration says of approvers.

Rules: empty means nobody. A scope that names nothing covers nothing; each list it does name must cover the call. Secrets are
kept as digests and never printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Elicitation(StrEnum):
    """Whether the person at the agent's own client may be asked: never, by a link, or in a form of the client."""

    OFF = "off"
    URL = "url"
    FORM = "form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which calls something speaks of. ``tools``: names, a ``*`` at the end matches any ending. Empty lists say nothing."""

    tools: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it names nothing at all: then it covers nothing."""
        return not (self.tools or self.effects or self.data_classes or self.task_types)

    def covers(self, tool: str, effect: str, data_class: str, task_type: str) -> bool:
        """Whether a call is meant. ``data_class``: the higher of the tool's and of what the task has read."""
        return (
            not self.empty
            and (not self.tools or any(_names(pattern, tool) for pattern in self.tools))
            and (not self.effects or effect in self.effects)
            and (not self.data_classes or data_class in self.data_classes)
            and (not self.task_types or any(_names(pattern, task_type) for pattern in self.task_types))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """A person who may answer. ``aliases``: names by which tasks may speak of the same person; ``accounts`` of this machine.

    ``secret_digest``: SHA-256 of the secret (b"" : none, so only a terminal of one of the accounts). ``webhook``: where
    questions are told ("" : nowhere), signed with ``signing_key``.
    """

    name: str
    scope: Scope
    secret_digest: bytes = field(default=b"", repr=False)
    aliases: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    webhook: str = field(default="", repr=False)
    signing_key: bytes = field(default=b"", repr=False)

    @property
    def names(self) -> frozenset[str]:
        """All names of this person."""
        return frozenset({self.name, *self.aliases, *(f"local:{account}" for account in self.accounts)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """What holds for the questions of a scope; ``None`` is not stated. Of several rules the strictest word counts."""

    scope: Scope
    needed: int | None = None
    four_eyes: bool | None = None
    elicitation: Elicitation | None = None
    passkey: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for questions about one call. ``approvers``: how many may answer, -1 where nobody is configured, so that
    whoever works at a terminal of this machine may. ``passkey``: a yes is given with a passkey, in the console.
    """

    needed: int = 1
    four_eyes: bool = False
    approvers: int = -1
    elicitation: Elicitation = Elicitation.OFF
    passkey: bool = False

    @property
    def answerable(self) -> bool:
        """Whether enough persons may say yes."""
        return self.approvers < 0 or self.approvers >= self.needed


def _names(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern

"""What an approver is shown about a question: the call, its origins, the labels, the policy that asks, what differs from before.

Rules: every text is made visible when it is put in (``logic/evidence.py``). Values are for approvers, never for the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Where a part of an argument stood: ``source`` in a sentence, the text ``before`` it, the ``value``, the text ``after`` it."""

    source: str
    before: str
    value: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentShown:
    """One top-level argument. ``origins``: where its value comes from; ``before``: how it compares with earlier calls.

    ``excerpts``: the texts in which it stood, as far as they are kept.
    """

    name: str
    value: str
    notes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    before: str = ""
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it, ready to be shown: every text is visible as it stands (HTML is still to be escaped).

    ``data_class``, ``untrusted``: what the task has read so far. ``tool_class``: of the tool. ``gone``: arguments that the
    latest earlier call of this tool had and this one has not. ``left_out``: arguments beyond those shown.
    """

    approval: str
    asked_at: datetime
    expires_at: datetime
    needed: int
    task: str
    type: str
    objective: str
    agent: str
    on_behalf_of: str
    opened_by: str
    call: str
    digest: str
    effect: str
    sends: str
    tool_class: str
    data_class: str
    untrusted: bool
    arguments: tuple[ArgumentShown, ...]
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    earlier: int = 0
    gone: tuple[str, ...] = ()
    left_out: int = 0

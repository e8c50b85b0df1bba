"""What the ledger holds of a call: the decision, its question and the answer, and how it ended (``model/record.py`` has the rules)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from remit.model.delegation_record import AncestorLine


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """Where a value was seen first, as recorded (``model/origin.py``)."""

    kind: str
    name: str
    trusted: bool
    field: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafLine:
    """A leaf of the arguments, by JSON pointer; ``sources`` index the record's; none: unknown."""

    pointer: str
    sources: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonLine:
    """A reason as recorded. The sentence is left out: it can hold values."""

    code: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionTerms:
    """What holds for a question: how many must say yes, whether by four eyes, and how many there were who might."""

    needed: int
    four_eyes: bool
    approvers: int
    passkey: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDecided:
    """A decision. An allowed call raises the task's labels to ``rank``/``untrusted`` here, before anything is released.

    ``approval``: for *ask* the question's id, for an approved *allow* the approval of which this was one use. ``sources`` and ``leaves``:
    where the arguments came from; ``references``: where what leads somewhere in their texts did. ``sums``: amounts spent, in decimal
    digits. ``resource``: digest of what the call names. ``signals``: what of it was unlike the past of the task type. ``rulebook``:
    digest of all that it was decided by (``logic/rulebook_text.py``). ``question``: for *ask*, and where nobody could have been asked.
    ``learnt``: what a person approved in it is among the task's sightings. ``leans_on``: the decision that preauthorized it;
    ``preauthorizes``: for how many seconds it does so, by ``class_policies``.
    ``ancestors``: of a child task, as they were known. ``stopped``: agents of the chain that were stopped.
    ``leaked``: names of leases whose secrets stood in the call.
    """

    decision: str
    agent: str
    outcome: str
    tool_kind: str
    server: str
    name: str
    arguments_digest: str
    effect: str = ""
    reasons: list[ReasonLine] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    policy_set: str = ""
    tool_digest: str = ""
    grant: int = -1
    rank: int = 0
    untrusted: bool = False
    approval: str = ""
    approval_expires_at: datetime | None = None
    sources: list[SourceLine] = field(default_factory=list)
    leaves: list[LeafLine] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    resource: str = ""
    data_class: str = ""
    trust: str = ""
    signals: list[str] = field(default_factory=list)
    rulebook: str = ""
    question: QuestionTerms | None = None
    references: list[LeafLine] = field(default_factory=list)
    learnt: bool = False
    leans_on: str = ""
    preauthorizes: int = 0
    class_policies: list[str] = field(default_factory=list)
    ancestors: list[AncestorLine] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """How an allowed call ended. ``size`` in bytes of the result; no value of it.

    ``rank``, ``untrusted``: what the result itself raises the labels to. ``learnt``: its values are among the task's sightings.
    ``late``: a program told of it after its permit had run out, so only that program knows whether it began in time.
    """

    decision: str
    ending: str
    result_digest: str = ""
    size: int = 0
    rank: int = 0
    untrusted: bool = False
    learnt: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsRaised:
    """A call under way has let something through before its result, or a child has read something: the labels count.

    ``child``: the task below whose call it is ("" : the task's own).
    """

    decision: str
    rank: int = 0
    untrusted: bool = False
    child: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsLowered:
    """Declassification: a person answers for it that what the task has read is of this class and trust after all."""

    rank: int
    untrusted: bool
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered:
    """A person's answer to a question, and its state after it (still pending where more must say yes).

    ``until``: set where the approver widened it to a class of calls (``model/approval.py``), as far as all agree so far. ``shown``: the
    call's values stood before who answered. ``passkey``: digest of the one that they answered with ("" : none).
    """

    approval: str
    state: str
    by: str
    reason: str = ""
    via: str = ""
    calls: int = 1
    until: datetime | None = None
    free: list[str] = field(default_factory=list)
    fixed: str = ""
    shown: bool = False
    passkey: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesForgotten:
    """The sealed values kept of calls that were decided before a time are deleted after this. ``calls``: decisions of that time."""

    before: datetime
    calls: int
    by: str

"""What the ledger holds: one record an event, as canonical JSON (RFC 8785).

Rules
* An entry is ``{"at","body","kind","seq","task","v"}``; ``v`` is 1. Fields of a body are only ever added, with defaults.
* Records hold text, integers, booleans, lists and maps, no floats: their sorted, compact form is then JCS.
* No secret and no argument or result value: digests only. A task's inputs are in its opening record, because the
  grant is made from them; do not put a secret into a task's inputs.
* What is made most often is a struct, which is made in a tenth of a dataclass's time.
* Left out: who reads them (``logic/life.py`` folds, ``logic/audit.py`` verifies).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec import Struct

from remit.model.console import PasskeyAdded, PasskeyRemoved, PersonSignedIn, PersonSignedOut, SignInRefused
from remit.model.delegation_record import (
    AgentsRestored,
    AgentsStopped,
    AncestorLine,
    DelegableLine,
    DelegationRefused,
    TaskDelegated,
    TaskNarrowed,
    TaskReturned,
)
from remit.model.drill import DrillRan
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.signal import SignalFollowed, SignalReceived, SignalRefused, StreamChanged
from remit.model.tripwire import SecretFound

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLine:
    """A line of the grant as recorded. ``arguments`` is the schema's JSON text."""

    kind: str
    server: str
    name: str
    arguments: str = ""
    uses: int | None = None
    autonomy: str = ""
    approved_values: bool = False
    of: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SumLine:
    """A sum budget as recorded; ``maximum`` in decimal digits."""

    name: str
    tool: str
    argument: str
    maximum: str
    counted: bool = False


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
class LeasePartLine:
    """A part of a lease's scope, as recorded: for whom may call one of ``tools`` with such ``arguments`` ("" : any). JSON texts."""

    tools: list[str]
    scope: str
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLine:
    """What the task may have on a target, as recorded. ``scope``: JSON text in the target's own words."""

    name: str
    target: str
    scope: str
    parts: list[LeasePartLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonLine:
    """A reason as recorded. The sentence is left out: it can hold values."""

    code: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOpened:
    """A task begins its life, pending. ``on_behalf_proof``: what proved whom it runs for ("" : somebody said so).

    Of a child: ``ancestors`` (its parent first), their agents in ``chain``, who opened the root, where the parent saw each input
    (one that is missing was seen nowhere good), and the labels that it begins with.
    """

    type: str
    agent: str
    on_behalf_of: str
    opened_by: str
    objective: str
    inputs: dict[str, Any]
    grants: list[GrantLine]
    tools: dict[str, str]
    ceiling: str
    budget_calls: int
    deadline: datetime
    configuration: str = ""
    rate_calls: int = 0
    rate_seconds: int = 0
    bytes_read: int = 0
    resources: int = 0
    sums: list[SumLine] = field(default_factory=list)
    autonomy: dict[str, str] = field(default_factory=dict)
    self_service: bool = False
    watched: bool = False
    on_behalf_proof: str = ""
    manifest: dict[str, str] = field(default_factory=dict)
    drift: dict[str, str] = field(default_factory=dict)
    leases: list[LeaseLine] = field(default_factory=list)
    preauthorized_seconds: int = 0
    ancestors: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    begun_by: str = ""
    origins: dict[str, SourceLine] = field(default_factory=dict)
    rank: int = 0
    untrusted: bool = False
    delegable: DelegableLine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoved:
    """A task changes state. ``by``: a person, an agent or remit itself.

    ``undetermined``: at its end, the calls under way whose end nobody will record (the first thousand).
    """

    to: str
    by: str
    reason: str = ""
    undetermined: list[str] = field(default_factory=list)


class TokenIssued(Struct, frozen=True, kw_only=True):
    """A token exchange. ``subject_proof``: how the agent proved itself; ``jti`` identifies the token, it is no secret.

    ``audience``: where it opens, where that is less than the whole gateway. ``bound``: what its holder must prove (thumbprints).
    ``exchange``: the OAuth grant type it was given by. ``status_number``: its place in the status lists (-1: in none).
    """

    agent: str
    use: str
    jti: str
    expires_at: datetime
    subject_proof: str
    audience: str = ""
    bound: str = ""
    exchange: str = ""
    status_number: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """A proof that did not hold, or an exchange that was refused. ``claimed``: what it claimed to be, unverified and cut short.

    ``exchange``: the OAuth grant type that was tried, cut short; ``code``: what was answered. ``skipped``: refusals before it that were
    too many to be recorded.
    """

    why: str
    claimed: str = ""
    exchange: str = ""
    code: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked:
    """One token of a task opens nothing any more; the task lives on (RFC 7009)."""

    jti: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRotated:
    """Another key signs tokens from here on; keys by their thumbprints (RFC 7638). ``compromised``: the old one verifies nothing more."""

    retired: str
    current: str
    by: str
    compromised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityMade:
    """A signing certificate of the trust domain: published from now on, gone at ``ends_at``. ``fingerprint``: its SHA-256, hexadecimal."""

    number: int
    fingerprint: str
    begins_at: datetime
    ends_at: datetime


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated:
    """From here on these policies, this schema and this catalog decide. Their texts are kept under these digests.

    ``applications``: digest of each application of ``[access]``, its texts kept likewise.
    ``rulebook``: catalog, pinned tools, classes and limits. ``bundle``, ``sequence``: the signed bundle that the policies came in.
    """

    policy_set: str
    schema: str
    configuration: str
    policies: int
    applications: dict[str, str] = field(default_factory=dict)
    rulebook: str = ""
    bundle: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDecided:
    """An answer to a question that belongs to no task: of an application, or one that named no task it may speak of.

    ``properties_digest``: of ``{"action","context","resource","subject"}``, what was sent of each beside its name.
    ``evaluated_at``: the time that policies saw.
    """

    decision: str
    caller: str
    application: str
    subject_type: str
    subject: str
    action: str
    resource_type: str
    resource: str
    outcome: str
    reasons: list[ReasonLine] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    policy_set: str = ""
    properties_digest: str = ""
    evaluated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSearched:
    """A search: who looked for what, and how many were found. What is looked for is empty."""

    caller: str
    sought: str
    application: str = ""
    task: str = ""
    subject_type: str = ""
    subject: str = ""
    action: str = ""
    resource_type: str = ""
    resource: str = ""
    found: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseIntended:
    """A credential is about to be made on a target. ``mark``: the name that it carries there. ``name``: of the task's terms.

    ``replaces``: the lease in whose place it comes once it is issued, as ``by`` wants it. ``stands``: a secret that outlives it.
    ``parts``: of the scope in the task's terms, by number.
    """

    lease: str
    name: str
    target: str
    mark: str
    expires_at: datetime
    replaces: str = ""
    by: str = ""
    stands: bool = False
    parts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseIssued:
    """It was made, and is sealed in the store."""

    lease: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRevoking:
    """It has to go, though its task goes on. With the end or suspension of a task all its leases have to, without records of their own."""

    lease: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRevoked:
    """The target confirmed that nothing of it is left. ``absent``: there was nothing when we came."""

    lease: str
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStuck:
    """It is still not gone after many tries: an alarm. It is tried on. ``code``: of the last failure."""

    lease: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSwept:
    """A credential of ours stands on a target that no lease accounts for (an old backup, say): it is removed now."""

    target: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSecretSet:
    """A target's own secret, by which remit manages it, was replaced: by a person (``rotation`` ""), or by remit itself, which first says
    that it is about to (``begun``), then that the target has taken it (``done``).
    """

    target: str
    by: str
    rotation: str = ""


LeaseRecord = LeaseIntended | LeaseIssued | LeaseRevoking | LeaseRevoked | LeaseStuck

Body = (
    TaskOpened
    | TaskMoved
    | TaskNarrowed
    | TaskDelegated
    | TaskReturned
    | DelegationRefused
    | AgentsStopped
    | AgentsRestored
    | TokenIssued
    | TokenRefused
    | TokenRevoked
    | KeysRotated
    | CallDecided
    | CallFinished
    | ApprovalAnswered
    | PolicyActivated
    | LabelsRaised
    | LabelsLowered
    | AccessDecided
    | AccessSearched
    | ManifestChanged
    | ManifestAccepted
    | SignalReceived
    | SignalFollowed
    | StreamChanged
    | SignalRefused
    | LeaseIntended
    | LeaseIssued
    | LeaseRevoking
    | LeaseRevoked
    | LeaseStuck
    | LeaseSwept
    | TargetSecretSet
    | AuthorityMade
    | ValuesForgotten
    | SecretFound
    | PersonSignedIn
    | PersonSignedOut
    | SignInRefused
    | PasskeyAdded
    | PasskeyRemoved
    | DrillRan
)

KINDS: dict[str, type[Body]] = {
    "task.opened": TaskOpened,
    "task.moved": TaskMoved,
    "task.narrowed": TaskNarrowed,
    "task.delegated": TaskDelegated,
    "task.returned": TaskReturned,
    "delegation.refused": DelegationRefused,
    "agents.stopped": AgentsStopped,
    "agents.restored": AgentsRestored,
    "token.issued": TokenIssued,
    "token.refused": TokenRefused,
    "token.revoked": TokenRevoked,
    "keys.rotated": KeysRotated,
    "call.decided": CallDecided,
    "call.finished": CallFinished,
    "approval.answered": ApprovalAnswered,
    "policy.activated": PolicyActivated,
    "labels.raised": LabelsRaised,
    "labels.lowered": LabelsLowered,
    "access.decided": AccessDecided,
    "access.searched": AccessSearched,
    "manifest.changed": ManifestChanged,
    "manifest.accepted": ManifestAccepted,
    "signal.received": SignalReceived,
    "signal.followed": SignalFollowed,
    "signal.stream": StreamChanged,
    "signal.refused": SignalRefused,
    "lease.intended": LeaseIntended,
    "lease.issued": LeaseIssued,
    "lease.revoking": LeaseRevoking,
    "lease.revoked": LeaseRevoked,
    "lease.stuck": LeaseStuck,
    "lease.swept": LeaseSwept,
    "target.secret_set": TargetSecretSet,
    "authority.made": AuthorityMade,
    "values.forgotten": ValuesForgotten,
    "secret.found": SecretFound,
    "person.signed_in": PersonSignedIn,
    "person.signed_out": PersonSignedOut,
    "person.refused": SignInRefused,
    "passkey.added": PasskeyAdded,
    "passkey.removed": PasskeyRemoved,
    "drill.ran": DrillRan,
}
NAMES: dict[type[Body], str] = {body: kind for kind, body in KINDS.items()}


class Record(Struct, frozen=True, kw_only=True):
    """An event with its place. ``task`` is ``None`` for what belongs to no task; ``seq`` is then 0."""

    at: datetime
    body: Body
    task: str | None = None
    seq: int = 0

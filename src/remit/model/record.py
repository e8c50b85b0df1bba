"""What the ledger holds: one record an event, as canonical JSON (RFC 8785).

Rules
* An entry is ``{"at","body","kind","seq","task","v"}``; ``v`` is 1. Fields of a body are only ever added, with defaults.
* Records hold text, integers, booleans, lists and maps, no floats: their sorted, compact form is then JCS.
* No secret and no argument or result value: digests only. A task's inputs are in its opening record, because the
  grant is made from them; do not put a secret into a task's inputs.
* What is made most often is a struct, which is made in a tenth of a dataclass's time.
* Records of calls, leases, tokens, delegation and other things stand in modules of their own, under these rules.
* Left out: who reads them (``logic/life.py`` folds, ``logic/audit.py`` verifies).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec import Struct

from remit.model.call_record import (
    ApprovalAnswered,
    CallDecided,
    CallFinished,
    LabelsLowered,
    LabelsRaised,
    ReasonLine,
    SourceLine,
    ValuesForgotten,
)
from remit.model.console import PasskeyAdded, PasskeyRemoved, PersonSignedIn, PersonSignedOut, SignInRefused
from remit.model.delegation_record import (
    AgentsRestored,
    AgentsStopped,
    DelegableLine,
    DelegationRefused,
    TaskDelegated,
    TaskNarrowed,
    TaskReturned,
)
from remit.model.drill import DrillRan
from remit.model.lease_record import (
    LeaseIntended,
    LeaseIssued,
    LeaseLine,
    LeaseRevoked,
    LeaseRevoking,
    LeaseStuck,
    LeaseSwept,
    TargetSecretSet,
)
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.signal import SignalFollowed, SignalReceived, SignalRefused, StreamChanged
from remit.model.token_record import (
    AuthorityMade,
    KeysRotated,
    TokenIssued,
    TokenRefused,
    TokenRevoked,
)
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

"""What one record of the ledger counts as: names of counters, by its kind and what it says. Pure.

Rules: the names are a closed set (`COUNTERS`); nothing that an agent, a server or a stranger chose becomes one. A name says what happened,
not whether that is good: what follows from it is ``logic/report_rules.py``'s. Left out: what can only be seen from several records together
(``logic/tally.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished, LabelsLowered, LabelsRaised, ValuesForgotten
from remit.model.catalog import Effect
from remit.model.console import PasskeyAdded, PasskeyRemoved, PersonSignedIn, PersonSignedOut, SignInRefused, Via
from remit.model.decision import Code
from remit.model.delegation_record import AgentsRestored, AgentsStopped, DelegationRefused, TaskDelegated, TaskNarrowed, TaskReturned
from remit.model.drill import DrillRan, Incident, Outcome
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseStuck, LeaseSwept, TargetSecretSet
from remit.model.manifest import Follows, ManifestAccepted, ManifestChanged
from remit.model.record import AccessDecided, PolicyActivated, TaskMoved, TaskOpened
from remit.model.signal import SignalFollowed, SignalReceived
from remit.model.task import TaskState
from remit.model.token_record import AuthorityMade, KeysRotated, TokenIssued, TokenRefused, TokenRevoked
from remit.model.tripwire import SecretFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remit.model.record import Body

_CODES = {code.value for code in Code}
_STATES = {state.value for state in TaskState}
_PLAIN: dict[type[Any], str] = {
    TaskNarrowed: "tasks.narrowed",
    TaskDelegated: "delegations.made",
    TaskReturned: "delegations.returned",
    AgentsStopped: "agents.stopped",
    AgentsRestored: "agents.restored",
    TokenRevoked: "tokens.revoked",
    KeysRotated: "keys.rotated",
    LabelsRaised: "labels.raised",
    LabelsLowered: "labels.lowered",
    PolicyActivated: "policies.activated",
    ManifestAccepted: "manifests.accepted",
    SignalFollowed: "signals.followed",
    LeaseIssued: "leases.issued",
    LeaseRevoked: "leases.revoked",
    LeaseStuck: "leases.stuck",
    LeaseSwept: "leases.swept",
    SecretFound: "secrets.stopped",
    ValuesForgotten: "values.forgotten",
    PersonSignedOut: "people.signed_out",
    PasskeyAdded: "passkeys.added",
    PasskeyRemoved: "passkeys.removed",
}


def counted(body: Body) -> Iterator[tuple[str, int]]:
    """Counters and by how much they grow."""
    plain = _PLAIN.get(type(body))
    if plain is not None:
        yield plain, 1
        return
    count = _COUNTING.get(type(body))
    if count is not None:
        yield from count(body)


def _call(body: CallDecided) -> Iterator[tuple[str, int]]:
    yield "calls.decided", 1
    if body.outcome in {"allow", "ask", "deny"}:
        yield f"calls.{body.outcome}", 1
    for code in dict.fromkeys(reason.code for reason in body.reasons):
        if code in _CODES:
            yield f"because.{code}", 1
    if body.effect == Effect.IRREVERSIBLE:
        yield "calls.irreversible", 1
        if body.outcome == "ask":
            yield "calls.irreversible_asked", 1
    if body.outcome == "allow" and (body.rank or body.untrusted):
        yield "labels.carried", 1
    if body.leaves:
        yield "origins.traced", 1
    if body.signals:
        yield "calls.unlike_the_past", 1
    if body.ancestors:
        yield "calls.of_children", 1


def _finished(_body: CallFinished) -> Iterator[tuple[str, int]]:
    yield "calls.finished", 1


def _opened(body: TaskOpened) -> Iterator[tuple[str, int]]:
    yield "tasks.opened", 1
    yield ("tasks.with_manifest" if body.manifest else "tasks.without_manifest"), 1
    yield ("tasks.for_a_proved_person" if body.on_behalf_proof else "tasks.for_a_named_person"), 1


def _moved(body: TaskMoved) -> Iterator[tuple[str, int]]:
    if body.to in _STATES:
        yield f"tasks.{body.to}", 1


def _token(body: TokenIssued) -> Iterator[tuple[str, int]]:
    if body.use != "task-token":
        yield "svids.issued", 1
        return
    yield "tokens.issued", 1
    yield ("tokens.bound" if body.bound else "tokens.unbound"), 1


def _refused(body: TokenRefused) -> Iterator[tuple[str, int]]:
    yield "proofs.refused", 1 + max(body.skipped, 0)


def _delegation(body: DelegationRefused) -> Iterator[tuple[str, int]]:
    yield "delegations.refused", 1 + max(body.skipped, 0)


def _answered(body: ApprovalAnswered) -> Iterator[tuple[str, int]]:
    yield "approvals.answered", 1
    if body.state in {"granted", "denied"}:
        yield f"approvals.{body.state}", 1
    if body.shown:
        yield "approvals.shown", 1
    if body.passkey:
        yield "approvals.by_passkey", 1


def _signed_in(body: PersonSignedIn) -> Iterator[tuple[str, int]]:
    yield "people.signed_in", 1
    if body.via == Via.OIDC:
        yield "people.signed_in_at_a_provider", 1


def _sign_in_refused(body: SignInRefused) -> Iterator[tuple[str, int]]:
    yield "people.refused", 1 + max(body.skipped, 0)


def _changed(body: ManifestChanged) -> Iterator[tuple[str, int]]:
    yield ("manifests.recorded_only" if body.follows == Follows.RECORD else "manifests.held"), 1


def _signal(body: SignalReceived) -> Iterator[tuple[str, int]]:
    yield ("signals.accepted" if body.outcome == "accepted" else "signals.refused"), 1 + max(body.skipped, 0)


def _lease(body: LeaseIntended) -> Iterator[tuple[str, int]]:
    yield "leases.intended", 1
    if body.stands:
        yield "leases.of_standing_secrets", 1


def _authority(body: AuthorityMade) -> Iterator[tuple[str, int]]:
    yield "authorities.made", 1
    if body.number > 1:  # the first takes nobody's place
        yield "authorities.replaced", 1


def _secret(body: TargetSecretSet) -> Iterator[tuple[str, int]]:
    if body.rotation == "done":
        yield "targets.secrets_rotated", 1
    elif not body.rotation:  # the first that a person hands over takes nobody's place: logic/tally.py sees whether it is
        yield "targets.secrets_set", 1


def _answer(body: AccessDecided) -> Iterator[tuple[str, int]]:
    yield "answers.decided", 1
    if body.outcome != "allow":
        yield "answers.denied", 1


def _drill(body: DrillRan) -> Iterator[tuple[str, int]]:
    if body.drill in set(Incident) and body.outcome in set(Outcome):
        yield f"drill.{body.drill}.{body.outcome}", 1


_COUNTING: dict[type[Any], Callable[[Any], Iterator[tuple[str, int]]]] = {
    CallDecided: _call,
    CallFinished: _finished,
    TaskOpened: _opened,
    TaskMoved: _moved,
    TokenIssued: _token,
    TokenRefused: _refused,
    DelegationRefused: _delegation,
    ApprovalAnswered: _answered,
    PersonSignedIn: _signed_in,
    SignInRefused: _sign_in_refused,
    ManifestChanged: _changed,
    SignalReceived: _signal,
    LeaseIntended: _lease,
    TargetSecretSet: _secret,
    AuthorityMade: _authority,
    AccessDecided: _answer,
    DrillRan: _drill,
}
ACROSS = (  # counted by logic/tally.py
    "calls.allowed_outside_life",
    "calls.allowed_while_stopped",
    "leases.standing_now",
    "leases.stuck_now",
    "ledger.entries",
    "ledger.entries_that_do_not_fold",
    "targets.secrets_set_again",
)
COUNTERS = frozenset(
    {
        *_PLAIN.values(),
        *ACROSS,
        *(f"because.{code}" for code in _CODES),
        *(f"tasks.{state}" for state in _STATES),
        *(f"drill.{drill}.{outcome}" for drill in Incident for outcome in Outcome),
        *[
            "calls.decided",
            "calls.allow",
            "calls.ask",
            "calls.deny",
            "calls.irreversible",
            "calls.irreversible_asked",
            "calls.unlike_the_past",
        ],
        *["calls.of_children", "calls.finished", "labels.carried", "origins.traced", "tasks.opened", "tasks.with_manifest"],
        *["tasks.without_manifest", "tasks.for_a_proved_person", "tasks.for_a_named_person", "svids.issued", "tokens.issued"],
        *["tokens.bound", "tokens.unbound", "proofs.refused", "delegations.refused", "approvals.answered", "approvals.granted"],
        *["approvals.denied", "approvals.shown", "manifests.recorded_only", "manifests.held", "signals.accepted", "signals.refused"],
        *["people.signed_in", "people.signed_in_at_a_provider", "people.refused", "approvals.by_passkey"],
        *["leases.intended", "leases.of_standing_secrets", "answers.decided", "answers.denied"],
        *["targets.secrets_rotated", "targets.secrets_set", "authorities.made", "authorities.replaced"],
    }
)

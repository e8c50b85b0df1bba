"""A task's records as a story for people: what happened, who did it, why, and how the labels rose. Pure.

Rules: told is what the records say, in their order; nothing is guessed. A call and its end are one step, at the place of the decision.
Texts are as they were recorded: whoever shows them escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remit.logic.reason_words import meaning
from remit.logic.tracing import explained, recorded_origins, recorded_references
from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished, LabelsLowered, LabelsRaised
from remit.model.delegation_record import TaskDelegated, TaskNarrowed, TaskReturned
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseRevoking, LeaseStuck
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.record import TaskMoved, TaskOpened
from remit.model.token_record import TokenIssued, TokenRefused, TokenRevoked
from remit.model.tripwire import SecretFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remit.logic.outline import Outline
    from remit.model.labels import Labels
    from remit.model.record import Body, Record

_ORIGINS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A reason: its code, what that means, where it bites ("" : the whole call)."""

    code: str
    means: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whence:
    """Where a part of the arguments came from, in a sentence; ``strange``: not known, or from a stranger."""

    text: str
    strange: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a task. ``kind``: allow, ask, deny, state, approval, lease, token, labels, delegation, drift or leak.

    ``index``: its entry of the ledger. ``title``: what; ``by``: who; ``told``: more, a sentence each. Of a call: ``why``, ``origins``,
    ``policies``, ``decision``, and ``end`` ("" : not known, or none). ``labels``: after it; ``raised``: it raised them.
    """

    index: int
    seq: int
    at: datetime
    kind: str
    title: str
    labels: Labels
    by: str = ""
    told: tuple[str, ...] = ()
    why: tuple[Why, ...] = ()
    origins: tuple[Whence, ...] = ()
    policies: tuple[str, ...] = ()
    decision: str = ""
    approval: str = ""
    effect: str = ""
    end: str = ""
    raised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A step as its record tells it, before its place is known."""

    kind: str
    title: str
    by: str = ""
    told: tuple[str, ...] = ()
    why: tuple[Why, ...] = ()
    origins: tuple[Whence, ...] = ()
    policies: tuple[str, ...] = ()
    decision: str = ""
    approval: str = ""
    effect: str = ""


def steps_of(records: Iterable[tuple[int, Record]], ends: Iterable[Record], outline: Outline) -> list[Step]:
    """The steps of a part of a task's story. ``records``: of that part, each with its entry's index; ``ends``: of its calls, beyond it
    (``Outline.records_of``). An end whose call began before the part is passed over.
    """
    steps: list[Step] = []
    places: dict[str, int] = {}
    for index, record in (*records, *((-1, end) for end in ends)):
        body, (labels, raised) = record.body, outline.labels_after(record.seq)
        if isinstance(body, CallFinished):
            if body.decision in places:
                begun = steps[places[body.decision]]
                end = f"{body.ending.replace('_', ' ')}, {body.size:,} bytes, after {(record.at - begun.at).total_seconds():.1f} s"
                ended = replace(begun, end=end, labels=labels if raised else begun.labels, raised=begun.raised or raised)
                steps[places[body.decision]] = ended
            continue
        if isinstance(body, CallDecided):
            places[body.decision] = len(steps)
        told = _told(body)
        parts = {name: getattr(told, name) for name in Told.__slots__}
        steps.append(Step(index=index, seq=record.seq, at=record.at, labels=labels, raised=raised, **parts))
    return steps


def _told(body: Body) -> Told:
    if isinstance(body, CallDecided):
        return _call(body)
    if isinstance(body, LeaseIntended | LeaseIssued | LeaseRevoking | LeaseRevoked | LeaseStuck):
        return _lease(body)
    if isinstance(body, TaskDelegated | TaskReturned | TaskNarrowed):
        return _delegation(body)
    if isinstance(body, TokenIssued | TokenRefused | TokenRevoked):
        return _token(body)
    return _other(body)


def _call(body: CallDecided) -> Told:
    leaves = (*recorded_origins(body), *recorded_references(body))
    strange_first = sorted(leaves, key=lambda leaf: leaf.trusted)
    origins = [Whence(text=explained(leaf), strange=not leaf.trusted) for leaf in strange_first[:_ORIGINS_MAX]]
    if len(leaves) > _ORIGINS_MAX:
        origins.append(Whence(text=f"and {len(leaves) - _ORIGINS_MAX} more parts", strange=False))
    told = [f"{name}: {amount} spent" for name, amount in sorted(body.sums.items())]
    if body.signals:
        told.append(f"unlike the past of its task type: {', '.join(body.signals)}")
    if body.leans_on:
        told.append(f"preauthorized by {body.leans_on}")
    if body.leaked:
        told.append(f"it carried what was leased as {', '.join(body.leaked)}")
    kind = "" if body.tool_kind == "tool" else f"{body.tool_kind} "
    return Told(
        kind=body.outcome,
        title=f"{kind}{body.server}/{body.name}",
        by=body.agent,
        told=tuple(told),
        why=tuple(Why(code=line.code, means=meaning(line.code), where=line.where) for line in body.reasons),
        origins=tuple(origins),
        policies=tuple(body.policies),
        decision=body.decision,
        approval=body.approval,
        effect=body.effect,
    )


def _lease(body: LeaseIntended | LeaseIssued | LeaseRevoking | LeaseRevoked | LeaseStuck) -> Told:
    if isinstance(body, LeaseIntended):
        stands = (f"it is a standing secret of {body.target}: no end of a task makes it go",) if body.stands else ()
        return Told(kind="lease", title=f"credential {body.name} on {body.target} intended", told=(f"as {body.mark}", *stands))
    if isinstance(body, LeaseIssued):
        return Told(kind="lease", title=f"credential {body.lease} issued")
    if isinstance(body, LeaseRevoking):
        return Told(kind="lease", title=f"credential {body.lease} has to go", by=body.by, told=_some(body.reason))
    if isinstance(body, LeaseStuck):
        return Told(kind="lease", title=f"credential {body.lease} is stuck: still on its target", told=_some(body.code))
    gone = "there was nothing of it" if body.absent else "its target confirmed that nothing of it is left"
    return Told(kind="lease", title=f"credential {body.lease} is gone", told=(gone,))


def _delegation(body: TaskDelegated | TaskReturned | TaskNarrowed) -> Told:
    if isinstance(body, TaskDelegated):
        lent = f"lent: {body.lent.calls} calls"
        return Told(kind="delegation", title=f"delegated to {body.agent}", by=body.by, told=(f"child {body.child}", lent))
    if isinstance(body, TaskReturned):
        return Told(kind="delegation", title=f"{body.child} came back", told=(f"it spent {body.spent.calls} calls",))
    lines = tuple(f"line {line}: {'no more' if not uses else f'{uses} times'}" for line, uses in body.uses.items())
    return Told(kind="delegation", title="the grant was narrowed", by=body.by, told=(*lines, *_some(body.reason)))


def _token(body: TokenIssued | TokenRefused | TokenRevoked) -> Told:
    if isinstance(body, TokenIssued):
        until = f"until {body.expires_at:%Y-%m-%d %H:%M:%S}"
        where = f", for {body.audience}" if body.audience else ""
        told = (until + where, f"proved by {body.subject_proof}")
        return Told(kind="token", title=f"{body.use.removesuffix('-token')} token issued", by=body.agent, told=told)
    if isinstance(body, TokenRevoked):
        return Told(kind="token", title="a token was revoked", by=body.by)
    return Told(kind="deny", title="a token was refused", by=body.claimed, told=_some(body.why))


def _other(body: Body) -> Told:
    if isinstance(body, TaskOpened):
        return Told(kind="state", title="opened", by=body.opened_by, told=_some(f"for {body.on_behalf_of}", body.on_behalf_proof))
    if isinstance(body, TaskMoved):
        open_ends = (f"{len(body.undetermined)} calls of unknown end",) if body.undetermined else ()
        return Told(kind="state", title=body.to, by=body.by, told=(*_some(body.reason), *open_ends))
    if isinstance(body, ApprovalAnswered):
        said = "approved" if body.state != "denied" else "denied"
        wide = (f"a class of {body.calls} calls until {body.until:%H:%M:%S}",) if body.until else ()
        how = (f"by {body.via}",) if body.via else ()
        return Told(kind="approval", title=said, by=body.by, told=(*_some(body.reason), *wide, *how), approval=body.approval)
    if isinstance(body, LabelsRaised):
        return Told(kind="labels", title="the labels rose", told=_some(f"through its child {body.child}" if body.child else ""))
    if isinstance(body, LabelsLowered):
        return Told(kind="labels", title="declassified", by=body.by, told=_some(body.reason))
    if isinstance(body, ManifestChanged):
        parts = tuple(f"{part.part}" for part in body.parts)
        return Told(kind="drift", title="the agent is no longer what it was", by=body.by, told=(*parts, f"follows: {body.follows}"))
    if isinstance(body, ManifestAccepted):
        return Told(kind="drift", title="the change was accepted", by=body.by, told=_some(body.reason))
    if isinstance(body, SecretFound):
        found = f"in {body.place}: {', '.join(body.names)}"
        return Told(kind="leak", title="a leased secret was found and stopped", by=body.by, told=(found,))
    return Told(kind="state", title=type(body).__name__)


def _some(*texts: str) -> tuple[str, ...]:
    return tuple(text for text in texts if text)

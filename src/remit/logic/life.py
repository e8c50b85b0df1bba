"""A task's life: a pure fold over its records.

Rules: ``fold`` is the only way a task comes into being or changes. A record that the state does not admit is a broken
ledger (``Broken``), never skipped. Labels only rise, but for a person's declassification; what is spent is given back only by
a call that was not made; an approval opens one call.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Conflict
from remit.logic.leases import all_revoking, leases_after, terms_of, without_lost_parts
from remit.logic.manifest import fold_accepted, fold_changed, held, named
from remit.logic.tree import delegable_of, delegated, narrowed, returned, source_of
from remit.model.approval import APPROVAL_MOVES, Answer, Approval, ApprovalState, Widening
from remit.model.budget import Budget, Spent, SumBudget
from remit.model.call import Ending
from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished, LabelsLowered, LabelsRaised
from remit.model.catalog import Kind
from remit.model.delegation_record import TaskDelegated, TaskNarrowed, TaskReturned
from remit.model.grant import Grant
from remit.model.identity import SpiffeId
from remit.model.labels import Labels
from remit.model.lease_record import LeaseRecord
from remit.model.manifest import ManifestAccepted, ManifestChanged
from remit.model.permit import Permit
from remit.model.record import GrantLine, Record, TaskMoved, TaskOpened
from remit.model.task import TASK_MOVES, Task, TaskState, amended
from remit.model.token_record import TokenIssued, TokenRefused, TokenRevoked
from remit.model.tripwire import SecretFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Step = dict[str, Any]  # what every record changes: ``seq`` and ``leaf``


def fold(task: Task | None, record: Record, leaf: bytes) -> Task:
    """The task after a record. ``leaf`` is the record's leaf hash. Raises Broken."""
    body = record.body
    if task is None:
        if not isinstance(body, TaskOpened) or record.task is None or record.seq != 1:
            raise Broken(f"the ledger's first record of a task is {type(body).__name__}, number {record.seq}")
        return _opened(record.task, body, record.at, leaf)
    if record.task != task.id or record.seq != task.seq + 1:
        raise Broken(f"record {record.seq} of task {record.task} does not follow {task.seq} of {task.id}")
    step: Step = {"seq": record.seq, "leaf": leaf, "permit": None}  # whatever happens voids a permit, but for what says otherwise
    if isinstance(body, CallDecided):
        return _decided(task, body, record.at, step)
    if isinstance(body, CallFinished):
        return _finished(task, body, step)
    if isinstance(body, (TokenIssued, TokenRefused)):
        return amended(task, **{**step, "permit": task.permit})
    if isinstance(body, ApprovalAnswered):
        return _answered(task, body, record.at, step)
    if isinstance(body, LabelsRaised):
        return amended(task, labels=task.labels.join(Labels(body.rank, body.untrusted)), **step)
    if isinstance(body, LabelsLowered):
        return amended(task, labels=Labels(body.rank, body.untrusted), **step)
    if isinstance(body, TaskMoved):
        return _moved(task, body, record.at, step)
    if isinstance(body, ManifestChanged):
        return _drifted(task, body, record.at, step)
    if isinstance(body, ManifestAccepted):
        return _moved(fold_accepted(task, body), TaskMoved(to=TaskState.ACTIVE, by=body.by, reason=body.reason), record.at, step)
    if isinstance(body, SecretFound):
        return _leaked(task, body, record.at, step)
    if isinstance(body, LeaseRecord):
        return amended(task, leases=leases_after(task, body, record.at), **step)
    if isinstance(body, TaskNarrowed):
        after = narrowed(task, body, step)
        return amended(after, leases=without_lost_parts(after, record.at))
    if isinstance(body, TaskDelegated):
        return delegated(task, body, step)
    if isinstance(body, TaskReturned):
        return returned(task, body, record.at, step)
    if isinstance(body, TokenRevoked):
        return amended(task, revoked_tokens=task.revoked_tokens | {body.jti}, **step)
    raise Broken(f"a record {type(body).__name__} does not belong to a task")


def check_move(task: Task, to: TaskState) -> None:
    """Raise Conflict where the table has no such move."""
    if to not in TASK_MOVES[task.state]:
        raise Conflict(
            f"task {task.id} is {task.state}; it cannot become {to}",
            code="task_state",
            hint=f"from {task.state} it can become: {', '.join(sorted(TASK_MOVES[task.state])) or 'nothing, it has ended'}",
        )
    if to is TaskState.ACTIVE and held(task):
        raise Conflict(
            f"the manifest of task {task.id} changed ({named(held(task))}), and nobody has accepted it",
            code="manifest_changed",
            hint=f"`remit task drift {task.id}` shows the difference, `remit task resume` accepts it",
        )


def pending_approval(task: Task, call: str, digest: str, now: datetime) -> Approval | None:
    """The question that already stands open for exactly this call."""
    return _approval(task, call, digest, ApprovalState.PENDING, now)


def refused_approval(task: Task, call: str, digest: str, now: datetime) -> Approval | None:
    """A person's no to exactly this call; it holds until the question would have expired."""
    return _approval(task, call, digest, ApprovalState.DENIED, now)


def _approval(task: Task, call: str, digest: str, state: ApprovalState, now: datetime) -> Approval | None:
    for approval in task.approvals.values():
        if (approval.state, approval.call, approval.digest) == (state, call, digest) and now < approval.expires_at:
            return approval
    return None


def _opened(task: str, body: TaskOpened, at: datetime, leaf: bytes) -> Task:
    grants = tuple(grant_of(line) for line in body.grants)
    return Task(
        id=task,
        type=body.type,
        agent=SpiffeId.parse(body.agent),
        on_behalf_of=body.on_behalf_of,
        objective=body.objective,
        inputs=body.inputs,
        grants=grants,
        tools=body.tools,
        ceiling=body.ceiling,
        budget=_budget(body),
        opened_at=at,
        deadline=body.deadline,
        seq=1,
        leaf=leaf,
        uses=(0,) * len(grants),
        opened_by=body.opened_by,
        self_service=body.self_service,
        watched=body.watched,
        preauthorized_seconds=body.preauthorized_seconds,
        autonomy=body.autonomy,
        on_behalf_proof=body.on_behalf_proof,
        manifest=body.manifest,
        drift_rules=body.drift,
        terms=tuple(terms_of(line) for line in body.leases),
        labels=Labels(body.rank, body.untrusted),
        ancestors=tuple(body.ancestors),
        chain=tuple(body.chain),
        begun_by=body.begun_by,
        origins={name: source_of(line) for name, line in body.origins.items()},
        delegable=delegable_of(body.delegable),
    )


def grant_of(line: GrantLine) -> Grant:
    """A line of a grant from its record."""
    return Grant(
        kind=Kind(line.kind),
        server=line.server,
        name=line.name,
        arguments=line.arguments,
        uses=line.uses,
        autonomy=line.autonomy,
        approved_values=line.approved_values,
        of=line.of,
    )


def _budget(body: TaskOpened) -> Budget:
    sums = tuple(
        SumBudget(name=line.name, tool=line.tool, argument=line.argument, maximum=Decimal(line.maximum), counted=line.counted)
        for line in body.sums
    )
    return Budget(
        calls=body.budget_calls,
        rate_calls=body.rate_calls,
        rate_seconds=body.rate_seconds,
        bytes_read=body.bytes_read,
        resources=body.resources,
        sums=sums,
    )


def _moved(task: Task, body: TaskMoved, at: datetime, step: Step) -> Task:
    to = TaskState(body.to)
    if to not in TASK_MOVES[task.state]:
        raise Broken(f"the ledger moves task {task.id} from {task.state} to {to}")
    if to is TaskState.ACTIVE and held(task):
        raise Broken(f"the ledger moves task {task.id} to {to}, whose drift nobody has accepted")
    if to is not TaskState.ACTIVE:
        step["leases"] = all_revoking(task.leases, at, f"the task is {to}")
    step["authority"] = task.authority + 1
    if TASK_MOVES[to]:
        return amended(task, state=to, note=body.reason, **step)
    return amended(task, state=to, ended_at=at, note=body.reason, in_flight={}, **step)


def _drifted(task: Task, body: ManifestChanged, at: datetime, step: Step) -> Task:
    """One record both tells of the change and suspends: between two of them a call would still be allowed."""
    changed, why = fold_changed(task, body)
    return _moved(changed, TaskMoved(to=TaskState.SUSPENDED, by=body.by, reason=why), at, step) if why else amended(changed, **step)


def _leaked(task: Task, body: SecretFound, at: datetime, step: Step) -> Task:
    """As with drift, one record both tells of it and suspends."""
    why = f"a credential of lease {', '.join(sorted(set(body.names)))} was found in {body.place}"
    return _moved(task, TaskMoved(to=TaskState.SUSPENDED, by=body.by, reason=why), at, step)


def _decided(task: Task, body: CallDecided, at: datetime, step: Step) -> Task:
    if body.outcome == "allow":
        return _allowed(task, body, at, step)
    if body.outcome == "deny":
        return amended(task, denied=task.denied + 1, **{**step, "permit": task.permit})
    step["permit"] = task.permit
    approvals = task.approvals
    if body.approval not in approvals:
        if body.approval_expires_at is None:
            raise Broken(f"question {body.approval} of task {task.id} has no end")
        question = Approval(
            id=body.approval,
            call=f"{body.tool_kind} {body.server}/{body.name}",
            digest=body.arguments_digest,
            state=ApprovalState.PENDING,
            expires_at=body.approval_expires_at,
            needed=body.question.needed if body.question else 1,
            four_eyes=body.question.four_eyes if body.question else False,
            passkey=body.question.passkey if body.question else False,
        )
        approvals = {**approvals, body.approval: question}
    return amended(task, asked=task.asked + 1, approvals=approvals, **step)


def _allowed(task: Task, body: CallDecided, at: datetime, step: Step) -> Task:
    if task.state is not TaskState.ACTIVE or task.calls + task.lent.calls >= task.budget.calls:
        raise Broken(f"the ledger allows a call of task {task.id}, which is {task.state} after {task.calls} calls")
    approvals = task.approvals
    if body.approval:
        approvals = {**approvals, body.approval: _opened_once_more(task, body, at)}
    spent = Spent(grant=body.grant, sums={name: Decimal(amount) for name, amount in body.sums.items()}, resource=body.resource)
    rate, labels = task.budget.rate_calls, task.labels.join(Labels(body.rank, body.untrusted))
    step["permit"] = _permit(task, body, at) if labels == task.labels else None
    return amended(
        task,
        calls=task.calls + 1,
        uses=tuple(count + (index == body.grant) for index, count in enumerate(task.uses)),
        labels=labels,
        approvals=approvals,
        in_flight={**task.in_flight, body.decision: spent},
        last_call=f"{body.server}/{body.name}" if task.watched else "",
        sums=_added(task.sums, spent.sums, 1) if spent.sums else task.sums,
        recent=(*task.recent, at)[-rate:] if rate else (),
        resources=task.resources | {body.resource} if body.resource and task.budget.resources else task.resources,
        results=task.results + body.learnt,
        **step,
    )


def _finished(task: Task, body: CallFinished, step: Step) -> Task:
    spent = task.in_flight.get(body.decision)
    if spent is None:
        raise Broken(f"the ledger ends call {body.decision} of task {task.id}, which is not under way")
    step["in_flight"] = {decision: other for decision, other in task.in_flight.items() if decision != body.decision}
    if body.ending == Ending.NOT_MADE:
        uses = tuple(count - (index == spent.grant) for index, count in enumerate(task.uses))
        return amended(task, calls=task.calls - 1, uses=uses, sums=_added(task.sums, spent.sums, -1), **step)
    if body.learnt:
        step["results"] = task.results + 1
    if body.rank or body.untrusted:
        step["labels"] = task.labels.join(Labels(body.rank, body.untrusted))
    if task.budget.bytes_read:
        step["bytes_read"] = task.bytes_read + body.size
    if step.get("labels", task.labels) == task.labels:
        step["permit"] = task.permit
    return amended(task, **step)


def _permit(task: Task, body: CallDecided, at: datetime) -> Permit | None:
    """The permit after an allowed call: the one it gives, or the one it leans on. Any other call voids what stood."""
    if body.leans_on:
        if task.permit is None or task.permit.decision != body.leans_on or at >= task.permit.until:
            raise Broken(f"the ledger allows call {body.decision} of task {task.id} by a permit that does not stand")
        return task.permit
    if not body.preauthorizes:
        return None
    return Permit(
        decision=body.decision,
        call=f"{body.tool_kind} {body.server}/{body.name}",
        grant=body.grant,
        until=at + timedelta(seconds=body.preauthorizes),
        policies=tuple(body.class_policies),
        rules=(body.policy_set, body.rulebook, body.tool_digest, body.effect, body.data_class, body.trust),
    )


def _added(sums: Mapping[str, Decimal], spent: Mapping[str, Decimal], sign: int) -> dict[str, Decimal]:
    return {**sums, **{name: sums.get(name, Decimal()) + sign * amount for name, amount in spent.items()}}


def _answered(task: Task, body: ApprovalAnswered, at: datetime, step: Step) -> Task:
    to = ApprovalState(body.state)
    known = _known(task, body.approval, to)
    if known.state is not ApprovalState.PENDING or any(answer.by == body.by for answer in known.answers):
        raise Broken(f"the ledger answers approval {body.approval} of task {task.id}, which {body.by} cannot answer")
    answer = Answer(by=body.by, granted=to is not ApprovalState.DENIED, at=at, reason=body.reason, via=body.via, passkey=body.passkey)
    if answer.granted and known.passkey and not answer.passkey:
        raise Broken(f"the ledger grants approval {body.approval} of task {task.id} without the passkey that it wants")
    answers = (*known.answers, answer)
    if to is not ApprovalState.DENIED and to is not after_a_yes(known):
        raise Broken(f"the ledger makes approval {body.approval} of task {task.id} {to} after {len(answers)} of {known.needed} answers")
    widened = _widened(known, body)
    granted = to is ApprovalState.GRANTED
    answered = replace(
        known,
        state=to,
        by=", ".join(answer.by for answer in answers) if granted else body.by,
        reason=body.reason,
        answers=answers,
        shown=body.shown and (known.shown or not known.answers),
        widened=widened,
        expires_at=widened.until if granted and widened is not None else known.expires_at,
    )
    return amended(task, approvals={**task.approvals, body.approval: answered}, **step)


def after_a_yes(question: Approval) -> ApprovalState:
    """The state of a pending question after one more yes."""
    return ApprovalState.GRANTED if len(question.answers) + 1 >= question.needed else ApprovalState.PENDING


def _widened(question: Approval, body: ApprovalAnswered) -> Widening | None:
    """The class as far as all who answered agree: a later answer never widens what an earlier one held fast."""
    if body.until is None:
        return None
    if question.answers and (question.widened is None or body.calls > question.widened.calls or body.until > question.widened.until):
        raise Broken(f"the ledger widens approval {question.id} beyond what was answered before")
    return Widening(calls=body.calls, until=body.until, free=tuple(body.free), fixed=body.fixed)


def _opened_once_more(task: Task, body: CallDecided, at: datetime) -> Approval:
    """The approval after one more use: never after its time, never more often than it was given for."""
    known = _known(task, body.approval, ApprovalState.USED)
    call = f"{body.tool_kind} {body.server}/{body.name}"
    if at >= known.expires_at or known.call != call:
        raise Broken(f"the ledger uses approval {body.approval} of task {task.id} for what it does not open")
    uses = known.uses + 1
    last = uses >= (known.widened.calls if known.widened else 1)
    return replace(known, uses=uses, state=ApprovalState.USED if last else known.state)


def _known(task: Task, approval: str, to: ApprovalState) -> Approval:
    known = task.approvals.get(approval)
    if known is None or to not in APPROVAL_MOVES[known.state]:
        raise Broken(f"the ledger makes approval {approval} of task {task.id} {to}")
    return known

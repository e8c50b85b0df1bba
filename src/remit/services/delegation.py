"""Opens child tasks: the one place where authority is handed on, whichever door it comes through.

    parent's bearer, what is wanted, who asks → Delegation → task, type, policy → *recorded in both tasks at once* → child

Rules: the parent's record (it has lent) and the child's first two are one transaction, under the condition that no agent was stopped and
no task above moved. Who asks is the parent's own agent, or the one that gets the child; nobody else, whatever token it holds. A refusal
is recorded with its code. What the parent has seen decides where the child's inputs come from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from remit.errors import Outage, Refusal
from remit.logic.delegation import Delegation, check_permitted, check_told, check_wanted, may_delegate, plan, refusal, traced_inputs
from remit.logic.lease_parts import divides
from remit.logic.leases import terms_line
from remit.logic.life import fold, grant_of
from remit.logic.records import encode, leaf_hash
from remit.model.delegation_record import DelegationRefused, TaskDelegated
from remit.model.lease_record import LeaseLine
from remit.model.record import Body, Record, TaskMoved, TaskOpened
from remit.model.task import Task, TaskState
from remit.services.equipment import http_server, leases_of
from remit.services.sparing import Sparing
from remit.services.task_rows import task_row
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.model.delegation import Wanted
    from remit.model.identity import Bearer, SpiffeId
    from remit.services.rules import Rules
    from remit.services.sightings import Sightings
    from remit.services.tasks import Tasks
    from remit.store.database import Store

_ATTEMPTS = 64


class Delegations:
    """Hands authority from task to task."""

    def __init__(
        self,
        tasks: Tasks,
        sightings: Sightings,
        rules: Rules,
        store: Store,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        records_max: int,
    ) -> None:
        """``records_max``: ledger records of one task."""
        self._tasks, self._sightings, self._rules, self._store = tasks, sightings, rules, store
        self._clock, self._new_id, self._records_max, self._refusals = clock, new_id, records_max, Sparing()

    async def delegate(self, parent: Bearer, wanted: Wanted, *, by: SpiffeId) -> Task:
        """An active child of the bearer's task. ``by``: the agent that asks, proved: the parent's own, or the one that gets the child.

        Raises Refusal (its codes are in ``docs/delegation.md``), Mistake, NotFound, Outage.
        """
        check_wanted(wanted)
        try:
            return await self._delegated(parent, wanted, by)
        except Refusal as refused:
            await self.refused(parent.task, by.text, refused.code, wanted.agent)
            raise

    async def refused(self, parent: str, by: str, code: str, agent: str = "") -> None:
        """Record a delegation that was not made; of very many the rest is counted. Raises Outage."""
        now = self._clock()
        skipped = self._refusals.admit(parent, now)
        if skipped is not None:
            body = DelegationRefused(parent=parent, by=by, code=code, agent=agent[:200], skipped=skipped)
            await self._store.append(Append(body=encode(Record(at=now, body=body))))

    async def _delegated(self, parent: Bearer, wanted: Wanted, by: SpiffeId) -> Task:
        declared = self._rules.configuration.agents.get(wanted.agent)
        if declared is None:
            raise refusal("child_actor_not_allowed", f"no agent {wanted.agent[:80]!r} is declared")
        child = self._new_id("task")

        def build(task: Task, now: datetime) -> tuple[Body, TaskOpened]:
            return self._built(task, wanted, declared.spiffe_id, by, child, now, declared.manifest.required)

        def beside(opened: TaskOpened, now: datetime) -> tuple[Append, ...]:
            return _opening(child, opened, now)

        for _ in range(_ATTEMPTS):
            try:
                await self._tasks.change(parent.task, build, beside=beside)
            except _BehindError:
                task = await self._tasks.view(parent.task)
                await self._sightings.load(task)
                await self._tasks.ancestors(task)
            else:
                return await self._tasks.view(child)
        raise Outage(f"task {parent.task} is changed by too many at once", code="task_busy")

    def _built(
        self, task: Task, wanted: Wanted, receiver: SpiffeId, by: SpiffeId, child: str, now: datetime, required: tuple[str, ...]
    ) -> tuple[TaskDelegated, TaskOpened]:
        seen, above = self._sightings.known(task), self._tasks.lineage(task)
        if seen is None or above is None:
            raise _BehindError
        if task.seq >= self._records_max:
            raise Refusal(f"task {task.id} has used up its {self._records_max} records", code="task_exhausted")
        rules, standing = self._rules.rulebook, self._tasks.standing
        stopped = standing.stopped([receiver.text, task.agent.text, *task.chain])
        facts = Delegation(
            parent=task, ancestors=above, wanted=wanted, receiver=receiver, by=by, now=now, classes=rules.classes, stopped=stopped
        )
        terms = check_permitted(facts)
        kind = self._rules.configuration.task_types.get(task.type)
        parts = check_told(facts, (*(kind.required if kind else ()), *required))
        facts = replace(facts, wanted=replace(wanted, manifest=parts))
        inputs = traced_inputs(facts, seen)
        answer = may_delegate(facts, rules.policies, inputs)
        if not answer.permitted:
            text = "a policy could not be evaluated" if answer.error else f"policy forbids it ({', '.join(answer.policies)})"
            raise refusal("policy_denied", text if answer.error or answer.policies else "no policy permits this delegation")
        delegated, opened = plan(facts, terms, inputs, child, answer)
        delegated = replace(delegated, policy_set=rules.policies.digest, rulebook=rules.kept)
        return delegated, replace(opened, configuration=rules.digest, leases=self._leases(task, opened))

    def _leases(self, parent: Task, opened: TaskOpened) -> list[LeaseLine]:
        """The parent's terms of leases that servers of the child's grant ask for: it gets credentials of its own, for its own grant.

        Raises Refusal where a scope cannot be divided so.
        """
        configuration = self._rules.configuration
        servers: dict[str, object] = {**configuration.servers, **{name: http_server(one) for name, one in configuration.egresses.items()}}
        asking: dict[str, set[str]] = {}
        for server, one in servers.items():
            for name, _ in leases_of(one):
                asking.setdefault(name, set()).add(server)
        lines = tuple(grant_of(line) for line in opened.grants)
        granted = {line.server for line in lines}
        found = [one for one in parent.terms if asking.get(one.name, set()) & granted]
        for terms in found:
            if not divides(terms, parent, lines, asking[terms.name]):
                text = f"the credential {terms.name} of task {parent.id} cannot be narrowed to this grant"
                hint = f"[[lease.part]] in tasks/{parent.type}.toml says what of it is for which tool"
                raise refusal("lease_not_divisible", text, hint)
        return [terms_line(terms) for terms in found]


def _opening(child: str, opened: TaskOpened, now: datetime) -> tuple[Append, ...]:
    """The child's first two records: opened, and active."""
    first = encode(Record(at=now, body=opened, task=child, seq=1))
    task = fold(None, Record(at=now, body=opened, task=child, seq=1), leaf_hash(first))
    moved = Record(at=now, body=TaskMoved(to=TaskState.ACTIVE.value, by=opened.opened_by), task=child, seq=2)
    second = encode(moved)
    active = fold(task, moved, leaf_hash(second))
    return (
        Append(body=first, task=child, seq=1, rows=(task_row(active),)),
        Append(body=second, task=child, seq=2, after=task.leaf),
    )


class _BehindError(Exception):
    """Leaves a build that needs what this process has not read yet."""

"""What delegation changes in a task: lending, taking back, narrowing. The part of ``life.py``'s fold that speaks of other tasks.

Rules: what is lent counts as spent until it comes back; what comes back is never more than was lent; a grant only ever narrows.
A rate counts attempts: a share that comes back counts as used just then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from remit.errors import Broken
from remit.model.call_record import SourceLine
from remit.model.catalog import Trust
from remit.model.delegation import Delegable, Purse
from remit.model.delegation_record import DelegableLine, PurseLine
from remit.model.origin import Source, SourceKind
from remit.model.task import TaskState, amended

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remit.model.delegation_record import TaskDelegated, TaskNarrowed, TaskReturned
    from remit.model.task import Task

Step = dict[str, Any]


def delegated(task: Task, body: TaskDelegated, step: Step) -> Task:
    """The task after it has lent to a child."""
    if task.over or body.child in task.children or body.request in task.requests:
        raise Broken(f"the ledger delegates from task {task.id}, which is {task.state}, to {body.child}")
    lent = purse_of(body.lent)
    return amended(
        task,
        children={**task.children, body.child: lent},
        requests=task.requests | {body.request},
        lent=task.lent.plus(lent),
        **step,
    )


def returned(task: Task, body: TaskReturned, at: datetime, step: Step) -> Task:
    """The task after a child was settled."""
    lent, spent = task.children.get(body.child), purse_of(body.spent)
    if lent is None or not within(spent, lent):
        raise Broken(f"the ledger gives task {task.id} back more than it lent to {body.child}")
    rate = task.budget.rate_calls
    return amended(
        task,
        children={child: purse for child, purse in task.children.items() if child != body.child},
        lent=task.lent.plus(lent, -1).plus(replace(spent, rate_calls=0)),
        recent=(*task.recent, *(at,) * lent.rate_calls)[-rate:] if rate else (),
        **step,
    )


def narrowed(task: Task, body: TaskNarrowed, step: Step) -> Task:
    """The task after a person has taken something of its grant away."""
    lines = {int(line): uses for line, uses in body.uses.items()}
    if task.over or any(not narrows(task, line, uses) for line, uses in lines.items()):
        raise Broken(f"the ledger widens task {task.id}, or narrows it after its end")
    grants = tuple(replace(grant, uses=lines.get(index, grant.uses)) for index, grant in enumerate(task.grants))
    return amended(task, grants=grants, authority=task.authority + 1, **step)


def cut_off(ancestors: Iterable[Task], now: datetime) -> bool:
    """Whether a task above has ended, has not begun, or is past its deadline: then nothing below opens anything. Suspension is not that."""
    return any(one.over or one.state is TaskState.PENDING or now >= one.deadline for one in ancestors)


def narrows(task: Task, line: int, uses: int) -> bool:
    """Whether a number of uses is less than what the line is granted."""
    before = task.grants[line].uses if 0 <= line < len(task.grants) else 0
    return uses >= 0 and (before is None or uses < before)


def spent_in_all(task: Task) -> Purse:
    """What an ended task and all below it have spent, by the lines of its parent. Its children must have been settled."""
    uses: dict[int, int] = {}
    for line, grant in enumerate(task.grants):
        uses[grant.of] = uses.get(grant.of, 0) + task.uses[line] + task.lent.uses.get(line, 0)
    names = {*task.sums, *task.lent.sums}
    return Purse(
        calls=task.calls + task.lent.calls,
        uses=uses,
        sums={name: task.sums.get(name, Decimal()) + task.lent.sums.get(name, Decimal()) for name in names},
        bytes_read=task.bytes_read + task.lent.bytes_read,
        resources=len(task.resources) + task.lent.resources,
    )


def capped(spent: Purse, lent: Purse) -> Purse:
    """Of what was spent, what was lent: of the rest (a line without a number of uses) nothing was taken from the lender."""
    return Purse(
        calls=min(spent.calls, lent.calls),
        uses={line: min(spent.uses.get(line, 0), uses) for line, uses in lent.uses.items()},
        sums={name: min(spent.sums.get(name, Decimal()), amount) for name, amount in lent.sums.items()},
        bytes_read=min(spent.bytes_read, lent.bytes_read),
        resources=min(spent.resources, lent.resources),
    )


def within(one: Purse, other: Purse) -> bool:
    """Whether a purse holds no more than another, of anything."""
    return (
        all(getattr(one, name) <= getattr(other, name) for name in ("calls", "bytes_read", "resources", "rate_calls"))
        and all(count <= other.uses.get(line, 0) for line, count in one.uses.items())
        and all(amount <= other.sums.get(name, Decimal()) for name, amount in one.sums.items())
    )


def purse_of(line: PurseLine) -> Purse:
    """A purse from its record."""
    return Purse(
        calls=line.calls,
        uses={int(number): count for number, count in line.uses.items()},
        sums={name: Decimal(amount) for name, amount in line.sums.items()},
        bytes_read=line.bytes_read,
        resources=line.resources,
        rate_calls=line.rate_calls,
    )


def purse_line(purse: Purse) -> PurseLine:
    """A purse as it is recorded."""
    return PurseLine(
        calls=purse.calls,
        uses={str(number): count for number, count in purse.uses.items()},
        sums={name: f"{amount:f}" for name, amount in purse.sums.items()},
        bytes_read=purse.bytes_read,
        resources=purse.resources,
        rate_calls=purse.rate_calls,
    )


def delegable_of(line: DelegableLine | None) -> Delegable | None:
    """The terms of delegating from their record."""
    if line is None:
        return None
    lifetime = timedelta(seconds=line.lifetime_seconds)
    return Delegable(to=tuple(line.to), depth=line.depth, fan_out=line.fan_out, lifetime=lifetime, cycles=line.cycles)


def delegable_line(terms: Delegable | None) -> DelegableLine | None:
    """The terms of delegating as they are recorded; of no depth there are none."""
    if terms is None or terms.depth < 1:
        return None
    seconds = int(terms.lifetime.total_seconds())
    return DelegableLine(to=list(terms.to), depth=terms.depth, fan_out=terms.fan_out, lifetime_seconds=seconds, cycles=terms.cycles)


def source_of(line: SourceLine) -> Source:
    """A source from its record."""
    trust = Trust.TRUSTED if line.trusted else Trust.UNTRUSTED
    return Source(kind=SourceKind(line.kind), name=line.name, trust=trust, field=line.field, number=line.number)


def source_line(source: Source) -> SourceLine:
    """A source as it is recorded."""
    trusted = source.trust is Trust.TRUSTED
    return SourceLine(kind=source.kind.value, name=source.name, trusted=trusted, field=source.field, number=source.number)

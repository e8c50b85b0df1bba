"""Learns what tasks of a type do, and says what of a call is unlike it. Pure.

Rules: only tasks that were completed teach, and of them only calls that were allowed; so what was refused, and what a person ended,
does not become usual. Below ``TASKS_MIN`` tasks nothing is unusual: there is no past to be unlike. Profiles are bounded; what no
longer fits is not learnt, and so stays unusual.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from remit.logic.budgets import spent_by
from remit.model.behaviour import Profile, Signal
from remit.model.budget import Spent
from remit.model.call_record import CallDecided

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.model.facts import Facts
    from remit.model.record import Record

TASKS_MIN = 10
_KNOWN_MAX = 10_000
_USUAL = Decimal("1.5")  # times the largest amount so far


def learnt(profile: Profile, records: Iterable[Record]) -> Profile:
    """The profile after one more completed task of the type."""
    tools, steps, resources = set(profile.tools), set(profile.steps), set(profile.resources)
    amounts, last = dict(profile.amounts), ""
    for record in records:
        body = record.body
        if not isinstance(body, CallDecided) or body.outcome != "allow":
            continue
        called = f"{body.server}/{body.name}"
        tools.add(called)
        steps.add((last, called))
        last = called
        if body.resource:
            resources.add(body.resource)
        for name, amount in body.sums.items():
            amounts[name] = max(amounts.get(name, Decimal()), Decimal(amount))
    grown = replace(profile, tasks=profile.tasks + 1, amounts=amounts)
    if max(len(tools), len(steps), len(resources)) > _KNOWN_MAX:
        return grown
    return replace(grown, tools=frozenset(tools), steps=frozenset(steps), resources=frozenset(resources))


def signals_of(facts: Facts, profile: Profile) -> tuple[Signal, ...]:
    """What of a call is unlike the past of its task's type."""
    spent = spent_by(facts, -1)
    return unusual(profile, facts.task.last_call, facts.call.id, spent if isinstance(spent, Spent) else Spent(grant=-1))


def unusual(profile: Profile, last: str, called: str, spent: Spent) -> tuple[Signal, ...]:
    """What of a call is unlike the past. ``last``: the task's call before it ("" : none)."""
    if profile.tasks < TASKS_MIN:
        return ()
    found = []
    if called not in profile.tools:
        found.append(Signal.NEW_TOOL)
    elif (last, called) not in profile.steps:
        found.append(Signal.NEW_ORDER)
    if spent.resource and spent.resource not in profile.resources:
        found.append(Signal.NEW_RESOURCE)
    if any(amount > _USUAL * profile.amounts.get(name, Decimal()) for name, amount in spent.sums.items()):
        found.append(Signal.UNUSUAL_AMOUNT)
    return tuple(found)

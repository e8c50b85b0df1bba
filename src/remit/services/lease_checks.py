"""What ``remit doctor`` says of targets: whether each is there, and whether remit may hand on there what task types' leases name.

Rules
* Each ``[[lease]]`` is asked about as it is written, each part with what all parts share. The driver asks the target, and makes nothing
  (``TellsWhatItMayGive``).
* What an input fills is known when a task is opened and not before: it is left out and said, and so is a target that cannot be asked.
  Neither is good.
* One target's failure hides no other's findings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remit.drivers.targets.base import Finding, TellsWhatItMayGive
from remit.errors import RemitError
from remit.logic.lease_parts import joined
from remit.logic.task_types import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.drivers.targets.base import Scope, Target
    from remit.model.lease import LeaseTemplate
    from remit.model.task_type import TaskType
    from remit.services.targets import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a lease, or a part of it, names for sure. ``open``: what of it only a task will name, by key."""

    where: str
    scope: Scope
    open: tuple[str, ...]


async def check_targets(targets: Targets, task_types: Iterable[TaskType]) -> tuple[tuple[str, Finding], ...]:
    """Findings by the names of their targets."""
    types = tuple(task_types)
    found: list[tuple[str, Finding]] = []
    for name in targets.names():
        target = targets.get(name)
        if target is None:
            continue
        findings = await target.check()
        found += [(name, one) for one in findings]
        if targets.stands(name) or not any(one.good for one in findings):
            continue  # nothing is handed on there; or nothing answers, and the findings say so
        asked = [one for kind in types for lease in kind.leases if lease.target == name for one in _asked(kind.name, lease)]
        found += [(name, one) for one in await _may_give(target, asked)]
    return tuple(found)


async def _may_give(target: Target, asked: list[_Asked]) -> list[Finding]:
    if not isinstance(target, TellsWhatItMayGive):
        where = ", ".join(dict.fromkeys(one.where for one in asked))
        text = f"{where}: this system cannot be asked, before anything is made, whether remit may hand on what is named there"
        return [Finding(good=False, known=False, text=text)] if asked else []
    found: list[Finding] = []
    told: dict[str, tuple[Finding, ...]] = {}
    for one in asked:
        key = json.dumps(one.scope, sort_keys=True)
        if key not in told:
            told[key] = await _told(target, one.scope)
        found += [replace(finding, text=f"{one.where}: {finding.text}") for finding in told[key]]
        if not told[key] and any(one.scope.values()):
            found.append(Finding(good=True, text=f"{one.where}: remit may hand on what is named there"))
        if one.open:
            text = f"{one.where}: what inputs fill ({', '.join(one.open)}) cannot be checked before a task names it"
            found.append(Finding(good=False, known=False, text=text))
    return found


async def _told(target: TellsWhatItMayGive, scope: Scope) -> tuple[Finding, ...]:
    try:
        return await target.may_give(scope)
    except RemitError as error:
        return (Finding(good=False, known=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)


def _asked(task_type: str, lease: LeaseTemplate) -> list[_Asked]:
    where = f"lease {lease.name} of tasks/{task_type}.toml"
    if not lease.parts:
        return [_known(where, lease.scope)]
    return [_known(f"{where}, part {number}", joined(lease.scope, [part.scope])) for number, part in enumerate(lease.parts, 1)]


def _known(where: str, scope: Any) -> _Asked:
    """A scope without what has placeholders: entries of lists, and other values whole."""
    kept: Scope = {}
    left: list[str] = []
    for key, value in scope.items():
        entries = value if isinstance(value, list) else [value]
        sure = [entry for entry in entries if not placeholders(entry)]
        left += [f"{{{word}}} in {key}" for entry in entries for word in sorted(placeholders(entry))]
        if isinstance(value, list) or sure:
            kept[key] = sure if isinstance(value, list) else value
    return _Asked(where=where, scope=kept, open=tuple(dict.fromkeys(left)))

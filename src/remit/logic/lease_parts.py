"""What a lease may do on its target is put together of parts, each for tools that need it: the task's own grant says which. Pure.

Rules
* A task has a part where one line of its grant, with all the lines above that it is bound to, names a tool of the part and admits the
  part's arguments. Each line counts as it is now, so no task has a part that one above has not, also when it is narrowed later.
* A scope that is not in parts cannot be divided: a child gets it with the whole of what it is for, or not at all.
* Parts only add to lists of which fewer entries are less on the target (``TargetKind.divisible``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import rfc8785

from remit.logic.grants import findings
from remit.model.catalog import Kind
from remit.model.decision import Code

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from remit.model.grant import Grant
    from remit.model.lease import LeasePart, LeaseTerms
    from remit.model.task import Task

_KEPT_MAX = 4_096


def parts_held(terms: LeaseTerms, task: Task, above: Sequence[Task]) -> tuple[int, ...]:
    """Numbers of the parts that the task has. ``above``: its ancestors, the nearest first; or none, to look at its own grant alone."""
    if not terms.parts:
        return ()
    lines = tuple(_bound_lines(task, above))
    return tuple(number for number, part in enumerate(terms.parts) if any(_for(part, line) for line in lines))


def scope_of(terms: LeaseTerms, parts: Iterable[int]) -> str:
    """The scope with some of its parts, JSON text."""
    if not terms.parts:
        return terms.scope
    return rfc8785.dumps(joined(json.loads(terms.scope), [json.loads(terms.parts[number].scope) for number in parts])).decode()


def joined(scope: dict[str, Any], parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A scope and the entries of parts."""
    made = dict(scope)
    for part in parts:
        for key, entries in part.items():
            before = made.get(key, [])
            made[key] = [*before, *(entry for entry in entries if entry not in before)]
    return made


def divides(terms: LeaseTerms, parent: Task, lines: Collection[Grant], servers: Collection[str]) -> bool:
    """Whether a child with these lines may have the terms. ``servers``: those that are given the credential."""
    if terms.parts or not json.loads(terms.scope):  # where nothing is said nothing can be taken away: a static secret, say
        return True
    return all(
        any((line.of, line.kind, line.name) == (number, own.kind, own.name) and line.arguments in {"", own.arguments} for line in lines)
        for number, own in enumerate(parent.grants)
        if own.server in servers and own.uses != 0
    )


def _bound_lines(task: Task, above: Sequence[Task]) -> Iterable[tuple[Grant, ...]]:
    """Each line of a task with those above that it is bound to; not such as are dropped, or bound to none."""
    for grant in task.grants:
        found = [grant]
        for ancestor in above:
            of = found[-1].of
            if not 0 <= of < len(ancestor.grants):
                break
            found.append(ancestor.grants[of])
        if len(found) == len(above) + 1 and all(line.uses != 0 for line in found):
            yield tuple(found)


def _for(part: LeasePart, lines: Sequence[Grant]) -> bool:
    """Whether a call by these lines may need the part."""
    if not all(_admits(line.arguments, part.arguments) for line in lines):
        return False
    return any(all(line.names(Kind.TOOL, *tool.split("/", 1)) for line in lines) for tool in part.tools)


@lru_cache(maxsize=_KEPT_MAX)
def _admits(narrowing: str, arguments: str) -> bool:
    """Whether a call with these arguments, and whatever others, may fit. What cannot be told does not."""
    if not narrowing or not arguments:
        return True
    schema = {**json.loads(narrowing), "type": "object", "required": []}
    return not findings(json.dumps(schema, sort_keys=True), json.loads(arguments), Code.ARGUMENTS_OUTSIDE_GRANT, "")

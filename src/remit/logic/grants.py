"""Does a task's grant cover a call? The second of the two keys.

Rules: a line covers a call when its name matches, uses are left, and the arguments fit both the tool's own schema and
the narrowing one. A property that the line narrows must be present (leaving it out would let the server choose).
An argument that the tool never declared is refused. No schema fetches anything from anywhere. Where the line demands an
``origin``, every part of that argument must come from there, and there must be one: null, an empty list or object, and a truth value come
from nowhere. ``approval`` among the origins means that a person may vouch for it.
A line of a child task covers what the line it is bound to covers as well, and so on up to the root.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import jsonschema_rs

from remit.errors import Mistake
from remit.logic.tracing import admits, explained, matches_pointer
from remit.logic.values import escaped
from remit.model.decision import Code, Reason
from remit.model.origin import APPROVAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.model.catalog import PinnedTool
    from remit.model.facts import Facts
    from remit.model.grant import Grant

Json = dict[str, Any]
_Demands = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]  # pattern of a pointer, origins
_Check = jsonschema_rs.Validator | str  # or why there is none
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_BACKTRACKS_MAX = 100_000
_PATTERN_BYTES_MAX = 1_048_576
FINDINGS_MAX = 5
_ORIGIN = '"origin"'
_COMPILED_MAX = 16_384  # schemas that are kept compiled, of about 11 kB each: more than the lines of 10,000 task types
_OPEN_ENDED = frozenset({"additionalProperties", "unevaluatedProperties", "patternProperties"})


def covering_line(facts: Facts, *, approved: bool) -> int | tuple[Reason, ...]:
    """Index of the first line of the grant that covers the call, or why none does. ``approved``: a person has approved it."""
    task, call, pinned = facts.task, facts.call, facts.pinned
    lines = [index for index, grant in enumerate(task.grants) if grant.names(call.kind, call.server, call.name)]
    if not lines:
        return (Reason(Code.NOT_GRANTED, f"this task was not given {call.id}"),)
    if pinned is not None:
        invalid = _findings(_OWN.check(pinned), call.arguments, Code.ARGUMENTS_INVALID, "the tool's own schema")
        if invalid:
            return invalid
    reasons: tuple[Reason, ...] = ()
    for index in lines:
        found = _line_refuses(facts, index, approved=approved)
        if not found and facts.ancestors:
            found = _ancestors_refuse(facts, index, approved=approved)
        if not found:
            return index
        reasons += found
    return reasons[:FINDINGS_MAX]


def required_by(narrowing: Json) -> list[str]:
    """Properties that a narrowing schema speaks of, and which must therefore be present."""
    return sorted({*narrowing.get("properties", {}), *narrowing.get("required", [])})


@lru_cache(maxsize=_COMPILED_MAX)
def validator(schema_text: str) -> jsonschema_rs.Validator:
    """A compiled validator, kept. Raises Mistake for a schema that is none, or that points outside itself."""
    schema = json.loads(schema_text)
    for options in (
        jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES_MAX),  # linear time
        jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS_MAX, size_limit=_PATTERN_BYTES_MAX),
    ):
        try:
            return jsonschema_rs.validator_for(schema, retriever=_fetch_nothing, pattern_options=options)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            refused: Exception = error
    first = str(refused).splitlines()[0][:300]
    raise Mistake(f"not a JSON Schema that can be enforced: {first}", code="schema")


def findings(schema_text: str, value: object, code: Code, whose: str) -> tuple[Reason, ...]:
    """What of a value breaks a schema, at most five findings. A schema that cannot be enforced refuses everything."""
    return _findings(_check(schema_text), value, code, whose)


def _check(schema_text: str) -> _Check:
    try:
        return validator(schema_text)
    except (Mistake, ValueError, RecursionError) as error:
        return str(error)[:200]


def _findings(check: _Check, value: object, code: Code, whose: str) -> tuple[Reason, ...]:
    if isinstance(check, str):
        return (Reason(code, f"{check} ({whose})"),)
    try:
        if check.is_valid(value):
            return ()
        found = []
        for error in check.iter_errors(value):
            pointer = "".join(f"/{part}" for part in error.instance_path)
            found.append(Reason(code, f"{error.message[:200]} ({whose})", pointer))
            if len(found) == FINDINGS_MAX:
                break
    except (ValueError, RecursionError) as error:
        return (Reason(code, f"{str(error)[:200]} ({whose})"),)
    return tuple(found) or (Reason(code, f"the arguments do not fit ({whose})"),)


def narrowing_schema_text(grant: Grant) -> str:
    """The narrowing schema as it is enforced: what it speaks of is required."""
    narrowing = json.loads(grant.arguments) if grant.arguments else {}
    return json.dumps({"$schema": _DRAFT, **narrowing, "type": "object", "required": required_by(narrowing)}, sort_keys=True)


def demands(narrowing: Json) -> _Demands:
    """Origins that a narrowing schema demands: pattern of the pointer (``*``: any element) and the origins it admits."""
    return tuple(_demands(narrowing, ("",)))


def _demands(schema: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    if not isinstance(schema, dict):
        return
    if "origin" in schema:
        yield where, tuple(schema["origin"])
    for name, inner in schema.get("properties", {}).items():
        yield from _demands(inner, (*where, escaped(name)))
    if "items" in schema:
        yield from _demands(schema["items"], (*where, "*"))


def bound_lines(facts: Facts, index: int) -> tuple[Grant, ...]:
    """A line of the task and the lines above that it is bound to, as far as there are any."""
    found = [facts.task.grants[index]]
    for ancestor in facts.ancestors:
        of = found[-1].of
        if not 0 <= of < len(ancestor.grants):
            break
        found.append(ancestor.grants[of])
    return tuple(found)


def _ancestors_refuse(facts: Facts, index: int, *, approved: bool) -> tuple[Reason, ...]:
    """Whether a line above refuses what a line of the task covers: each as it is now, whatever it was when it was lent."""
    call, lines = facts.call, bound_lines(facts, index)
    if len(lines) != len(facts.ancestors) + 1:
        return (Reason(Code.NOT_GRANTED, f"{call.id} is bound to no line of the grant above"),)
    for ancestor, lent, own in zip(facts.ancestors, lines, lines[1:], strict=False):
        if not own.names(call.kind, call.server, call.name):
            return (Reason(Code.NOT_GRANTED, f"task {ancestor.id}, which delegated, was not given {call.id}"),)
        taken = ancestor.uses[lent.of] + ancestor.lent.uses.get(lent.of, 0)
        if own.uses is not None and (lent.uses is None or taken > own.uses):
            return (Reason(Code.USES_EXHAUSTED, f"task {ancestor.id}, which delegated, has no such uses of {call.id} any more"),)
        refused = _arguments_refused(facts, own, f"the grant of task {ancestor.id}, which delegated", approved=approved)
        if refused:
            return refused
    return ()


def _line_refuses(facts: Facts, index: int, *, approved: bool) -> tuple[Reason, ...]:
    task, call = facts.task, facts.call
    grant = task.grants[index]
    if grant.uses is not None and task.uses[index] + task.lent.uses.get(index, 0) >= grant.uses:
        times = "once" if grant.uses == 1 else f"{grant.uses} times"
        return (Reason(Code.USES_EXHAUSTED, f"{call.id} was granted {times} and has been used"),)
    return _arguments_refused(facts, grant, "this task's grant", approved=approved)


def _arguments_refused(facts: Facts, grant: Grant, whose: str, *, approved: bool) -> tuple[Reason, ...]:
    if not grant.arguments:
        return ()
    check, demanded = _compiled(grant)
    refused = _findings(check, facts.call.arguments, Code.ARGUMENTS_OUTSIDE_GRANT, whose)
    if refused or not demanded:
        return refused
    return tuple(islice(_foreign(facts, demanded, approved=approved), FINDINGS_MAX))


def _foreign(facts: Facts, demanded: _Demands, *, approved: bool) -> Iterator[Reason]:
    """Parts of arguments that do not come from where they must."""
    traced = [(leaf, tuple(leaf.pointer.split("/"))) for leaf in facts.origins]
    saying = {pointer[:length] for _, pointer in traced for length in range(1, len(pointer) + 1)}
    for pattern, origins in demanded:
        if approved and APPROVAL in origins:
            continue
        for leaf, pointer in traced:
            if matches_pointer(pattern, pointer) and not admits(origins, leaf):
                code = Code.ORIGIN_NOT_ADMITTED if leaf.sources else Code.ORIGIN_UNKNOWN
                yield Reason(code, f"{explained(leaf)}; it must come from: {', '.join(origins)}", leaf.pointer)
        for place in _places(facts.call.arguments, pattern[1:], ("",)):
            if place not in saying:
                where = "/".join(place)
                text = f"{where} holds nothing that comes from anywhere; it must come from: {', '.join(origins)}"
                yield Reason(Code.ORIGIN_UNKNOWN, text, where)


def _places(value: object, pattern: tuple[str, ...], where: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Pointers of what stands in a value where a pattern points. What is left out does not stand anywhere."""
    if not pattern:
        yield where
    elif isinstance(value, list) and pattern[0] == "*":
        for number, member in enumerate(value):
            yield from _places(member, pattern[1:], (*where, str(number)))
    elif isinstance(value, dict):
        for name, member in value.items():
            if escaped(name) == pattern[0]:
                yield from _places(member, pattern[1:], (*where, pattern[0]))


@lru_cache(maxsize=_COMPILED_MAX)
def _compiled(grant: Grant) -> tuple[_Check, _Demands]:
    """The narrowing schema of a line, and the origins that it demands."""
    return _check(narrowing_schema_text(grant)), demands(json.loads(grant.arguments)) if _ORIGIN in grant.arguments else ()


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"a schema may not refer to {uri[:100]}")


def _own_schema(schema: Json) -> str:
    closed = schema if _OPEN_ENDED & schema.keys() else {**schema, "unevaluatedProperties": False}
    return json.dumps({"$schema": _DRAFT, **closed, "type": "object"}, sort_keys=True)


class _OwnSchemas:
    """Own schemas as they are enforced, by what was pinned, bounded: a pinned tool holds a dict and so cannot be a key itself."""

    def __init__(self) -> None:
        self._checks: dict[tuple[str, str, str], _Check] = {}

    def check(self, pinned: PinnedTool) -> _Check:
        """An object, closed where the server left it open by saying nothing."""
        key = (pinned.server, pinned.name, pinned.digest)
        found = self._checks.get(key)
        if found is None:
            if len(self._checks) >= _COMPILED_MAX:
                self._checks.clear()
            found = self._checks[key] = _check(_own_schema(pinned.input_schema))
        return found


_OWN = _OwnSchemas()

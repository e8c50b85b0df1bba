"""From a call's arguments to where each part of them was seen first. Pure.

Rules: a leaf is known when the whole of it was seen, or when it is nothing but seen tokens with separators between them, or when
it stands in one of the task's own inputs on word boundaries. Truth values and nulls are not traced. Keys of objects are traced
like values where the tool does not declare them. Beyond the bound everything is unknown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from remit.logic.values import composed, escaped, normal, parts, references, stands_in, tokens
from remit.model.call_record import CallDecided, LeafLine, SourceLine
from remit.model.catalog import Trust
from remit.model.origin import APPROVAL, TASK, TRUSTED, Source, SourceKind, Traced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from remit.model.task import Task

Json = dict[str, Any]
ARGUMENTS_MAX, NAME_CHARACTERS_MAX = 200, 200  # a call with more, or longer names, is refused
LEAVES_MAX = 500
_POINTERS_MAX = 16_384  # characters of all pointers: they are recorded
_SOURCES_MAX = 64  # different ones
_DEPTH_MAX = 32
_REFERENCED_CHARACTERS_MAX = 262_144  # of a call's texts in which references are looked for
_TOO_DEEP = object()  # has no normal form: unknown


class Seen(Protocol):
    """What a task has seen."""

    def find(self, value: str) -> Source | None:
        """Where a normal form was seen first."""


def trace(arguments: Json, schema: Json, seen: Seen) -> tuple[Traced, ...]:
    """Every leaf with its sources, within bounds: the argument that breaks one is a single unknown leaf."""
    found: list[Traced] = []
    bounds = _Bounds()
    for name, value in arguments.items():
        pointer = f"/{escaped(name)}"
        of_argument: list[Traced] = []
        leaves = _leaves(value, _property(schema, name), pointer, 0) if isinstance(value, dict | list) else ((pointer, value),)
        for where, leaf in leaves:
            if leaf is None or isinstance(leaf, bool):
                continue
            traced = Traced(pointer=where, sources=sources_of(leaf, seen))
            if not bounds.admit(traced):
                of_argument = [Traced(pointer=pointer)]
                break
            of_argument.append(traced)
        found += of_argument
    return tuple(found)


def pointed(arguments: Json) -> tuple[tuple[str, str], ...]:
    """Whatever leads somewhere in the texts of the arguments, with its pointer, within bounds: beyond them one that is "" (unknown).

    It needs nothing but the arguments, so large ones may be gone through beside everything else.
    """
    found: dict[tuple[str, str], None] = {}
    bounds, left = _Bounds(), _REFERENCED_CHARACTERS_MAX
    for name, value in arguments.items():
        pointer = f"/{escaped(name)}"
        for where, leaf in _leaves(value, {}, pointer, 0):
            left -= len(leaf) if isinstance(leaf, str) else 0
            if leaf is _TOO_DEEP or left < 0:
                return (*found, (pointer, ""))
            for reference in references(leaf) if isinstance(leaf, str) else ():
                if not bounds.admit(Traced(pointer=where)):
                    return (*found, (pointer, ""))
                found[where, reference] = None
    return tuple(found)


def trace_references(points: Iterable[tuple[str, str]], seen: Seen) -> tuple[Traced, ...]:
    """Where each of ``pointed`` was seen first, within bounds: beyond them one that is unknown."""
    found: dict[Traced, None] = {}
    bounds = _Bounds()
    for where, reference in points:
        source = seen.find(reference) if reference else None
        traced = Traced(pointer=where, sources=(source,) if source else ())
        if not bounds.admit(traced):
            return (*found, Traced(pointer="/" + where.split("/", 2)[1]))
        found[traced] = None
    return tuple(found)


def large(arguments: Json, characters: int) -> bool:
    """Whether the texts of the arguments together have more than so many characters."""
    left = characters
    for name, value in arguments.items():
        for _where, leaf in _leaves(value, {}, name, 0):
            left -= len(leaf) if isinstance(leaf, str) else 0
            if left < 0:
                return True
    return False


class _Bounds:
    """What may still be traced of one call."""

    __slots__ = ("_characters", "_leaves", "_sources")

    def __init__(self) -> None:
        self._leaves, self._characters, self._sources = LEAVES_MAX, _POINTERS_MAX, set[Source]()

    def admit(self, leaf: Traced) -> bool:
        self._leaves -= 1
        self._characters -= len(leaf.pointer)
        if leaf.sources:
            self._sources.update(leaf.sources)
        return self._leaves >= 0 and self._characters >= 0 and len(self._sources) <= _SOURCES_MAX


def sources_of(leaf: object, seen: Seen) -> tuple[Source, ...]:
    """The sources a leaf is made of; none where any part of it is unknown. An empty text is nobody's and everybody's: unknown."""
    value = normal(leaf)
    source = seen.find(value) if value else None
    if source is not None:
        return (source,)
    if not isinstance(leaf, str):
        return ()
    found = [seen.find(token) for token in parts(leaf)]
    known = [source for source in found if source is not None]
    return tuple(dict.fromkeys(known)) if found and len(known) == len(found) else ()


class Inputs:
    """A task's own inputs as a place where values stand."""

    def __init__(self, task: Task) -> None:
        """Inputs that the agent gave to itself are not vouched for by anybody, nor are those of a child task: what its parent hands over
        is what it was where the parent saw it.
        """
        unvouched = bool(task.ancestors) or (task.opened_by == task.agent.text and not task.self_service)
        trust = Trust.UNTRUSTED if unvouched else Trust.TRUSTED
        self._whole: dict[str, Source] = {}
        self._texts: list[tuple[str, Source]] = []
        for name, value in task.inputs.items():
            source = task.origins.get(name) or Source(kind=SourceKind.INPUT, name=name, trust=trust)
            self._whole.setdefault(normal(value), source)
            if isinstance(value, str):
                text = composed(value)
                self._texts.append((text, source))
                for token in tokens(text):
                    self._whole.setdefault(token, source)
        self._whole.pop("", None)

    def find(self, value: str) -> Source | None:
        """The input in which a normal form stands."""
        source = self._whole.get(value)
        if source is not None or value.startswith("n:"):
            return source
        return next((source for text, source in self._texts if stands_in(value, text)), None)


def by_argument(traced: Iterable[Traced]) -> dict[str, list[Traced]]:
    """Traced leaves by the argument they are part of."""
    found: dict[str, list[Traced]] = {}
    for leaf in traced:
        found.setdefault(leaf.argument, []).append(leaf)
    return found


def admits(allowed: Sequence[str], leaf: Traced) -> bool:
    """Whether every source of a leaf is one of the allowed; an unknown leaf has none."""
    return bool(leaf.sources) and all(any(_is(name, source) for name in allowed) for source in leaf.sources)


def _is(name: str, source: Source) -> bool:
    """Whether a source is what a grant names: ``task``, ``trusted``, ``approval``, ``server/tool``, ``server/*`` or with ``#/field``."""
    if name == TRUSTED:
        return source.trust is Trust.TRUSTED
    if name == TASK:
        return source.kind is SourceKind.INPUT and source.trust is Trust.TRUSTED
    if name == APPROVAL:
        return source.kind is SourceKind.APPROVAL
    tool, hash_sign, field = name.partition("#")
    if source.kind is not SourceKind.RESULT or not (source.name == tool or (tool.endswith("/*") and source.name.startswith(tool[:-1]))):
        return False
    if hash_sign:
        return matches_pointer(tuple(field.split("/")), tuple(source.field.split("/")))
    return source.trust is Trust.TRUSTED


def matches_pointer(pattern: Sequence[str], pointer: Sequence[str]) -> bool:
    """Whether a pointer is what a pattern names, or below it. ``*`` is any one segment."""
    return len(pattern) <= len(pointer) and all(part in ("*", own) for part, own in zip(pattern, pointer, strict=False))


def names_of(leaves: Iterable[Traced]) -> list[str]:
    """Ids of all sources of some leaves, sorted; ``unknown`` among them where one is."""
    return sorted({name for leaf in leaves for name in leaf.names})


def is_known(leaves: Iterable[Traced]) -> bool:
    """Whether no leaf is unknown."""
    return all(leaf.sources for leaf in leaves)


def origin_lines(origins: Iterable[Traced], referenced: Iterable[Traced] = ()) -> tuple[list[SourceLine], list[LeafLine], list[LeafLine]]:
    """Origins and references as they are recorded: each source once."""
    places: dict[Source, int] = {}

    def lines_of(traced: Iterable[Traced]) -> list[LeafLine]:
        leaves = []
        for leaf in traced:
            known = [replace(source, decision="") for source in leaf.sources]
            leaves.append(LeafLine(pointer=leaf.pointer, sources=[places.setdefault(source, len(places)) for source in known]))
        return leaves

    leaves, pointing = lines_of(origins), lines_of(referenced)
    lines = [
        SourceLine(
            kind=source.kind.value, name=source.name, trusted=source.trust is Trust.TRUSTED, field=source.field, number=source.number
        )
        for source in places
    ]
    return lines, leaves, pointing


def recorded_origins(body: CallDecided) -> tuple[Traced, ...]:
    """The origins that a decision was made on, from its record."""
    return _recorded(body, body.leaves)


def recorded_references(body: CallDecided) -> tuple[Traced, ...]:
    """The references that a decision was made on, from its record."""
    return _recorded(body, body.references)


def _recorded(body: CallDecided, lines: Iterable[LeafLine]) -> tuple[Traced, ...]:
    sources = [
        Source(
            kind=SourceKind(line.kind),
            name=line.name,
            trust=Trust.TRUSTED if line.trusted else Trust.UNTRUSTED,
            field=line.field,
            number=line.number,
        )
        for line in body.sources
    ]
    return tuple(Traced(pointer=leaf.pointer, sources=tuple(sources[place] for place in leaf.sources)) for leaf in lines)


def explained(leaf: Traced) -> str:
    """Where a leaf comes from, in a sentence."""
    return f"{leaf.pointer} {_first(leaf.sources[0])}" if leaf.sources else f"{leaf.pointer} was seen nowhere in this task"


def _first(source: Source) -> str:
    if source.kind is SourceKind.INPUT:
        who = "" if source.trust is Trust.TRUSTED else ", which the agent gave itself"
        return f"stands in the task's input {source.name}{who}"
    where = f" at {source.field}" if source.field else ""
    if source.kind is SourceKind.APPROVAL:
        return f"was approved by a person in this task, in a call of {source.name}{where}"
    who = "" if source.trust is Trust.TRUSTED else ", written by a stranger"
    return f"first appeared in result {source.number} of this task, from {source.name}{where}{who}"


def _leaves(value: object, schema: Mapping[str, Any], pointer: str, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and depth < _DEPTH_MAX:
        declared = schema.get("properties")
        for key, member in value.items():
            where = f"{pointer}/{escaped(key)}"
            if not isinstance(declared, dict) or key not in declared:
                yield where, key
            yield from _leaves(member, _property(schema, key), where, depth + 1)
    elif isinstance(value, list) and depth < _DEPTH_MAX:
        items = schema.get("items")
        for number, member in enumerate(value):
            yield from _leaves(member, items if isinstance(items, dict) else {}, f"{pointer}/{number}", depth + 1)
    elif isinstance(value, dict | list):
        yield pointer, _TOO_DEEP
    else:
        yield pointer, value


def _property(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    properties = schema.get("properties")
    inner = properties.get(name) if isinstance(properties, dict) else None
    return inner if isinstance(inner, dict) else {}

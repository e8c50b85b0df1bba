"""What a call's result is: data class and trust, whole, by field and by what stands in it. Pure.

A catalog entry states the whole result; ``fields`` state parts of it by JSON pointer (``*``: any one segment), and what is below
them; ``when`` states it for certain values: of an argument (a path, a table) for the whole call, of a field of the result (a
sender) for the element that the field stands in.

Rules
* Of several statements about a leaf the one that names more segments counts; of two that say as much, the worse.
* A value that a pattern could understand differently than the server does (``..``, empty segments, other than plain characters)
  makes every ``when`` of that place count, so that it can only make the result worse.
* What cannot be walked within bounds counts whole, as the worst that is stated.
"""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remit.logic.detectors import Detector, detected
from remit.logic.tracing import matches_pointer
from remit.logic.values import escaped, leaves
from remit.model.catalog import ToolFacts, Trust
from remit.model.labels import DataClasses, Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEAVES_MAX = 100_000
_PROTOCOL: dict[str, tuple[object, ...]] = {  # words of MCP that say nothing of anybody
    "type": ("text", "image", "audio", "resource", "resource_link"),
    "role": ("user", "assistant"),
    "isError": (True, False),
    "resultType": ("complete",),
    "cacheScope": ("private", "public"),
}
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}\Z", re.ASCII)
_PLAIN = re.compile(r"[^\s<>,;\"'\\\x00-\x1f]*\Z")
_MATCHED_CHARACTERS_MAX = 4_096
Pointer = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A data class and a trust; ``None`` is not stated. ``identifier``: of fields, whether the system vouches for the whole value."""

    data_class: str | None = None
    trust: Trust | None = None
    identifier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """What the catalog states of a field of the result. ``pattern``: the pointer's segments, the first one empty."""

    pattern: Pointer
    states: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenRule:
    """What the catalog states where a value matches. ``argument`` or ``result`` names the place (the other is empty).

    ``matches``: ``*`` stands for any plain characters (no spaces, quotes, brackets, commas).
    """

    argument: Pointer = ()
    result: Pointer = ()
    matches: str
    states: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRules:
    """All that the catalog states of a tool's result beyond the whole of it."""

    fields: tuple[FieldRule, ...] = ()
    whens: tuple[WhenRule, ...] = ()
    detect: tuple[tuple[Detector, str], ...] = ()  # what is looked for, and the data class that it makes

    @property
    def may_clear(self) -> bool:
        """Whether some result may be trusted although the tool as a whole is not: then its labels wait for the result."""
        stated = [rule.states for rule in self.fields] + [rule.states for rule in self.whens if rule.result]
        return any(states.trust is Trust.TRUSTED for states in stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A leaf of a result with what it is. ``identifier``: the whole value is the system's, though what stands in it may be anybody's."""

    pointer: str
    value: Any
    labels: Labels
    identifier: bool = False


def for_call(tool: ToolFacts, rules: ResultRules, arguments: dict[str, Any], classes: DataClasses) -> ToolFacts:
    """The facts of a tool for these arguments: what ``when`` states of them counts for the whole call."""
    states: list[Statement] = []
    for rule in rules.whens:
        if rule.argument:
            values = list(_at(arguments, rule.argument[1:]))
            if any(_matches(rule.matches, value) for value in values):
                states.append(rule.states)
            elif any(not _is_clear(value) for value in values):
                states.append(_only_worse(rule.states, tool, classes))
    if not states:
        return tool
    joined = _joined(states, classes)
    return replace(tool, data_class=joined.data_class or tool.data_class, trust=joined.trust or tool.trust)


def labelled(result: Any, tool: ToolFacts, rules: ResultRules, classes: DataClasses) -> list[Labelled]:
    """Every leaf that holds something, with its labels. Raises ValueError beyond the bounds."""
    elements = _elements(result, rules)
    found = []
    for pointer, value in leaves(result, LEAVES_MAX):
        if value is not None and value != "":
            labels = _labels_of(pointer, tool, rules, elements, classes)
            found.append(Labelled(pointer=pointer, value=value, labels=labels, identifier=_identifies(pointer, rules)))
    return found


def worst(tool: ToolFacts, rules: ResultRules, classes: DataClasses) -> Labels:
    """The labels of a result of which nothing can be said but what the tool is: all statements joined."""
    labels = whole(tool, classes)
    for _, name in rules.detect:
        labels = labels.join(Labels(classes.rank(name)))
    for states in (*(rule.states for rule in rules.fields), *(rule.states for rule in rules.whens)):
        rank = classes.rank(states.data_class) if states.data_class is not None else 0
        labels = labels.join(Labels(rank, states.trust is Trust.UNTRUSTED))
    return labels


def found_in(value: Any, rules: ResultRules, classes: DataClasses) -> Labels:
    """What the detectors make of one leaf."""
    if not rules.detect or not isinstance(value, str):
        return Labels()
    held = detected(value, [detector for detector, _ in rules.detect])
    return Labels(max((classes.rank(name) for detector, name in rules.detect if detector in held), default=0))


def whole(tool: ToolFacts, classes: DataClasses) -> Labels:
    """What the catalog says of the result as a whole."""
    return Labels(classes.rank(tool.data_class), tool.trust is not Trust.TRUSTED)


class Read(Enum):
    """How a part of a result is read: by its fields, as text, or by its fields but no better than the result as a whole."""

    FIELDS = "fields"
    TEXT = "text"
    DOUBTED = "doubted"


def views(result: Any) -> Iterator[tuple[Any, Read]]:
    """What of a result is looked at, and how: its structured content or the JSON in its text, and the texts.

    An error has no fields: the catalog speaks of results.

    JSON in a text beside other parts is doubted: a server that puts what a stranger wrote into a part of its own would let the
    stranger choose the fields.

    An MCP result has ``structuredContent``, ``content``, ``contents`` (resources) or ``messages`` (prompts); any other value is
    itself what is looked at. Pointers are those of the structured content.
    """
    parts = _content(result)
    if parts is None:
        yield result, Read.TEXT if isinstance(result, str) else Read.FIELDS
        return
    structured, failed = result.get("structuredContent"), result.get("isError") is True
    if structured is not None:
        yield structured, Read.TEXT if failed else Read.FIELDS
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            parsed = None if failed else _json(text)
            if structured is None or not _repeats(text, parsed, structured):
                alone = structured is None and len(result[_member(result)]) == 1
                yield (text, Read.TEXT) if parsed is None else (parsed, Read.FIELDS if alone else Read.DOUBTED)
        elif not isinstance(part, dict):
            yield part, Read.TEXT
        if isinstance(part, dict):
            if "data" in part or "blob" in part:  # a picture can say what a text can
                yield "", Read.TEXT
            yield from _beside(part, {"data", "blob", "text"} if isinstance(text, str) else {"data", "blob"})
    yield from _beside(result, {"structuredContent", _member(result)})


def _beside(value: dict[str, Any], read: set[str]) -> Iterator[tuple[Any, Read]]:
    """What else stands there: whoever answers chooses the names of members. Words that only the protocol has say nothing."""
    rest = {name: member for name, member in value.items() if name not in read and not _says_nothing(name, member)}
    if rest:
        yield rest, Read.TEXT


def _says_nothing(name: str, member: Any) -> bool:
    """Whether a member has one of the values that the protocol has for it."""
    if name == "mimeType":
        return isinstance(member, str) and _MEDIA_TYPE.match(member) is not None
    return member in _PROTOCOL.get(name, ())


def _repeats(text: str, parsed: Any, structured: Any) -> bool:
    """Whether a text says nothing but the structured content again, as MCP wants it for older clients (Tools, Structured Content)."""
    wrapped = structured.get("result") if isinstance(structured, dict) and len(structured) == 1 else None
    return (parsed is not None and parsed in (structured, wrapped)) or text == wrapped


def _content(result: Any) -> list[Any] | None:
    """The parts of an MCP result, those within messages and embedded resources for themselves; ``None``: it is none."""
    if not isinstance(result, dict):
        return None
    member = _member(result)
    if not member:
        return [] if "structuredContent" in result else None
    parts: list[Any] = []
    for part in result[member]:
        inner, beside = _taken_out(part, "content") if member == "messages" else (part, [])
        inner, more = _taken_out(inner, "resource")
        parts += [inner, *beside, *more]
    return parts


def _member(result: dict[str, Any]) -> str:
    return next((member for member in ("content", "contents", "messages") if isinstance(result.get(member), list)), "")


def _taken_out(part: Any, name: str) -> tuple[Any, list[Any]]:
    """What a part holds under a name, and what stands beside that."""
    if not isinstance(part, dict) or name not in part or (name == "resource" and not isinstance(part[name], dict)):
        return part, []
    rest = {key: value for key, value in part.items() if key != name and not _says_nothing(key, value)}
    return part[name], [rest] if rest else []


def _json(text: str) -> Any:
    if text[:1] not in "[{":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _labels_of(
    pointer: str, tool: ToolFacts, rules: ResultRules, elements: Sequence[tuple[Pointer, Statement]], classes: DataClasses
) -> Labels:
    segments = tuple(pointer.split("/"))
    stated: dict[int, list[Statement]] = {}
    for rule in rules.fields:
        if matches_pointer(rule.pattern, segments):
            stated.setdefault(2 * len(rule.pattern), []).append(rule.states)
    for element, states in elements:
        if matches_pointer(element, segments):  # a sender speaks for more than the shape of the answer does
            stated.setdefault(2 * len(segments) + 1, []).append(states)
    data_class, trust = tool.data_class, tool.trust
    for weight in sorted(stated):
        joined = _joined(stated[weight], classes)
        data_class, trust = joined.data_class or data_class, joined.trust or trust
    return Labels(classes.rank(data_class), trust is not Trust.TRUSTED)


def _identifies(pointer: str, rules: ResultRules) -> bool:
    """Whether the statement that names most of a leaf calls it an identifier. A ``when`` says nothing of that."""
    segments = tuple(pointer.split("/"))
    naming = [rule for rule in rules.fields if matches_pointer(rule.pattern, segments)]
    most = max((len(rule.pattern) for rule in naming), default=0)
    stated = [rule.states.identifier for rule in naming if len(rule.pattern) == most]
    return bool(stated) and all(stated)


def _elements(result: Any, rules: ResultRules) -> list[tuple[Pointer, Statement]]:
    """The elements of a result of which a ``when`` speaks: where the field stands, without its last segment."""
    found = []
    for rule in rules.whens:
        if rule.result:
            for where, value in _places(result, rule.result[1:], ("",)):
                if _matches(rule.matches, value):
                    found.append((where[:-1], rule.states))
    return found


def _places(value: Any, pattern: Pointer, where: Pointer) -> Iterator[tuple[Pointer, Any]]:
    if not pattern:
        yield where, value
        return
    head, rest = pattern[0], pattern[1:]
    if isinstance(value, dict):
        for key, member in value.items():
            if head in ("*", escaped(str(key))):
                yield from _places(member, rest, (*where, escaped(str(key))))
    elif isinstance(value, list):
        for number, member in enumerate(value):
            if head in ("*", str(number)):
                yield from _places(member, rest, (*where, str(number)))


def _at(value: Any, pattern: Pointer) -> Iterator[Any]:
    for _, found in _places(value, pattern, ()):
        if isinstance(found, list):
            yield from found
        else:
            yield found


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and _is_clear(value) and _expression(pattern).match(value) is not None


def _is_clear(value: Any) -> bool:
    """Whether a server can only understand a value as a pattern does."""
    if not isinstance(value, str):
        return not isinstance(value, dict | list)
    segments = value.replace("://", ":", 1).split("/")
    odd = any(segment in {".", ".."} for segment in segments) or "" in segments[1:-1]
    return len(value) <= _MATCHED_CHARACTERS_MAX and _PLAIN.match(value) is not None and "%" not in value and not odd


@lru_cache(maxsize=1_024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(re.sub(r"([\[?])", r"[\1]", pattern)))  # its form does not backtrack from star to star


def _joined(states: Sequence[Statement], classes: DataClasses) -> Statement:
    """The worse of several statements."""
    named = [state.data_class for state in states if state.data_class is not None]
    trusts = [state.trust for state in states if state.trust is not None]
    trust = None if not trusts else Trust.UNTRUSTED if Trust.UNTRUSTED in trusts else Trust.TRUSTED
    return Statement(data_class=max(named, key=classes.rank) if named else None, trust=trust)


def _only_worse(states: Statement, tool: ToolFacts, classes: DataClasses) -> Statement:
    higher = states.data_class is not None and classes.rank(states.data_class) > classes.rank(tool.data_class)
    return Statement(
        data_class=states.data_class if higher else tool.data_class,
        trust=Trust.UNTRUSTED if states.trust is Trust.UNTRUSTED else tool.trust,
    )

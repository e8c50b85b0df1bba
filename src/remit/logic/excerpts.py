"""Where the values of a call stood in what the task has read, as text with the value marked: for those who answer a question. Pure.

Rules: shown is the place that the origin names, never one that only looks alike elsewhere; where its text is not kept, or the value stands
there in other words, there is no excerpt. Everything in it is made visible (``logic/evidence.py``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remit.logic.tracing import explained
from remit.logic.values import escaped, place_of
from remit.model.origin import SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from remit.model.facts import Facts
    from remit.model.origin import Source, Traced

_AROUND_CHARACTERS = 120
_VALUE_CHARACTERS_MAX = 300
_OF_ONE_MAX = 3
Found = tuple[str, str, str, str]


def excerpts_of(facts: Facts, texts: Callable[[str], Sequence[str]]) -> dict[str, tuple[Found, ...]]:
    """For each top-level argument: where a part of it comes from, the text before it, the part, the text after it.

    ``texts``: of the result of a call, by its decision; empty where they are not kept.
    """
    found: dict[str, list[Found]] = {}
    for leaf, value in _parts(facts.origins, facts.call.arguments):
        of_argument = found.setdefault(leaf.argument, [])
        if len(of_argument) >= _OF_ONE_MAX or not leaf.sources:
            continue
        source = leaf.sources[0]
        for text in _texts_of(source, facts, texts):
            where = place_of(value, text) or _place(value, text)
            if where is not None:
                place, end = where
                before = ("…" if place > _AROUND_CHARACTERS else "") + text[max(place - _AROUND_CHARACTERS, 0) : place]
                after = text[end : end + _AROUND_CHARACTERS] + ("…" if len(text) > end + _AROUND_CHARACTERS else "")
                of_argument.append((explained(leaf), before, text[place:end], after))
                break
    return {name: tuple(parts) for name, parts in found.items() if parts}


def _texts_of(source: Source, facts: Facts, texts: Callable[[str], Sequence[str]]) -> Sequence[str]:
    if source.kind is SourceKind.INPUT:
        value = facts.task.inputs.get(source.name)
        return (str(value),) if isinstance(value, str | int | float) else ()
    return texts(source.decision) if source.kind is SourceKind.RESULT else ()


def _place(value: str, text: str) -> tuple[int, int] | None:
    """Where it stands, as it is or in other letters of the same length, as a word of its own rather than within one."""
    folded, sought = text.casefold(), value.casefold()
    if value not in text and len(folded) == len(text) and len(sought) == len(value):
        text, value = folded, sought
    found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) or re.search(re.escape(value), text)
    return found.span() if found else None


def _parts(origins: Iterable[Traced], arguments: Mapping[str, Any]) -> Iterator[tuple[Traced, str]]:
    """Each leaf that was traced, strange ones first, with its value as text; what is no text or number, or is long, has none."""
    values = {f"/{escaped(name)}{where}": value for name, part in arguments.items() for where, value in _leaves(part, "")}
    for leaf in sorted(origins, key=lambda leaf: leaf.trusted):
        value = values.get(leaf.pointer)
        text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if 0 < len(text) <= _VALUE_CHARACTERS_MAX:
            yield leaf, text


def _leaves(value: object, where: str, depth: int = 0) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and depth < 32:
        for name, member in value.items():
            yield from _leaves(member, f"{where}/{escaped(name)}", depth + 1)
    elif isinstance(value, list) and depth < 32:
        for number, member in enumerate(value):
            yield from _leaves(member, f"{where}/{number}", depth + 1)
    else:
        yield where, value

"""Trust does not grow by a detour: what nobody vouches for stays so when it comes back. Pure.

Three detours are closed. *Echo*: an argument that comes back in the result of its own call. *Store*: a value that a call wrote to a
server, by the same or another task. *Place*: what is read from where such a call wrote (the values of its selectors).

Rules: only a call that changes something leaves marks, and only in a task that has read what strangers wrote, or with arguments of
theirs. Short numbers and texts are not marked at a server, they would mark everything; of a call's own echo every value counts. Beyond the
bound values are not marked; the place is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.logic.values import leaves, normal, tokens
from remit.model.catalog import Effect, Trust

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.model.call import Call
    from remit.model.catalog import ToolFacts
    from remit.model.labels import Labels
    from remit.model.origin import Traced

FORMS_MAX = 5_000
_CHARACTERS_MIN, _DIGITS_MIN = 3, 6
_TEXT_CHARACTERS_MAX = 65_536
_LEAVES_MAX = 100_000
_PLACE = "at:"
EVERYWHERE = f"{_PLACE}*"  # of a call of which nothing more exact can be said


def forms(value: Any) -> Iterator[str]:
    """The normal forms of a leaf: the whole of it, and what stands in it. May repeat."""
    whole = normal(value)
    if whole:
        yield whole
    if isinstance(value, str):
        yield from tokens(value[:_TEXT_CHARACTERS_MAX])


def is_marked(form: str) -> bool:
    """Whether a form says enough to be recognised by, wherever it comes back."""
    return sum(map(str.isdigit, form)) >= _DIGITS_MIN if form.startswith("n:") else len(form) >= _CHARACTERS_MIN


def unvouched(arguments: dict[str, Any], origins: tuple[Traced, ...]) -> tuple[str, ...]:
    """The forms of all parts of arguments that are not known and trusted, each once, within the bound."""
    good = {leaf.pointer for leaf in origins if leaf.trusted}
    found: dict[str, None] = {}
    try:
        for pointer, value in leaves(arguments, _LEAVES_MAX):
            if pointer not in good:
                for form in forms(value):
                    found[form] = None
                    if len(found) >= FORMS_MAX:
                        return tuple(found)
    except ValueError:
        return (EVERYWHERE,)
    return tuple(found)


def marks(call: Call, tool: ToolFacts, origins: tuple[Traced, ...], labels: Labels) -> tuple[str, ...]:
    """What an allowed call leaves at its server: values that nobody vouches for, and the places it wrote to."""
    strangers = any(source.trust is not Trust.TRUSTED for leaf in origins for source in leaf.sources)
    if tool.effect is Effect.READ or not (labels.untrusted or strangers):
        return ()
    written = tuple(form for form in unvouched(call.arguments, origins) if is_marked(form))
    if not written and any(not leaf.trusted for leaf in origins):
        return places(call, tool.selectors or ())
    return (*written, *places(call, tool.selectors or ())) if written else ()


def places(call: Call, selectors: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The places that a call names: its selectors, or whatever argument it has and everywhere (``None``: it reads)."""
    named = {name: value for name, value in call.arguments.items() if selectors is None or name in selectors}
    found = (EVERYWHERE,) if selectors is None else ()
    try:
        return (*found, *(_PLACE + form for _, value in leaves(named, _LEAVES_MAX) if (form := normal(value))))
    except ValueError:
        return (EVERYWHERE,)

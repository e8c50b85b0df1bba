"""Where a value comes from: the place in which a task saw it first.

Rules: a value without a sighting is *unknown*; what is demanded is membership in named origins, never absence from others, so
rewording a value gains nothing. A tool's result counts as an origin only with the fields that the catalog calls trusted, unless
a field is named. ``untrusted:server/tool`` is how an untrusted sighting is called, so that no list of good names holds it.
A value that a person saw and approved may count as seen from an *approval*, where the task type says so: an act of a person, so it
stands before any result in which the value was seen earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from remit.model.catalog import Trust

UNKNOWN = "unknown"
TASK = "task"
APPROVAL = "approval"
TRUSTED = "trusted"


class SourceKind(StrEnum):
    """What gave the value to the task."""

    INPUT = "input"
    RESULT = "result"
    APPROVAL = "approval"


_CALLED = {SourceKind.INPUT: TASK, SourceKind.APPROVAL: APPROVAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a task saw a value first.

    ``name``: an input's name, or ``server/tool``. ``field``: JSON pointer into the result ("" : its text), or into the arguments that
    were approved. ``number``: which of what this task learnt from it was, from 1. ``decision``: the call whose result it was, or which
    was approved.
    """

    kind: SourceKind
    name: str
    trust: Trust
    field: str = ""
    number: int = 0
    decision: str = ""

    @property
    def id(self) -> str:
        """``task``, ``approval``, ``server/tool`` or ``untrusted:…``: the name by which grants and policies speak of it."""
        name = _CALLED.get(self.kind, self.name)
        return name if self.trust is Trust.TRUSTED else f"untrusted:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A leaf of a call's arguments, by JSON pointer, with the sources it is made of; none: unknown."""

    pointer: str
    sources: tuple[Source, ...] = ()

    @property
    def argument(self) -> str:
        """The argument that the leaf is part of."""
        return self.pointer.split("/", 2)[1].replace("~1", "/").replace("~0", "~")

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the sources; ``unknown`` where there is none."""
        return tuple(dict.fromkeys(source.id for source in self.sources)) or (UNKNOWN,)

    @property
    def trusted(self) -> bool:
        """Whether every part of it is known and trusted."""
        return bool(self.sources) and all(source.trust is Trust.TRUSTED for source in self.sources)

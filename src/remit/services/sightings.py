"""What each task has seen: which value in which result first, and which a person approved. Kept by keyed digests, never in clear.

Rules
* The truth is the store's: a row for each result, written with the record of the call's end, before the result is released.
  ``Task.results`` counts them; what is kept in memory is used for a decision only where its count is the task's.
* The first sighting of a value stands; a person's approval of it stands before that. A value that is not kept is unknown.
* A task keeps at most ``values_max`` values. Then it is *full*: nothing further is learnt, and later values are unknown; so a
  value that was forgotten cannot come back as a better one. What cannot be walked within bounds makes it full as well.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken
from remit.logic.labelling import Labelled, Read, found_in, labelled, views, whole, worst
from remit.logic.laundering import EVERYWHERE, is_marked, places, unvouched
from remit.logic.tracing import Inputs
from remit.logic.values import normal, tokens
from remit.model.catalog import Trust
from remit.model.labels import Labels
from remit.model.origin import Source, SourceKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remit.logic.labelling import ResultRules
    from remit.model.call import Call
    from remit.model.catalog import ToolFacts
    from remit.model.labels import DataClasses
    from remit.model.origin import Traced
    from remit.model.task import Task
    from remit.store.database import SightingRow, Store

_KEY_BYTES = 8
_TEXT_CHARACTERS_MAX = 262_144  # of one result in which tokens are looked for
_FIELD_CHARACTERS_MAX = 200  # of a pointer that is kept
_MARKED_MAX = 50_000  # trusted values of one result that are looked up


class _Field(msgspec.Struct, array_like=True):
    """The values seen first in one field: its pointer, whether it is trusted, and their keys one after the other."""

    field: str
    trusted: bool
    keys: bytes


class _Sighting(msgspec.Struct, array_like=True):
    """One result, or one approved call: ``tool`` is ``server/name``; ``full``: nothing is learnt after it."""

    decision: str
    tool: str
    parts: list[_Field]
    full: bool = False
    kind: str = SourceKind.RESULT.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a result teaches: its labels, and the values that the task had not seen (``data`` empty: none)."""

    labels: Labels
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A leaf of a result: where it stands, what it is, and the keys of its normal forms; ``marked``: those it is recognised by."""

    field: str
    labels: Labels
    keys: tuple[bytes, ...]
    marked: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A result taken apart. ``full``: there was more than can be looked at."""

    parts: tuple[Part, ...]
    full: bool

    def fresh(self, seen: Seen) -> tuple[bytes, ...]:
        """Keys of what counts as trusted so far and is new to the task: what was seen before is what it was then."""
        return tuple(key for part in self.parts if not part.labels.untrusted for key in part.keys if not seen.has(key))

    def marked(self) -> frozenset[bytes]:
        """Keys that say enough to be recognised by."""
        return frozenset(key for part in self.parts for key in part.marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laundered:
    """What of a result cannot count as trusted: everything, or what holds one of these keys.

    ``echoed``: keys of the call's own arguments. That they come back says nothing of them, neither good nor bad: they stay unseen.
    """

    everything: bool = False
    keys: frozenset[bytes] = frozenset()
    echoed: frozenset[bytes] = frozenset()


class Seen:
    """One task's values. ``number``: results learnt from."""

    def __init__(self, task: Task, key: bytes) -> None:
        self.number, self.full = 0, False
        self._inputs, self._key = Inputs(task), key
        self._sources: list[Source] = []
        self._where: dict[bytes, int] = {}
        self._approved: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._where) + len(self._approved)

    def find(self, value: str) -> Source | None:
        """Where a normal form was seen first."""
        source = self._inputs.find(value)
        if source is not None:
            return source
        key = self.key(value)
        place = self._approved.get(key, self._where.get(key))
        return None if place is None else self._sources[place]

    def key(self, value: str) -> bytes:
        """The keyed digest under which a normal form is kept."""
        return _key(self._key, value)

    def has(self, key: bytes) -> bool:
        """Whether a value of that key stood in a result."""
        return key in self._where

    def learn(self, number: int, data: bytes) -> None:
        """Take in a row. Raises Broken where it is not the next one."""
        if number != self.number + 1:
            raise Broken(f"result {number} of a task does not follow {self.number}")
        sighting = _DECODER.decode(data)
        kind = SourceKind(sighting.kind)
        where = self._approved if kind is SourceKind.APPROVAL else self._where
        for part in sighting.parts:
            trust = Trust.TRUSTED if part.trusted else Trust.UNTRUSTED
            self._sources.append(
                Source(kind=kind, name=sighting.tool, trust=trust, field=part.field, number=number, decision=sighting.decision)
            )
            place = len(self._sources) - 1
            for begin in range(0, len(part.keys), _KEY_BYTES):
                where.setdefault(part.keys[begin : begin + _KEY_BYTES], place)
        self.number, self.full = number, self.full or sighting.full


class Sightings:
    """What the tasks of one store have seen, as far as this process remembers; the rest is read again."""

    def __init__(self, store: Store, key: bytes, *, values_max: int, values_in_memory_max: int, tasks_max: int) -> None:
        """``key``: of 32 bytes, for the digests. ``values_max``: of one task. ``values_in_memory_max``: of all tasks here."""
        self._store, self._key, self._values_max = store, key, values_max
        self._in_memory_max, self._tasks_max = values_in_memory_max, tasks_max
        self._kept: OrderedDict[str, Seen] = OrderedDict()
        self._values = 0  # in memory

    def known(self, task: Task) -> Seen | None:
        """What the task has seen, where all of it is in memory. More than the task knows of does no harm: then the task is stale,
        and its append will fail.
        """
        seen = self._kept.get(task.id)
        if seen is None and task.results == 0:
            seen = self._keep(task.id, Seen(task, self._key))
        elif seen is not None:
            self._kept.move_to_end(task.id)
        return seen if seen is not None and seen.number >= task.results else None

    async def load(self, task: Task) -> None:
        """Read what is missing. Raises Outage, Broken."""
        seen = self._kept.get(task.id)
        if seen is None:
            seen = Seen(task, self._key)
        before = len(seen)
        for row in await self._store.sightings(task.id, seen.number):
            if row.number > seen.number:  # another loading may have been quicker
                seen.learn(row.number, row.data)
        if self._kept.get(task.id) is seen:
            self._values += len(seen) - before
        else:
            self._keep(task.id, seen)

    def learn(self, task: str, row: SightingRow) -> None:
        """Take in a row that is being written; ``forget`` where it was not."""
        seen = self._kept.get(task)
        if seen is not None and seen.number + 1 == row.number:
            before = len(seen)
            seen.learn(row.number, row.data)
            self._values += len(seen) - before

    def forget(self, task: str) -> None:
        """Read again at the next use."""
        seen = self._kept.pop(task, None)
        self._values -= len(seen) if seen is not None else 0

    def key(self, form: str) -> bytes:
        """The keyed digest under which a normal form is kept, here and among the marks of a server."""
        return _key(self._key, form)

    def parse(self, result: Any, tool: ToolFacts, rules: ResultRules, classes: DataClasses) -> Parsed:
        """A result taken apart: its parts with their labels, and the keys of what stands in them."""
        parts: list[Part] = []
        left, full = _TEXT_CHARACTERS_MAX, False
        try:
            for value, read in views(result):
                if read is Read.TEXT:
                    found = [Labelled(pointer="", value=text, labels=whole(tool, classes)) for text in _texts(value)]
                else:
                    found = labelled(value, tool, rules, classes)
                if read is Read.DOUBTED:
                    found = [replace(leaf, labels=leaf.labels.join(whole(tool, classes)), identifier=False) for leaf in found]
                for leaf in found:
                    length = len(leaf.value) if isinstance(leaf.value, str) else 0
                    full |= length > left
                    labels = leaf.labels.join(found_in(leaf.value, rules, classes))
                    if leaf.identifier and labels.untrusted:  # the whole of it first, so that its first sighting is the system's
                        parts.append(self._named(leaf, labels))
                    parts.append(self._part(leaf, labels, left))
                    left = max(left - length, 0)
        except ValueError:
            return Parsed(parts=(Part(field="", labels=worst(tool, rules, classes), keys=(), marked=()),), full=True)
        return Parsed(parts=tuple(parts), full=full)

    async def laundered(self, call: Call, origins: tuple[Traced, ...], parsed: Parsed, fresh: tuple[bytes, ...]) -> Laundered:
        """What of a call's result comes back from where nobody vouches for it. ``fresh``: ``Parsed.fresh``. Raises Outage."""
        echoed = unvouched(call.arguments, origins)
        if len(fresh) > _MARKED_MAX or EVERYWHERE in echoed:
            return Laundered(everything=True)
        named = {self.key(place) for place in places(call)}
        marked = parsed.marked()
        found = await self._store.tainted(call.server, [*named, *(key for key in dict.fromkeys(fresh) if key in marked)])
        back = frozenset(self.key(form) for form in echoed)
        return Laundered(everything=bool(found & named), keys=found | (back & marked), echoed=back - found)

    def learnt(self, seen: Seen, parsed: Parsed, laundered: Laundered, tool: str, decision: str) -> Learnt:
        """What a result teaches a task that has seen this much."""
        labels, new = Labels(), _New(seen, self._values_max)
        for part in parsed.parts:
            own, keys = part.labels, part.keys
            if not own.untrusted and (laundered.everything or not laundered.keys.isdisjoint(part.marked)):
                own = own.join(Labels(untrusted=True))
            if not part.labels.untrusted and not laundered.everything:
                keys = tuple(key for key in keys if key not in laundered.echoed)
            labels = labels.join(own)
            new.add(part.field, trusted=not own.untrusted, keys=keys)
        full = parsed.full or new.full
        if seen.full or not (new.found or full):
            return Learnt(labels=labels)
        return Learnt(labels=labels, data=_ENCODER.encode(_Sighting(decision, tool, new.packed(), full)))

    def approved(self, seen: Seen, values: Sequence[tuple[str, str]], tool: str, decision: str) -> bytes:
        """What a person vouched for in a call (``logic/approved_values.py``), as a row's data; empty: nothing that is learnt."""
        if not values or seen.full or len(seen) + len(values) > self._values_max:
            return b""
        parts = [
            _Field(pointer if len(pointer) <= _FIELD_CHARACTERS_MAX else "", trusted=True, keys=self.key(form)) for pointer, form in values
        ]
        return _ENCODER.encode(_Sighting(decision, tool, parts, kind=SourceKind.APPROVAL.value))

    def _named(self, leaf: Labelled, labels: Labels) -> Part:
        """The whole value of an identifier, and nothing that stands in it."""
        return self._keyed(leaf.pointer, Labels(labels.rank), [form for form in (normal(leaf.value),) if form])

    def _part(self, leaf: Labelled, labels: Labels, left: int) -> Part:
        value, whole_form = leaf.value, normal(leaf.value)
        found = dict.fromkeys(form for form in (whole_form, *(tokens(value[:left]) if isinstance(value, str) else ())) if form)
        if leaf.identifier and labels.untrusted:
            found.pop(whole_form, None)  # is the system's
        return self._keyed(leaf.pointer, labels, found)

    def _keyed(self, field: str, labels: Labels, forms: Iterable[str]) -> Part:
        keyed = [(self.key(form), is_marked(form)) for form in forms]
        return Part(
            field=field if len(field) <= _FIELD_CHARACTERS_MAX else "",
            labels=labels,
            keys=tuple(key for key, _ in keyed),
            marked=tuple(key for key, marked in keyed if marked),
        )

    def _keep(self, task: str, seen: Seen) -> Seen:
        self.forget(task)
        self._kept[task] = seen
        self._values += len(seen)
        while len(self._kept) > 1 and (self._values > self._in_memory_max or len(self._kept) > self._tasks_max):
            self.forget(next(iter(self._kept)))
        return seen


class _New:
    """New values of one result, by the field in which each was seen first."""

    def __init__(self, seen: Seen, values_max: int) -> None:
        self._seen, self._left = seen, values_max - len(seen)
        self.found: dict[tuple[str, bool], list[bytes]] = {}
        self._own: set[bytes] = set()
        self.full = False

    def add(self, field: str, *, trusted: bool, keys: Iterable[bytes]) -> None:
        for key in keys:
            if self.full or key in self._own or self._seen.has(key):
                continue
            if self._left <= 0:
                self.full = True
                return
            self._left -= 1
            self._own.add(key)
            self.found.setdefault((field, trusted), []).append(key)

    def packed(self) -> list[_Field]:
        return [_Field(field, trusted, b"".join(keys)) for (field, trusted), keys in self.found.items()]


def _key(secret: bytes, form: str) -> bytes:
    return hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES, key=secret).digest()


def _texts(value: Any) -> Iterable[str]:
    """The texts of a part of a result that has no fields of its own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Sighting)

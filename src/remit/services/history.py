"""Goes through the ledger: verified against its signature, folded task by task, a moment for each decision.

Rules: only entries under the signed head count, and a ledger that another key signed is refused. What does not fold is named and
left, the other tasks go on. Memory holds some thousand tasks, one page of entries and a few rulebooks.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken, Mistake, NotFound, Refusal
from remit.logic.applications import Application
from remit.logic.checkpoint import open_checkpoint
from remit.logic.life import fold
from remit.logic.merkle import extended, leaf_hashes, root_of
from remit.logic.records import decode
from remit.logic.replay import Compared, facts_at, kept_arguments
from remit.logic.replay_answers import before_policies, compare_answer, compare_refusal, kept_properties
from remit.logic.rulebook_text import read_policies, read_rules, rulebook_of
from remit.model.call_record import CallDecided
from remit.model.record import AccessDecided
from remit.services.access_configuration import kept_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from remit.drivers.value_sealing import SealsValues
    from remit.logic.checkpoint import Verifier
    from remit.logic.rulebook import Rulebook
    from remit.logic.rulebook_text import KeptRules
    from remit.model.catalog import PinnedTool
    from remit.model.facts import Facts
    from remit.model.record import Record
    from remit.model.task import Task
    from remit.store.database import Entry, Store

_PAGE = 1_000
_RULES_MAX = 16
_TASKS_MAX = 10_000  # kept while the ledger is read; of others the records are read again
_ROOTS_MAX = 50_000
_ANSWER = b'"kind":"access.decided"'


class _Above(msgspec.Struct):
    ancestors: list[str] = []


class _Opened(msgspec.Struct):
    """What an opening record says of the tasks above."""

    body: _Above


_OPENED = msgspec.json.Decoder(_Opened).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A recorded decision and the task as it was before it. ``arguments``: ``None`` where they are not known.

    ``ancestors``: as the decision knew them; ``slipped``: one that had moved by then, which no decision may miss ("" : none had).
    """

    index: int
    task: Task
    record: Record
    body: CallDecided
    arguments: dict[str, Any] | None
    ancestors: tuple[Task, ...] = ()
    slipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A recorded answer about an application. ``properties``: ``None`` where they are not known."""

    index: int
    record: Record
    body: AccessDecided
    properties: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Something found about one decision (or, without one, about a task)."""

    index: int
    decision: str
    task: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of ``of`` parts of the tasks, for as many processes: together they are all of them. A task is in the part of its root, since a
    decision looks at all tasks above. The first part also holds the ledger against its signature.
    """

    number: int = 0
    of: int = 1

    def takes(self, root: str | None) -> bool:
        """Whether the records of a root and of all below it are of this part; what belongs to no task is of the first."""
        return (zlib.crc32(root.encode()) % self.of if root else 0) == self.number


WHOLE = Share()


class History:
    """The recorded decisions of one store. ``looked``: told how many entries were gone through, a page at a time."""

    def __init__(self, store: Store, verifier: Verifier, sealer: SealsValues) -> None:
        self._store, self._verifier, self._sealer = store, verifier, sealer
        self._rules: OrderedDict[tuple[str, int], tuple[Rulebook, KeptRules]] = OrderedDict()
        self._applications: OrderedDict[str, Application] = OrderedDict()
        self._roots: OrderedDict[str, str] = OrderedDict()
        self.looked: Callable[[int], None] | None = None
        self.broken: list[Named] = []  # tasks whose records do not fold, and values that do not open

    async def size(self) -> int:
        """How many entries the signed head covers. Raises Refusal (another ledger), Outage."""
        size, _ = await self._signed()
        return size

    async def moments(self, share: Share = WHOLE) -> AsyncIterator[Moment]:
        """Every decision about a call under the signed head, in order, of the tasks of a share. As ``decided``."""
        async for one in self.decided(share):
            if isinstance(one, Moment):
                yield one

    async def decided(self, share: Share = WHOLE) -> AsyncIterator[Moment | Answered]:
        """Every decision under the signed head, in order. Raises Refusal (another ledger), Broken (not what was signed), Outage."""
        size, root = await self._signed()
        frontier: tuple[bytes, ...] = ()
        tasks: OrderedDict[str, Task | None] = OrderedDict()
        for start in range(0, size, _PAGE):
            entries = await self._store.entries(start, min(_PAGE, size - start))
            found: list[Moment | Answered] = []
            if not share.number:
                frontier = extended(frontier, start, b"".join(leaf_hashes(entry.body for entry in entries)))
            for entry in entries:
                if not share.takes(await self._root(entry) if share.of > 1 else None):
                    continue
                moment = await self._step(tasks, entry) if entry.task is not None else self._answered(entry)
                if moment is not None:
                    found.append(moment)
            kept = await self._store.values([moment.body.decision for moment in found])
            for moment in found:
                sealed = kept.get(moment.body.decision)
                yield self._opened(moment, sealed) if isinstance(moment, Moment) else self._opened_answer(moment, sealed)
            if self.looked is not None:
                self.looked(start + len(entries))
        if not share.number and root_of(frontier) != root:
            raise Broken("the entries are not those that were signed", code="ledger", hint="`remit ledger export` and `verify` name them")

    async def find(self, decision: str) -> Moment:
        """One decision. Raises NotFound, Refusal (another ledger), Broken, Outage."""
        needle = f'"decision":"{decision}"'.encode()
        end, _ = await self._signed()
        while end > 0:
            start = max(end - _PAGE, 0)
            for entry in reversed(await self._store.entries(start, end - start)):
                if needle in entry.body and entry.task and isinstance(body := decode(entry.body).body, CallDecided):
                    return await self._found(entry, body)
            end = start
        raise NotFound(f"the ledger has no decision {decision[:80]}", hint="`remit ledger tail` and receipts name decisions")

    async def _signed(self) -> tuple[int, bytes]:
        """Size and root of the signed head."""
        note = (await self._store.head()).checkpoint
        try:
            signed = open_checkpoint(note, self._verifier)
        except Mistake as error:
            hint = "each folder has its own store and keys: point storage and trust.keys at the same one"
            raise Refusal(f"this is not the ledger of {self._verifier.name}: {error.message}", code="another_ledger", hint=hint) from None
        return signed.size, signed.root

    async def facts(self, moment: Moment, policies: Mapping[str, str] | None = None, also: Mapping[str, PinnedTool] | None = None) -> Facts:
        """The facts of a moment. Raises Refusal where the rules of its day were not kept."""
        rulebook, kept = await self.rulebook(moment.body, policies, also)
        return facts_at(moment.task, moment.record, moment.body, rulebook, kept.questions_max, moment.arguments, moment.ancestors)

    async def rulebook(
        self, body: CallDecided, policies: Mapping[str, str] | None = None, also: Mapping[str, PinnedTool] | None = None
    ) -> tuple[Rulebook, KeptRules]:
        """The rules of a decision's day, or the same catalog with other policies. Raises Refusal, Mistake (these do not fit), Broken."""
        key = (body.rulebook, id(policies) if policies is not None else 0)
        if key in self._rules:
            self._rules.move_to_end(key)
            return self._rules[key]
        if not body.rulebook:
            raise Refusal("its rules were not kept: it was decided by an older remit", code="rules_not_kept")
        kept = read_rules(body.rulebook, await self._document(body.rulebook))
        files = policies if policies is not None else read_policies(kept.policy_set, await self._document(kept.policy_set))
        self._rules[key] = (rulebook_of(kept, files, also), kept)
        if len(self._rules) > _RULES_MAX:
            self._rules.popitem(last=False)
        return self._rules[key]

    async def compare_answer(self, answered: Answered) -> Compared:
        """An answer about an application, decided again. Raises Refusal where its rules were not kept, Broken."""
        body = answered.body
        if before_policies(body):
            return compare_refusal(body)
        if body.policy_set not in self._applications:
            files = kept_application(body.application, body.policy_set, await self._document(body.policy_set))
            self._applications[body.policy_set] = Application(files)
            if len(self._applications) > _RULES_MAX:
                self._applications.popitem(last=False)
        application = self._applications[body.policy_set]
        return compare_answer(body, application, answered.properties, answered.record.at)

    async def _root(self, entry: Entry) -> str | None:
        """The root above the task of an entry."""
        task = entry.task
        if task is None or task in self._roots:
            return self._roots[task] if task else None
        first = entry if entry.seq == 1 else (await self._store.task_entries(task))[0]
        try:
            above = _OPENED(first.body).body.ancestors
        except (msgspec.MsgspecError, ValueError, RecursionError):
            above = []  # told where it is folded
        self._roots[task] = above[-1] if above else task
        if len(self._roots) > _ROOTS_MAX:
            self._roots.popitem(last=False)
        return self._roots[task]

    async def _step(self, tasks: OrderedDict[str, Task | None], entry: Entry) -> Moment | None:
        """Fold one entry; gives the moment where it is a decision, without its arguments."""
        if entry.task is None or (entry.task in tasks and tasks[entry.task] is None):
            return None
        try:
            record = decode(entry.body)
            before = tasks[entry.task] if entry.task in tasks else await self._before(entry)
            after = fold(before, record, entry.leaf)
            body = record.body
            found = await self._at(entry.index, before, record, body, tasks) if before and isinstance(body, CallDecided) else None
        except Broken as error:
            self.broken.append(Named(index=entry.index, decision="", task=entry.task, what=error.message))
            tasks[entry.task] = None
            return None
        tasks[entry.task] = after
        tasks.move_to_end(entry.task)
        if len(tasks) > _TASKS_MAX:
            tasks.popitem(last=False)
        return found

    def _answered(self, entry: Entry) -> Answered | None:
        if _ANSWER not in entry.body:
            return None
        record = decode(entry.body)
        body = record.body
        return Answered(index=entry.index, record=record, body=body, properties=None) if isinstance(body, AccessDecided) else None

    def _opened(self, moment: Moment, sealed: bytes | None) -> Moment:
        """The moment with the arguments, as far as they are known."""
        body = moment.body
        try:
            return replace(moment, arguments=kept_arguments(body, self._unsealed(body.decision, sealed)))
        except Broken as error:
            self.broken.append(Named(index=moment.index, decision=body.decision, task=moment.task.id, what=error.message))
            return moment

    def _opened_answer(self, answered: Answered, sealed: bytes | None) -> Answered:
        """The answer with the properties of its question, as far as they are known."""
        body = answered.body
        try:
            return replace(answered, properties=kept_properties(body, self._unsealed(body.decision, sealed)))
        except Broken as error:
            self.broken.append(Named(index=answered.index, decision=body.decision, task="", what=error.message))
            return answered

    def _unsealed(self, decision: str, sealed: bytes | None) -> bytes | None:
        return self._sealer.open(decision, sealed) if sealed is not None else None

    async def _at(self, index: int, task: Task, record: Record, body: CallDecided, tasks: Mapping[str, Task | None]) -> Moment:
        """The moment of a decision with the tasks above as it names them. ``tasks``: as they were by then. Raises Broken."""
        above, slipped = [], ""
        for line in body.ancestors:
            by_then = tasks.get(line.task)
            known = by_then if by_then is not None and by_then.seq == line.seq else await self._until(line.task, line.seq)
            if known is None or known.seq != line.seq:
                raise Broken(f"decision {body.decision} names task {line.task} after {line.seq} records, which it never had")
            if by_then is not None and by_then.authority != known.authority:
                slipped = f"task {line.task} had moved by then, and the decision did not know"
            above.append(known)
        return Moment(index=index, task=task, record=record, body=body, arguments=None, ancestors=tuple(above), slipped=slipped)

    async def _found(self, entry: Entry, body: CallDecided) -> Moment:
        task = await self._before(entry)
        if task is None:
            raise Broken(f"decision {body.decision} belongs to no task")
        sealed = (await self._store.values([body.decision])).get(body.decision)
        return self._opened(await self._at(entry.index, task, decode(entry.body), body, {}), sealed)

    async def _before(self, entry: Entry) -> Task | None:
        """The task as it was before one of its entries."""
        return await self._until(entry.task or "", entry.seq - 1) if entry.seq > 1 else None

    async def _until(self, task_id: str, seq: int) -> Task | None:
        """A task after so many of its records."""
        task: Task | None = None
        for earlier in await self._store.task_entries(task_id):
            if earlier.seq > seq:
                break
            task = fold(task, decode(earlier.body), earlier.leaf)
        return task

    async def _document(self, digest: str) -> str:
        text = await self._store.document(digest)
        if text is None:
            raise Refusal(f"the store does not hold {digest[:24]}…, by which it was decided", code="rules_not_kept")
        return text

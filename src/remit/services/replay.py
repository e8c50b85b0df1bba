"""Goes through the ledger and decides again what it holds: verified against its signature first, folded task by task.

Rules: only entries under the signed head count, and a ledger that another key signed is refused. What does not fold is named and
left, the other tasks go on. Memory holds some thousand tasks, one page of entries and a few rulebooks.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Mistake, NotFound, Refusal, RemitError
from remit.logic.checkpoint import open_checkpoint
from remit.logic.life import fold
from remit.logic.merkle import completed, leaf_hash, root_of
from remit.logic.records import decode
from remit.logic.replay import Compared, Verdict, compare, decide_again, facts_at, kept_arguments, outcome_of, shown
from remit.logic.rulebook_text import read_policies, read_rules, rulebook_of
from remit.model.record import CallDecided

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

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
_NAMED_MAX = 100
_EXAMPLES_MAX = 3


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
class Named:
    """Something found about one decision (or, without one, about a task)."""

    index: int
    decision: str
    task: str
    what: str


@dataclass(slots=True, kw_only=True)
class Verified:
    """What came of deciding the whole ledger again."""

    entries: int = 0
    decisions: int = 0
    agrees: int = 0
    partly: int = 0
    differs: int = 0
    unknown: int = 0
    found: tuple[Named, ...] = ()  # what differs, the first hundred
    missing: dict[str, int]  # what could not be decided again → how often

    @property
    def good(self) -> bool:
        """Whether nothing differs and nothing is unknown."""
        return not self.differs and not self.unknown


@dataclass(slots=True, kw_only=True)
class Flip:
    """Decisions of one kind that would fall otherwise."""

    task_type: str
    agent: str
    tool: str
    was: str
    would_be: str
    count: int = 0
    examples: tuple[dict[str, str], ...] = ()


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What a candidate would have changed. ``same`` counts equal outcomes, ``unknown`` what could not be told, by reason."""

    decisions: int
    same: int
    flips: tuple[Flip, ...]
    unknown: dict[str, int]


class History:
    """The recorded decisions of one store."""

    def __init__(self, store: Store, verifier: Verifier, sealer: SealsValues) -> None:
        self._store, self._verifier, self._sealer = store, verifier, sealer
        self._rules: OrderedDict[tuple[str, int], tuple[Rulebook, KeptRules]] = OrderedDict()
        self.broken: list[Named] = []  # tasks whose records do not fold, and values that do not open

    async def moments(self) -> AsyncIterator[Moment]:
        """Every decision under the signed head, in order. Raises Refusal (another ledger), Broken (not what was signed), Outage."""
        size, root = await self._signed()
        frontier: tuple[bytes, ...] = ()
        tasks: OrderedDict[str, Task | None] = OrderedDict()
        for start in range(0, size, _PAGE):
            entries = await self._store.entries(start, min(_PAGE, size - start))
            found = []
            for entry in entries:
                frontier, _ = completed(frontier, entry.index, leaf_hash(entry.body))
                moment = await self._step(tasks, entry)
                if moment is not None:
                    found.append(moment)
            kept = await self._store.values([moment.body.decision for moment in found])
            for moment in found:
                yield self._opened(moment, kept.get(moment.body.decision))
        if root_of(frontier) != root:
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

    def _opened(self, moment: Moment, sealed: bytes | None) -> Moment:
        """The moment with the arguments, as far as they are known."""
        body = moment.body
        try:
            kept = self._sealer.open(body.decision, sealed) if sealed is not None else None
            return replace(moment, arguments=kept_arguments(body, kept))
        except Broken as error:
            self.broken.append(Named(index=moment.index, decision=body.decision, task=moment.task.id, what=error.message))
            return moment

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


async def verify(history: History) -> Verified:
    """Decide the whole ledger again under the rules of its days."""
    report = Verified(missing={})
    found: list[Named] = []
    async for moment in history.moments():
        report.decisions += 1
        report.entries = moment.index + 1
        try:
            facts = await history.facts(moment)
            rulebook, _ = await history.rulebook(moment.body)
            compared = compare(facts, rulebook.policies, moment.body, whole=moment.arguments is not None)
            if moment.slipped:
                compared = Compared(verdict=Verdict.DIFFERS, why=moment.slipped)
        except Refusal as error:
            compared = Compared(verdict=Verdict.UNKNOWN, why=error.message)
        except RemitError as error:
            compared = Compared(verdict=Verdict.DIFFERS, why=error.message)
        verdict = compared.verdict.value
        setattr(report, verdict, getattr(report, verdict) + 1)
        if compared.verdict is Verdict.DIFFERS:
            found.append(Named(index=moment.index, decision=moment.body.decision, task=moment.task.id, what=compared.why))
        elif compared.why:
            report.missing[compared.why] = report.missing.get(compared.why, 0) + 1
    report.differs += len(history.broken)
    report.found = tuple([*history.broken, *found][:_NAMED_MAX])
    return report


async def replay(
    history: History,
    candidate: Mapping[str, str],
    also: Mapping[str, PinnedTool],
    *,
    since: datetime | None = None,
    task_type: str = "",
) -> Replayed:
    """Decide recorded calls again under candidate policies, each on its recorded history and the catalog of its day.

    ``also``: tools pinned now, which the candidate may name though that day did not have them. Raises Mistake where the candidate
    does not hold together.
    """
    flips: dict[tuple[str, ...], Flip] = {}
    unknown: dict[str, int] = {}
    decisions = same = 0
    async for moment in history.moments():
        if (since is not None and moment.record.at < since) or (task_type and moment.task.type != task_type):
            continue
        decisions += 1
        why, decision = "", None
        try:
            facts = await history.facts(moment, candidate, also)
            rulebook, _ = await history.rulebook(moment.body, candidate, also)
            decision, why = decide_again(facts, rulebook.policies, moment.body, whole=moment.arguments is not None)
        except Mistake as error:
            why = f"the candidate does not fit the tools of that day: {error.message.splitlines()[0][:200]}"
        except RemitError as error:
            why = error.message
        if decision is None and why:
            unknown[why] = unknown.get(why, 0) + 1
        elif decision is None or outcome_of(decision) == moment.body.outcome:
            same += 1
        else:
            key = (
                moment.task.type,
                moment.body.agent,
                f"{moment.body.server}/{moment.body.name}",
                moment.body.outcome,
                outcome_of(decision),
            )
            flip = flips.setdefault(key, Flip(task_type=key[0], agent=key[1], tool=key[2], was=key[3], would_be=key[4]))
            flip.count += 1
            if len(flip.examples) < _EXAMPLES_MAX:
                reasons = "; ".join(reason.text for reason in decision.reasons)
                flip.examples = (*flip.examples, _example(moment, reasons))
    ordered = tuple(sorted(flips.values(), key=lambda flip: -flip.count))
    return Replayed(decisions=decisions, same=same, flips=ordered, unknown=unknown)


def _example(moment: Moment, reasons: str) -> dict[str, str]:
    return {
        "decision": moment.body.decision,
        "task": moment.task.id,
        "at": moment.record.at.isoformat(timespec="seconds"),
        "arguments": shown(moment.arguments),
        "now": reasons,
    }

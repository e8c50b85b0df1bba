"""Decides again what the ledger holds: under the rules of its days, or under a candidate's (``history.py`` goes through it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.errors import Mistake, Refusal, RemitError
from remit.logic.replay import Compared, Verdict, compare, decide_again, outcome_of, shown
from remit.services.history import WHOLE, Answered, Moment, Named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from remit.model.catalog import PinnedTool
    from remit.services.history import History, Share

_NAMED_MAX = 100
_EXAMPLES_MAX = 3


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


async def verify(history: History, share: Share = WHOLE) -> Verified:
    """Decide the whole ledger again under the rules of its days. ``share``: only of those tasks (see ``merged_verified``)."""
    report = Verified(missing={})
    found: list[Named] = []
    async for moment in history.decided(share):
        report.decisions += 1
        report.entries = moment.index + 1
        try:
            compared = await (history.compare_answer(moment) if isinstance(moment, Answered) else _compared(history, moment))
        except Refusal as error:
            compared = Compared(verdict=Verdict.UNKNOWN, why=error.message)
        except RemitError as error:
            compared = Compared(verdict=Verdict.DIFFERS, why=error.message)
        verdict = compared.verdict.value
        setattr(report, verdict, getattr(report, verdict) + 1)
        if compared.verdict is Verdict.DIFFERS:
            task = moment.task.id if isinstance(moment, Moment) else ""
            found.append(Named(index=moment.index, decision=moment.body.decision, task=task, what=compared.why))
        elif compared.why:
            report.missing[compared.why] = report.missing.get(compared.why, 0) + 1
    report.differs += len(history.broken)
    report.found = _named([*history.broken, *found])
    return report


def merged_verified(parts: Sequence[Verified]) -> Verified:
    """What came of deciding the whole ledger again, from the parts that several processes decided."""
    whole = Verified(missing={}, found=_named([one for part in parts for one in part.found]))
    for part in parts:
        whole.entries = max(whole.entries, part.entries)
        for name in ("decisions", "agrees", "partly", "differs", "unknown"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        for why, count in part.missing.items():
            whole.missing[why] = whole.missing.get(why, 0) + count
    return whole


def _named(found: Iterable[Named]) -> tuple[Named, ...]:
    return tuple(sorted(found, key=lambda one: one.index)[:_NAMED_MAX])


async def _compared(history: History, moment: Moment) -> Compared:
    facts = await history.facts(moment)
    rulebook, _ = await history.rulebook(moment.body)
    compared = compare(facts, rulebook.policies, moment.body, whole=moment.arguments is not None)
    return Compared(verdict=Verdict.DIFFERS, why=moment.slipped) if moment.slipped else compared


async def replay(
    history: History,
    candidate: Mapping[str, str],
    also: Mapping[str, PinnedTool],
    *,
    since: datetime | None = None,
    task_type: str = "",
    share: Share = WHOLE,
) -> Replayed:
    """Decide recorded calls again under candidate policies, each on its recorded history and the catalog of its day.

    ``share``: only of those tasks (``merged`` puts the parts together).
    ``also``: tools pinned now, which the candidate may name though that day did not have them. Raises Mistake where the candidate
    does not hold together.
    """
    flips: dict[tuple[str, ...], Flip] = {}
    unknown: dict[str, int] = {}
    decisions = same = 0
    async for moment in history.moments(share):
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
    return Replayed(decisions=decisions, same=same, flips=_ordered(flips.values()), unknown=unknown)


def merged(parts: Sequence[Replayed]) -> Replayed:
    """What a candidate would have changed, from the parts that several processes replayed."""
    flips: dict[tuple[str, ...], Flip] = {}
    unknown: dict[str, int] = {}
    for part in parts:
        for why, count in part.unknown.items():
            unknown[why] = unknown.get(why, 0) + count
        for flip in part.flips:
            key = (flip.task_type, flip.agent, flip.tool, flip.was, flip.would_be)
            known = flips.setdefault(key, Flip(task_type=key[0], agent=key[1], tool=key[2], was=key[3], would_be=key[4]))
            known.count += flip.count
            examples = sorted((*known.examples, *flip.examples), key=lambda one: int(one["entry"]))
            known.examples = tuple(examples[:_EXAMPLES_MAX])
    decisions, same = sum(part.decisions for part in parts), sum(part.same for part in parts)
    return Replayed(decisions=decisions, same=same, flips=_ordered(flips.values()), unknown=unknown)


def _ordered(flips: Iterable[Flip]) -> tuple[Flip, ...]:
    return tuple(sorted(flips, key=lambda flip: (-flip.count, flip.task_type, flip.agent, flip.tool, flip.was, flip.would_be)))


def _example(moment: Moment, reasons: str) -> dict[str, str]:
    return {
        "entry": str(moment.index),
        "decision": moment.body.decision,
        "task": moment.task.id,
        "at": moment.record.at.isoformat(timespec="seconds"),
        "arguments": shown(moment.arguments),
        "now": reasons,
    }

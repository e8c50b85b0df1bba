"""The judge: what was seen from outside against what the ledger holds, by the numbers of ``design.md`` §5.

It counts by itself and does not ask the code that it judges, but for two laws that are about that code: the fold of the ledger
succeeds, and a decision that is computed anew comes out the same. Every breach is named; none hides another.
"""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from remit.errors import Broken
from remit.logic.audit import Verified, verify_export
from remit.logic.authorize import authorize
from remit.logic.life import fold
from remit.logic.records import decode
from remit.logic.tracing import recorded_origins, recorded_references
from remit.model.call_record import ApprovalAnswered, CallDecided, CallFinished
from remit.model.decision import Allow
from remit.model.identity import SpiffeId
from remit.model.record import Record, TaskMoved
from remit.model.task import Task
from remit.model.token_record import TokenIssued
from tests.simulation.world import APPROVALS_MAX, rulebooks
from tests.support import CLASSES, STATED, facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remit.services.ledger import Ledger
    from remit.store.database import Entry
    from tests.simulation.history import History, Opened

_ENDS = frozenset({"completed", "revoked", "expired"})


async def judge(history: History, ledger: Ledger, entries: Sequence[Entry]) -> list[str]:
    """All breaches of one run. Empty is good."""
    records = [decode(entry.body) for entry in entries]
    wrong = [*_record_first(history, records), *_what_callers_were_told(history, records)]
    for opened in history.opened.values():
        own = [(entry, record) for entry, record in zip(entries, records, strict=True) if entry.task == opened.task]
        wrong += [*_end_and_bounds(opened, own), *_approvals(opened, own), *_labels(opened, own), *_closed(opened, own)]
        wrong += _replayed(history, own)
    file = io.StringIO()
    await ledger.export(file)
    verdict = verify_export(file.getvalue().splitlines(), ledger.verifier)
    if not isinstance(verdict, Verified) or verdict.entries != len(entries):
        wrong.append(f"export: {verdict}")
    return wrong


def folded(entries: Sequence[Entry]) -> tuple[Task | None, str]:
    """The task of these entries, and what broke."""
    task: Task | None = None
    try:
        for entry in entries:
            task = fold(task, decode(entry.body), entry.leaf)
    except Broken as error:
        return task, str(error)
    return task, ""


def _record_first(history: History, records: Sequence[Record]) -> Iterator[str]:
    """1: an effect has its allow record on disk before it, of exactly what came about, once."""
    decided = {record.body.decision: (index, record) for index, record in enumerate(records) if isinstance(record.body, CallDecided)}
    seen: Counter[str] = Counter()
    for effect in history.effects:
        seen[effect.decision] += 1
        index, record = decided.get(effect.decision, (-1, None))
        if record is None or not isinstance(record.body, CallDecided):
            yield f"1: effect of {effect.decision} has no record"
            continue
        body = record.body
        if index >= effect.size:
            yield f"1: effect of {effect.decision} came with {effect.size} entries on disk; its record is number {index}"
        if body.outcome != "allow":
            yield f"4: effect of {effect.decision}, which was {body.outcome}"
        if (record.task, f"{body.server}/{body.name}", body.arguments_digest) != (effect.task, effect.tool, effect.digest):
            yield f"1: effect of {effect.decision} is not the call that was recorded"
    yield from (f"1: {count} effects of {decision}" for decision, count in seen.items() if count > 1)


def _what_callers_were_told(history: History, records: Sequence[Record]) -> Iterator[str]:
    """1, 2, 4: whatever a caller was told was on disk by then, and a decision is none that was made before it was asked for."""
    decided = {record.body.decision: (index, record.body) for index, record in enumerate(records) if isinstance(record.body, CallDecided)}
    for told in history.told:
        index, body = decided.get(told.decision, (-1, None))
        if body is None or not told.began <= index < told.size:
            yield f"1: {told.decision} ({told.outcome}) was told without its record: {index} is not in {told.began}…{told.size}"
        elif (body.outcome, body.arguments_digest) != (told.outcome, told.call.digest):
            yield f"4: {told.decision} was told as {told.outcome} and is recorded as {body.outcome}"
    for claim in history.claims:
        if not any(_bears_out(record, claim.kind, claim.task, claim.what) for record in records[: claim.size]):
            yield f"2: {claim.kind} {claim.task} {' '.join(claim.what)} was told as done, and is not on disk"
    ended = {record.task: index for index, record in reversed(list(enumerate(records))) if _is_end(record)}
    for verified in history.verified:
        if verified.late or verified.began > ended.get(verified.task, len(records)):
            yield f"2: a token of {verified.task} was accepted after its end"


def _bears_out(record: Record, kind: str, task: str, what: tuple[str, ...]) -> bool:
    body = record.body
    if record.task != task:
        return False
    if kind == "moved":
        return isinstance(body, TaskMoved) and body.to in what
    if kind == "answered":
        return isinstance(body, ApprovalAnswered) and (body.approval, body.by) == what
    return isinstance(body, TokenIssued) and (body.jti,) == what


def _is_end(record: Record) -> bool:
    return isinstance(record.body, TaskMoved) and record.body.to in _ENDS


def _end_and_bounds(opened: Opened, own: Sequence[tuple[Entry, Record]]) -> Iterator[str]:
    """2, 5: nothing is allowed but in an active task before its deadline; calls and uses hold whoever counts."""
    state, calls, pays, numbers = "pending", 0, 0, []
    for entry, record in own:
        body = record.body
        numbers.append(record.seq)
        if isinstance(body, TaskMoved):
            if state in _ENDS:
                yield f"2: {opened.task} is moved to {body.to} after its end ({entry.index})"
            state = body.to
        elif isinstance(body, CallDecided) and body.outcome == "allow":
            calls += 1
            pays += (body.server, body.name) == ("bank", "pay")
            if state != "active" or record.at >= opened.deadline:
                yield f"2: {body.decision} is allowed in {opened.task}, which is {state} at {record.at:%H:%M:%S}"
            if body.agent != opened.agent:
                yield f"4: {body.decision} is allowed to another agent"
        elif isinstance(body, TokenIssued) and (state in _ENDS or body.expires_at > opened.deadline):
            yield f"2: a token is issued for {opened.task}, which is {state}"
    if calls > opened.budget or pays > opened.uses:
        yield f"5: {opened.task} made {calls} of {opened.budget} calls, {pays} of {opened.uses} payments"
    if numbers != list(range(1, len(own) + 1)):
        yield f"fold: the records of {opened.task} are numbered {numbers}"
    broken = folded([entry for entry, _ in own])[1]
    if broken:
        yield f"fold: {broken}"


def _approvals(opened: Opened, own: Sequence[tuple[Entry, Record]]) -> Iterator[str]:
    """6: one approval, one call, of exactly that digest, granted by somebody else, in time; and what needs one has one."""
    asked: dict[str, CallDecided] = {}
    granted: dict[str, str] = {}
    used: Counter[str] = Counter()
    untrusted = False
    for _, record in own:
        body = record.body
        if isinstance(body, ApprovalAnswered):
            if body.approval in granted or body.by == opened.agent:
                yield f"6: {body.approval} is answered again, or by who asked: {body.by}"
            granted[body.approval] = body.state
        if not isinstance(body, CallDecided):
            continue
        if body.outcome == "ask":
            asked.setdefault(body.approval, body)
        elif body.outcome == "allow":
            untrusted |= body.untrusted
            if not body.approval:
                continue
            used[body.approval] += 1
            question = asked.get(body.approval)
            if question is None or granted.get(body.approval) != "granted":
                yield f"6: {body.decision} is opened by {body.approval}, which nobody granted"
                continue
            if (question.name, question.arguments_digest) != (body.name, body.arguments_digest):
                yield f"6: {body.decision} is opened by {body.approval}, which is for another call"
            if question.approval_expires_at is None or record.at >= question.approval_expires_at:
                yield f"6: {body.decision} is opened by {body.approval} after its time"
    yield from (f"6: {approval} opened {count} calls" for approval, count in used.items() if count > 1)


def _labels(opened: Opened, own: Sequence[tuple[Entry, Record]]) -> Iterator[str]:
    """5: an allowed call's record carries what the tool gives, and what was read is never forgotten. 4: unknown means no."""
    untrusted = False
    for _, record in own:
        body = record.body
        if not isinstance(body, CallDecided) or body.outcome != "allow":
            continue
        tool = STATED.get(f"{body.server}/{body.name}")
        if tool is None:
            yield f"4: {body.decision} allows a tool that nobody declared"
            continue
        if body.rank < CLASSES.rank(tool.data_class or "") or (tool.trust == "untrusted" and not body.untrusted):
            yield f"5: {body.decision} does not carry the labels of {body.name}"
        if body.name == "pay" and untrusted and not body.approval:
            yield f"5: {body.decision} pays unasked after {opened.task} has read what strangers wrote"
        untrusted |= tool.trust == "untrusted"


def _closed(opened: Opened, own: Sequence[tuple[Entry, Record]]) -> Iterator[str]:
    """Nothing stays open: in the morning every task has ended, and each of its calls has one end."""
    allowed = {body.decision for _, record in own if isinstance(body := record.body, CallDecided) and body.outcome == "allow"}
    endings = Counter(body.decision for _, record in own if isinstance(body := record.body, CallFinished))
    for _, record in own:
        endings.update(getattr(record.body, "undetermined", ()))
    if not any(_is_end(record) for _, record in own):
        yield f"2: {opened.task} never ends"
    yield from (f"open: call {decision} of {opened.task} has no end" for decision in sorted(allowed - endings.keys()))
    yield from (f"open: call {decision} has {count} ends" for decision, count in endings.items() if count > 1 or decision not in allowed)


def _replayed(history: History, own: Sequence[tuple[Entry, Record]]) -> Iterator[str]:
    """8: from the ledger and the policies of its day, each decision comes out as it was recorded."""
    by_digest = {rules.policies.digest: rules for rules in rulebooks()}
    task: Task | None = None
    for entry, record in own:
        body = record.body
        if isinstance(body, CallDecided) and task is not None:
            rules = by_digest[body.policy_set]
            wanted = history.calls[f"{body.server}/{body.name}", body.arguments_digest]
            agent = SpiffeId.parse(body.agent)
            origins, references = recorded_origins(body), recorded_references(body)
            known = facts(
                task, wanted, rules, now=record.at, agent=agent, approvals_max=APPROVALS_MAX, origins=origins, references=references
            )
            again = authorize(known, rules.policies)
            codes = [reason.code.value for reason in again.reasons]
            if (type(again).__name__.lower(), codes) != (body.outcome, [line.code for line in body.reasons]):
                yield f"8: {body.decision} was {body.outcome} and is {codes} when decided again"
            elif list(again.policies) != body.policies:
                yield f"8: {body.decision} was decided by {body.policies}, and now by {again.policies}"
            elif isinstance(again, Allow) and (again.spent.grant, again.approval or "") != (body.grant, body.approval):
                yield f"8: {body.decision} is opened by another line or approval when decided again"
        try:
            task = fold(task, record, entry.leaf)
        except Broken:
            return
